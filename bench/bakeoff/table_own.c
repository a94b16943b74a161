/*
 * Our own tables, as a GET uses them: the key's slot, its word read before and after, the slot's
 * table.
 */
#include "bench/bakeoff/bakeoff_table.h"

static void create(struct world *world) {
    (void)world;
}

static void insert(struct world *world, const struct key *key, struct object *object) {
    struct slot *slot = &world->keyspace->slots[key->slot];
    while (!slot_try_acquire(slot)) {
    }
    world_add_owned(key, object);
    slot_release(slot);
}

static struct object *find(struct world *world, const struct key *key) {
    struct slot *slot = &world->keyspace->slots[key->slot];
    uint64_t word = 0;
    struct object *object = NULL;
    do {
        if (!slot_read_begin(slot, &word)) {
            continue;
        }
        object = keyspace_find_raw(world->keyspace, 0, key);
    } while (!slot_read_validate(slot, word));
    return object;
}

const struct table_contender *table_contender_own(void) {
    static const struct table_contender contender = {
        .name = "own table",
        .create = create,
        .insert = insert,
        .find = find,
        .prefetch = world_prefetch,
        .needs_slot = true,
    };
    return &contender;
}
