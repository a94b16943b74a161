/* Access clocks: Redis's LRU (24 bits of seconds) and LFU (16 bits of minutes, 8 bits of
 * logarithmic counter) arithmetic. The clock field of an object is written relaxed by whoever reads
 * or writes the object, only under a policy that wants it and only when its value changes.
 *
 * Source: the key eviction page of Redis's documentation ("Approximated LRU algorithm", "The new
 * LFU mode"). */
#include "engine/access.h"

#include "engine/clock.h"
#include "engine/object.h"

#define LFU_INITIAL 5
#define LRU_MASK    0xffffffu

static _Alignas(64) _Atomic int64_t clock_seconds; /* written by access_clock_update only */

void access_clock_update(void) {
    /* Differences only: the wall clock may be set. */
    int64_t now = (int64_t)(clock_monotonic_us() / 1000000);
    if (atomic_load_explicit(&clock_seconds, memory_order_relaxed) != now)
        atomic_store_explicit(&clock_seconds, now, memory_order_relaxed);
}

static inline int64_t seconds_now(void) {
    return atomic_load_explicit(&clock_seconds, memory_order_relaxed);
}

uint32_t access_lru_now(void) {
    return (uint32_t)seconds_now() & LRU_MASK;
}

uint64_t access_idle_ms(const struct object *object) {
    uint32_t then = atomic_load_explicit(&object->access, memory_order_relaxed) & LRU_MASK;
    return (uint64_t)((access_lru_now() - then) & LRU_MASK) * 1000;
}

static uint32_t minutes_now(void) {
    return (uint32_t)(seconds_now() / 60) & 0xffff;
}

static uint32_t lfu_decayed(const struct access_policy *policy, uint32_t access) {
    uint32_t counter = access & 0xff, elapsed = (minutes_now() - (access >> 8)) & 0xffff;
    uint32_t periods =
        policy->lfu_decay_minutes > 0 ? elapsed / (uint32_t)policy->lfu_decay_minutes : 0;
    return periods >= counter ? 0 : counter - periods;
}

uint32_t access_lfu_counter(const struct access_policy *policy, const struct object *object) {
    return lfu_decayed(policy, atomic_load_explicit(&object->access, memory_order_relaxed));
}

/* xorshift per thread: no shared state. */
static uint32_t random_32(void) {
    static _Thread_local uint64_t state;
    if (state == 0)
        state = (uint64_t)(uintptr_t)&state ^ clock_monotonic_ns() ^ 0x9e3779b97f4a7c15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static uint32_t lfu_increment(const struct access_policy *policy, uint32_t counter) {
    if (counter == 255)
        return 255;
    double base = counter > LFU_INITIAL ? counter - LFU_INITIAL : 0;
    double chance = 1.0 / (base * policy->lfu_log_factor + 1);
    return (double)random_32() / 4294967296.0 < chance ? counter + 1 : counter;
}

void access_note(const struct access_policy *policy, struct object *object) {
    if (__builtin_expect(!policy->tracked, 1))
        return;
    uint32_t before = atomic_load_explicit(&object->access, memory_order_relaxed), after;
    if (policy->lfu)
        after = minutes_now() << 8 | lfu_increment(policy, lfu_decayed(policy, before));
    else
        after = access_lru_now();
    if (after != before)
        atomic_store_explicit(&object->access, after, memory_order_relaxed);
}

uint32_t access_initial(const struct access_policy *policy) {
    return policy->lfu ? (minutes_now() << 8 | LFU_INITIAL) : access_lru_now();
}

void access_restore(const struct access_policy *policy, struct object *object, int64_t idle_s,
                    int frequency) {
    uint32_t access = access_initial(policy);
    if (policy->lfu && frequency >= 0)
        access = minutes_now() << 8 | (uint32_t)frequency;
    else if (!policy->lfu && idle_s >= 0)
        access = (access_lru_now() - (idle_s < LRU_MASK ? (uint32_t)idle_s : LRU_MASK)) & LRU_MASK;
    atomic_store_explicit(&object->access, access, memory_order_relaxed);
}
