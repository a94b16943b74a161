/* Snapshots under threads: command handlers on several workers with their tokens, transactions over
 * several slots, active expiry, eviction, FLUSHDB and SWAPDB in exclusive sections, tables freed by
 * the background thread; meanwhile one snapshot after the other, some of them given up, some to two
 * sinks, some to a slow one. Each is what a replay of the log up to the number of its cut leads to.
 */
#include <errno.h>

#include "engine/background.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/expiry.h"
#include "tests/unit/engine/recording_log.h"
#include "tests/unit/replication/snapshot_image.h"
#include "tests/unit/server/random_command.h"

#define RUN_SECONDS   4
#define WRITERS       3
#define UNIT_MAX      4
#define SNAPSHOTS_MAX 400
#define STEP_US       100

static _Atomic bool stop;
static _Atomic uint64_t units, sections;
static struct snapshot_walker walker;
static struct image images[SNAPSHOTS_MAX];
static unsigned snapshots;

static bool running(void) {
    return !atomic_load_explicit(&stop, memory_order_relaxed);
}

static void enter(unsigned number) {
    keyspace_thread_set(number);
    epoch_reader_enter();
    exclusive_join();
    session_init(&session, number, true);
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    with_tokens = in_unit = true;
    resp = 2;
}

static void boundary(void) {
    epoch_quiescent();
    epoch_reclaim(100);
    exclusive_point();
}

static void leave(void) {
    change_destroy(&change);
    session_destroy(&session);
    free(replied);
    replied = NULL;
    exclusive_leave();
    epoch_reader_leave();
    output_pool_thread_exit();
}

static int compare_slots(const void *a, const void *b) {
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

/* The slots of the commands' keys, ascending, without duplicates. */
static size_t slots_of(const struct random_command *commands, size_t n, uint16_t *slots) {
    size_t count = 0, unique = 0;
    for (size_t i = 0; i < n; i++) {
        const struct command *container;
        const struct command *command =
            command_lookup(commands[i].argv, commands[i].argc, &container);
        int keys[ARGUMENTS_MAX];
        int found = command_keys(command, commands[i].argv, commands[i].argc, keys, ARGUMENTS_MAX);
        for (int j = 0; j < found; j++) {
            const struct argument *key = &commands[i].argv[keys[j]];
            slots[count++] = slot_of_key(key->data, key->length);
        }
    }
    qsort(slots, count, sizeof *slots, compare_slots);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || slots[i] != slots[unique - 1])
            slots[unique++] = slots[i];
    return unique;
}

static void random_unit(uint64_t *random) {
    struct random_command commands[UNIT_MAX] = {0};
    uint16_t slots[UNIT_MAX * ARGUMENTS_MAX];
    uint32_t busy;
    size_t n = random_below(random, 4) == 0 ? UNIT_MAX : 1;
    for (size_t i = 0; i < n; i++)
        random_command_make(&commands[i], random);
    size_t count = slots_of(commands, n, slots);
    if (count > 0 && slots_try_acquire(keyspace->slots, slots, count, &busy)) {
        change_begin(&change);
        for (size_t i = 0; i < n; i++) {
            database = (unsigned)random_below(random, RANDOM_DATABASES);
            run_arguments(commands[i].argv, commands[i].argc);
        }
        change_commit(&change);
        slots_release(keyspace->slots, slots, count);
        atomic_fetch_add_explicit(&units, 1, memory_order_relaxed);
    }
    for (size_t i = 0; i < n; i++)
        random_command_free(&commands[i]);
}

static void *write_keys(void *context) {
    unsigned number = (unsigned)(uintptr_t)context;
    uint64_t random = number * 77;
    enter(number);
    while (running() || snapshot_walk_is_on(&walker)) {
        for (int i = 0; i < 8; i++)
            random_unit(&random);
        if (snapshot_walk_is_on(&walker))
            snapshot_walk_step(&walker, number - 1,
                               random & 1 ? SNAPSHOT_SHARE_BUSY : SNAPSHOT_SHARE_IDLE, STEP_US);
        boundary();
    }
    leave();
    return NULL;
}

static void in_section(void *context) {
    uint64_t *random = context;
    char a[2] = {(char)('0' + random_below(random, RANDOM_DATABASES)), 0};
    change_begin(&change);
    database = (unsigned)random_below(random, RANDOM_DATABASES);
    if (random_below(random, 4) == 0)
        RUN("FLUSHDB");
    RUN("SWAPDB", "1", a);
    change_commit(&change);
    if (snapshot_walk_is_on(&walker)) {
        if (random_below(random, 10) == 0)
            snapshot_walk_abort(&walker);
        return;
    }
    unsigned sinks = 1 + (unsigned)random_below(random, 2);
    if (snapshots + sinks > SNAPSHOTS_MAX || !running())
        return;
    struct snapshot_sink to[2];
    for (unsigned i = 0; i < sinks; i++)
        to[i] = image_sink(&images[snapshots + i]);
    cr_assert_eq(snapshot_walk_begin(&walker, to, sinks), 0);
    snapshots += sinks;
}

static void *do_duties(void *context) {
    uint64_t random = 5;
    struct evictor *evictor = context;
    struct expiry_cursor cursor = {0};
    enter(WRITERS + 1);
    while (running()) {
        for (int i = 0; i < 10; i++) {
            expiry_step(keyspace, &change, &cursor, 0, 1, 10, 200);
            boundary();
        }
        eviction_continue(evictor, memory_live_bytes() - 500, 200);
        boundary();
        exclusive_leave();
        exclusive_run_blocking(in_section, &random);
        exclusive_join();
        atomic_fetch_add_explicit(&sections, 1, memory_order_relaxed);
        boundary();
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    leave();
    return NULL;
}

static uint64_t log_number(void *context) {
    (void)context;
    return recording.number;
}

/* The log up to the number, from where it was. */
static size_t replay(size_t from, uint64_t number) {
    for (; from < recording.count && recording.effects[from].number <= number; from++) {
        const struct effect *effect = &recording.effects[from].effect;
        struct argument argv[ARGUMENTS_MAX];
        for (unsigned j = 0; j < effect->count; j++)
            argv[j] = (struct argument){effect->arguments[j].data, effect->arguments[j].length};
        database = effect->database;
        cr_assert_eq(run_arguments(argv, (int)effect->count), CALL_DONE);
        cr_assert_neq(replied[0], '-', "%s: %s", argv[0].data, replied);
    }
    return from;
}

/* Snapshots are in the order of their cuts. */
static unsigned compare_with_log(void) {
    struct keyspace *original = keyspace;
    unsigned whole = 0;
    size_t from = 0;
    cr_assert_eq(keyspace_create(16, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    in_unit = false;
    for (unsigned i = 0; i < snapshots; i++) {
        struct lines expected = {0}, actual = {0};
        if (images[i].error == -ECANCELED)
            continue;
        from = replay(from, images[i].cut.log_number);
        lines_of_keyspace(&expected, keyspace);
        lines_of_image(&actual, &images[i]);
        lines_are_equal(&actual, &expected);
        lines_free(&expected);
        lines_free(&actual);
        whole++;
    }
    replay(from, UINT64_MAX);
    keyspaces_are_equal(original, keyspace);
    keyspace_destroy(keyspace);
    keyspace = original;
    return whole;
}

Test(snapshot_walk_threads, a_snapshot_is_what_the_log_leads_to, .timeout = 300) {
    commands_setup();
    crc64_init();
    epoch_set_single_reader(false);
    cr_assert_eq(background_start(), 0);
    keyspace->door.log = &recording_log;
    struct snapshot_surroundings around = {keyspace, WRITERS, "/tmp", 1000, log_number, NULL, NULL};
    snapshot_walker_init(&walker, &around);
    struct evictor *evictor = evictor_create(keyspace);
    evictor_configure(evictor, EVICTION_ALLKEYS_RANDOM, 5, 10, 10, 1);
    epoch_offline();
    pthread_t threads[WRITERS + 1];
    for (uintptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, write_keys, (void *)(i + 1));
    pthread_create(&threads[WRITERS], NULL, do_duties, evictor);
    uint64_t end_us = clock_monotonic_us() + RUN_SECONDS * 1000000;
    while (clock_monotonic_us() < end_us)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i <= WRITERS; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    snapshot_walker_destroy(&walker);
    background_stop();
    keyspace->door.log = NULL;
    unsigned whole = compare_with_log();
    printf("units %zu, sections %zu, entries %zu, snapshots %u, whole %u\n", (size_t)units,
           (size_t)sections, (size_t)recording.number, snapshots, whole);
    cr_assert(units > 0 && sections > 0 && whole > 0 && whole < snapshots);
    for (unsigned i = 0; i < snapshots; i++)
        image_free(&images[i]);
    evictor_destroy(evictor);
    recording_free();
    commands_teardown();
}
