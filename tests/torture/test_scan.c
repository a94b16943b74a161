/* What looks at a whole database sees it as it was at one moment: the number of keys, a call of
 * SCAN, a random key, under threads that add keys and move them from slot to slot.
 *
 * Movers own keys that change their slot all the time, under both tokens, as RENAME does: the
 * database always has each of them once. A grower only adds, and says before and after how many. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "engine/keyspace.h"
#include "engine/memory.h"

#define RUN_SECONDS 3
#define MOVERS      2

static struct keyspace *keyspace;
static _Thread_local struct change change;
static unsigned stay; /* keys that never move */
static _Atomic bool stop;
static _Atomic uint64_t moves, begun, grown, looks;

static bool running(void) {
    return !atomic_load_explicit(&stop, memory_order_relaxed);
}

static void enter(unsigned number) {
    keyspace_thread_set(number);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    epoch_reader_enter();
    exclusive_join();
}

static void boundary(void) {
    epoch_quiescent();
    change_begin(&change);
    epoch_reclaim(100);
    exclusive_point();
}

static void leave(void) {
    exclusive_leave();
    epoch_reader_leave();
}

static void add(unsigned database, const char *name) {
    struct key key = key_make(name, strlen(name));
    struct slot *slot = &keyspace->slots[key.slot];
    while (!slot_try_acquire(slot))
        ;
    keyspace_add(&change, database, &key,
                 object_make_string(name, key.length, "v", 1, OBJECT_NO_EXPIRY, STRING_SET),
                 CHANGE_SET);
    slot_release(slot);
}

static void move(const struct key *from, const struct key *to) {
    uint16_t slots[2] = {(uint16_t)from->slot, (uint16_t)to->slot};
    uint32_t busy;
    if (slots[0] > slots[1]) {
        slots[0] = (uint16_t)to->slot;
        slots[1] = (uint16_t)from->slot;
    }
    while (!slots_try_acquire(keyspace->slots, slots, 2, &busy))
        ;
    keyspace_counts_hold(keyspace);
    cr_assert(keyspace_delete(&change, 0, from, CHANGE_DEL));
    keyspace_add(&change, 0, to,
                 object_make_string(to->data, to->length, "v", 1, OBJECT_NO_EXPIRY, STRING_SET),
                 CHANGE_SET);
    keyspace_counts_publish(keyspace);
    slots_release(keyspace->slots, slots, 2);
    atomic_fetch_add_explicit(&moves, 1, memory_order_relaxed);
}

static void *mover(void *context) {
    unsigned number = (unsigned)(uintptr_t)context;
    char name[2][32];
    struct key keys[2];
    enter(number);
    for (int i = 0; i < 2; i++) {
        snprintf(name[i], sizeof name[i], "{%c%u}moving", "ab"[i], number);
        keys[i] = key_make(name[i], strlen(name[i]));
    }
    for (unsigned at = 0; running() || at; at = !at) {
        move(&keys[at], &keys[!at]);
        boundary();
    }
    leave();
    return NULL;
}

static void *grower(void *context) {
    enter((unsigned)(uintptr_t)context);
    char name[32];
    while (running()) {
        uint64_t n = atomic_load(&grown);
        snprintf(name, sizeof name, "grown:%u", (unsigned)n);
        atomic_store(&begun, n + 1);
        add(1, name);
        atomic_store(&grown, n + 1);
        boundary();
    }
    leave();
    return NULL;
}

/* --- The number of keys -------------------------------------------------------------------------
 */

struct counted {
    uint64_t count;
};

static void count_in_section(void *context) {
    ((struct counted *)context)->count = keyspace_count(keyspace, 0);
}

static void *counter(void *context) {
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        struct counted moving;
        uint64_t growing;
        if (!keyspace_count_at_once(keyspace, 0, &moving.count)) {
            exclusive_leave();
            exclusive_run_blocking(count_in_section, &moving);
            exclusive_join();
        }
        cr_assert_eq(moving.count, stay + MOVERS);
        uint64_t least = atomic_load(&grown);
        if (keyspace_count_at_once(keyspace, 1, &growing)) {
            cr_assert_geq(growing, least);
            cr_assert_leq(growing, atomic_load(&begun));
        }
        atomic_fetch_add_explicit(&looks, 1, memory_order_relaxed);
        boundary();
    }
    leave();
    return NULL;
}

/* --- SCAN and RANDOMKEY -------------------------------------------------------------------------
 */

struct look {
    bool exclusive, settled;
    unsigned moving[MOVERS], stay;
};

/* One call of SCAN for everything. */
static void scan_everything(void *context) {
    struct look *look = context;
    struct scan_list list = {0};
    uint64_t cursor = 0;
    look->settled = keyspace_scan(keyspace, 0, &cursor, 100000, look->exclusive, &list);
    for (size_t i = 0; i < list.count && look->settled; i++) {
        size_t length;
        const char *key = object_key(list.objects[i], &length);
        if (key[0] == '{')
            look->moving[key[2] - '1']++;
        else
            look->stay++;
    }
    cr_assert(!look->settled || cursor == 0);
    scan_list_free(&list);
}

static void draw(void *context) {
    struct look *look = context;
    const struct object *object;
    look->settled = keyspace_random(keyspace, &change.view, 0, look->exclusive, &object);
    cr_assert(!look->settled || object);
}

/* As the dispatcher does it. */
static void look_surely(void (*function)(void *context), struct look *look) {
    function(look);
    if (look->settled)
        return;
    look->exclusive = true;
    exclusive_leave();
    exclusive_run_blocking(function, look);
    exclusive_join();
    cr_assert(look->settled);
}

static void *scanner(void *context) {
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        struct look everything = {0}, one = {0};
        look_surely(scan_everything, &everything);
        for (int i = 0; i < MOVERS; i++)
            cr_assert_eq(everything.moving[i], 1, "key %d was seen %u times", i,
                         everything.moving[i]);
        cr_assert_eq(everything.stay, stay);
        look_surely(draw, &one);
        atomic_fetch_add_explicit(&looks, 1, memory_order_relaxed);
        boundary();
    }
    leave();
    return NULL;
}

static void run(void *(*look)(void *)) {
    crc16_init();
    table_set_seed(0x5eed);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    cr_assert_eq(keyspace_create(2, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    char name[32];
    for (unsigned i = 0; i < stay; i++) {
        snprintf(name, sizeof name, "stay:%u", i);
        add(0, name);
    }
    for (unsigned i = 1; i <= MOVERS; i++) {
        snprintf(name, sizeof name, "{a%u}moving", i);
        add(0, name);
    }
    epoch_offline();
    pthread_t threads[MOVERS + 2];
    for (uintptr_t i = 0; i < MOVERS + 2; i++)
        pthread_create(&threads[i], NULL,
                       i < MOVERS    ? mover
                       : i == MOVERS ? grower
                                     : look,
                       (void *)(i + 1));
    /* Long enough, and until each has come round often whatever else the machine does. */
    uint64_t end_us = clock_monotonic_us() + RUN_SECONDS * 1000000;
    while (clock_monotonic_us() < end_us || atomic_load(&looks) < 50 || atomic_load(&moves) < 1000)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < MOVERS + 2; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    cr_assert_eq(keyspace_count(keyspace, 0), stay + MOVERS);
    cr_assert_eq(keyspace_count(keyspace, 1), atomic_load(&grown));
    keyspace_destroy(keyspace);
    epoch_reader_leave();
    epoch_stop();
}

TestSuite(scan_torture, .timeout = 300);

Test(scan_torture, the_number_of_keys_is_that_of_one_moment) {
    stay = 300;
    run(counter);
}

Test(scan_torture, a_call_of_scan_shows_one_moment) {
    stay = 300;
    run(scanner);
}

/* Without keys that stay every draw is of a key that moves. */
Test(scan_torture, a_database_that_is_never_empty_has_a_random_key) {
    run(scanner);
}
