/*
 * Bake-off: our own tables against cds_lfht and ck_hs, all holding the same objects.
 *
 * A lookup here is what GET does with a table: hash the key (and find its slot, where there are
 * slots), find the object, touch its value. Keys are asked for at random, so a lookup pays for its
 * cache misses, unless a batch was prefetched.
 */
#include "bench/bakeoff/bakeoff_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/bakeoff/common.h"
#include "bench/common/clock.h"
#include "bench/common/net.h"
#include "engine/epoch.h"
#include "engine/memory.h"

enum { LOOKUP_NS, PREFETCHED_NS, MISS_NS, INSERT_NS, BYTES_PER_KEY, METRIC_COUNT };

static struct key make_key(const struct table_contender *contender, const char *text) {
    return (struct key){
        .data = text,
        .length = WORLD_KEY_BYTES,
        .hash = table_hash(text, WORLD_KEY_BYTES),
        .slot = contender->needs_slot ? slot_of_key(text, WORLD_KEY_BYTES) : 0,
    };
}

static inline void touch_value(const struct object *object) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length = 0;
    if (object != NULL) {
        bakeoff_use((uint64_t)(unsigned char)object_string(object, buffer, &length)[0]);
    }
}

/* Seconds of CPU for `count` lookups of random keys, in batches, prefetched or not. */
static double look_up(const struct table_contender *contender, struct world *world,
                      const char *text, uint64_t count, bool prefetch) {
    struct key keys[WORLD_BATCH];
    uint64_t start = bakeoff_thread_cpu_ns();
    for (uint64_t done = 0; done < count; done += WORLD_BATCH) {
        for (unsigned i = 0; i < WORLD_BATCH; i++) {
            uint64_t number = random_below(random_mix(done + i), world->keys);
            keys[i] = make_key(contender, text + number * WORLD_KEY_BYTES);
        }
        if (prefetch) {
            contender->prefetch(world, keys, WORLD_BATCH);
        }
        for (unsigned i = 0; i < WORLD_BATCH; i++) {
            touch_value(contender->find(world, &keys[i]));
        }
        epoch_quiescent();
    }
    return (double)(bakeoff_thread_cpu_ns() - start);
}

static void check_all(const struct table_contender *contender, struct world *world) {
    for (uint64_t i = 0; i < world->keys; i++) {
        struct key key = make_key(contender, world->key_text + i * WORLD_KEY_BYTES);
        if (contender->find(world, &key) == NULL) {
            die("%s has lost a key", contender->name);
        }
    }
}

static void measure(const struct bakeoff_options *options, void *context, double *values) {
    const struct table_contender *contender = context;
    static struct world world;
    static char value[WORLD_VALUE_BYTES];
    const uint64_t lookups = options->quick ? 500000 : 3000000;
    uint64_t object_bytes = 0;
    world_start(&world, options->keys);
    world_thread_enter(0);
    /* Texts of keys that are not there. */
    char *absent = malloc(world.keys * WORLD_KEY_BYTES);
    for (uint64_t i = 0; i < world.keys * WORLD_KEY_BYTES; i++) {
        absent[i] = world.key_text[i] == 'k' ? 'K' : world.key_text[i];
    }
    uint64_t before = bakeoff_resident_bytes();
    uint64_t start = bakeoff_thread_cpu_ns();
    contender->create(&world);
    for (uint64_t i = 0; i < world.keys; i++) {
        struct key key = make_key(contender, world.key_text + i * WORLD_KEY_BYTES);
        struct object *object = object_make_string(key.data, key.length, value, sizeof(value),
                                                   OBJECT_NO_EXPIRY, STRING_SET);
        object_bytes += memory_class_bytes(object_shell_bytes(object));
        contender->insert(&world, &key, object);
        if (i % WORLD_BATCH == 0) {
            epoch_quiescent();
        }
    }
    values[INSERT_NS] = (double)(bakeoff_thread_cpu_ns() - start) / (double)world.keys;
    while (epoch_reclaim(1000000) > 0) {
        epoch_quiescent();
    }
    values[BYTES_PER_KEY] =
        ((double)(bakeoff_resident_bytes() - before) - (double)object_bytes) / (double)world.keys;
    check_all(contender, &world);
    values[LOOKUP_NS] =
        look_up(contender, &world, world.key_text, lookups, false) / (double)lookups;
    values[MISS_NS] = look_up(contender, &world, absent, lookups, false) / (double)lookups;
    if (contender->prefetch != NULL) {
        values[PREFETCHED_NS] =
            look_up(contender, &world, world.key_text, lookups, true) / (double)lookups;
    }
}

int main(int argc, char **argv) {
    const struct bakeoff_metric metrics[METRIC_COUNT] = {
        [LOOKUP_NS] = {"lookup", "lookup", "ns", 0, false},
        [PREFETCHED_NS] = {"prefetched", "prefetched in batches", "ns", 0, false},
        [MISS_NS] = {"miss", "lookup of an absent key", "ns", 0, false},
        [INSERT_NS] = {"insert", "insert, with making the object", "ns", 0, false},
        [BYTES_PER_KEY] = {"bytes", "bytes per key beside the object", "", 1, false},
    };
    const struct table_contender *tables[] = {table_contender_own(), table_contender_lfht(),
                                              table_contender_ck()};
    struct bakeoff_contender contenders[3];
    struct bakeoff_options options;
    static char group[64];
    unsigned count = 0;
    bakeoff_parse(argc, argv, &options);
    snprintf(group, sizeof(group), "%llu keys", (unsigned long long)options.keys);
    for (unsigned i = 0; i < 3; i++) {
        if (tables[i] != NULL) {
            contenders[count++] =
                (struct bakeoff_contender){group, tables[i]->name, measure, (void *)tables[i]};
        }
    }
    return bakeoff_run(&options, "tables", metrics, METRIC_COUNT, contenders, count);
}
