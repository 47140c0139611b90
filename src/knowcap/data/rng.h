/* The generator and the network of draws.py beside this file. */

#pragma once

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

static inline uint64_t add(uint64_t value, uint64_t other, uint64_t modulus) {
    value += other;
    return value < modulus ? value : value - modulus;
}

typedef struct {
    uint64_t size, left, right, num_rounds;
} Network;

/* Passes values through the network; one waits for its rounds, up to TOGETHER do not. */
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

/* Takes values to where a bijection of `size` values takes them. */
static inline void permute(int64_t number, const uint64_t *key, const Network *n,
                           uint64_t *value) {
    pass(number, key, n, value);
    for (int64_t i = 0; i < number; i++)
        while (value[i] >= n->size) pass(1, key + i, n, value + i);
}
