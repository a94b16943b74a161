/* See own_expiry.h. */
#include "server/links/own_expiry.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

#define TICK_US 1000

struct own_key {
    struct watch_node node; /* first */
    unsigned database;
    size_t length;
    char data[];
};

/* Under the lock; NULL: it is none of them. */
static struct own_key *find(const struct own_expiry *own, unsigned database,
                            const struct key *key) {
    struct watch_node *node = watch_index_chain(&own->keys, key->hash);
    for (; node; node = node->next) {
        struct own_key *found = (struct own_key *)(void *)node;
        if (node->hash == key->hash && found->database == database &&
            found->length == key->length && memcmp(found->data, key->data, key->length) == 0)
            return found;
    }
    return NULL;
}

static void remember(struct own_expiry *own, unsigned database, const struct key *key) {
    pthread_mutex_lock(&own->lock);
    if (!find(own, database, key)) {
        struct own_key *new = memory_alloc(sizeof *new + key->length);
        *new =
            (struct own_key){.node.hash = key->hash, .database = database, .length = key->length};
        memcpy(new->data, key->data, key->length);
        watch_index_add(&own->keys, &new->node);
        atomic_store(&own->count, own->keys.count);
    }
    pthread_mutex_unlock(&own->lock);
}

static void take_out(struct own_expiry *own, struct own_key *key) {
    watch_index_remove(&own->keys, &key->node);
    atomic_store(&own->count, own->keys.count);
}

static void forget(struct own_expiry *own, unsigned database, const struct key *key) {
    if (atomic_load(&own->count) == 0)
        return;
    pthread_mutex_lock(&own->lock);
    struct own_key *found = find(own, database, key);
    if (found)
        take_out(own, found);
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
    bool known = find(own, database, key) != NULL;
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
static struct own_key *copy_of(struct own_expiry *own, size_t bucket, unsigned place) {
    struct own_key *copy = NULL;
    pthread_mutex_lock(&own->lock);
    const struct watch_node *node =
        bucket < own->keys.buckets ? watch_index_bucket(&own->keys, bucket) : NULL;
    for (; node && place > 0; place--)
        node = node->next;
    if (node) {
        const struct own_key *key = (const struct own_key *)(const void *)node;
        copy = memory_alloc(sizeof *copy + key->length);
        memcpy(copy, key, sizeof *copy + key->length);
    }
    pthread_mutex_unlock(&own->lock);
    return copy;
}

static void look_at_bucket(struct own_expiry *own, struct change *change, size_t bucket) {
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

static size_t bucket_count(struct own_expiry *own) {
    pthread_mutex_lock(&own->lock);
    size_t count = own->keys.buckets;
    pthread_mutex_unlock(&own->lock);
    return count;
}

void own_expiry_tick(struct own_expiry *own, struct change *change) {
    const struct view_state *view = &own->keyspace->door.view;
    uint64_t end_us = clock_monotonic_us() + TICK_US;
    if (LIKELY(atomic_load(&own->count) == 0) || atomic_load(&view->mode) != VIEW_REPLICA ||
        atomic_load(&view->paused))
        return;
    for (size_t left = bucket_count(own); left > 0 && clock_monotonic_us() < end_us; left--) {
        own->next = own->next + 1 < bucket_count(own) ? own->next + 1 : 0;
        look_at_bucket(own, change, own->next);
    }
}

/* --- Life ------------------------------------------------------------------------------------- */

/* Each removal may take the last bucket away, and put what is in it elsewhere. */
static void forget_all(struct own_expiry *own) {
    pthread_mutex_lock(&own->lock);
    for (size_t bucket = 0; own->keys.count > 0;) {
        struct watch_node *node =
            bucket < own->keys.buckets ? watch_index_bucket(&own->keys, bucket) : NULL;
        if (node) {
            take_out(own, (struct own_key *)(void *)node);
            memory_free(node);
        } else {
            bucket = bucket + 1 < own->keys.buckets ? bucket + 1 : 0;
        }
    }
    pthread_mutex_unlock(&own->lock);
}

void own_expiry_init(struct own_expiry *own, struct keyspace *keyspace) {
    *own = (struct own_expiry){.listener = {changed, own, NULL}, .keyspace = keyspace};
    watch_index_begin(&own->keys);
    pthread_mutex_init(&own->lock, NULL);
}

void own_expiry_destroy(struct own_expiry *own) {
    forget_all(own);
    watch_index_end(&own->keys);
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
