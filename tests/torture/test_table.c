/* engine/table.c under threads: readers that take no token against writers that insert, remove,
 * replace and rebuild.
 *
 * One slot. Ids below STABLE are in the table all the time; the others come and go, between a
 * handful and tens of thousands, so that small and step-wise rebuilds happen all along. state[id]
 * is changed under the token only: a lookup whose word validated must agree with it, hit or
 * miss. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/object.h"
#include "engine/object_private.h"
#include "engine/slot.h"
#include "engine/table.h"
#include "engine/table_bucket.h"
#include "engine/value.h"

#define STABLE       200
#define READERS      2
#define WRITERS      2
#define FAR_EXPIRY   4000000000000
#define RUN_SECONDS  3
#define BATCH        16 /* lookups between two quiescent states */
#define KEY_BYTES    8
#define PARTLY_BYTES 64 /* of value */

static struct slot slot;
static table_root *root;
static size_t ids;
static _Atomic(struct object *) *state; /* by id; NULL: absent */
static _Atomic bool stop;
static _Atomic uint64_t validated, refused, walks, rebuilds, in_steps;

static uint64_t scramble(uint64_t x) {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
}

struct random {
    uint64_t state;
};
static uint64_t random_below(struct random *r, uint64_t n) {
    return scramble(r->state += 0x9e3779b97f4a7c15u) % n;
}

static struct object *make_object(uint64_t id, uint64_t filler) {
    char value[PARTLY_BYTES];
    memset(value, (int)('a' + filler % 26), sizeof value);
    return object_make_string((const char *)&id, KEY_BYTES, value, sizeof value,
                              filler % 5 == 0 ? FAR_EXPIRY : OBJECT_NO_EXPIRY, STRING_PLAIN);
}

/* An object that a reader holds is whole, whether or not the word validates. */
static uint64_t check_object(const struct object *o) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    uint64_t id;
    const char *bytes = object_key(o, &length);
    cr_assert_eq(length, KEY_BYTES);
    memcpy(&id, bytes, KEY_BYTES);
    cr_assert_lt(id, ids);
    bytes = object_string(o, buffer, &length);
    cr_assert_eq(length, PARTLY_BYTES);
    for (size_t i = 1; i < length; i++)
        cr_assert_eq(bytes[i], bytes[0]);
    return id;
}

/* --- Readers ---------------------------------------------------------------------------------- */

static void read_one(struct random *r) {
    uint64_t id = random_below(r, 3) ? random_below(r, ids) : random_below(r, STABLE);
    uint64_t hash = table_hash((const char *)&id, KEY_BYTES);
    uint64_t word;
    if (random_below(r, 2)) {
        table_prefetch_header(root);
        table_prefetch_bucket(root, hash);
        table_prefetch_object(root, hash, true);
    }
    if (!slot_read_begin(&slot, &word)) {
        atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
        sched_yield();
        return;
    }
    struct object *expected = atomic_load_explicit(&state[id], memory_order_relaxed);
    struct object *found = table_find(root, hash, (const char *)&id, KEY_BYTES);
    if (found)
        cr_assert_eq(check_object(found), id);
    if (!slot_read_validate(&slot, word)) {
        atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
        return;
    }
    cr_assert_eq(found, expected, "id %lu: %p, expected %p", id, (void *)found, (void *)expected);
    atomic_fetch_add_explicit(&validated, 1, memory_order_relaxed);
}

static void read_some(struct random *r) {
    struct object *objects[8];
    struct object *o = table_random(root, random_below(r, UINT64_MAX), random_below(r, UINT64_MAX));
    if (o)
        check_object(o);
    size_t count = table_sample(root, random_below(r, UINT64_MAX), random_below(r, 2), 8, objects);
    for (size_t i = 0; i < count; i++)
        check_object(objects[i]);
    table_count(root);
    table_volatile_count(root);
    table_bytes(root);
}

struct visits {
    uint64_t piece[2048]; /* stable ids of the present piece */
    size_t in_piece;
    uint8_t times[STABLE];
};

static void note_visit(struct object *o, uint64_t hash, void *context) {
    struct visits *v = context;
    uint64_t id = check_object(o);
    cr_assert_eq(hash, table_hash((const char *)&id, KEY_BYTES));
    if (id < STABLE && v->in_piece < sizeof v->piece / sizeof *v->piece)
        v->piece[v->in_piece++] = id;
}

/* A walk of pieces; one that did not validate is done again. The stable ids come once each, unless
 * the end of the test cuts the walk short. */
static void walk_once(struct random *r) {
    struct visits *v = calloc(1, sizeof *v);
    uint64_t from = 0;
    bool finished = false;
    while (!finished && !atomic_load(&stop)) {
        uint64_t word, next;
        v->in_piece = 0;
        epoch_quiescent();
        if (!slot_read_begin(&slot, &word))
            continue;
        table_walk(root, from, random_below(r, 50), 1 + random_below(r, 100), 64, false, note_visit,
                   v, &next);
        if (!slot_read_validate(&slot, word))
            continue;
        for (size_t i = 0; i < v->in_piece; i++)
            v->times[v->piece[i]]++;
        from = next;
        finished = from == 0;
    }
    if (finished) {
        for (uint64_t id = 0; id < STABLE; id++)
            cr_assert_eq(v->times[id], 1, "id %lu visited %u times", id, v->times[id]);
        atomic_fetch_add(&walks, 1);
    }
    free(v);
}

static void *reader(void *number) {
    struct random r = {(uintptr_t)number};
    epoch_reader_enter();
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        for (unsigned i = 0; i < BATCH; i++)
            read_one(&r);
        read_some(&r);
        epoch_quiescent();
        if (random_below(&r, 200) == 0)
            walk_once(&r);
    }
    epoch_reader_leave();
    return NULL;
}

/* --- Writers ---------------------------------------------------------------------------------- */

/* Under the token. direction: to more keys or to fewer. */
static void write_one(struct random *r, bool grow) {
    uint64_t id = random_below(r, ids);
    uint64_t hash = table_hash((const char *)&id, KEY_BYTES);
    struct object *old = atomic_load_explicit(&state[id], memory_order_relaxed);
    struct object *o = NULL;
    const struct table *before = atomic_load(root);
    if (!old) {
        if (!grow && random_below(r, 200) > 0)
            return;
        o = make_object(id, random_below(r, 1000));
        table_insert(root, hash, o);
    } else if (id < STABLE || random_below(r, 4) == 0) {
        o = make_object(id, random_below(r, 1000));
        table_replace(root, hash, old, o);
    } else if (!grow || random_below(r, 20) == 0) {
        cr_assert_eq(table_remove(root, hash, (const char *)&id, KEY_BYTES), old);
    } else {
        if (object_flags(old) & OBJECT_HAS_EXPIRY) {
            object_set_expiry(old, random_below(r, 2) ? FAR_EXPIRY : OBJECT_NO_EXPIRY);
            table_note_expiry(root, hash, old);
        }
        return;
    }
    atomic_store_explicit(&state[id], o, memory_order_relaxed);
    if (old)
        object_retire(old);
    struct table *after = atomic_load(root);
    if (after != before)
        atomic_fetch_add_explicit(&rebuilds, 1, memory_order_relaxed);
    if (after && table_rebuild_state(after))
        atomic_fetch_add_explicit(&in_steps, 1, memory_order_relaxed);
}

static void *writer(void *number) {
    struct random r = {(uintptr_t)number};
    static _Atomic bool grow = true;
    epoch_reader_enter();
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        while (!slot_try_acquire(&slot)) {
            epoch_quiescent();
            sched_yield();
        }
        for (unsigned i = 0; i < 4; i++)
            write_one(&r, atomic_load_explicit(&grow, memory_order_relaxed));
        size_t count = table_count(root);
        if (count > ids * 7 / 8)
            atomic_store_explicit(&grow, false, memory_order_relaxed);
        else if (count < STABLE + ids / 50)
            atomic_store_explicit(&grow, true, memory_order_relaxed);
        slot_release(&slot);
        epoch_quiescent();
        /* Lets readers get a word in. Not only here may a writer lose the processor: also with the
         * token. */
        if (random_below(&r, 64) == 0)
            sched_yield();
    }
    epoch_reader_leave();
    return NULL;
}

/* --- The runs --------------------------------------------------------------------------------- */

static void torture(size_t id_count) {
    pthread_t threads[READERS + WRITERS];
    ids = id_count;
    cr_assert_eq(epoch_start(10000, NULL, NULL), 0);
    epoch_reader_enter();
    table_set_seed(99);
    state = calloc(ids, sizeof *state);
    root = &slot.table0[0];
    atomic_store(&slot.word, SLOT_SERVING);
    for (uint64_t id = 0; id < STABLE; id++) {
        struct object *o = make_object(id, id);
        table_insert(root, table_hash((const char *)&id, KEY_BYTES), o);
        atomic_store(&state[id], o);
    }
    epoch_offline();
    for (uintptr_t i = 0; i < READERS + WRITERS; i++)
        pthread_create(&threads[i], NULL, i < READERS ? reader : writer, (void *)(i + 1));
    nanosleep(&(struct timespec){.tv_sec = RUN_SECONDS}, NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS + WRITERS; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    table_check(root);
    for (uint64_t id = 0; id < ids; id++) {
        uint64_t hash = table_hash((const char *)&id, KEY_BYTES);
        cr_assert_eq(table_find(root, hash, (const char *)&id, KEY_BYTES), atomic_load(&state[id]));
    }
    cr_log_info("%lu validated, %lu refused, %lu walks, %lu rebuilds, %lu writes in steps",
                atomic_load(&validated), atomic_load(&refused), atomic_load(&walks),
                atomic_load(&rebuilds), atomic_load(&in_steps));
    cr_assert(atomic_load(&validated) > 0 && atomic_load(&rebuilds) > 0);
    table_destroy(table_detach(root));
    free(state);
    epoch_reader_leave();
    epoch_stop();
    cr_assert_eq(memory_used_bytes(), 0, "%lu bytes left", memory_used_bytes());
}

Test(table, readers_against_small_rebuilds, .timeout = 120) {
    torture(2000);
}

Test(table, readers_against_step_wise_rebuilds, .timeout = 120) {
    torture(20000);
}
