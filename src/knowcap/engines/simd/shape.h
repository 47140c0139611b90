/* Sizes of a model and of its step, and room to work in. */

#include "matmul.h"

typedef struct {
    int32_t num_layers, width, num_heads, num_kv_heads, num_channels, num_pairs, inner;
    int32_t vocab_size, seq_length, num_sequences;
    int32_t is_gated, is_silu, is_layernorm;
    int32_t num_experts, topk; /* 0 for an MLP */
    float eps, aux_loss_coeff, capacity_factor; /* 0 for places for all */
} Shape;

static inline int64_t num_tokens_of(const Shape *s) {
    return (int64_t)s->num_sequences * s->seq_length;
}

static inline int64_t qkv_width(const Shape *s) {
    return (int64_t)(s->num_heads + 2 * s->num_kv_heads) * s->num_channels;
}

static inline int64_t fc1_width(const Shape *s) {
    return (int64_t)s->inner * (1 + s->is_gated);
}

typedef struct { /* where a layer's parameters begin; -1 if there are none */
    int64_t norm1_weight, norm1_bias, qkv_weight, qkv_bias, proj_weight, proj_bias;
    int64_t norm2_weight, norm2_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias;
    int64_t router_weight, router_bias;
} LayerPlaces;

typedef struct { /* without a base it only counts */
    lanes *base;
    int64_t used;
} Room;

static lanes *take(Room *room, int64_t number) {
    lanes *taken = room->base ? room->base + room->used : 0;
    room->used += number;
    return taken;
}
