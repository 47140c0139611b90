/* Mixture of experts: router, capacity and experts, forward and backward, as in model/moe.py.
 *
 * Lanes route independently: the weights of each lane's expert are gathered into one set of vecs,
 * and their gradients scattered back. Sizes: E experts, J experts per token (top-k).
 */

#pragma once
#include "layers.h"

typedef struct {
    vec *probs;    /* [T, E] */
    vec *weight;   /* [T, J], normalized over J */
    ivec *expert;  /* [T, J] */
    ivec *is_kept; /* [T, J], all bits set unless dropped for lack of capacity */
    vec *fc1_out;  /* [T, J, F1] */
    vec *fc2_in;   /* [T, J, F] */
    vec *outputs;  /* [T, J, H] */
    vec *load;     /* [E + 1], share of the choices by expert, and the share dropped */
} Routing;

typedef struct { /* weights of one expert per lane, or their gradients */
    vec *fc1_weight, *fc1_bias, *fc2_weight, *fc2_bias;
} ExpertWeights;

static Routing alloc_routing(const StepShape *s, Arena *arena) {
    const int64_t T = count_tokens(s), choices = T * s->topk, E = s->num_experts;
    return (Routing){
        .probs = arena_alloc(arena, T * E),
        .weight = arena_alloc(arena, choices),
        .expert = (ivec *)arena_alloc(arena, choices),
        .is_kept = (ivec *)arena_alloc(arena, choices),
        .fc1_out = arena_alloc(arena, choices * fc1_size(s)),
        .fc2_in = arena_alloc(arena, choices * s->ffn_hidden_size),
        .outputs = arena_alloc(arena, choices * s->hidden_size),
        .load = arena_alloc(arena, E + 1),
    };
}

static ExpertWeights alloc_expert(const StepShape *s, Arena *arena) {
    const int64_t H = s->hidden_size, F = s->ffn_hidden_size;
    return (ExpertWeights){
        .fc1_weight = arena_alloc(arena, H * fc1_size(s)),
        .fc1_bias = arena_alloc(arena, fc1_size(s)),
        .fc2_weight = arena_alloc(arena, F * H),
        .fc2_bias = arena_alloc(arena, H),
    };
}

static int64_t expert_size(const StepShape *s) {
    Arena arena = {0};
    alloc_expert(s, &arena);
    return arena.used;
}

static int64_t experts_scratch_size(const StepShape *s) {
    const int64_t T = count_tokens(s);
    return 2 * expert_size(s) + T * (s->topk + s->hidden_size) + 2 * s->hidden_size
           + s->ffn_hidden_size;
}

/* own[number] = all[expert, number], where each lane has its own expert. */
static void gather(const vec *all, int64_t number, ivec expert, vec *own) {
    for (int lane = 0; lane < LANES; lane++) {
        const vec *from = all + expert[lane] * number;
        for (int64_t i = 0; i < number; i++) own[i][lane] = from[i][lane];
    }
}

/* all[expert, number] += own[number] in lanes whose token is kept. */
static void scatter(const vec *own, int64_t number, ivec expert, ivec is_kept, vec *all) {
    for (int lane = 0; lane < LANES; lane++) {
        vec *to = all + expert[lane] * number;
        if (is_kept[lane])
            for (int64_t i = 0; i < number; i++) to[i][lane] += own[i][lane];
    }
}

static void gather_expert(const StepShape *s, const LayerParamOffsets *offset, vec *p, ivec expert,
                          ExpertWeights *own) {
    const int64_t H = s->hidden_size, F = s->ffn_hidden_size;
    gather(p + offset->fc1_weight, H * fc1_size(s), expert, own->fc1_weight);
    gather(p + offset->fc2_weight, F * H, expert, own->fc2_weight);
    if (offset->fc1_bias < 0) return;
    gather(p + offset->fc1_bias, fc1_size(s), expert, own->fc1_bias);
    gather(p + offset->fc2_bias, H, expert, own->fc2_bias);
}

static int32_t input_token(const StepShape *s, const int32_t *tokens, int lane, int64_t t) {
    const int64_t window_size = s->seq_length + 1;
    return tokens[lane * s->num_windows * window_size + t / s->seq_length * window_size
                  + t % s->seq_length];
}

/* The J most probable experts of each token, and their weights. */
static void select_top_k(const StepShape *s, int64_t num_tokens, Routing *r) {
    const int64_t E = s->num_experts, J = s->topk;
    for (int64_t t = 0; t < num_tokens; t++) {
        const vec *probs = r->probs + t * E;
        vec total = {}, last = vec_set1(INFINITY);
        ivec last_expert = (ivec){} - 1;
        for (int64_t j = 0; j < J; j++) {
            vec best = vec_set1(-1.0f);
            ivec expert = {};
            for (int32_t e = 0; e < E; e++) {
                /* less probable than the last choice, or equal with a higher index */
                ivec is_free = (probs[e] < last) | ((probs[e] == last) & (last_expert < e));
                ivec is_better = is_free & (probs[e] > best);
                best = vec_select(is_better, probs[e], best);
                expert = (is_better & e) | (~is_better & expert);
            }
            r->expert[t * J + j] = last_expert = expert;
            r->weight[t * J + j] = last = best;
            total += best;
        }
        for (int64_t j = 0; J > 1 && j < J; j++) r->weight[t * J + j] /= total;
    }
}

/* Drop tokens beyond an expert's capacity, in order: all first choices, then all second ones. */
static void apply_capacity(const StepShape *s, const int32_t *tokens, int64_t num_tokens,
                           Routing *r) {
    const int64_t E = s->num_experts, J = s->topk;
    int64_t load[E];
    for (int lane = 0; lane < LANES; lane++) {
        int64_t num_choices = 0, num_dropped = 0;
        for (int64_t t = 0; t < num_tokens; t++)
            num_choices += J * (input_token(s, tokens, lane, t) >= 0);
        const double even = (double)num_choices / E;
        const int64_t limit =
            s->capacity_factor > 0 ? (int64_t)ceil(even * s->capacity_factor) : num_choices;
        memset(load, 0, sizeof load);
        for (int64_t j = 0; j < J; j++)
            for (int64_t t = 0; t < num_tokens; t++) {
                int is_real = input_token(s, tokens, lane, t) >= 0;
                int64_t rank = is_real ? load[r->expert[t * J + j][lane]]++ : limit;
                num_dropped += is_real && rank >= limit;
                r->is_kept[t * J + j][lane] = rank < limit ? -1 : 0;
            }
        const float per_choice = 1.0f / (num_choices > 1 ? num_choices : 1);
        for (int64_t e = 0; e < E; e++) r->load[e][lane] = load[e] * per_choice;
        r->load[E][lane] = num_dropped * per_choice;
    }
}

/* hidden[T, H] += weighted outputs of the experts for inputs[T, H]. */
static void experts_forward(const StepShape *s, const LayerParamOffsets *offset,
                            const int32_t *tokens, vec *p, vec *inputs, Routing *r, vec *scratch,
                            vec *hidden) {
    const int64_t T = count_tokens(s), H = s->hidden_size, F = s->ffn_hidden_size;
    const int64_t E = s->num_experts, J = s->topk, F1 = fc1_size(s);
    const Weight router = unpacked_weight(matrix(p + offset->router_weight, E));
    linear_forward(T, H, E, matmul_input(inputs, H), router, param_or_null(p, offset->router_bias),
                   r->probs, 0);
    for (int64_t t = 0; t < T; t++) {
        vec *probs = r->probs + t * E, max_log2;
        scale_row(probs, E, probs, 1.0f / exp_minus_max(probs, E, &max_log2, 0));
    }
    select_top_k(s, T, r);
    apply_capacity(s, tokens, T, r);
    const int has_bias = offset->fc1_bias >= 0;
    Arena arena = {scratch, 0};
    ExpertWeights own = alloc_expert(s, &arena);
    const Weight fc1 = unpacked_weight(matrix(own.fc1_weight, F1));
    const Weight fc2 = unpacked_weight(matrix(own.fc2_weight, H));
    for (int64_t c = 0; c < T * J; c++) {
        gather_expert(s, offset, p, r->expert[c], &own);
        vec *outputs = r->outputs + c * H;
        linear_forward(1, H, F1, matmul_input(inputs + c / J * H, H), fc1,
                       has_bias ? own.fc1_bias : 0, r->fc1_out + c * F1, 0);
        activation_forward(s, 1, r->fc1_out + c * F1, r->fc2_in + c * F);
        linear_forward(1, F, H, matmul_input(r->fc2_in + c * F, F), fc2,
                       has_bias ? own.fc2_bias : 0, outputs, 0);
        for (int64_t h = 0; h < H; h++) {
            outputs[h] = vec_select(r->is_kept[c], outputs[h], (vec){});
            hidden[c / J * H + h] += r->weight[c] * outputs[h];
        }
    }
}

/* Overwrites the router's probabilities with the gradients of its logits, from those of the weights
 * and from the auxiliary loss. */
static void router_backward(const StepShape *s, const int32_t *tokens, int64_t num_tokens,
                            const vec *dweight, Routing *r) {
    const int64_t E = s->num_experts, J = s->topk;
    vec num_real = {};
    for (int lane = 0; lane < LANES; lane++)
        for (int64_t t = 0; t < num_tokens; t++)
            num_real[lane] += input_token(s, tokens, lane, t) >= 0;
    const vec aux_weight = s->aux_loss_coeff * E / vec_max(vec_set1(1.0f), num_real);
    vec dprobs[E];
    for (int64_t t = 0; t < num_tokens; t++, dweight += J) {
        vec *probs = r->probs + t * E, sum = {};
        for (int lane = 0; lane < LANES; lane++) {
            float is_real = input_token(s, tokens, lane, t) >= 0;
            float expected = 0.0f, total = 0.0f;
            for (int64_t e = 0; e < E; e++)
                dprobs[e][lane] = is_real * aux_weight[lane] * r->load[e][lane];
            for (int64_t j = 0; J > 1 && j < J; j++) {
                expected += r->weight[t * J + j][lane] * dweight[j][lane];
                total += probs[r->expert[t * J + j][lane]][lane];
            }
            for (int64_t j = 0; j < J; j++)
                dprobs[r->expert[t * J + j][lane]][lane] +=
                    J > 1 ? (dweight[j][lane] - expected) / total : dweight[j][lane];
        }
        for (int64_t e = 0; e < E; e++) sum += probs[e] * dprobs[e];
        for (int64_t e = 0; e < E; e++) probs[e] *= dprobs[e] - sum;
    }
}

/* Overwrites dinputs[T, H]; scratch has experts_scratch_size vecs. */
static void experts_backward(const StepShape *s, const LayerParamOffsets *offset,
                             const int32_t *tokens, vec *p, vec *g, vec *inputs, Routing *r,
                             const vec *dhidden, vec *dinputs, vec *scratch) {
    const int64_t T = count_tokens(s), H = s->hidden_size, F = s->ffn_hidden_size;
    const int64_t E = s->num_experts, J = s->topk, F1 = fc1_size(s);
    Arena arena = {scratch, 0};
    ExpertWeights own = alloc_expert(s, &arena), grad = alloc_expert(s, &arena);
    vec *dweight = arena_alloc(&arena, T * J), *doutputs = arena_alloc(&arena, H),
        *dfc2_in = arena_alloc(&arena, F);
    vec *dexpert_in = arena_alloc(&arena, H), *drouter_in = arena_alloc(&arena, T * H);
    const Weight fc1 = unpacked_weight(matrix(own.fc1_weight, F1));
    const Weight fc2 = unpacked_weight(matrix(own.fc2_weight, H));
    const int has_bias = offset->fc1_bias >= 0;
    memset(dinputs, 0, T * H * sizeof(vec));
    for (int64_t c = 0; c < T * J; c++) {
        const int64_t t = c / J;
        gather_expert(s, offset, p, r->expert[c], &own);
        memset(grad.fc1_weight, 0, expert_size(s) * sizeof(vec)); /* all four blocks */
        dweight[c] = (vec){};
        for (int64_t h = 0; h < H; h++) {
            dweight[c] += dhidden[t * H + h] * r->outputs[c * H + h];
            doutputs[h] = vec_select(r->is_kept[c], r->weight[c] * dhidden[t * H + h], (vec){});
        }
        vec *dfc1_out = r->fc1_out + c * F1;
        bias_backward(1, H, doutputs, has_bias ? grad.fc2_bias : 0);
        linear_backward(1, F, H, matmul_input(r->fc2_in + c * F, F), fc2, matrix(doutputs, H),
                        grad.fc2_weight, dfc2_in);
        activation_backward(s, 1, dfc2_in, dfc1_out, has_bias ? grad.fc1_bias : 0);
        linear_backward(1, H, F1, matmul_input(inputs + t * H, H), fc1,
                        matmul_input_in_place(dfc1_out, F1), grad.fc1_weight, dexpert_in);
        add_row(dinputs + t * H, H, dexpert_in);
        scatter(grad.fc1_weight, H * F1, r->expert[c], r->is_kept[c], g + offset->fc1_weight);
        scatter(grad.fc2_weight, F * H, r->expert[c], r->is_kept[c], g + offset->fc2_weight);
        if (!has_bias) continue;
        scatter(grad.fc1_bias, F1, r->expert[c], r->is_kept[c], g + offset->fc1_bias);
        scatter(grad.fc2_bias, H, r->expert[c], r->is_kept[c], g + offset->fc2_bias);
    }
    router_backward(s, tokens, T, dweight, r);
    const Weight router = unpacked_weight(matrix(p + offset->router_weight, E));
    bias_backward(T, E, r->probs, param_or_null(g, offset->router_bias));
    linear_backward(T, H, E, matmul_input(inputs, H), router, matrix(r->probs, E),
                    g + offset->router_weight, drouter_in);
    add_row(dinputs, T * H, drouter_in);
}
