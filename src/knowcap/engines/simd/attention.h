/* Causal self-attention, forward and backward. */

#pragma once
#include "rotary.h"
#include "weights.h"

/* Queries that are multiplied with the keys at a time. */
enum { QUERY_BLOCK = LANES == 1 ? 64 : 16 };

/* Matrices of one head in one window. */
typedef struct {
    Matrix query, key, value, probs, out;
} Head;

/* Size of a head's probabilities in one window: rows that products read. */
static int64_t probs_size(const StepShape *s) {
    return matmul_input_size(s->seq_length, s->seq_length);
}

static Head select_head(const StepShape *s, int64_t window, int64_t head, vec *qkv, vec *probs,
                        vec *out) {
    const int64_t heads_per_group = s->num_heads / s->num_kv_heads, channels = s->head_dim;
    const int64_t row_size = (s->num_heads + 2 * s->num_kv_heads) * channels;
    const int64_t first = window * s->seq_length, group = head / heads_per_group;
    vec *group_qkv = qkv + first * row_size + group * (heads_per_group + 2) * channels;
    return (Head){
        .query = matrix(group_qkv + head % heads_per_group * channels, row_size),
        .key = matrix(group_qkv + heads_per_group * channels, row_size),
        .value = matrix(group_qkv + (heads_per_group + 1) * channels, row_size),
        .probs =
            matmul_input(probs + (window * s->num_heads + head) * probs_size(s), s->seq_length),
        .out = matrix(out + first * s->hidden_size + head * channels, s->hidden_size),
    };
}

/* exp(x - max), from the maximum times log2(e). */
static inline reg exp_minus(reg x, reg max_log2) {
    return reg_exp2(x * LOG2_E - max_log2);
}

/* Maximum of a row. Four maxima at once, as each takes a few cycles. */
static inline vec row_max(const vec *row, int64_t number) {
    enum { NUM_MAXIMA = 4, STEP = NUM_MAXIMA * VECTORS_PER_REGISTER };
    reg largest[NUM_MAXIMA];
    for (int n = 0; n < NUM_MAXIMA; n++) largest[n] = reg_set1(-INFINITY);
    int64_t j = 0;
    for (; j + STEP <= number; j += STEP)
#pragma GCC unroll 4
        for (int n = 0; n < NUM_MAXIMA; n++)
            largest[n] = reg_max(largest[n], load_reg(row + j + n * VECTORS_PER_REGISTER,
                                                      VECTORS_PER_REGISTER, 0.0f));
    for (; j < number; j += VECTORS_PER_REGISTER)
        largest[0] = reg_max(largest[0], load_reg(row + j, number - j, -INFINITY));
    return reduce_max(reg_max(reg_max(largest[0], largest[1]), reg_max(largest[2], largest[3])));
}

/* Replace the next of `number` remaining entries of a row by exp(x - max). */
static inline reg exp_minus_max_at(vec *row, int64_t position, int64_t number, reg max_log2,
                                   int is_matmul_input) {
    const reg x = exp_minus(load_reg(row + position, number, -INFINITY), max_log2);
    if (is_matmul_input)
        store_matmul_input(row, position, number, x);
    else
        store_reg(row + position, number, x);
    return x;
}

/* Replace a row by exp(x - max) and return the sum, and the maximum times log2(e). With
 * is_matmul_input, the exponentials are in the format of matmul_input. Not inlined, so that sums
 * stay in registers; whole registers have a loop of their own, without masks. */
static __attribute__((noinline)) vec exp_minus_max(vec *row, int64_t number, vec *max_log2,
                                                   int is_matmul_input) {
    *max_log2 = row_max(row, number) * LOG2_E;
    const reg largest = broadcast(*max_log2);
    reg sum = {};
    int64_t j = 0;
    for (; j + VECTORS_PER_REGISTER <= number; j += VECTORS_PER_REGISTER)
        sum += exp_minus_max_at(row, j, VECTORS_PER_REGISTER, largest, is_matmul_input);
    if (j < number) sum += exp_minus_max_at(row, j, number - j, largest, is_matmul_input);
    return reduce_add(sum);
}

/* Probabilities of a row of scores, in the format of matmul_input; zero for keys that are not
 * visible. The scores are overwritten. */
static void softmax(vec *scores, int64_t num_visible, int64_t num_all, vec *probs) {
    vec max_log2;
    const reg share = broadcast(1.0f / exp_minus_max(scores, num_visible, &max_log2, 0));
    FOR_EACH_REGISTER (j, left, num_visible)
        store_matmul_input(probs, j, num_all - j, load_reg(scores + j, left, 0.0f) * share);
    for (int64_t j = whole_registers(num_visible + VECTORS_PER_REGISTER - 1); j < num_all;
         j += VECTORS_PER_REGISTER)
        store_matmul_input(probs, j, num_all - j, (reg){});
}

/* Scores of a block of queries with all keys, or their gradients: scratch memory. */
static int64_t scores_size(const StepShape *s) {
    return QUERY_BLOCK * overwritten_size(s->seq_length);
}

/* Each block of queries is multiplied with the keys up to its last query; probabilities above the
 * diagonal are zero. `pack_buffer` holds the packed keys and values of a head. */
static void attention_forward(const StepShape *s, vec *qkv, vec *probs, vec *scores,
                              vec *pack_buffer, vec *out) {
    const int64_t S = s->seq_length, C = s->head_dim;
    const Matrix block = matrix(scores, overwritten_size(S));
    for (int64_t window = 0; window < s->num_windows; window++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = select_head(s, window, h, qkv, probs, out);
            const Matrix key = pack_matrix(C, S, transposed(head.key), pack_buffer);
            const Matrix value = pack_matrix(S, C, head.value, pack_buffer + packed_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                matmul(last - first, C, last, rows_from(head.query, first), key, block, 0);
                for (int64_t i = first; i < last; i++)
                    softmax(rows_from(block, i - first).data, i + 1, last,
                            rows_from(head.probs, i).data);
                matmul(last - first, last, C, rows_from(head.probs, first), value,
                       rows_from(head.out, first), 0);
            }
        }
}

/* Gradients of a row of scores, in place of those of its probabilities. */
static void softmax_backward(int64_t number, const vec *probs, vec *dprobs) {
    reg dot = {};
    FOR_EACH_REGISTER (j, left, number) {
        dot += load_matmul_input(probs, j, left) * load_reg(dprobs + j, left, 0.0f);
    }
    dot = broadcast(reduce_add(dot));
    FOR_EACH_REGISTER (j, left, number) {
        const reg dprob = load_reg(dprobs + j, left, 0.0f) - dot;
        store_matmul_input(dprobs, j, left, load_matmul_input(probs, j, left) * dprob);
    }
}

/* Overwrites dqkv; `scores` is scratch memory. */
static void attention_backward(const StepShape *s, vec *qkv, vec *probs, vec *dout, vec *dqkv,
                               vec *scores, vec *pack_buffer) {
    const int64_t S = s->seq_length, C = s->head_dim, row_size = overwritten_size(S);
    const Matrix dprobs = matrix(scores, row_size),
                 dscores = matmul_input_in_place(scores, row_size);
    for (int64_t window = 0; window < s->num_windows; window++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = select_head(s, window, h, qkv, probs, dout);
            Head grad = select_head(s, window, h, dqkv, probs, dout);
            const Matrix value = pack_matrix(C, S, transposed(head.value), pack_buffer);
            const Matrix key = pack_matrix(S, C, head.key, pack_buffer + packed_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                const Matrix block = rows_from(head.probs, first);
                const Matrix dcontext = rows_from(head.out, first);
                matmul(last - first, C, last, dcontext, value, dprobs, 0);
                matmul(last, last - first, C, transposed(block), dcontext, grad.value, 1);
                for (int64_t i = 0; i < last - first; i++)
                    softmax_backward(last, rows_from(block, i).data, rows_from(dprobs, i).data);
                matmul(last - first, last, C, dscores, key, rows_from(grad.query, first), 1);
                matmul(last, last - first, C, transposed(dscores), rows_from(head.query, first),
                       grad.key, 1);
            }
        }
}
