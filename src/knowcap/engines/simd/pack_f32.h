/* Factors in float32: where they are, or copied to where products had better read them. */

#include "round_bf16.h"

/* Entries of rows that only products read, and those rows. */
static int64_t inputs_size(int64_t num_rows, int64_t width) {
    return num_rows * width;
}

static Matrix inputs_of(lanes *data, int64_t width) {
    return matrix(data, width);
}

/* Such rows in the place of others, of which each takes as much room as before. */
static Matrix inputs_in_place(lanes *data, int64_t width) {
    return matrix(data, width);
}

/* The next of `number` entries of such a row. */
static inline void store_input(lanes *row, int64_t place, int64_t number, wide x) {
    store(row + place, number, x);
}

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
    return (Right){copy, num_copied, ABREAST};
}

/* Tiles that read a left factor before a copy of it pays. */
enum { OFTEN = 8 };

/* A left factor where it is, or its copy. */
static Left left_factor(int64_t num_rows, int64_t num_inner, int64_t num_columns, Matrix m,
                        lanes *copy) {
    if (num_columns > OFTEN * TILE_COLUMNS && collides(num_inner, m.column))
        return copy_left(num_rows, num_inner, m, copy);
    return (Left){m.data, m.row, m.column, TILE_ROWS * m.row};
}

/* Entries that a copy of a whole right factor takes: none, products copy what they must. */
static int64_t copy_size(int64_t num_inner, int64_t num_columns) {
    return (void)num_inner, (void)num_columns, 0;
}

static Matrix copied(int64_t num_inner, int64_t num_columns, Matrix m, lanes *to) {
    return (void)num_inner, (void)num_columns, (void)to, m;
}

/* Part of a right factor where it is, or its copy. */
static Right right_factor(int64_t first, int64_t num_inner, int64_t first_column,
                          int64_t num_columns, int64_t num_copied, Matrix whole, lanes *copy) {
    const Matrix m = part(whole, first, first_column);
    if (m.column != 1 || num_columns < num_copied || collides(num_inner, m.row))
        return copy_right(num_inner, num_columns, num_copied, m, copy);
    return (Right){m.data, m.row, ABREAST};
}
