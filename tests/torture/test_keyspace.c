/* engine/keyspace.c and what works on it, under threads: transfers under tokens, optimistic reads
 * of many slots, scans, random keys, WATCH, active expiry, eviction, FLUSHDB and SWAPDB in
 * exclusive sections.
 *
 * Database 0 holds accounts, one slot each, whose sum never changes, and keys that stay. Databases
 * 1 to 3 hold keys with a TTL that come, expire, and are evicted, flushed and swapped away.
 * Whatever a validated reader sees, and what is there while all are stopped, must fit. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/expiry.h"
#include "engine/keyspace.h"
#include "engine/keyspace_watch.h"
#include "engine/memory.h"
#include "engine/random_slot.h"
#include "engine/types/string.h"
#include "tests/unit/engine/deadline_check.h"

#define RUN_SECONDS 4
#define DATABASES   4
#define ACCOUNTS    48
#define START       1000
#define STAY        1500 /* a third of them in one slot */
#define COMING      3000 /* names of keys that come and go */
#define BATCH       8    /* operations between two quiescent states */

static struct keyspace *keyspace;
static _Thread_local struct change change;
static struct evictor *evictor;
static _Atomic bool stop;
static _Atomic uint64_t transfers, sums, scans, draws, watches, sections, evictions, steps;

static char names[ACCOUNTS][16];
static struct key accounts[ACCOUNTS];
static uint64_t generation[ACCOUNTS]; /* changes of the account; under its token */

static bool running(void) {
    return !atomic_load_explicit(&stop, memory_order_relaxed);
}

static void note(_Atomic uint64_t *counter) {
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void enter(unsigned number) {
    keyspace_thread_set(number);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    epoch_reader_enter();
    exclusive_join();
}

static void boundary(void) {
    epoch_quiescent();
    epoch_reclaim(100);
    change_begin(&change);
    exclusive_point();
}

static void leave(void) {
    exclusive_leave();
    epoch_reader_leave();
}

/* --- Writers ---------------------------------------------------------------------------------- */

/* An account under its token: in place, by replacement, or away and back. */
static void account_set(unsigned i, int64_t value, uint64_t how) {
    const struct key *key = &accounts[i];
    struct object *old = keyspace_find_write(&change, 0, key);
    cr_assert_not_null(old);
    generation[i]++;
    if (how % 16 == 4) {
        /* Expired in between, which nobody may see, and nobody may act upon. */
        old = keyspace_set_expiry(&change, 0, key, old, 1);
        old = keyspace_set_expiry(&change, 0, key, old, OBJECT_NO_EXPIRY);
    }
    if (how % 4 == 0) {
        string_set_integer(&change, 0, key, old, value, CHANGE_INCRBY);
        return;
    }
    struct object *object = object_make_integer(key->data, key->length, value, OBJECT_NO_EXPIRY);
    if (how % 4 == 1) {
        keyspace_delete(&change, 0, key, CHANGE_DEL);
        keyspace_add(&change, 0, key, object, CHANGE_SET);
    } else {
        keyspace_replace(&change, 0, key, old, object, CHANGE_SET);
    }
}

static void transfer(uint64_t *random) {
    unsigned a = (unsigned)random_below(random, ACCOUNTS),
             b = (unsigned)random_below(random, ACCOUNTS);
    if (accounts[a].slot == accounts[b].slot)
        return;
    if (accounts[a].slot > accounts[b].slot) {
        unsigned c = a;
        a = b;
        b = c;
    }
    uint16_t numbers[2] = {(uint16_t)accounts[a].slot, (uint16_t)accounts[b].slot};
    uint32_t busy;
    if (!slots_try_acquire(keyspace->slots, numbers, 2, &busy))
        return;
    int64_t amount = (int64_t)random_below(random, 100);
    int64_t of_a = object_integer(keyspace_find_raw(keyspace, 0, &accounts[a]));
    int64_t of_b = object_integer(keyspace_find_raw(keyspace, 0, &accounts[b]));
    account_set(a, of_a - amount, random_next(random));
    account_set(b, of_b + amount, random_next(random));
    slots_release(keyspace->slots, numbers, 2);
    note(&transfers);
}

/* A key of databases 1 to 3 is set, deleted, or given another expiry. */
static void change_volatile(uint64_t *random) {
    char name[32];
    uint64_t id = random_below(random, COMING);
    size_t length = (size_t)snprintf(name, sizeof name, id % 2 ? "{tag}%d" : "v%d", (int)id);
    struct key key = key_make(name, length);
    unsigned database = 1 + (unsigned)random_below(random, DATABASES - 1);
    struct slot *slot = &keyspace->slots[key.slot];
    int64_t expiry_ms = clock_now_ms() + (int64_t)random_below(random, 60) - 10;
    if (!slot_try_acquire(slot))
        return;
    struct object *old = keyspace_find_raw(keyspace, database, &key);
    if (old && view_is_expired(&change.view, old)) {
        if (id % 3 != 0)
            keyspace_expire(&change, database, &key);
        old = NULL;
    }
    uint64_t what = random_below(random, 8);
    if (old && what < 2) {
        keyspace_delete(&change, database, &key, CHANGE_DEL);
    } else if (old && what < 4) {
        keyspace_set_expiry(&change, database, &key, old, what == 2 ? OBJECT_NO_EXPIRY : expiry_ms);
    } else {
        old = keyspace_find_raw(keyspace, database, &key);
        struct object *object =
            object_make_string(name, length, "a value of some length", 22,
                               what == 5 ? OBJECT_NO_EXPIRY : expiry_ms, STRING_PLAIN);
        if (old)
            keyspace_replace(&change, database, &key, old, object, CHANGE_SET);
        else
            keyspace_add(&change, database, &key, object, CHANGE_SET);
    }
    slot_release(slot);
}

static void *write_keys(void *context) {
    uint64_t random = (uintptr_t)context;
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        for (int i = 0; i < BATCH; i++) {
            transfer(&random);
            change_volatile(&random);
        }
        boundary();
    }
    leave();
    return NULL;
}

/* --- Readers ---------------------------------------------------------------------------------- */

static void sum_accounts(void) {
    uint64_t words[ACCOUNTS];
    int64_t sum = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++)
        if (!slot_read_begin(&keyspace->slots[accounts[i].slot], &words[i]))
            return;
    unsigned found = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        struct object *object = keyspace_find_raw(keyspace, 0, &accounts[i]);
        if (object && view_is_expired(&change.view, object))
            object = NULL;
        found += object != NULL;
        sum += object ? object_integer(object) : 0;
    }
    for (unsigned i = 0; i < ACCOUNTS; i++)
        if (!slot_read_validate(&keyspace->slots[accounts[i].slot], words[i]))
            return;
    cr_assert_eq(found, ACCOUNTS);
    cr_assert_eq(sum, (int64_t)ACCOUNTS * START, "%lld", (long long)sum);
    note(&sums);
}

static _Thread_local uint8_t seen[ACCOUNTS + STAY];

static void see(const struct object *object) {
    size_t length;
    const char *key = object_key(object, &length);
    cr_assert(length > 2);
    char number[8] = {0};
    const char *colon = memchr(key, ':', length);
    cr_assert_not_null(colon);
    memcpy(number, colon + 1, length - (size_t)(colon + 1 - key));
    cr_assert_lt(atoi(number), ACCOUNTS + STAY);
    seen[atoi(number)]++;
}

/* A call of SCAN, in a section if it must be. */
struct scan_call {
    unsigned database;
    uint64_t cursor;
    size_t count;
    void (*look)(const struct object *object);
    bool exclusive;
};

static bool scan(struct scan_call *call) {
    static _Thread_local struct scan_list list;
    if (!keyspace_scan(keyspace, call->database, &call->cursor, call->count, call->exclusive,
                       &list))
        return false;
    for (size_t i = 0; i < list.count; i++)
        call->look(list.objects[i]);
    scan_list_free(&list);
    list = (struct scan_list){0};
    return true;
}

static void scan_in_section(void *context) {
    struct scan_call *call = context;
    call->exclusive = true;
    cr_assert(scan(call));
    call->exclusive = false;
}

static void scan_surely(struct scan_call *call) {
    if (scan(call))
        return;
    exclusive_leave();
    exclusive_run_blocking(scan_in_section, call);
    exclusive_join();
}

static void scan_all(uint64_t *random) {
    struct scan_call call = {.look = see};
    memset(seen, 0, sizeof seen);
    do {
        call.count = 1 + random_below(random, 100);
        scan_surely(&call);
        boundary();
    } while (call.cursor != 0 && running());
    if (call.cursor != 0)
        return;
    for (unsigned i = 0; i < ACCOUNTS + STAY; i++)
        cr_assert_eq(seen[i], 1, "key %u was seen %u times", i, seen[i]);
    note(&scans);
}

static void look(const struct object *object) {
    size_t length;
    const char *key = object_key(object, &length);
    cr_assert(key[0] == 'v' || key[0] == '{');
}

/* Keys that come and go: slots become empty, and the scan is who notes that. */
static void scan_volatile(uint64_t *random) {
    struct scan_call call = {
        .database = 1 + (unsigned)random_below(random, DATABASES - 1), .count = 1000, .look = look};
    do {
        scan_surely(&call);
        boundary();
    } while (call.cursor != 0 && running());
}

static void draw(void) {
    const struct object *object;
    if (!keyspace_random(keyspace, &change.view, 0, false, &object))
        return;
    cr_assert_not_null(object);
    see(object);
    note(&draws);
}

/* A watcher is dirty if and only if its account has changed. */
static void watch_account(uint64_t *random) {
    _Atomic bool dirty = false;
    unsigned i = (unsigned)random_below(random, ACCOUNTS);
    struct slot *slot = &keyspace->slots[accounts[i].slot];
    struct watcher *watcher = watcher_make(&keyspace->watch, 0, &accounts[i], &dirty);
    slot_acquire_waiting(slot);
    keyspace_watch_link(keyspace, &change.view, watcher);
    uint64_t then = generation[i];
    slot_release(slot);
    for (int n = 0; n < 3; n++) {
        sum_accounts();
        boundary();
    }
    slot_acquire_waiting(slot);
    watcher_unlink(watcher);
    cr_assert_eq(atomic_load(&dirty), generation[i] != then);
    slot_release(slot);
    watcher_free(watcher);
    note(&watches);
}

static void *read_keys(void *context) {
    uint64_t random = (uintptr_t)context;
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        for (int i = 0; i < BATCH; i++) {
            sum_accounts();
            draw();
        }
        watch_account(&random);
        scan_all(&random);
        scan_volatile(&random);
        boundary();
    }
    leave();
    return NULL;
}

/* --- Duties and exclusive sections ------------------------------------------------------------ */

static void check_database(unsigned database) {
    const struct slot_bitmaps *bitmaps =
        atomic_load(&keyspace->bitmaps[keyspace->database_map[database]]);
    uint64_t keys = 0, expiring = 0;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const table_root *root = keyspace_root(keyspace, database, slot);
        uint64_t n = root ? table_count(root) : 0, v = root ? table_volatile_count(root) : 0;
        uint64_t bit = (uint64_t)1 << (slot & 63);
        cr_assert(n == 0 || (bitmaps && (atomic_load(&bitmaps->occupied[slot / 64]) & bit)));
        cr_assert_eq(bitmaps && (atomic_load(&bitmaps->expiring[slot / 64]) & bit), v > 0);
        if (n > 0)
            table_check(root);
        keys += n;
        expiring += v;
    }
    cr_assert_eq(keyspace_count(keyspace, database), keys);
    cr_assert_eq(keyspace_expiring_count(keyspace, database), expiring);
    check_deadlines(keyspace, database);
}

struct section {
    uint64_t what;
    struct keyspace_garbage *garbage;
};

/* All are stopped. */
static void in_section(void *context) {
    struct section *section = context;
    int64_t sum = 0;
    for (unsigned i = 0; i < ACCOUNTS; i++)
        sum += object_integer(keyspace_find_raw(keyspace, 0, &accounts[i]));
    cr_assert_eq(sum, (int64_t)ACCOUNTS * START);
    check_database((unsigned)(section->what % DATABASES));
    if (section->what % 3 == 0) {
        section->garbage = keyspace_clear(&change, 1 + (int)(section->what / 3 % (DATABASES - 1)));
    } else {
        unsigned a = 1 + (unsigned)(section->what / 3 % (DATABASES - 1));
        keyspace_swap(&change, a, a % (DATABASES - 1) + 1);
    }
    check_database(1);
}

static void *do_duties(void *context) {
    uint64_t random = (uintptr_t)context;
    static struct expiry_cursor cursor;
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        for (int i = 0; i < 20 && running(); i++) {
            expiry_step(keyspace, &change, &cursor, 0, 1, 10, 500);
            note(&steps);
            boundary();
            int64_t limit = (int64_t)memory_live_bytes() - (int64_t)random_below(&random, 1000);
            eviction_continue(evictor, limit > 0 ? (uint64_t)limit : 1, 500);
            note(&evictions);
            boundary();
        }
        struct section section = {random_next(&random) >> 8, NULL};
        exclusive_leave();
        exclusive_run_blocking(in_section, &section);
        exclusive_join();
        if (section.garbage)
            keyspace_garbage_free(section.garbage, section.what % 2);
        note(&sections);
        boundary();
    }
    leave();
    return NULL;
}

/* --- The runs --------------------------------------------------------------------------------- */

static void add(unsigned database, const char *name, int64_t value) {
    struct key key = key_make(name, strlen(name));
    struct slot *slot = &keyspace->slots[key.slot];
    cr_assert(slot_try_acquire(slot));
    keyspace_add(&change, database, &key,
                 object_make_integer(name, key.length, value, OBJECT_NO_EXPIRY), CHANGE_SET);
    slot_release(slot);
}

static void fill(void) {
    for (unsigned i = 0; i < ACCOUNTS; i++) {
        snprintf(names[i], sizeof names[i], "account:%u", i);
        accounts[i] = key_make(names[i], strlen(names[i]));
        add(0, names[i], START);
    }
    for (unsigned i = ACCOUNTS; i < ACCOUNTS + STAY; i++) {
        char name[32];
        snprintf(name, sizeof name, i % 3 ? "stay:%u" : "{one}:%u", i);
        add(0, name, i);
    }
}

static void run(enum eviction_policy policy) {
    crc16_init();
    table_set_seed(0x5eed);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    uint64_t used = memory_used_bytes();
    cr_assert_eq(keyspace_create(DATABASES, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    evictor = evictor_create(keyspace);
    evictor_configure(evictor, policy, 5, 10, 10, 1);
    keyspace_swap(&change, 0, 1); /* so that the one whose tables are in the slots is flushed too */
    fill();
    epoch_offline();
    pthread_t threads[4];
    void *(*const functions[4])(void *) = {write_keys, write_keys, read_keys, do_duties};
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, functions[i], (void *)(i + 1));
    uint64_t end_us = clock_monotonic_us() + RUN_SECONDS * 1000000;
    while (clock_monotonic_us() < end_us)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    for (unsigned i = 0; i < DATABASES; i++)
        check_database(i);
    uint64_t expired = 0, evicted = 0;
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        expired += atomic_load(&keyspace->counters[i].expired);
        evicted += atomic_load(&keyspace->counters[i].evicted);
    }
    printf("transfers %zu, sums %zu, scans %zu, draws %zu, watches %zu, sections %zu, steps %zu, "
           "expired %zu, "
           "evicted %zu\n",
           (size_t)transfers, (size_t)sums, (size_t)scans, (size_t)draws, (size_t)watches,
           (size_t)sections, (size_t)steps, (size_t)expired, (size_t)evicted);
    cr_assert(transfers > 0 && sums > 0 && scans > 0 && draws > 0 && watches > 0 && sections > 0);
    cr_assert(expired > 0 && evicted > 0);
    evictor_destroy(evictor);
    keyspace_destroy(keyspace);
    epoch_reader_leave();
    epoch_stop();
    cr_assert_eq(memory_retired_bytes(), 0);
    cr_assert_leq(memory_used_bytes(), used);
}

/* --- A TTL that comes and goes ---------------------------------------------------------------- */

#define TOGGLED 64
#define FILLERS 200

static void *toggle(void *context) {
    (void)context;
    uint64_t random = 1;
    enter(1);
    while (running()) {
        char name[32];
        snprintf(name, sizeof name, "{one}:%u", (unsigned)random_below(&random, TOGGLED));
        struct key key = key_make(name, strlen(name));
        struct slot *slot = &keyspace->slots[key.slot];
        if (slot_try_acquire(slot)) {
            struct object *object = keyspace_find_raw(keyspace, 0, &key);
            cr_assert_not_null(object, "%s was taken for expired", name);
            object = keyspace_set_expiry(&change, 0, &key, object, 1);
            keyspace_set_expiry(&change, 0, &key, object, OBJECT_NO_EXPIRY);
            slot_release(slot);
            note(&transfers);
        }
        boundary();
    }
    leave();
    return NULL;
}

static void *expire(void *context) {
    (void)context;
    struct expiry_cursor cursor = {0};
    enter(2);
    while (running()) {
        expiry_step(keyspace, &change, &cursor, 0, 1, 10, 500);
        boundary();
    }
    leave();
    return NULL;
}

Test(keyspace_threads, a_ttl_that_is_gone_by_the_end_of_the_command) {
    crc16_init();
    table_set_seed(0x5eed);
    cr_assert_eq(epoch_start(0, NULL, NULL), 0);
    epoch_reader_enter();
    cr_assert_eq(keyspace_create(DATABASES, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    for (unsigned i = 0; i < TOGGLED + FILLERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "{one}:%u", i);
        add(0, name, i);
        if (i >= TOGGLED) { /* what the walk comes by for */
            struct key key = key_make(name, strlen(name));
            keyspace_set_expiry(&change, 0, &key, keyspace_find_raw(keyspace, 0, &key), INT64_MAX);
        }
    }
    epoch_offline();
    pthread_t threads[2];
    pthread_create(&threads[0], NULL, toggle, NULL);
    pthread_create(&threads[1], NULL, expire, NULL);
    uint64_t end_us = clock_monotonic_us() + RUN_SECONDS * 500000;
    while (clock_monotonic_us() < end_us)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    check_database(0);
    cr_assert_gt(transfers, 0);
    cr_assert_eq(keyspace_count(keyspace, 0), TOGGLED + FILLERS);
    keyspace_destroy(keyspace);
    epoch_reader_leave();
    epoch_stop();
}

TestSuite(keyspace_threads, .timeout = 120);

Test(keyspace_threads, all_at_once_with_lfu) {
    run(EVICTION_VOLATILE_LFU);
}

Test(keyspace_threads, all_at_once_with_ttl) {
    run(EVICTION_VOLATILE_TTL);
}

Test(keyspace_threads, all_at_once_with_random) {
    run(EVICTION_VOLATILE_RANDOM);
}
