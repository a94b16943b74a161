/* Door: what stands behind every change of a key (change.h). Included by those who are told as well
 * as by those who change. */
#ifndef SLOTWISE_ENGINE_DOOR_H
#define SLOTWISE_ENGINE_DOOR_H

#include "engine/view.h"

struct slot;            /* slot.h */
struct effect_log;      /* effect_log.h */
struct snapshot;        /* snapshot.h */
struct change_listener; /* change.h */
struct change;          /* change.h */
struct key;             /* key.h */

/* Part of the keyspace. All but view is written in exclusive sections (or before threads exist). */
struct door {
    struct slot *slots;
    struct effect_log *log;           /* NULL: nothing is logged */
    uint64_t logs_begun;              /* how often log has been set */
    const struct snapshot *snapshot;  /* NULL: none is being taken */
    struct change_listener *listener; /* NULL: nobody listens */
    bool tells_misses;                /* CHANGE_KEYMISS is wanted */
    /* A key that is there has changed in a slot where somebody waits for one (SLOT_BLOCKED). Under
     * its token, by a change that has serves_waiters. NULL: nobody ever waits. */
    void (*appeared)(struct change *change, unsigned database, const struct key *key);
    uint8_t snapshot_id;          /* objects with another one are older than the last cut */
    uint8_t snapshots_unfinished; /* given up since the last one that was whole */
    /* What expiry and eviction are propagated as: UNLINK instead of DEL. */
    _Atomic bool unlink_expired, unlink_evicted;
    struct view_state view;
};

#endif
