/* Arithmetic of vectors: of VECTOR of WIDTH numbers, INTEGERS beside it, functions named OF(name). */

static inline VECTOR OF(all)(float x) {
    return x - (VECTOR){};
}

static inline VECTOR OF(choose)(INTEGERS condition, VECTOR a, VECTOR b) {
    return (VECTOR)((condition & (INTEGERS)a) | (~condition & (INTEGERS)b));
}

/* What is not a number stays so where it is the second. */
static inline VECTOR OF(larger)(VECTOR a, VECTOR b) {
#if defined __AVX512F__ && WIDTH == 16
    return _mm512_max_ps(a, b);
#elif defined __AVX__ && WIDTH == 8
    return _mm256_max_ps(a, b);
#elif defined __SSE__ && WIDTH == 4
    return _mm_max_ps(a, b);
#else
    return OF(choose)(a > b, a, b);
#endif
}

static inline VECTOR OF(smaller)(VECTOR a, VECTOR b) {
#if defined __AVX512F__ && WIDTH == 16
    return _mm512_min_ps(a, b);
#elif defined __AVX__ && WIDTH == 8
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

/* 2^x to two units in the last place, up to 2^127, by a polynomial on [-1/2, 1/2] (its error is
 * 7.5e-8) to whose exponent the whole part is added. Below -126 it is as at -126. */
static inline VECTOR OF(power_of_two)(VECTOR x) {
    x = OF(larger)(OF(all)(-126.0f), x);
    const VECTOR shifter = OF(all)(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const VECTOR shifted = x + shifter, part = x - (shifted - shifter);
    VECTOR sum = OF(all)(1.3276472e-3f);
    sum = sum * part + 9.675541e-3f;
    sum = sum * part + 5.550713e-2f;
    sum = sum * part + 2.402212e-1f;
    sum = sum * part + 6.9314694e-1f;
    sum = sum * part + 1.0000001f;
    return (VECTOR)((INTEGERS)sum + ((INTEGERS)shifted << 23));
}

/* gelu and its derivative, with erf to 1.5e-7 (Abramowitz and Stegun 7.1.26). */
static inline VECTOR OF(gelu)(VECTOR x, VECTOR *derivative) {
    VECTOR size = OF(larger)(-x, x);
    VECTOR t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * size);
    VECTOR density = OF(power_of_two)(-0.5f * LOG2_E * x * x);
    VECTOR tail = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t
                  + 0.254829592f) * t * density * 0.5f;
    VECTOR cumulative = OF(choose)(x < 0.0f, tail, 1.0f - tail);
    *derivative = cumulative + x * density * 0.39894228f;
    return x * cumulative;
}

static inline VECTOR OF(silu)(VECTOR x, VECTOR *derivative) {
    VECTOR sigmoid = 1.0f / (1.0f + OF(power_of_two)(OF(smaller)(OF(all)(127.0f), -LOG2_E * x)));
    *derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
    return x * sigmoid;
}
