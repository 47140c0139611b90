/* Forward and backward pass of a whole model over one micro batch. */

#pragma once
#include "moe.h"

/* Tokens that one lane processes at a time. */
enum { MICRO_BATCH_TOKENS = VALUES_PER_ENTRY > 1 ? 512 : 1024 };

typedef struct { /* offsets of the parameters outside the layers */
    int64_t embedding, output, norm_weight, norm_bias;
} ParamOffsets;

typedef struct {
    const StepShape *shape;
    const LayerParamOffsets *layers;
    const ParamOffsets *offsets;
    const Weights *weights;
    const float *cos_sin;  /* [S, pairs, 2] */
    const int32_t *tokens; /* [lane][B][S + 1], -1 for padding */
    vec *p, *g;            /* parameters and gradients */
    vec *scratch;          /* scratch_size vecs */
} Model;

typedef struct { /* activations that the backward pass of a layer reads */
    vec *normalized1, *rstd1, *attention_in, *qkv, *probs, *context;
    vec *normalized2, *rstd2, *mlp_in, *fc1_out, *fc2_in;
    vec *router_in; /* mlp_in in float32 */
    Routing routing;
    ExpertRows expert_rows;
} Activations;

static Activations alloc_activations(const StepShape *s, Arena *arena) {
    const int64_t T = count_tokens(s), H = s->hidden_size;
    Activations activations = {
        .normalized1 = arena_alloc(arena, T * H),
        .rstd1 = arena_alloc(arena, T),
        .attention_in = arena_alloc(arena, matmul_input_size(T, H)),
        .qkv = arena_alloc(arena, T * qkv_size(s)),
        .probs = arena_alloc(arena, s->num_windows * s->num_heads * probs_size(s)),
        .context = arena_alloc(arena, T * H),
        .normalized2 = arena_alloc(arena, T * H),
        .rstd2 = arena_alloc(arena, T),
        .mlp_in = arena_alloc(arena, matmul_input_size(T, H)),
    };
    if (s->num_experts) {
        activations.router_in =
            VALUES_PER_ENTRY > 1 ? arena_alloc(arena, T * H) : activations.mlp_in;
        activations.routing = alloc_routing(s, arena);
        activations.expert_rows = alloc_expert_rows(s, arena);
    } else {
        activations.fc1_out = arena_alloc(arena, T * fc1_size(s));
        activations.fc2_in = arena_alloc(arena, matmul_input_size(T, s->ffn_hidden_size));
    }
    return activations;
}

static void layer_forward(const Model *m, int32_t layer, Activations *a, vec *hidden) {
    const LayerParamOffsets *offset = m->layers + layer;
    const LayerWeights *w = m->weights->layers + layer;
    const StepShape *s = m->shape;
    const int64_t T = count_tokens(s), H = s->hidden_size, F = s->ffn_hidden_size;
    vec *p = m->p;
    norm_forward(s, T, hidden, p + offset->norm1_weight, param_or_null(p, offset->norm1_bias),
                 a->normalized1, a->rstd1, a->attention_in, 1);
    linear_forward(T, H, qkv_size(s), matmul_input(a->attention_in, H), w->qkv,
                   param_or_null(p, offset->qkv_bias), a->qkv, 0);
    apply_rotary(s, m->cos_sin, 0, a->qkv);
    attention_forward(s, a->qkv, a->probs, m->scratch, m->weights->pack_buffer, a->context);
    linear_forward(T, H, H, matrix(a->context, H), w->proj, param_or_null(p, offset->proj_bias),
                   hidden, 1);
    if (!F) return;
    norm_forward(s, T, hidden, p + offset->norm2_weight, param_or_null(p, offset->norm2_bias),
                 a->normalized2, a->rstd2, a->mlp_in, 1);
    if (s->num_experts) {
        if (a->router_in != a->mlp_in)
            norm_forward(s, T, hidden, p + offset->norm2_weight,
                         param_or_null(p, offset->norm2_bias), a->normalized2, a->rstd2,
                         a->router_in, 0);
        experts_forward(s, offset, m->tokens, p, a->mlp_in, a->router_in, &a->routing,
                        &a->expert_rows, m->scratch, hidden);
        return;
    }
    linear_forward(T, H, fc1_size(s), matmul_input(a->mlp_in, H), w->fc1,
                   param_or_null(p, offset->fc1_bias), a->fc1_out, 0);
    activation_forward(s, T, a->fc1_out, a->fc2_in);
    linear_forward(T, F, H, matmul_input(a->fc2_in, F), w->fc2, param_or_null(p, offset->fc2_bias),
                   hidden, 1);
}

/* Turns dhidden[T, H] from the gradient of the layer's outputs into that of its inputs. */
static void layer_backward(const Model *m, int32_t layer, Activations *a, vec *dhidden) {
    const LayerParamOffsets *offset = m->layers + layer;
    const LayerWeights *w = m->weights->layers + layer;
    const StepShape *s = m->shape;
    const int64_t T = count_tokens(s), H = s->hidden_size, F = s->ffn_hidden_size;
    const int64_t K = qkv_size(s), F1 = fc1_size(s);
    vec *p = m->p, *g = m->g, *dinputs = m->scratch, *dinner = m->scratch + T * H;
    if (s->num_experts) {
        experts_backward(s, offset, m->tokens, p, g, a->router_in, &a->routing, &a->expert_rows,
                         dhidden, dinputs, dinner, m->weights->pack_buffer);
    } else if (F) {
        bias_backward(T, H, dhidden, param_or_null(g, offset->fc2_bias));
        linear_backward(T, F, H, matmul_input(a->fc2_in, F), w->fc2, matrix(dhidden, H),
                        g + offset->fc2_weight, dinner);
        activation_backward(s, T, dinner, a->fc1_out, param_or_null(g, offset->fc1_bias));
        linear_backward(T, H, F1, matmul_input(a->mlp_in, H), w->fc1,
                        matmul_input_in_place(a->fc1_out, F1), g + offset->fc1_weight, dinputs);
    }
    if (F)
        norm_backward(s, T, dinputs, p + offset->norm2_weight, a->normalized2, a->rstd2,
                      g + offset->norm2_weight, param_or_null(g, offset->norm2_bias), dhidden);
    bias_backward(T, H, dhidden, param_or_null(g, offset->proj_bias));
    linear_backward(T, H, H, matrix(a->context, H), w->proj, matrix(dhidden, H),
                    g + offset->proj_weight, dinputs);
    memset(dinner, 0, T * K * sizeof(vec));
    attention_backward(s, a->qkv, a->probs, dinputs, dinner, dinner + T * K,
                       m->weights->pack_buffer);
    apply_rotary(s, m->cos_sin, 1, dinner);
    bias_backward(T, K, dinner, param_or_null(g, offset->qkv_bias));
    linear_backward(T, H, K, matmul_input(a->attention_in, H), w->qkv, matrix(dinner, K),
                    g + offset->qkv_weight, dinputs);
    norm_backward(s, T, dinputs, p + offset->norm1_weight, a->normalized1, a->rstd1,
                  g + offset->norm1_weight, param_or_null(g, offset->norm1_bias), dhidden);
}

static int64_t max_size(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t scratch_size(const StepShape *s) {
    const int64_t T = count_tokens(s), H = s->hidden_size;
    const int64_t attention_size = T * qkv_size(s) + scores_size(s);
    const int64_t output_size = OUTPUT_BLOCK * (logits_size(s) + H);
    const int64_t mlp_size = s->num_experts ? experts_scratch_size(s) : T * s->ffn_hidden_size;
    return T * H + max_size(max_size(attention_size, output_size), mlp_size);
}

/* Shape of a micro batch. With one lane, micro batches reuse activations that are still in the
 * cache. With several, or with experts, whose capacity is counted over all windows, it is the whole
 * step. */
static StepShape micro_batch_shape(const StepShape *s) {
    StepShape micro = *s;
    const int32_t num_windows = (MICRO_BATCH_TOKENS + s->seq_length - 1) / s->seq_length;
    if (LANES == 1 && !s->num_experts && num_windows < s->num_windows)
        micro.num_windows = num_windows;
    return micro;
}

/* Adds to losses and gradients, each target weighted by `share`; overwrites loads[layers, E + 1],
 * the experts' shares of the choices and the share dropped. */
static void loss_and_gradients(Model *m, vec share, vec *workspace, vec *loads, vec *loss) {
    const StepShape *s = m->shape;
    const int64_t T = count_tokens(s), H = s->hidden_size, E = s->num_experts;
    const ParamOffsets *offsets = m->offsets;
    Arena arena = {workspace, 0};
    vec *hidden = arena_alloc(&arena, T * H), *dhidden = arena_alloc(&arena, T * H);
    vec *normalized = arena_alloc(&arena, T * H), *normed = arena_alloc(&arena, T * H),
        *rstd = arena_alloc(&arena, T);
    m->scratch = arena_alloc(&arena, scratch_size(s));
    Activations activations[s->num_layers];
    embedding(s, m->tokens, m->p + offsets->embedding, hidden, 0);
    for (int32_t l = 0; l < s->num_layers; l++) {
        activations[l] = alloc_activations(s, &arena);
        layer_forward(m, l, activations + l, hidden);
        if (E) memcpy(loads + l * (E + 1), activations[l].routing.load, (E + 1) * sizeof(vec));
    }
    norm_forward(s, T, hidden, m->p + offsets->norm_weight, param_or_null(m->p, offsets->norm_bias),
                 normalized, rstd, normed, 0);
    vec *dnormed = m->scratch, *logits = m->scratch + T * H;
    output_loss_and_gradients(s, normed, m->weights->output, m->tokens, share, logits, dnormed,
                              m->g + offsets->output, loss);
    memset(dhidden, 0, T * H * sizeof(vec));
    norm_backward(s, T, dnormed, m->p + offsets->norm_weight, normalized, rstd,
                  m->g + offsets->norm_weight, param_or_null(m->g, offsets->norm_bias), dhidden);
    for (int32_t l = s->num_layers - 1; l >= 0; l--) layer_backward(m, l, activations + l, dhidden);
    embedding(s, m->tokens, m->g + offsets->embedding, dhidden, 1);
}
