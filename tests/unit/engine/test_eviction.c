/* Eviction: who goes under each policy, how exactly the limit is kept, and when it gives up. */
#include <stdatomic.h>
#include <unistd.h>

#include "engine/background.h"
#include "engine/eviction.h"
#include "tests/unit/engine/keyspace_fixture.h"

static struct evictor *evictor;

static void begin(void) {
    keyspace_begin();
    cr_assert_eq(background_start(), 0);
    evictor = evictor_create(keyspace);
}
static void end(void) {
    evictor_destroy(evictor);
    background_stop();
    keyspace_end();
}

TestSuite(eviction, .init = begin, .fini = end, .timeout = 120);

/* Asks until it is no longer told to wait, as one that waits for so long. */
static enum admission ask(uint64_t limit, uint64_t waited_us) {
    enum admission admission;
    while ((admission = eviction_admit(evictor, limit, waited_us)) == ADMIT_WAIT)
        ;
    return admission;
}
static bool make_room(uint64_t limit) {
    return ask(limit, 0) == ADMIT_YES;
}

/* The evictor's own memory for a database comes with its first eviction there. */
static void warm_up(unsigned databases) {
    for (unsigned i = 0; i < databases; i++)
        put_many(i, "warm", 1, FAR_AWAY);
    make_room(1);
}

static void policy(enum eviction_policy policy, unsigned samples) {
    evictor_configure(evictor, policy, samples, 100, 10, 1);
}

static uint64_t evicted_total(void) {
    return atomic_load(&keyspace_counters_mine(keyspace)->evicted);
}

/* Evicts until about so many keys are gone: the limit is lowered bit by bit. */
static void evict_keys(uint64_t n) {
    uint64_t target = evicted_total() + n;
    while (evicted_total() < target) {
        cr_assert(make_room((uint64_t)memory_live_bytes() - 1));
        epoch_quiescent();
    }
}

static unsigned left(unsigned database, const char *prefix, unsigned from, unsigned to) {
    char name[64];
    unsigned n = 0;
    for (unsigned i = from; i < to; i++) {
        snprintf(name, sizeof name, "%s%u", prefix, i);
        n += raw(database, name) != NULL;
    }
    return n;
}

static void set_access(const char *prefix, unsigned from, unsigned to, uint32_t access) {
    char name[64];
    for (unsigned i = from; i < to; i++) {
        snprintf(name, sizeof name, "%s%u", prefix, i);
        atomic_store(&raw(0, name)->access, access);
    }
}

Test(eviction, no_policy_evicts_nothing) {
    put_many(0, "k", 100, FAR_AWAY);
    cr_assert_not(make_room(1));
    cr_assert_eq(keyspace_count(keyspace, 0), 100);
    cr_assert_not(keyspace->access.tracked);
}

Test(eviction, which_policies_keep_clocks) {
    for (int p = EVICTION_VOLATILE_LRU; p <= EVICTION_NONE; p++) {
        policy((enum eviction_policy)p, 5);
        bool lfu = p == EVICTION_VOLATILE_LFU || p == EVICTION_ALLKEYS_LFU;
        bool lru = p == EVICTION_VOLATILE_LRU || p == EVICTION_ALLKEYS_LRU;
        cr_assert_eq(keyspace->access.tracked, lfu || lru);
        cr_assert_eq(keyspace->access.lfu, lfu);
    }
}

Test(eviction, enough_room_is_left_alone) {
    policy(EVICTION_ALLKEYS_LRU, 5);
    put_many(0, "k", 100, NEVER);
    cr_assert(make_room((uint64_t)memory_live_bytes()));
    cr_assert_eq(keyspace_count(keyspace, 0), 100);
}

Test(eviction, every_policy_keeps_the_limit_and_its_own_keys) {
    for (int p = EVICTION_VOLATILE_LRU; p < EVICTION_NONE; p++) {
        bool is_volatile = p <= EVICTION_VOLATILE_TTL;
        policy((enum eviction_policy)p, 5);
        put_many(0, "ever", 2000, NEVER);
        put_many(0, "ttl", 2000, FAR_AWAY);
        put_many(3, "ttl", 2000, FAR_AWAY);
        uint64_t limit = (uint64_t)memory_live_bytes() - 100000, before = evicted_total();
        cr_assert(make_room(limit));
        int64_t now = memory_live_bytes();
        cr_assert_leq(now, (int64_t)limit);
        cr_assert_gt(now, (int64_t)limit - 20000, "and not much more than needed (policy %d)", p);
        uint64_t gone = evicted_total() - before;
        cr_assert(gone > 500 && gone < 3000, "%zu", (size_t)gone);
        cr_assert_eq(gone, 6000 - keyspace_count(keyspace, 0) - keyspace_count(keyspace, 3));
        cr_assert(!is_volatile || left(0, "ever", 0, 2000) == 2000, "policy %d", p);
        cr_assert_lt(left(3, "ttl", 0, 2000), 2000, "all databases (policy %d)", p);
        check_keyspace();
        keyspace_garbage_free(keyspace_clear(&change, -1), false);
    }
}

Test(eviction, volatile_policies_fail_without_a_ttl) {
    put_many(0, "ever", 1000, NEVER);
    put_many(0, "ttl", 10, FAR_AWAY);
    for (int p = EVICTION_VOLATILE_LRU; p <= EVICTION_VOLATILE_TTL; p++) {
        policy((enum eviction_policy)p, 5);
        put_many(0, "ttl", 10, FAR_AWAY);
        uint64_t start_us = busy_us();
        cr_assert_not(make_room(1));
        cr_assert_lt(busy_us() - start_us, 500000);
        cr_assert_eq(keyspace_count(keyspace, 0), 1000, "policy %d", p);
    }
}

Test(eviction, everything_goes_if_it_must) {
    policy(EVICTION_ALLKEYS_LFU, 5);
    put_many(0, "a", 500, NEVER);
    put_many(1, "{b}", 500, NEVER);
    cr_assert_not(make_room(1));
    cr_assert_eq(keyspace_count(keyspace, 0) + keyspace_count(keyspace, 1), 0);
    check_keyspace();
}

Test(eviction, lru_takes_the_longest_idle) {
    policy(EVICTION_ALLKEYS_LRU, 10);
    put_many(0, "k", 3000, NEVER);
    set_access("k", 0, 1000, access_lru_now() - 1000);
    evict_keys(500);
    unsigned new_left = left(0, "k", 1000, 3000);
    cr_assert_gt(new_left, 1980, "%u of 2000", new_left);
}

Test(eviction, lru_is_as_good_when_one_slot_holds_most_keys) {
    policy(EVICTION_ALLKEYS_LRU, 10);
    put_many(0, "{tag}", 20000, NEVER);
    put_many(0, "small", 2000, NEVER); /* in slots of their own, just used */
    set_access("{tag}", 0, 20000, access_lru_now() - 1000);
    evict_keys(5000);
    unsigned small_left = left(0, "small", 0, 2000);
    cr_assert_gt(small_left, 1980, "%u of 2000", small_left);
}

Test(eviction, random_is_fair_when_one_slot_holds_most_keys) {
    policy(EVICTION_ALLKEYS_RANDOM, 5);
    put_many(0, "{tag}", 20000, NEVER);
    put_many(0, "small", 2000, NEVER);
    evict_keys(5500); /* a quarter */
    unsigned small_left = left(0, "small", 0, 2000);
    cr_assert(small_left > 1400 && small_left < 1600, "%u of 2000", small_left);
}

Test(eviction, what_is_used_after_it_was_sampled_stays) {
    policy(EVICTION_ALLKEYS_LRU, 10);
    warm_up(1);
    put_many(0, "k", 2000, NEVER);
    set_access("k", 0, 1000, access_lru_now() - 1000);
    evict_keys(1); /* the pool is full of idle keys now */
    unsigned before = left(0, "k", 0, 1000);
    char name[64];
    for (unsigned i = 0; i < 1000; i++) { /* all of those are used */
        snprintf(name, sizeof name, "k%u", i);
        if (raw(0, name))
            atomic_store(&raw(0, name)->access, access_lru_now());
        snprintf(name, sizeof name, "k%u", 1000 + i);
        atomic_store(&raw(0, name)->access, access_lru_now() - 500);
    }
    evict_keys(100);
    cr_assert_eq(left(0, "k", 0, 1000), before);
}

Test(eviction, lfu_takes_the_least_used) {
    policy(EVICTION_VOLATILE_LFU, 10);
    put_many(0, "k", 3000, FAR_AWAY);
    uint32_t minutes = (uint32_t)(clock_monotonic_us() / 60000000) & 0xffff;
    set_access("k", 0, 1000, minutes << 8 | 1);
    set_access("k", 1000, 3000, minutes << 8 | 100);
    evict_keys(500);
    unsigned used_left = left(0, "k", 1000, 3000);
    cr_assert_gt(used_left, 1980, "%u of 2000", used_left);
}

Test(eviction, ttl_takes_the_nearest_to_its_end) {
    policy(EVICTION_VOLATILE_TTL, 10);
    put_many(0, "soon", 1000, clock_now_ms() + 100000);
    put_many(0, "late", 2000, FAR_AWAY);
    put_many(0, "ever", 1000, NEVER);
    evict_keys(500);
    unsigned late_left = left(0, "late", 0, 2000);
    cr_assert_gt(late_left, 1980, "%u of 2000", late_left);
    cr_assert_eq(left(0, "ever", 0, 1000), 1000);
}

Test(eviction, the_one_key_with_a_ttl_in_a_giant_slot_is_found) {
    for (int p = EVICTION_VOLATILE_LRU; p <= EVICTION_VOLATILE_TTL; p++) {
        policy((enum eviction_policy)p, 3);
        warm_up(1);
        put_many(0, "{tag}", 150000, NEVER);
        put(0, "{tag}x", "v", FAR_AWAY);
        evict_keys(1);
        cr_assert_null(raw(0, "{tag}x"));
        cr_assert_eq(keyspace_count(keyspace, 0), 150000);
        cr_assert_not(make_room(1));
    }
}

Test(eviction, long_keys_and_large_values) {
    policy(EVICTION_ALLKEYS_RANDOM, 5);
    static char name[2000], value[40000];
    memset(name, 'k', sizeof name - 1);
    memset(value, 'v', sizeof value - 1);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 100; i++) {
            snprintf(name + 1000, 20, "%d", i);
            put(0, name, value, NEVER);
        }
        uint64_t limit = (uint64_t)memory_live_bytes() - 50 * 40000;
        cr_assert(make_room(limit));
        cr_assert_geq(keyspace_count(keyspace, 0), 45);
        cr_assert_leq(keyspace_count(keyspace, 0), 55);
        policy(EVICTION_ALLKEYS_LRU, 5); /* whose pool copies the keys */
    }
}

Test(eviction, one_slice_is_bounded_and_says_wait) {
    policy(EVICTION_ALLKEYS_LRU, 5);
    warm_up(1);
    put_many(0, "k", 50000, NEVER);
    cr_assert_eq(eviction_admit(evictor, 1, 0), ADMIT_WAIT);
    cr_assert_geq(evicted_total(), 1);
    cr_assert_gt(keyspace_count(keyspace, 0), 40000, "a slice is short");
}

Test(eviction, tenacity_is_how_long_a_write_waits) {
    static const struct {
        unsigned tenacity;
        uint64_t limit_us;
    } expected[] = {{0, 0}, {1, 50000}, {10, 500000}, {11, 575000}, {100, UINT64_MAX}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_assert_eq(eviction_wait_limit_us(expected[i].tenacity), expected[i].limit_us);
    cr_assert_gt(eviction_wait_limit_us(99), UINT64_C(10000000000));
    put_many(0, "k", 50000, NEVER);
    evictor_configure(evictor, EVICTION_ALLKEYS_LRU, 5, 0, 10, 1);
    cr_assert_eq(eviction_admit(evictor, 1, 0), ADMIT_NO, "not at all");
    evictor_configure(evictor, EVICTION_ALLKEYS_LRU, 5, 10, 10, 1);
    cr_assert_eq(eviction_admit(evictor, 1, 499999), ADMIT_WAIT);
    cr_assert_eq(eviction_admit(evictor, 1, 500000), ADMIT_NO);
    cr_assert_gt(keyspace_count(keyspace, 0), 0);
}

Test(eviction, it_goes_on_without_writes) {
    policy(EVICTION_ALLKEYS_RANDOM, 5);
    put_many(0, "k", 5000, NEVER);
    uint64_t limit = memory_live_bytes() - 100000, current_ms, total_ms;
    cr_assert(eviction_continue(evictor, limit, 0), "more to do");
    usleep(3000);
    eviction_exceeded_ms(evictor, &current_ms, &total_ms);
    cr_assert(current_ms >= 2 && total_ms >= current_ms);
    while (eviction_continue(evictor, limit, 50))
        ;
    cr_assert_leq(memory_live_bytes(), limit);
    eviction_exceeded_ms(evictor, &current_ms, &total_ms);
    cr_assert_eq(current_ms, 0);
    cr_assert_geq(total_ms, 2);
    evictor_reset_statistics(evictor);
    eviction_exceeded_ms(evictor, &current_ms, &total_ms);
    cr_assert_eq(total_ms, 0);
    uint64_t keys = keyspace_count(keyspace, 0);
    cr_assert_not(eviction_continue(evictor, limit, 50));
    cr_assert_not(eviction_continue(evictor, 0, 50), "no limit");
    policy(EVICTION_NONE, 5);
    cr_assert_not(eviction_continue(evictor, 1, 50), "nothing may go");
    cr_assert_eq(keyspace_count(keyspace, 0), keys);
}

Test(eviction, a_swapped_and_a_flushed_database) {
    policy(EVICTION_ALLKEYS_LRU, 10);
    warm_up(3);
    put_many(0, "a", 500, NEVER);
    put_many(1, "b", 10, NEVER);
    evict_keys(5);
    keyspace_swap(&change, 0, 1);
    evict_keys(100);
    check_keyspace();
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    put_many(2, "c", 10, NEVER);
    evict_keys(10);
    check_keyspace();
    cr_assert_eq(keyspace_count(keyspace, 2), 0);
}

Test(eviction, one_reader_alone) {
    epoch_set_single_reader(true);
    for (int p = EVICTION_VOLATILE_LRU; p < EVICTION_NONE; p++) {
        policy((enum eviction_policy)p, 5);
        put_many(0, "{tag}", 3000, FAR_AWAY);
        put_many(0, "key", 3000, FAR_AWAY);
        cr_assert_not(make_room(1));
        cr_assert_eq(keyspace_count(keyspace, 0), 0);
        check_keyspace();
    }
    epoch_set_single_reader(false);
}

/* Somebody else sits on the only slot for a while. */
static _Atomic bool holding;
static void *hold_slot(void *context) {
    struct slot *slot = context;
    cr_assert(slot_try_acquire(slot));
    atomic_store(&holding, true);
    usleep(50000);
    slot_release(slot);
    return NULL;
}

Test(eviction, a_held_slot_is_no_reason_to_refuse_a_write) {
    policy(EVICTION_ALLKEYS_LRU, 5);
    warm_up(1);
    put_many(0, "{tag}", 100, NEVER);
    pthread_t thread;
    pthread_create(&thread, NULL, hold_slot, &keyspace->slots[key_of("{tag}").slot]);
    while (!atomic_load(&holding))
        usleep(100);
    uint64_t limit = memory_live_bytes() - 1, start_us = clock_monotonic_us();
    cr_assert_eq(eviction_admit(evictor, limit, 0), ADMIT_WAIT);
    cr_assert_not(eviction_continue(evictor, limit + 1000000, 50));
    cr_assert_lt(clock_monotonic_us() - start_us, 40000, "nobody waits for the token");
    cr_assert(make_room(limit));
    pthread_join(thread, NULL);
}

static void free_slowly(void *argument) {
    usleep(50000);
    memory_free(argument);
}

Test(eviction, memory_that_is_being_freed_is_waited_for) {
    policy(EVICTION_ALLKEYS_LRU, 5);
    uint64_t limit = (uint64_t)memory_live_bytes() + 1000000;
    background_submit(free_slowly, memory_alloc(4000000));
    cr_assert(make_room(limit), "there is no key, but there will be room");
}

/* --- What is dead but not free yet --------------------------------------------------------------
 */

static _Atomic bool reading;

/* Holds up whatever is retired meanwhile. */
static void *read_for_long(void *context) {
    epoch_reader_enter();
    atomic_store(&reading, true);
    while (atomic_load(&reading))
        usleep(100);
    epoch_reader_leave();
    return context;
}

static pthread_t begin_reading(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, read_for_long, NULL);
    while (!atomic_load(&reading))
        usleep(100);
    return thread;
}

static void end_reading(pthread_t thread) {
    atomic_store(&reading, false);
    pthread_join(thread, NULL);
}

/* A quarter of the keys is deleted while somebody reads: what exceeds the limit is on its way. */
Test(eviction, retired_memory_is_waited_for_and_costs_no_further_key) {
    static char value[40000];
    char name[64];
    memset(value, 'v', sizeof value - 1);
    for (int p = EVICTION_ALLKEYS_LRU; p <= EVICTION_NONE; p++) {
        policy((enum eviction_policy)p, 5);
        put_many(0, "small", 100, NEVER);
        for (int i = 0; i < 200; i++) {
            snprintf(name, sizeof name, "large%d", i);
            put(0, name, value, NEVER);
        }
        uint64_t limit = memory_live_bytes() - 40 * 40000;
        memory_set_limit(limit, 1);
        pthread_t thread = begin_reading();
        uint64_t evicted = evicted_total();
        for (int i = 0; i < 50; i++) {
            snprintf(name, sizeof name, "large%d", i);
            remove_key(0, name);
        }
        cr_assert_leq(memory_live_bytes(), limit);
        cr_assert_gt(memory_counted_bytes(), limit, "only a bound of it does not count");
        for (int i = 0; i < 20; i++)
            cr_assert_eq(eviction_admit(evictor, limit, 0), ADMIT_WAIT, "policy %d", p);
        cr_assert_not(eviction_continue(evictor, limit, 50));
        end_reading(thread);
        cr_assert(make_room(limit));
        cr_assert_eq(evicted_total(), evicted);
        memory_set_limit(0, 1);
        keyspace_garbage_free(keyspace_clear(&change, -1), false);
    }
}

Test(eviction, without_a_limit_retired_memory_is_bounded) {
    static char value[40000];
    memset(value, 'v', sizeof value - 1);
    memory_set_limit(0, 1);
    pthread_t thread = begin_reading();
    unsigned written = 0;
    while (!eviction_is_needed(0) && written++ < 10000) {
        put(0, "k", value, NEVER);
        epoch_quiescent();
        epoch_reclaim_for(50);
    }
    cr_assert_leq(memory_retired_bytes(), MEMORY_RETIRED_MAX_BYTES + 50000);
    cr_assert_geq(memory_retired_bytes(), MEMORY_RETIRED_MAX_BYTES);
    cr_assert_eq(eviction_admit(evictor, 0, UINT64_MAX), ADMIT_WAIT, "for as long as it takes");
    end_reading(thread);
    cr_assert_eq(ask(0, 0), ADMIT_YES);
    cr_assert_lt(memory_retired_bytes(), MEMORY_RETIRED_MAX_BYTES);
}

/* What is lent to a client that does not read is not about to be freed: other keys go for it. */
Test(eviction, what_is_lent_counts_until_it_is_given_back) {
    static char value[1000000];
    memset(value, 'v', sizeof value - 1);
    policy(EVICTION_ALLKEYS_RANDOM, 5);
    warm_up(1);
    put(0, "lent", value, NEVER);
    put_many(0, "k", 5000, NEVER);
    struct blob *blob = blob_lend(object_pointer(raw(0, "lent")));
    uint64_t before = memory_live_bytes();
    remove_key(0, "lent");
    while (epoch_reclaim(SIZE_MAX) > 0)
        epoch_quiescent();
    background_drain();
    cr_assert_gt(memory_live_bytes() + 10000, before);
    cr_assert_eq(memory_live_bytes(), memory_counted_bytes());
    cr_assert(make_room(before - 50000));
    cr_assert_lt(keyspace_count(keyspace, 0), 5000);
    blob_return(blob);
    cr_assert_lt(memory_live_bytes(), before - 900000);
}

Test(eviction, what_waits_on_the_background_thread_costs_no_key) {
    static char value[1000000];
    memset(value, 'v', sizeof value - 1);
    policy(EVICTION_ALLKEYS_RANDOM, 5);
    put(0, "large", value, NEVER);
    put_many(0, "k", 1000, NEVER);
    uint64_t limit = memory_live_bytes() - 500000;
    memory_set_limit(limit, 1);
    background_submit(free_slowly, NULL); /* before it in the queue */
    remove_key(0, "large");
    while (epoch_reclaim(SIZE_MAX) > 0)
        epoch_quiescent();
    cr_assert_gt(memory_counted_bytes(), limit);
    cr_assert_leq(memory_live_bytes(), limit);
    cr_assert_eq(eviction_admit(evictor, limit, 0), ADMIT_WAIT);
    cr_assert(make_room(limit));
    cr_assert_eq(keyspace_count(keyspace, 0), 1000);
    memory_set_limit(0, 1);
}
