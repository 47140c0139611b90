/* Operands of matmul packed in bfloat16, which AVX-512 multiplies in pairs and sums in float32. */

#pragma once
#include "matrix.h"

/* Sixteen rows of a left operand, or columns of a right one, form a panel: [inner / 2][16] pairs of
 * values that are neighbours along the inner dimension. A pair has the size of a float. The other
 * dimension of an operand is called outer. */

static inline __m512i round_pairs(__m512 first, __m512 second) {
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* Pairs of a value from each of two rows with `number` remaining ones; the second may be NULL. */
static inline __m512i interleave_rows(int64_t number, const vec *first, const vec *second) {
    const __m512i order = _mm512_set_epi32(
        0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008, 0x170007,
        0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    const reg odd = second ? load_reg(second, number, 0.0f) : (reg){};
    return _mm512_permutexvar_epi16(order, round_pairs(load_reg(first, number, 0.0f), odd));
}

/* Pairs of sixteen values from each of two rows in bfloat16, beginning at value 0 or 16. */
static inline __m512i interleave_bf16_rows(__m512i first, __m512i second, int begin) {
    const ireg position = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ireg order = (position + begin) * 0x10001 + 0x200000; /* of `second` from 32 on */
    return _mm512_permutex2var_epi16(first, (__m512i)order, second);
}

/* Pairs of neighbouring values of a row. */
static inline __m512i round_row(const vec *from, int64_t number) {
    if (number >= 2 * PANEL_ROWS)
        return round_pairs(load_reg(from, PANEL_ROWS, 0.0f),
                           load_reg(from + PANEL_ROWS, PANEL_ROWS, 0.0f));
    return round_pairs(load_reg(from, number, 0.0f),
                       load_reg(from + PANEL_ROWS, number - PANEL_ROWS, 0.0f));
}

/* Size of rows that only matmul reads, which are rounded when they are written. */
static int64_t matmul_input_size(int64_t num_rows, int64_t width) {
    return num_rows * ((width + 2 * PANEL_ROWS - 1) / (2 * PANEL_ROWS) * PANEL_ROWS);
}

/* The matrix of such rows. */
static Matrix matmul_input(vec *data, int64_t width) {
    return (Matrix){.data = data,
                    .row_stride = 2 * matmul_input_size(1, width),
                    .column_stride = 1,
                    .is_bf16 = 1};
}

/* Size of a float32 row that such a row may overwrite, in whole registers. */
static int64_t overwritten_size(int64_t width) {
    return 2 * matmul_input_size(1, width);
}

/* The matrix of such rows that overwrite float32 rows of this size. */
static Matrix matmul_input_in_place(vec *data, int64_t row_size) {
    return (Matrix){.data = data, .row_stride = 2 * row_size, .column_stride = 1, .is_bf16 = 1};
}

/* Store the next of `number` remaining entries of such a row, padded with zeros. */
static inline void store_matmul_input(vec *row, int64_t position, int64_t number, reg x) {
    if (number < PANEL_ROWS) x = _mm512_maskz_mov_ps(tail_mask(number), x);
    _mm256_storeu_si256((__m256i *)(row + position / 2), (__m256i)_mm512_cvtneps_pbh(x));
}

/* Load the next of `number` remaining entries of such a row; missing ones are zero. */
static inline reg load_matmul_input(const vec *row, int64_t position, int64_t number) {
    (void)number; /* rows are padded with zeros */
    const __m256i values = _mm256_loadu_si256((const __m256i *)(row + position / 2));
    return (reg)_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16);
}

/* Replace an entry of such a row in one lane. */
static inline void set_matmul_input(vec *row, int64_t position, int lane, float x) {
    (void)lane;
    const __m128i value = (__m128i)_mm_cvtneps_pbh(_mm_set_ss(x));
    _mm_storeu_si16((char *)row + 2 * position, value);
}

/* Pack a bfloat16 matrix whose outer entries are contiguous; its rows are padded to 32 of them. */
static void pack_bf16_rows(int64_t num_inner, int64_t num_outer, Matrix m, vec *to) {
    const int64_t panel = (num_inner + 1) / 2 * PANEL_ROWS;
    for (int64_t k = 0; k < num_inner; k += 2, to += PANEL_ROWS) {
        const vec *first = submatrix(m, k, 0).data;
        const vec *second = k + 1 < num_inner ? submatrix(m, k + 1, 0).data : 0;
        for (int64_t outer = 0; outer < num_outer; outer += 2 * PANEL_ROWS) {
            const __m512i even = _mm512_loadu_si512(first + outer / 2);
            const __m512i odd =
                second ? _mm512_loadu_si512(second + outer / 2) : _mm512_setzero_si512();
            vec *panels = to + outer / PANEL_ROWS * panel;
            _mm512_store_si512(panels, interleave_bf16_rows(even, odd, 0));
            if (outer + PANEL_ROWS < num_outer)
                _mm512_store_si512(panels + panel, interleave_bf16_rows(even, odd, PANEL_ROWS));
        }
    }
}

/* Pack a matrix whose outer entries are contiguous, in the order in which they are read. */
static void pack_rows(int64_t num_inner, int64_t num_outer, Matrix m, vec *to) {
    const int64_t panel = (num_inner + 1) / 2 * PANEL_ROWS;
    for (int64_t k = 0; k < num_inner; k += 2, to += PANEL_ROWS) {
        const vec *first = m.data + k * m.row_stride,
                  *second = k + 1 < num_inner ? first + m.row_stride : 0;
        for (int64_t outer = 0; outer < num_outer; outer += PANEL_ROWS)
            _mm512_store_si512(
                to + outer / PANEL_ROWS * panel,
                interleave_rows(num_outer - outer, first + outer, second ? second + outer : 0));
    }
}

/* Pack panels. Entry (inner, outer) is data[inner * row_stride + outer * column_stride], and one of
 * the strides is 1. */
static void pack_panels(int64_t num_inner, int64_t num_outer, Matrix m, vec *to) {
    const int64_t num_pairs = (num_inner + 1) / 2;
    if (m.column_stride == 1) {
        (m.is_bf16 ? pack_bf16_rows : pack_rows)(num_inner, num_outer, m, to);
        return;
    }
    for (int64_t outer = 0; outer < num_outer; outer += PANEL_ROWS, to += num_pairs * PANEL_ROWS) {
        const vec *from = m.data + outer * m.column_stride;
        const int64_t outer_left = num_outer - outer;
        for (int64_t k = 0; k < num_inner; k += 2 * PANEL_ROWS) {
            const int64_t left = num_pairs - k / 2;
            __m512i pairs[PANEL_ROWS];
#pragma GCC unroll 16
            for (int j = 0; j < PANEL_ROWS; j++)
                pairs[j] =
                    round_row(from + j * m.column_stride + k, j < outer_left ? num_inner - k : 0);
            transpose_16x16(pairs);
#pragma GCC unroll 16
            for (int j = 0; j < PANEL_ROWS; j++)
                if (j < left) _mm512_store_si512(to + (k / 2 + j) * PANEL_ROWS, pairs[j]);
        }
    }
}

/* Return a left operand in place if it is packed already, or a copy. */
static PackedLeft pack_left(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix m,
                            vec *copy) {
    (void)num_columns;
    const int64_t num_pairs = (num_inner + 1) / 2;
    if (m.column_stride != 1) {
        pack_panels(num_inner, num_rows, transposed(m), copy);
        return (PackedLeft){copy, 1, PANEL_ROWS, num_pairs * PANEL_ROWS};
    }
    if (m.is_bf16) return (PackedLeft){m.data, m.row_stride / 2, 1, PANEL_ROWS * m.row_stride / 2};
    const int64_t row = (num_pairs + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t k = 0; k < num_inner; k += 2 * PANEL_ROWS)
            _mm512_store_si512(copy + i * row + k / 2,
                               round_row(m.data + i * m.row_stride + k, num_inner - k));
    return (PackedLeft){copy, row, 1, PANEL_ROWS * row};
}

/* Size of a packed right operand. */
static int64_t packed_size(int64_t num_inner, int64_t num_columns) {
    return (num_inner + 1) / 2 * ((num_columns + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS);
}

/* Return a right operand with a packed copy, [inner / BLOCK_INNER][panel][pair][16]. */
static Matrix pack_matrix(int64_t num_inner, int64_t num_columns, Matrix m, vec *to) {
    for (int64_t k = 0; k < num_inner; k += BLOCK_INNER)
        pack_panels(num_inner - k < BLOCK_INNER ? num_inner - k : BLOCK_INNER, num_columns,
                    submatrix(m, k, 0), to + packed_size(k, num_columns));
    return (Matrix){m.data, m.row_stride, m.column_stride, m.is_bf16, to, num_inner, num_columns};
}

/* Return a block of a right operand. Matmul may read fewer rows than the packed copy has. */
static PackedRight pack_right(int64_t first, int64_t num_inner, int64_t first_column,
                              int64_t num_columns, int64_t padded_columns, Matrix whole,
                              vec *copy) {
    (void)padded_columns;
    if (!whole.packed) {
        pack_panels(num_inner, num_columns, submatrix(whole, first, first_column), copy);
        return (PackedRight){copy, PANEL_ROWS, (num_inner + 1) / 2 * PANEL_ROWS};
    }
    const int64_t left = whole.packed_rows - first;
    const int64_t num_pairs = ((left < BLOCK_INNER ? left : BLOCK_INNER) + 1) / 2;
    copy = whole.packed + packed_size(first, whole.packed_columns) + first_column * num_pairs;
    return (PackedRight){copy, PANEL_ROWS, num_pairs * PANEL_ROWS};
}
