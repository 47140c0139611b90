/* Weights packed for matmul, in both directions. */

#pragma once
#include "shape.h"

typedef struct {
    Matrix forward, backward; /* [inputs, outputs], and its transpose */
    vec *pack_buffer;         /* for packed copies of the other operands */
} Weight;

static inline Weight unpacked_weight(Matrix m, vec *pack_buffer) {
    return (Weight){m, transposed(m), pack_buffer};
}

/* Weights are packed once per step, not once per block of tokens (in float32, not at all). */
static int64_t packed_size_both_ways(int64_t num_in, int64_t num_out) {
    return packed_size(num_in, num_out) + packed_size(num_out, num_in);
}

static Weight pack_weight(Matrix m, int64_t num_in, int64_t num_out, vec *pack_buffer,
                          Arena *arena) {
    return (Weight){
        pack_matrix(num_in, num_out, m, arena_alloc(arena, packed_size(num_in, num_out))),
        pack_matrix(num_out, num_in, transposed(m),
                    arena_alloc(arena, packed_size(num_out, num_in))),
        pack_buffer,
    };
}

typedef struct {
    Weight qkv, proj, fc1, fc2;
} LayerWeights;

typedef struct {
    LayerWeights *layers;
    Weight output;
    vec *pack_buffer;
} Weights;

/* Holds a packed block of gradients, or the packed keys and values of a head. */
static int64_t pack_buffer_size(const StepShape *s) {
    const int64_t H = s->hidden_size, K = qkv_size(s), F1 = fc1_size(s);
    const int64_t gradient_size = packed_size(BLOCK_INNER, F1 > K ? F1 : K > H ? K : H);
    const int64_t head_size = packed_size_both_ways(s->head_dim, s->seq_length);
    return gradient_size > head_size ? gradient_size : head_size;
}

/* Pack all weights but those of experts, which one product reads each. */
static void pack_weights(const StepShape *s, const LayerParamOffsets *layers, int64_t output,
                         vec *p, Weights *weights, Arena *arena) {
    const int64_t H = s->hidden_size, K = qkv_size(s), F = s->ffn_hidden_size, F1 = fc1_size(s);
    vec *pack_buffer = weights->pack_buffer = arena_alloc(arena, pack_buffer_size(s));
    for (int32_t l = 0; l < s->num_layers; l++) {
        const LayerParamOffsets *offset = layers + l;
        LayerWeights *packed = weights->layers + l;
        packed->qkv = pack_weight(matrix(p + offset->qkv_weight, K), H, K, pack_buffer, arena);
        packed->proj = pack_weight(matrix(p + offset->proj_weight, H), H, H, pack_buffer, arena);
        if (!F || s->num_experts) continue;
        packed->fc1 = pack_weight(matrix(p + offset->fc1_weight, F1), H, F1, pack_buffer, arena);
        packed->fc2 = pack_weight(matrix(p + offset->fc2_weight, H), F, H, pack_buffer, arena);
    }
    const Matrix table = matrix(p + output, H);
    weights->output = pack_weight(transposed(table), H, s->vocab_size, pack_buffer, arena);
}

static int64_t packed_weights_size(const StepShape *s) {
    const int64_t H = s->hidden_size, F = s->num_experts ? 0 : s->ffn_hidden_size;
    const int64_t mlp_size =
        F ? packed_size_both_ways(H, fc1_size(s)) + packed_size_both_ways(F, H) : 0;
    return pack_buffer_size(s)
           + s->num_layers
                 * (packed_size_both_ways(H, qkv_size(s)) + packed_size_both_ways(H, H) + mlp_size)
           + packed_size_both_ways(H, s->vocab_size);
}
