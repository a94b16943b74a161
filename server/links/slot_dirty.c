/* See slot_dirty.h. */
#include "server/links/slot_dirty.h"

#include <string.h>

#include "engine/memory.h"

void slot_dirty_note(struct slot_dirty *dirty, const struct key *key) {
    pthread_mutex_lock(&dirty->lock);
    struct slot_dirty_key **at = &dirty->buckets[key->hash % SLOT_DIRTY_BUCKETS];
    while (*at && ((*at)->hash != key->hash || (*at)->length != key->length ||
                   memcmp((*at)->data, key->data, key->length) != 0))
        at = &(*at)->next;
    if (!*at) {
        struct slot_dirty_key *new = memory_alloc(sizeof *new + key->length);
        *new = (struct slot_dirty_key){.hash = key->hash, .length = key->length};
        memcpy(new->data, key->data, key->length);
        *at = new;
        dirty->count++;
    }
    pthread_mutex_unlock(&dirty->lock);
}

static void changed(void *context, const struct change *change, unsigned database,
                    const struct key *key, enum change_event event) {
    struct slot_dirty *dirty = context;
    (void)change;
    (void)event;
    if (database == 0 &&
        atomic_load_explicit(&dirty->walked[key->slot / 8], memory_order_relaxed) >>
                (key->slot % 8) &
            1)
        slot_dirty_note(dirty, key);
}

void slot_dirty_init(struct slot_dirty *dirty, struct door *door) {
    *dirty = (struct slot_dirty){.listener = {changed, dirty, NULL}, .door = door};
    pthread_mutex_init(&dirty->lock, NULL);
}

void slot_dirty_destroy(struct slot_dirty *dirty) {
    for (struct slot_dirty_key *key = slot_dirty_take(dirty), *next; key; key = next) {
        next = key->next;
        memory_free(key);
    }
    memory_free(dirty->buckets);
    dirty->buckets = NULL;
    pthread_mutex_destroy(&dirty->lock);
}

void slot_dirty_begin(struct slot_dirty *dirty) {
    if (!dirty->buckets)
        dirty->buckets = memory_calloc(SLOT_DIRTY_BUCKETS, sizeof(struct slot_dirty_key *));
    memset((void *)dirty->walked, 0, sizeof dirty->walked);
    change_listen(dirty->door, &dirty->listener, true);
}

void slot_dirty_end(struct slot_dirty *dirty) {
    change_listen(dirty->door, &dirty->listener, false);
    memset((void *)dirty->walked, 0, sizeof dirty->walked);
}

void slot_dirty_follow(struct slot_dirty *dirty, uint32_t slot) {
    atomic_fetch_or(&dirty->walked[slot / 8], (uint8_t)(1u << (slot % 8)));
}

struct slot_dirty_key *slot_dirty_take(struct slot_dirty *dirty) {
    struct slot_dirty_key *all = NULL;
    pthread_mutex_lock(&dirty->lock);
    for (unsigned i = 0; dirty->count > 0; i++)
        for (struct slot_dirty_key *key; (key = dirty->buckets[i]) != NULL; dirty->count--) {
            dirty->buckets[i] = key->next;
            key->next = all;
            all = key;
        }
    pthread_mutex_unlock(&dirty->lock);
    return all;
}

uint64_t slot_dirty_count(struct slot_dirty *dirty) {
    pthread_mutex_lock(&dirty->lock);
    uint64_t count = dirty->count;
    pthread_mutex_unlock(&dirty->lock);
    return count;
}
