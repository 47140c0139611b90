/* The training step of a few tiny models, a model in each lane of the processor's vectors.
 *
 * A tiny model's step is a thousand small operations, and a library call for each takes longer
 * than its arithmetic. Here the whole step is one call. Replicates have the same shape and never
 * meet, so a number of each of them makes one vector: every sum, product and softmax is written as
 * for a single model and computed for all, without a horizontal operation or a remainder.
 *
 * Numbers are float32, [entry][lane]. Derivatives are those of lm/functions.py, where they are
 * tested against automatic differentiation; tests hold this file against that.
 *
 * Sizes: T tokens of B sequences of S positions, H hidden, F inner, K outputs of the qkv layer (for
 * each head of keys its queries, its key and its value), C channels of a head, V vocabulary.
 */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

typedef struct {
    int32_t num_layers, width, num_heads, num_kv_heads, num_channels, num_pairs, inner;
    int32_t vocab_size, seq_length, num_sequences;
    int32_t is_gated, is_silu, is_layernorm;
    float eps;
} Shape;

typedef struct { /* where a layer's parameters begin; -1 if there are none */
    int64_t norm1_weight, norm1_bias, qkv_weight, qkv_bias, proj_weight, proj_bias;
    int64_t norm2_weight, norm2_bias, fc1_weight, fc1_bias, fc2_weight, fc2_bias;
} LayerPlaces;

typedef struct {
    int64_t embedding, output, norm_weight, norm_bias;
} Places;

typedef struct {
    int64_t num_params, num_decayed;
    float beta1, beta2, eps, clip_grad;
} Optimizer;

enum { QUERY_BLOCK = 16, OUTPUT_BLOCK = 16 };

/* ---- arithmetic ---- */

static inline lanes all(float x) {
    return x - (lanes){};
}

static inline lanes choose(ints condition, lanes a, lanes b) {
    return (lanes)((condition & (ints)a) | (~condition & (ints)b));
}

/* What is not a number stays so where it is the second. */
static inline lanes larger(lanes a, lanes b) {
    return choose(a > b, a, b);
}

static inline lanes smaller(lanes a, lanes b) {
    return choose(a < b, a, b);
}

static inline lanes root(lanes x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

/* exp to two units in the last place, by a polynomial on [-ln 2 / 2, ln 2 / 2] and a shift of the
 * exponent. Below -87 it is as at -87. */
static inline lanes exponential(lanes x) {
    x = smaller(all(88.0f), larger(all(-87.0f), x));
    const lanes shifter = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    lanes whole = (x * 1.44269504f + shifter) - shifter;
    lanes part = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    lanes sum = all(1.9875691500e-4f);
    sum = sum * part + 1.3981999507e-3f;
    sum = sum * part + 8.3334519073e-3f;
    sum = sum * part + 4.1665795894e-2f;
    sum = sum * part + 1.6666665459e-1f;
    sum = sum * part + 5.0000001201e-1f;
    sum = sum * part * part + part + 1.0f;
    ints exponent = (__builtin_convertvector(whole, ints) + 127) << 23;
    return sum * (lanes)exponent;
}

/* gelu and its derivative, with erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline lanes gelu(lanes x, lanes *derivative) {
    lanes size = larger(-x, x);
    lanes t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    lanes density = exponential(-0.5f * x * x);
    lanes tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                  + 0.254829592f) * t * density * 0.5f;
    lanes cumulative = choose(x < 0.0f, tail, 1.0f - tail);
    *derivative = cumulative + x * density * 0.39894228f;
    return x * cumulative;
}

static inline lanes silu(lanes x, lanes *derivative) {
    lanes sigmoid = 1.0f / (1.0f + exponential(-x));
    *derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
    return x * sigmoid;
}

/* ---- products of matrices ---- */

typedef struct { /* entry (i, j) is data[i * row + j * column] */
    lanes *data;
    int64_t row, column;
} Matrix;

static inline Matrix matrix(lanes *data, int64_t row) {
    return (Matrix){data, row, 1};
}

static inline Matrix transposed(Matrix m) {
    return (Matrix){m.data, m.column, m.row};
}

static inline Matrix below(Matrix m, int64_t num_rows) {
    return (Matrix){m.data + num_rows * m.row, m.row, m.column};
}

/* The compiler would rather read a factor again for each sum than keep it. */
#ifdef __AVX__
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define IN_REGISTER(x)
#endif

/* rows x columns of out: their sums stay in registers, twelve of sixteen. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int columns, int64_t num_inner, Matrix left, Matrix right, Matrix out,
    int add) {
    lanes sum[4][3];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++)
            sum[i][j] = add ? out.data[i * out.row + j * out.column] : (lanes){};
    const lanes *a = left.data, *b = right.data;
    for (int64_t k = 0; k < num_inner; k++, a += left.column, b += right.row) {
        lanes factor[3];
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++) {
            factor[j] = b[j * right.column];
            IN_REGISTER(factor[j]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            lanes other = a[i * left.row];
#pragma GCC unroll 3
            for (int j = 0; j < columns; j++) sum[i][j] += other * factor[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++) out.data[i * out.row + j * out.column] = sum[i][j];
}

/* out = left @ right, or out += left @ right. */
static void product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                    Matrix right, Matrix out, int add) {
    for (int64_t j = 0; j < num_columns; j += 3) {
        Matrix r = {right.data + j * right.column, right.row, right.column};
        for (int64_t i = 0; i < num_rows; i += 4) {
            Matrix l = below(left, i);
            Matrix o = {out.data + i * out.row + j * out.column, out.row, out.column};
            int64_t rows = num_rows - i < 4 ? num_rows - i : 4;
            int64_t columns = num_columns - j < 3 ? num_columns - j : 3;
#define TILE(m, n)                           \
    case 4 * m + n:                          \
        tile(m, n, num_inner, l, r, o, add); \
        break;
            switch (4 * rows + columns) {
                TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(2, 1) TILE(2, 2) TILE(2, 3)
                TILE(3, 1) TILE(3, 2) TILE(3, 3) TILE(4, 1) TILE(4, 2) TILE(4, 3)
            }
#undef TILE
        }
    }
}

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
    const int64_t num_tokens = (int64_t)s->num_sequences * s->seq_length;
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
    const int64_t inner = s->inner, num_out = inner * (1 + s->is_gated);
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
    const int64_t inner = s->inner, num_out = inner * (1 + s->is_gated);
    for (int64_t t = 0; t < num_tokens; t++, factors += num_out, dactive += inner)
        for (int64_t j = 0; j < num_out; j++) factors[j] *= dactive[j % inner];
}

/* Losses of the tokens [lane][B][S + 1]; gradients of the output layer are added, that of its
 * inputs is written. Logits exist for a few tokens at a time. */
static lanes output_loss(const Shape *s, lanes *in, lanes *weight, const int32_t *tokens,
                         lanes *logits, lanes *din, lanes *dweight) {
    const int64_t num_tokens = (int64_t)s->num_sequences * s->seq_length, width = s->width;
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

/* ---- the model ---- */

typedef struct { /* what a layer keeps for its backward pass */
    lanes *standard1, *rstd1, *inputs1, *qkv, *probs, *gathered;
    lanes *standard2, *rstd2, *inputs2, *inner, *active;
} Kept;

typedef struct { /* without a base it only counts */
    lanes *base;
    int64_t used;
} Room;

static lanes *take(Room *room, int64_t number) {
    lanes *taken = room->base ? room->base + room->used : 0;
    room->used += number;
    return taken;
}

static Kept take_layer(const Shape *s, Room *room) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width, F = s->inner;
    const int64_t K = (s->num_heads + 2 * s->num_kv_heads) * s->num_channels;
    return (Kept){
        take(room, T * H), take(room, T), take(room, T * H), take(room, T * K),
        take(room, T * s->num_heads * s->seq_length), take(room, T * H),
        take(room, T * H), take(room, T), take(room, T * H),
        take(room, T * F * (1 + s->is_gated)), take(room, T * F),
    };
}

static void layer_forward(const Shape *s, const LayerPlaces *at_, lanes *p, const float *turns,
                          Kept *k, lanes *hidden) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width, F = s->inner;
    const int64_t K = (s->num_heads + 2 * s->num_kv_heads) * s->num_channels;
    norm(s, T, hidden, p + at_->norm1_weight, at(p, at_->norm1_bias), k->standard1, k->rstd1,
         k->inputs1);
    linear(T, H, K, k->inputs1, p + at_->qkv_weight, at(p, at_->qkv_bias), k->qkv, 0);
    rotate(s, turns, 0, k->qkv);
    attention(s, k->qkv, k->probs, k->gathered);
    linear(T, H, H, k->gathered, p + at_->proj_weight, at(p, at_->proj_bias), hidden, 1);
    if (!F) return;
    norm(s, T, hidden, p + at_->norm2_weight, at(p, at_->norm2_bias), k->standard2, k->rstd2,
         k->inputs2);
    linear(T, H, F * (1 + s->is_gated), k->inputs2, p + at_->fc1_weight, at(p, at_->fc1_bias),
           k->inner, 0);
    activate(s, T, k->inner, k->active);
    linear(T, F, H, k->active, p + at_->fc2_weight, at(p, at_->fc2_bias), hidden, 1);
}

/* dhidden[T, H] goes from the layer's outputs to its inputs; work has room for its largest part. */
static void layer_backward(const Shape *s, const LayerPlaces *at_, lanes *p, lanes *g,
                           const float *turns, Kept *k, lanes *dhidden, lanes *work) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width, F = s->inner;
    const int64_t K = (s->num_heads + 2 * s->num_kv_heads) * s->num_channels;
    lanes *dinputs = work, *dwide = work + T * H;
    if (F) {
        linear_backward(T, F, H, k->active, p + at_->fc2_weight, dhidden, g + at_->fc2_weight,
                        at(g, at_->fc2_bias), dwide);
        activate_backward(s, T, dwide, k->inner);
        linear_backward(T, H, F * (1 + s->is_gated), k->inputs2, p + at_->fc1_weight, k->inner,
                        g + at_->fc1_weight, at(g, at_->fc1_bias), dinputs);
        norm_backward(s, T, dinputs, p + at_->norm2_weight, k->standard2, k->rstd2,
                      g + at_->norm2_weight, at(g, at_->norm2_bias), dhidden);
    }
    linear_backward(T, H, H, k->gathered, p + at_->proj_weight, dhidden, g + at_->proj_weight,
                    at(g, at_->proj_bias), dinputs);
    memset(dwide, 0, T * K * sizeof(lanes));
    attention_backward(s, k->qkv, k->probs, dinputs, dwide, dwide + T * K);
    rotate(s, turns, 1, dwide);
    linear_backward(T, H, K, k->inputs1, p + at_->qkv_weight, dwide, g + at_->qkv_weight,
                    at(g, at_->qkv_bias), dinputs);
    norm_backward(s, T, dinputs, p + at_->norm1_weight, k->standard1, k->rstd1,
                  g + at_->norm1_weight, at(g, at_->norm1_bias), dhidden);
}

static int64_t work_size(const Shape *s) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width;
    const int64_t K = (s->num_heads + 2 * s->num_kv_heads) * s->num_channels;
    const int64_t attending = T * K + QUERY_BLOCK * (int64_t)s->seq_length;
    const int64_t in_layer = T * H + (T * s->inner > attending ? T * s->inner : attending);
    const int64_t at_output = OUTPUT_BLOCK * (int64_t)s->vocab_size + T * H;
    return in_layer > at_output ? in_layer : at_output;
}

/* Vectors that a step works in. */
int64_t workspace_size(const Shape *s) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width;
    Room layer = {0};
    take_layer(s, &layer);
    return s->num_layers * layer.used + 4 * T * H + T + work_size(s);
}

static lanes loss_and_gradients(const Shape *s, const LayerPlaces *layers, const Places *places,
                                const float *turns, const int32_t *tokens, lanes *p, lanes *g,
                                lanes *workspace) {
    const int64_t T = (int64_t)s->num_sequences * s->seq_length, H = s->width;
    Room room = {workspace, 0};
    lanes *hidden = take(&room, T * H), *dhidden = take(&room, T * H);
    lanes *standard = take(&room, T * H), *normed = take(&room, T * H), *rstd = take(&room, T);
    lanes *work = take(&room, work_size(s));
    Kept kept[s->num_layers];
    embed(s, tokens, p + places->embedding, hidden, 0);
    for (int32_t l = 0; l < s->num_layers; l++) {
        kept[l] = take_layer(s, &room);
        layer_forward(s, layers + l, p, turns, kept + l, hidden);
    }
    norm(s, T, hidden, p + places->norm_weight, at(p, places->norm_bias), standard, rstd, normed);
    lanes *dnormed = work, *logits = work + T * H;
    lanes loss = output_loss(s, normed, p + places->output, tokens, logits, dnormed,
                             g + places->output);
    memset(dhidden, 0, T * H * sizeof(lanes));
    norm_backward(s, T, dnormed, p + places->norm_weight, standard, rstd, g + places->norm_weight,
                  at(g, places->norm_bias), dhidden);
    for (int32_t l = s->num_layers - 1; l >= 0; l--)
        layer_backward(s, layers + l, p, g, turns, kept + l, dhidden, work);
    embed(s, tokens, g + places->embedding, dhidden, 1);
    return loss;
}

/* ---- AdamW ---- */

static lanes norm_of(const lanes *g, int64_t number) {
    lanes total = {};
    for (int64_t first = 0; first < number; first += 256) {
        lanes sum = {}; /* of a part, so that a long sum loses no digits */
        int64_t last = first + 256 < number ? first + 256 : number;
        for (int64_t i = first; i < last; i++) sum += g[i] * g[i];
        total += sum;
    }
    return root(total);
}

static lanes adamw(const Optimizer *o, lanes lr, lanes decay, float correction1, float correction2,
                   lanes *p, lanes *g, lanes *exp_avg, lanes *exp_avg_sq) {
    const lanes gradient_norm = norm_of(g, o->num_params);
    const lanes clip = smaller(all(1.0f), o->clip_grad / gradient_norm);
    const lanes step_size = lr / correction1;
    const float root_correction2 = sqrtf(correction2);
    for (int64_t i = 0; i < o->num_params; i++) {
        lanes grad = g[i] * clip;
        if (i < o->num_decayed) p[i] *= decay;
        exp_avg[i] += (grad - exp_avg[i]) * (1.0f - o->beta1);
        exp_avg_sq[i] = exp_avg_sq[i] * o->beta2 + grad * grad * (1.0f - o->beta2);
        p[i] -= step_size * exp_avg[i] / (root(exp_avg_sq[i]) / root_correction2 + o->eps);
    }
    return gradient_norm;
}

/* One step. Scalars of a lane are [LANES]: learning rates and what weights are multiplied by for
 * decay; losses and norms of gradients before clipping come back so. */
void step(const Shape *s, const LayerPlaces *layers, const Places *places, const Optimizer *o,
          const float *turns, const int32_t *tokens, const float *lr, const float *decay,
          float correction1, float correction2, lanes *p, lanes *g, lanes *exp_avg,
          lanes *exp_avg_sq, lanes *workspace, float *loss, float *gradient_norm) {
#ifdef __SSE__
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040); /* numbers below 1e-38 are zero: they take a hundred times longer */
#endif
    lanes rates, decays;
    memcpy(&rates, lr, sizeof rates);
    memcpy(&decays, decay, sizeof decays);
    memset(g, 0, o->num_params * sizeof(lanes));
    lanes losses = loss_and_gradients(s, layers, places, turns, tokens, p, g, workspace);
    lanes norms = adamw(o, rates, decays, correction1, correction2, p, g, exp_avg, exp_avg_sq);
    memcpy(loss, &losses, sizeof losses);
    memcpy(gradient_norm, &norms, sizeof norms);
#ifdef __SSE__
    _mm_setcsr(before);
#endif
}
