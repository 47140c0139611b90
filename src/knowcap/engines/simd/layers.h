/* The parts of a layer and of what is around the layers, forward and backward. */

#include "attention.h"

/* Tokens that have logits at a time: what the output layer's weights are put in order for, unless
 * they are so already. */
enum { OUTPUT_BLOCK = LANES > 1 ? 64 : NUMBERS > 1 ? 128 : 256 };

/* Tokens whose gradients are copied at a time, where they are: so few that the cache still has them
 * when they are multiplied. */
enum { TOKENS_COPIED = NUMBERS > 1 ? INNER : INT32_MAX };

static inline lanes *at(lanes *base, int64_t place) {
    return place < 0 ? 0 : base + place;
}

/* out[T, m] = in[T, n] @ weight + bias, or that added to out. */
static void linear(int64_t num_tokens, int64_t num_in, int64_t num_out, Matrix in, Weight weight,
                   const lanes *bias, lanes *out, int add) {
    biased_product(num_tokens, num_in, num_out, in, weight.forward, bias,
                   matrix(out, num_out), add);
}

/* Adds the gradients of the weight; writes that of the inputs. */
static void linear_backward(int64_t num_tokens, int64_t num_in, int64_t num_out, Matrix in,
                            Weight weight, Matrix dout, lanes *dweight, lanes *din) {
    for (int64_t first = 0; first < num_tokens; first += TOKENS_COPIED) {
        const int64_t left = num_tokens - first;
        const int64_t number = left < TOKENS_COPIED ? left : TOKENS_COPIED;
        product(num_in, number, num_out, transposed(below(in, first)),
                copied(number, num_out, below(dout, first), weight.spare),
                matrix(dweight, num_out), 1);
    }
    product(num_tokens, num_out, num_in, dout, weight.backward, matrix(din, num_in), 0);
}

/* Adds the gradients of a bias, if there is one. */
static void bias_backward(int64_t num_tokens, int64_t num_out, const lanes *dout, lanes *dbias) {
    for (int64_t t = 0; dbias && t < num_tokens; t++) add_row(dbias, num_out, dout + t * num_out);
}

/* standard[T, H] has mean 0 (of a LayerNorm) and variance 1; out = standard * weight + bias, which
 * may be what only products read. */
static void norm(const Shape *s, int64_t num_tokens, const lanes *in, const lanes *weight,
                 const lanes *bias, lanes *standard, lanes *rstd, lanes *out, int are_inputs) {
    const int64_t width = s->width, out_row = are_inputs ? inputs_size(1, width) : width;
    for (int64_t t = 0; t < num_tokens; t++, in += width, standard += width, out += out_row) {
        wide sum = {}, square = {};
        if (s->is_layernorm)
            for (int64_t h = 0; h < width; h += ABREAST) sum += load(in + h, width - h, 0.0f);
        const wide mean = spread(sum_of(sum) / (float)width);
        for (int64_t h = 0; h < width; h += ABREAST) {
            wide x = first_of(load(in + h, width - h, 0.0f) - mean, width - h);
            square += x * x;
        }
        rstd[t] = 1.0f / root(sum_of(square) / (float)width + s->eps);
        const wide scale = spread(rstd[t]);
        for (int64_t h = 0, left; h < width; h += ABREAST) {
            left = width - h;
            wide x = (load(in + h, left, 0.0f) - mean) * scale;
            store(standard + h, left, x);
            x *= load(weight + h, left, 0.0f);
            if (bias) x += load(bias + h, left, 0.0f);
            if (are_inputs)
                store_input(out, h, left, x);
            else
                store(out + h, left, x);
        }
    }
}

static inline void add_to(lanes *to, int64_t number, wide x) {
    store(to, number, load(to, number, 0.0f) + x);
}

/* Adds the gradients of weight, bias and inputs. */
static void norm_backward(const Shape *s, int64_t num_tokens, const lanes *dout,
                          const lanes *weight, const lanes *standard, const lanes *rstd,
                          lanes *dweight, lanes *dbias, lanes *din) {
    const int64_t width = s->width;
    for (int64_t t = 0; t < num_tokens; t++, dout += width, standard += width, din += width) {
        wide sum = {}, sum_along = {};
        for (int64_t h = 0, left; h < width; h += ABREAST) {
            left = width - h;
            wide d = load(dout + h, left, 0.0f), x = load(standard + h, left, 0.0f);
            wide dstandard = d * load(weight + h, left, 0.0f);
            sum += dstandard;
            sum_along += dstandard * x;
            add_to(dweight + h, left, d * x);
            if (dbias) add_to(dbias + h, left, d);
        }
        const wide scale = spread(rstd[t]), along = spread(sum_of(sum_along) / (float)width);
        const wide mean = s->is_layernorm ? spread(sum_of(sum) / (float)width) : (wide){};
        for (int64_t h = 0, left; h < width; h += ABREAST) {
            left = width - h;
            wide dstandard = load(dout + h, left, 0.0f) * load(weight + h, left, 0.0f);
            add_to(din + h, left,
                   scale * (dstandard - mean - load(standard + h, left, 0.0f) * along));
        }
    }
}

/* active[T, F], which only products read, from fc1's outputs, which become what the backward pass multiplies gradients by. */
static void activate(const Shape *s, int64_t num_tokens, lanes *outputs, lanes *active) {
    const int64_t inner = s->inner, num_out = fc1_width(s), active_row = inputs_size(1, inner);
    for (int64_t t = 0; t < num_tokens; t++, outputs += num_out, active += active_row)
        for (int64_t f = 0, left; f < inner; f += ABREAST) {
            left = inner - f;
            wide x = load(outputs + f, left, 0.0f), slope, value;
            value = s->is_silu ? wide_silu(x, &slope) : wide_gelu(x, &slope);
            if (s->is_gated) {
                wide gate = load(outputs + inner + f, left, 0.0f);
                store(outputs + inner + f, left, value);
                value *= gate;
                slope *= gate;
            }
            store_input(active, f, left, value);
            store(outputs + f, left, slope);
        }
}

/* Gradients of fc1's outputs, which only products read, in the place of their factors; those of its
 * bias are added. */
static void activate_backward(const Shape *s, int64_t num_tokens, const lanes *dactive,
                              lanes *factors, lanes *dbias) {
    const int64_t inner = s->inner, num_out = fc1_width(s);
    for (int64_t t = 0; t < num_tokens; t++, factors += num_out, dactive += inner)
        for (int64_t first = 0; first < num_out; first += inner)
            for (int64_t f = 0, left; f < inner; f += ABREAST) {
                left = inner - f;
                const wide d = load(factors + first + f, left, 0.0f) * load(dactive + f, left, 0.0f);
                if (dbias) add_to(dbias + first + f, left, d);
                store_input(factors, first + f, left, d);
            }
}

static lanes count_targets(const Shape *s, const int32_t *tokens) {
    const int64_t window = s->seq_length + 1, lane_stride = s->num_sequences * window;
    lanes count = {};
    for (int64_t t = 0; t < num_tokens_of(s); t++)
        for (int lane = 0; lane < LANES; lane++)
            count[lane] += tokens[lane * lane_stride + t / s->seq_length * window
                                  + t % s->seq_length + 1] >= 0;
    return count;
}

/* Adds losses of the tokens [lane][B][S + 1], a target's by its share, and gradients of the output
 * layer; that of its inputs is written. Logits exist for a few tokens at a time, with room for as
 * many inputs behind them. They become exponentials, at the target less the sum of all: gradients
 * but for a factor of each token, which multiplies what is H wide instead. */
static void output_loss(const Shape *s, lanes *in, Weight weight, const int32_t *tokens,
                        lanes share, lanes *logits, lanes *din, lanes *dweight, lanes *losses) {
    const int64_t num_tokens = num_tokens_of(s), width = s->width;
    const int64_t vocab_size = s->vocab_size, window = s->seq_length + 1;
    const int64_t lane_stride = s->num_sequences * window;
    lanes loss = *losses, *scaled = logits + OUTPUT_BLOCK * vocab_size;
    for (int64_t first = 0; first < num_tokens; first += OUTPUT_BLOCK) {
        int64_t number = num_tokens - first < OUTPUT_BLOCK ? num_tokens - first : OUTPUT_BLOCK;
        lanes *inputs = in + first * width, *dinputs = din + first * width, factor[OUTPUT_BLOCK];
        Matrix gradient = matrix(logits, vocab_size);
        product(number, width, vocab_size, matrix(inputs, width), weight.forward, gradient, 0);
        for (int64_t i = 0; i < number; i++) {
            int64_t t = first + i;
            lanes *row = logits + i * vocab_size, sum = exponentials(row, vocab_size);
            const int32_t *target = tokens + t / s->seq_length * window + t % s->seq_length + 1;
            factor[i] = (lanes){};
            for (int lane = 0; lane < LANES; lane++) {
                int32_t token = target[lane * lane_stride];
                if (token < 0) continue;
                factor[i][lane] = share[lane] / sum[lane];
                /* a loss beyond 87 nats, where float32 has no smaller probability, reads as 87 */
                float prob = row[token][lane] / sum[lane];
                loss[lane] -= share[lane] * logf(prob < 1.17549435e-38f ? 1.17549435e-38f : prob);
                row[token][lane] -= sum[lane];
            }
            scale_row(scaled + i * width, width, inputs + i * width, factor[i]);
        }
        product(number, vocab_size, width, gradient, weight.backward, matrix(dinputs, width), 0);
        product(vocab_size, number, width, transposed(gradient),
                copied(number, width, matrix(scaled, width), weight.spare),
                matrix(dweight, width), 1);
        for (int64_t i = 0; i < number; i++)
            scale_row(dinputs + i * width, width, dinputs + i * width, factor[i]);
    }
    *losses = loss;
}

/* hidden[T, H] of the tokens read, or gradients of the embedding added up. */
static void embed(const Shape *s, const int32_t *tokens, lanes *table, lanes *hidden, int backward) {
    const int64_t window = s->seq_length + 1, lane_stride = s->num_sequences * window;
    for (int64_t sequence = 0; sequence < s->num_sequences; sequence++)
        for (int64_t i = 0; i < s->seq_length; i++, hidden += s->width)
            for (int lane = 0; lane < LANES; lane++) {
                int32_t token = tokens[lane * lane_stride + sequence * window + i];
                lanes *row = table + (int64_t)(token < 0 ? 0 : token) * s->width;
                for (int64_t h = 0; h < s->width; h++)
                    if (backward)
                        row[h][lane] += hidden[h][lane];
                    else
                        hidden[h][lane] = row[h][lane];
            }
}
