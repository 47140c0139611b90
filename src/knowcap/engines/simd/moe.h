/* Mixture of experts, forward and backward, as in model/moe.py.
 *
 * Every expert processes its tokens as rows of one product. The lanes of a row are tokens of
 * different places, as lanes route independently; an expert has as many rows as its most loaded
 * lane, and lanes without a token are zero there. Sizes: E experts, J experts per token (top-k),
 * N = T J choices, P rows of all experts.
 */

#pragma once
#include "moe_router.h"

typedef struct {
    ivec *row;      /* [N], row of each choice; -1 if dropped */
    int32_t *first; /* [E + 1], first row of each expert */
    vec *inputs;    /* [P, H], in the format of matmul_input */
    vec *fc1_out;   /* [P, F1] */
    vec *fc2_in;    /* [P, F], in the format of matmul_input */
    vec *outputs;   /* [N, H], of each choice; zero if dropped */
} ExpertRows;

/* Largest number of rows of an expert, and of all. A diverged lane may choose an expert several
 * times for one token. */
static int64_t max_rows_per_expert(const StepShape *s) {
    return expert_capacity(s, count_choices(s));
}

static int64_t max_rows(const StepShape *s) {
    const int64_t num_full = s->num_experts * max_rows_per_expert(s);
    const int64_t num_distinct = LANES * count_choices(s); /* each lane has rows of its own */
    return num_full < num_distinct ? num_full : num_distinct;
}

static ExpertRows alloc_expert_rows(const StepShape *s, Arena *arena) {
    const int64_t P = max_rows(s), N = count_choices(s), H = s->hidden_size;
    return (ExpertRows){
        .row = (ivec *)arena_alloc(arena, N),
        .first = (int32_t *)arena_alloc(arena, s->num_experts + 1),
        .inputs = arena_alloc(arena, matmul_input_size(P, H)),
        .fc1_out = arena_alloc(arena, P * fc1_size(s)),
        .fc2_in = arena_alloc(arena, matmul_input_size(P, s->ffn_hidden_size)),
        .outputs = arena_alloc(arena, N * H),
    };
}

typedef struct {
    vec *rows;    /* [P, H], outputs of the experts, gradients of these or of their inputs */
    vec *dfc2_in; /* of one expert */
    vec *dweight; /* [N] */
    vec *dchoice; /* [H] */
} ExpertScratch;

static ExpertScratch alloc_expert_scratch(const StepShape *s, Arena *arena) {
    const int64_t H = s->hidden_size;
    return (ExpertScratch){
        .rows = arena_alloc(arena, max_rows(s) * H),
        .dfc2_in = arena_alloc(arena, max_rows_per_expert(s) * s->ffn_hidden_size),
        .dweight = arena_alloc(arena, count_choices(s)),
        .dchoice = arena_alloc(arena, H),
    };
}

static int64_t experts_scratch_size(const StepShape *s) {
    Arena arena = {0};
    alloc_expert_scratch(s, &arena);
    return arena.used;
}

/* Give the kept choices of each lane the rows of their expert, in order. */
static void assign_rows(const StepShape *s, const Routing *r, ExpertRows *rows) {
    const int64_t N = count_choices(s), E = s->num_experts;
    int32_t next[E];
    for (int64_t e = 0; e <= E; e++) rows->first[e] = 0;
    for (int lane = 0; lane < LANES; lane++) { /* first[e + 1] = most tokens of e in a lane */
        for (int64_t e = 0; e < E; e++) next[e] = 0;
        for (int64_t c = 0; c < N; c++) next[r->expert[c][lane]] -= r->is_kept[c][lane];
        for (int64_t e = 0; e < E; e++)
            if (rows->first[e + 1] < next[e]) rows->first[e + 1] = next[e];
    }
    for (int64_t e = 0; e < E; e++) rows->first[e + 1] += rows->first[e];
    for (int lane = 0; lane < LANES; lane++) {
        for (int64_t e = 0; e < E; e++) next[e] = rows->first[e];
        for (int64_t c = 0; c < N; c++)
            rows->row[c][lane] = r->is_kept[c][lane] ? next[r->expert[c][lane]]++ : -1;
    }
}

/* Copy one lane of a row. */
static inline void copy_lane(vec *to, const vec *from, int64_t number, int lane) {
    if (LANES == 1)
        memcpy(to, from, number * sizeof(vec));
    else
        for (int64_t i = 0; i < number; i++) to[i][lane] = from[i][lane];
}

/* Copy a choice to its rows of the experts, one in each lane. */
static void scatter_lanes(ivec row, const vec *choice, int64_t width, vec *rows) {
    for (int lane = 0; lane < LANES; lane++)
        if (row[lane] >= 0) copy_lane(rows + row[lane] * width, choice, width, lane);
}

/* Copy a choice from its rows of the experts; zero where it is dropped. */
static void gather_lanes(ivec row, const vec *rows, int64_t width, vec *choice) {
    memset(choice, 0, width * sizeof(vec));
    for (int lane = 0; lane < LANES; lane++)
        if (row[lane] >= 0) copy_lane(choice, rows + row[lane] * width, width, lane);
}

typedef struct {
    Weight fc1, fc2;
    vec *fc1_bias, *fc2_bias; /* or NULL */
} ExpertWeights;

/* Weights of an expert, or their gradients. */
static ExpertWeights select_expert(const StepShape *s, const LayerParamOffsets *offset, int64_t e,
                                   vec *base, vec *pack_buffer) {
    const int64_t H = s->hidden_size, F = s->ffn_hidden_size, F1 = fc1_size(s);
    const int has_bias = offset->fc1_bias >= 0;
    return (ExpertWeights){
        .fc1 = unpacked_weight(matrix(base + offset->fc1_weight + e * H * F1, F1), pack_buffer),
        .fc2 = unpacked_weight(matrix(base + offset->fc2_weight + e * F * H, H), pack_buffer),
        .fc1_bias = has_bias ? base + offset->fc1_bias + e * F1 : 0,
        .fc2_bias = has_bias ? base + offset->fc2_bias + e * H : 0,
    };
}

/* hidden[T, H] += weighted outputs of the experts for inputs[T, H] in the format of matmul_input;
 * router_in[T, H] is the same in float32. */
static void experts_forward(const StepShape *s, const LayerParamOffsets *offset,
                            const int32_t *tokens, vec *p, vec *inputs, vec *router_in, Routing *r,
                            ExpertRows *rows, vec *scratch, vec *hidden) {
    const int64_t N = count_choices(s), J = s->topk, E = s->num_experts;
    const int64_t H = s->hidden_size, F = s->ffn_hidden_size, F1 = fc1_size(s);
    const int64_t H_row = matmul_input_size(1, H), F_row = matmul_input_size(1, F);
    Arena arena = {scratch, 0};
    vec *outputs = alloc_expert_scratch(s, &arena).rows;
    router_forward(s, offset, tokens, p, router_in, r);
    assign_rows(s, r, rows);
    memset(rows->inputs, 0, rows->first[E] * H_row * sizeof(vec));
    for (int64_t c = 0; c < N; c++)
        scatter_lanes(rows->row[c], inputs + c / J * H_row, H_row, rows->inputs);
    for (int64_t e = 0; e < E; e++) {
        const int64_t first = rows->first[e], number = rows->first[e + 1] - first;
        const ExpertWeights w = select_expert(s, offset, e, p, 0);
        vec *fc1_out = rows->fc1_out + first * F1, *fc2_in = rows->fc2_in + first * F_row;
        linear_forward(number, H, F1, matmul_input(rows->inputs + first * H_row, H), w.fc1,
                       w.fc1_bias, fc1_out, 0);
        activation_forward(s, number, fc1_out, fc2_in);
        linear_forward(number, F, H, matmul_input(fc2_in, F), w.fc2, w.fc2_bias,
                       outputs + first * H, 0);
    }
    for (int64_t c = 0; c < N; c++) {
        vec *choice = rows->outputs + c * H;
        gather_lanes(rows->row[c], outputs, H, choice);
        for (int64_t h = 0; h < H; h++) hidden[c / J * H + h] += r->weight[c] * choice[h];
    }
}

/* Gradients of the choices' weights, and of the experts' outputs in rows. */
static void choices_backward(const StepShape *s, const Routing *r, const ExpertRows *rows,
                             const vec *dhidden, ExpertScratch *scratch) {
    const int64_t H = s->hidden_size, J = s->topk, P = rows->first[s->num_experts];
    memset(scratch->rows, 0, P * H * sizeof(vec));
    for (int64_t c = 0; c < count_choices(s); c++) {
        const vec *dtoken = dhidden + c / J * H, *outputs = rows->outputs + c * H;
        vec sum = {};
        for (int64_t h = 0; h < H; h++) sum += dtoken[h] * outputs[h];
        scratch->dweight[c] = sum;
        scale_row(scratch->dchoice, H, dtoken, r->weight[c]);
        scatter_lanes(rows->row[c], scratch->dchoice, H, scratch->rows);
    }
}

/* Overwrites dinputs[T, H]; scratch has experts_scratch_size vecs. */
static void experts_backward(const StepShape *s, const LayerParamOffsets *offset,
                             const int32_t *tokens, vec *p, vec *g, vec *router_in, Routing *r,
                             ExpertRows *rows, const vec *dhidden, vec *dinputs, vec *scratch,
                             vec *pack_buffer) {
    const int64_t T = count_tokens(s), J = s->topk, H = s->hidden_size;
    const int64_t F = s->ffn_hidden_size, F1 = fc1_size(s);
    const int64_t H_row = matmul_input_size(1, H), F_row = matmul_input_size(1, F);
    Arena arena = {scratch, 0};
    ExpertScratch buffers = alloc_expert_scratch(s, &arena);
    choices_backward(s, r, rows, dhidden, &buffers);
    for (int64_t e = 0; e < s->num_experts; e++) {
        const int64_t first = rows->first[e], number = rows->first[e + 1] - first;
        const ExpertWeights w = select_expert(s, offset, e, p, pack_buffer),
                            dw = select_expert(s, offset, e, g, 0);
        vec *drows = buffers.rows + first * H, *dfc1_out = rows->fc1_out + first * F1;
        bias_backward(number, H, drows, dw.fc2_bias);
        linear_backward(number, F, H, matmul_input(rows->fc2_in + first * F_row, F), w.fc2,
                        matrix(drows, H), dw.fc2.forward.data, buffers.dfc2_in);
        activation_backward(s, number, buffers.dfc2_in, dfc1_out, dw.fc1_bias);
        linear_backward(number, H, F1, matmul_input(rows->inputs + first * H_row, H), w.fc1,
                        matmul_input_in_place(dfc1_out, F1), dw.fc1.forward.data, drows);
    }
    router_backward(s, offset, tokens, p, g, router_in, buffers.dweight, r, dinputs);
    for (int64_t c = 0; c < T * J; c++) {
        gather_lanes(rows->row[c], buffers.rows, H, buffers.dchoice);
        add_row(dinputs + c / J * H, H, buffers.dchoice);
    }
}
