/* LRU and LFU clocks, notes and decay. */
#include "tests/unit/engine/keyspace_fixture.h"

TestSuite(access, .init = keyspace_begin, .fini = keyspace_end, .timeout = 30);

static uint32_t access_of(const struct object *object) {
    return atomic_load(&object->access);
}

static uint32_t minutes(void) {
    return (uint32_t)(clock_monotonic_us() / 60000000) & 0xffff;
}

Test(access, nothing_is_written_while_no_policy_wants_it) {
    put(0, "k", "v", NEVER);
    struct object *object = raw(0, "k");
    atomic_store(&object->access, 7);
    access_note(&keyspace->access, object);
    cr_assert_eq(access_of(object), 7);
}

Test(access, a_read_sets_the_lru_clock) {
    keyspace->access.tracked = true;
    put(0, "k", "v", NEVER);
    struct object *object = raw(0, "k");
    cr_assert_eq(access_of(object), access_lru_now(), "fresh at publication");
    atomic_store(&object->access, access_lru_now() - 100);
    cr_assert_eq(access_idle_ms(object), 100000, "not touched");
    access_note(&keyspace->access, object);
    cr_assert_eq(access_idle_ms(object), 0);
}

Test(access, idle_time_survives_the_wrap_of_24_bits) {
    put(0, "k", "v", NEVER);
    struct object *object = raw(0, "k");
    atomic_store(&object->access, (access_lru_now() - 3) & 0xffffff);
    cr_assert_eq(access_idle_ms(object), 3000);
    atomic_store(&object->access, (access_lru_now() + 1) & 0xffffff);
    cr_assert_eq(access_idle_ms(object), (uint64_t)0xffffff * 1000);
}

Test(access, lfu_starts_at_five_and_decays_by_the_minute) {
    keyspace->access.tracked = keyspace->access.lfu = true;
    put(0, "k", "v", NEVER);
    struct object *object = raw(0, "k");
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 5);
    atomic_store(&object->access, ((minutes() - 10) & 0xffff) << 8 | 100);
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 90);
    keyspace->access.lfu_decay_minutes = 5;
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 98);
    keyspace->access.lfu_decay_minutes = 0;
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 100, "0: never");
    keyspace->access.lfu_decay_minutes = 1;
    atomic_store(&object->access, ((minutes() - 1000) & 0xffff) << 8 | 100);
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 0, "not below 0");
}

Test(access, the_lfu_counter_grows_like_a_logarithm) {
    keyspace->access.tracked = keyspace->access.lfu = true;
    put(0, "k", "v", NEVER);
    struct object *object = raw(0, "k");
    for (int i = 0; i < 100; i++)
        access_note(&keyspace->access, object);
    uint32_t after_100 = access_lfu_counter(&keyspace->access, object);
    for (int i = 100; i < 100000; i++)
        access_note(&keyspace->access, object);
    uint32_t after_100000 = access_lfu_counter(&keyspace->access, object);
    /* Redis's table for factor 10: about 10 after 100 hits, 49 after 1000, 142 after 100000. */
    cr_assert(after_100 >= 7 && after_100 <= 15, "%u", after_100);
    cr_assert(after_100000 >= 110 && after_100000 <= 175, "%u", after_100000);
    keyspace->access.lfu_log_factor = 0;
    for (int i = 0; i < 300; i++)
        access_note(&keyspace->access, object);
    cr_assert_eq(access_lfu_counter(&keyspace->access, object), 255,
                 "factor 0 counts each, up to 255");
}

Test(access, an_overwritten_key_keeps_its_lfu_counter_and_not_its_lru_clock) {
    keyspace->access.tracked = keyspace->access.lfu = true;
    put(0, "k", "v", NEVER);
    atomic_store(&raw(0, "k")->access, minutes() << 8 | 77);
    put(0, "k", "w", NEVER);
    cr_assert_eq(access_lfu_counter(&keyspace->access, raw(0, "k")), 77);
    keyspace->access.lfu = false;
    atomic_store(&raw(0, "k")->access, access_lru_now() - 50);
    put(0, "k", "x", NEVER);
    cr_assert_eq(access_idle_ms(raw(0, "k")), 0);
}

Test(access, a_new_expiry_keeps_the_clock) {
    put(0, "k", "v", NEVER);
    atomic_store(&raw(0, "k")->access, access_lru_now() - 50);
    struct key key = key_of("k");
    struct slot *slot = token_of(&key);
    keyspace_set_expiry(&change, 0, &key, raw(0, "k"), FAR_AWAY);
    slot_release(slot);
    cr_assert_eq(access_idle_ms(raw(0, "k")), 50000);
}
