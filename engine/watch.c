/* WATCH: see watch.h. Everything here runs under the slot's token or in an exclusive section, and
 * costs the same whatever else is watched in the slot. Changes of whole databases look at no
 * watcher.
 *
 * Algorithm. A slot with watched keys has a table of two indices. by_key holds one watcher of each
 * watched key, the first of a ring of all its watchers: a change finds the ring by the key's hash.
 * by_owner holds every watcher under a hash of its key and its owner, so that WATCH can tell
 * whether this connection watches the key already, however many others do.
 *
 * Invariant: a slot has such a table, with something in it, if and only if its word has
 * SLOT_WATCHED. */
#include "engine/watch.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"

struct watch_table {
    struct watch_index by_key;
    struct watch_index by_owner;
};

/* The upper half of a product is the better one, and the index uses the lower one. */
static uint64_t mix(uint64_t hash, uint64_t with) {
    uint64_t product = hash ^ (with + 1) * 0x9e3779b97f4a7c15u;
    product *= 0xd6e8feb86659fd93u;
    return product ^ product >> 32;
}

static uint64_t hash_by_owner(uint64_t hash_by_key, const _Atomic bool *dirty) {
    return mix(hash_by_key, (uint64_t)(uintptr_t)dirty);
}

#define WATCHER_OF(node, member)                                                                   \
    ((struct watcher *)(void *)((char *)(node)-offsetof(struct watcher, member)))

struct watcher *watcher_make(const struct watch_map *map, unsigned database, const struct key *key,
                             _Atomic bool *dirty) {
    struct watcher *watcher = memory_alloc(sizeof *watcher + key->length);
    *watcher = (struct watcher){.dirty = dirty,
                                .map = map,
                                .by_key.hash = mix(key->hash, database),
                                .hash = key->hash,
                                .slot = key->slot,
                                .database = database,
                                .length = key->length};
    watcher->by_owner.hash = hash_by_owner(watcher->by_key.hash, dirty);
    memcpy(watcher->key, key->data, key->length);
    return watcher;
}

void watcher_free(struct watcher *watcher) {
    memory_free_sized(watcher, sizeof *watcher + watcher->length);
}

static bool watches(const struct watcher *watcher, unsigned database, const struct key *key) {
    return watcher->hash == key->hash && watcher->database == database &&
           watcher->length == key->length && memcmp(watcher->key, key->data, key->length) == 0;
}

/* The first of the ring of this key, NULL if nobody watches it. Adds the number of watchers that it
 * compares. */
static struct watcher *find_ring(const struct watch_table *table, uint64_t hash_by_key,
                                 unsigned database, const struct key *key, size_t *compared) {
    struct watch_node *node = watch_index_chain(&table->by_key, hash_by_key);
    for (; node; node = node->next, ++*compared)
        if (watches(WATCHER_OF(node, by_key), database, key))
            return WATCHER_OF(node, by_key);
    return NULL;
}

static struct watch_table *table_begin(struct watcher *watcher) {
    struct slot *slot = &watcher->map->slots[watcher->slot];
    if (slot->watchers)
        return slot->watchers;
    slot->watchers = memory_alloc(sizeof *slot->watchers);
    watch_index_begin(&slot->watchers->by_key);
    watch_index_begin(&slot->watchers->by_owner);
    atomic_fetch_or(&slot->word, SLOT_WATCHED);
    return slot->watchers;
}

static void table_end(struct watcher *watcher) {
    struct slot *slot = &watcher->map->slots[watcher->slot];
    watch_index_end(&slot->watchers->by_key);
    watch_index_end(&slot->watchers->by_owner);
    memory_free(slot->watchers);
    slot->watchers = NULL;
    atomic_fetch_and(&slot->word, ~SLOT_WATCHED); /* perhaps in a section, not HELD */
}

void watcher_link(struct watcher *watcher, enum key_presence now) {
    struct watch_table *table = table_begin(watcher);
    struct key key = watcher_key(watcher);
    ASSERT(!watcher->linked);
    watcher->linked = true;
    watcher->expired = now == KEY_EXPIRED;
    watcher->existed = now == KEY_PRESENT;
    watcher->replacements = watcher->map->replacements[watcher->database];
    size_t compared = 0;
    struct watcher *ring =
        find_ring(table, watcher->by_key.hash, watcher->database, &key, &compared);
    if (ring) {
        watcher->next_of_key = ring->next_of_key;
        watcher->previous_of_key = ring;
        ring->next_of_key->previous_of_key = watcher;
        ring->next_of_key = watcher;
    } else {
        watcher->next_of_key = watcher->previous_of_key = watcher;
        watch_index_add(&table->by_key, &watcher->by_key);
    }
    watch_index_add(&table->by_owner, &watcher->by_owner);
}

void watcher_unlink(struct watcher *watcher) {
    struct watch_table *table = watcher->map->slots[watcher->slot].watchers;
    struct key key = watcher_key(watcher);
    ASSERT(watcher->linked);
    watcher->linked = false;
    size_t compared = 0;
    struct watcher *next = watcher->next_of_key;
    if (next == watcher)
        watch_index_remove(&table->by_key, &watcher->by_key);
    else if (find_ring(table, watcher->by_key.hash, watcher->database, &key, &compared) == watcher)
        watch_index_replace(&table->by_key, &watcher->by_key, &next->by_key);
    next->previous_of_key = watcher->previous_of_key;
    watcher->previous_of_key->next_of_key = next;
    watch_index_remove(&table->by_owner, &watcher->by_owner);
    if (table->by_owner.count == 0)
        table_end(watcher);
}

struct watcher *watch_find(const struct watch_map *map, unsigned database, const struct key *key,
                           const _Atomic bool *dirty) {
    const struct watch_table *table = map->slots[key->slot].watchers;
    if (!table)
        return NULL;
    uint64_t hash = hash_by_owner(mix(key->hash, database), dirty);
    struct watch_node *node = watch_index_chain(&table->by_owner, hash);
    for (; node; node = node->next) {
        struct watcher *watcher = WATCHER_OF(node, by_owner);
        if (watcher->dirty == dirty && watches(watcher, database, key))
            return watcher;
    }
    return NULL;
}

static bool is_another_database(const struct watcher *w) {
    return w->replacements.count != w->map->replacements[w->database].count;
}

enum watch_database watcher_database(const struct watcher *watcher) {
    const struct replacements *now = &watcher->map->replacements[watcher->database],
                              *then = &watcher->replacements;
    if (!is_another_database(watcher))
        return WATCH_DATABASE_SAME;
    if (watcher->existed)
        return WATCH_DATABASE_OTHER;
    if (now->swaps == then->swaps)
        return WATCH_DATABASE_SAME; /* flushes found it absent and left it so */
    return now->count - then->count > 1 ? WATCH_DATABASE_OTHER : WATCH_DATABASE_SWAPPED;
}

size_t watch_touch(const struct slot *slot, unsigned database, const struct key *key, bool absent) {
    size_t seen = 0;
    struct watcher *first =
        find_ring(slot->watchers, mix(key->hash, database), database, key, &seen);
    struct watcher *w = first;
    if (!first)
        return seen;
    do {
        seen++;
        if (w->expired && absent && !is_another_database(w))
            /* It was absent for the client already; its deletion changes nothing for it. */
            w->expired = false;
        else
            atomic_store_explicit(w->dirty, true, memory_order_relaxed);
        w = w->next_of_key;
    } while (w != first);
    return seen;
}
