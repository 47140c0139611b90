/* Tables of random integers and permuted indices, bit-identical to the numpy code in rng.py.
 *
 * numpy passes over memory for each of the forty operations of a permutation. Here a value stays
 * in registers. */

#include "rng.h"

/* A broadcast table: strides are in elements and are 0 along broadcast dimensions. */
typedef struct {
    const uint64_t *data;
    int64_t row_stride, column_stride;
} StridedTable;

/* out[rows, columns, num_per_counter] = random integers below `size`, or 64 bits if `size` is 0.
 * Counter c stands for the counters c * num_per_counter + 0, 1, ... */
void fill_random(int64_t num_rows, int64_t num_columns, StridedTable key, StridedTable counter,
                 uint64_t size, uint64_t *out, uint64_t num_per_counter) {
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t j = 0; j < num_columns; j++) {
            const uint64_t draw_key = key.data[i * key.row_stride + j * key.column_stride];
            const uint64_t first = counter.data[i * counter.row_stride + j * counter.column_stride];
            for (uint64_t k = 0; k < num_per_counter; k++) {
                const uint64_t random = random_bits(draw_key, first * num_per_counter + k);
                *out++ = size ? scale_to_range(random, size) : random;
            }
        }
}

/* out[rows, columns] = the images of indices under a keyed bijection of `size` values. */
void permute_table(int64_t num_rows, int64_t num_columns, StridedTable key, StridedTable index,
                   uint64_t size, uint64_t *out, uint64_t left, uint64_t right,
                   uint64_t num_rounds) {
    const FeistelNetwork network = {size, left, right, num_rounds};
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t first = 0, batch; first < num_columns; first += batch, out += batch) {
            uint64_t batch_key[MAX_BATCH];
            batch = num_columns - first < MAX_BATCH ? num_columns - first : MAX_BATCH;
            for (int64_t j = 0; j < batch; j++) {
                batch_key[j] = key.data[i * key.row_stride + (first + j) * key.column_stride];
                out[j] = index.data[i * index.row_stride + (first + j) * index.column_stride];
            }
            permute_batch(batch, batch_key, &network, out);
        }
}
