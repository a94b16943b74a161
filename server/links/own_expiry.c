/* See own_expiry.h. */
#include "server/links/own_expiry.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

#define TICK_US 1000

struct own_key {
    struct own_key *next;
    unsigned database;
    uint64_t hash;
    size_t length;
    char data[];
};

static struct own_key **place_of(struct own_expiry *own, unsigned database, const struct key *key) {
    struct own_key **at = &own->buckets[key->hash % OWN_EXPIRY_BUCKETS];
    while (*at && ((*at)->database != database || (*at)->hash != key->hash ||
                   (*at)->length != key->length || memcmp((*at)->data, key->data, key->length)))
        at = &(*at)->next;
    return at;
}

static void remember(struct own_expiry *own, unsigned database, const struct key *key) {
    pthread_mutex_lock(&own->lock);
    struct own_key **at = place_of(own, database, key);
    if (!*at) {
        struct own_key *new = memory_alloc(sizeof *new + key->length);
        *new = (struct own_key){.database = database, .hash = key->hash, .length = key->length};
        memcpy(new->data, key->data, key->length);
        *at = new;
        atomic_fetch_add(&own->count, 1);
    }
    pthread_mutex_unlock(&own->lock);
}

static void take_out(struct own_expiry *own, struct own_key **at) {
    struct own_key *key = *at;
    *at = key->next;
    atomic_fetch_sub(&own->count, 1);
}

static void forget(struct own_expiry *own, unsigned database, const struct key *key) {
    struct own_key *found;
    if (atomic_load(&own->count) == 0)
        return;
    pthread_mutex_lock(&own->lock);
    struct own_key **at = place_of(own, database, key);
    if ((found = *at) != NULL)
        take_out(own, at);
    pthread_mutex_unlock(&own->lock);
    memory_free(found);
}

static bool may_give_time(enum change_event event) {
    return event == CHANGE_EXPIRE || event == CHANGE_RESTORE || event == CHANGE_COPY_TO ||
           event == CHANGE_RENAME_TO || event == CHANGE_MOVE_TO;
}

static void changed(void *context, const struct change *change, unsigned database,
                    const struct key *key, enum change_event event) {
    struct own_expiry *own = context;
    if (change->view.mode == VIEW_APPLYING) {
        forget(own, database, key);
        return;
    }
    if (!own->writable || !may_give_time(event))
        return;
    const struct object *object = keyspace_find_raw(own->keyspace, database, key);
    if (object && object_expiry(object) != OBJECT_NO_EXPIRY)
        remember(own, database, key);
}

/* true: it is still one of them, and is not to be any more. Under the token of its slot, so that a
 * command of the primary comes before or behind it. */
static bool look_at(struct own_expiry *own, struct change *change, unsigned database,
                    const struct key *key) {
    pthread_mutex_lock(&own->lock);
    bool known = *place_of(own, database, key) != NULL;
    pthread_mutex_unlock(&own->lock);
    const struct object *object = keyspace_find_raw(own->keyspace, database, key);
    if (!known)
        return false;
    if (!object || object_expiry(object) == OBJECT_NO_EXPIRY)
        return true;
    if (!view_is_expired(&change->view, object))
        return false;
    keyspace_expire(change, database, key);
    return true;
}

/* A copy of the key at this place of the bucket; NULL: there are not so many. */
static struct own_key *copy_of(struct own_expiry *own, unsigned bucket, unsigned place) {
    struct own_key *copy = NULL;
    pthread_mutex_lock(&own->lock);
    const struct own_key *key = own->buckets[bucket];
    for (; key && place > 0; place--)
        key = key->next;
    if (key) {
        copy = memory_alloc(sizeof *copy + key->length);
        memcpy(copy, key, sizeof *copy + key->length);
    }
    pthread_mutex_unlock(&own->lock);
    return copy;
}

static void look_at_bucket(struct own_expiry *own, struct change *change, unsigned bucket) {
    struct own_key *copy;
    for (unsigned place = 0; (copy = copy_of(own, bucket, place)) != NULL; memory_free(copy)) {
        const struct key key = key_make(copy->data, copy->length);
        struct slot *slot = &own->keyspace->slots[key.slot];
        bool over = false;
        if (slot_try_acquire(slot)) { /* else in the next round */
            change_begin(change);
            over = look_at(own, change, copy->database, &key);
            if (over)
                forget(own, copy->database, &key);
            change_commit(change);
            slot_release(slot);
        }
        place += !over;
    }
}

void own_expiry_tick(struct own_expiry *own, struct change *change) {
    const struct view_state *view = &own->keyspace->door.view;
    uint64_t end_us = clock_monotonic_us() + TICK_US;
    if (LIKELY(atomic_load(&own->count) == 0) || atomic_load(&view->mode) != VIEW_REPLICA ||
        atomic_load(&view->paused))
        return;
    for (unsigned i = 0; i < OWN_EXPIRY_BUCKETS && clock_monotonic_us() < end_us; i++)
        look_at_bucket(own, change, own->next++ % OWN_EXPIRY_BUCKETS);
}

/* --- Life ------------------------------------------------------------------------------------- */

static void forget_all(struct own_expiry *own) {
    pthread_mutex_lock(&own->lock);
    for (unsigned i = 0; i < OWN_EXPIRY_BUCKETS; i++)
        for (struct own_key *key; (key = own->buckets[i]) != NULL; memory_free(key))
            take_out(own, &own->buckets[i]);
    pthread_mutex_unlock(&own->lock);
}

void own_expiry_init(struct own_expiry *own, struct keyspace *keyspace) {
    *own = (struct own_expiry){.listener = {changed, own, NULL}, .keyspace = keyspace};
    pthread_mutex_init(&own->lock, NULL);
}

void own_expiry_destroy(struct own_expiry *own) {
    forget_all(own);
    pthread_mutex_destroy(&own->lock);
}

/* A primary deletes all keys itself. What is known of a replica that clients may not write to any
 * more still expires. */
void own_expiry_configure(struct own_expiry *own, bool is_replica, bool writable) {
    own->writable = is_replica && writable;
    if (!is_replica)
        forget_all(own);
    bool listens = own->writable || atomic_load(&own->count) > 0;
    change_listen(&own->keyspace->door, &own->listener, listens);
}
