/* Vectors with a number of each model. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE__
#include <immintrin.h>
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* Entries abreast fill one of the processor's vectors, so that four lanes take no longer a number
 * than eight. */
#ifdef __AVX512F__
#define ABREAST (16 / LANES)
#else
#define ABREAST (8 / LANES)
#endif
typedef float wide __attribute__((vector_size(4 * LANES * ABREAST)));
typedef int32_t wide_ints __attribute__((vector_size(4 * LANES * ABREAST)));

#define LOG2_E 1.44269504f

#define VECTOR lanes
#define INTEGERS ints
#define WIDTH LANES
#define OF(name) name
#include "arithmetic.h"
#undef VECTOR
#undef INTEGERS
#undef WIDTH
#undef OF

#define VECTOR wide
#define INTEGERS wide_ints
#define WIDTH (LANES * ABREAST)
#define OF(name) wide_##name
#include "arithmetic.h"

/* ---- entries abreast ---- */

/* The next of `number` entries, and `rest` where there are fewer than abreast. */
static inline wide load(const lanes *from, int64_t number, float rest) {
    wide x = wide_all(rest);
    if (number >= ABREAST)
        memcpy(&x, from, sizeof x);
    else
        memcpy(&x, from, number * sizeof(lanes));
    return x;
}

static inline void store(lanes *to, int64_t number, wide x) {
    if (number >= ABREAST)
        memcpy(to, &x, sizeof x);
    else
        memcpy(to, &x, number * sizeof(lanes));
}

/* Zero behind the first so many. */
static inline wide first_of(wide x, int64_t number) {
    return number >= ABREAST ? x : load((const lanes *)&x, number, 0.0f);
}

static inline wide spread(lanes x) {
    wide all_of_it;
    for (int n = 0; n < ABREAST; n++) memcpy((char *)&all_of_it + n * sizeof x, &x, sizeof x);
    return all_of_it;
}

/* The same of one in memory: where vectors are read, so that it takes no longer than reading one. */
static inline wide spread_from(const lanes *x) {
#if defined __AVX512DQ__ && LANES == 8
    return _mm512_broadcast_f32x8(*(const __m256 *)x);
#elif defined __AVX512F__ && LANES == 4
    return _mm512_broadcast_f32x4(*(const __m128 *)x);
#elif defined __AVX512F__ && LANES == 2
    return (wide)_mm512_broadcastsd_pd(_mm_load_sd((const double *)x));
#elif defined __AVX512F__ && LANES == 1
    return _mm512_set1_ps((*x)[0]);
#elif defined __AVX__ && LANES == 4
    return _mm256_broadcast_ps((const __m128 *)x);
#elif defined __AVX__ && LANES == 2
    return (wide)_mm256_broadcast_sd((const double *)x);
#elif defined __AVX__ && LANES == 1
    return _mm256_broadcast_ss((const float *)x);
#else
    return spread(*x);
#endif
}

static inline lanes sum_of(wide x) {
    lanes each[ABREAST];
    memcpy(each, &x, sizeof x);
    for (int n = 1; n < ABREAST; n++) each[0] += each[n];
    return each[0];
}

static inline lanes largest_of(wide x) {
    lanes each[ABREAST];
    memcpy(each, &x, sizeof x);
    for (int n = 1; n < ABREAST; n++) each[0] = larger(each[0], each[n]);
    return each[0];
}

/* ---- rows of entries ---- */

static inline void add_row(lanes *to, int64_t number, const lanes *row) {
    for (int64_t i = 0, left; i < number; i += ABREAST) {
        left = number - i;
        store(to + i, left, load(to + i, left, 0.0f) + load(row + i, left, 0.0f));
    }
}

/* to = row * by; they may be the same. */
static inline void scale_row(lanes *to, int64_t number, const lanes *row, lanes by) {
    const wide factor = spread(by);
    for (int64_t i = 0, left; i < number; i += ABREAST) {
        left = number - i;
        store(to + i, left, load(row + i, left, 0.0f) * factor);
    }
}
