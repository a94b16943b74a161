/* See rebuild.h. Run by workers, between commands.
 *
 * A slot's bit is set by the write that starts a rebuild, under the token. It is cleared here, also
 * under the token, when none of the slot's tables is in a rebuild any more: writes may have
 * finished it, or the table may be gone. */
#include "engine/rebuild.h"

#include "engine/clock.h"

#define STEPS_PER_LOOK 4 /* at the clock */

/* Under the token. true: the table is done. */
static bool finish_table(table_root *root, uint64_t end_us) {
    bool more = table_is_rebuilding(root);
    while (more) {
        for (unsigned i = 0; more && i < STEPS_PER_LOOK; i++)
            more = table_rebuild_some(root);
        if (more && clock_monotonic_us() >= end_us)
            return false;
    }
    return true;
}

static bool finish_slot(struct keyspace *keyspace, uint32_t slot, uint64_t end_us) {
    for (unsigned i = 0; i < keyspace->databases; i++) {
        table_root *root = keyspace_root(keyspace, i, slot);
        if (root && !finish_table(root, end_us))
            return false;
    }
    atomic_fetch_and(&keyspace->rebuilding[slot / 64], ~((uint64_t)1 << (slot & 63)));
    return true;
}

bool rebuild_continue(struct keyspace *keyspace, unsigned worker, unsigned workers,
                      uint64_t budget_us) {
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++) {
        uint64_t bits = atomic_load_explicit(&keyspace->rebuilding[word], memory_order_relaxed);
        for (; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (slot % workers != worker || !slot_try_acquire(&keyspace->slots[slot]))
                continue;
            finish_slot(keyspace, slot, clock_monotonic_us() + budget_us);
            slot_release(&keyspace->slots[slot]);
            return true; /* perhaps */
        }
    }
    return false;
}
