/* Half precision, bit for bit as ps.half does it in NumPy: to nearest, ties to even, subnormal numbers included.

   A NaN stays a NaN of its sign. As a bfloat16 it is the quiet one without a payload, as with ml_dtypes; as a float16 it
   keeps what of its payload there is room for, as with NumPy where the processor does not convert. */
#ifndef PS_HALF_H
#define PS_HALF_H

#include "clones.h"

static inline uint16_t bfloat16_of(float value) {
    uint32_t bits = bits_of(value), sign = bits & 0x80000000u;
    uint32_t rounded = bits + 0x7FFF + (bits >> 16 & 1);
    uint32_t nan = sign | 0x7FC00000u;
    return (uint16_t)(((bits & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded) >> 16);
}

/* Adding 2^13 times a number's power of two leaves as the sum's last bits what half has room for, rounded. */
static inline uint16_t float16_of(float value) {
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
    uint32_t power = size & 0x7F800000;
    power = power < 0x38800000 ? 0x38800000 : power; /* 2^-14, the least normal half */
    power = power > 0x47000000 ? 0x47000000 : power; /* 2^15, the power of the largest */
    power += 13u << 23;
    uint32_t rounded = bits_of(float_of(size) + float_of(power)) - power + ((power - (126u << 23)) >> 13);
    uint32_t payload = size >> 13 & 0x3FF;
    uint32_t nan = 0x7C00 | (payload ? payload : 1);
    uint32_t large = size > 0x7F800000 ? nan : 0x7C00;
    return (uint16_t)(sign | (size >= 0x477FF000 ? large : rounded)); /* from 65520 on it is Inf */
}

/* Subnormal halves, which gradients often are, are made from their mantissa as a whole number: as subnormal floats
   they would take a processor a hundred times as long. */
static inline float float_of_float16(uint16_t half) {
    uint32_t size = half & 0x7FFF, sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t normal = (size << 13) + (112u << 23);
    uint32_t small = bits_of((float)(int32_t)size * 0x1p-24f);
    uint32_t bits = size < 0x0400 ? small : size < 0x7C00 ? normal : (size << 13) | 0x7F800000;
    return float_of(sign | bits);
}

static inline float float_of_bfloat16(uint16_t half) { return float_of((uint32_t)half << 16); }

CLONED static void narrow_bfloat16(const float *x, uint16_t *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = bfloat16_of(x[i]);
}

CLONED static void narrow_float16(const float *x, uint16_t *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = float16_of(x[i]);
}

CLONED static void widen_bfloat16(const uint16_t *x, float *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = float_of_bfloat16(x[i]);
}

CLONED static void widen_float16(const uint16_t *x, float *out, size_t n) {
    EACH for (size_t i = 0; i < n; ++i) out[i] = float_of_float16(x[i]);
}

/* The same where each number is first brought within the bound, which is finite; a NaN stays one. */
CLONED static void clip_narrow(const float *x, float bound, char kind, uint16_t *out, size_t n) {
    if (kind == BFLOAT16) {
        EACH for (size_t i = 0; i < n; ++i) {
            float v = x[i];
            v = v < -bound ? -bound : v;
            out[i] = bfloat16_of(v > bound ? bound : v);
        }
    } else {
        EACH for (size_t i = 0; i < n; ++i) {
            float v = x[i];
            v = v < -bound ? -bound : v;
            out[i] = float16_of(v > bound ? bound : v);
        }
    }
}

/* Whether all are within the limit, given as the half's bits; see within in loops.h. */
CLONED static int within_half(const uint16_t *x, uint16_t limit, size_t n) {
    uint16_t most = 0;
    for (size_t i = 0; i < n; ++i) {
        uint16_t size = x[i] & 0x7FFF;
        most = size > most ? size : most;
    }
    return most <= limit;
}

static void narrow(const float *x, char kind, uint16_t *out, size_t n) {
    if (kind == BFLOAT16) narrow_bfloat16(x, out, n);
    else narrow_float16(x, out, n);
}

static void widen(const uint16_t *x, char kind, float *out, size_t n) {
    if (kind == BFLOAT16) widen_bfloat16(x, out, n);
    else widen_float16(x, out, n);
}

#endif
