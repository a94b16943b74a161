/* A random slot of a database, each with the chance of its share of the keys: RANDOMKEY and
 * eviction are fair over keys whatever the slots' sizes (one hash tag may hold most of them).
 *
 * Private to engine/. A choice belongs to one thread at a time; it reads the keyspace as an RCU
 * reader. */
#ifndef SLOTWISE_ENGINE_RANDOM_SLOT_H
#define SLOTWISE_ENGINE_RANDOM_SLOT_H

#include "engine/keyspace.h"

#define SLOT_GROUPS (SLOT_COUNT / 64)

/* What was last known about a database. Zero-initialised. */
struct slot_choice {
    const struct keyspace *keyspace;
    unsigned physical;  /* database */
    bool volatile_only; /* only keys with a TTL count */
    uint64_t total;     /* keys; 0: the database is empty */
    uint64_t made_us;
    uint32_t sums[SLOT_GROUPS];   /* keys of 64 slots */
    uint32_t maxima[SLOT_GROUPS]; /* keys of the largest of them, or more */
};

/* Brings the choice up to date if the number of keys has moved by more than 1/tolerance or a second
 * has passed. About a millisecond for a database that uses all slots, else less than a microsecond.
 */
void slot_choice_refresh(struct slot_choice *choice, const struct keyspace *keyspace,
                         unsigned database, bool volatile_only, unsigned tolerance);
/* The same whatever has happened. */
void slot_choice_make(struct slot_choice *choice, const struct keyspace *keyspace,
                      unsigned database, bool volatile_only);
/* SLOT_COUNT: the choice is out of date (make it again) or there is no key. */
uint32_t slot_choice_pick(struct slot_choice *choice, uint64_t *random_state);

/* splitmix64; any start will do. */
static inline uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline uint64_t random_below(uint64_t *state, uint64_t n) {
    return (uint64_t)(((unsigned __int128)random_next(state) * n) >> 64);
}

#endif
