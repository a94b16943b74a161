/* Own expiry: which keys a replica deletes itself, and that knowing one costs the same among many
 * as among few. */
#include "server/links/own_expiry.h"
#include "tests/unit/server/run_command.h"

#define MANY  30000
#define FEW   100
#define TICKS 100000

static struct own_expiry own;
static struct change applying;

static void setup(void) {
    commands_setup();
    own_expiry_init(&own, keyspace);
    atomic_store(&keyspace->door.view.mode, VIEW_REPLICA);
    own_expiry_configure(&own, true, true);
    change_init(&applying, &keyspace->door, VIEW_APPLYING);
}

static void teardown(void) {
    change_destroy(&applying);
    own_expiry_destroy(&own);
    commands_teardown();
}

TestSuite(own_expiry, .init = setup, .fini = teardown, .timeout = 60);

static void set_many(unsigned from, unsigned to, const char *milliseconds) {
    char name[16];
    for (unsigned i = from; i < to; i++) {
        snprintf(name, sizeof name, "key:%u", i);
        RUN("SET", name, "x", "PX", milliseconds);
    }
    epoch_quiescent();
}

static size_t longest_chain(void) {
    size_t longest = 0;
    for (size_t i = 0; i < own.keys.buckets; i++) {
        size_t length = 0;
        for (const struct watch_node *node = watch_index_bucket(&own.keys, i); node;
             node = node->next)
            length++;
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void tick_until(uint64_t count) {
    for (unsigned i = 0; i < TICKS && atomic_load(&own.count) > count; i++) {
        own_expiry_tick(&own, &change);
        epoch_quiescent();
    }
    cr_assert_eq(atomic_load(&own.count), count);
}

Test(own_expiry, many_keys_make_no_long_chains_and_few_no_long_rounds) {
    set_many(0, MANY, "1000000");
    cr_assert_eq(atomic_load(&own.count), MANY);
    cr_assert_leq(longest_chain(), 12);
    for (unsigned i = FEW; i < MANY; i++) {
        char name[16];
        snprintf(name, sizeof name, "key:%u", i);
        RUN("DEL", name);
    }
    tick_until(FEW);
    cr_assert_leq(own.keys.buckets, 4 * FEW);
    RUN("FLUSHALL");
    tick_until(0);
}

Test(own_expiry, what_has_expired_goes) {
    set_many(0, MANY, "1");
    set_many(MANY, MANY + FEW, "1000000");
    tick_until(FEW);
    cr_assert_eq(keyspace_count(keyspace, 0), FEW);
}

Test(own_expiry, what_the_primary_touches_does_not) {
    set_many(0, FEW, "1000000");
    struct key key = key_make("key:7", 5);
    change_begin(&applying);
    keyspace_delete(&applying, 0, &key, CHANGE_DEL);
    change_commit(&applying);
    cr_assert_eq(atomic_load(&own.count), FEW - 1);
}

Test(own_expiry, a_primary_knows_none) {
    set_many(0, MANY, "1000000");
    own_expiry_configure(&own, false, false);
    cr_assert_eq(atomic_load(&own.count), 0);
    cr_assert_eq(own.keys.buckets, WATCH_INDEX_FIRST);
    cr_assert_null(keyspace->door.listener);
}
