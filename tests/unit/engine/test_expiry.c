/* Active expiry: what goes, what stays, how long it takes and what it leaves alone. */
#include "engine/deadline.h"
#include "engine/expiry.h"
#include "tests/unit/engine/keyspace_fixture.h"

TestSuite(expiry, .init = keyspace_begin, .fini = keyspace_end, .timeout = 120);

#define PLENTY_US 10000000

static struct expiry_cursor cursor;

static bool step(uint64_t budget_us) {
    bool more = expiry_step(keyspace, &change, &cursor, 0, 1, 1, budget_us);
    epoch_quiescent();
    return more;
}

Test(expiry, nothing_to_do) {
    cr_assert_not(step(1000));
    put_many(0, "k", 1000, NEVER);
    cr_assert_not(step(1000));
    cr_assert_eq(keyspace_count(keyspace, 0), 1000);
    cr_assert_eq(expired_total(), 0);
}

Test(expiry, expired_keys_go_and_others_stay) {
    put_many(0, "gone", 3000, LONG_AGO);
    put_many(0, "stay", 100, FAR_AWAY);
    put_many(0, "ever", 100, NEVER);
    put_many(5, "{tag}gone", 3000, LONG_AGO);
    put_many(15, "gone", 3, LONG_AGO);
    for (int i = 0; i < 200 && keyspace_count(keyspace, 0) + keyspace_count(keyspace, 5) +
                                       keyspace_count(keyspace, 15) >
                                   200;
         i++)
        step(PLENTY_US);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 0), 200);
    cr_assert_eq(keyspace_expiring_count(keyspace, 0), 100);
    cr_assert_eq(keyspace_count(keyspace, 5), 0);
    cr_assert_eq(keyspace_count(keyspace, 15), 0);
    cr_assert_eq(expired_total(), 6003);
}

Test(expiry, each_worker_has_its_home_blocks) {
    put_many(0, "gone", 2000, LONG_AGO);
    struct expiry_cursor other = {0};
    for (int i = 0; i < 100; i++)
        expiry_step(keyspace, &change, &other, 2, 3, 1, PLENTY_US);
    uint64_t left = 0;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        uint64_t n = keyspace_slot_count(keyspace, slot);
        cr_assert(slot / DEADLINE_BLOCK_SLOTS % 3 != 2 || n == 0);
        left += n;
    }
    cr_assert_gt(left, 1000);
    check_keyspace();
}

Test(expiry, a_swapped_database_is_expired_under_its_name) {
    put_many(4, "gone", 10, LONG_AGO);
    put_many(4, "stay", 10, FAR_AWAY);
    keyspace_swap(&change, 4, 9);
    for (int i = 0; i < 50; i++)
        step(PLENTY_US);
    cr_assert_eq(keyspace_count(keyspace, 9), 10);
    cr_assert_eq(keyspace_count(keyspace, 4), 0);
    check_keyspace();
}

Test(expiry, long_lived_keys_cost_next_to_nothing_and_are_not_disturbed) {
    put_many(0, "stay", 50000, FAR_AWAY);
    put_many(0, "{tag}", 50000, FAR_AWAY);
    uint64_t words[SLOT_COUNT];
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        words[slot] = atomic_load(&keyspace->slots[slot].word);
    uint64_t start_us = busy_us();
    for (int i = 0; i < 100; i++)
        cr_assert_not(step(PLENTY_US));
    /* One look at 100,000 keys would be more than that. */
    cr_assert_lt(busy_us() - start_us, 100 * 500);
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        cr_assert_eq(words[slot], atomic_load(&keyspace->slots[slot].word), "no token was taken");
    check_keyspace();
}

/* Keys of a short life among many of a long one, some of which have been there before and some have
 * come later. */
static void expire_few_among_many(const char *few, const char *many) {
    enum { FEW = 1000, MANY = 200000 };
    char name[64];
    int64_t soon_ms = clock_now_ms() + 60;
    put_many(0, many, MANY / 2, FAR_AWAY);
    put_many(0, few, FEW, soon_ms);
    for (unsigned i = MANY / 2; i < MANY; i++) {
        snprintf(name, sizeof name, "%s%u", many, i);
        put(0, name, "v", FAR_AWAY);
        if (i % 64 == 0)
            epoch_quiescent();
    }
    while (clock_now_ms() <= soon_ms)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    uint64_t start_us = busy_us();
    while (step(1000))
        ;
    uint64_t took_us = busy_us() - start_us;
    cr_assert_eq(keyspace_count(keyspace, 0), MANY, "all are gone when there is no hurry");
    check_keyspace();
    /* And then nothing is due for a long time. */
    nanosleep(&(struct timespec){.tv_nsec = 510000000}, NULL);
    cr_assert_not(step(PLENTY_US));
    nanosleep(&(struct timespec){.tv_nsec = 510000000}, NULL);
    uint64_t idle_us = busy_us();
    cr_assert_not(step(PLENTY_US));
    idle_us = busy_us() - idle_us;
    cr_assert_lt(idle_us * 10, took_us + 1000, "%zu us, idle %zu us", (size_t)took_us,
                 (size_t)idle_us);
}

Test(expiry, few_among_many_in_all_slots) {
    expire_few_among_many("short", "long");
}

Test(expiry, few_among_many_in_a_giant_slot) {
    expire_few_among_many("{tag}short", "{tag}long");
}

Test(expiry, a_ttl_that_is_changed_or_taken_away_is_looked_after) {
    put_many(0, "{tag}", 3000, FAR_AWAY);
    struct key shorter = key_of("{tag}7"), longer = key_of("{tag}8"), none = key_of("{tag}9");
    struct slot *slot = token_of(&shorter);
    keyspace_set_expiry(&change, 0, &shorter, raw(0, "{tag}7"), LONG_AGO);
    keyspace_set_expiry(&change, 0, &longer, raw(0, "{tag}8"), FAR_AWAY + 1);
    keyspace_set_expiry(&change, 0, &none, raw(0, "{tag}9"), NEVER);
    slot_release(slot);
    put(0, "{tag}10", "v", LONG_AGO);
    put(0, "{tag}new", "v", LONG_AGO);
    check_keyspace();
    cr_assert_not(step(PLENTY_US));
    check_keyspace();
    cr_assert_null(raw(0, "{tag}7"));
    cr_assert_null(raw(0, "{tag}10"));
    cr_assert_null(raw(0, "{tag}new"));
    cr_assert_eq(keyspace_count(keyspace, 0), 2998);
}

Test(expiry, a_place_where_keys_expire_is_left_for_a_while) {
    put(0, "{tag}1", "v", FAR_AWAY);
    put(0, "{tag}2", "v", LONG_AGO);
    uint32_t block = key_of("{tag}3").slot / DEADLINE_BLOCK_SLOTS;
    step(PLENTY_US);
    cr_assert_eq(keyspace_count(keyspace, 0), 1);
    int64_t now_ms = clock_now_ms();
    put(0, "{tag}3", "v", now_ms + 10);
    check_keyspace();
    const struct deadlines *deadlines = atomic_load(&keyspace->deadlines[0]);
    cr_assert_eq(deadline_of_block(deadlines, block), now_ms + 10, "what comes is known at once");
    while (keyspace_count(keyspace, 0) > 1)
        step(PLENTY_US);
    int64_t due_ms = deadline_of_block(deadlines, block);
    cr_assert_eq(due_ms, FAR_AWAY);
    /* The next one expires right after the last: the place waits for its time. */
    now_ms = clock_now_ms();
    put(0, "{tag}4", "v", LONG_AGO);
    put(0, "{tag}5", "v", now_ms + 100);
    step(PLENTY_US);
    due_ms = deadline_of_block(deadlines, block);
    cr_assert(due_ms >= now_ms + 500 && due_ms <= clock_now_ms() + 500);
    /* With more effort a shorter time. */
    put(0, "{tag}6", "v", LONG_AGO);
    expiry_step(keyspace, &change, &cursor, 0, 1, 10, PLENTY_US);
    cr_assert_lt(deadline_of_block(deadlines, block), due_ms);
}

#if defined(SLOTWISE_TSAN) || defined(SLOTWISE_ASAN)
#define SLOWNESS 20 /* of processor time, at most */
#else
#define SLOWNESS 1
#endif

/* n keys that expired in the same second, in steps of 1 ms: no step takes much longer, all of it
 * not for ever. */
static void expire_together(const char *prefix, unsigned n) {
    put_many(0, prefix, n, LONG_AGO);
    uint64_t start_us = busy_us(), longest_us = 0;
    while (keyspace_count(keyspace, 0) > 0) {
        uint64_t before_us = busy_us();
        bool more = step(1000);
        uint64_t took_us = busy_us() - before_us;
        longest_us = took_us > longest_us ? took_us : longest_us;
        cr_assert(more || keyspace_count(keyspace, 0) == 0, "%zu left without hurry",
                  (size_t)keyspace_count(keyspace, 0));
    }
    uint64_t took_us = busy_us() - start_us;
    cr_assert_lt(took_us, n * 20 * SLOWNESS, "%zu us", (size_t)took_us);
    cr_assert_lt(longest_us, 5000 * SLOWNESS, "%zu us", (size_t)longest_us);
    cr_assert_gt(atomic_load(&keyspace_counters_mine(keyspace)->expire_limit_reached), 0);
    cr_assert_eq(expired_total(), n);
    check_keyspace();
}

Test(expiry, many_keys_that_expire_together) {
    expire_together("key", 200000);
}

Test(expiry, a_giant_slot_that_expires_together) {
    expire_together("{tag}", 200000);
}

Test(expiry, a_token_is_held_for_a_bounded_number_of_deletions) {
    put_many(0, "{tag}", 5000, LONG_AGO);
    struct slot *slot = &keyspace->slots[key_of("{tag}").slot];
    uint64_t version = atomic_load(&slot->word) / SLOT_VERSION_ONE;
    while (step(PLENTY_US))
        ;
    uint64_t tokens = atomic_load(&slot->word) / SLOT_VERSION_ONE - version;
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
    cr_assert_geq(tokens, 5000 / EXPIRY_DELETIONS_MAX);
}

Test(expiry, a_busy_slot_is_left_and_found_again) {
    put_many(0, "{tag}", 2000, LONG_AGO);
    put_many(0, "other", 500, LONG_AGO);
    struct key key = key_of("{tag}");
    struct slot *slot = token_of(&key);
    for (int i = 0; i < 50; i++)
        step(PLENTY_US);
    cr_assert_eq(keyspace_count(keyspace, 0), 2000, "others are not held up");
    slot_release(slot);
    for (int i = 0; i < 50; i++)
        step(PLENTY_US);
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
    check_keyspace();
}

Test(expiry, a_giant_slot_goes_on_where_it_was_left) {
    put_many(0, "{tag}", 20000, LONG_AGO);
    step(1);
    cr_assert_gt(cursor.group, 0);
    uint64_t group = cursor.group;
    struct key key = key_of("{tag}");
    cr_assert_eq(cursor.slot, key.slot);
    step(1);
    cr_assert_gt(cursor.group, group);
}

Test(expiry, a_slot_that_is_not_served_is_left_alone) {
    put_many(0, "{tag}", 100, LONG_AGO);
    struct key key = key_of("{tag}");
    struct slot *slot = token_of(&key);
    slot_clear_bits(slot, SLOT_SERVING);
    slot_release(slot);
    for (int i = 0; i < 5; i++)
        cr_assert_not(step(PLENTY_US));
    cr_assert_eq(keyspace_count(keyspace, 0), 100);
}

Test(expiry, one_reader_alone) {
    epoch_set_single_reader(true);
    put_many(0, "{tag}", 5000, LONG_AGO);
    put_many(0, "key", 5000, LONG_AGO);
    while (step(PLENTY_US))
        ;
    cr_assert_eq(keyspace_count(keyspace, 0), 0);
    check_keyspace();
    epoch_set_single_reader(false);
}
