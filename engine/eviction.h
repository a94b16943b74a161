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
/* In an exclusive section (or before threads): also sets the keyspace's track_access and track_lfu. tenacity 0..100 as
 * maxmemory-eviction-tenacity. */
void evictor_configure(struct evictor *evictor, enum eviction_policy policy, unsigned samples, unsigned tenacity,
                       int lfu_log_factor, int lfu_decay_minutes);
/* Deletes keys until memory_admission_bytes() <= limit_bytes. true: it is (or enough progress was made within the time
 * that the tenacity allows, eviction goes on with the next call); false: nothing can be evicted and the limit is exceeded.
 * The caller holds no token (it is at a command boundary) and is a registered reader. Blocks while another thread evicts. */
bool eviction_make_room(struct evictor *evictor, uint64_t limit_bytes);

#endif
