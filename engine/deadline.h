/* Deadlines: when the keys with a TTL of each slot are worth a look, so that active expiry finds
 * the few that are due among millions that are not (deadline.c).
 *
 * Private to engine/. One struct deadlines for physical database 0, and for each other in which a
 * key ever had a TTL. Functions that change something are called under the slot's token. */
#ifndef SLOTWISE_ENGINE_DEADLINE_H
#define SLOTWISE_ENGINE_DEADLINE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/slot.h"

#define DEADLINE_NEVER      INT64_MAX
#define DEADLINE_GROUP_KEYS 256 /* a group of a slot's keys becomes at most about so large */

/* A slot's keys by their hash: group g of 1 << bits has those whose upper bits are g. */
struct deadline_groups {
    unsigned bits;
    _Atomic int64_t due_ms[]; /* as of a slot */
};

struct deadlines {
    /* No key of the slot expires before this. Lowered with each key that gets a TTL; raised only by
     * who has looked at all of them, so it may be earlier than need be. */
    _Atomic int64_t due_ms[SLOT_COUNT];
    struct deadline_groups *_Atomic groups[SLOT_COUNT]; /* NULL: few keys, one group */
};

struct deadlines *deadlines_make(void);
/* With nobody using them. */
void deadlines_destroy(struct deadlines *deadlines);

/* A key of the slot, which has so many keys in all, has got a TTL. */
void deadline_regroup(struct deadlines *deadlines, uint32_t slot, size_t keys);
static inline void deadline_note(struct deadlines *deadlines, uint32_t slot, uint64_t hash,
                                 int64_t expiry_ms, size_t keys) {
    struct deadline_groups *groups =
        atomic_load_explicit(&deadlines->groups[slot], memory_order_relaxed);
    if (__builtin_expect(keys > (size_t)DEADLINE_GROUP_KEYS << (groups ? groups->bits : 0), 0)) {
        deadline_regroup(deadlines, slot, keys);
        groups = atomic_load_explicit(&deadlines->groups[slot], memory_order_relaxed);
    }
    if (groups) {
        _Atomic int64_t *due_ms = &groups->due_ms[hash >> (64 - groups->bits)];
        if (expiry_ms < atomic_load_explicit(due_ms, memory_order_relaxed))
            atomic_store_explicit(due_ms, expiry_ms, memory_order_relaxed);
    }
    if (expiry_ms < atomic_load_explicit(&deadlines->due_ms[slot], memory_order_relaxed))
        atomic_store_explicit(&deadlines->due_ms[slot], expiry_ms, memory_order_relaxed);
}
/* The slot has no key with a TTL any more. */
void deadline_forget(struct deadlines *deadlines, uint32_t slot);

/* --- For active expiry. Reading: any registered reader ---------------------------------------- */

static inline int64_t deadline_of_slot(const struct deadlines *deadlines, uint32_t slot) {
    return atomic_load_explicit(&deadlines->due_ms[slot], memory_order_relaxed);
}
/* Of the slot there are 1 << bits groups; 0: one, whose deadline is the slot's. */
unsigned deadline_group_bits(const struct deadlines *deadlines, uint32_t slot);
/* group: below 1 << bits as it was read before; of what it has become if that has changed. */
int64_t deadline_of_group(const struct deadlines *deadlines, uint32_t slot, unsigned bits,
                          uint32_t group);
/* All keys of the group were looked at. Nothing happens if the slot was regrouped meanwhile. */
void deadline_set_group(struct deadlines *deadlines, uint32_t slot, unsigned bits, uint32_t group,
                        int64_t due_ms);
/* The slot's deadline becomes the earliest of its groups. */
void deadline_settle(struct deadlines *deadlines, uint32_t slot);

#endif
