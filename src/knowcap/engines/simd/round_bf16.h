/* Matrices of vectors, and parts of them as products read them. */

#include "rotary.h"

typedef struct { /* entry (i, j) is data[i * row + j * column] */
    lanes *data;
    int64_t row, column;
    int is_rounded; /* to half as many bytes */
    lanes *copy; /* of all of it, where one is made already: so many rows and columns */
    int64_t copied_rows, copied_columns;
} Matrix;

static inline Matrix matrix(lanes *data, int64_t row) {
    return (Matrix){.data = data, .row = row, .column = 1};
}

static inline Matrix transposed(Matrix m) {
    return (Matrix){.data = m.data, .row = m.column, .column = m.row, .is_rounded = m.is_rounded};
}

static inline Matrix part(Matrix m, int64_t first_row, int64_t first_column) {
    const int64_t first = first_row * m.row + first_column * m.column;
    lanes *data = m.data + (m.is_rounded ? first / 2 : first);
    return (Matrix){data, m.row, m.column, m.is_rounded, 0, 0, 0};
}

static inline Matrix below(Matrix m, int64_t num_rows) {
    return part(m, num_rows, 0);
}

/* Numbers in an entry of a copy, and rows of it that are a panel. */
#ifdef BFLOAT16
enum { NUMBERS = 2, PANEL = 16 };
#else
enum { NUMBERS = 1, PANEL = LANES == 1 ? 4 : 2 };
#endif

/* Twelve sums of a tile stay in registers, of sixteen. Its factors are read where they are, or
 * copied to where they follow one another: rows that lie a power of two apart would push each other
 * out of the cache. What tiles read of a right factor, INNER x TILE_COLUMNS, stays in the first
 * level of it, and what they read of a left one, ROWS x INNER, in the second. Entries of one lane
 * are so short that sums go over a row of a wide model before they go back to memory. */
#if LANES == 1
enum { TILE_ROWS = 4, TILE_WIDES = 3, ROWS = 256, INNER = NUMBERS * 2048 / ABREAST };
#else
enum { TILE_ROWS = 2, TILE_WIDES = 6, ROWS = 64, INNER = 64 };
#endif
enum { TILE_COLUMNS = TILE_WIDES * ABREAST };

typedef struct { /* from a row of a panel to the next, along a row, and from a panel to the next */
    const lanes *data;
    int64_t row, step, panel;
} Left;

typedef struct { /* from a row to the next, and from a vector of it to the next */
    const lanes *data;
    int64_t row, wide;
} Right;
