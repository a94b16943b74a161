/* See keyspace_counts.h, and keyspace.c for how counts are published. */
#include "engine/keyspace_counts.h"

#include <limits.h>

#include "engine/assert.h"

static int64_t relaxed(const _Atomic int64_t *value) {
    return atomic_load_explicit(value, memory_order_relaxed);
}

void keyspace_counts_take(struct keyspace *keyspace, unsigned database, struct key_numbers *delta) {
    struct keyspace_counters *counters = keyspace_counters_mine(keyspace);
    unsigned physical = keyspace->database_map[database];
    ASSERT(counters->held);
    counters->held = false;
    *delta = (struct key_numbers){0};
    if (counters->unpublished_end == 0)
        return;
    ASSERT(counters->unpublished_first == physical && counters->unpublished_end == physical + 1);
    const struct key_counts *published =
        &atomic_load_explicit(&counters->published, memory_order_relaxed)[physical];
    struct key_counts *counted = &counters->counted[physical];
    delta->keys = relaxed(&counted->keys) - relaxed(&published->keys);
    delta->expiring = relaxed(&counted->expiring) - relaxed(&published->expiring);
    delta->field_timed = relaxed(&counted->field_timed) - relaxed(&published->field_timed);
    COUNTER_ADD(counted->keys, -delta->keys);
    COUNTER_ADD(counted->expiring, -delta->expiring);
    COUNTER_ADD(counted->field_timed, -delta->field_timed);
    counters->unpublished_first = UINT_MAX;
    counters->unpublished_end = 0;
}

void keyspace_counts_give(struct keyspace *keyspace, unsigned database,
                          const struct key_numbers *delta) {
    ASSERT(keyspace_counters_mine(keyspace)->held);
    if (delta->keys || delta->expiring || delta->field_timed)
        keyspace_counts_add(keyspace, keyspace->database_map[database], *delta);
}
