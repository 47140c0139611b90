/* Products of matrices of vectors. */

#ifdef BFLOAT16
#include "engine.pairs.h"
#else
#include "engine.numbers.h"
#endif

#if LANES == 1
#define EACH_TILE T(1, 1) T(1, 2) T(1, 3) T(2, 1) T(2, 2) T(2, 3) \
                  T(3, 1) T(3, 2) T(3, 3) T(4, 1) T(4, 2) T(4, 3)
#else
#define EACH_TILE T(1, 1) T(1, 2) T(1, 3) T(1, 4) T(1, 5) T(1, 6) \
                  T(2, 1) T(2, 2) T(2, 3) T(2, 4) T(2, 5) T(2, 6)
#endif

enum { SHORT_SIDE = TILE_ROWS < TILE_WIDES ? TILE_ROWS : TILE_WIDES };

/* The compiler would rather read a factor again for each sum than keep it. */
#if defined __AVX512F__
#define IN_REGISTER(x) __asm__("" : "+v"(x))
#elif defined __AVX__
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define IN_REGISTER(x)
#endif

static inline wide multiply_add(wide sum, wide a, wide b) {
#ifdef BFLOAT16
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
    return sum + a * b;
#endif
}

/* sum[rows, wides] += left[rows] x right[wides]. What comes from the shorter side of a tile waits in
 * registers for the other. */
static inline __attribute__((always_inline)) void add_products(const int rows, const int wides,
                                                               Left left, Right right,
                                                               wide sum[TILE_ROWS][TILE_WIDES]) {
    wide side[SHORT_SIDE];
    if (TILE_ROWS < TILE_WIDES) {
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            side[i] = spread_from(left.data + i * left.row);
            IN_REGISTER(side[i]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++) {
            wide other = load(right.data + j * right.wide, ABREAST, 0.0f);
            IN_REGISTER(other);
#pragma GCC unroll 6
            for (int i = 0; i < rows; i++)
                sum[i][j] = multiply_add(sum[i][j], side[i], other);
        }
    } else {
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++) {
            side[j] = load(right.data + j * right.wide, ABREAST, 0.0f);
            IN_REGISTER(side[j]);
        }
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            wide other = spread_from(left.data + i * left.row);
            IN_REGISTER(other);
#pragma GCC unroll 6
            for (int j = 0; j < wides; j++)
                sum[i][j] = multiply_add(sum[i][j], other, side[j]);
        }
    }
}

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
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            if (add)
                memcpy(&sum[i][j], to + i * to_row + j * ABREAST, sizeof(wide));
            else
                sum[i][j] = (wide){};
    for (int64_t k = 0; k < num_inner; k++, left.data += left.step, right.data += right.row)
        add_products(rows, wides, left, right, sum);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            memcpy(to + i * to_row + j * ABREAST, &sum[i][j], sizeof(wide));
    if (!is_whole)
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < num_columns; j++) out[i * row + j] = edge[i][j];
}

static void tiles(int64_t num_rows, int64_t num_inner, int64_t num_columns, Left left,
                  Right right, lanes *out, int64_t row, int add) {
    const int64_t wides = (num_columns + ABREAST - 1) / ABREAST;
    for (int64_t i = 0; i < num_rows; i += TILE_ROWS) {
        const int64_t rows = num_rows - i < TILE_ROWS ? num_rows - i : TILE_ROWS;
        const Left its = {left.data + i / PANEL * left.panel + i % PANEL * left.row, left.row,
                          left.step, left.panel};
        lanes *o = out + i * row;
        if (LANES == 1) /* the next tile's sums lie far from this one's */
            for (int64_t r = TILE_ROWS; r < 2 * TILE_ROWS; r++)
                for (int64_t j = 0; j < num_columns; j += 16)
                    __builtin_prefetch(o + r * row + j, 1);
#define T(m, n)                                                        \
    case TILE_WIDES * m + n:                                           \
        tile(m, n, num_inner, its, right, num_columns, o, row, add);  \
        break;
        switch (TILE_WIDES * rows + wides) { EACH_TILE }
#undef T
    }
}

/* out = left @ right, or out += left @ right; what is in a row of out follows one another. */
static void product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                    Matrix right, Matrix out, int add) {
    lanes rows[ROWS * INNER / NUMBERS] __attribute__((aligned(64)));
    lanes columns[INNER / NUMBERS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (int64_t i = 0; i < num_rows; i += ROWS)
        for (int64_t k = 0; k < num_inner; k += INNER) {
            const int64_t height = num_rows - i < ROWS ? num_rows - i : ROWS;
            const int64_t depth = num_inner - k < INNER ? num_inner - k : INNER;
            const int64_t entries = (depth + NUMBERS - 1) / NUMBERS;
            const Left from_left = left_factor(height, depth, num_columns, part(left, i, k), rows);
            for (int64_t j = 0, width; j < num_columns; j += width) {
                const int64_t left_over = (num_columns - j + ABREAST - 1) / ABREAST;
                const int64_t num_tiles = (left_over + TILE_WIDES - 1) / TILE_WIDES;
                const int64_t copied = (left_over + num_tiles - 1) / num_tiles * ABREAST;
                width = num_columns - j < copied ? num_columns - j : copied;
                const Right from_right =
                    right_factor(k, depth, j, width, copied, num_columns, right, columns);
                tiles(height, entries, width, from_left, from_right, part(out, i, j).data, out.row,
                      add || k);
            }
        }
}
