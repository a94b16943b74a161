/* The walk of a snapshot, all of whose workers are played by one thread: exactness while keys
 * change, sinks that are slow or fail, walks that are given up. */
#include "replication/snapshot_walk.h"

#include <errno.h>

#include "engine/background.h"
#include "engine/exclusive.h"
#include "engine/types/string.h"
#include "tests/unit/engine/keyspace_fixture.h"
#include "tests/unit/replication/snapshot_image.h"

#define WORKERS 3 /* all played by the test's thread */

static struct snapshot_walker walker;
static unsigned wakes;
static uint64_t log_number;

static void wake(void *context) {
    (void)context;
    wakes++;
}

static uint64_t number_of_log(void *context) {
    (void)context;
    return log_number;
}

static void begin(void) {
    crc64_init();
    clock_init();
    keyspace_begin();
    exclusive_join();
    struct snapshot_surroundings around = {keyspace,      WORKERS, "/tmp", SNAPSHOT_MEMORY_BYTES,
                                           number_of_log, wake,    NULL};
    snapshot_walker_init(&walker, &around);
}

static void finish(void) {
    exclusive_leave();
    snapshot_walker_destroy(&walker);
    keyspace_end();
}

TestSuite(snapshot_walk, .init = begin, .fini = finish, .timeout = 120);

/* --- Sections and turns ----------------------------------------------------------------------- */

static void in_section(void (*function)(void *), void *context) {
    exclusive_leave();
    exclusive_run_blocking(function, context);
    exclusive_join();
}

struct beginning {
    struct image *images;
    unsigned count;
    struct lines *expected; /* NULL: not wanted */
    int error;
};

static void begin_walk(void *context) {
    struct beginning *beginning = context;
    struct snapshot_sink sinks[SNAPSHOT_SINKS_MAX];
    for (unsigned i = 0; i < beginning->count; i++)
        sinks[i] = image_sink(&beginning->images[i]);
    beginning->error = snapshot_walk_begin(&walker, sinks, beginning->count);
    if (beginning->expected)
        lines_of_keyspace(beginning->expected, keyspace);
}

static void abort_walk(void *unused) {
    (void)unused;
    snapshot_walk_abort(&walker);
}

static void start(struct image *images, unsigned count, struct lines *expected) {
    struct beginning beginning = {images, count, expected, 0};
    in_section(begin_walk, &beginning);
    cr_assert_eq(beginning.error, 0);
}

/* A turn of each worker: one piece. */
static void turns(void) {
    for (unsigned i = 0; i < WORKERS; i++)
        snapshot_walk_step(&walker, i, SNAPSHOT_SHARE_IDLE, 0);
    epoch_quiescent();
    epoch_reclaim(100);
    exclusive_point();
}

static void wait_for(const struct image *image) {
    while (!atomic_load(&image->done)) {
        for (unsigned i = 0; i < WORKERS; i++)
            snapshot_walk_step(&walker, i, i & 1 ? SNAPSHOT_SHARE_BUSY : SNAPSHOT_SHARE_IDLE, 1000);
        turns();
    }
}

static void wait_for_end_of_walk(void) {
    while (snapshot_walk_is_on(&walker))
        turns();
}

static void holds(const struct image *image, const struct lines *expected) {
    struct lines lines = {0};
    lines_of_image(&lines, image);
    lines_are_equal(&lines, expected);
    lines_free(&lines);
}

/* --- What a snapshot is ----------------------------------------------------------------------- */

Test(snapshot_walk, of_nothing_is_an_empty_file) {
    struct image image = {0};
    struct lines expected = {0};
    start(&image, 1, &expected);
    wait_for(&image);
    holds(&image, &expected);
    cr_assert_eq(expected.count, 0);
    cr_assert_eq(image.opens, 1);
    cr_assert_eq(image.closes, 1);
    image_free(&image);
}

Test(snapshot_walk, has_all_keys_of_all_databases) {
    struct image image = {0};
    struct lines expected = {0};
    log_number = 77;
    put_many(0, "k", 5000, NEVER);
    put_many(3, "k", 300, FAR_AWAY);
    put_many(15, "expired", 10, LONG_AGO);
    start(&image, 1, &expected);
    cr_assert(snapshot_walk_is_on(&walker));
    cr_assert_eq(image.cuts, 1);
    cr_assert_eq(image.cut.log_number, 77);
    cr_assert_eq(image.cut.keys, 5310);
    cr_assert(wakes > 0);
    wait_for(&image);
    holds(&image, &expected);
    cr_assert_eq(expected.count, 5310);
    lines_free(&expected);
    image_free(&image);
}

/* A key in a giant slot, so that its table is rebuilt step by step. */
static void put_tagged(unsigned database, unsigned number, const char *value) {
    char name[64];
    snprintf(name, sizeof name, "{t}%u", number);
    put(database, name, value, NEVER);
}

Test(snapshot_walk, a_table_that_is_being_rebuilt_is_walked_in_both_halves) {
    for (int grow = 0; grow < 2; grow++) {
        struct image image = {0};
        struct lines expected = {0};
        struct key key = key_of("{t}");
        const table_root *root = keyspace_root_make(keyspace, 0, key.slot);
        unsigned n = 0;
        for (; n < 20000 || !table_is_rebuilding(root); n++)
            put_tagged(0, n, "v");
        start(&image, 1, &expected);
        for (unsigned i = 0; !atomic_load(&image.done); i++) {
            if (i % 3 == 0)
                put_tagged(0, grow ? n++ : i * 7919 % n, "new");
            turns();
        }
        holds(&image, &expected);
        lines_free(&expected);
        image_free(&image);
    }
}

/* --- Changes while it is taken ---------------------------------------------------------------- */

static uint64_t random_state;

static unsigned below(unsigned n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static void flush(void *database) {
    change_begin(&change);
    keyspace_garbage_free(keyspace_clear(&change, *(int *)database), below(2) == 0);
}

static void swap(void *unused) {
    (void)unused;
    change_begin(&change);
    keyspace_swap(&change, below(4), below(4));
}

static void set_expiry(unsigned database, const char *name, int64_t expiry_ms) {
    struct key key = key_of(name);
    struct slot *slot = token_of(&key);
    struct object *object = keyspace_find_raw(keyspace, database, &key);
    if (object)
        keyspace_set_expiry(&change, database, &key, object, expiry_ms);
    slot_release(slot);
}

static void rename_key(unsigned database, const char *from, const char *to) {
    struct key key = key_of(from), other = key_of(to);
    struct slot *slot = token_of(&key);
    struct object *object = keyspace_take(&change, database, &key, CHANGE_RENAME_FROM);
    slot_release(slot);
    if (!object)
        return;
    struct object *renamed = object_remake(object, other.data, other.length, object_expiry(object));
    if (object_needs_token(object))
        object_retire_shell(object);
    else
        object_retire(object);
    slot = token_of(&other);
    keyspace_delete(&change, database, &other, CHANGE_DEL);
    keyspace_add(&change, database, &other, renamed, CHANGE_RENAME_TO);
    slot_release(slot);
}

/* In place where it is possible. */
static void append(unsigned database, const char *name, size_t length) {
    static char bytes[40000];
    struct key key = key_of(name);
    struct slot *slot = token_of(&key);
    memset(bytes, 'a' + (int)below(26), length);
    struct object *object = keyspace_find_raw(keyspace, database, &key);
    if (object)
        string_write_range(&change, database, &key, object, object_string_length(object), bytes,
                           length, CHANGE_APPEND);
    slot_release(slot);
}

static void random_change(void) {
    char name[32], other[32];
    static char value[20000];
    unsigned database = below(4);
    snprintf(name, sizeof name, "k%u", below(300));
    snprintf(other, sizeof other, "k%u", below(300));
    switch (below(12)) {
    case 0:
        remove_key(database, name);
        break;
    case 1:
        rename_key(database, name, other);
        break;
    case 2:
        set_expiry(database, name, below(2) ? FAR_AWAY + below(1000) : NEVER);
        break;
    case 3:
    case 4:
        append(database, name, below(8) == 0 ? 20000 : below(30) + 1);
        break;
    case 5:
        memset(value, 'A' + (int)below(26), sizeof value - 1);
        value[below(2) ? sizeof value - 1 : below(2000)] = 0;
        put(database, name, value, NEVER);
        memset(value, 'A', sizeof value - 1);
        break;
    case 6:
        if (below(40) == 0)
            in_section(flush, &(int){below(8) == 0 ? -1 : (int)database});
        break;
    case 7:
        if (below(10) == 0)
            in_section(swap, NULL);
        break;
    default:
        snprintf(value, sizeof value, "%u", below(100000));
        put(database, name, value, below(5) ? NEVER : FAR_AWAY);
    }
}

Test(snapshot_walk, is_exact_whatever_changes_while_it_is_taken) {
    random_state = 5;
    for (unsigned round = 0; round < 60; round++) {
        struct image images[2] = {0};
        struct lines expected = {0};
        for (unsigned i = 0; i < 500; i++)
            random_change();
        start(images, 1 + round % 2, &expected);
        for (unsigned i = 0; snapshot_walk_is_on(&walker); i++) {
            random_change();
            if (i % (1 + round % 5) == 0)
                snapshot_walk_step(&walker, below(WORKERS), SNAPSHOT_SHARE_BUSY, 0);
            if (i > 1000)
                turns();
            exclusive_point();
            epoch_quiescent();
        }
        for (unsigned i = 0; i < 1 + round % 2; i++) {
            wait_for(&images[i]);
            holds(&images[i], &expected);
            image_free(&images[i]);
        }
        lines_free(&expected);
    }
}

Test(snapshot_walk, a_slot_in_use_is_come_back_to) {
    struct image image = {0};
    struct lines expected = {0};
    put_many(0, "k", 1000, NEVER);
    struct key key = key_of("k7");
    start(&image, 1, &expected);
    struct slot *slot = token_of(&key);
    for (unsigned i = 0; i < 1000; i++)
        for (unsigned w = 0; w < WORKERS; w++)
            snapshot_walk_step(&walker, w, SNAPSHOT_SHARE_IDLE, 100);
    struct snapshot_progress progress;
    snapshot_walk_progress(&walker, &progress);
    cr_assert(progress.on);
    cr_assert_eq(progress.keys, 1000);
    cr_assert(progress.keys_taken >= 900 && progress.keys_taken < 1000);
    cr_assert_eq(snapshot_walk_step(&walker, key.slot % WORKERS, SNAPSHOT_SHARE_IDLE, 100),
                 SNAPSHOT_STEP_BUSY);
    slot_release(slot);
    wait_for(&image);
    holds(&image, &expected);
    lines_free(&expected);
    image_free(&image);
}

/* --- Sinks ------------------------------------------------------------------------------------ */

static void put_big(const char *name, size_t length, int fill) {
    char *value = malloc(length + 1);
    for (size_t i = 0; i < length; i++)
        value[i] = (char)(fill + (i * i >> 7) % 7);
    value[length] = 0;
    put(0, name, value, NEVER);
    free(value);
}

Test(snapshot_walk, a_slow_sink_does_not_keep_the_walk) {
    struct image image = {0};
    struct lines expected = {0};
    sem_t slow;
    sem_init(&slow, 0, 0);
    walker.around.memory_bytes = 100000;
    image.slow = &slow;
    put_many(0, "a key that is somewhat longer than others ", 20000, NEVER);
    put_big("big", 300000, 'a');
    put_big("bigger", 3000000, 'd');
    start(&image, 1, &expected);
    append(0, "big", 20000);
    put_big("bigger", 100000, 'x');
    struct snapshot_progress progress, last = {0};
    bool behind = snapshot_walk_is_behind(&walker);
    cr_assert_not(behind);
    while (snapshot_walk_is_on(&walker)) {
        turns();
        behind |= snapshot_walk_is_behind(&walker);
        snapshot_walk_progress(&walker, &progress);
        if (progress.on)
            last = progress;
    }
    cr_assert(behind, "busy workers are to leave the sinks time");
    cr_assert(last.spooled_bytes > 0);
    cr_assert_not(atomic_load(&image.done));
    /* Another one does not wait for the sink. */
    struct image other = {0};
    struct lines other_expected = {0};
    start(&other, 1, &other_expected);
    wait_for(&other);
    holds(&other, &other_expected);
    image_free(&other);
    lines_free(&other_expected);
    while (!atomic_load(&image.done)) {
        sem_post(&slow);
        turns();
    }
    holds(&image, &expected);
    lines_free(&expected);
    image_free(&image);
    sem_destroy(&slow);
}

/* What is copied when it changes is encoded later, by each sink, in memory or from the file. */
Test(snapshot_walk, changed_keys_reach_all_sinks_by_way_of_the_file_too) {
    struct image images[2] = {0};
    struct lines expected = {0};
    sem_t slow;
    sem_init(&slow, 0, 0);
    walker.around.memory_bytes = 1000;
    images[0].slow = &slow;
    put_many(0, "k", 20000, NEVER);
    put_many(1, "of another database ", 3000, NEVER + 1);
    start(images, 2, &expected);
    for (unsigned from = 0; from < 4; from++) {
        put_many(from & 1, from & 1 ? "of another database " : "k", from < 2 ? 1500 : 20000,
                 NEVER + 2);
        turns();
    }
    wait_for(&images[1]);
    holds(&images[1], &expected);
    while (!atomic_load(&images[0].done)) {
        sem_post(&slow);
        turns();
    }
    holds(&images[0], &expected);
    for (unsigned i = 0; i < 2; i++)
        image_free(&images[i]);
    lines_free(&expected);
    sem_destroy(&slow);
}

Test(snapshot_walk, a_sink_that_fails_ends_it) {
    const enum image_fault faults[] = {IMAGE_OPEN, IMAGE_WRITE, IMAGE_CLOSE};
    put_many(0, "k", 5000, NEVER);
    for (unsigned i = 0; i < 3; i++) {
        struct image image = {.fault = faults[i]};
        start(&image, 1, NULL);
        wait_for(&image);
        cr_assert_eq(image.error, -(int)faults[i]);
        cr_assert_eq(image.closes, faults[i] == IMAGE_CLOSE);
        wait_for_end_of_walk();
        image_free(&image);
    }
}

Test(snapshot_walk, a_sink_that_fails_leaves_the_other_alone) {
    struct image images[2] = {0};
    images[0].fault = IMAGE_WRITE;
    struct lines expected = {0};
    put_many(0, "k", 20000, NEVER);
    start(images, 2, &expected);
    wait_for(&images[0]);
    wait_for(&images[1]);
    cr_assert_eq(images[0].error, -IMAGE_WRITE);
    holds(&images[1], &expected);
    lines_free(&expected);
    image_free(&images[0]);
    image_free(&images[1]);
}

Test(snapshot_walk, no_place_for_the_spool_is_the_sinks_error) {
    struct image image = {0};
    sem_t slow;
    sem_init(&slow, 0, 0);
    image.slow = &slow;
    walker.around.memory_bytes = 1000;
    walker.around.spool_directory = "/nonexistent";
    put_many(0, "k", 20000, NEVER);
    start(&image, 1, NULL);
    wait_for_end_of_walk();
    while (!atomic_load(&image.done)) {
        sem_post(&slow);
        turns();
    }
    cr_assert_eq(image.error, -ENOENT);
    image_free(&image);
    sem_destroy(&slow);
}

/* --- Giving up -------------------------------------------------------------------------------- */

Test(snapshot_walk, the_next_begins_at_once_when_one_was_given_up) {
    put_many(0, "k", 3000, NEVER);
    for (unsigned round = 0; round < 10; round++) {
        struct image given_up[4] = {0};
        struct image image = {0};
        struct lines expected = {0};
        unsigned n = 1 + round % 4;
        for (unsigned i = 0; i < n; i++) {
            start(&given_up[i], 1, NULL);
            for (unsigned k = 0; k < 50; k++)
                turns();
            put_many(0, "k", 100, FAR_AWAY + round);
            in_section(abort_walk, NULL);
            cr_assert_not(snapshot_walk_is_on(&walker));
        }
        start(&image, 1, NULL);
        /* The fourth goes over all objects before its cut. */
        while (image.cuts == 0)
            turns();
        put_many(1, "after", 10, NEVER);
        wait_for(&image);
        for (unsigned i = 0; i < 10; i++) {
            char name[32];
            snprintf(name, sizeof name, "after%u", i);
            remove_key(1, name);
        }
        lines_of_keyspace(&expected, keyspace);
        holds(&image, &expected);
        for (unsigned i = 0; i < n; i++) {
            wait_for(&given_up[i]);
            cr_assert_eq(given_up[i].error, -ECANCELED);
            cr_assert_eq(given_up[i].closes, 0);
            image_free(&given_up[i]);
        }
        lines_free(&expected);
        image_free(&image);
    }
}

static unsigned threads_left(void) {
    pthread_mutex_lock(&walker.lock);
    unsigned threads = walker.threads;
    pthread_mutex_unlock(&walker.lock);
    return threads;
}

/* It finds pieces and the end of the queue at once. */
Test(snapshot_walk, given_up_while_the_sink_is_busy_is_not_whole) {
    struct image image = {0};
    sem_t slow;
    sem_init(&slow, 0, 0);
    image.slow = &slow;
    put_many(0, "k", 20000, NEVER);
    start(&image, 1, NULL);
    struct snapshot_progress progress = {0};
    while (progress.memory_bytes == 0) {
        turns();
        snapshot_walk_progress(&walker, &progress);
    }
    in_section(abort_walk, NULL);
    while (threads_left() > 1)
        turns();
    while (!atomic_load(&image.done)) {
        sem_post(&slow);
        turns();
    }
    cr_assert_eq(image.error, -ECANCELED);
    cr_assert_eq(image.closes, 0);
    image_free(&image);
    sem_destroy(&slow);
}

Test(snapshot_walk, giving_up_nothing_is_nothing) {
    in_section(abort_walk, NULL);
    cr_assert_not(snapshot_walk_is_on(&walker));
    cr_assert_eq(snapshot_walk_step(&walker, 0, SNAPSHOT_SHARE_IDLE, 100), SNAPSHOT_STEP_NONE);
}

/* Freed on another thread, and after the walk was given up. */
Test(snapshot_walk, flushed_tables_outlive_a_walk_that_was_given_up) {
    struct image image = {0}, next = {0};
    struct lines expected = {0};
    put_many(0, "k", 3000, NEVER);
    cr_assert_eq(background_start(), 0);
    start(&image, 1, NULL);
    in_section(flush, &(int){-1});
    in_section(abort_walk, NULL);
    put_many(0, "new", 30, NEVER);
    start(&next, 1, &expected);
    wait_for(&next);
    wait_for(&image);
    background_stop();
    cr_assert_eq(image.error, -ECANCELED);
    holds(&next, &expected);
    lines_free(&expected);
    image_free(&image);
    image_free(&next);
}
