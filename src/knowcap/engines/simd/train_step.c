/* Training step of a few small models at once, one in each lane of the processor's vectors.
 *
 * Replicates have equal shapes and do not interact, so every sum, product and softmax is written as
 * for one model and computed for all lanes. This avoids the thousand library calls that a step of a
 * tiny model takes, which cost more than its arithmetic.
 *
 * Numbers are float32, [entry][lane]; with BFLOAT16, operands of matrix products are rounded to
 * bfloat16. Derivatives are those of knowcap.model, against which tests/engines compares them.
 */

#include "adamw.h"
#include "model.h"

/* Treat floats below 1e-38 as zero: arithmetic on them is a hundred times slower. */
static unsigned int flush_denormals(void) {
#ifdef __SSE__
    const unsigned int before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#else
    return 0;
#endif
}

static void restore_float_mode(unsigned int before) {
#ifdef __SSE__
    _mm_setcsr(before);
#else
    (void)before;
#endif
}

/* Number of vecs in the workspace of compute_gradients. */
int64_t workspace_size(const StepShape *step) {
    const StepShape micro = micro_batch_shape(step), *s = &micro;
    Arena layer = {0};
    alloc_activations(s, &layer);
    return packed_weights_size(s) + s->num_layers * layer.used
           + count_tokens(s) * (4 * s->hidden_size + 1) + scratch_size(s);
}

/* Gradients g[num_params] of the mean loss of some windows; writes loss[LANES] and count[LANES],
 * the number of targets in the mean. */
void compute_gradients(const StepShape *s, const LayerParamOffsets *layers,
                       const ParamOffsets *offsets, const AdamWConfig *o, const float *cos_sin,
                       const int32_t *tokens, vec *p, vec *g, vec *workspace, vec *loads,
                       float *loss, float *count) {
    const unsigned int before = flush_denormals();
    memset(g, 0, o->num_params * sizeof(vec));
    StepShape micro = micro_batch_shape(s);
    Arena arena = {workspace, 0};
    LayerWeights layer_weights[s->num_layers];
    Weights weights = {.layers = layer_weights};
    pack_weights(s, layers, offsets->output, p, &weights, &arena);
    const int32_t per_micro_batch = micro.num_windows;
    const vec counts = count_targets(s, tokens), share = 1.0f / vec_max(counts, vec_set1(1.0f));
    vec losses = {};
    for (int32_t first = 0; first < s->num_windows; first += per_micro_batch) {
        const int32_t left = s->num_windows - first;
        micro.num_windows = left < per_micro_batch ? left : per_micro_batch;
        const int32_t *micro_batch_tokens = tokens + (int64_t)first * (s->seq_length + 1);
        Model model = {&micro, layers, offsets, &weights, cos_sin, micro_batch_tokens, p, g, 0};
        loss_and_gradients(&model, share, workspace + arena.used, loads, &losses);
    }
    memcpy(loss, &losses, sizeof losses);
    memcpy(count, &counts, sizeof counts);
    restore_float_mode(before);
}

/* Mean loss over shards of the batch from the means of the shards; writes each shard's share of the
 * targets. */
static vec mean_loss(int64_t num_shards, const float *shard_loss, const float *shard_count,
                     vec *shares) {
    vec count = {}, mean = {};
    for (int64_t shard = 0; shard < num_shards; shard++) {
        memcpy(shares + shard, shard_count + shard * LANES, sizeof count);
        count += shares[shard];
    }
    for (int64_t shard = 0; shard < num_shards; shard++) {
        vec loss;
        memcpy(&loss, shard_loss + shard * LANES, sizeof loss);
        shares[shard] /= vec_max(count, vec_set1(1.0f));
        mean += shares[shard] * loss;
    }
    return mean;
}

/* Average the gradients of batch shards into g[0], for the parameters from `first` to `last`.
 * Writes the mean loss[LANES] and the sum of squares square[LANES]. */
void reduce_gradients(int64_t num_shards, vec **g, const float *shard_loss,
                      const float *shard_count, int64_t first, int64_t last, float *loss,
                      float *square) {
    const unsigned int before = flush_denormals();
    vec shares[num_shards];
    const vec mean = mean_loss(num_shards, shard_loss, shard_count, shares);
    for (int64_t shard = 0; num_shards > 1 && shard < num_shards; shard++) {
        const reg share = broadcast(shares[shard]);
        for (int64_t i = first, left; i < last; i += VECTORS_PER_REGISTER) {
            left = last - i;
            const reg sum = shard ? load_reg(g[0] + i, left, 0.0f) : (reg){};
            store_reg(g[0] + i, left, sum + share * load_reg(g[shard] + i, left, 0.0f));
        }
    }
    const vec squares = sum_of_squares(g[0] + first, last - first);
    memcpy(loss, &mean, sizeof mean);
    memcpy(square, &squares, sizeof squares);
    restore_float_mode(before);
}

/* Update the parameters from `first` to `last`. squares[num_shards][LANES] are the sums of squares
 * of all gradients, lr[LANES] the learning rates, decay[LANES] the factors of weight decay. Writes
 * gradient_norm[LANES], before clipping. */
void adamw_step(const AdamWConfig *o, int64_t first, int64_t last, int64_t num_shards,
                const float *squares, const float *lr, const float *decay, float correction1,
                float correction2, vec *p, vec *g, vec *exp_avg, vec *exp_avg_sq,
                float *gradient_norm) {
    const unsigned int before = flush_denormals();
    vec rates, decays, norms = {};
    memcpy(&rates, lr, sizeof rates);
    memcpy(&decays, decay, sizeof decays);
    for (int64_t shard = 0; shard < num_shards; shard++) {
        vec square;
        memcpy(&square, squares + shard * LANES, sizeof square);
        norms += square;
    }
    norms = vec_sqrt(norms);
    AdamWFactors factors = {
        .clip = broadcast(vec_min(vec_set1(1.0f), o->clip_grad / norms)),
        .step_size = broadcast(rates / correction1),
        .decay = broadcast(decays),
        .root_scale = 1.0f / sqrtf(correction2),
    };
    const int64_t last_decayed = o->num_decayed < last ? o->num_decayed : last;
    const int64_t first_undecayed = o->num_decayed > first ? o->num_decayed : first;
    adamw_range(o, first, last_decayed, factors, p, g, exp_avg, exp_avg_sq);
    factors.decay = reg_set1(1.0f);
    adamw_range(o, first_undecayed, last, factors, p, g, exp_avg, exp_avg_sq);
    memcpy(gradient_norm, &norms, sizeof norms);
    restore_float_mode(before);
}

/* reduce_gradients and adamw_step, for all parameters. */
void reduce_and_step(const AdamWConfig *o, int64_t num_shards, vec **g, const float *shard_loss,
                     const float *shard_count, const float *lr, const float *decay,
                     float correction1, float correction2, vec *p, vec *exp_avg, vec *exp_avg_sq,
                     float *loss, float *gradient_norm) {
    float square[LANES];
    reduce_gradients(num_shards, g, shard_loss, shard_count, 0, o->num_params, loss, square);
    adamw_step(o, 0, o->num_params, 1, square, lr, decay, correction1, correction2, p, g[0],
               exp_avg, exp_avg_sq, gradient_norm);
}
