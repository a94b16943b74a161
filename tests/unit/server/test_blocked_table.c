/* Who waits for which key of a slot: order of arrival, ready keys, targets, and that nothing is
 * left when nobody waits any more. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/epoch.h"
#include "engine/memory.h"
#include "server/dispatch/blocked_table.h"

#define RECORDS 40
#define KEYS    12 /* that a record may wait for */

static struct slot slots[4];
static struct change change, other_change;
static uint64_t used_before;

/* Never looked into: only who it is matters. */
static struct blocked *record_of(unsigned number) {
    static char records[RECORDS];
    return (struct blocked *)(void *)&records[number];
}

static void begin(void) {
    epoch_start(0, NULL, NULL);
    epoch_reader_enter();
    used_before = memory_used_bytes();
    memset(slots, 0, sizeof slots);
    change = other_change = (struct change){0};
}

static void end(void) {
    cr_assert_eq(blocked_keys(), 0);
    for (unsigned i = 0; i < 4; i++) {
        cr_assert_null(slots[i].blocked);
        cr_assert_eq(atomic_load(&slots[i].word) & SLOT_BLOCKED, 0);
    }
    epoch_reader_leave();
    epoch_stop();
    cr_assert_leq(memory_used_bytes(), used_before);
}

TestSuite(blocked_table, .init = begin, .fini = end, .timeout = 60);

/* The slot of a name here is its first character. */
static struct key key_of(const char *name) {
    size_t length = strlen(name);
    uint64_t hash = 0;
    for (size_t i = 0; i < length; i++)
        hash = hash * 31 + (unsigned char)name[i];
    return (struct key){name, length, hash, (uint32_t)(name[0] - '0')};
}

static struct slot *slot_of(const struct blocked_node *node) {
    return &slots[node->key.slot];
}

static struct blocked_node node_of(unsigned record, const char *name) {
    return (struct blocked_node){.record = record_of(record), .key = key_of(name)};
}

static bool link_node(struct blocked_node *node, unsigned database, int target) {
    return blocked_node_link(slot_of(node), node, database, target);
}

static void unlink_node(struct blocked_node *node, int target) {
    blocked_node_unlink(slot_of(node), node, target);
    blocked_key_free_if_unused(slot_of(node), node->of);
}

static struct blocked_key *find(const char *name, unsigned database) {
    struct key key = key_of(name);
    return blocked_key_find(&slots[key.slot], database, &key);
}

Test(blocked_table, a_key_has_its_nodes_in_the_order_of_arrival) {
    struct blocked_node nodes[5];
    for (unsigned i = 0; i < 5; i++) {
        nodes[i] = node_of(i, "1key");
        cr_assert(link_node(&nodes[i], 0, -1));
        cr_assert_eq(blocked_keys(), 1);
    }
    cr_assert_neq(atomic_load(&slots[1].word) & SLOT_BLOCKED, 0);
    cr_assert_null(find("1key", 1), "another database");
    cr_assert_null(find("1other", 0));
    static const unsigned gone[] = {2, 0, 4};
    for (unsigned i = 0; i < 3; i++) {
        cr_assert(blocked_node_is_linked(&nodes[gone[i]]));
        unlink_node(&nodes[gone[i]], -1);
        cr_assert_not(blocked_node_is_linked(&nodes[gone[i]]));
    }
    const struct blocked_key *key = find("1key", 0);
    cr_assert_eq(key->first, &nodes[1]);
    cr_assert_eq(key->first->next, &nodes[3]);
    cr_assert_eq(key->last, &nodes[3]);
    cr_assert_null(nodes[3].next);
    cr_assert_eq(nodes[3].previous, &nodes[1]);
    unlink_node(&nodes[3], -1);
    unlink_node(&nodes[1], -1);
    cr_assert_null(slots[1].blocked);
}

Test(blocked_table, who_names_a_key_twice_waits_once) {
    struct blocked_node first = node_of(0, "1key"), second = node_of(0, "1key");
    cr_assert(link_node(&first, 0, 7));
    cr_assert_not(link_node(&second, 0, 7));
    cr_assert_not(blocked_node_is_linked(&second));
    cr_assert_not(blocked_node_is_ready(&second, &change));
    unlink_node(&first, 7);
}

Test(blocked_table, ready_keys_come_in_their_order_and_once) {
    static const char *const names[] = {"1a", "1b", "2c"};
    struct blocked_node nodes[3];
    for (unsigned i = 0; i < 3; i++) {
        nodes[i] = node_of(i, names[i]);
        link_node(&nodes[i], 0, -1);
    }
    static const unsigned order[] = {2, 0, 2, 1, 0};
    for (unsigned i = 0; i < 5; i++)
        blocked_key_make_ready(&change, nodes[order[i]].of);
    cr_assert(blocked_node_is_ready(&nodes[1], &change));
    cr_assert_not(blocked_node_is_ready(&nodes[1], &other_change));
    cr_assert_eq(blocked_key_take_ready(&change), nodes[2].of);
    cr_assert_not(blocked_node_is_ready(&nodes[2], &change));
    blocked_key_make_ready(&change, nodes[2].of);
    /* Nobody waits for it any more, but it is in the list. */
    struct blocked_key *kept = nodes[0].of;
    unlink_node(&nodes[0], -1);
    cr_assert_eq(find("1a", 0), kept);
    cr_assert_not(blocked_node_is_ready(&nodes[0], &change), "it is not linked");
    cr_assert_eq(blocked_key_take_ready(&change), kept);
    blocked_key_free_if_unused(&slots[1], kept);
    cr_assert_null(find("1a", 0));
    cr_assert_eq(blocked_key_take_ready(&change), nodes[1].of);
    cr_assert_eq(blocked_key_take_ready(&change), nodes[2].of, "made ready again meanwhile");
    cr_assert_null(blocked_key_take_ready(&change));
    unlink_node(&nodes[1], -1);
    unlink_node(&nodes[2], -1);
}

static size_t targets_of(unsigned slot, uint16_t targets[4]) {
    size_t n = blocked_table_targets(&slots[slot], NULL);
    cr_assert_leq(n, 4);
    cr_assert_eq(blocked_table_targets(&slots[slot], targets), n);
    return n;
}

Test(blocked_table, a_target_is_there_once_and_as_long_as_a_node_has_it) {
    struct blocked_node nodes[4];
    static const int target[4] = {500, -1, 500, 501};
    uint16_t found[4];
    for (unsigned i = 0; i < 4; i++) {
        nodes[i] = node_of(i, i % 2 ? "1a" : "1b");
        link_node(&nodes[i], 0, target[i]);
    }
    cr_assert_eq(targets_of(1, found), 2);
    cr_assert_eq(found[0] + found[1], 1001);
    unlink_node(&nodes[0], target[0]);
    cr_assert_eq(targets_of(1, found), 2);
    unlink_node(&nodes[2], target[2]);
    cr_assert_eq(targets_of(1, found), 1);
    cr_assert_eq(found[0], 501);
    unlink_node(&nodes[3], target[3]);
    cr_assert_eq(targets_of(1, found), 0);
    unlink_node(&nodes[1], target[1]);
    cr_assert_eq(targets_of(1, found), 0, "there is no table");
}

static void count(void *context, struct blocked_key *key) {
    cr_assert_not_null(key->first);
    ++*(unsigned *)context;
}

/* Against a plain model: which record waits for which name. */
Test(blocked_table, random_comings_and_goings) {
    static struct blocked_node nodes[RECORDS][KEYS];
    static char names[KEYS][8];
    unsigned long random = 42;
    for (unsigned i = 0; i < KEYS; i++) {
        names[i][0] = (char)('0' + i % 3);
        names[i][1] = (char)('a' + i);
    }
    for (unsigned step = 0; step < 20000; step++) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        unsigned record = (unsigned)(random >> 33) % RECORDS,
                 name = (unsigned)(random >> 50) % KEYS;
        struct blocked_node *node = &nodes[record][name];
        if (blocked_node_is_linked(node)) {
            unlink_node(node, (int)record);
        } else {
            *node = node_of(record, names[name]);
            cr_assert(link_node(node, name % 2, (int)record));
        }
        if (step % 64 == 0)
            epoch_quiescent();
    }
    unsigned expected = 0, found = 0;
    for (unsigned name = 0; name < KEYS; name++) {
        const struct blocked_key *key = find(names[name], name % 2);
        unsigned linked = 0, seen = 0;
        for (unsigned record = 0; record < RECORDS; record++)
            linked += blocked_node_is_linked(&nodes[record][name]);
        for (const struct blocked_node *node = key ? key->first : NULL; node; node = node->next)
            seen++;
        cr_assert_eq(seen, linked);
        expected += linked > 0;
    }
    for (unsigned slot = 0; slot < 3; slot++)
        blocked_keys_visit(&slots[slot], count, &found);
    cr_assert_eq(found, expected);
    cr_assert_eq(blocked_keys(), expected);
    for (unsigned record = 0; record < RECORDS; record++)
        for (unsigned name = 0; name < KEYS; name++)
            if (blocked_node_is_linked(&nodes[record][name]))
                unlink_node(&nodes[record][name], (int)record);
}
