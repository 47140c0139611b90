/* Vector types, loads and stores, reductions.
 *
 * A `vec` holds one number of each replicate: LANES floats, one lane per replicate. A `reg` fills
 * one of the processor's registers with VECTORS_PER_REGISTER consecutive vecs of an array.
 */

#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE__
#include <immintrin.h>
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

/* Several vecs share a register, so that few lanes use the full width of the processor. */
#ifdef __AVX512F__
#define VECTORS_PER_REGISTER (16 / LANES)
#else
#define VECTORS_PER_REGISTER (8 / LANES)
#endif
typedef float reg __attribute__((vector_size(4 * LANES * VECTORS_PER_REGISTER)));
typedef int32_t ireg __attribute__((vector_size(4 * LANES * VECTORS_PER_REGISTER)));

#define LOG2_E 1.44269504f

#define FLOATS vec
#define INTS ivec
#define NUM_FLOATS LANES
#define NAME(name) vec_##name
#include "arithmetic.h"
#undef FLOATS
#undef INTS
#undef NUM_FLOATS
#undef NAME

#define FLOATS reg
#define INTS ireg
#define NUM_FLOATS (LANES * VECTORS_PER_REGISTER)
#define NAME(name) reg_##name
#include "arithmetic.h"

#ifdef BFLOAT16
/* Mask of the first `number` of sixteen floats. */
static inline __mmask16 tail_mask(int64_t number) {
    return number >= 16 ? 0xffff : (__mmask16)((1 << (number > 0 ? number : 0)) - 1);
}
#endif

/* Load up to a register of the `number` remaining vecs; missing ones are `fill`. */
static inline reg load_reg(const vec *from, int64_t number, float fill) {
    reg x = reg_set1(fill);
    if (number >= VECTORS_PER_REGISTER)
        memcpy(&x, from, sizeof x);
    else
#ifdef BFLOAT16
        x = _mm512_mask_loadu_ps(x, tail_mask(number), from);
#else
        memcpy(&x, from, number * sizeof(vec));
#endif
    return x;
}

/* Store up to a register of the `number` remaining vecs. */
static inline void store_reg(vec *to, int64_t number, reg x) {
    if (number >= VECTORS_PER_REGISTER)
        memcpy(to, &x, sizeof x);
    else
#ifdef BFLOAT16
        _mm512_mask_storeu_ps(to, tail_mask(number), x);
#else
        memcpy(to, &x, number * sizeof(vec));
#endif
}

/* Set all vecs but the first `number` to zero. */
static inline reg zero_tail(reg x, int64_t number) {
    return number >= VECTORS_PER_REGISTER ? x : load_reg((const vec *)&x, number, 0.0f);
}

/* Repeat a vec in all of a register. */
static inline reg broadcast(vec x) {
    reg repeated;
    for (int n = 0; n < VECTORS_PER_REGISTER; n++)
        memcpy((char *)&repeated + n * sizeof x, &x, sizeof x);
    return repeated;
}

/* Broadcast a vec from memory, in one instruction where the processor has it. */
static inline reg broadcast_from(const vec *x) {
#if defined __AVX512DQ__ && LANES == 8
    return _mm512_broadcast_f32x8(*(const __m256 *)x);
#elif defined __AVX512F__ && LANES == 4
    return _mm512_broadcast_f32x4(*(const __m128 *)x);
#elif defined __AVX512F__ && LANES == 2
    return (reg)_mm512_broadcastsd_pd(_mm_load_sd((const double *)x));
#elif defined __AVX512F__ && LANES == 1
    return _mm512_set1_ps((*x)[0]);
#elif defined __AVX__ && LANES == 4
    return _mm256_broadcast_ps((const __m128 *)x);
#elif defined __AVX__ && LANES == 2
    return (reg)_mm256_broadcast_sd((const double *)x);
#elif defined __AVX__ && LANES == 1
    return _mm256_broadcast_ss((const float *)x);
#else
    return broadcast(*x);
#endif
}

/* Loop over the registers of a row of `number` vecs; `left` of them remain. */
#define FOR_EACH_REGISTER(position, left, number)                                                  \
    for (int64_t position = 0, left; left = (number) - position, left > 0;                         \
         position += VECTORS_PER_REGISTER)

/* Number of vecs in the whole registers of a row. */
static inline int64_t whole_registers(int64_t number) {
    return number / VECTORS_PER_REGISTER * VECTORS_PER_REGISTER;
}

static inline vec reduce_add(reg x) {
    vec each[VECTORS_PER_REGISTER];
    memcpy(each, &x, sizeof x);
    for (int n = 1; n < VECTORS_PER_REGISTER; n++) each[0] += each[n];
    return each[0];
}

static inline vec reduce_max(reg x) {
    vec each[VECTORS_PER_REGISTER];
    memcpy(each, &x, sizeof x);
    for (int n = 1; n < VECTORS_PER_REGISTER; n++) each[0] = vec_max(each[0], each[n]);
    return each[0];
}

/* to += row */
static inline void add_row(vec *to, int64_t number, const vec *row) {
    FOR_EACH_REGISTER (i, left, number)
        store_reg(to + i, left, load_reg(to + i, left, 0.0f) + load_reg(row + i, left, 0.0f));
}

/* to = row * by; `to` and `row` may be equal. */
static inline void scale_row(vec *to, int64_t number, const vec *row, vec by) {
    const reg factor = broadcast(by);
    FOR_EACH_REGISTER (i, left, number)
        store_reg(to + i, left, load_reg(row + i, left, 0.0f) * factor);
}
