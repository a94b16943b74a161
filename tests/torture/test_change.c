/* The door under threads: command handlers on several workers with their tokens, transactions over
 * several slots, active expiry, eviction, FLUSHDB and SWAPDB in exclusive sections. Replaying the
 * log in the order of its numbers into an empty keyspace leads to the same data: a number is taken
 * before the first token of its unit is released, so units that touch one key have numbers in the
 * order in which they took effect. */
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/expiry.h"
#include "engine/snapshot.h"
#include "tests/unit/engine/recording_log.h"
#include "tests/unit/server/random_command.h"

#define RUN_SECONDS 3
#define WRITERS     3
#define UNIT_MAX    4

static _Atomic bool stop;
static _Atomic uint64_t units, sections, looks;

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
    uint64_t random = (uintptr_t)context * 77;
    enter((unsigned)(uintptr_t)context);
    while (running()) {
        for (int i = 0; i < 8; i++)
            random_unit(&random);
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
    RUN("SCAN", "0", "COUNT", "1000");
    change_commit(&change);
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

static void replay(void) {
    struct keyspace *original = keyspace;
    cr_assert_eq(keyspace_create(16, &keyspace), 0);
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    in_unit = false;
    uint64_t number = 0;
    for (size_t i = 0; i < recording.count; i++) {
        const struct effect *effect = &recording.effects[i].effect;
        struct argument argv[ARGUMENTS_MAX];
        cr_assert(recording.effects[i].number == number ||
                  recording.effects[i].number == number + 1);
        number = recording.effects[i].number;
        for (unsigned j = 0; j < effect->count; j++)
            argv[j] = (struct argument){effect->arguments[j].data, effect->arguments[j].length};
        database = effect->database;
        cr_assert_eq(run_arguments(argv, (int)effect->count), CALL_DONE);
        cr_assert_neq(replied[0], '-', "%s: %s", argv[0].data, replied);
    }
    keyspaces_are_equal(original, keyspace);
    keyspace_destroy(keyspace);
    keyspace = original;
}

Test(change_threads, replaying_the_log_leads_to_the_same_data, .timeout = 300) {
    commands_setup();
    epoch_set_single_reader(false);
    keyspace->door.log = &recording_log;
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
    keyspace->door.log = NULL;
    printf("units %zu, sections %zu, effects %zu in %zu entries\n", (size_t)units, (size_t)sections,
           recording.count, (size_t)recording.number);
    cr_assert(units > 0 && sections > 0 && recording.count > recording.number);
    replay();
    evictor_destroy(evictor);
    recording_free();
    commands_teardown();
}

/* --- The snapshot id beside readers ----------------------------------------------------------- */

static void *look(void *context) {
    struct key key = key_make("k", 1);
    uint64_t word;
    (void)context;
    keyspace_thread_set(1);
    epoch_reader_enter();
    while (running()) {
        struct slot *slot = &keyspace->slots[key.slot];
        if (slot_read_begin(slot, &word)) {
            const struct object *object = keyspace_find_raw(keyspace, 0, &key);
            if (object && object_expiry(object) == OBJECT_NO_EXPIRY &&
                slot_read_validate(slot, word))
                atomic_fetch_add_explicit(&looks, 1, memory_order_relaxed);
        }
        epoch_quiescent();
    }
    epoch_reader_leave();
    return NULL;
}

Test(change_threads, a_snapshot_stamps_objects_that_others_read, .timeout = 60) {
    commands_setup();
    epoch_set_single_reader(false);
    RUN("SET", "k", "v");
    atomic_store(&stop, false);
    pthread_t thread;
    pthread_create(&thread, NULL, look, NULL);
    struct key key = key_make("k", 1);
    for (unsigned i = 0; i < 20000 || atomic_load(&looks) < 1000; i++) {
        struct slot *slot = &keyspace->slots[key.slot];
        if (!slot_try_acquire(slot))
            continue;
        keyspace->door.snapshot_id = (uint8_t)(i % OBJECT_SNAPSHOT_IDS);
        snapshot_stamp(&keyspace->door, keyspace_find_raw(keyspace, 0, &key));
        slot_release(slot);
        epoch_quiescent();
    }
    atomic_store(&stop, true);
    epoch_offline();
    pthread_join(thread, NULL);
    epoch_online();
    commands_teardown();
}
