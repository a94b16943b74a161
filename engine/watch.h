/* WATCH: a connection's interest in a key. The watcher hangs on its key, in a hash table of the
 * slot, under the slot's token (or an exclusive section); whoever changes a key of a WATCHED slot
 * marks that key's watchers dirty, at a cost that does not depend on how many other keys of the
 * slot are watched. */
#ifndef SLOTWISE_ENGINE_WATCH_H
#define SLOTWISE_ENGINE_WATCH_H

#include "engine/keyspace.h"
#include "engine/watch_index.h"

struct watcher {
    struct watch_node by_key;    /* of the first watcher of a key only; under the token */
    struct watch_node by_owner;  /* under the token */
    struct watcher *next_of_key; /* ring of the watchers of a key; under the token */
    struct watcher *previous_of_key;
    struct watcher *next_of_owner; /* the owner's own list; only the owner's thread */
    _Atomic bool *dirty;           /* the owner's flag; set by whoever changes the key */
    struct keyspace *keyspace;
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

struct watcher *watcher_make(struct keyspace *keyspace, unsigned database, const struct key *key,
                             _Atomic bool *dirty);
/* Under the token of its slot, both in constant time. Link sets SLOT_WATCHED; the last unlink
 * clears it. Does not free. An owner watches a key once (ask watch_find before). */
void watcher_link(struct watcher *watcher, struct view *view);
void watcher_unlink(struct watcher *watcher);
void watcher_free(struct watcher *watcher);

/* Under the token of the key's slot: the watcher of this key that was made with this flag, NULL if
 * there is none. Constant time. */
struct watcher *watch_find(const struct keyspace *keyspace, unsigned database,
                           const struct key *key, const _Atomic bool *dirty);

/* Under the token: called by change_after when the slot's word has SLOT_WATCHED. absent: the key is
 * gone now.
 * Returns how many watchers it looked at. */
size_t watch_touch(const struct slot *slot, unsigned database, const struct key *key, bool absent);
/* Under the token of its slot: true if the database has become another one since (FLUSHDB,
 * FLUSHALL, SWAPDB), and with it the watched key: it was there when it was watched or has come with
 * a swap. What changed the key itself has marked the watcher, so that only this is left to find
 * out, and flushes and swaps need not look at watchers. A key that was absent is not touched by a
 * flush. Where a swap and another flush or swap came since, what was between is not known, and the
 * answer is true. */
bool watcher_is_replaced(const struct watcher *watcher, struct view *view);
/* Under the token of its slot: true if the watched key has expired since (Redis fails EXEC then).
 */
bool watcher_is_expired(const struct watcher *watcher, struct view *view);

#endif
