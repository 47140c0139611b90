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

static Head select_head(const StepShape *s, int64_t window, int64_t head, vec *qkv, vec *probs,
                        vec *out) {
    const int64_t heads_per_group = s->num_heads / s->num_kv_heads, channels = s->head_dim;
    const int64_t row_size = (s->num_heads + 2 * s->num_kv_heads) * channels;
    const int64_t first = window * s->seq_length, group = head / heads_per_group;
    vec *group_qkv = qkv + first * row_size + group * (heads_per_group + 2) * channels;
    vec *head_probs = probs + (window * s->num_heads + head) * s->seq_length * s->seq_length;
    return (Head){
        .query = matrix(group_qkv + head % heads_per_group * channels, row_size),
        .key = matrix(group_qkv + heads_per_group * channels, row_size),
        .value = matrix(group_qkv + (heads_per_group + 1) * channels, row_size),
        .probs = matrix(head_probs, s->seq_length),
        .out = matrix(out + first * s->hidden_size + head * channels, s->hidden_size),
    };
}

/* Replace a row by exp(x - max) and return the sum; not inlined, so that sums stay in registers. */
static __attribute__((noinline)) vec exp_minus_max(vec *row, int64_t number) {
    reg largest = reg_set1(-INFINITY), sum = {};
    for (int64_t j = 0; j < number; j += VECTORS_PER_REGISTER)
        largest = reg_max(largest, load_reg(row + j, number - j, -INFINITY));
    largest = broadcast(reduce_max(largest)) * LOG2_E;
    for (int64_t j = 0; j < number; j += VECTORS_PER_REGISTER) {
        reg x = reg_exp2(load_reg(row + j, number - j, -INFINITY) * LOG2_E - largest);
        store_reg(row + j, number - j, x);
        sum += x;
    }
    return reduce_add(sum);
}

static void softmax(vec *row, int64_t num_visible, int64_t num_all) {
    const vec share = 1.0f / exp_minus_max(row, num_visible);
    scale_row(row, num_visible, row, share);
    for (int64_t j = num_visible; j < num_all; j++) row[j] = (vec){};
}

/* Each block of queries is multiplied with the keys up to its last query; probabilities above the
 * diagonal are zero. `pack_buffer` holds the packed keys and values of a head. */
static void attention_forward(const StepShape *s, vec *qkv, vec *probs, vec *pack_buffer,
                              vec *out) {
    const int64_t S = s->seq_length, C = s->head_dim;
    for (int64_t window = 0; window < s->num_windows; window++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = select_head(s, window, h, qkv, probs, out);
            const Matrix key = pack_matrix(C, S, transposed(head.key), pack_buffer);
            const Matrix value = pack_matrix(S, C, head.value, pack_buffer + packed_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                Matrix block = rows_from(head.probs, first);
                matmul(last - first, C, last, rows_from(head.query, first), key, block, 0);
                for (int64_t i = first; i < last; i++)
                    softmax(rows_from(head.probs, i).data, i + 1, last);
                matmul(last - first, last, C, block, value, rows_from(head.out, first), 0);
            }
        }
}

/* Adds to dqkv; dprobs[QUERY_BLOCK, S] is scratch memory. */
static void attention_backward(const StepShape *s, vec *qkv, vec *probs, vec *dout, vec *dqkv,
                               vec *dprobs, vec *pack_buffer) {
    const int64_t S = s->seq_length, C = s->head_dim;
    for (int64_t window = 0; window < s->num_windows; window++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = select_head(s, window, h, qkv, probs, dout);
            Head grad = select_head(s, window, h, dqkv, probs, dout);
            const Matrix value = pack_matrix(C, S, transposed(head.value), pack_buffer);
            const Matrix key = pack_matrix(S, C, head.key, pack_buffer + packed_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                Matrix block = rows_from(head.probs, first), dblock = matrix(dprobs, S);
                Matrix dcontext = rows_from(head.out, first);
                matmul(last - first, C, last, dcontext, value, dblock, 0);
                matmul(last, last - first, C, transposed(block), dcontext, grad.value, 1);
                for (int64_t i = 0; i < last - first; i++) {
                    vec *p = rows_from(block, i).data, *dp = rows_from(dblock, i).data;
                    reg dot = {};
                    for (int64_t j = 0; j < last; j += VECTORS_PER_REGISTER)
                        dot += load_reg(p + j, last - j, 0.0f) * load_reg(dp + j, last - j, 0.0f);
                    dot = broadcast(reduce_add(dot));
                    for (int64_t j = 0, left; j < last; j += VECTORS_PER_REGISTER) {
                        left = last - j;
                        reg dprob = load_reg(dp + j, left, 0.0f) - dot;
                        store_reg(dp + j, left, load_reg(p + j, left, 0.0f) * dprob);
                    }
                }
                matmul(last - first, last, C, dblock, key, rows_from(grad.query, first), 1);
                matmul(last, last - first, C, transposed(dblock), rows_from(head.query, first),
                       grad.key, 1);
            }
        }
}
