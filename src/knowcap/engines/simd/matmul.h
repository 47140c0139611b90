/* Matrix products, one per lane. */

#pragma once
#ifdef BFLOAT16
#include "pack_bf16.h"
#else
#include "pack_f32.h"
#endif

#if LANES == 1
#define FOR_EACH_NUM_ROWS ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#ifdef __AVX512F__
#define FOR_EACH_NUM_REGISTERS REGISTERS(1) REGISTERS(2) REGISTERS(3) REGISTERS(4)
#else
#define FOR_EACH_NUM_REGISTERS REGISTERS(1) REGISTERS(2) REGISTERS(3)
#endif
#else
#define FOR_EACH_NUM_ROWS ROWS(1) ROWS(2)
#define FOR_EACH_NUM_REGISTERS                                                                     \
    REGISTERS(1) REGISTERS(2) REGISTERS(3) REGISTERS(4) REGISTERS(5) REGISTERS(6)
#endif

enum { SHORT_SIDE = TILE_ROWS < TILE_REGISTERS ? TILE_ROWS : TILE_REGISTERS };

/* Stops the compiler from loading an operand again for each sum. */
#if defined __AVX512F__
#define KEEP_IN_REGISTER(x) __asm__("" : "+v"(x))
#elif defined __AVX__
#define KEEP_IN_REGISTER(x) __asm__("" : "+x"(x))
#else
#define KEEP_IN_REGISTER(x)
#endif

static inline reg multiply_add(reg sum, reg a, reg b) {
#ifdef BFLOAT16
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
#else
    return sum + a * b;
#endif
}

/* sum[rows, num_regs] += left[rows] x right[num_regs]; the operand with fewer registers is loaded
 * first and kept. */
static inline __attribute__((always_inline)) void
accumulate_tile(const int rows, const int num_regs, PackedLeft left, PackedRight right,
                reg sum[TILE_ROWS][TILE_REGISTERS]) {
    reg side[SHORT_SIDE];
    if (TILE_ROWS < TILE_REGISTERS) {
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            side[i] = broadcast_from(left.data + i * left.row_stride);
            KEEP_IN_REGISTER(side[i]);
        }
#pragma GCC unroll 6
        for (int j = 0; j < num_regs; j++) {
            reg other =
                load_reg(right.data + j * right.register_stride, VECTORS_PER_REGISTER, 0.0f);
            KEEP_IN_REGISTER(other);
#pragma GCC unroll 6
            for (int i = 0; i < rows; i++) sum[i][j] = multiply_add(sum[i][j], side[i], other);
        }
    } else {
#pragma GCC unroll 6
        for (int j = 0; j < num_regs; j++) {
            side[j] = load_reg(right.data + j * right.register_stride, VECTORS_PER_REGISTER, 0.0f);
            KEEP_IN_REGISTER(side[j]);
        }
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            reg other = broadcast_from(left.data + i * left.row_stride);
            KEEP_IN_REGISTER(other);
#pragma GCC unroll 6
            for (int j = 0; j < num_regs; j++) sum[i][j] = multiply_add(sum[i][j], other, side[j]);
        }
    }
}

/* out[rows, columns] = left[rows, inner] @ right[inner, columns] + bias, or += if `add`. */
typedef struct {
    int64_t num_rows, num_inner, num_columns;
    PackedLeft left;
    PackedRight right;
    const vec *bias;
    Matrix out;
    int add;
} Strip;

/* Compute `rows` rows of a strip from row `first`; the strip is `num_regs` registers wide. */
static inline __attribute__((always_inline)) void compute_tile(const int rows, const int num_regs,
                                                               Strip s, int64_t first) {
    reg sum[TILE_ROWS][TILE_REGISTERS];
    vec edge[TILE_ROWS][TILE_COLUMNS], *out = s.out.data + first * s.out.row_stride;
    PackedLeft left = s.left;
    left.data += first / PANEL_ROWS * left.panel_stride + first % PANEL_ROWS * left.row_stride;
    const int is_whole = s.num_columns == num_regs * VECTORS_PER_REGISTER;
    const Matrix to = is_whole ? matrix(out, s.out.row_stride) : matrix(edge[0], TILE_COLUMNS);
    if (!is_whole && (s.add || s.bias)) {
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < s.num_columns; j++)
                edge[i][j] = (s.add ? out[i * s.out.row_stride + j] : (vec){})
                             + (s.bias ? s.bias[j] : (vec){});
        s.add = 1, s.bias = 0;
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < num_regs; j++)
            if (s.add)
                memcpy(&sum[i][j], to.data + i * to.row_stride + j * VECTORS_PER_REGISTER,
                       sizeof(reg));
            else
                sum[i][j] = (reg){};
    if (s.bias)
#pragma GCC unroll 6
        for (int j = 0; j < num_regs; j++) {
            const reg bias =
                load_reg(s.bias + j * VECTORS_PER_REGISTER, VECTORS_PER_REGISTER, 0.0f);
#pragma GCC unroll 6
            for (int i = 0; i < rows; i++) sum[i][j] += bias;
        }
    for (int64_t k = 0; k < s.num_inner;
         k++, left.data += left.inner_stride, s.right.data += s.right.row_stride)
        accumulate_tile(rows, num_regs, left, s.right, sum);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 6
        for (int j = 0; j < num_regs; j++)
            memcpy(to.data + i * to.row_stride + j * VECTORS_PER_REGISTER, &sum[i][j], sizeof(reg));
    if (!is_whole)
        for (int i = 0; i < rows; i++)
            for (int64_t j = 0; j < s.num_columns; j++) out[i * s.out.row_stride + j] = edge[i][j];
}

static inline __attribute__((always_inline)) void compute_tiles(const int num_regs, Strip s) {
    for (int64_t i = 0; i < s.num_rows; i += TILE_ROWS) {
        if (LANES == 1 && s.add) /* hardware does not prefetch the next tile's sums */
            for (int64_t r = i + TILE_ROWS; r < i + 2 * TILE_ROWS; r++)
                for (int64_t j = 0; j < s.num_columns; j += 16)
                    __builtin_prefetch(s.out.data + r * s.out.row_stride + j, 1);
#define ROWS(m)                                                                                    \
    case m:                                                                                        \
        compute_tile(m, num_regs, s, i);                                                           \
        break;
        switch (s.num_rows - i < TILE_ROWS ? s.num_rows - i : TILE_ROWS) { FOR_EACH_NUM_ROWS }
#undef ROWS
    }
}

/* A function per width, so that registers are allocated for each separately. */
#define REGISTERS(n)                                                                               \
    static __attribute__((noinline)) void strip_##n(const Strip *s) {                              \
        compute_tiles(n, *s);                                                                      \
    }
FOR_EACH_NUM_REGISTERS
#undef REGISTERS

static void compute_strip(const Strip *s) {
#define REGISTERS(n)                                                                               \
    case n:                                                                                        \
        strip_##n(s);                                                                              \
        break;
    switch ((s->num_columns + VECTORS_PER_REGISTER - 1) / VECTORS_PER_REGISTER) {
        FOR_EACH_NUM_REGISTERS
    }
#undef REGISTERS
}

/* out = left @ right + bias, or out += left @ right + bias; rows of `out` are contiguous. */
static void matmul_bias(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                        Matrix right, const vec *bias, Matrix out, int add) {
    vec rows[BLOCK_ROWS * BLOCK_INNER / VALUES_PER_ENTRY] __attribute__((aligned(64)));
    vec columns[BLOCK_INNER / VALUES_PER_ENTRY * TILE_COLUMNS] __attribute__((aligned(64)));
    for (int64_t i = 0; i < num_rows; i += BLOCK_ROWS)
        for (int64_t k = 0; k < num_inner; k += BLOCK_INNER) {
            const int64_t height = num_rows - i < BLOCK_ROWS ? num_rows - i : BLOCK_ROWS;
            const int64_t depth = num_inner - k < BLOCK_INNER ? num_inner - k : BLOCK_INNER;
            Strip s = {.num_rows = height,
                       .num_inner = (depth + VALUES_PER_ENTRY - 1) / VALUES_PER_ENTRY};
            s.left = pack_left(height, depth, num_columns, submatrix(left, i, k), rows);
            s.add = add || k;
            for (int64_t j = 0; j < num_columns; j += s.num_columns) {
                const int64_t regs_left =
                    (num_columns - j + VECTORS_PER_REGISTER - 1) / VECTORS_PER_REGISTER;
                const int64_t num_strips = (regs_left + TILE_REGISTERS - 1) / TILE_REGISTERS;
                const int64_t padded_columns =
                    (regs_left + num_strips - 1) / num_strips * VECTORS_PER_REGISTER;
                s.num_columns = num_columns - j < padded_columns ? num_columns - j : padded_columns;
                s.right = pack_right(k, depth, j, s.num_columns, padded_columns, right, columns);
                s.bias = bias && !k ? bias + j : 0;
                s.out = submatrix(out, i, j);
                compute_strip(&s);
            }
        }
}

static void matmul(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix left,
                   Matrix right, Matrix out, int add) {
    matmul_bias(num_rows, num_inner, num_columns, left, right, 0, out, add);
}
