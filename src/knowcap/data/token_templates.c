/* Concatenation of token templates: the C counterpart of TokenTemplates.gather_tokens. */

#include <stdint.h>

/* Total number of tokens of some templates; -1 if an id is out of range. */
int64_t count_tokens(int64_t num_ids, const int64_t *template_id, int64_t num_templates,
                     const int64_t *length) {
    int64_t total = 0;
    for (int64_t i = 0; i < num_ids; i++) {
        if ((uint64_t)template_id[i] >= (uint64_t)num_templates) return -1;
        total += length[template_id[i]];
    }
    return total;
}

/* Writes the tokens of some templates to `out`, end to end. */
void gather_tokens(int64_t num_ids, const int64_t *template_id, const int64_t *start,
                   const int64_t *length, const int32_t *token, int32_t *out) {
    for (int64_t i = 0; i < num_ids; i++) {
        const int32_t *source = token + start[template_id[i]];
        const int64_t num_tokens = length[template_id[i]];
        for (int64_t j = 0; j < num_tokens; j++) *out++ = source[j];
    }
}
