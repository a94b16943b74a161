/* Slot dirty: which keys of some slots have changed since the walk of a migration came to their
 * slot. Listens behind the door (engine/change.h) while there is a migration, and costs nothing
 * elsewhere.
 *
 * Each key is noted once, however often it changes. The keys are under a lock that is taken under
 * the token of the key's slot; whoever has the lock takes no token. */
#ifndef SLOTWISE_SERVER_SLOT_DIRTY_H
#define SLOTWISE_SERVER_SLOT_DIRTY_H

#include <pthread.h>

#include "cluster/wire.h"
#include "engine/keyspace.h"

#define SLOT_DIRTY_BUCKETS 65536

struct slot_dirty_key {
    struct slot_dirty_key *next;
    uint64_t hash;
    size_t length;
    char data[];
};

struct slot_dirty {
    struct change_listener listener;
    struct door *door;
    _Atomic uint8_t walked[WIRE_SLOT_BYTES]; /* each bit under its slot's token */
    pthread_mutex_t lock;
    struct slot_dirty_key **buckets; /* under the lock; NULL: nothing is noted */
    uint64_t count;                  /* under the lock */
};

void slot_dirty_init(struct slot_dirty *dirty, struct door *door);
void slot_dirty_destroy(struct slot_dirty *dirty);
/* In exclusive sections. */
void slot_dirty_begin(struct slot_dirty *dirty);
void slot_dirty_end(struct slot_dirty *dirty);
/* Under the slot's token: what changes from here on is noted. */
void slot_dirty_follow(struct slot_dirty *dirty, uint32_t slot);
/* As if it had changed. Under the key's token. */
void slot_dirty_note(struct slot_dirty *dirty, const struct key *key);
/* All that are noted, in no order, as a list that the caller frees with memory_free. */
struct slot_dirty_key *slot_dirty_take(struct slot_dirty *dirty);
uint64_t slot_dirty_count(struct slot_dirty *dirty);

#endif
