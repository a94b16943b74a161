/* Seeded random numbers of the simulators. Each purpose has a generator of its own, so that what is
 * left out of one leaves the others as they were. No state but the generator. */
#ifndef SLOTWISE_TESTS_SIM_RANDOM_H
#define SLOTWISE_TESTS_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
    uint64_t state;
};

static inline uint64_t sim_random_mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t sim_random_next(struct sim_random *random) {
    random->state += 0x9e3779b97f4a7c15u;
    return sim_random_mix(random->state);
}

/* The generator of one purpose of a run with this seed. */
static inline struct sim_random sim_random_of(uint64_t seed, uint64_t purpose) {
    return (struct sim_random){sim_random_mix(seed * 0x9e3779b97f4a7c15u + purpose)};
}

/* 0 to limit - 1; limit at least 1. */
static inline uint64_t sim_random_below(struct sim_random *random, uint64_t limit) {
    return sim_random_next(random) % limit;
}

static inline uint64_t sim_random_between(struct sim_random *random, uint64_t least,
                                          uint64_t most) {
    return least + sim_random_below(random, most - least + 1);
}

static inline bool sim_random_chance(struct sim_random *random, unsigned percent) {
    return sim_random_below(random, 100) < percent;
}

#endif
