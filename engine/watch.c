/* WATCH lists: see watch.h. A slot's list holds the watched keys of that slot, doubly linked, since
 * a thousand clients may watch one key. Everything here runs under the slot's token or in an
 * exclusive section.
 *
 * Invariant: a slot's list is not empty if and only if its word has SLOT_WATCHED and the keyspace's
 * bitmap has its bit. */
#include "engine/watch.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

struct watcher *watcher_make(struct keyspace *keyspace, unsigned database, const struct key *key,
                             _Atomic bool *dirty) {
    struct watcher *watcher = memory_alloc(sizeof *watcher + key->length);
    *watcher = (struct watcher){.dirty = dirty,
                                .keyspace = keyspace,
                                .hash = key->hash,
                                .slot = key->slot,
                                .database = database,
                                .length = key->length};
    memcpy(watcher->key, key->data, key->length);
    return watcher;
}

void watcher_free(struct watcher *watcher) {
    memory_free_sized(watcher, sizeof *watcher + watcher->length);
}

static struct key watcher_key(const struct watcher *watcher) {
    return (struct key){watcher->key, watcher->length, watcher->hash, watcher->slot};
}

void watcher_link(struct watcher *watcher) {
    struct slot *slot = &watcher->keyspace->slots[watcher->slot];
    struct key key = watcher_key(watcher);
    struct object *object = keyspace_find_raw(watcher->keyspace, watcher->database, &key);
    watcher->expired = object && object_is_expired(object);
    watcher->next_in_slot = slot->watchers;
    watcher->link_in_slot = &slot->watchers;
    if (slot->watchers) {
        slot->watchers->link_in_slot = &watcher->next_in_slot;
    } else {
        atomic_fetch_or(&slot->word, SLOT_WATCHED);
        atomic_fetch_or(&watcher->keyspace->watched[watcher->slot / 64],
                        (uint64_t)1 << (watcher->slot & 63));
    }
    slot->watchers = watcher;
}

void watcher_unlink(struct watcher *watcher) {
    struct slot *slot = &watcher->keyspace->slots[watcher->slot];
    *watcher->link_in_slot = watcher->next_in_slot;
    if (watcher->next_in_slot)
        watcher->next_in_slot->link_in_slot = watcher->link_in_slot;
    watcher->link_in_slot = NULL; /* a second unlink is our own fault and crashes */
    if (!slot->watchers) {
        atomic_fetch_and(&slot->word, ~SLOT_WATCHED); /* perhaps in a section, not HELD */
        atomic_fetch_and(&watcher->keyspace->watched[watcher->slot / 64],
                         ~((uint64_t)1 << (watcher->slot & 63)));
    }
}

bool watcher_is_expired(const struct watcher *watcher) {
    if (watcher->expired)
        return false;
    struct key key = watcher_key(watcher);
    struct object *object = keyspace_find_raw(watcher->keyspace, watcher->database, &key);
    return object && object_is_expired(object);
}

void watch_touch(struct keyspace *keyspace, unsigned database, const struct key *key) {
    for (struct watcher *w = keyspace->slots[key->slot].watchers; w; w = w->next_in_slot) {
        if (w->hash != key->hash || w->database != database || w->length != key->length ||
            memcmp(w->key, key->data, key->length) != 0)
            continue;
        if (w->expired && !keyspace_find_raw(keyspace, database, key)) {
            /* It was absent for the client already; its deletion changes nothing for it. */
            w->expired = false;
            continue;
        }
        atomic_store_explicit(w->dirty, true, memory_order_relaxed);
    }
}

/* The database of a watcher is emptied, or exchanged for another one. */
static void touch_whole(struct watcher *w, int replaced_by) {
    struct key key = watcher_key(w);
    struct object *before = keyspace_find_raw(w->keyspace, w->database, &key);
    struct object *after =
        replaced_by < 0 ? NULL : keyspace_find_raw(w->keyspace, (unsigned)replaced_by, &key);
    if (!before && !after)
        return;
    /* Absent for the client at the time of WATCH, and absent afterwards: nothing has changed for
     * it. */
    if ((w->expired || !before) && (!after || object_is_expired(after))) {
        w->expired = after != NULL;
        return;
    }
    atomic_store_explicit(w->dirty, true, memory_order_relaxed);
}

void watch_touch_database(struct keyspace *keyspace, int database, int replaced_by) {
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++) {
        uint64_t bits = atomic_load_explicit(&keyspace->watched[word], memory_order_relaxed);
        for (; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            struct watcher *w = keyspace->slots[slot].watchers;
            for (; w; w = w->next_in_slot)
                if (database < 0 || w->database == (unsigned)database)
                    touch_whole(w, replaced_by);
        }
    }
}
