/* Arithmetic of vectors: of VECTOR of WIDTH numbers, INTEGERS beside it, functions named OF(name). */

static inline VECTOR OF(all)(float x) {
    return x - (VECTOR){};
}

static inline VECTOR OF(choose)(INTEGERS condition, VECTOR a, VECTOR b) {
    return (VECTOR)((condition & (INTEGERS)a) | (~condition & (INTEGERS)b));
}

/* What is not a number stays so where it is the second. */
static inline VECTOR OF(larger)(VECTOR a, VECTOR b) {
#if defined __AVX__ && WIDTH == 8
    return _mm256_max_ps(a, b);
#elif defined __SSE__ && WIDTH == 4
    return _mm_max_ps(a, b);
#else
    return OF(choose)(a > b, a, b);
#endif
}

static inline VECTOR OF(smaller)(VECTOR a, VECTOR b) {
#if defined __AVX__ && WIDTH == 8
    return _mm256_min_ps(a, b);
#elif defined __SSE__ && WIDTH == 4
    return _mm_min_ps(a, b);
#else
    return OF(choose)(a < b, a, b);
#endif
}

static inline VECTOR OF(root)(VECTOR x) {
    for (int lane = 0; lane < WIDTH; lane++) x[lane] = sqrtf(x[lane]);
    return x;
}

/* exp to two units in the last place, by a polynomial on [-ln 2 / 2, ln 2 / 2] and a shift of the
 * exponent. Below -87 it is as at -87. */
static inline VECTOR OF(exponential)(VECTOR x) {
    x = OF(smaller)(OF(all)(88.0f), OF(larger)(OF(all)(-87.0f), x));
    const VECTOR shifter = OF(all)(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    VECTOR whole = (x * 1.44269504f + shifter) - shifter;
    VECTOR part = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    VECTOR sum = OF(all)(1.9875691500e-4f);
    sum = sum * part + 1.3981999507e-3f;
    sum = sum * part + 8.3334519073e-3f;
    sum = sum * part + 4.1665795894e-2f;
    sum = sum * part + 1.6666665459e-1f;
    sum = sum * part + 5.0000001201e-1f;
    sum = sum * part * part + part + 1.0f;
    INTEGERS exponent = (__builtin_convertvector(whole, INTEGERS) + 127) << 23;
    return sum * (VECTOR)exponent;
}

/* gelu and its derivative, with erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline VECTOR OF(gelu)(VECTOR x, VECTOR *derivative) {
    VECTOR size = OF(larger)(-x, x);
    VECTOR t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    VECTOR density = OF(exponential)(-0.5f * x * x);
    VECTOR tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                  + 0.254829592f) * t * density * 0.5f;
    VECTOR cumulative = OF(choose)(x < 0.0f, tail, 1.0f - tail);
    *derivative = cumulative + x * density * 0.39894228f;
    return x * cumulative;
}

static inline VECTOR OF(silu)(VECTOR x, VECTOR *derivative) {
    VECTOR sigmoid = 1.0f / (1.0f + OF(exponential)(-x));
    *derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
    return x * sigmoid;
}
