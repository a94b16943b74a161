/* Rebuilds of large tables that the background duties finish. */
#include "engine/rebuild.h"
#include "tests/unit/engine/keyspace_fixture.h"

TestSuite(rebuild, .init = keyspace_begin, .fini = keyspace_end, .timeout = 30);

static bool is_marked(uint32_t slot) {
    return atomic_load(&keyspace->rebuilding[slot / 64]) >> (slot & 63) & 1;
}

/* Keys with this tag until a rebuild is under way; returns their slot. */
static uint32_t put_until_rebuild(unsigned database, const char *tag) {
    char name[64];
    uint32_t slot = key_of(tag).slot;
    for (unsigned i = 0;; i++) {
        snprintf(name, sizeof name, "%s%u", tag, i);
        put(database, name, "v", NEVER);
        if (table_is_rebuilding(keyspace_root(keyspace, database, slot)))
            return slot;
    }
}

Test(rebuild, goes_on_without_writes_in_every_database) {
    cr_assert_not(rebuild_continue(keyspace, 0, 1, 0));
    uint32_t a = put_until_rebuild(0, "{a}"), b = put_until_rebuild(3, "{b}");
    cr_assert(is_marked(a) && is_marked(b));
    unsigned calls = 0;
    while (rebuild_continue(keyspace, 0, 1, 0)) /* the least that a call does */
        calls++;
    cr_assert_gt(calls, 10, "in small steps");
    cr_assert_not(is_marked(a) || is_marked(b));
    cr_assert_not(table_is_rebuilding(keyspace_root(keyspace, 0, a)));
    cr_assert_not(table_is_rebuilding(keyspace_root(keyspace, 3, b)));
    check_keyspace();
}

Test(rebuild, home_slots_only_and_no_waiting) {
    uint32_t slot = put_until_rebuild(0, "{a}");
    cr_assert_not(rebuild_continue(keyspace, (slot + 1) % 4, 4, 1000000), "of another worker");
    cr_assert(slot_try_acquire(&keyspace->slots[slot]));
    cr_assert_not(rebuild_continue(keyspace, slot % 4, 4, 1000000), "somebody has the token");
    slot_release(&keyspace->slots[slot]);
    while (rebuild_continue(keyspace, slot % 4, 4, 1000000))
        ;
    cr_assert_not(is_marked(slot));
    cr_assert_not(table_is_rebuilding(keyspace_root(keyspace, 0, slot)));
}

Test(rebuild, of_a_table_that_is_gone) {
    uint32_t slot = put_until_rebuild(0, "{a}");
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    while (rebuild_continue(keyspace, 0, 1, 0))
        ;
    cr_assert_not(is_marked(slot));
}
