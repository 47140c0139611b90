/* Router of a mixture of experts: probabilities, choices and expert capacity, as in model/moe.py.
 *
 * Lanes route independently. Sizes: E experts, J experts per token (top-k), N = T J choices.
 */

#pragma once
#include "layers.h"

typedef struct {
    vec *probs;    /* [T, E] */
    vec *weight;   /* [T, J], normalized over J */
    ivec *expert;  /* [T, J] */
    ivec *is_kept; /* [T, J], all bits set unless dropped for lack of capacity */
    vec *load;     /* [E + 1], share of the choices by expert, and the share dropped */
} Routing;

static int64_t count_choices(const StepShape *s) {
    return count_tokens(s) * s->topk;
}

static Routing alloc_routing(const StepShape *s, Arena *arena) {
    const int64_t num_choices = count_choices(s);
    return (Routing){
        .probs = arena_alloc(arena, count_tokens(s) * s->num_experts),
        .weight = arena_alloc(arena, num_choices),
        .expert = (ivec *)arena_alloc(arena, num_choices),
        .is_kept = (ivec *)arena_alloc(arena, num_choices),
        .load = arena_alloc(arena, s->num_experts + 1),
    };
}

/* Number of tokens that an expert processes at most, of a number of choices. */
static int64_t expert_capacity(const StepShape *s, int64_t num_choices) {
    const double even = (double)num_choices / s->num_experts;
    return s->capacity_factor > 0 ? (int64_t)ceil(even * s->capacity_factor) : num_choices;
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
        const int64_t limit = expert_capacity(s, num_choices);
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

#ifdef BFLOAT16
/* Routers compute in float32 whatever the dtype. Inputs [T, H] are float32, weights [H, E]. */
static void router_linear(int64_t num_tokens, int64_t num_in, int64_t num_out, vec *in,
                          const vec *weight, const vec *bias, vec *out) {
    for (int64_t t = 0; t < num_tokens; t++, in += num_in, out += num_out) {
        memset(out, 0, num_out * sizeof(vec));
        if (bias) add_row(out, num_out, bias);
        for (int64_t h = 0; h < num_in; h++) {
            const reg x = broadcast(in[h]);
            FOR_EACH_REGISTER (e, left, num_out)
                accumulate(out + e, left, x * load_reg(weight + h * num_out + e, left, 0.0f));
        }
    }
}

/* Adds to the weight's gradient; overwrites the input's. */
static void router_linear_backward(int64_t num_tokens, int64_t num_in, int64_t num_out, vec *in,
                                   const vec *weight, vec *dout, vec *dweight, vec *din) {
    vec transpose[num_out * num_in]; /* [E, H] */
    for (int64_t h = 0; h < num_in; h++)
        for (int64_t e = 0; e < num_out; e++) transpose[e * num_in + h] = weight[h * num_out + e];
    router_linear(num_tokens, num_out, num_in, dout, transpose, 0, din);
    for (int64_t t = 0; t < num_tokens; t++, in += num_in, dout += num_out)
        for (int64_t h = 0; h < num_in; h++) {
            const reg x = broadcast(in[h]);
            FOR_EACH_REGISTER (e, left, num_out)
                accumulate(dweight + h * num_out + e, left, x * load_reg(dout + e, left, 0.0f));
        }
}
#else
static void router_linear(int64_t num_tokens, int64_t num_in, int64_t num_out, vec *in, vec *weight,
                          const vec *bias, vec *out) {
    linear_forward(num_tokens, num_in, num_out, matrix(in, num_in),
                   unpacked_weight(matrix(weight, num_out), 0), bias, out, 0);
}

static void router_linear_backward(int64_t num_tokens, int64_t num_in, int64_t num_out, vec *in,
                                   vec *weight, vec *dout, vec *dweight, vec *din) {
    linear_backward(num_tokens, num_in, num_out, matrix(in, num_in),
                    unpacked_weight(matrix(weight, num_out), 0), matrix(dout, num_out), dweight,
                    din);
}
#endif

/* Choices of all tokens, from their inputs in float32. */
static void router_forward(const StepShape *s, const LayerParamOffsets *offset,
                           const int32_t *tokens, vec *p, vec *inputs, Routing *r) {
    const int64_t T = count_tokens(s), H = s->hidden_size, E = s->num_experts;
    router_linear(T, H, E, inputs, p + offset->router_weight, param_or_null(p, offset->router_bias),
                  r->probs);
    for (int64_t t = 0; t < T; t++) {
        vec *probs = r->probs + t * E, max_log2;
        scale_row(probs, E, probs, 1.0f / exp_minus_max(probs, E, &max_log2, 0));
    }
    select_top_k(s, T, r);
    apply_capacity(s, tokens, T, r);
}

/* Overwrites the router's probabilities with the gradients of its logits, from those of the weights
 * and from the auxiliary loss. */
static void logits_backward(const StepShape *s, const int32_t *tokens, int64_t num_tokens,
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

/* Adds to the router's gradients; overwrites dinputs[T, H]. */
static void router_backward(const StepShape *s, const LayerParamOffsets *offset,
                            const int32_t *tokens, vec *p, vec *g, vec *inputs, const vec *dweight,
                            Routing *r, vec *dinputs) {
    const int64_t T = count_tokens(s), H = s->hidden_size, E = s->num_experts;
    logits_backward(s, tokens, T, dweight, r);
    bias_backward(T, E, r->probs, param_or_null(g, offset->router_bias));
    router_linear_backward(T, H, E, inputs, p + offset->router_weight, r->probs,
                           g + offset->router_weight, dinputs);
}
