/* Rotary position embedding, and its inverse for the backward pass. */

#pragma once
#include "shape.h"

/* Rotate pairs of channels by angles given as (cosine, sine) pairs, or rotate them back. */
#if defined __AVX512F__ && LANES == 1
static inline reg rotate_register(reg x, reg by) {
    const __m512 cross = _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(by));
    return _mm512_fmaddsub_ps(x, _mm512_moveldup_ps(by), cross);
}

static inline reg rotate_register_back(reg x, reg by) {
    const __m512 cross = _mm512_mul_ps(_mm512_permute_ps(x, 0xb1), _mm512_movehdup_ps(by));
    return _mm512_fmsubadd_ps(x, _mm512_moveldup_ps(by), cross);
}
#elif defined __AVX__ && LANES == 1
static inline reg rotate_register(reg x, reg by) {
    const __m256 cross = _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(by));
    return _mm256_addsub_ps(_mm256_mul_ps(x, _mm256_moveldup_ps(by)), cross);
}

static inline reg rotate_register_back(reg x, reg by) {
    const __m256 cross = _mm256_mul_ps(_mm256_permute_ps(x, 0xb1), _mm256_movehdup_ps(by));
    return _mm256_addsub_ps(_mm256_mul_ps(x, _mm256_moveldup_ps(by)), -cross);
}
#endif

/* Rotate consecutive pairs of channels; `cos_sin` holds the cosine and sine of each pair. */
static inline void rotate_pairs(int64_t num_pairs, const float *cos_sin, int backward,
                                vec *channels) {
#if defined __AVX__ && LANES == 1
    for (int64_t c = 0, left; c < 2 * num_pairs; c += VECTORS_PER_REGISTER) {
        left = 2 * num_pairs - c;
        const reg x = load_reg(channels + c, left, 0.0f);
        const reg by = load_reg((const vec *)cos_sin + c, left, 0.0f);
        store_reg(channels + c, left,
                  backward ? rotate_register_back(x, by) : rotate_register(x, by));
    }
#else
    for (int64_t pair = 0; pair < num_pairs; pair++) {
        float cosine = cos_sin[2 * pair];
        float sine = backward ? -cos_sin[2 * pair + 1] : cos_sin[2 * pair + 1];
        vec even = channels[2 * pair], odd = channels[2 * pair + 1];
        channels[2 * pair] = even * cosine - odd * sine;
        channels[2 * pair + 1] = even * sine + odd * cosine;
    }
#endif
}

/* Rotate queries and keys of qkv[T, K] by table[S, pairs, 2]; queries are also scaled. */
static void apply_rotary(const StepShape *s, const float *table, int backward, vec *qkv) {
    const int64_t heads_per_group = s->num_heads / s->num_kv_heads, channels = s->head_dim;
    const int64_t num_tokens = count_tokens(s);
    const float scale = 1.0f / sqrtf((float)channels);
    for (int64_t t = 0; t < num_tokens; t++) {
        const float *cos_sin = table + (t % s->seq_length) * s->num_rotary_pairs * 2;
        for (int64_t group = 0; group < s->num_kv_heads; group++) {
            for (int64_t head = 0; head <= heads_per_group; head++, qkv += channels) {
                rotate_pairs(s->num_rotary_pairs, cos_sin, backward, qkv);
                if (head < heads_per_group) scale_row(qkv, channels, qkv, vec_set1(scale));
            }
            qkv += channels; /* skip the value */
        }
    }
}
