/* WATCH: a connection's interest in a key. The watcher hangs on its key, in a hash table of the
 * slot, under the slot's token (or an exclusive section); whoever changes a key of a WATCHED slot
 * marks that key's watchers dirty, at a cost that does not depend on how many other keys of the
 * slot are watched. */
#ifndef SLOTWISE_ENGINE_WATCH_H
#define SLOTWISE_ENGINE_WATCH_H

#include "engine/key.h"
#include "engine/slot.h"
#include "engine/watch_index.h"

/* How often a logical database has become another one as a whole: what watchers compare at EXEC.
 * Changed in exclusive sections. */
struct replacements {
    uint64_t count; /* flushes and swaps */
    uint64_t swaps;
    int64_t swapped_ms; /* by the wall clock, the last time */
};

/* What watchers need of the keyspace, which it is a part of. */
struct watch_map {
    struct slot *slots;                /* they hang on these */
    struct replacements *replacements; /* of each logical database */
};

struct watcher {
    struct watch_node by_key;    /* of the first watcher of a key only; under the token */
    struct watch_node by_owner;  /* under the token */
    struct watcher *next_of_key; /* ring of the watchers of a key; under the token */
    struct watcher *previous_of_key;
    struct watcher *next_of_owner; /* the owner's own list; only the owner's thread */
    _Atomic bool *dirty;           /* the owner's flag; set by whoever changes the key */
    const struct watch_map *map;
    uint64_t hash;
    uint32_t slot;
    uint32_t database; /* logical number at the time of WATCH */
    bool linked;
    bool expired;                     /* it was expired (logically absent) when it was watched */
    bool existed;                     /* it was there, and not expired, when it was watched */
    struct replacements replacements; /* of its database when it was watched */
    size_t length;
    char key[];
};

/* How a unit of work finds a key. */
enum key_presence {
    KEY_ABSENT,
    KEY_EXPIRED, /* in its table, and absent for clients */
    KEY_PRESENT,
};

struct watcher *watcher_make(const struct watch_map *map, unsigned database, const struct key *key,
                             _Atomic bool *dirty);
/* Under the token of its slot, both in constant time. Link sets SLOT_WATCHED; the last unlink
 * clears it. Does not free. An owner watches a key once (ask watch_find before). now: how the unit
 * that watches finds the key. */
void watcher_link(struct watcher *watcher, enum key_presence now);
void watcher_unlink(struct watcher *watcher);
void watcher_free(struct watcher *watcher);

/* Under the token of the key's slot: the watcher of this key that was made with this flag, NULL if
 * there is none. Constant time. */
struct watcher *watch_find(const struct watch_map *map, unsigned database, const struct key *key,
                           const _Atomic bool *dirty);

/* Under the token: called by change_after when the slot's word has SLOT_WATCHED. absent: the key is
 * gone now. Returns how many watchers it looked at. */
size_t watch_touch(const struct slot *slot, unsigned database, const struct key *key, bool absent);

/* The key as it was given to watcher_make. */
static inline struct key watcher_key(const struct watcher *watcher) {
    return (struct key){watcher->key, watcher->length, watcher->hash, watcher->slot};
}

/* Under the token of its slot: what has become of the watcher's database since. What changed the
 * key itself has marked the watcher, so that only this is left to find out (and expiry:
 * keyspace_watch.h), and flushes and swaps need not look at watchers. */
enum watch_database {
    WATCH_DATABASE_SAME,    /* as far as this key goes */
    WATCH_DATABASE_OTHER,   /* and with it the key */
    WATCH_DATABASE_SWAPPED, /* and with it the key if one was there when the swap came */
};
enum watch_database watcher_database(const struct watcher *watcher);

#endif
