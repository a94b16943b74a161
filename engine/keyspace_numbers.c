/* Numbers of keys at one moment, added up over the threads that count them (keyspace.c).
 *
 * Who adds them up wants the state of one moment. Each thread's counts are a sequence lock: their
 * version is odd while they change. A reader reads all versions, then all counts, then all versions
 * again; if each is even and the same, nothing was published between the end of the first round and
 * the beginning of the second. Counts are published under the tokens of what was changed, so a unit
 * of work takes effect for DBSIZE at a moment when nobody else can see it or its slots, and a later
 * command finds both done. Run by: any thread that counts keys. */
#include "engine/assert.h"
#include "engine/keyspace.h"

#define COUNT_TRIES 100 /* of a sum that others' changes come between */

/* One pass over all threads: the sum of their versions (they only grow, so equal sums are equal
 * versions), or false if one is odd. */
static bool versions_sum(const struct keyspace *keyspace, unsigned high, uint64_t *sum) {
    *sum = 0;
    for (unsigned i = 0; i < high; i++) {
        uint64_t version =
            atomic_load_explicit(&keyspace->counters[i].version, memory_order_acquire);
        if (version & 1)
            return false;
        *sum += version;
    }
    return true;
}

bool keyspace_count_at_once(const struct keyspace *keyspace, unsigned database, uint64_t *count) {
    unsigned physical = keyspace->database_map[database];
    ASSERT(!keyspace_counters_mine((struct keyspace *)(uintptr_t)keyspace)->held);
    /* What this thread has released happens before what it reads now. */
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < COUNT_TRIES; i++) {
        uint64_t before, after;
        unsigned high = atomic_load_explicit(&keyspace->counters_high, memory_order_acquire);
        if (!versions_sum(keyspace, high, &before))
            continue;
        *count = (uint64_t)keyspace_numbers(keyspace, physical).keys;
        atomic_thread_fence(memory_order_acquire);
        if (versions_sum(keyspace, high, &after) && before == after &&
            high == atomic_load_explicit(&keyspace->counters_high, memory_order_acquire))
            return true;
    }
    return false;
}

bool keyspace_has_field_times(const struct keyspace *keyspace) {
    for (unsigned i = 0; i < keyspace->databases; i++)
        if (keyspace_numbers(keyspace, i).field_timed > 0)
            return true;
    return false;
}

uint64_t keyspace_slot_count(const struct keyspace *keyspace, uint32_t slot) {
    const table_root *root = keyspace_root(keyspace, 0, slot);
    return root ? table_count(root) : 0;
}
