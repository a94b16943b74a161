/* Access clocks: when, or how often, an object was last used, in Redis's LRU and LFU arithmetic.
 * See access.c. Any thread; an object must be valid for its caller. */
#ifndef SLOTWISE_ENGINE_ACCESS_H
#define SLOTWISE_ENGINE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

struct object;

/* What the maxmemory policy asks for; part of the keyspace. Written in exclusive sections (or
 * before threads exist). */
struct access_policy {
    bool tracked; /* access clocks are wanted */
    bool lfu;     /* they count how often, not when */
    int lfu_log_factor, lfu_decay_minutes;
};

uint32_t access_lru_now(void); /* seconds, 24 bits */
uint64_t access_idle_ms(const struct object *object);
uint32_t access_lfu_counter(const struct access_policy *policy,
                            const struct object *object); /* decayed */
void access_note(const struct access_policy *policy, struct object *object);
uint32_t access_initial(const struct access_policy *policy);
/* What RESTORE and RDB files tell of a key's past, as far as the policy wants it: how long it has
 * not been used, or its counter; -1: not told, as if it were new. The key is published. */
void access_restore(const struct access_policy *policy, struct object *object, int64_t idle_s,
                    int frequency);
/* Called a few times a second by some thread: the clock that the above read. */
void access_clock_update(void);

#endif
