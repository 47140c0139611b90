/* Copies of factors in bfloat16, for products that multiply pairs of it and add in float32. */

#include "round_bf16.h"

/* Sixteen of a left factor's rows or of a right one's columns are a panel of it, [inner / 2][16]
 * pairs of numbers that follow one another along the inner side. A pair takes the place of one
 * float32. */

/* Which of sixteen there are of so many. */
static inline __mmask16 first_ones(int64_t number) {
    return number >= PANEL ? 0xffff : (__mmask16)((1 << (number > 0 ? number : 0)) - 1);
}

/* Sixteen numbers, zero where there are none. */
static inline __m512 numbers(__mmask16 which, const lanes *from) {
    return _mm512_maskz_loadu_ps(which, from);
}

static inline __m512i rounded(__m512 first, __m512 second) {
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

/* Pairs of numbers from two rows, of which there may be but one. */
static inline __m512i from_two_rows(__mmask16 which, const lanes *first, const lanes *second) {
    const __m512i by_turns = _mm512_set_epi32(
        0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a, 0x190009, 0x180008,
        0x170007, 0x160006, 0x150005, 0x140004, 0x130003, 0x120002, 0x110001, 0x100000);
    const __m512 odd = second ? numbers(which, second) : _mm512_setzero_ps();
    return _mm512_permutexvar_epi16(by_turns, rounded(numbers(which, first), odd));
}

static inline __m512i from_two_rounded_rows(const lanes *first, const lanes *second) {
    const __m512i even = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)first));
    if (!second) return even;
    const __m512i odd = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)second));
    return _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
}

/* Pairs of a row's numbers that follow one another. */
static inline __m512i from_a_row(const lanes *from, int64_t number) {
    return rounded(numbers(first_ones(number), from),
                   numbers(first_ones(number - PANEL), from + PANEL));
}

/* ---- rows that only products read: rounded when they are written, as left factors are copied ---- */

static int64_t inputs_size(int64_t num_rows, int64_t width) {
    return num_rows * ((width + 2 * PANEL - 1) / (2 * PANEL) * PANEL);
}

static Matrix inputs_of(lanes *data, int64_t width) {
    return (Matrix){.data = data, .row = 2 * inputs_size(1, width), .column = 1, .is_rounded = 1};
}

/* Such rows in the place of others, of which each takes as much room as before. */
static Matrix inputs_in_place(lanes *data, int64_t width) {
    return (Matrix){.data = data, .row = 2 * width, .column = 1, .is_rounded = 1};
}

/* The next of `number` entries of such a row, which has zeros behind them. */
static inline void store_input(lanes *row, int64_t place, int64_t number, wide x) {
    const __m512 those = _mm512_maskz_mov_ps(first_ones(number), x);
    _mm256_storeu_si256((__m256i *)(row + place / 2), (__m256i)_mm512_cvtneps_pbh(those));
}

static void copy_rounded_rows(int64_t num_inner, int64_t num_sides, Matrix m, lanes *to) {
    const int64_t panel = (num_inner + 1) / 2 * PANEL;
    for (int64_t k = 0; k < num_inner; k += 2, to += PANEL) {
        const lanes *first = part(m, k, 0).data;
        const lanes *second = k + 1 < num_inner ? part(m, k + 1, 0).data : 0;
        for (int64_t side = 0; side < num_sides; side += PANEL)
            _mm512_store_si512(to + side / PANEL * panel,
                               from_two_rounded_rows(first + side / 2,
                                                     second ? second + side / 2 : 0));
    }
}

/* ---- factors ---- */

/* Panels of rows, along which the sides lie; in the order in which they are read. */
static void copy_rows(int64_t num_inner, int64_t num_sides, Matrix m, lanes *to) {
    const int64_t panel = (num_inner + 1) / 2 * PANEL;
    for (int64_t k = 0; k < num_inner; k += 2, to += PANEL) {
        const lanes *first = m.data + k * m.row, *second = k + 1 < num_inner ? first + m.row : 0;
        for (int64_t side = 0; side < num_sides; side += PANEL)
            _mm512_store_si512(to + side / PANEL * panel,
                               from_two_rows(first_ones(num_sides - side), first + side,
                                             second ? second + side : 0));
    }
}

/* Panels of what lies sideways: entry (inner, side) is data[inner * row + side * column], and sides
 * or inner numbers follow one another. */
static void copy_panels(int64_t num_inner, int64_t num_sides, Matrix m, lanes *to) {
    const int64_t num_pairs = (num_inner + 1) / 2;
    if (m.column == 1) {
        (m.is_rounded ? copy_rounded_rows : copy_rows)(num_inner, num_sides, m, to);
        return;
    }
    for (int64_t side = 0; side < num_sides; side += PANEL, to += num_pairs * PANEL) {
        const lanes *from = m.data + side * m.column;
        const int64_t sides = num_sides - side;
        for (int64_t k = 0; k < num_inner; k += 2 * PANEL) {
            const int64_t left = num_pairs - k / 2;
            __m512i pairs[PANEL];
#pragma GCC unroll 16
            for (int j = 0; j < PANEL; j++)
                pairs[j] = from_a_row(from + j * m.column + k, j < sides ? num_inner - k : 0);
            turn_in_place(pairs);
#pragma GCC unroll 16
            for (int j = 0; j < PANEL; j++)
                if (j < left) _mm512_store_si512(to + (k / 2 + j) * PANEL, pairs[j]);
        }
    }
}

static Left left_factor(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix m,
                        lanes *copy) {
    (void)num_columns;
    const int64_t num_pairs = (num_inner + 1) / 2;
    if (m.column != 1) {
        copy_panels(num_inner, num_rows, transposed(m), copy);
        return (Left){copy, 1, PANEL, num_pairs * PANEL};
    }
    if (m.is_rounded) return (Left){m.data, m.row / 2, 1, PANEL * m.row / 2};
    const int64_t row = (num_pairs + PANEL - 1) / PANEL * PANEL;
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t k = 0; k < num_inner; k += 2 * PANEL)
            _mm512_store_si512(copy + i * row + k / 2,
                               from_a_row(m.data + i * m.row + k, num_inner - k));
    return (Left){copy, row, 1, PANEL * row};
}

/* Entries that a copy of a whole right factor takes. */
static int64_t copy_size(int64_t num_inner, int64_t num_columns) {
    return (num_inner + 1) / 2 * ((num_columns + PANEL - 1) / PANEL * PANEL);
}

/* The same right factor and a copy of all of it: [inner / INNER][panel][pair][16]. */
static Matrix copied(int64_t num_inner, int64_t num_columns, Matrix m, lanes *to) {
    for (int64_t k = 0; k < num_inner; k += INNER)
        copy_panels(num_inner - k < INNER ? num_inner - k : INNER, num_columns, part(m, k, 0),
                    to + copy_size(k, num_columns));
    return (Matrix){m.data, m.row, m.column, m.is_rounded, to, num_inner, num_columns};
}

/* Part of a right factor. Of a copy of all of it products may read fewer rows than there are. */
static Right right_factor(int64_t first, int64_t num_inner, int64_t first_column,
                          int64_t num_columns, int64_t num_copied, Matrix whole, lanes *copy) {
    (void)num_copied;
    if (!whole.copy) {
        copy_panels(num_inner, num_columns, part(whole, first, first_column), copy);
        return (Right){copy, PANEL, (num_inner + 1) / 2 * PANEL};
    }
    const int64_t left = whole.copied_rows - first;
    const int64_t num_pairs = ((left < INNER ? left : INNER) + 1) / 2;
    copy = whole.copy + copy_size(first, whole.copied_columns) + first_column * num_pairs;
    return (Right){copy, PANEL, num_pairs * PANEL};
}
