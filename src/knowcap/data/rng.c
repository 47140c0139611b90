/* The draws of draws.py beside this file, number for number. There, every operation of the forty
 * that a permutation takes is a pass over memory; here a draw stays in registers. */

#include "rng.h"

/* As numpy broadcasts them: a value and how far it is to the next one in a column and in a row. */
typedef struct {
    const uint64_t *first;
    int64_t row, column;
} Values;

/* out[rows, columns, successive] = draws of a key and the counters that `counter` stands for, so
 * many in succession; 64 bits where `size` is 0. */
void drawn(int64_t num_rows, int64_t num_columns, Values key, Values counter, uint64_t size,
           uint64_t *out, uint64_t num_successive) {
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t j = 0; j < num_columns; j++) {
            const uint64_t its_key = key.first[i * key.row + j * key.column];
            const uint64_t first = counter.first[i * counter.row + j * counter.column];
            for (uint64_t k = 0; k < num_successive; k++) {
                const uint64_t random = bits(its_key, first * num_successive + k);
                *out++ = size ? scaled(random, size) : random;
            }
        }
}

/* out[rows, columns] = where a bijection of `size` values takes each of them. */
void permuted(int64_t num_rows, int64_t num_columns, Values key, Values value, uint64_t size,
              uint64_t *out, uint64_t left, uint64_t right, uint64_t num_rounds) {
    const Network network = {size, left, right, num_rounds};
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t first = 0, number; first < num_columns; first += number, out += number) {
            uint64_t its_key[TOGETHER];
            number = num_columns - first < TOGETHER ? num_columns - first : TOGETHER;
            for (int64_t j = 0; j < number; j++) {
                its_key[j] = key.first[i * key.row + (first + j) * key.column];
                out[j] = value.first[i * value.row + (first + j) * value.column];
            }
            permute(number, its_key, &network, out);
        }
}
