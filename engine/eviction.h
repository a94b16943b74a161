/* Eviction under maxmemory: Redis's eight policies by sampling (eviction.c), one evictor at a time.
 *
 * Source: the key eviction page of Redis's documentation. */
#ifndef SLOTWISE_ENGINE_EVICTION_H
#define SLOTWISE_ENGINE_EVICTION_H

#include "engine/keyspace.h"

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
/* In an exclusive section (or before threads): also sets the keyspace's track_access and track_lfu.
 * tenacity 0..100 as maxmemory-eviction-tenacity. */
void evictor_configure(struct evictor *evictor, enum eviction_policy policy, unsigned samples,
                       unsigned tenacity, int lfu_log_factor, int lfu_decay_minutes);
/* Deletes keys until !memory_is_over(limit_bytes). true: it is, or enough was deleted in
 * the time that the tenacity allows and eviction goes on with the next call: the command may run.
 * false: the limit is exceeded and nothing can be evicted (or the policy is EVICTION_NONE): a
 * command that needs memory gets the OOM error. Each deletion is logged as DEL and counted as
 * evicted. The caller is a registered reader, online, at a command boundary: it holds no token, for
 * the function may wait for one, and no pointer to an object, for its eviction may free it. Blocks
 * while another thread evicts (its time limit). */
bool eviction_make_room(struct evictor *evictor, uint64_t limit_bytes);

#endif
