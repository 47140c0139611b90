/* Elementwise functions of a vector type; included once per type by vectors.h.
 *
 * FLOATS is the type, INTS its integer counterpart, NUM_FLOATS its length; NAME(x) is x with the
 * type's prefix: vec_max, reg_max, ...
 */

static inline FLOATS NAME(set1)(float x) {
    return x - (FLOATS){};
}

static inline FLOATS NAME(select)(INTS condition, FLOATS a, FLOATS b) {
    return (FLOATS)((condition & (INTS)a) | (~condition & (INTS)b));
}

/* A NaN in `b` is returned; a NaN in `a` is not. */
static inline FLOATS NAME(max)(FLOATS a, FLOATS b) {
#if defined __AVX512F__ && NUM_FLOATS == 16
    return _mm512_max_ps(a, b);
#elif defined __AVX__ && NUM_FLOATS == 8
    return _mm256_max_ps(a, b);
#elif defined __SSE__ && NUM_FLOATS == 4
    return _mm_max_ps(a, b);
#else
    return NAME(select)(a > b, a, b);
#endif
}

static inline FLOATS NAME(min)(FLOATS a, FLOATS b) {
#if defined __AVX512F__ && NUM_FLOATS == 16
    return _mm512_min_ps(a, b);
#elif defined __AVX__ && NUM_FLOATS == 8
    return _mm256_min_ps(a, b);
#elif defined __SSE__ && NUM_FLOATS == 4
    return _mm_min_ps(a, b);
#else
    return NAME(select)(a < b, a, b);
#endif
}

static inline FLOATS NAME(sqrt)(FLOATS x) {
    for (int lane = 0; lane < NUM_FLOATS; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

/* 2^x to two units in the last place, for x up to 127; x below -126 counts as -126. The integer
 * part of x is added to the exponent of a polynomial on [-1/2, 1/2] (error 7.5e-8). */
static inline FLOATS NAME(exp2)(FLOATS x) {
    x = NAME(max)(NAME(set1)(-126.0f), x);
    const FLOATS shifter = NAME(set1)(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const FLOATS shifted = x + shifter, part = x - (shifted - shifter);
    FLOATS sum = NAME(set1)(1.3276472e-3f);
    sum = sum * part + 9.675541e-3f;
    sum = sum * part + 5.550713e-2f;
    sum = sum * part + 2.402212e-1f;
    sum = sum * part + 6.9314694e-1f;
    sum = sum * part + 1.0000001f;
    return (FLOATS)((INTS)sum + ((INTS)shifted << 23));
}

/* GELU and its derivative, with erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline FLOATS NAME(gelu)(FLOATS x, FLOATS *derivative) {
    FLOATS size = NAME(max)(-x, x);
    FLOATS t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    FLOATS density = NAME(exp2)(-0.5f * LOG2_E * x * x);
    FLOATS tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                   + 0.254829592f)
                  * t * density * 0.5f;
    FLOATS cumulative = NAME(select)(x < 0.0f, tail, 1.0f - tail);
    *derivative = cumulative + x * density * 0.39894228f;
    return x * cumulative;
}

/* SiLU and its derivative. */
static inline FLOATS NAME(silu)(FLOATS x, FLOATS *derivative) {
    FLOATS sigmoid = 1.0f / (1.0f + NAME(exp2)(NAME(min)(NAME(set1)(127.0f), -LOG2_E * x)));
    *derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
    return x * sigmoid;
}
