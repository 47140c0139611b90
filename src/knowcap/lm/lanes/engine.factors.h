/* Matrices of vectors, and copies of parts of them as products read them. */

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
 * out of the cache. What tiles read of a right factor, INNER x TILE_COLUMNS, stays in the first
 * level of it, and what they read of a left one, ROWS x INNER, in the second. Entries of one lane
 * are so short that sums go over a row of a wide model before they go back to memory. */
#if LANES == 1
enum { TILE_ROWS = 4, TILE_WIDES = 3, ROWS = 256, INNER = 2048 / ABREAST };
#else
enum { TILE_ROWS = 2, TILE_WIDES = 6, ROWS = 64, INNER = 64 };
#endif
enum { TILE_COLUMNS = TILE_WIDES * ABREAST };

typedef struct { /* from a row of a tile to the next, along a row, and from a tile to the next */
    const lanes *data;
    int64_t row, step, tile;
} Left;

typedef struct {
    const lanes *data;
    int64_t row;
} Right;

/* Whether so many entries, so far apart, take each other's places in a first-level cache of 64 sets
 * of 64 bytes, half of whose eight ways are theirs. */
static int collides(int64_t number, int64_t distance) {
    const int64_t bytes = distance * (int64_t)sizeof(lanes), power_of_two = bytes & -bytes;
    return number * (power_of_two < 4096 ? power_of_two : 4096) > 4 * 4096;
}

/* Entries that are vectors themselves are copied one by one, numbers as many at a time as follow one
 * another. */
enum { IS_NUMBER = LANES == 1 };

/* [row / TILE_ROWS][inner][TILE_ROWS] */
static Left copy_left(int64_t num_rows, int64_t num_inner, Matrix m, lanes *copy) {
    lanes *to = copy;
    for (int64_t i = 0; i < num_rows; i += TILE_ROWS, to += num_inner * TILE_ROWS) {
        const int64_t rows = num_rows - i < TILE_ROWS ? num_rows - i : TILE_ROWS;
        const lanes *from = m.data + i * m.row;
        if (IS_NUMBER && m.row == 1 && rows == TILE_ROWS)
            for (int64_t k = 0; k < num_inner; k++)
                memcpy(to + k * TILE_ROWS, from + k * m.column, TILE_ROWS * sizeof(lanes));
        else
            for (int64_t r = 0; r < rows; r++, from += m.row)
                for (int64_t k = 0; k < num_inner; k++) to[k * TILE_ROWS + r] = from[k * m.column];
    }
    return (Left){copy, 1, TILE_ROWS, TILE_ROWS * num_inner};
}

/* to[k][j] = from[j][k] of numbers, as many each way as lie abreast. */
static inline void turn(const lanes *from, int64_t from_row, lanes *to, int64_t to_row) {
#if defined __AVX__ && LANES == 1 && ABREAST == 8
    __m256 x[8], y[8];
    for (int j = 0; j < 8; j++) x[j] = _mm256_loadu_ps((const float *)(from + j * from_row));
    for (int j = 0; j < 8; j += 2) { /* pairs of two rows, then fours of four, then eights */
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
    for (int k = 0; k < ABREAST; k++)
        for (int j = 0; j < ABREAST; j++) to[k * to_row + j] = from[j * from_row + k];
#endif
}

/* [inner][column], zero in columns that are left over. */
static Right copy_right(int64_t num_inner, int64_t num_columns, int64_t num_copied, Matrix m,
                        lanes *copy) {
    const int64_t turned_inner = IS_NUMBER && m.row == 1 ? num_inner / ABREAST * ABREAST : 0;
    const int64_t turned_columns = IS_NUMBER && m.row == 1 ? num_columns / ABREAST * ABREAST : 0;
    for (int64_t j = 0; j < turned_columns; j += ABREAST)
        for (int64_t k = 0; k < turned_inner; k += ABREAST)
            turn(m.data + j * m.column + k, m.column, copy + k * num_copied + j, num_copied);
    for (int64_t k = 0; k < num_inner; k++) {
        const lanes *from = m.data + k * m.row;
        lanes *to = copy + k * num_copied;
        int64_t j = k < turned_inner ? turned_columns : 0;
        for (; IS_NUMBER && m.column == 1 && j + ABREAST <= num_columns; j += ABREAST)
            memcpy(to + j, from + j, sizeof(wide));
        for (; j < num_columns; j++) to[j] = from[j * m.column];
        for (; j < num_copied; j++) to[j] = (lanes){};
    }
    return (Right){copy, num_copied};
}
