/*
 * Small random numbers for load generation.
 *
 * Everything is counter based: the n-th draw is a function of n, so whoever knows the number of a
 * request can recompute its keys later, when the reply arrives, and nothing has to be remembered
 * per request. Stateless; any thread.
 */
#ifndef BENCH_COMMON_RANDOM_H
#define BENCH_COMMON_RANDOM_H

#include <stdint.h>

/* The finaliser of splitmix64: maps consecutive counters to independent looking 64-bit numbers. */
static inline uint64_t random_mix(uint64_t counter) {
    uint64_t x = counter * 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

/* Scales a 64-bit random number to [0, bound). */
static inline uint64_t random_below(uint64_t random, uint64_t bound) {
    return (uint64_t)(((unsigned __int128)random * bound) >> 64);
}

/* Scales a 64-bit random number to [0, 1). */
static inline double random_unit(uint64_t random) {
    return (double)(random >> 11) * 0x1.0p-53;
}

#endif
