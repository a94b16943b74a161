/* The memory limit: whether a command that needs memory may run, and eviction under maxmemory by
 * Redis's eight policies (sampling, see eviction.c), one evictor at a time. Nothing here blocks,
 * spins or waits for a token.
 *
 * Source: the key eviction page of Redis's documentation. */
#ifndef SLOTWISE_ENGINE_EVICTION_H
#define SLOTWISE_ENGINE_EVICTION_H

#include "engine/keyspace.h"
#include "engine/memory.h"

enum eviction_policy {
    EVICTION_VOLATILE_LRU,
    EVICTION_VOLATILE_LFU,
    EVICTION_VOLATILE_RANDOM,
    EVICTION_VOLATILE_TTL,
    EVICTION_ALLKEYS_LRU,
    EVICTION_ALLKEYS_LFU,
    EVICTION_ALLKEYS_RANDOM,
    EVICTION_NONE,
};

struct evictor;

struct evictor *evictor_create(struct keyspace *keyspace);
void evictor_destroy(struct evictor *evictor);
/* In an exclusive section (or before threads): also sets the keyspace's access policy.
 * tenacity 0..100 as maxmemory-eviction-tenacity: see eviction_wait_limit_us. */
void evictor_configure(struct evictor *evictor, enum eviction_policy policy, unsigned samples,
                       unsigned tenacity, int lfu_log_factor, int lfu_decay_minutes);

enum admission {
    ADMIT_YES,
    ADMIT_WAIT, /* memory is on its way: ask again in about a millisecond, or when told */
    ADMIT_NO,   /* the OOM error */
};

/* Before a command that needs memory takes its tokens. limit_bytes: maxmemory, 0 for none.
 * waited_us: how long this command has waited since its first ADMIT_WAIT, 0 when it is asked for
 * the first time.
 *
 * YES: no more than the limit is counted (memory_is_over), and this thread has not too much
 * retired. Otherwise evicts for about 50 us, frees what this thread has retired for as long, and
 * looks again. NO: nothing may be evicted and nothing is being freed, or the command has waited for
 * eviction_wait_limit_us. What is only too much *retired* memory is waited for without an end and
 * without a policy, for it is bounded by the longest command of another thread.
 *
 * The caller is a registered reader, online, at a command boundary: it holds no token and no
 * published pointer (this passes a quiescent state). Who gets WAIT parks the client and sees to it
 * that eviction_continue is called meanwhile. */
enum admission eviction_admit(struct evictor *evictor, uint64_t limit_bytes, uint64_t waited_us);
/* The same question at the price of a load or two: false means that the answer is YES. */
static inline bool eviction_is_needed(uint64_t limit_bytes) {
    return memory_retired_is_over() || (limit_bytes > 0 && memory_is_over(limit_bytes));
}
/* How long a write may wait for room, by maxmemory-eviction-tenacity: 500 ms at 10, linear below,
 * 15 % more for each step above, for ever (UINT64_MAX) at 100. */
uint64_t eviction_wait_limit_us(unsigned tenacity);

/* From the timers of any worker: evicts for about budget_us if more is live than limit_bytes. true:
 * there is more to do (call again in the next turn); false: the limit holds, or nothing may be
 * evicted (ask again with the next timer). Threads and pointers as eviction_admit, but for the
 * quiescent state. Not during CLIENT PAUSE. */
bool eviction_continue(struct evictor *evictor, uint64_t limit_bytes, uint64_t budget_us);

/* For INFO, in ms: how long the limit has been exceeded now (0: it is not), and in all. Any thread.
 * The reset in an exclusive section. */
void eviction_exceeded_ms(const struct evictor *evictor, uint64_t *current, uint64_t *total);
void evictor_reset_statistics(struct evictor *evictor);

#endif
