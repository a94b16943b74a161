/* Changes of keys with their counts, bitmaps, expiry and log; whole databases. */
#include "engine/background.h"
#include "tests/unit/engine/keyspace_fixture.h"

TestSuite(keyspace, .init = keyspace_begin, .fini = keyspace_end, .timeout = 60);

/* --- The log hook ----------------------------------------------------------------------------- */

static char logged[1000];
static uint64_t log_number;

static uint64_t log_commit(void *context, const struct effect *effects, size_t count) {
    (void)context;
    char *end = logged + strlen(logged);
    end += sprintf(end, "(");
    for (size_t i = 0; i < count; i++) {
        end += sprintf(end, "%s%u:", i ? ", " : "", effects[i].database);
        for (unsigned j = 0; j < effects[i].count; j++)
            end += sprintf(end, "%s%.*s", j ? " " : "", (int)effects[i].arguments[j].length,
                           effects[i].arguments[j].data);
    }
    sprintf(end, ")");
    return ++log_number;
}
static struct effect_log test_log = {.commit = log_commit};

/* --- One key ---------------------------------------------------------------------------------- */

Test(keyspace, counts_and_bitmaps_follow_each_change) {
    put(0, "a", "1", NEVER);
    put(0, "b", "2", FAR_AWAY);
    put(3, "a", "3", FAR_AWAY);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 2);
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 1);
    cr_assert_eq(keyspace_count(keyspace, 3), 1);
    put(0, "a", "1", FAR_AWAY); /* gains an expiry */
    check_keyspace();
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 2);
    put(0, "b", "2", NEVER); /* loses it */
    check_keyspace();
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 1);
    cr_assert(remove_key(0, "a"));
    cr_assert_not(remove_key(0, "a"));
    cr_assert_not(remove_key(5, "a"), "a database that never was used");
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 1);
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 0);
    cr_assert_eq(keyspace_slot_count(keyspace, key_of("b").slot), 1);
    cr_assert_eq(keyspace_slot_count(keyspace, key_of("a").slot), 0);
}

Test(keyspace, an_expiry_is_added_changed_and_removed) {
    put(0, "k", "value", NEVER);
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    struct object *object = raw(0, "k");
    cr_assert_eq(keyspace_set_expiry(&change, 0, &key, object, NEVER), object);
    object = keyspace_set_expiry(&change, 0, &key, object, FAR_AWAY);
    cr_assert_eq(raw(0, "k"), object);
    cr_assert_eq(object_expiry(object), FAR_AWAY);
    check_keyspace();
    cr_assert_eq(keyspace_set_expiry(&change, 0, &key, object, FAR_AWAY + 1), object, "in place");
    cr_assert_eq(object_expiry(object), FAR_AWAY + 1);
    cr_assert_eq(keyspace_set_expiry(&change, 0, &key, object, NEVER), object, "in place");
    check_keyspace();
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 0);
    cr_assert_eq(keyspace_set_expiry(&change, 0, &key, object, FAR_AWAY), object);
    check_keyspace();
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 1);
    slot_release(slot);
}

Test(keyspace, a_large_value_moves_with_its_shell) {
    static char value[50000];
    memset(value, 'x', sizeof value - 1);
    put(0, "k", value, NEVER);
    const void *blob = object_pointer(raw(0, "k"));
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    struct object *object = keyspace_set_expiry(&change, 0, &key, raw(0, "k"), FAR_AWAY);
    cr_assert_eq(object_pointer(object), blob);
    slot_release(slot);
    cr_assert(remove_key(0, "k"));
}

Test(keyspace, an_expired_key_is_absent_and_goes_with_a_token) {
    put(0, "k", "v", LONG_AGO);
    struct key key = key_of("k");
    cr_assert_null(live(0, "k"));
    cr_assert_not_null(raw(0, "k"), "without the token it stays");
    cr_assert_eq(expired_total(), 0);
    keyspace->door.log = &test_log;
    struct slot *slot = token_of(&key);
    cr_assert_null(keyspace_find_write(&change, 0, &key));
    cr_assert_eq(change_commit(&change), 1);
    cr_assert_eq(change_commit(&change), 0, "nothing more");
    slot_release(slot);
    keyspace->door.log = NULL;
    cr_assert_null(raw(0, "k"));
    cr_assert_eq(expired_total(), 1);
    cr_assert_str_eq(logged, "(0:DEL k)");
    check_keyspace();
}

Test(keyspace, taking_out_leaves_the_object_to_the_caller) {
    put(0, "k", "v", FAR_AWAY);
    struct object *object = raw(0, "k");
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    cr_assert_eq(keyspace_take(&change, 0, &key, CHANGE_RENAME_FROM), object);
    cr_assert_null(keyspace_take(&change, 0, &key, CHANGE_RENAME_FROM));
    cr_assert_null(keyspace_take(&change, 9, &key, CHANGE_RENAME_FROM));
    slot_release(slot);
    check_keyspace();
    cr_assert(object_key_equals(object, "k", 1));
    object_retire(object);
}

Test(keyspace, publication_stamps_the_snapshot_id) {
    put(0, "a", "v", NEVER);
    keyspace->door.snapshot_id = 1;
    put(0, "b", "v", NEVER);
    put(0, "c", "v", NEVER);
    cr_assert_eq(object_snapshot_id(raw(0, "a")), 0);
    cr_assert_eq(object_snapshot_id(raw(0, "b")), 1);
    put(0, "a", "w", NEVER);
    cr_assert_eq(object_snapshot_id(raw(0, "a")), 1);
    keyspace->door.snapshot_id = 2;
    struct key key = key_of("c");
    struct slot *slot = token_of(&key);
    keyspace_set_expiry(&change, 0, &key, raw(0, "c"), FAR_AWAY);
    slot_release(slot);
    cr_assert_eq(object_snapshot_id(raw(0, "c")), 2, "a new object for the same value");
}

Test(keyspace, many_keys_keep_exact_counts) {
    for (unsigned round = 0; round < 3; round++) {
        put_many(0, "key:", 20000, round == 1 ? FAR_AWAY : NEVER);
        put_many(1, "{tag}:", 5000, round == 2 ? FAR_AWAY : NEVER);
        check_keyspace();
        cr_assert_eq(keyspace_count(keyspace, 0), 20000);
        cr_assert_eq(keyspace_count(keyspace, 1), 5000);
    }
    char name[64];
    for (unsigned i = 0; i < 20000; i++) {
        sprintf(name, "key:%u", i);
        cr_assert(remove_key(0, name));
    }
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
}

Test(keyspace, one_reader_alone_frees_at_once) {
    epoch_set_single_reader(true);
    put_many(0, "{tag}:", 2000, FAR_AWAY);
    put_many(0, "{tag}:", 2000, NEVER);
    put(0, "k", "v", NEVER);
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    keyspace_set_expiry(&change, 0, &key, raw(0, "k"), LONG_AGO);
    /* The bytes of the key are the object's own. */
    key.data = object_key(raw(0, "k"), &key.length);
    keyspace->door.log = &test_log;
    keyspace_expire(&change, 0, &key);
    change_commit(&change);
    keyspace->door.log = NULL;
    slot_release(slot);
    check_keyspace();
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    check_keyspace();
    epoch_set_single_reader(false);
}

/* --- Threads ---------------------------------------------------------------------------------- */

static void *count_elsewhere(void *context) {
    (void)context;
    epoch_reader_enter();
    keyspace_thread_set(7);
    for (int i = 0; i < 100; i++) {
        char name[16];
        sprintf(name, "%d", i);
        remove_key(0, name);
        put(2, name, "v", FAR_AWAY);
    }
    epoch_reader_leave();
    return NULL;
}

Test(keyspace, counts_are_summed_over_threads) {
    put_many(0, "", 150, NEVER);
    pthread_t thread;
    pthread_create(&thread, NULL, count_elsewhere, NULL);
    epoch_offline(); /* its retired objects wait for us */
    pthread_join(thread, NULL);
    epoch_online();
    cr_assert_eq(keyspace_count(keyspace, 0), 50);
    cr_assert_eq(keyspace_count(keyspace, 2), 100);
    cr_assert_eq(keyspace_expiring_count(keyspace, 2), 100);
    check_keyspace();
    keyspace_garbage_free(keyspace_clear(&change, 2), false);
    check_keyspace();
}

/* --- Whole databases -------------------------------------------------------------------------- */

Test(keyspace, clearing_takes_one_database_or_all) {
    put_many(0, "a", 1000, NEVER);
    put_many(1, "b", 1000, FAR_AWAY);
    put_many(2, "{one slot}", 3000, NEVER);
    keyspace_garbage_free(keyspace_clear(&change, 1), true);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 1000);
    cr_assert_eq(keyspace_count(keyspace, 1), 0);
    keyspace_garbage_free(keyspace_clear(&change, 1), true);
    put_many(1, "b", 10, NEVER);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    check_keyspace();
    for (unsigned i = 0; i < DATABASES; i++)
        cr_assert_eq(keyspace_count(keyspace, i), 0);
    background_drain();
    put(0, "a", "again", NEVER);
    check_keyspace();
}

Test(keyspace, clearing_gives_all_memory_back) {
    put(0, "warm", "up", FAR_AWAY);
    put(1, "warm", "up", FAR_AWAY);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    uint64_t used = memory_used_bytes();
    put_many(0, "key", 3000, FAR_AWAY);
    put_many(1, "{one}", 30000, FAR_AWAY);
    keyspace_garbage_free(keyspace_clear(&change, -1), true);
    background_drain();
    /* What was retired before takes its grace periods; some of the bookkeeping of that stays. */
    for (int i = 0; i < 2000 && epoch_reclaim(1000) > 0; i++) {
        epoch_quiescent();
        epoch_offline();
        epoch_synchronize();
        epoch_online();
    }
    background_drain(); /* large arrays are freed there once they are safe */
    cr_assert_leq(memory_used_bytes(), used + 400 * 1024, "%zu bytes more",
                  (size_t)(memory_used_bytes() - used));
}

/* A server with 100 KB to its limit must hold keys with a TTL, in whatever database. */
Test(keyspace, the_first_ttl_of_a_database_costs_a_few_kilobytes) {
    for (int round = 0; round < 2; round++) { /* of a new keyspace, and of one that was cleared */
        for (unsigned database = 0; database < DATABASES; database += DATABASES - 1) {
            put(database, "without", "a TTL", NEVER);
            uint64_t used = memory_used_bytes();
            put(database, "with", "a TTL", FAR_AWAY);
            uint64_t more = memory_used_bytes() - used;
            cr_assert_leq(more, 6 * 1024, "round %d, %u: %zu bytes", round, database, (size_t)more);
        }
        keyspace_garbage_free(keyspace_clear(&change, -1), false);
    }
}

static uint64_t used_with(unsigned database, unsigned keys, int64_t expiry_ms) {
    uint64_t used = memory_used_bytes();
    put_many(database, "key", keys, expiry_ms);
    used = memory_used_bytes() - used;
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    return used;
}

/* A TTL takes 8 bytes of its object and a share of the deadlines, which grow with the keys. */
Test(keyspace, ttls_take_memory_in_proportion) {
    put_many(0, "key", 100000, FAR_AWAY); /* what is made once and stays */
    put_many(9, "key", 100000, FAR_AWAY);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    for (unsigned database = 0; database <= 9; database += 9)
        for (unsigned keys = 100; keys <= 100000; keys *= 10) {
            uint64_t without = used_with(database, keys, NEVER);
            uint64_t with = used_with(database, keys, FAR_AWAY);
            uint64_t bound = 6 * 1024 + (uint64_t)keys * 48;
            cr_assert_leq(with - without, bound, "%u keys: %zu bytes", keys,
                          (size_t)(with - without));
        }
}

/* One database after the other, and the same one again before what was taken out is handed over. */
Test(keyspace, clearing_again_before_the_garbage_is_free) {
    struct keyspace_garbage *garbage[6];
    for (unsigned i = 0; i < 6; i++) {
        put_many(0, "a", 1000, i % 2 ? NEVER : FAR_AWAY);
        put_many(3, "b", 1000, i % 2 ? FAR_AWAY : NEVER);
        garbage[i] = keyspace_clear(&change, i % 3 ? 0 : -1);
        cr_assert_eq(keyspace_count(keyspace, 0), 0);
        check_keyspace();
        if (i == 3) { /* the latest first */
            keyspace_garbage_prepare(garbage[3]);
            keyspace_garbage_free(garbage[0], false);
            put_many(0, "c", 100, NEVER);
            check_keyspace();
        }
    }
    for (unsigned i = 6; i-- > 1;)
        keyspace_garbage_free(garbage[i], i % 2);
    put_many(0, "a", 1000, NEVER);
    keyspace_garbage_free(keyspace_clear(&change, 0), false);
    check_keyspace();
    background_drain();
}

/* Neither on the number of keys nor on that of slots and databases in use: no more is done for all
 * of them than for one key. */
/* What holds a database together leaves room for keys under a tight limit. */
Test(keyspace, a_few_keys_of_another_database_cost_little_more_than_those_of_the_first) {
    uint64_t first = used_with(0, 300, NEVER), other = used_with(9, 300, NEVER);
    cr_assert_leq(other, first + 48 * 1024, "%zu and %zu bytes", (size_t)first, (size_t)other);
}

Test(keyspace, clearing_does_not_depend_on_what_is_there) {
    uint64_t took_us[2] = {UINT64_MAX, UINT64_MAX};
    for (unsigned i = 0; i < 20; i++) {
        put(0, "k", "v", NEVER);
        if (i % 2)
            for (unsigned database = 0; database < DATABASES; database++)
                put_many(database, "key", 5000, NEVER);
        uint64_t start_us = busy_us();
        struct keyspace_garbage *garbage = keyspace_clear(&change, -1);
        uint64_t us = busy_us() - start_us;
        took_us[i % 2] = us < took_us[i % 2] ? us : took_us[i % 2];
        keyspace_garbage_free(garbage, false);
    }
    cr_assert_leq(took_us[1], took_us[0] * 10 + 100, "%zu us for one key, %zu us for %u",
                  (size_t)took_us[0], (size_t)took_us[1], DATABASES * 5000);
}

Test(keyspace, swapping_exchanges_names_and_not_keys) {
    put_many(0, "zero", 500, NEVER);
    put_many(1, "one", 300, FAR_AWAY);
    keyspace_swap(&change, 0, 1);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 300);
    cr_assert_eq(keyspace_count(keyspace, 1), 500);
    cr_assert_not_null(raw(1, "zero7"));
    cr_assert_null(raw(0, "zero7"));
    keyspace_swap(&change, 1, 15);
    cr_assert_eq(keyspace_count(keyspace, 15), 500);
    cr_assert_eq(keyspace_count(keyspace, 1), 0);
    put(1, "new", "v", NEVER);
    keyspace_garbage_free(keyspace_clear(&change, 15), false);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 1), 1);
    cr_assert_eq(keyspace_count(keyspace, 0), 300);
    for (unsigned i = 0; i < DATABASES; i++)
        cr_assert_eq(keyspace->database_map_inverse[keyspace->database_map[i]], i);
}
