/* WATCH lists. A slot's list is short (keys watched in that slot), doubly walked under the token; see watch.h. */
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
    slot->watchers = watcher;
    slot_set_bits(slot, SLOT_WATCHED);
}

void watcher_unlink(struct watcher *watcher) {
    struct slot *slot = &watcher->keyspace->slots[watcher->slot];
    struct watcher **link = &slot->watchers;
    while (*link != watcher) {
        ASSERT(*link != NULL);
        link = &(*link)->next_in_slot;
    }
    *link = watcher->next_in_slot;
    if (!slot->watchers)
        slot_clear_bits(slot, SLOT_WATCHED);
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

void watch_touch_database(struct keyspace *keyspace, int database) {
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        for (struct watcher *w = keyspace->slots[slot].watchers; w; w = w->next_in_slot) {
            if (database >= 0 && w->database != (unsigned)database)
                continue;
            struct key key = watcher_key(w);
            struct object *object = keyspace_find_raw(keyspace, w->database, &key);
            if (object && !(w->expired && object_is_expired(object)))
                atomic_store_explicit(w->dirty, true, memory_order_relaxed);
        }
}
