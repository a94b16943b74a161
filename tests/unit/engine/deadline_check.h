/* Deadlines against the keys of a database, while nobody changes it. */
#ifndef SLOTWISE_TESTS_DEADLINE_CHECK_H
#define SLOTWISE_TESTS_DEADLINE_CHECK_H

#include <criterion/criterion.h>

#include "engine/clock.h"
#include "engine/deadline.h"
#include "engine/keyspace.h"

struct deadline_check {
    const struct deadlines *deadlines;
    uint32_t slot;
    int64_t latest_ms; /* a place that was looked at may be left until then */
};

static inline void check_deadline(struct object *object, uint64_t hash, void *context) {
    const struct deadline_check *check = context;
    unsigned bits = deadline_group_bits(check->deadlines, check->slot);
    int64_t due_ms = deadline_of_group(check->deadlines, check->slot, bits,
                                       bits ? (uint32_t)(hash >> (64 - bits)) : 0);
    int64_t expiry_ms = object_expiry(object);
    int64_t latest_ms = expiry_ms > check->latest_ms ? expiry_ms : check->latest_ms;
    cr_assert_leq(due_ms, latest_ms);
    cr_assert_leq(deadline_of_slot(check->deadlines, check->slot), latest_ms);
    cr_assert_leq(deadline_of_block(check->deadlines, check->slot / DEADLINE_BLOCK_SLOTS),
                  latest_ms);
}

/* No key with a TTL is forgotten. */
static inline void check_deadlines(const struct keyspace *in, unsigned database) {
    const struct deadlines *deadlines = atomic_load(&in->deadlines[in->database_map[database]]);
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        const table_root *root = keyspace_root(in, database, slot);
        struct deadline_check check = {deadlines, slot, clock_now_ms() + 500};
        uint64_t next = 0;
        if (!root || table_volatile_count(root) == 0) {
            if (deadlines && deadline_of_slot(deadlines, slot) != DEADLINE_UNKNOWN)
                cr_assert_eq(deadline_of_slot(deadlines, slot), DEADLINE_NEVER);
            continue;
        }
        cr_assert_not_null(deadlines);
        do
            table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, true, check_deadline, &check, &next);
        while (next != 0);
    }
}

#endif
