/* The door and the view, driven by command handlers: what is logged leads to the same data, a
 * snapshot holds what was there at the cut, time stands still within a unit of work. */
#include "engine/eviction.h"
#include "engine/expiry.h"
#include "engine/snapshot.h"
#include "tests/unit/engine/recording_log.h"
#include "tests/unit/server/random_command.h"

#define COMMANDS 60000

TestSuite(change, .init = commands_setup, .fini = commands_teardown, .timeout = 120);

static void random_unit(uint64_t *random) {
    struct random_command commands[5] = {0}; /* arguments live until the commit */
    size_t n = random_below(random, 8) == 0 ? 5 : 1;
    in_unit = true;
    change_begin(&change);
    database = (unsigned)random_below(random, RANDOM_DATABASES);
    for (size_t i = 0; i < n; i++) {
        uint64_t what = random_below(random, 600);
        random_command_make(&commands[i], random);
        if (what == 0)
            RUN("FLUSHDB", "ASYNC");
        else if (what == 1)
            RUN("SWAPDB", "0", "2");
        else if (what == 2)
            RUN("SWAPDB", "1", "0");
        else if (what < 10)
            RUN("SCAN", "0", "COUNT", "100");
        else
            run_arguments(commands[i].argv, commands[i].argc);
        if (n > 1 && what % 3 == 0)
            database = (unsigned)random_below(random, RANDOM_DATABASES);
    }
    change_commit(&change);
    in_unit = false;
    for (size_t i = 0; i < n; i++)
        random_command_free(&commands[i]);
    epoch_quiescent();
}

/* Applies what was recorded to a keyspace of its own and compares. */
static void replay_leads_to_the_same(void) {
    struct keyspace *original = keyspace;
    cr_assert_eq(keyspace_create(16, &keyspace), 0);
    change_destroy(&change);
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    for (size_t i = 0; i < recording.count; i++) {
        const struct effect *effect = &recording.effects[i].effect;
        struct argument argv[ARGUMENTS_MAX];
        cr_assert_leq(effect->count, ARGUMENTS_MAX);
        for (unsigned j = 0; j < effect->count; j++)
            argv[j] = (struct argument){effect->arguments[j].data, effect->arguments[j].length};
        database = effect->database;
        cr_assert_eq(run_arguments(argv, (int)effect->count), CALL_DONE);
        cr_assert_neq(replied[0], '-', "%s: %s", argv[0].data, replied);
    }
    keyspaces_are_equal(original, keyspace);
    keyspace_destroy(keyspace);
    keyspace = original;
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
}

Test(change, replaying_the_log_leads_to_the_same_data) {
    uint64_t random = 7;
    struct expiry_cursor cursor = {0};
    struct evictor *evictor = evictor_create(keyspace);
    evictor_configure(evictor, EVICTION_ALLKEYS_LRU, 5, 10, 10, 1);
    keyspace->door.log = &recording_log;
    for (int i = 0; i < COMMANDS; i++) {
        random_unit(&random);
        if (i % 500 == 0)
            atomic_store(&keyspace->door.unlink_expired, i % 1000 == 0);
        if (i % 50 == 0)
            expiry_step(keyspace, &change, &cursor, 0, 1, 10, 1000);
        if (i % 3000 == 0)
            eviction_continue(evictor, memory_live_bytes() - 2000, 1000);
    }
    keyspace->door.log = NULL;
    struct keyspace_counters *counters = keyspace_counters_mine(keyspace);
    cr_assert(atomic_load(&counters->expired) > 100);
    cr_assert(atomic_load(&counters->evicted) > 0);
    cr_assert(recording.number < recording.count, "entries of several effects");
    replay_leads_to_the_same();
    evictor_destroy(evictor);
    recording_free();
}

/* --- One unit --------------------------------------------------------------------------------- */

static void effects_are(const char *expected) {
    char text[1000] = "";
    for (size_t i = 0; i < recording.count; i++) {
        const struct effect *effect = &recording.effects[i].effect;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%llu:%u:", i ? ", " : "",
                 (unsigned long long)recording.effects[i].number, effect->database);
        for (unsigned j = 0; j < effect->count; j++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", j ? " " : "",
                     effect->arguments[j].data);
    }
    cr_assert_str_eq(text, expected);
    recording_free();
}

Test(change, a_unit_is_one_entry_with_its_expiries_in_order) {
    RUN("SET", "gone", "v", "PXAT", "1000");
    RUN("SET", "target", "v", "PXAT", "1000");
    RUN("SET", "{gone}2", "v");
    keyspace->door.log = &recording_log;
    RUN("SET", "gone", "new", "EX", "-1");
    RUN("GET", "{gone}2");
    effects_are("");
    RUN("APPEND", "gone", "new");
    effects_are("1:0:DEL gone, 1:0:APPEND gone new");
    atomic_store(&keyspace->door.unlink_expired, true);
    in_unit = true;
    change_begin(&change);
    RUN("RENAME", "{gone}2", "target");
    database = 4;
    RUN("INCR", "n");
    RUN("GET", "n");
    RUN("EXPIRE", "n", "0");
    change_commit(&change);
    in_unit = false;
    effects_are("1:0:UNLINK target, 1:0:RENAME {gone}2 target, 1:4:INCR n, 1:4:UNLINK n");
    RUN("FLUSHALL");
    RUN("SWAPDB", "1", "2");
    RUN("SWAPDB", "1", "1");
    effects_are("1:4:FLUSHALL, 2:4:SWAPDB 1 2, 3:4:SWAPDB 1 1");
    keyspace->door.log = NULL;
}

Test(change, time_stands_still_within_a_unit) {
    in_unit = true;
    change_begin(&change);
    REPLIES("+OK\r\n", "SET", "k", "v", "PX", "1");
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    REPLIES(":1\r\n", "EXISTS", "k");
    REPLIES(":1\r\n", "PTTL", "k");
    REPLIES(":1\r\n", "DEL", "k");
    REPLIES("+OK\r\n", "SET", "k", "v", "PX", "1");
    change_begin(&change);
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    REPLIES(":0\r\n", "EXISTS", "k");
    in_unit = false;
}

Test(change, nothing_expires_by_itself_during_a_pause_or_on_a_replica) {
    struct expiry_cursor cursor = {0};
    RUN("SET", "k", "v", "PXAT", "1000");
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            atomic_store(&keyspace->door.view.paused, true);
        else
            atomic_store(&keyspace->door.view.mode, VIEW_REPLICA);
        REPLIES("*2\r\n$1\r\n0\r\n*0\r\n", "SCAN", "0");
        REPLIES("$-1\r\n", "GET", "k");
        REPLIES("$-1\r\n", "RANDOMKEY");
        cr_assert_not(expiry_step(keyspace, &change, &cursor, 0, 1, 10, 1000));
        cr_assert_not_null(object_at("k"));
        atomic_store(&keyspace->door.view.paused, false);
        atomic_store(&keyspace->door.view.mode, VIEW_PRIMARY);
    }
    REPLIES("*2\r\n$1\r\n0\r\n*0\r\n", "SCAN", "0");
    cr_assert_null(object_at("k"));
}

Test(change, a_stream_that_is_applied_sees_no_expiry) {
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    RUN("SET", "k", "1", "PXAT", "1000");
    REPLIES(":2\r\n", "INCR", "k");
    REPLIES(":1\r\n", "PEXPIREAT", "k", "2000");
    REPLIES(":1\r\n", "PERSIST", "k");
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    REPLIES("$1\r\n2\r\n", "GET", "k");
}

/* --- Events ----------------------------------------------------------------------------------- */

static char events[1000];
static bool tells_new;

static void note_event(void *context, const struct change *of, unsigned number,
                       const struct key *key, enum change_event event) {
    (void)context, (void)of;
    if (event == CHANGE_NEW && !tells_new)
        return;
    snprintf(events + strlen(events), sizeof events - strlen(events), "%s%u:%.*s %s",
             events[0] ? ", " : "", number, (int)key->length, key->data, change_events[event].name);
}

#define TELLS(expected, ...)                                                                       \
    do {                                                                                           \
        events[0] = 0;                                                                             \
        RUN(__VA_ARGS__);                                                                          \
        cr_assert_str_eq(events, expected);                                                        \
    } while (0)

Test(change, listeners_hear_redis_events) {
    static struct change_listener listener = {note_event, NULL, NULL};
    change_listen(&keyspace->door, &listener, true);
    TELLS("0:k set", "SET", "k", "1");
    TELLS("0:k set, 0:k expire", "SET", "k", "1", "EX", "100");
    TELLS("0:k incrby", "DECR", "k");
    TELLS("0:k incrbyfloat", "INCRBYFLOAT", "k", "0.5");
    TELLS("0:k append", "APPEND", "k", "x");
    TELLS("0:k setrange", "SETRANGE", "k", "1", "x");
    TELLS("0:k persist", "PERSIST", "k");
    TELLS("0:k expire", "EXPIRE", "k", "100");
    TELLS("", "GET", "k");
    TELLS("0:k rename_from, 0:l rename_to", "RENAME", "k", "l");
    TELLS("0:k copy_to", "COPY", "l", "k");
    TELLS("0:k move_from, 1:k move_to", "MOVE", "k", "1");
    TELLS("0:l del", "EXPIRE", "l", "-1");
    TELLS("0:k set, 0:k expire", "SETEX", "k", "10", "v");
    TELLS("0:k del", "GETDEL", "k");
    TELLS("0:k set, 0:k expire", "SET", "k", "1", "PXAT", "1000");
    TELLS("0:k expired", "GET", "k");
    tells_new = true;
    TELLS("0:k new, 0:k set", "SET", "k", "1");
    TELLS("0:k set", "SET", "k", "2");
    /* What takes another's place is new, too, but for SET. */
    TELLS("0:l new, 0:l copy_to", "COPY", "k", "l");
    TELLS("0:l new, 0:l copy_to", "COPY", "k", "l", "REPLACE");
    TELLS("0:k new, 0:l rename_from, 0:k rename_to", "RENAME", "l", "k");
    TELLS("2:k new, 0:k move_from, 2:k move_to", "MOVE", "k", "2");
    TELLS("0:k new, 0:k set", "SET", "k", "3");
    change_listen(&keyspace->door, &listener, false);
    TELLS("", "SET", "k", "3");
}

/* --- Snapshots -------------------------------------------------------------------------------- */

static struct dump taken;

static void take(void *context, unsigned logical, const struct key *key,
                 const struct object *object) {
    (void)context;
    cr_assert(object_key_equals(object, key->data, key->length));
    dump_add(&taken, keyspace->database_map[logical], object);
}

static void salvage_visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    if (snapshot_is_due(&keyspace->door, object))
        dump_add(&taken, *(unsigned *)context, object);
}

static void salvage_table(struct snapshot_salvage *salvage, unsigned physical,
                          const table_root *root) {
    uint64_t next = 0;
    (void)salvage;
    do
        table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, salvage_visit, &physical, &next);
    while (next != 0);
}

static void salvage_end(struct snapshot_salvage *salvage) {
    (void)salvage;
}

static struct snapshot_salvage *salvage_begin(void *context) {
    static struct snapshot_salvage salvage = {salvage_table, salvage_end};
    (void)context;
    return &salvage;
}

static void stamp_visit(struct object *object, uint64_t hash, void *context) {
    (void)hash;
    (void)context;
    snapshot_stamp(&keyspace->door, object);
}

/* What the walk of a snapshot does with the rest. */
static void take_the_rest(void) {
    for (unsigned i = 0; i < keyspace->databases; i++)
        dump_database(&taken, keyspace, i, keyspace->door.snapshot_id);
    for (unsigned i = 0; i < keyspace->databases; i++)
        for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
            const table_root *root = keyspace_root(keyspace, i, slot);
            uint64_t next = 0;
            while (root && table_count(root) > 0) {
                table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, stamp_visit, NULL, &next);
                if (next == 0)
                    break;
            }
        }
}

static const struct snapshot snapshot = {take, salvage_begin, NULL};

Test(change, a_snapshot_is_what_was_there_at_the_cut) {
    uint64_t random = 11;
    for (int round = 0; round < 60; round++) {
        struct dump cut = {0};
        for (int i = 0; i < 100; i++)
            random_unit(&random);
        if (!snapshot_begin(&keyspace->door, &snapshot)) {
            take_the_rest();
            snapshot_all_stamped(&keyspace->door);
            free(taken.lines);
            taken = (struct dump){0};
            cr_assert(snapshot_begin(&keyspace->door, &snapshot));
        }
        for (unsigned i = 0; i < keyspace->databases; i++)
            dump_database(&cut, keyspace, i, -1);
        for (int i = 0; i < round * 10; i++)
            random_unit(&random);
        if (round % 3 != 0) { /* given up */
            snapshot_end(&keyspace->door, false);
            free(taken.lines);
            free(cut.lines);
            taken = (struct dump){0};
            continue;
        }
        take_the_rest();
        snapshot_end(&keyspace->door, true);
        dumps_are_equal(&taken, &cut);
    }
}

Test(change, ids_come_round_after_three_given_up) {
    for (int i = 0; i < 3; i++) {
        cr_assert(snapshot_begin(&keyspace->door, &snapshot));
        snapshot_end(&keyspace->door, false);
    }
    cr_assert_not(snapshot_begin(&keyspace->door, &snapshot));
}
