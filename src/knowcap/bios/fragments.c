/* Fragments.assembled of fragments.py beside this file. */

#include <stdint.h>

/* Tokens of so many fragments, end to end. */
void assembled(int64_t num_fragments, const int64_t *number, const int64_t *start,
               const int64_t *length, const int32_t *token, int32_t *out) {
    for (int64_t i = 0; i < num_fragments; i++) {
        const int32_t *from = token + start[number[i]];
        const int64_t num_tokens = length[number[i]];
        for (int64_t j = 0; j < num_tokens; j++) *out++ = from[j];
    }
}
