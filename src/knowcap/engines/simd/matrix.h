/* Weights as products read them, forward and backward. */

#include "shape.h"

typedef struct { /* [inputs, outputs], and the same transposed */
    Matrix forward, backward;
    lanes *spare; /* room for copies of what is multiplied by it */
} Weight;

static inline Weight weight_of(Matrix m) {
    return (Weight){m, transposed(m), 0};
}

/* Where products round their factors they copy all of them, and weights would be copied again for
 * every few tokens: these are copied once for all windows. */
static int64_t both_sizes(int64_t num_in, int64_t num_out) {
    return copy_size(num_in, num_out) + copy_size(num_out, num_in);
}

static Weight copied_weight(Matrix m, int64_t num_in, int64_t num_out, lanes *spare, Room *room) {
    return (Weight){
        copied(num_in, num_out, m, take(room, copy_size(num_in, num_out))),
        copied(num_out, num_in, transposed(m), take(room, copy_size(num_out, num_in))),
        spare,
    };
}

typedef struct {
    Weight qkv, proj, fc1, fc2;
} LayerWeights;

typedef struct {
    LayerWeights *layers;
    Weight output;
    lanes *spare;
} Weights;

/* Of gradients some are copied at a time, and of a head its keys or values in two orders. */
static int64_t spare_size(const Shape *s) {
    const int64_t H = s->width, K = qkv_width(s), F1 = fc1_width(s);
    const int64_t of_gradients = copy_size(INNER, F1 > K ? F1 : K > H ? K : H);
    const int64_t of_a_head = both_sizes(s->num_channels, s->seq_length);
    return of_gradients > of_a_head ? of_gradients : of_a_head;
}

/* All of a model's that every token meets; of experts none. */
static void copy_weights(const Shape *s, const LayerPlaces *layers, int64_t output, lanes *p,
                         Weights *weights, Room *room) {
    const int64_t H = s->width, K = qkv_width(s), F = s->inner, F1 = fc1_width(s);
    lanes *spare = weights->spare = take(room, spare_size(s));
    for (int32_t l = 0; l < s->num_layers; l++) {
        const LayerPlaces *at_ = layers + l;
        LayerWeights *its = weights->layers + l;
        its->qkv = copied_weight(matrix(p + at_->qkv_weight, K), H, K, spare, room);
        its->proj = copied_weight(matrix(p + at_->proj_weight, H), H, H, spare, room);
        if (!F || s->num_experts) continue;
        its->fc1 = copied_weight(matrix(p + at_->fc1_weight, F1), H, F1, spare, room);
        its->fc2 = copied_weight(matrix(p + at_->fc2_weight, H), F, H, spare, room);
    }
    const Matrix table = matrix(p + output, H);
    weights->output = copied_weight(transposed(table), H, s->vocab_size, spare, room);
}

static int64_t copies_size(const Shape *s) {
    const int64_t H = s->width, F = s->num_experts ? 0 : s->inner;
    const int64_t of_mlp = F ? both_sizes(H, fc1_width(s)) + both_sizes(F, H) : 0;
    return spare_size(s) + s->num_layers * (both_sizes(H, qkv_width(s)) + both_sizes(H, H) + of_mlp)
           + both_sizes(H, s->vocab_size);
}
