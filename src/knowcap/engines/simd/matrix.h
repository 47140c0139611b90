/* Matrices of vecs, and the blocks of them that matmul reads. */

#pragma once
#include "transpose.h"

typedef struct { /* entry (i, j) is data[i * row_stride + j * column_stride] */
    vec *data;
    int64_t row_stride, column_stride;
    int is_bf16; /* entries are bfloat16: two of them in the space of a float */
    vec *packed; /* copy of the whole matrix in the order that matmul reads, or NULL */
    int64_t packed_rows, packed_columns;
} Matrix;

static inline Matrix matrix(vec *data, int64_t row_stride) {
    return (Matrix){.data = data, .row_stride = row_stride, .column_stride = 1};
}

static inline Matrix transposed(Matrix m) {
    return (Matrix){.data = m.data,
                    .row_stride = m.column_stride,
                    .column_stride = m.row_stride,
                    .is_bf16 = m.is_bf16};
}

static inline Matrix submatrix(Matrix m, int64_t first_row, int64_t first_column) {
    const int64_t first = first_row * m.row_stride + first_column * m.column_stride;
    vec *data = m.data + (m.is_bf16 ? first / 2 : first);
    return (Matrix){data, m.row_stride, m.column_stride, m.is_bf16, 0, 0, 0};
}

static inline Matrix rows_from(Matrix m, int64_t num_rows) {
    return submatrix(m, num_rows, 0);
}

/* Values in an entry of a packed matrix, and rows in one of its panels. */
#ifdef BFLOAT16
enum { VALUES_PER_ENTRY = 2, PANEL_ROWS = 16 };
#else
enum { VALUES_PER_ENTRY = 1, PANEL_ROWS = LANES == 1 ? 4 : 2 };
#endif

/* A tile keeps its sums in registers: twelve of AVX2's sixteen, and sixteen of the 32 of AVX-512,
 * because two units that take six cycles for a product in bfloat16 need at least twelve sums, and
 * widths of 64 are then whole tiles. Operands are read in place, or from a packed copy where their
 * rows would evict one another from the cache. The BLOCK_INNER x TILE_COLUMNS block of the right
 * operand stays in the L1 cache, the BLOCK_ROWS x BLOCK_INNER block of the left one in L2. With one
 * lane, BLOCK_INNER covers a row of a wide model. */
#if LANES == 1
enum {
    TILE_ROWS = 4,
    TILE_REGISTERS = VECTORS_PER_REGISTER == 16 ? 4 : 3,
    BLOCK_ROWS = 256,
    BLOCK_INNER = VALUES_PER_ENTRY * 2048 / VECTORS_PER_REGISTER
};
#else
enum { TILE_ROWS = 2, TILE_REGISTERS = 6, BLOCK_ROWS = 64, BLOCK_INNER = 64 };
#endif
enum { TILE_COLUMNS = TILE_REGISTERS * VECTORS_PER_REGISTER };

typedef struct { /* strides between rows of a panel, entries of a row, and panels */
    const vec *data;
    int64_t row_stride, inner_stride, panel_stride;
} PackedLeft;

typedef struct { /* strides between rows, and between registers of a row */
    const vec *data;
    int64_t row_stride, register_stride;
} PackedRight;
