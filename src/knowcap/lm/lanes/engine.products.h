/* Products of matrices of vectors. */

#include "engine.vectors.h"

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

static inline Matrix part(Matrix m, int64_t first_row, int64_t first_column) {
    return (Matrix){m.data + first_row * m.row + first_column * m.column, m.row, m.column};
}

static inline Matrix below(Matrix m, int64_t num_rows) {
    return (Matrix){m.data + num_rows * m.row, m.row, m.column};
}

/* Twelve sums of a tile stay in registers, of sixteen. Its factors are read where they are, or
 * copied to where they follow one another: rows that lie a power of two apart would push each other
 * out of the cache. */
enum { TILE_ROWS = 2, TILE_WIDES = 6, TILE_COLUMNS = TILE_WIDES * ABREAST, ROWS = 64, INNER = 64 };

/* Tiles that read a left factor before a copy of it pays. */
enum { OFTEN = 8 };

/* The compiler would rather read a factor again for each sum than keep it. */
#ifdef __AVX__
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define IN_REGISTER(x)
#endif

typedef struct { /* from a row of a tile to the next, along a row, and from a tile to the next */
    const lanes *data;
    int64_t row, step, tile;
} Left;

typedef struct {
    const lanes *data;
    int64_t row;
} Right;

/* out[rows, wides] = left[rows, inner] @ right[inner, wides], or added to it. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int wides, int64_t num_inner, Left left, Right right, int64_t num_columns,
    lanes *out, int64_t row, int add) {
    wide sum[TILE_ROWS][TILE_WIDES];
    lanes edge[TILE_ROWS][TILE_COLUMNS];
    const int is_whole = num_columns == wides * ABREAST;
    lanes *to = is_whole ? out : edge[0];
    const int64_t to_row = is_whole ? row : TILE_COLUMNS;
    if (add && !is_whole)
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < num_columns; j++) edge[i][j] = out[i * row + j];
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            if (add)
                memcpy(&sum[i][j], to + i * to_row + j * ABREAST, sizeof(wide));
            else
                sum[i][j] = (wide){};
    for (int64_t k = 0; k < num_inner; k++, left.data += left.step, right.data += right.row) {
        wide factor[TILE_ROWS];
#pragma GCC unroll 2
        for (int i = 0; i < rows; i++) {
            factor[i] = spread_from(left.data + i * left.row);
            IN_REGISTER(factor[i]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++) {
            wide other = load(right.data + j * ABREAST, ABREAST, 0.0f);
            IN_REGISTER(other);
#pragma GCC unroll 2
            for (int i = 0; i < rows; i++) sum[i][j] += factor[i] * other;
        }
    }
#pragma GCC unroll 2
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            memcpy(to + i * to_row + j * ABREAST, &sum[i][j], sizeof(wide));
    if (!is_whole)
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < num_columns; j++) out[i * row + j] = edge[i][j];
}

/* Whether so many entries, so far apart, take each other's places in a first-level cache of 64 sets
 * of 64 bytes, half of whose eight ways are theirs. */
static int collides(int64_t number, int64_t distance) {
    const int64_t bytes = distance * (int64_t)sizeof(lanes), power_of_two = bytes & -bytes;
    return number * (power_of_two < 4096 ? power_of_two : 4096) > 4 * 4096;
}

/* [row / TILE_ROWS][inner][TILE_ROWS] */
static Left copy_left(int64_t num_rows, int64_t num_inner, Matrix m, lanes *copy) {
    lanes *to = copy;
    for (int64_t i = 0; i < num_rows; i += TILE_ROWS, to += num_inner * TILE_ROWS) {
        int64_t rows = num_rows - i < TILE_ROWS ? num_rows - i : TILE_ROWS;
        for (int64_t r = 0; r < rows; r++) {
            const lanes *from = m.data + (i + r) * m.row;
            for (int64_t k = 0; k < num_inner; k++) to[k * TILE_ROWS + r] = from[k * m.column];
        }
    }
    return (Left){copy, 1, TILE_ROWS, TILE_ROWS * num_inner};
}

/* [inner][column], zero in columns that are left over. */
static Right copy_right(int64_t num_inner, int64_t num_columns, int64_t num_copied, Matrix m,
                        lanes *copy) {
    lanes *to = copy;
    for (int64_t k = 0; k < num_inner; k++, to += num_copied) {
        const lanes *from = m.data + k * m.row;
        for (int64_t j = 0; j < num_columns; j++) to[j] = from[j * m.column];
        for (int64_t j = num_columns; j < num_copied; j++) to[j] = (lanes){};
    }
    return (Right){copy, num_copied};
}

static void tiles(int64_t num_rows, int64_t num_inner, int64_t num_columns, Left left,
                  Right right, lanes *out, int64_t row, int add) {
    const int64_t wides = (num_columns + ABREAST - 1) / ABREAST;
    for (int64_t i = 0; i < num_rows; i += TILE_ROWS, left.data += left.tile) {
        const int64_t rows = num_rows - i < TILE_ROWS ? num_rows - i : TILE_ROWS;
        lanes *o = out + i * row;
#define TILE(m, n)                                                     \
    case TILE_WIDES * m + n:                                           \
        tile(m, n, num_inner, left, right, num_columns, o, row, add);  \
        break;
        switch (TILE_WIDES * rows + wides) {
            TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6)
            TILE(2, 1) TILE(2, 2) TILE(2, 3) TILE(2, 4) TILE(2, 5) TILE(2, 6)
        }
#undef TILE
    }
}

/* out = left @ right, or out += left @ right; what is in a row of out follows one another. */
static void product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                    Matrix right, Matrix out, int add) {
    lanes rows[ROWS * INNER], columns[INNER * TILE_COLUMNS];
    for (int64_t i = 0; i < num_rows; i += ROWS)
        for (int64_t k = 0; k < num_inner; k += INNER) {
            const int64_t height = num_rows - i < ROWS ? num_rows - i : ROWS;
            const int64_t depth = num_inner - k < INNER ? num_inner - k : INNER;
            const Matrix l = part(left, i, k);
            Left from_left = {l.data, l.row, l.column, TILE_ROWS * l.row};
            if (num_columns > OFTEN * TILE_COLUMNS && collides(depth, l.column))
                from_left = copy_left(height, depth, l, rows);
            for (int64_t j = 0, width; j < num_columns; j += width) {
                const int64_t left_over = (num_columns - j + ABREAST - 1) / ABREAST;
                const int64_t num_tiles = (left_over + TILE_WIDES - 1) / TILE_WIDES;
                const int64_t copied = (left_over + num_tiles - 1) / num_tiles * ABREAST;
                width = num_columns - j < copied ? num_columns - j : copied;
                const Matrix r = part(right, k, j);
                Right from_right = {r.data, r.row};
                if (r.column != 1 || width < copied || collides(depth, r.row))
                    from_right = copy_right(depth, width, copied, r, columns);
                tiles(height, depth, width, from_left, from_right, part(out, i, j).data, out.row,
                      add || k);
            }
        }
}
