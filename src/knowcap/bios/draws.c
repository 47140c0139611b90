/* The draws of draws.py beside this file, number for number. There, every operation of the forty
 * that a permutation takes is a pass over memory; here a draw stays in registers. */

#include <stdint.h>

enum { TOGETHER = 64 };

static inline uint64_t bits(uint64_t key, uint64_t counter) {
    uint64_t x = counter * 0x9E3779B97F4A7C15u + key;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static inline uint64_t scaled(uint64_t random, uint64_t size) {
    return (random >> 32) * size >> 32;
}

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

static inline uint64_t add(uint64_t value, uint64_t other, uint64_t modulus) {
    value += other;
    return value < modulus ? value : value - modulus;
}

typedef struct {
    uint64_t left, right, num_rounds;
} Network;

/* Passes values through the network; one waits for its rounds, many do not. */
static inline void pass(int64_t number, const uint64_t *key, const Network *n, uint64_t *value) {
    uint64_t high[TOGETHER], low[TOGETHER];
    for (int64_t i = 0; i < number; i++) {
        high[i] = value[i] / n->right;
        low[i] = value[i] - high[i] * n->right;
    }
    for (uint64_t round = 0; round < n->num_rounds; round += 2) {
        for (int64_t i = 0; i < number; i++) {
            const uint64_t random = bits(key[i], low[i] * n->num_rounds + round);
            high[i] = add(high[i], scaled(random, n->left), n->left);
        }
        for (int64_t i = 0; i < number; i++) {
            const uint64_t random = bits(key[i], high[i] * n->num_rounds + round + 1);
            low[i] = add(low[i], scaled(random, n->right), n->right);
        }
    }
    for (int64_t i = 0; i < number; i++) value[i] = high[i] * n->right + low[i];
}

/* out[rows, columns] = where a bijection of `size` values takes each of them. */
void permuted(int64_t num_rows, int64_t num_columns, Values key, Values value, uint64_t size,
              uint64_t *out, uint64_t left, uint64_t right, uint64_t num_rounds) {
    const Network network = {left, right, num_rounds};
    for (int64_t i = 0; i < num_rows; i++)
        for (int64_t first = 0, number; first < num_columns; first += number, out += number) {
            uint64_t its_key[TOGETHER];
            number = num_columns - first < TOGETHER ? num_columns - first : TOGETHER;
            for (int64_t j = 0; j < number; j++) {
                its_key[j] = key.first[i * key.row + (first + j) * key.column];
                out[j] = value.first[i * value.row + (first + j) * value.column];
            }
            pass(number, its_key, &network, out);
            for (int64_t j = 0; j < number; j++)
                while (out[j] >= size) pass(1, its_key + j, &network, out + j);
        }
}
