/* Sizes of a model and its step, offsets of parameters, and an arena allocator.
 *
 * Sizes: T tokens of B windows of S positions, H hidden size, F inner size of an MLP, F1 outputs of
 * fc1 (2 F if gated), K outputs of the qkv layer, C head dimension.
 */

#pragma once
#include "matmul.h"

typedef struct {
    int32_t num_layers, hidden_size, num_heads, num_kv_heads, head_dim, num_rotary_pairs;
    int32_t ffn_hidden_size, vocab_size, seq_length, num_windows;
    int32_t is_gated, is_silu, is_layernorm;
    int32_t num_experts, topk; /* 0: one MLP, no router */
    float eps, aux_loss_coeff;
    float capacity_factor; /* 0: no token is dropped */
} StepShape;

static inline int64_t count_tokens(const StepShape *s) {
    return (int64_t)s->num_windows * s->seq_length;
}

static inline int64_t qkv_size(const StepShape *s) {
    return (int64_t)(s->num_heads + 2 * s->num_kv_heads) * s->head_dim;
}

static inline int64_t fc1_size(const StepShape *s) {
    return (int64_t)s->ffn_hidden_size * (1 + s->is_gated);
}

typedef struct { /* offsets of a layer's parameters; -1 if a parameter does not exist */
    int64_t norm1_weight, norm1_bias, qkv_weight, qkv_bias, proj_weight, proj_bias;
    int64_t norm2_weight, norm2_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias;
    int64_t router_weight, router_bias;
} LayerParamOffsets;

typedef struct { /* without a base, allocations are only counted */
    vec *base;
    int64_t used;
} Arena;

static vec *arena_alloc(Arena *arena, int64_t number) {
    vec *block = arena->base ? arena->base + arena->used : 0;
    arena->used += number;
    return block;
}
