/*
 * Bake-off: when to free what a SET has replaced.
 *
 * "a few per retire" is engine/epoch.c: each retire frees a few entries that are safe by now. "all
 * at once" keeps two lists and frees a whole one when its grace periods are over. "at once" is the
 * floor: one worker, no reader, freed on the spot. One thread sets in prefetched batches; besides
 * the mean, what matters is the slowest batch.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench/bakeoff/common.h"
#include "bench/bakeoff/world.h"
#include "bench/common/clock.h"
#include "bench/common/histogram.h"
#include "bench/common/net.h"
#include "engine/epoch.h"
#include "engine/value.h"

enum { SET_NS, BATCH_P99_US, BATCH_MAX_US, WAITING, METRIC_COUNT };
enum manner { FEW_PER_RETIRE, ALL_AT_ONCE, ON_THE_SPOT };

/* One generation of replaced objects. */
struct generation {
    struct object **objects;
    size_t count;
    size_t capacity;
    uint64_t stamp; /* grace periods counted when the last one was put in */
};

static struct generation filling;
static struct generation waiting;
static _Atomic uint64_t grace_periods;
static _Atomic bool stop;

static void *count_grace_periods(void *ignored) {
    const struct timespec nap = {.tv_nsec = 1000000};
    (void)ignored;
    while (!atomic_load(&stop)) {
        epoch_synchronize();
        atomic_fetch_add(&grace_periods, 1);
        nanosleep(&nap, NULL);
    }
    return NULL;
}

static void put_aside(struct object *object) {
    if (filling.count == filling.capacity) {
        filling.capacity = filling.capacity == 0 ? 4096 : filling.capacity * 2;
        filling.objects = realloc(filling.objects, filling.capacity * sizeof(struct object *));
        if (filling.objects == NULL) {
            die("out of memory");
        }
    }
    filling.objects[filling.count++] = object;
}

/* Once per turn. */
static void free_generation(void) {
    uint64_t counted = atomic_load_explicit(&grace_periods, memory_order_acquire);
    if (waiting.count > 0) {
        if (counted < waiting.stamp + 2) {
            return;
        }
        for (size_t i = 0; i < waiting.count; i++) {
            object_free(waiting.objects[i]);
        }
        waiting.count = 0;
    }
    struct generation emptied = waiting;
    waiting = filling;
    waiting.stamp = counted;
    filling = emptied;
}

static void replace(struct world *world, const struct key *key, enum manner manner) {
    static const char value[WORLD_VALUE_BYTES] = "a value of 64 bytes";
    struct slot *slot = &world->keyspace->slots[key->slot];
    struct object *object = object_make_string(key->data, key->length, value, sizeof(value),
                                               OBJECT_NO_EXPIRY, STRING_SET);
    while (!slot_try_acquire(slot)) {
    }
    struct object *old = table_find(&slot->table0[0], key->hash, key->data, key->length);
    table_replace(&slot->table0[0], key->hash, old, object);
    if (manner == ALL_AT_ONCE) {
        put_aside(old);
    } else {
        object_retire(old);
    }
    slot_release(slot);
}

static uint64_t set_for(struct world *world, enum manner manner, double seconds,
                        struct histogram *batches, uint64_t *most_waiting) {
    struct key keys[WORLD_BATCH];
    uint64_t done = 0;
    uint64_t before = clock_now_ns();
    const uint64_t end = before + (uint64_t)(seconds * 1e9);
    while (before < end) {
        for (unsigned i = 0; i < WORLD_BATCH; i++) {
            keys[i] = world_key(world, random_below(random_mix(done + i), world->keys));
        }
        world_prefetch(world, keys, WORLD_BATCH);
        for (unsigned i = 0; i < WORLD_BATCH; i++) {
            replace(world, &keys[i], manner);
        }
        epoch_quiescent();
        if (manner == ALL_AT_ONCE) {
            free_generation();
            uint64_t held = filling.count + waiting.count;
            *most_waiting = held > *most_waiting ? held : *most_waiting;
        }
        done += WORLD_BATCH;
        uint64_t now = clock_now_ns();
        histogram_add(batches, now - before, 1);
        before = now;
    }
    return done;
}

static void measure(const struct bakeoff_options *options, void *context, double *values) {
    const enum manner manner = *(const enum manner *)context;
    static struct world world;
    static struct histogram batches;
    pthread_t counter;
    uint64_t most_waiting = 0;
    histogram_reset(&batches);
    world_start(&world, options->keys);
    epoch_set_single_reader(manner == ON_THE_SPOT);
    world_thread_enter(0);
    world_fill(&world);
    if (manner == ALL_AT_ONCE && pthread_create(&counter, NULL, count_grace_periods, NULL) != 0) {
        die("cannot start a thread");
    }
    struct epoch_statistics before;
    struct epoch_statistics after;
    epoch_get_statistics(&before);
    uint64_t start = bakeoff_thread_cpu_ns();
    uint64_t done = set_for(&world, manner, options->seconds, &batches, &most_waiting);
    values[SET_NS] = (double)(bakeoff_thread_cpu_ns() - start) / (double)done;
    epoch_get_statistics(&after);
    values[BATCH_P99_US] = (double)histogram_percentile(&batches, 99.9) / 1000;
    values[BATCH_MAX_US] = (double)batches.max / 1000;
    values[WAITING] =
        manner == ALL_AT_ONCE ? (double)most_waiting : (double)(after.retired - after.freed);
}

int main(int argc, char **argv) {
    static enum manner manners[] = {FEW_PER_RETIRE, ALL_AT_ONCE, ON_THE_SPOT};
    static const char *const names[] = {"a few per retire", "all when the grace period ends",
                                        "on the spot (one worker)"};
    const struct bakeoff_metric metrics[METRIC_COUNT] = {
        [SET_NS] = {"set", "CPU per SET", "ns", 0, false},
        [BATCH_P99_US] = {"p999", "batch of 64: p99.9", "us", 0, false},
        [BATCH_MAX_US] = {"max", "slowest batch", "us", 0, false},
        [WAITING] = {"waiting", "objects not yet freed", "", 0, false},
    };
    struct bakeoff_contender contenders[3];
    struct bakeoff_options options;
    bakeoff_parse(argc, argv, &options);
    for (unsigned i = 0; i < 3; i++) {
        contenders[i] =
            (struct bakeoff_contender){"SET of random keys", names[i], measure, &manners[i]};
    }
    return bakeoff_run(&options, "deferred free", metrics, METRIC_COUNT, contenders, 3);
}
