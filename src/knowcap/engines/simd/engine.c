/* The training step of a few tiny models, a model in each lane of the processor's vectors.
 *
 * A tiny model's step is a thousand small operations, and a library call for each takes longer
 * than its arithmetic. Here the whole step is two calls. Replicates have the same shape and never
 * meet, so a number of each of them makes one vector: every sum, product and softmax is written as
 * for a single model and computed for all. Where they are fewer than a vector holds, several
 * entries of them lie abreast.
 *
 * Numbers are float32, [entry][lane]; with BFLOAT16, products round their factors to it. Derivatives
 * are those of knowcap.model (norm.py, block.py, embedding.py), where they are tested against automatic
 * differentiation; tests hold this file against that.
 *
 * Sizes: T tokens of B sequences of S positions, H hidden, F inner, K outputs of the qkv layer (for
 * each head of keys its queries, its key and its value), C channels of a head, V vocabulary.
 */

#include "moe.h"

/* Tokens of one model that are work enough for products. */
enum { TOKENS_AT_ONCE = 1024 };

typedef struct {
    int64_t embedding, output, norm_weight, norm_bias;
} Places;

typedef struct {
    int64_t num_params, num_decayed;
    float beta1, beta2, eps, clip_grad;
} Optimizer;

/* ---- the model ---- */

typedef struct {
    const Shape *shape;
    const LayerPlaces *layers;
    const Places *places;
    const Weights *weights;
    const float *turns;    /* [S, pairs, 2] */
    const int32_t *tokens; /* [lane][B][S + 1], -1 where there are none */
    lanes *p, *g;          /* parameters and their gradients */
    lanes *work;           /* work_size of it */
} Model;

typedef struct { /* what a layer keeps for its backward pass */
    lanes *standard1, *rstd1, *inputs1, *qkv, *probs, *gathered;
    lanes *standard2, *rstd2, *inputs2, *inner, *active;
    Routed routed;
} Kept;

static Kept take_layer(const Shape *s, Room *room) {
    const int64_t T = num_tokens_of(s), H = s->width;
    Kept kept = {
        take(room, T * H), take(room, T), take(room, inputs_size(T, H)),
        take(room, T * qkv_width(s)), take(room, T * s->num_heads * s->seq_length),
        take(room, T * H), take(room, T * H), take(room, T), take(room, inputs_size(T, H)), 0, 0, {},
    };
    if (s->num_experts) {
        kept.routed = take_routed(s, room);
    } else {
        kept.inner = take(room, T * fc1_width(s));
        kept.active = take(room, inputs_size(T, s->inner));
    }
    return kept;
}

static void layer_forward(const Model *m, int32_t layer, Kept *k, lanes *hidden) {
    const LayerPlaces *at_ = m->layers + layer;
    const LayerWeights *w = m->weights->layers + layer;
    const Shape *s = m->shape;
    const int64_t T = num_tokens_of(s), H = s->width, F = s->inner;
    lanes *p = m->p;
    norm(s, T, hidden, p + at_->norm1_weight, at(p, at_->norm1_bias), k->standard1, k->rstd1,
         k->inputs1, 1);
    linear(T, H, qkv_width(s), inputs_of(k->inputs1, H), w->qkv, at(p, at_->qkv_bias), k->qkv, 0);
    rotate(s, m->turns, 0, k->qkv);
    attention(s, k->qkv, k->probs, m->weights->spare, k->gathered);
    linear(T, H, H, matrix(k->gathered, H), w->proj, at(p, at_->proj_bias), hidden, 1);
    if (!F) return;
    norm(s, T, hidden, p + at_->norm2_weight, at(p, at_->norm2_bias), k->standard2, k->rstd2,
         k->inputs2, 1);
    if (s->num_experts) {
        experts(s, at_, m->tokens, p, k->inputs2, &k->routed, m->work, hidden);
        return;
    }
    linear(T, H, fc1_width(s), inputs_of(k->inputs2, H), w->fc1, at(p, at_->fc1_bias), k->inner, 0);
    activate(s, T, k->inner, k->active);
    linear(T, F, H, inputs_of(k->active, F), w->fc2, at(p, at_->fc2_bias), hidden, 1);
}

/* dhidden[T, H] goes from the layer's outputs to its inputs. */
static void layer_backward(const Model *m, int32_t layer, Kept *k, lanes *dhidden) {
    const LayerPlaces *at_ = m->layers + layer;
    const LayerWeights *w = m->weights->layers + layer;
    const Shape *s = m->shape;
    const int64_t T = num_tokens_of(s), H = s->width, F = s->inner;
    const int64_t K = qkv_width(s), F1 = fc1_width(s);
    lanes *p = m->p, *g = m->g, *dinputs = m->work, *dwide = m->work + T * H;
    if (s->num_experts) {
        experts_backward(s, at_, m->tokens, p, g, k->inputs2, &k->routed, dhidden, dinputs, dwide);
    } else if (F) {
        bias_backward(T, H, dhidden, at(g, at_->fc2_bias));
        linear_backward(T, F, H, inputs_of(k->active, F), w->fc2, matrix(dhidden, H),
                        g + at_->fc2_weight, dwide);
        activate_backward(s, T, dwide, k->inner, at(g, at_->fc1_bias));
        linear_backward(T, H, F1, inputs_of(k->inputs2, H), w->fc1, inputs_in_place(k->inner, F1),
                        g + at_->fc1_weight, dinputs);
    }
    if (F)
        norm_backward(s, T, dinputs, p + at_->norm2_weight, k->standard2, k->rstd2,
                      g + at_->norm2_weight, at(g, at_->norm2_bias), dhidden);
    bias_backward(T, H, dhidden, at(g, at_->proj_bias));
    linear_backward(T, H, H, matrix(k->gathered, H), w->proj, matrix(dhidden, H),
                    g + at_->proj_weight, dinputs);
    memset(dwide, 0, T * K * sizeof(lanes));
    attention_backward(s, k->qkv, k->probs, dinputs, dwide, dwide + T * K, m->weights->spare);
    rotate(s, m->turns, 1, dwide);
    bias_backward(T, K, dwide, at(g, at_->qkv_bias));
    linear_backward(T, H, K, inputs_of(k->inputs1, H), w->qkv, matrix(dwide, K),
                    g + at_->qkv_weight, dinputs);
    norm_backward(s, T, dinputs, p + at_->norm1_weight, k->standard1, k->rstd1,
                  g + at_->norm1_weight, at(g, at_->norm1_bias), dhidden);
}

static int64_t larger_of(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t work_size(const Shape *s) {
    const int64_t T = num_tokens_of(s), H = s->width;
    const int64_t attending = T * qkv_width(s) + QUERY_BLOCK * (int64_t)s->seq_length;
    const int64_t at_output = OUTPUT_BLOCK * (s->vocab_size + H);
    const int64_t in_mlp = s->num_experts ? experts_work_size(s) : T * s->inner;
    return T * H + larger_of(larger_of(attending, at_output), in_mlp);
}

/* Of a step's windows as many as are passed at a time. One model's take the places of those before
 * them, which are still in the cache; several models' lie apart, and experts serve all of them. */
static Shape passed_at_once(const Shape *s) {
    Shape some = *s;
    const int32_t enough = (TOKENS_AT_ONCE + s->seq_length - 1) / s->seq_length;
    if (LANES == 1 && !s->num_experts && enough < s->num_sequences) some.num_sequences = enough;
    return some;
}

/* Vectors that a step works in. */
int64_t workspace_size(const Shape *of_step) {
    const Shape some = passed_at_once(of_step), *s = &some;
    Room layer = {0};
    take_layer(s, &layer);
    return copies_size(s) + s->num_layers * layer.used + num_tokens_of(s) * (4 * s->width + 1)
           + work_size(s);
}

/* Adds losses and gradients, each target's by its share; loads[layers, E + 1] are the experts'
 * shares of the choices and the share dropped. */
static void loss_and_gradients(Model *m, lanes share, lanes *workspace, lanes *loads, lanes *loss) {
    const Shape *s = m->shape;
    const int64_t T = num_tokens_of(s), H = s->width, E = s->num_experts;
    const Places *places = m->places;
    Room room = {workspace, 0};
    lanes *hidden = take(&room, T * H), *dhidden = take(&room, T * H);
    lanes *standard = take(&room, T * H), *normed = take(&room, T * H), *rstd = take(&room, T);
    m->work = take(&room, work_size(s));
    Kept kept[s->num_layers];
    embed(s, m->tokens, m->p + places->embedding, hidden, 0);
    for (int32_t l = 0; l < s->num_layers; l++) {
        kept[l] = take_layer(s, &room);
        layer_forward(m, l, kept + l, hidden);
        if (E) memcpy(loads + l * (E + 1), kept[l].routed.load, (E + 1) * sizeof(lanes));
    }
    norm(s, T, hidden, m->p + places->norm_weight, at(m->p, places->norm_bias), standard, rstd,
         normed, 0);
    lanes *dnormed = m->work, *logits = m->work + T * H;
    output_loss(s, normed, m->weights->output, m->tokens, share, logits, dnormed,
                m->g + places->output, loss);
    memset(dhidden, 0, T * H * sizeof(lanes));
    norm_backward(s, T, dnormed, m->p + places->norm_weight, standard, rstd,
                  m->g + places->norm_weight, at(m->g, places->norm_bias), dhidden);
    for (int32_t l = s->num_layers - 1; l >= 0; l--)
        layer_backward(m, l, kept + l, dhidden);
    embed(s, m->tokens, m->g + places->embedding, dhidden, 1);
}

/* ---- AdamW ---- */

static lanes sum_of_squares(const lanes *g, int64_t number) {
    lanes total = {};
    for (int64_t first = 0; first < number; first += 256) {
        wide sum = {}; /* of a part, so that a long sum loses no digits */
        int64_t last = first + 256 < number ? first + 256 : number;
        for (int64_t i = first; i < last; i += ABREAST) {
            wide grad = load(g + i, last - i, 0.0f);
            sum += grad * grad;
        }
        total += sum_of(sum);
    }
    return total;
}

typedef struct {
    wide clip, step_size, decay;
    float root_scale;
} Advance;

static void adamw_of(const Optimizer *o, int64_t first, int64_t last, Advance by, lanes *p,
                     const lanes *g, lanes *exp_avg, lanes *exp_avg_sq) {
    for (int64_t i = first, left; i < last; i += ABREAST) {
        left = last - i;
        wide grad = load(g + i, left, 0.0f) * by.clip;
        wide mean = load(exp_avg + i, left, 0.0f), square = load(exp_avg_sq + i, left, 0.0f);
        mean += (grad - mean) * (1.0f - o->beta1);
        square = square * o->beta2 + grad * grad * (1.0f - o->beta2);
        store(exp_avg + i, left, mean);
        store(exp_avg_sq + i, left, square);
        wide change = by.step_size * mean / (wide_root(square) * by.root_scale + o->eps);
        store(p + i, left, load(p + i, left, 0.0f) * by.decay - change);
    }
}

/* ---- what is called ---- */

/* Numbers below 1e-38 are zero: they take a hundred times longer. */
static unsigned int flush_small_numbers(void) {
#ifdef __SSE__
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#else
    return 0;
#endif
}

static void restore(unsigned int before) {
#ifdef __SSE__
    _mm_setcsr(before);
#endif
}

/* Gradients of the mean loss of some windows. Scalars of a lane are [LANES]: the losses and the
 * number of targets that they are means of. */
void gradients(const Shape *s, const LayerPlaces *layers, const Places *places, const Optimizer *o,
               const float *turns, const int32_t *tokens, lanes *p, lanes *g, lanes *workspace,
               lanes *loads, float *loss, float *count) {
    const unsigned int before = flush_small_numbers();
    memset(g, 0, o->num_params * sizeof(lanes));
    Shape some = passed_at_once(s);
    Room room = {workspace, 0};
    LayerWeights of_layers[s->num_layers];
    Weights weights = {.layers = of_layers};
    copy_weights(s, layers, places->output, p, &weights, &room);
    const int32_t at_once = some.num_sequences;
    const lanes counts = count_targets(s, tokens), share = 1.0f / larger(counts, all(1.0f));
    lanes losses = {};
    for (int32_t first = 0; first < s->num_sequences; first += at_once) {
        const int32_t left = s->num_sequences - first;
        some.num_sequences = left < at_once ? left : at_once;
        const int32_t *its_tokens = tokens + (int64_t)first * (s->seq_length + 1);
        Model model = {&some, layers, places, &weights, turns, its_tokens, p, g, 0};
        loss_and_gradients(&model, share, workspace + room.used, loads, &losses);
    }
    memcpy(loss, &losses, sizeof losses);
    memcpy(count, &counts, sizeof counts);
    restore(before);
}

/* Mean losses of all windows from those of parts of them, and each part's share of the targets. */
static lanes mean_loss(int64_t num_parts, const float *part_loss, const float *part_count,
                       lanes *shares) {
    lanes count = {}, mean = {};
    for (int64_t part = 0; part < num_parts; part++) {
        memcpy(shares + part, part_count + part * LANES, sizeof count);
        count += shares[part];
    }
    for (int64_t part = 0; part < num_parts; part++) {
        lanes loss;
        memcpy(&loss, part_loss + part * LANES, sizeof loss);
        shares[part] /= larger(count, all(1.0f));
        mean += shares[part] * loss;
    }
    return mean;
}

/* Gradients by all windows, in g[0], of the parameters from `first` to `last`: those by parts of the
 * windows, each with its share of the targets. Mean losses and sums of squares come back [LANES]. */
void add_up(int64_t num_parts, lanes **g, const float *part_loss, const float *part_count,
            int64_t first, int64_t last, float *loss, float *square) {
    const unsigned int before = flush_small_numbers();
    lanes shares[num_parts];
    const lanes mean = mean_loss(num_parts, part_loss, part_count, shares);
    for (int64_t part = 0; num_parts > 1 && part < num_parts; part++) {
        const wide share = spread(shares[part]);
        for (int64_t i = first, left; i < last; i += ABREAST) {
            left = last - i;
            const wide sum = part ? load(g[0] + i, left, 0.0f) : (wide){};
            store(g[0] + i, left, sum + share * load(g[part] + i, left, 0.0f));
        }
    }
    const lanes squares = sum_of_squares(g[0] + first, last - first);
    memcpy(loss, &mean, sizeof mean);
    memcpy(square, &squares, sizeof squares);
    restore(before);
}

/* A step of the parameters from `first` to `last` along g, whose squares' sums are [ranges][LANES].
 * Learning rates and what weights are multiplied by for decay are [LANES]; norms of gradients before
 * clipping come back so. */
void go_along(const Optimizer *o, int64_t first, int64_t last, int64_t num_ranges,
              const float *squares, const float *lr, const float *decay, float correction1,
              float correction2, lanes *p, lanes *g, lanes *exp_avg, lanes *exp_avg_sq,
              float *gradient_norm) {
    const unsigned int before = flush_small_numbers();
    lanes rates, decays, norms = {};
    memcpy(&rates, lr, sizeof rates);
    memcpy(&decays, decay, sizeof decays);
    for (int64_t range = 0; range < num_ranges; range++) {
        lanes square;
        memcpy(&square, squares + range * LANES, sizeof square);
        norms += square;
    }
    norms = root(norms);
    Advance by = {
        .clip = spread(smaller(all(1.0f), o->clip_grad / norms)),
        .step_size = spread(rates / correction1),
        .decay = spread(decays),
        .root_scale = 1.0f / sqrtf(correction2),
    };
    const int64_t last_decayed = o->num_decayed < last ? o->num_decayed : last;
    const int64_t first_kept = o->num_decayed > first ? o->num_decayed : first;
    adamw_of(o, first, last_decayed, by, p, g, exp_avg, exp_avg_sq);
    by.decay = wide_all(1.0f);
    adamw_of(o, first_kept, last, by, p, g, exp_avg, exp_avg_sq);
    memcpy(gradient_norm, &norms, sizeof norms);
    restore(before);
}

/* Both at once, for all parameters. */
void update(const Optimizer *o, int64_t num_parts, lanes **g, const float *part_loss,
            const float *part_count, const float *lr, const float *decay, float correction1,
            float correction2, lanes *p, lanes *exp_avg, lanes *exp_avg_sq, float *loss,
            float *gradient_norm) {
    float square[LANES];
    add_up(num_parts, g, part_loss, part_count, 0, o->num_params, loss, square);
    go_along(o, 0, o->num_params, 1, square, lr, decay, correction1, correction2, p, g[0], exp_avg,
            exp_avg_sq, gradient_norm);
}
