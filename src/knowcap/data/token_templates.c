/* Fragments.assembled of fragments.py beside this file. */

#include <stdint.h>

/* How many tokens so many fragments have; -1 if one of them is none of the texts. */
int64_t num_tokens(int64_t num_fragments, const int64_t *number, int64_t num_texts,
                   const int64_t *length) {
    int64_t sum = 0;
    for (int64_t i = 0; i < num_fragments; i++) {
        if ((uint64_t)number[i] >= (uint64_t)num_texts) return -1;
        sum += length[number[i]];
    }
    return sum;
}

/* They, end to end. */
void assembled(int64_t num_fragments, const int64_t *number, const int64_t *start,
               const int64_t *length, const int32_t *token, int32_t *out) {
    for (int64_t i = 0; i < num_fragments; i++) {
        const int32_t *from = token + start[number[i]];
        const int64_t num_tokens = length[number[i]];
        for (int64_t j = 0; j < num_tokens; j++) *out++ = from[j];
    }
}
