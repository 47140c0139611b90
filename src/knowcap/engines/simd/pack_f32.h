/* Operands of matmul in float32: read in place, or copied where that is faster. */

#pragma once
#include "matrix.h"

/* Size of rows that only matmul reads, and the matrix of such rows. */
static int64_t matmul_input_size(int64_t num_rows, int64_t width) {
    return num_rows * width;
}

static Matrix matmul_input(vec *data, int64_t width) {
    return matrix(data, width);
}

/* Size of a float32 row that such a row may overwrite. */
static int64_t overwritten_size(int64_t width) {
    return width;
}

/* The matrix of such rows that overwrite float32 rows of this size. */
static Matrix matmul_input_in_place(vec *data, int64_t row_size) {
    return matrix(data, row_size);
}

/* Store the next of `number` remaining entries of such a row. */
static inline void store_matmul_input(vec *row, int64_t position, int64_t number, reg x) {
    store_reg(row + position, number, x);
}

/* Load the next of `number` remaining entries of such a row; missing ones are zero. */
static inline reg load_matmul_input(const vec *row, int64_t position, int64_t number) {
    return load_reg(row + position, number, 0.0f);
}

/* Replace an entry of such a row in one lane. */
static inline void set_matmul_input(vec *row, int64_t position, int lane, float x) {
    row[position][lane] = x;
}

/* Whether `number` entries at this stride evict one another from an L1 cache of 64 sets of 64
 * bytes, if they use half of its eight ways. */
static int has_cache_conflicts(int64_t number, int64_t stride) {
    const int64_t bytes = stride * (int64_t)sizeof(vec), power_of_two = bytes & -bytes;
    return number * (power_of_two < 4096 ? power_of_two : 4096) > 4 * 4096;
}

/* With one lane, consecutive entries are copied a register at a time; otherwise one by one. */
enum { IS_SCALAR = LANES == 1 };

/* Copy to [row / TILE_ROWS][inner][TILE_ROWS]. */
static PackedLeft copy_left(int64_t num_rows, int64_t num_inner, Matrix m, vec *copy) {
    vec *to = copy;
    for (int64_t i = 0; i < num_rows; i += TILE_ROWS, to += num_inner * TILE_ROWS) {
        const int64_t rows = num_rows - i < TILE_ROWS ? num_rows - i : TILE_ROWS;
        const vec *from = m.data + i * m.row_stride;
        if (IS_SCALAR && m.row_stride == 1 && rows == TILE_ROWS)
            for (int64_t k = 0; k < num_inner; k++)
                memcpy(to + k * TILE_ROWS, from + k * m.column_stride, TILE_ROWS * sizeof(vec));
        else
            for (int64_t r = 0; r < rows; r++, from += m.row_stride)
                for (int64_t k = 0; k < num_inner; k++)
                    to[k * TILE_ROWS + r] = from[k * m.column_stride];
    }
    return (PackedLeft){copy, 1, TILE_ROWS, TILE_ROWS * num_inner};
}

/* Copy to [inner][column]; padding columns are zero. */
static PackedRight copy_right(int64_t num_inner, int64_t num_columns, int64_t padded_columns,
                              Matrix m, vec *copy) {
    const int64_t block = IS_SCALAR && m.row_stride == 1 ? VECTORS_PER_REGISTER : 0;
    const int64_t transposed_inner = block ? num_inner / VECTORS_PER_REGISTER * block : 0;
    const int64_t transposed_columns = block ? num_columns / VECTORS_PER_REGISTER * block : 0;
    for (int64_t j = 0; j < transposed_columns; j += VECTORS_PER_REGISTER)
        for (int64_t k = 0; k < transposed_inner; k += VECTORS_PER_REGISTER)
            transpose_block(m.data + j * m.column_stride + k, m.column_stride,
                            copy + k * padded_columns + j, padded_columns);
    for (int64_t k = 0; k < num_inner; k++) {
        const vec *from = m.data + k * m.row_stride;
        vec *to = copy + k * padded_columns;
        int64_t j = k < transposed_inner ? transposed_columns : 0;
        for (; IS_SCALAR && m.column_stride == 1 && j + VECTORS_PER_REGISTER <= num_columns;
             j += VECTORS_PER_REGISTER)
            memcpy(to + j, from + j, sizeof(reg));
        for (; j < num_columns; j++) to[j] = from[j * m.column_stride];
        for (; j < padded_columns; j++) to[j] = (vec){};
    }
    return (PackedRight){copy, padded_columns, VECTORS_PER_REGISTER};
}

/* Tiles that must read a left operand before copying it pays. */
enum { MIN_TILES_TO_COPY = 8 };

/* Return a left operand in place, or a copy. */
static PackedLeft pack_left(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix m,
                            vec *copy) {
    if (num_columns > MIN_TILES_TO_COPY * TILE_COLUMNS
        && has_cache_conflicts(num_inner, m.column_stride))
        return copy_left(num_rows, num_inner, m, copy);
    return (PackedLeft){m.data, m.row_stride, m.column_stride, TILE_ROWS * m.row_stride};
}

/* Size of a packed right operand: zero, since matmul copies only the blocks that need it. */
static int64_t packed_size(int64_t num_inner, int64_t num_columns) {
    return (void)num_inner, (void)num_columns, 0;
}

static Matrix pack_matrix(int64_t num_inner, int64_t num_columns, Matrix m, vec *to) {
    return (void)num_inner, (void)num_columns, (void)to, m;
}

/* Return a block of a right operand in place, or a copy. */
static PackedRight pack_right(int64_t first, int64_t num_inner, int64_t first_column,
                              int64_t num_columns, int64_t padded_columns, Matrix whole,
                              vec *copy) {
    const Matrix m = submatrix(whole, first, first_column);
    if (m.column_stride != 1 || num_columns < padded_columns
        || has_cache_conflicts(num_inner, m.row_stride))
        return copy_right(num_inner, num_columns, padded_columns, m, copy);
    return (PackedRight){m.data, m.row_stride, VECTORS_PER_REGISTER};
}
