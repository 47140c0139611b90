/* A choice of experts in place of an MLP, as model/moe.py has it: a token goes to few of many.
 *
 * Every lane chooses for itself, so the weights of the chosen experts are gathered, a lane from each,
 * and their gradients scattered back. Sizes: E experts, J choices of a token, F1 outputs of fc1.
 */

#include "layers.h"

typedef struct {
    lanes *probs;   /* [T, E] */
    lanes *weight;  /* [T, J] of a choice among a token's choices */
    ints *chosen;   /* [T, J] */
    ints *placed;   /* [T, J] all bits where the choice found a place */
    lanes *inner, *active, *outputs; /* [T, J, F1], [T, J, F], [T, J, H] */
    lanes *load; /* [E + 1] shares of the choices, last that of those without a place */
} Routed;

typedef struct { /* room for the weights that the lanes have chosen, and for their gradients */
    lanes *fc1_weight, *fc1_bias, *fc2_weight, *fc2_bias;
} Expert;

static Routed take_routed(const Shape *s, Room *room) {
    const int64_t T = num_tokens_of(s), choices = T * s->topk, E = s->num_experts;
    return (Routed){
        take(room, T * E), take(room, choices), (ints *)take(room, choices),
        (ints *)take(room, choices), take(room, choices * fc1_width(s)),
        take(room, choices * s->inner), take(room, choices * s->width), take(room, E + 1),
    };
}

static Expert take_expert(const Shape *s, Room *room) {
    const int64_t H = s->width, F = s->inner;
    return (Expert){take(room, H * fc1_width(s)), take(room, fc1_width(s)), take(room, F * H),
                    take(room, H)};
}

static int64_t expert_size(const Shape *s) {
    Room room = {0};
    take_expert(s, &room);
    return room.used;
}

static int64_t experts_work_size(const Shape *s) {
    const int64_t T = num_tokens_of(s);
    return 2 * expert_size(s) + T * (s->topk + s->width) + 2 * s->width + s->inner;
}

/* all[E, number] to own[number]: each lane of its expert. */
static void gather(const lanes *all, int64_t number, ints expert, lanes *own) {
    for (int lane = 0; lane < LANES; lane++) {
        const lanes *from = all + expert[lane] * number;
        for (int64_t i = 0; i < number; i++) own[i][lane] = from[i][lane];
    }
}

static void scatter(const lanes *own, int64_t number, ints expert, ints placed, lanes *all) {
    for (int lane = 0; lane < LANES; lane++) {
        lanes *to = all + expert[lane] * number;
        if (placed[lane])
            for (int64_t i = 0; i < number; i++) to[i][lane] += own[i][lane];
    }
}

static void gather_expert(const Shape *s, const LayerPlaces *at_, lanes *p, ints expert,
                          Expert *own) {
    const int64_t H = s->width, F = s->inner;
    gather(p + at_->fc1_weight, H * fc1_width(s), expert, own->fc1_weight);
    gather(p + at_->fc2_weight, F * H, expert, own->fc2_weight);
    if (at_->fc1_bias < 0) return;
    gather(p + at_->fc1_bias, fc1_width(s), expert, own->fc1_bias);
    gather(p + at_->fc2_bias, H, expert, own->fc2_bias);
}

static int32_t token_read(const Shape *s, const int32_t *tokens, int lane, int64_t t) {
    const int64_t window = s->seq_length + 1;
    return tokens[lane * s->num_sequences * window + t / s->seq_length * window + t % s->seq_length];
}

/* The likeliest experts of each token, and their weights. */
static void choose_experts(const Shape *s, int64_t num_tokens, Routed *r) {
    const int64_t E = s->num_experts, J = s->topk;
    for (int64_t t = 0; t < num_tokens; t++) {
        const lanes *probs = r->probs + t * E;
        lanes total = {}, last = all(INFINITY);
        ints last_expert = (ints){} - 1;
        for (int64_t j = 0; j < J; j++) {
            lanes best = all(-1.0f);
            ints expert = {};
            for (int32_t e = 0; e < E; e++) {
                /* less likely than the last choice, or as likely and behind it */
                ints is_left = (probs[e] < last) | ((probs[e] == last) & (last_expert < e));
                ints is_better = is_left & (probs[e] > best);
                best = choose(is_better, probs[e], best);
                expert = (is_better & e) | (~is_better & expert);
            }
            r->chosen[t * J + j] = last_expert = expert;
            r->weight[t * J + j] = last = best;
            total += best;
        }
        for (int64_t j = 0; J > 1 && j < J; j++) r->weight[t * J + j] /= total;
    }
}

/* Who comes first gets a place: all first choices before all second ones. */
static void assign_places(const Shape *s, const int32_t *tokens, int64_t num_tokens, Routed *r) {
    const int64_t E = s->num_experts, J = s->topk;
    int64_t load[E];
    for (int lane = 0; lane < LANES; lane++) {
        int64_t num_choices = 0, num_dropped = 0;
        for (int64_t t = 0; t < num_tokens; t++)
            num_choices += J * (token_read(s, tokens, lane, t) >= 0);
        const double even = (double)num_choices / E;
        const int64_t limit = s->capacity_factor > 0 ? (int64_t)ceil(even * s->capacity_factor)
                                                     : num_choices;
        memset(load, 0, sizeof load);
        for (int64_t j = 0; j < J; j++)
            for (int64_t t = 0; t < num_tokens; t++) {
                int is_real = token_read(s, tokens, lane, t) >= 0;
                int64_t rank = is_real ? load[r->chosen[t * J + j][lane]]++ : limit;
                num_dropped += is_real && rank >= limit;
                r->placed[t * J + j][lane] = rank < limit ? -1 : 0;
            }
        const float per_choice = 1.0f / (num_choices > 1 ? num_choices : 1);
        for (int64_t e = 0; e < E; e++) r->load[e][lane] = load[e] * per_choice;
        r->load[E][lane] = num_dropped * per_choice;
    }
}

/* Adds to hidden[T, H] what the experts make of inputs[T, H]. */
static void experts(const Shape *s, const LayerPlaces *at_, const int32_t *tokens, lanes *p,
                    lanes *inputs, Routed *r, lanes *work, lanes *hidden) {
    const int64_t T = num_tokens_of(s), H = s->width, F = s->inner;
    const int64_t E = s->num_experts, J = s->topk, F1 = fc1_width(s);
    const Weight router = weight_of(matrix(p + at_->router_weight, E));
    linear(T, H, E, inputs_of(inputs, H), router, at(p, at_->router_bias), r->probs, 0);
    for (int64_t t = 0; t < T; t++) softmax(r->probs + t * E, E, E);
    choose_experts(s, T, r);
    assign_places(s, tokens, T, r);
    const int has_bias = at_->fc1_bias >= 0;
    Room room = {work, 0};
    Expert own = take_expert(s, &room);
    const Weight fc1 = weight_of(matrix(own.fc1_weight, F1));
    const Weight fc2 = weight_of(matrix(own.fc2_weight, H));
    for (int64_t c = 0; c < T * J; c++) {
        gather_expert(s, at_, p, r->chosen[c], &own);
        lanes *outputs = r->outputs + c * H;
        linear(1, H, F1, inputs_of(inputs + c / J * H, H), fc1, has_bias ? own.fc1_bias : 0,
               r->inner + c * F1, 0);
        activate(s, 1, r->inner + c * F1, r->active + c * F);
        linear(1, F, H, inputs_of(r->active + c * F, F), fc2, has_bias ? own.fc2_bias : 0,
               outputs, 0);
        for (int64_t h = 0; h < H; h++) {
            outputs[h] = choose(r->placed[c], outputs[h], (lanes){});
            hidden[c / J * H + h] += r->weight[c] * outputs[h];
        }
    }
}

/* Gradients of the router's logits, in the place of the probabilities, from those of the weights
 * of the choices and from the loss that balances the load. */
static void routing_backward(const Shape *s, const int32_t *tokens, int64_t num_tokens,
                             const lanes *dweight, Routed *r) {
    const int64_t E = s->num_experts, J = s->topk;
    lanes num_real = {};
    for (int lane = 0; lane < LANES; lane++)
        for (int64_t t = 0; t < num_tokens; t++)
            num_real[lane] += token_read(s, tokens, lane, t) >= 0;
    const lanes balance = s->aux_loss_coeff * E / larger(all(1.0f), num_real);
    lanes dprobs[E];
    for (int64_t t = 0; t < num_tokens; t++, dweight += J) {
        lanes *probs = r->probs + t * E, sum = {};
        for (int lane = 0; lane < LANES; lane++) {
            float is_real = token_read(s, tokens, lane, t) >= 0;
            float expected = 0.0f, total = 0.0f;
            for (int64_t e = 0; e < E; e++)
                dprobs[e][lane] = is_real * balance[lane] * r->load[e][lane];
            for (int64_t j = 0; J > 1 && j < J; j++) {
                expected += r->weight[t * J + j][lane] * dweight[j][lane];
                total += probs[r->chosen[t * J + j][lane]][lane];
            }
            for (int64_t j = 0; j < J; j++)
                dprobs[r->chosen[t * J + j][lane]][lane] +=
                    J > 1 ? (dweight[j][lane] - expected) / total : dweight[j][lane];
        }
        for (int64_t e = 0; e < E; e++) sum += probs[e] * dprobs[e];
        for (int64_t e = 0; e < E; e++) probs[e] *= dprobs[e] - sum;
    }
}

/* Writes dinputs[T, H]; work is experts_work_size. */
static void experts_backward(const Shape *s, const LayerPlaces *at_, const int32_t *tokens,
                             lanes *p, lanes *g, lanes *inputs, Routed *r, const lanes *dhidden,
                             lanes *dinputs, lanes *work) {
    const int64_t T = num_tokens_of(s), H = s->width, F = s->inner;
    const int64_t E = s->num_experts, J = s->topk, F1 = fc1_width(s);
    Room room = {work, 0};
    Expert own = take_expert(s, &room), grad = take_expert(s, &room);
    lanes *dweight = take(&room, T * J), *doutputs = take(&room, H), *dactive = take(&room, F);
    lanes *dchoice = take(&room, H), *drouted = take(&room, T * H);
    const Weight fc1 = weight_of(matrix(own.fc1_weight, F1));
    const Weight fc2 = weight_of(matrix(own.fc2_weight, H));
    const int has_bias = at_->fc1_bias >= 0;
    memset(dinputs, 0, T * H * sizeof(lanes));
    for (int64_t c = 0; c < T * J; c++) {
        const int64_t t = c / J;
        gather_expert(s, at_, p, r->chosen[c], &own);
        memset(grad.fc1_weight, 0, expert_size(s) * sizeof(lanes)); /* all four */
        dweight[c] = (lanes){};
        for (int64_t h = 0; h < H; h++) {
            dweight[c] += dhidden[t * H + h] * r->outputs[c * H + h];
            doutputs[h] = choose(r->placed[c], r->weight[c] * dhidden[t * H + h], (lanes){});
        }
        lanes *dinner = r->inner + c * F1;
        bias_backward(1, H, doutputs, has_bias ? grad.fc2_bias : 0);
        linear_backward(1, F, H, inputs_of(r->active + c * F, F), fc2, matrix(doutputs, H),
                        grad.fc2_weight, dactive);
        activate_backward(s, 1, dactive, dinner, has_bias ? grad.fc1_bias : 0);
        linear_backward(1, H, F1, inputs_of(inputs + t * H, H), fc1, inputs_in_place(dinner, F1),
                        grad.fc1_weight, dchoice);
        add_row(dinputs + t * H, H, dchoice);
        scatter(grad.fc1_weight, H * F1, r->chosen[c], r->placed[c], g + at_->fc1_weight);
        scatter(grad.fc2_weight, F * H, r->chosen[c], r->placed[c], g + at_->fc2_weight);
        if (!has_bias) continue;
        scatter(grad.fc1_bias, F1, r->chosen[c], r->placed[c], g + at_->fc1_bias);
        scatter(grad.fc2_bias, H, r->chosen[c], r->placed[c], g + at_->fc2_bias);
    }
    routing_backward(s, tokens, T, dweight, r);
    const Weight router = weight_of(matrix(p + at_->router_weight, E));
    bias_backward(T, E, r->probs, at(g, at_->router_bias));
    linear_backward(T, H, E, inputs_of(inputs, H), router, matrix(r->probs, E),
                    g + at_->router_weight, drouted);
    add_row(dinputs, T * H, drouted);
}
