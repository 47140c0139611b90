/* Products of matrices of vectors. */

#ifdef BFLOAT16
#include "pack_bf16.h"
#else
#include "pack_f32.h"
#endif

#if LANES == 1
#define EACH_ROWS ROWS_OF_TILE(1) ROWS_OF_TILE(2) ROWS_OF_TILE(3) ROWS_OF_TILE(4)
#define EACH_WIDES WIDES(1) WIDES(2) WIDES(3)
#else
#define EACH_ROWS ROWS_OF_TILE(1) ROWS_OF_TILE(2)
#define EACH_WIDES WIDES(1) WIDES(2) WIDES(3) WIDES(4) WIDES(5) WIDES(6)
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

typedef struct { /* out[rows, columns] = left[rows, inner] @ right[inner, columns] + bias, or + out */
    int64_t num_rows, num_inner, num_columns;
    Left left;
    Right right;
    const lanes *bias;
    Matrix out;
    int add;
} Strip;

/* So many rows of a strip that is so many vectors wide, from `first` on. */
static inline __attribute__((always_inline)) void tile(const int rows, const int wides, Strip s,
                                                       int64_t first) {
    wide sum[TILE_ROWS][TILE_WIDES];
    lanes edge[TILE_ROWS][TILE_COLUMNS], *out = s.out.data + first * s.out.row;
    Left left = s.left;
    left.data += first / PANEL * left.panel + first % PANEL * left.row;
    const int is_whole = s.num_columns == wides * ABREAST;
    const Matrix to = is_whole ? matrix(out, s.out.row) : matrix(edge[0], TILE_COLUMNS);
    if (!is_whole && (s.add || s.bias)) {
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < s.num_columns; j++)
                edge[i][j] = (s.add ? out[i * s.out.row + j] : (lanes){})
                             + (s.bias ? s.bias[j] : (lanes){});
        s.add = 1, s.bias = 0;
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            if (s.add)
                memcpy(&sum[i][j], to.data + i * to.row + j * ABREAST, sizeof(wide));
            else
                sum[i][j] = (wide){};
    if (s.bias)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++) {
            const wide its = load(s.bias + j * ABREAST, ABREAST, 0.0f);
#pragma GCC unroll 6
            for (int i = 0; i < rows; i++) sum[i][j] += its;
        }
    for (int64_t k = 0; k < s.num_inner; k++, left.data += left.step, s.right.data += s.right.row)
        add_products(rows, wides, left, s.right, sum);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < wides; j++)
            memcpy(to.data + i * to.row + j * ABREAST, &sum[i][j], sizeof(wide));
    if (!is_whole)
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < s.num_columns; j++) out[i * s.out.row + j] = edge[i][j];
}

static inline __attribute__((always_inline)) void tiles(const int wides, Strip s) {
    for (int64_t i = 0; i < s.num_rows; i += TILE_ROWS) {
        if (LANES == 1) /* the next tile's sums lie far from this one's */
            for (int64_t r = i + TILE_ROWS; r < i + 2 * TILE_ROWS; r++)
                for (int64_t j = 0; j < s.num_columns; j += 16)
                    __builtin_prefetch(s.out.data + r * s.out.row + j, 1);
#define ROWS_OF_TILE(m)       \
    case m:                   \
        tile(m, wides, s, i); \
        break;
        switch (s.num_rows - i < TILE_ROWS ? s.num_rows - i : TILE_ROWS) { EACH_ROWS }
#undef ROWS_OF_TILE
    }
}

/* A function for each width, so that each has all the registers. */
#define WIDES(n) \
    static __attribute__((noinline)) void strip_##n(const Strip *s) { tiles(n, *s); }
EACH_WIDES
#undef WIDES

static void strip(const Strip *s) {
#define WIDES(n)      \
    case n:           \
        strip_##n(s); \
        break;
    switch ((s->num_columns + ABREAST - 1) / ABREAST) { EACH_WIDES }
#undef WIDES
}

/* out = left @ right + bias, or out += that; what is in a row of out follows one another. */
static void biased_product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                           Matrix right, const lanes *bias, Matrix out, int add) {
    lanes rows[ROWS * INNER / NUMBERS] __attribute__((aligned(64)));
    lanes columns[INNER / NUMBERS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (int64_t i = 0; i < num_rows; i += ROWS)
        for (int64_t k = 0; k < num_inner; k += INNER) {
            const int64_t height = num_rows - i < ROWS ? num_rows - i : ROWS;
            const int64_t depth = num_inner - k < INNER ? num_inner - k : INNER;
            Strip s = {.num_rows = height, .num_inner = (depth + NUMBERS - 1) / NUMBERS};
            s.left = left_factor(height, depth, num_columns, part(left, i, k), rows);
            s.add = add || k;
            for (int64_t j = 0; j < num_columns; j += s.num_columns) {
                const int64_t left_over = (num_columns - j + ABREAST - 1) / ABREAST;
                const int64_t num_strips = (left_over + TILE_WIDES - 1) / TILE_WIDES;
                const int64_t with_rest = (left_over + num_strips - 1) / num_strips * ABREAST;
                s.num_columns = num_columns - j < with_rest ? num_columns - j : with_rest;
                s.right = right_factor(k, depth, j, s.num_columns, with_rest, right, columns);
                s.bias = bias && !k ? bias + j : 0;
                s.out = part(out, i, j);
                strip(&s);
            }
        }
}

static void product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                    Matrix right, Matrix out, int add) {
    biased_product(num_rows, num_inner, num_columns, left, right, 0, out, add);
}
