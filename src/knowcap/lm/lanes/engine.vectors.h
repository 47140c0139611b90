/* Vectors with a number of each model, and products of matrices of them. */

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* ---- arithmetic ---- */

static inline lanes all(float x) {
    return x - (lanes){};
}

static inline lanes choose(ints condition, lanes a, lanes b) {
    return (lanes)((condition & (ints)a) | (~condition & (ints)b));
}

/* What is not a number stays so where it is the second. */
static inline lanes larger(lanes a, lanes b) {
    return choose(a > b, a, b);
}

static inline lanes smaller(lanes a, lanes b) {
    return choose(a < b, a, b);
}

static inline lanes root(lanes x) {
    for (int lane = 0; lane < LANES; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

/* exp to two units in the last place, by a polynomial on [-ln 2 / 2, ln 2 / 2] and a shift of the
 * exponent. Below -87 it is as at -87. */
static inline lanes exponential(lanes x) {
    x = smaller(all(88.0f), larger(all(-87.0f), x));
    const lanes shifter = all(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    lanes whole = (x * 1.44269504f + shifter) - shifter;
    lanes part = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    lanes sum = all(1.9875691500e-4f);
    sum = sum * part + 1.3981999507e-3f;
    sum = sum * part + 8.3334519073e-3f;
    sum = sum * part + 4.1665795894e-2f;
    sum = sum * part + 1.6666665459e-1f;
    sum = sum * part + 5.0000001201e-1f;
    sum = sum * part * part + part + 1.0f;
    ints exponent = (__builtin_convertvector(whole, ints) + 127) << 23;
    return sum * (lanes)exponent;
}

/* gelu and its derivative, with erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline lanes gelu(lanes x, lanes *derivative) {
    lanes size = larger(-x, x);
    lanes t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    lanes density = exponential(-0.5f * x * x);
    lanes tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                  + 0.254829592f) * t * density * 0.5f;
    lanes cumulative = choose(x < 0.0f, tail, 1.0f - tail);
    *derivative = cumulative + x * density * 0.39894228f;
    return x * cumulative;
}

static inline lanes silu(lanes x, lanes *derivative) {
    lanes sigmoid = 1.0f / (1.0f + exponential(-x));
    *derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
    return x * sigmoid;
}

/* ---- products of matrices ---- */

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

static inline Matrix below(Matrix m, int64_t num_rows) {
    return (Matrix){m.data + num_rows * m.row, m.row, m.column};
}

/* The compiler would rather read a factor again for each sum than keep it. */
#ifdef __AVX__
#define IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define IN_REGISTER(x)
#endif

/* rows x columns of out: their sums stay in registers, twelve of sixteen. */
static inline __attribute__((always_inline)) void tile(
    const int rows, const int columns, int64_t num_inner, Matrix left, Matrix right, Matrix out,
    int add) {
    lanes sum[4][3];
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++)
            sum[i][j] = add ? out.data[i * out.row + j * out.column] : (lanes){};
    const lanes *a = left.data, *b = right.data;
    for (int64_t k = 0; k < num_inner; k++, a += left.column, b += right.row) {
        lanes factor[3];
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++) {
            factor[j] = b[j * right.column];
            IN_REGISTER(factor[j]);
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            lanes other = a[i * left.row];
#pragma GCC unroll 3
            for (int j = 0; j < columns; j++) sum[i][j] += other * factor[j];
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
        for (int j = 0; j < columns; j++) out.data[i * out.row + j * out.column] = sum[i][j];
}

/* out = left @ right, or out += left @ right. */
static void product(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                    Matrix right, Matrix out, int add) {
    for (int64_t j = 0; j < num_columns; j += 3) {
        Matrix r = {right.data + j * right.column, right.row, right.column};
        for (int64_t i = 0; i < num_rows; i += 4) {
            Matrix l = below(left, i);
            Matrix o = {out.data + i * out.row + j * out.column, out.row, out.column};
            int64_t rows = num_rows - i < 4 ? num_rows - i : 4;
            int64_t columns = num_columns - j < 3 ? num_columns - j : 3;
#define TILE(m, n)                           \
    case 4 * m + n:                          \
        tile(m, n, num_inner, l, r, o, add); \
        break;
            switch (4 * rows + columns) {
                TILE(1, 1) TILE(1, 2) TILE(1, 3) TILE(2, 1) TILE(2, 2) TILE(2, 3)
                TILE(3, 1) TILE(3, 2) TILE(3, 3) TILE(4, 1) TILE(4, 2) TILE(4, 3)
            }
#undef TILE
        }
    }
}
