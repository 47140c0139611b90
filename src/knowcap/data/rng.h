/* splitmix64 and a Feistel permutation: the C counterparts of functions in rng.py. */

#pragma once

#include <stdint.h>

/* Values permuted at once: enough to overlap the latencies of their rounds. */
enum { MAX_BATCH = 64 };

/* 64 random bits: output number `counter` of splitmix64 seeded with `key`. */
static inline uint64_t random_bits(uint64_t key, uint64_t counter) {
    uint64_t x = counter * 0x9E3779B97F4A7C15u + key;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* Maps 64 random bits to an integer below `size`, which is at most 2^32. */
static inline uint64_t scale_to_range(uint64_t random, uint64_t size) {
    return (random >> 32) * size >> 32;
}

/* Sum modulo `modulus` of two values below it. */
static inline uint64_t add_modulo(uint64_t value, uint64_t other, uint64_t modulus) {
    value += other;
    return value < modulus ? value : value - modulus;
}

/* A Feistel network over left * right values that permutes the first `size` of them. */
typedef struct {
    uint64_t size, left, right, num_rounds;
} FeistelNetwork;

/* Passes up to MAX_BATCH values through the network once, in place. */
static inline void feistel_pass(int64_t num_values, const uint64_t *key, const FeistelNetwork *n,
                                uint64_t *value) {
    uint64_t high[MAX_BATCH], low[MAX_BATCH];
    for (int64_t i = 0; i < num_values; i++) {
        high[i] = value[i] / n->right;
        low[i] = value[i] - high[i] * n->right;
    }
    for (uint64_t round = 0; round < n->num_rounds; round += 2) {
        for (int64_t i = 0; i < num_values; i++) {
            const uint64_t random = random_bits(key[i], low[i] * n->num_rounds + round);
            high[i] = add_modulo(high[i], scale_to_range(random, n->left), n->left);
        }
        for (int64_t i = 0; i < num_values; i++) {
            const uint64_t random = random_bits(key[i], high[i] * n->num_rounds + round + 1);
            low[i] = add_modulo(low[i], scale_to_range(random, n->right), n->right);
        }
    }
    for (int64_t i = 0; i < num_values; i++) value[i] = high[i] * n->right + low[i];
}

/* Permutes up to MAX_BATCH values below n->size in place, with cycle walking. */
static inline void permute_batch(int64_t num_values, const uint64_t *key, const FeistelNetwork *n,
                                 uint64_t *value) {
    feistel_pass(num_values, key, n, value);
    for (int64_t i = 0; i < num_values; i++)
        while (value[i] >= n->size) feistel_pass(1, key + i, n, value + i);
}
