/* Transposes of small blocks, in registers. */

#pragma once
#include "vectors.h"

#if defined __AVX512F__ && LANES == 1
/* x[k][j] = x[j][k]: interleave pairs of rows, then groups of four, eight and sixteen. */
static inline void transpose_16x16(__m512i x[16]) {
    __m512i y[16];
#pragma GCC unroll 8
    for (int j = 0; j < 16; j += 2) {
        y[j] = _mm512_unpacklo_epi32(x[j], x[j + 1]);
        y[j + 1] = _mm512_unpackhi_epi32(x[j], x[j + 1]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 16; j += 4)
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            x[j + 2 * k] = _mm512_unpacklo_epi64(y[j + k], y[j + 2 + k]);
            x[j + 2 * k + 1] = _mm512_unpackhi_epi64(y[j + k], y[j + 2 + k]);
        }
#pragma GCC unroll 2
    for (int j = 0; j < 16; j += 8)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            y[j + k] = _mm512_shuffle_i32x4(x[j + k], x[j + 4 + k], 0x88);
            y[j + 4 + k] = _mm512_shuffle_i32x4(x[j + k], x[j + 4 + k], 0xdd);
        }
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
        x[k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0x88);
        x[8 + k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0xdd);
    }
}
#endif

/* to[k][j] = from[j][k], for VECTORS_PER_REGISTER rows and columns. */
static inline void transpose_block(const vec *from, int64_t from_row, vec *to, int64_t to_row) {
#if defined __AVX512F__ && LANES == 1
    __m512i x[16];
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) x[j] = _mm512_loadu_si512(from + j * from_row);
    transpose_16x16(x);
#pragma GCC unroll 16
    for (int k = 0; k < 16; k++) _mm512_storeu_si512(to + k * to_row, x[k]);
#elif defined __AVX__ && LANES == 1
    __m256 x[8], y[8];
    for (int j = 0; j < 8; j++) x[j] = _mm256_loadu_ps((const float *)(from + j * from_row));
    for (int j = 0; j < 8; j += 2) { /* interleave pairs, groups of four, of eight */
        y[j] = _mm256_unpacklo_ps(x[j], x[j + 1]);
        y[j + 1] = _mm256_unpackhi_ps(x[j], x[j + 1]);
    }
    for (int j = 0; j < 8; j += 4)
        for (int k = 0; k < 2; k++) {
            x[j + 2 * k] = _mm256_shuffle_ps(y[j + k], y[j + 2 + k], 0x44);
            x[j + 2 * k + 1] = _mm256_shuffle_ps(y[j + k], y[j + 2 + k], 0xee);
        }
    for (int k = 0; k < 4; k++) {
        _mm256_storeu_ps((float *)(to + k * to_row), _mm256_permute2f128_ps(x[k], x[k + 4], 0x20));
        _mm256_storeu_ps((float *)(to + (k + 4) * to_row),
                         _mm256_permute2f128_ps(x[k], x[k + 4], 0x31));
    }
#else
    for (int k = 0; k < VECTORS_PER_REGISTER; k++)
        for (int j = 0; j < VECTORS_PER_REGISTER; j++) to[k * to_row + j] = from[j * from_row + k];
#endif
}
