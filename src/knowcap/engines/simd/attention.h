/* Rotary embedding and causal attention, forward and backward. */

#include "matrix.h"

/* Pairs x turned by angles whose cosines and sines lie as they do, and turned back. */
#if defined __AVX512F__ && LANES == 1
static inline wide turned(wide x, wide by) {
    const __m512 across = _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(by));
    return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(by), across);
}

static inline wide turned_back(wide x, wide by) {
    const __m512 across = _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(by));
    return _mm512_fmsubadd_ps(x, _mm512_moveldup_ps(by), across);
}
#elif defined __AVX__ && LANES == 1
static inline wide turned(wide x, wide by) {
    const __m256 across = _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(by));
    return _mm256_addsub_ps(_mm256_mul_ps(x, _mm256_moveldup_ps(by)), across);
}

static inline wide turned_back(wide x, wide by) {
    const __m256 across = _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(by));
    return _mm256_addsub_ps(_mm256_mul_ps(x, _mm256_moveldup_ps(by)), -across);
}
#endif

/* Queries at a time, for which keys are put in order once; those behind a query count as zero. */
enum { QUERY_BLOCK = LANES == 1 ? 64 : 16 };

/* Turns pairs of channels, which follow one another; a backward turn is the other way round. turn are
 * cosine and sine of each pair. */
static inline void turn_pairs(int64_t num_pairs, const float *turn, int backward, lanes *channels) {
#if defined __AVX__ && LANES == 1
    for (int64_t c = 0, left; c < 2 * num_pairs; c += ABREAST) {
        left = 2 * num_pairs - c;
        const wide x = load(channels + c, left, 0.0f);
        const wide by = load((const lanes *)turn + c, left, 0.0f);
        store(channels + c, left, backward ? turned_back(x, by) : turned(x, by));
    }
#else
    for (int64_t pair = 0; pair < num_pairs; pair++) {
        float cosine = turn[2 * pair];
        float sine = backward ? -turn[2 * pair + 1] : turn[2 * pair + 1];
        lanes even = channels[2 * pair], odd = channels[2 * pair + 1];
        channels[2 * pair] = even * cosine - odd * sine;
        channels[2 * pair + 1] = even * sine + odd * cosine;
    }
#endif
}

/* Turns queries and keys by turns[S, pairs] of their positions; queries are also scaled. */
static void rotate(const Shape *s, const float *turns, int backward, lanes *qkv) {
    const int64_t num_shared = s->num_heads / s->num_kv_heads, channels = s->num_channels;
    const int64_t num_tokens = num_tokens_of(s);
    const float scale = 1.0f / sqrtf((float)channels);
    for (int64_t t = 0; t < num_tokens; t++) {
        const float *turn = turns + (t % s->seq_length) * s->num_pairs * 2;
        for (int64_t group = 0; group < s->num_kv_heads; group++) {
            for (int64_t head = 0; head <= num_shared; head++, qkv += channels) {
                turn_pairs(s->num_pairs, turn, backward, qkv);
                if (head < num_shared) scale_row(qkv, channels, qkv, all(scale));
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

/* Exponentials as shares of the highest; their sum. SingleProcess, so that sums stay in registers. */
static __attribute__((noinline)) lanes exponentials(lanes *row, int64_t number) {
    wide highest = wide_all(-INFINITY), sum = {};
    for (int64_t j = 0; j < number; j += ABREAST)
        highest = wide_larger(highest, load(row + j, number - j, -INFINITY));
    highest = spread(largest_of(highest)) * LOG2_E;
    for (int64_t j = 0; j < number; j += ABREAST) {
        wide x = wide_power_of_two(load(row + j, number - j, -INFINITY) * LOG2_E - highest);
        store(row + j, number - j, x);
        sum += x;
    }
    return sum_of(sum);
}

static void softmax(lanes *row, int64_t num_seen, int64_t num_all) {
    const lanes share = 1.0f / exponentials(row, num_seen);
    scale_row(row, num_seen, row, share);
    for (int64_t j = num_seen; j < num_all; j++) row[j] = (lanes){};
}

/* Blocks of queries see the keys up to their last; what lies above the diagonal is zero. In spare room
 * are copies of keys and values, which all blocks multiply. */
static void attention(const Shape *s, lanes *qkv, lanes *probs, lanes *spare, lanes *out) {
    const int64_t S = s->seq_length, C = s->num_channels;
    for (int64_t sequence = 0; sequence < s->num_sequences; sequence++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = head_of(s, sequence, h, qkv, probs, out);
            const Matrix key = copied(C, S, transposed(head.key), spare);
            const Matrix value = copied(S, C, head.value, spare + copy_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                Matrix block = below(head.probs, first);
                product(last - first, C, last, below(head.query, first), key, block, 0);
                for (int64_t i = first; i < last; i++)
                    softmax(below(head.probs, i).data, i + 1, last);
                product(last - first, last, C, block, value, below(head.out, first), 0);
            }
        }
}

/* dqkv is zero where it begins; dprobs[S, S] is room to work in. */
static void attention_backward(const Shape *s, lanes *qkv, lanes *probs, lanes *dout, lanes *dqkv,
                               lanes *dprobs, lanes *spare) {
    const int64_t S = s->seq_length, C = s->num_channels;
    for (int64_t sequence = 0; sequence < s->num_sequences; sequence++)
        for (int64_t h = 0; h < s->num_heads; h++) {
            Head head = head_of(s, sequence, h, qkv, probs, dout);
            Head grad = head_of(s, sequence, h, dqkv, probs, dout);
            const Matrix value = copied(C, S, transposed(head.value), spare);
            const Matrix key = copied(S, C, head.key, spare + copy_size(C, S));
            for (int64_t first = 0; first < S; first += QUERY_BLOCK) {
                int64_t last = first + QUERY_BLOCK;
                if (last > S) last = S;
                Matrix block = below(head.probs, first), dblock = matrix(dprobs, S);
                Matrix dseen = below(head.out, first);
                product(last - first, C, last, dseen, value, dblock, 0);
                product(last, last - first, C, transposed(block), dseen, grad.value, 1);
                for (int64_t i = 0; i < last - first; i++) {
                    lanes *p = below(block, i).data, *dp = below(dblock, i).data;
                    wide along = {};
                    for (int64_t j = 0; j < last; j += ABREAST)
                        along += load(p + j, last - j, 0.0f) * load(dp + j, last - j, 0.0f);
                    along = spread(sum_of(along));
                    for (int64_t j = 0, left; j < last; j += ABREAST) {
                        left = last - j;
                        wide dprob = load(dp + j, left, 0.0f) - along;
                        store(dp + j, left, load(p + j, left, 0.0f) * dprob);
                    }
                }
                product(last - first, last, C, dblock, key, below(grad.query, first), 1);
                product(last, last - first, C, transposed(dblock), below(head.query, first),
                        grad.key, 1);
            }
        }
}
