/* SCAN's guarantee over growth, shrinking and giant slots; RANDOMKEY's fairness. */
#include <math.h>
#include <stdlib.h>

#include "engine/random_slot.h"
#include "tests/unit/engine/keyspace_fixture.h"

#define IDS_MAX 100000
static unsigned seen[IDS_MAX];
static size_t visited;

/* Keys end in their number. */
static unsigned id_of(const struct object *object) {
    size_t length;
    const char *key = object_key(object, &length);
    unsigned id = 0;
    size_t i = length;
    while (i > 0 && key[i - 1] >= '0' && key[i - 1] <= '9')
        i--;
    for (; i < length; i++)
        id = id * 10 + (unsigned)(key[i] - '0');
    return id;
}

static struct scan_list list;

/* Notes what the list has. */
static void note_list(void) {
    visited += list.count;
    for (size_t i = 0; i < list.count; i++)
        seen[id_of(list.objects[i])]++;
}

static uint64_t scan(uint64_t cursor, size_t count) {
    cr_assert(keyspace_scan(keyspace, 0, &cursor, count, false, &list));
    note_list();
    return cursor;
}

static void scan_end(void) {
    scan_list_free(&list);
    keyspace_end();
}

TestSuite(scan, .init = keyspace_begin, .fini = scan_end, .timeout = 120);

static size_t scan_all(size_t count) {
    size_t calls = 0;
    uint64_t cursor = 0;
    memset(seen, 0, sizeof seen);
    do {
        cursor = scan(cursor, count);
        cr_assert_lt(cursor, (uint64_t)1 << 53, "some clients parse doubles");
        calls++;
    } while (cursor != 0);
    return calls;
}

static void check_each_once(unsigned from, unsigned to) {
    for (unsigned i = from; i < to; i++)
        cr_assert_eq(seen[i], 1, "key %u seen %u times", i, seen[i]);
}

Test(scan, an_empty_database_ends_at_once) {
    cr_assert_eq(scan(0, 10), 0);
    put(0, "k0", "v", NEVER);
    remove_key(0, "k0");
    cr_assert_eq(scan(0, 10), 0);
    cr_assert_eq(scan(((uint64_t)1 << 53) - 1, 10), 0);
    uint64_t cursor = 12345;
    cr_assert(keyspace_scan(keyspace, 9, &cursor, 10, false, &list));
    cr_assert_eq(cursor, 0);
    cr_assert_eq(visited, 0);
}

Test(scan, each_key_once_whatever_the_count) {
    put_many(0, "key:", 3000, NEVER);
    static const size_t counts[] = {1, 10, 1000, 1000000};
    for (int i = 0; i < 4; i++) {
        scan_all(counts[i]);
        check_each_once(0, 3000);
    }
}

Test(scan, one_slot_of_many_keys) {
    put_many(0, "{tag}", 30000, NEVER);
    size_t calls = scan_all(100);
    check_each_once(0, 30000);
    cr_assert(calls >= 250 && calls <= 310, "%zu calls", calls);
}

Test(scan, a_call_returns_about_as_many_as_asked_for) {
    put_many(0, "key:", 5000, NEVER);
    put_many(0, "{tag}", 5000, NEVER);
    uint64_t cursor = 0;
    do {
        visited = 0;
        cursor = scan(cursor, 10);
        cr_assert_leq(visited, 40, "%zu", visited);
    } while (cursor != 0);
}

Test(scan, keys_that_stay_are_seen_once_while_tables_grow_and_shrink) {
    char name[64];
    for (unsigned i = 0; i < 2000; i++) {
        sprintf(name, i % 2 ? "{tag}%u" : "key:%u", i);
        put(0, name, "v", NEVER);
    }
    for (int round = 0; round < 4; round++) {
        uint64_t cursor = 0;
        unsigned others = 0;
        memset(seen, 0, sizeof seen);
        do {
            cursor = scan(cursor, 50);
            /* Far more come and go than stay. */
            for (int i = 0; i < 500 && others < 40000; i++, others++) {
                sprintf(name, round % 2 ? "{tag}o%u" : "o%u", 50000 + others % 20000);
                if (others < 20000)
                    put(0, name, "v", NEVER);
                else
                    remove_key(0, name);
            }
            epoch_quiescent();
        } while (cursor != 0);
        check_each_once(0, 2000);
        while (others < 40000) {
            sprintf(name, round % 2 ? "{tag}o%u" : "o%u", 50000 + others % 20000);
            if (others++ >= 20000)
                remove_key(0, name);
        }
    }
    check_keyspace();
}

Test(scan, a_bound_belongs_to_its_slot_alone) {
    uint64_t slot = key_of("k5").slot;
    cr_assert_gt(slot, 0);
    put(0, "k5", "v", NEVER);
    /* Far into a slot that is empty by now. */
    cr_assert_eq(scan((slot - 1) << 39 | (((uint64_t)1 << 39) - 1), 10), 0);
    cr_assert_eq(seen[5], 1);
}

Test(scan, a_nearly_empty_large_table_does_not_hold_a_call_up) {
    put_many(0, "{tag}", 60000, NEVER);
    char name[64];
    for (unsigned i = 1; i < 60000; i++) {
        sprintf(name, "{tag}%u", i);
        remove_key(0, name);
        if (i % 64 == 0)
            epoch_quiescent();
    }
    scan_all(10);
    check_each_once(0, 1);
}

Test(scan, a_busy_slot_ends_a_call_before_it) {
    put_many(0, "key:", 1000, NEVER);
    uint64_t cursor = 0;
    /* The slot of the 800th key or so in the order of slots. */
    cr_assert(keyspace_scan(keyspace, 0, &cursor, 800, false, &list));
    struct slot *slot = &keyspace->slots[cursor >> 39];
    while (!slot_try_acquire(slot) || keyspace_slot_count(keyspace, cursor >> 39) == 0) {
        slot_release(slot++);
        cursor += (uint64_t)1 << 39;
    }
    uint64_t held = cursor >> 39;
    cursor = 0;
    cr_assert(keyspace_scan(keyspace, 0, &cursor, 1000, false, &list));
    cr_assert_eq(cursor >> 39, held, "what comes before it is most of what was asked for");
    note_list();
    cr_assert_eq(visited, list.count);
    cr_assert_geq(visited, 800);
    cr_assert_lt(visited, 1000);
    uint64_t at = cursor;
    cr_assert_not(keyspace_scan(keyspace, 0, &cursor, 10, false, &list), "nothing comes before it");
    cr_assert_eq(cursor, at);
    /* An exclusive reader does not look at tokens. */
    cr_assert(keyspace_scan(keyspace, 0, &cursor, 1000, true, &list));
    cr_assert_eq(cursor, 0);
    note_list();
    check_each_once(0, 1000);
    slot_release(slot);
}

Test(scan, an_exclusive_call_is_short) {
    put_many(0, "key:", 50000, NEVER);
    uint64_t cursor = 0;
    cr_assert(keyspace_scan(keyspace, 0, &cursor, SIZE_MAX, true, &list));
    cr_assert_neq(cursor, 0);
    cr_assert_lt(list.count, 20000);
}

/* --- RANDOMKEY -------------------------------------------------------------------------------- */

static bool random_key(void) {
    const struct object *object;
    cr_assert(keyspace_random(keyspace, &change.view, 0, false, &object));
    if (object) {
        visited++;
        seen[id_of(object)]++;
    }
    return object != NULL;
}

Test(scan, no_random_key_of_nothing) {
    cr_assert_not(random_key());
    put(0, "k0", "v", NEVER);
    cr_assert(random_key());
    remove_key(0, "k0");
    cr_assert_not(random_key());
    put(0, "k1", "v", LONG_AGO);
    cr_assert_not(random_key(), "expired");
}

/* Chi square of draws over n equal chances, as standard deviations from its mean. */
static double deviation(unsigned n, unsigned draws) {
    double expected = (double)draws / n, sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += (seen[i] - expected) * (seen[i] - expected) / expected;
    return (sum - (n - 1)) / sqrt(2.0 * (n - 1));
}

Test(scan, whether_there_is_a_random_key_is_not_known_beside_a_busy_slot) {
    const struct object *object;
    put(0, "k1", "v", NEVER);
    struct key key = key_of("k1");
    struct slot *slot = token_of(&key);
    cr_assert_not(keyspace_random(keyspace, &change.view, 0, false, &object));
    cr_assert(keyspace_random(keyspace, &change.view, 0, true, &object));
    cr_assert_eq(id_of(object), 1);
    slot_release(slot);
}

Test(scan, random_keys_are_fair_over_uneven_slots) {
    enum { KEYS = 4000, DRAWS = 200000 };
    char name[64];
    /* A quarter each: one slot, ten slots, slots of their own in one group and anywhere. */
    for (unsigned i = 0; i < KEYS; i++) {
        if (i < KEYS / 4)
            sprintf(name, "{tag}%u", i);
        else if (i < KEYS / 2)
            sprintf(name, "{tag%u}%u", i % 10, i);
        else
            sprintf(name, "key:%u", i);
        put(0, name, "v", NEVER);
    }
    for (unsigned i = 0; i < DRAWS; i++)
        cr_assert(random_key());
    double d = deviation(KEYS, DRAWS);
    cr_assert(d > -5 && d < 5, "%.1f standard deviations", d);
    for (unsigned i = 0; i < KEYS; i++)
        cr_assert_gt(seen[i], 0, "key %u is never drawn", i);
}

Test(scan, random_keys_follow_what_has_changed) {
    put_many(0, "old", 3000, NEVER);
    cr_assert(random_key());
    char name[64];
    for (unsigned i = 0; i < 3000; i++) {
        sprintf(name, "old%u", i);
        remove_key(0, name);
    }
    put_many(0, "{x}", 3000, NEVER); /* as many, elsewhere */
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < 30000; i++)
        cr_assert(random_key());
    double d = deviation(3000, 30000);
    cr_assert(d > -5 && d < 5, "%.1f standard deviations", d);
}

Test(scan, the_one_live_key_among_many_expired_is_found) {
    put_many(0, "gone", 5000, LONG_AGO);
    put(0, "live77777", "v", NEVER);
    for (int i = 0; i < 20; i++)
        cr_assert(random_key());
    cr_assert_eq(seen[77777], 20);
    cr_assert_eq(visited, 20);
}

Test(scan, a_slot_is_drawn_by_its_keys_with_a_ttl) {
    put_many(0, "{a}", 900, FAR_AWAY);
    put_many(0, "{b}", 100, FAR_AWAY);
    put_many(0, "{c}", 5000, NEVER);
    static struct slot_choice choice;
    uint64_t state = 42;
    unsigned a = 0, b = 0;
    slot_choice_refresh(&choice, keyspace, 0, true, 8);
    cr_assert_eq(choice.total, 1000);
    for (int i = 0; i < 10000; i++) {
        uint32_t slot = slot_choice_pick(&choice, &state);
        a += slot == key_of("{a}").slot;
        b += slot == key_of("{b}").slot;
    }
    cr_assert_eq(a + b, 10000);
    cr_assert(a > 8800 && a < 9200, "%u", a);
}
