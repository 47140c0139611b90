/* Linear layers, norms, activations, embedding and output layer, forward and backward. */

#pragma once
#include "attention.h"

/* Tokens whose logits exist at a time. */
enum { OUTPUT_BLOCK = LANES > 1 ? 64 : VALUES_PER_ENTRY > 1 ? 128 : 256 };

/* Tokens whose gradients are packed at a time; they stay in the cache until they are read. */
enum { GRADIENT_BLOCK = VALUES_PER_ENTRY > 1 ? BLOCK_INNER : INT32_MAX };

/* A parameter, or NULL if its offset is -1. */
static inline vec *param_or_null(vec *base, int64_t offset) {
    return offset < 0 ? 0 : base + offset;
}

/* out[T, n_out] = in[T, n_in] @ weight + bias, or += if `add`. */
static void linear_forward(int64_t num_tokens, int64_t num_in, int64_t num_out, Matrix in,
                           Weight weight, const vec *bias, vec *out, int add) {
    matmul_bias(num_tokens, num_in, num_out, in, weight.forward, bias, matrix(out, num_out), add);
}

/* Adds to the weight's gradient; overwrites the input's. */
static void linear_backward(int64_t num_tokens, int64_t num_in, int64_t num_out, Matrix in,
                            Weight weight, Matrix dout, vec *dweight, vec *din) {
    for (int64_t first = 0; first < num_tokens; first += GRADIENT_BLOCK) {
        const int64_t left = num_tokens - first;
        const int64_t number = left < GRADIENT_BLOCK ? left : GRADIENT_BLOCK;
        matmul(num_in, number, num_out, transposed(rows_from(in, first)),
               pack_matrix(number, num_out, rows_from(dout, first), weight.pack_buffer),
               matrix(dweight, num_out), 1);
    }
    matmul(num_tokens, num_out, num_in, dout, weight.backward, matrix(din, num_in), 0);
}

/* Adds to the bias's gradient; `dbias` may be NULL. */
static void bias_backward(int64_t num_tokens, int64_t num_out, const vec *dout, vec *dbias) {
    for (int64_t t = 0; dbias && t < num_tokens; t++) add_row(dbias, num_out, dout + t * num_out);
}

/* LayerNorm or RMSNorm: out = normalized * weight + bias. `normalized` [T, H] is kept for the
 * backward pass. With is_matmul_input, `out` is in the format of matmul_input. */
static void norm_forward(const StepShape *s, int64_t num_tokens, const vec *in, const vec *weight,
                         const vec *bias, vec *normalized, vec *rstd, vec *out,
                         int is_matmul_input) {
    const int64_t width = s->hidden_size;
    const int64_t out_row = is_matmul_input ? matmul_input_size(1, width) : width;
    for (int64_t t = 0; t < num_tokens; t++, in += width, normalized += width, out += out_row) {
        reg sum = {}, square = {};
        if (s->is_layernorm)
            FOR_EACH_REGISTER (h, left, width) sum += load_reg(in + h, left, 0.0f);
        const reg mean = broadcast(reduce_add(sum) / (float)width);
        FOR_EACH_REGISTER (h, left, width) {
            reg x = zero_tail(load_reg(in + h, left, 0.0f) - mean, left);
            square += x * x;
        }
        rstd[t] = 1.0f / vec_sqrt(reduce_add(square) / (float)width + s->eps);
        const reg scale = broadcast(rstd[t]);
        FOR_EACH_REGISTER (h, left, width) {
            reg x = (load_reg(in + h, left, 0.0f) - mean) * scale;
            store_reg(normalized + h, left, x);
            x *= load_reg(weight + h, left, 0.0f);
            if (bias) x += load_reg(bias + h, left, 0.0f);
            if (is_matmul_input)
                store_matmul_input(out, h, left, x);
            else
                store_reg(out + h, left, x);
        }
    }
}

static inline void accumulate(vec *to, int64_t number, reg x) {
    store_reg(to, number, load_reg(to, number, 0.0f) + x);
}

/* Adds to the gradients of weight, bias and inputs. */
static void norm_backward(const StepShape *s, int64_t num_tokens, const vec *dout,
                          const vec *weight, const vec *normalized, const vec *rstd, vec *dweight,
                          vec *dbias, vec *din) {
    const int64_t width = s->hidden_size;
    for (int64_t t = 0; t < num_tokens; t++, dout += width, normalized += width, din += width) {
        reg sum = {}, dot = {};
        FOR_EACH_REGISTER (h, left, width) {
            reg d = load_reg(dout + h, left, 0.0f), x = load_reg(normalized + h, left, 0.0f);
            reg dnormalized = d * load_reg(weight + h, left, 0.0f);
            sum += dnormalized;
            dot += dnormalized * x;
            accumulate(dweight + h, left, d * x);
            if (dbias) accumulate(dbias + h, left, d);
        }
        const reg scale = broadcast(rstd[t]), dot_mean = broadcast(reduce_add(dot) / (float)width);
        const reg mean = s->is_layernorm ? broadcast(reduce_add(sum) / (float)width) : (reg){};
        FOR_EACH_REGISTER (h, left, width) {
            reg dnormalized = load_reg(dout + h, left, 0.0f) * load_reg(weight + h, left, 0.0f);
            accumulate(
                din + h, left,
                scale * (dnormalized - mean - load_reg(normalized + h, left, 0.0f) * dot_mean));
        }
    }
}

/* fc2_in[T, F], in the format of matmul_input, from fc1's outputs, which are overwritten with the
 * derivatives that the backward pass needs. */
static void activation_forward(const StepShape *s, int64_t num_tokens, vec *fc1_out, vec *fc2_in) {
    const int64_t inner = s->ffn_hidden_size, num_out = fc1_size(s);
    const int64_t fc2_in_row = matmul_input_size(1, inner);
    for (int64_t t = 0; t < num_tokens; t++, fc1_out += num_out, fc2_in += fc2_in_row)
        FOR_EACH_REGISTER (f, left, inner) {
            reg x = load_reg(fc1_out + f, left, 0.0f), slope, value;
            value = s->is_silu ? reg_silu(x, &slope) : reg_gelu(x, &slope);
            if (s->is_gated) {
                reg gate = load_reg(fc1_out + inner + f, left, 0.0f);
                store_reg(fc1_out + inner + f, left, value);
                value *= gate;
                slope *= gate;
            }
            store_matmul_input(fc2_in, f, left, value);
            store_reg(fc1_out + f, left, slope);
        }
}

/* Overwrites fc1's derivatives with the gradients of its outputs, in the format of matmul_input;
 * adds to the gradient of its bias. */
static void activation_backward(const StepShape *s, int64_t num_tokens, const vec *dfc2_in,
                                vec *slopes, vec *dbias) {
    const int64_t inner = s->ffn_hidden_size, num_out = fc1_size(s);
    for (int64_t t = 0; t < num_tokens; t++, slopes += num_out, dfc2_in += inner)
        for (int64_t first = 0; first < num_out; first += inner)
            FOR_EACH_REGISTER (f, left, inner) {
                const reg d =
                    load_reg(slopes + first + f, left, 0.0f) * load_reg(dfc2_in + f, left, 0.0f);
                if (dbias) accumulate(dbias + first + f, left, d);
                store_matmul_input(slopes, first + f, left, d);
            }
}

/* Number of targets that are not padding, in each lane. */
static vec count_targets(const StepShape *s, const int32_t *tokens) {
    const int64_t window_size = s->seq_length + 1, lane_stride = s->num_windows * window_size;
    vec count = {};
    for (int64_t t = 0; t < count_tokens(s); t++)
        for (int lane = 0; lane < LANES; lane++)
            count[lane] +=
                tokens[lane * lane_stride + t / s->seq_length * window_size + t % s->seq_length + 1]
                >= 0;
    return count;
}

/* Size of a row of logits. */
static int64_t logits_size(const StepShape *s) {
    return overwritten_size(s->vocab_size);
}

/* Loss of a token, weighted by `share`. Exponentials replace its logits, minus their sum at the
 * target: the gradient up to a factor, in the format of matmul_input. */
static vec token_loss(const StepShape *s, const int32_t *target, vec share, vec *row, vec *factor) {
    const int64_t lane_stride = s->num_windows * (s->seq_length + 1);
    vec loss = {}, logit = {}, max_log2;
    for (int lane = 0; lane < LANES; lane++) {
        const int32_t token = target[lane * lane_stride];
        if (token >= 0) logit[lane] = row[token][lane];
    }
    const vec sum = exp_minus_max(row, s->vocab_size, &max_log2, 1);
    const reg exps = exp_minus(broadcast(logit), broadcast(max_log2));
    memcpy(&logit, &exps, sizeof logit);
    *factor = (vec){};
    for (int lane = 0; lane < LANES; lane++) {
        const int32_t token = target[lane * lane_stride];
        if (token < 0) continue;
        (*factor)[lane] = share[lane] / sum[lane];
        /* the smallest normal float: a loss is at most 87 nats */
        const float prob = logit[lane] / sum[lane];
        loss[lane] = share[lane] * logf(prob < 1.17549435e-38f ? 1.17549435e-38f : prob);
        set_matmul_input(row, token, lane, logit[lane] - sum[lane]);
    }
    return loss;
}

/* Cross-entropy of tokens [lane][B][S + 1], and its gradients.
 *
 * Adds to the losses, each target weighted by `share`, and to the output layer's gradient;
 * overwrites the input's. Logits exist for OUTPUT_BLOCK tokens at a time; the buffer also holds as
 * many scaled inputs. The factors of the logits' gradients are applied to the narrower inputs. */
static void output_loss_and_gradients(const StepShape *s, vec *in, Weight weight,
                                      const int32_t *tokens, vec share, vec *logits, vec *din,
                                      vec *dweight, vec *losses) {
    const int64_t num_tokens = count_tokens(s), width = s->hidden_size;
    const int64_t vocab_size = s->vocab_size, row_size = logits_size(s);
    const Matrix gradient = matmul_input_in_place(logits, row_size);
    vec loss = *losses, *scaled = logits + OUTPUT_BLOCK * row_size;
    for (int64_t first = 0; first < num_tokens; first += OUTPUT_BLOCK) {
        int64_t number = num_tokens - first < OUTPUT_BLOCK ? num_tokens - first : OUTPUT_BLOCK;
        vec *inputs = in + first * width, *dinputs = din + first * width, factor[OUTPUT_BLOCK];
        matmul(number, width, vocab_size, matrix(inputs, width), weight.forward,
               matrix(logits, row_size), 0);
        for (int64_t i = 0; i < number; i++) {
            const int64_t t = first + i, window = t / s->seq_length;
            loss -=
                token_loss(s, tokens + t + window + 1, share, logits + i * row_size, factor + i);
            scale_row(scaled + i * width, width, inputs + i * width, factor[i]);
        }
        matmul(number, vocab_size, width, gradient, weight.backward, matrix(dinputs, width), 0);
        matmul(vocab_size, number, width, transposed(gradient),
               pack_matrix(number, width, matrix(scaled, width), weight.pack_buffer),
               matrix(dweight, width), 1);
        for (int64_t i = 0; i < number; i++)
            scale_row(dinputs + i * width, width, dinputs + i * width, factor[i]);
    }
    *losses = loss;
}

/* Copy embeddings to hidden[T, H], or add hidden to the embeddings' gradients. */
static void embedding(const StepShape *s, const int32_t *tokens, vec *table, vec *hidden,
                      int backward) {
    const int64_t lane_stride = s->num_windows * (s->seq_length + 1), width = s->hidden_size;
    for (int64_t t = 0; t < count_tokens(s); t++, hidden += width)
        for (int lane = 0; lane < LANES; lane++) {
            const int32_t token = tokens[lane * lane_stride + t + t / s->seq_length];
            vec *row = table + (int64_t)(token < 0 ? 0 : token) * width;
            if (LANES == 1 && backward)
                add_row(row, width, hidden);
            else if (LANES == 1)
                memcpy(hidden, row, width * sizeof(vec));
            else
                for (int64_t h = 0; h < width; h++)
                    if (backward)
                        row[h][lane] += hidden[h][lane];
                    else
                        hidden[h][lane] = row[h][lane];
        }
}
