/* What all files here share: compiling a loop for several processors, and how an element of an array is called. */
#ifndef PS_CLONES_H
#define PS_CLONES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* CLONED: the compiler makes one of these loops for each of the processors named, and the loader takes the one that
   this machine can run. Only where both can: elsewhere, as on ARM, the baseline has what is needed. */
#if defined(__has_attribute) && !defined(PS_NO_CLONES)
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__)
#if defined(__clang__) || __GNUC__ < 12
#define CLONED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif
#endif
#endif
#ifndef CLONED
#define CLONED
#endif

/* INLINED: what is made anew in each loop that calls it, for the processor of that. */
#if defined(__GNUC__)
#define INLINED inline __attribute__((always_inline))
#else
#define INLINED inline
#endif

/* EACH: the arrays of a loop are the same one or have nothing in common, which kernels.c has checked. */
#if defined(__clang__)
#define EACH _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define EACH _Pragma("GCC ivdep")
#else
#define EACH
#endif

/* The tiles in which vectors are gone through: what a loop leaves of one, the next finds in the first cache. */
#define TILE 1024

/* The sums that a sum in double precision is made of, side by side: ps.lanes. */
#define LANES 1024

/* Elements with one scale: ps.compress.int8. */
#define ROW 1024

/* Elements with two levels: ps.compress.onebit. */
#define LEVELS_ROW 4096

/* Add up lanes by halves. */
static INLINED double add_lanes(double *lanes) {
    for (size_t half = LANES / 2; half > 0; half /= 2)
        EACH for (size_t i = 0; i < half; ++i) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

/* Eight bytes, each 0 or 1, as the bits of one, the first in the highest. */
static INLINED uint8_t pack(const uint8_t *bytes) {
    uint64_t eight = 0;
    for (int i = 0; i < 8; ++i) eight |= (uint64_t)bytes[i] << (8 * i); /* a load, where the lowest byte comes first */
    return (uint8_t)(eight * 0x8040201008040201u >> 56);
}

/* The elements of an array, by the letter of Python's buffer protocol; bfloat16 has none and comes as its bits. */
enum { SINGLE = 'f', DOUBLE = 'd', FLOAT16 = 'e', BFLOAT16 = 'H' };

static inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#endif
