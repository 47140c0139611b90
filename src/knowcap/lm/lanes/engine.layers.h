/* The parts of a layer and of what is around the layers, forward and backward. */

#include "engine.vectors.h"

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

enum { QUERY_BLOCK = 16, OUTPUT_BLOCK = 16 };

/* ---- parts of the model, forward and backward ---- */

static inline lanes *at(lanes *base, int64_t place) {
    return place < 0 ? 0 : base + place;
}

/* out[T, m] = in[T, n] @ weight + bias, or that added to out. */
static void linear(int64_t num_tokens, int64_t num_in, int64_t num_out, lanes *in, lanes *weight,
                   const lanes *bias, lanes *out, int add) {
    if (bias)
        for (int64_t t = 0; t < num_tokens; t++)
            for (int64_t j = 0; j < num_out; j++)
                out[t * num_out + j] = add ? out[t * num_out + j] + bias[j] : bias[j];
    product(num_tokens, num_in, num_out, matrix(in, num_in), matrix(weight, num_out),
            matrix(out, num_out), add || bias);
}

/* Adds the gradients of weight and bias; writes that of the inputs. */
static void linear_backward(int64_t num_tokens, int64_t num_in, int64_t num_out, lanes *in,
                            lanes *weight, lanes *dout, lanes *dweight, lanes *dbias, lanes *din) {
    if (dbias)
        for (int64_t t = 0; t < num_tokens; t++)
            for (int64_t j = 0; j < num_out; j++) dbias[j] += dout[t * num_out + j];
    product(num_in, num_tokens, num_out, transposed(matrix(in, num_in)), matrix(dout, num_out),
            matrix(dweight, num_out), 1);
    product(num_tokens, num_out, num_in, matrix(dout, num_out), transposed(matrix(weight, num_out)),
            matrix(din, num_in), 0);
}

/* standard[T, H] has mean 0 (of a LayerNorm) and variance 1; out = standard * weight + bias. */
static void norm(const Shape *s, int64_t num_tokens, const lanes *in, const lanes *weight,
                 const lanes *bias, lanes *standard, lanes *rstd, lanes *out) {
    const int64_t width = s->width;
    for (int64_t t = 0; t < num_tokens; t++, in += width, standard += width, out += width) {
        lanes mean = {}, square = {};
        if (s->is_layernorm)
            for (int64_t h = 0; h < width; h++) mean += in[h];
        mean /= (float)width;
        for (int64_t h = 0; h < width; h++) square += (in[h] - mean) * (in[h] - mean);
        rstd[t] = 1.0f / root(square / (float)width + s->eps);
        for (int64_t h = 0; h < width; h++) {
            standard[h] = (in[h] - mean) * rstd[t];
            out[h] = standard[h] * weight[h];
            if (bias) out[h] += bias[h];
        }
    }
}

/* Adds the gradients of weight, bias and inputs. */
static void norm_backward(const Shape *s, int64_t num_tokens, const lanes *dout,
                          const lanes *weight, const lanes *standard, const lanes *rstd,
                          lanes *dweight, lanes *dbias, lanes *din) {
    const int64_t width = s->width;
    for (int64_t t = 0; t < num_tokens; t++, dout += width, standard += width, din += width) {
        lanes mean = {}, along = {};
        for (int64_t h = 0; h < width; h++) {
            lanes dstandard = dout[h] * weight[h];
            mean += dstandard;
            along += dstandard * standard[h];
            dweight[h] += dout[h] * standard[h];
            if (dbias) dbias[h] += dout[h];
        }
        mean = s->is_layernorm ? mean / (float)width : (lanes){};
        along /= (float)width;
        for (int64_t h = 0; h < width; h++)
            din[h] += rstd[t] * (dout[h] * weight[h] - mean - standard[h] * along);
    }
}

/* Turns pairs of channels of queries and keys; queries are also scaled. turns[S, pairs] are cosines
 * and sines; a backward turn is the other way round. */
static void rotate(const Shape *s, const float *turns, int backward, lanes *qkv) {
    const int64_t num_shared = s->num_heads / s->num_kv_heads, channels = s->num_channels;
    const int64_t num_tokens = num_tokens_of(s);
    const float scale = 1.0f / sqrtf((float)channels);
    for (int64_t t = 0; t < num_tokens; t++) {
        const float *turn = turns + (t % s->seq_length) * s->num_pairs * 2;
        for (int64_t group = 0; group < s->num_kv_heads; group++) {
            for (int64_t head = 0; head <= num_shared; head++, qkv += channels) {
                for (int64_t pair = 0; pair < s->num_pairs; pair++) {
                    float cosine = turn[2 * pair];
                    float sine = backward ? -turn[2 * pair + 1] : turn[2 * pair + 1];
                    lanes even = qkv[2 * pair], odd = qkv[2 * pair + 1];
                    qkv[2 * pair] = even * cosine - odd * sine;
                    qkv[2 * pair + 1] = even * sine + odd * cosine;
                }
                if (head < num_shared)
                    for (int64_t c = 0; c < channels; c++) qkv[c] *= scale;
            }
            qkv += channels; /* the value */
        }
    }
}

/* What one head of one sequence reads and writes. */
typedef struct {
    Matrix query, key, value, probs, out;
} Head;

static Head head_of(const Shape *s, int64_t sequence, int64_t head, lanes *qkv, lanes *probs,
                    lanes *out) {
    const int64_t num_shared = s->num_heads / s->num_kv_heads, channels = s->num_channels;
    const int64_t qkv_width = (s->num_heads + 2 * s->num_kv_heads) * channels;
    const int64_t first = sequence * s->seq_length, group = head / num_shared;
    lanes *of_group = qkv + first * qkv_width + group * (num_shared + 2) * channels;
    lanes *own_probs = probs + (sequence * s->num_heads + head) * s->seq_length * s->seq_length;
    return (Head){
        .query = matrix(of_group + head % num_shared * channels, qkv_width),
        .key = matrix(of_group + num_shared * channels, qkv_width),
        .value = matrix(of_group + (num_shared + 1) * channels, qkv_width),
        .probs = matrix(own_probs, s->seq_length),
        .out = matrix(out + first * s->width + head * channels, s->width),
    };
}

static void softmax(lanes *row, int64_t num_seen, int64_t num_all) {
    lanes highest = row[0], sum = {};
    for (int64_t j = 1; j < num_seen; j++) highest = larger(highest, row[j]);
    for (int64_t j = 0; j < num_seen; j++) sum += row[j] = exponential(row[j] - highest);
    const lanes share = 1.0f / sum;
    for (int64_t j = 0; j < num_seen; j++) row[j] *= share;
    for (int64_t j = num_seen; j < num_all; j++) row[j] = (lanes){};
}

/* Blocks of queries see the keys up to their last; what lies above the diagonal is zero. */
static void attention(const Shape *s, lanes *qkv, lanes *probs, lanes *out) {
    for (int64_t sequence = 0; sequence < s->num_sequences; sequence++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = head_of(s, sequence, h, qkv, probs, out);
            for (int64_t first = 0; first < s->seq_length; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > s->seq_length) last = s->seq_length;
                Matrix block = below(head.probs, first);
                product(last - first, s->num_channels, last, below(head.query, first),
                        transposed(head.key), block, 0);
                for (int64_t i = first; i < last; i++)
                    softmax(below(head.probs, i).data, i + 1, last);
                product(last - first, last, s->num_channels, block, head.value,
                        below(head.out, first), 0);
            }
        }
}

/* dqkv is zero where it begins; dprobs[S, S] is room to work in. */
static void attention_backward(const Shape *s, lanes *qkv, lanes *probs, lanes *dout, lanes *dqkv,
                               lanes *dprobs) {
    for (int64_t sequence = 0; sequence < s->num_sequences; sequence++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = head_of(s, sequence, h, qkv, probs, dout);
            Head grad = head_of(s, sequence, h, dqkv, probs, dout);
            for (int64_t first = 0; first < s->seq_length; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > s->seq_length) last = s->seq_length;
                Matrix block = below(head.probs, first), dblock = matrix(dprobs, s->seq_length);
                Matrix dseen = below(head.out, first);
                product(last - first, s->num_channels, last, dseen, transposed(head.value), dblock,
                        0);
                product(last, last - first, s->num_channels, transposed(block), dseen, grad.value,
                        1);
                for (int64_t i = 0; i < last - first; i++) {
                    lanes *p = below(block, i).data, *dp = below(dblock, i).data, sum = {};
                    for (int64_t j = 0; j < last; j++) sum += p[j] * dp[j];
                    for (int64_t j = 0; j < last; j++) dp[j] = p[j] * (dp[j] - sum);
                }
                product(last - first, last, s->num_channels, dblock, head.key,
                        below(grad.query, first), 1);
                product(last, last - first, s->num_channels, transposed(dblock),
                        below(head.query, first), grad.key, 1);
            }
        }
}

/* active[T, F] from fc1's outputs, which become what the backward pass multiplies gradients by. */
static void activate(const Shape *s, int64_t num_tokens, lanes *outputs, lanes *active) {
    const int64_t inner = s->inner, num_out = fc1_width(s);
    for (int64_t t = 0; t < num_tokens; t++, outputs += num_out, active += inner)
        for (int64_t f = 0; f < inner; f++) {
            lanes slope, value = s->is_silu ? silu(outputs[f], &slope) : gelu(outputs[f], &slope);
            active[f] = s->is_gated ? value * outputs[inner + f] : value;
            outputs[f] = s->is_gated ? slope * outputs[inner + f] : slope;
            if (s->is_gated) outputs[inner + f] = value;
        }
}

/* Gradients of fc1's outputs, in the place of their factors. */
static void activate_backward(const Shape *s, int64_t num_tokens, const lanes *dactive,
                              lanes *factors) {
    const int64_t inner = s->inner, num_out = fc1_width(s);
    for (int64_t t = 0; t < num_tokens; t++, factors += num_out, dactive += inner)
        for (int64_t j = 0; j < num_out; j++) factors[j] *= dactive[j % inner];
}

/* Losses of the tokens [lane][B][S + 1]; gradients of the output layer are added, that of its
 * inputs is written. Logits exist for a few tokens at a time. */
static lanes output_loss(const Shape *s, lanes *in, lanes *weight, const int32_t *tokens,
                         lanes *logits, lanes *din, lanes *dweight) {
    const int64_t num_tokens = num_tokens_of(s), width = s->width;
    const int64_t vocab_size = s->vocab_size, window = s->seq_length + 1;
    const int64_t lane_stride = s->num_sequences * window;
    lanes count = {}, loss = {};
    for (int64_t t = 0; t < num_tokens; t++)
        for (int lane = 0; lane < LANES; lane++)
            count[lane] += tokens[lane * lane_stride + t / s->seq_length * window
                                  + t % s->seq_length + 1] >= 0;
    const lanes share = 1.0f / larger(count, all(1.0f));
    for (int64_t first = 0; first < num_tokens; first += OUTPUT_BLOCK) {
        int64_t number = num_tokens - first < OUTPUT_BLOCK ? num_tokens - first : OUTPUT_BLOCK;
        Matrix inputs = matrix(in + first * width, width), all_logits = matrix(logits, vocab_size);
        product(number, width, vocab_size, inputs, transposed(matrix(weight, width)), all_logits,
                0);
        for (int64_t i = 0; i < number; i++) {
            int64_t t = first + i;
            lanes *row = logits + i * vocab_size, factor;
            softmax(row, vocab_size, vocab_size);
            const int32_t *target = tokens + t / s->seq_length * window + t % s->seq_length + 1;
            for (int lane = 0; lane < LANES; lane++) {
                int32_t token = target[lane * lane_stride];
                factor[lane] = token >= 0 ? share[lane] : 0.0f;
                if (token < 0) continue;
                /* a loss beyond 87 nats, where float32 has no smaller probability, reads as 87 */
                float prob = row[token][lane];
                loss[lane] -= factor[lane] * logf(prob < 1.17549435e-38f ? 1.17549435e-38f : prob);
                row[token][lane] -= 1.0f;
            }
            for (int64_t v = 0; v < vocab_size; v++) row[v] *= factor;
        }
        product(number, vocab_size, width, all_logits, matrix(weight, width),
                matrix(din + first * width, width), 0);
        product(vocab_size, number, width, transposed(all_logits), inputs, matrix(dweight, width),
                1);
    }
    return loss;
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
