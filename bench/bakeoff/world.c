/*
 * A keyspace full of keys. See world.h.
 */
#include "bench/bakeoff/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/net.h"
#include "engine/crc16.h"
#include "engine/epoch.h"

static char value_text[WORLD_VALUE_BYTES];
static struct door *door; /* of the keyspace; set by world_start */
static _Thread_local struct change change;

void world_start(struct world *world, uint64_t keys) {
    char text[WORLD_KEY_BYTES + 1];
    crc16_init();
    table_set_seed(0x5107815e00000001ULL);
    memset(value_text, 'v', sizeof(value_text));
    if (epoch_start(0, NULL, NULL) != 0 || keyspace_create(1, &world->keyspace) != 0) {
        die("the engine does not start");
    }
    door = &world->keyspace->door;
    world->keys = keys;
    world->key_text = malloc(keys * WORLD_KEY_BYTES);
    for (uint64_t i = 0; i < keys; i++) {
        snprintf(text, sizeof(text), "key:%012llu", (unsigned long long)i % 1000000000000ULL);
        memcpy(world->key_text + i * WORLD_KEY_BYTES, text, WORLD_KEY_BYTES);
    }
}

void world_thread_enter(unsigned number) {
    keyspace_thread_set(number);
    change_init(&change, door, VIEW_PRIMARY);
    epoch_reader_enter();
}

void world_thread_leave(void) {
    epoch_reader_leave();
}

static struct object *new_object(const struct key *key) {
    return object_make_string(key->data, key->length, value_text, sizeof(value_text),
                              OBJECT_NO_EXPIRY, STRING_SET);
}

static void acquire(struct slot *slot) {
    while (!slot_try_acquire(slot)) {
        /* A worker would park. Two threads in one slot are rare, and it has spun by itself. */
    }
}

void world_add_owned(const struct key *key, struct object *object) {
    keyspace_add(&change, 0, key, object, CHANGE_SET);
}

void world_fill(struct world *world) {
    for (uint64_t i = 0; i < world->keys; i++) {
        struct key key = world_key(world, i);
        struct slot *slot = &world->keyspace->slots[key.slot];
        acquire(slot);
        world_add_owned(&key, new_object(&key));
        slot_release(slot);
        if (i % WORLD_BATCH == 0) {
            epoch_quiescent();
        }
    }
}

bool world_get_owned(struct world *world, const struct key *key, char *reply) {
    struct object *object = keyspace_find_raw(world->keyspace, 0, key);
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length = 0;
    if (object == NULL) {
        return false;
    }
    const char *value = object_string(object, buffer, &length);
    memcpy(reply, value, length < WORLD_VALUE_BYTES ? length : WORLD_VALUE_BYTES);
    return true;
}

bool world_get(struct world *world, const struct key *key, char *reply) {
    struct slot *slot = &world->keyspace->slots[key->slot];
    for (unsigned attempt = 0; attempt < 4; attempt++) {
        uint64_t word = 0;
        if (slot_read_begin(slot, &word)) {
            bool found = world_get_owned(world, key, reply);
            if (slot_read_validate(slot, word)) {
                return found;
            }
        }
    }
    acquire(slot);
    bool found = world_get_owned(world, key, reply);
    slot_release(slot);
    return found;
}

void world_set_owned(struct world *world, const struct key *key) {
    struct object *old = keyspace_find_raw(world->keyspace, 0, key);
    if (old == NULL) {
        keyspace_add(&change, 0, key, new_object(key), CHANGE_SET);
    } else {
        keyspace_replace(&change, 0, key, old, new_object(key), CHANGE_SET);
    }
}

void world_set(struct world *world, const struct key *key) {
    struct slot *slot = &world->keyspace->slots[key->slot];
    acquire(slot);
    world_set_owned(world, key);
    slot_release(slot);
}

void world_prefetch(struct world *world, const struct key *keys, unsigned count) {
    struct slot *slots = world->keyspace->slots;
    for (unsigned i = 0; i < count; i++) {
        __builtin_prefetch(&slots[keys[i].slot], 1);
    }
    for (unsigned i = 0; i < count; i++) {
        table_prefetch_header(&slots[keys[i].slot].table0[0]);
    }
    for (unsigned i = 0; i < count; i++) {
        table_prefetch_bucket(&slots[keys[i].slot].table0[0], keys[i].hash);
    }
    for (unsigned i = 0; i < count; i++) {
        table_prefetch_object(&slots[keys[i].slot].table0[0], keys[i].hash, true);
    }
}
