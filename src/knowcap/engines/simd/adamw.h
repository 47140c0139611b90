/* AdamW with clipping by the norm of each replicate's gradient. */

#pragma once
#include "vectors.h"

typedef struct {
    int64_t num_params, num_decayed;
    float beta1, beta2, eps, clip_grad;
} AdamWConfig;

/* Sum of squares in blocks of 256, as long float32 sums lose digits. */
static vec sum_of_squares(const vec *g, int64_t number) {
    vec total = {};
    for (int64_t first = 0; first < number; first += 256) {
        reg sum = {};
        int64_t last = first + 256 < number ? first + 256 : number;
        for (int64_t i = first; i < last; i += VECTORS_PER_REGISTER) {
            reg grad = load_reg(g + i, last - i, 0.0f);
            sum += grad * grad;
        }
        total += reduce_add(sum);
    }
    return total;
}

typedef struct { /* per-step factors */
    reg clip, step_size, decay;
    float root_scale;
} AdamWFactors;

/* Update the parameters from `first` to `last`. */
static void adamw_range(const AdamWConfig *o, int64_t first, int64_t last, AdamWFactors f, vec *p,
                        const vec *g, vec *exp_avg, vec *exp_avg_sq) {
    p += first, g += first, exp_avg += first, exp_avg_sq += first;
    FOR_EACH_REGISTER (i, left, last - first) {
        reg grad = load_reg(g + i, left, 0.0f) * f.clip;
        reg mean = load_reg(exp_avg + i, left, 0.0f), square = load_reg(exp_avg_sq + i, left, 0.0f);
        mean += (grad - mean) * (1.0f - o->beta1);
        square = square * o->beta2 + grad * grad * (1.0f - o->beta2);
        store_reg(exp_avg + i, left, mean);
        store_reg(exp_avg_sq + i, left, square);
        reg change = f.step_size * mean / (reg_sqrt(square) * f.root_scale + o->eps);
        store_reg(p + i, left, load_reg(p + i, left, 0.0f) * f.decay - change);
    }
}
