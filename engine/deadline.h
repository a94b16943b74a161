/* Deadlines: when the keys with a TTL of each slot are worth a look, so that active expiry finds
 * the few that are due among millions that are not (deadline.c).
 *
 * Private to engine/. One struct deadlines for each physical database in which a key ever had a
 * TTL: 4 KB, and what its keys make it worth having. Functions that change something are called
 * under the slot's token, except those of active expiry. */
#ifndef SLOTWISE_ENGINE_DEADLINE_H
#define SLOTWISE_ENGINE_DEADLINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/slot.h"

#define DEADLINE_NEVER       INT64_MAX
#define DEADLINE_UNKNOWN     INT64_MIN
#define DEADLINE_GROUP_KEYS  256 /* a group of a slot's keys becomes at most about so large */
#define DEADLINE_BLOCK_SLOTS 64  /* neighbouring slots: a word of struct slot_bitmaps */
#define DEADLINE_BLOCKS      (SLOT_COUNT / DEADLINE_BLOCK_SLOTS)
/* A block of which so many slots have keys with a TTL gets deadlines for each of them. */
#define DEADLINE_SLOTS_ALONE 32

/* A slot's keys by their hash: group g of 1 << bits has those whose upper bits are g. */
struct deadline_groups {
    unsigned bits;
    _Atomic int64_t due_ms[]; /* as of a slot */
};

struct deadline_slots {
    /* No key of the slot expires before this. Lowered with each key that gets a TTL; raised only by
     * who has looked at all of them, so it may be earlier than need be. DEADLINE_UNKNOWN: nobody
     * has looked since these deadlines were made. Written under the slot's token. */
    _Atomic int64_t due_ms[DEADLINE_BLOCK_SLOTS];
    struct deadline_groups *_Atomic groups[DEADLINE_BLOCK_SLOTS]; /* NULL: few keys, one group */
};

struct deadlines {
    /* No key of the block's slots expires before this. Lowered by whoever holds the token of one of
     * them; taken and put back by active expiry, one thread for each block. */
    _Atomic int64_t due_ms[DEADLINE_BLOCKS];
    struct deadline_slots *_Atomic slots[DEADLINE_BLOCKS]; /* NULL: few slots with a TTL */
};

struct deadlines *deadlines_make(void);
/* With nobody using them. */
void deadlines_destroy(struct deadlines *deadlines);

/* The slots of a block have too many keys with a TTL, or one of them has, for one deadline. */
struct deadline_slots *deadline_slots_make(struct deadlines *deadlines, uint32_t slot);
/* The slot has so many keys in all. */
void deadline_regroup(struct deadlines *deadlines, uint32_t slot, size_t keys);

static inline void deadline_lower(_Atomic int64_t *due_ms, int64_t expiry_ms) {
    if (expiry_ms < atomic_load_explicit(due_ms, memory_order_relaxed))
        atomic_store_explicit(due_ms, expiry_ms, memory_order_relaxed);
}
/* The same where several threads may do so. */
static inline void deadline_lower_block(struct deadlines *deadlines, uint32_t block,
                                        int64_t expiry_ms) {
    int64_t due_ms = atomic_load(&deadlines->due_ms[block]);
    while (expiry_ms < due_ms &&
           !atomic_compare_exchange_weak(&deadlines->due_ms[block], &due_ms, expiry_ms))
        ;
}

/* A key of the slot, which has so many keys in all, has got a TTL; the slot's bit of the bitmap
 * expiring is set. */
static inline void deadline_note(struct deadlines *deadlines, const _Atomic uint64_t *expiring,
                                 uint32_t slot, uint64_t hash, int64_t expiry_ms, size_t keys) {
    uint32_t block = slot / DEADLINE_BLOCK_SLOTS, i = slot % DEADLINE_BLOCK_SLOTS;
    struct deadline_slots *slots =
        atomic_load_explicit(&deadlines->slots[block], memory_order_acquire);
    if (!slots && __builtin_popcountll(atomic_load_explicit(
                      &expiring[block], memory_order_relaxed)) >= DEADLINE_SLOTS_ALONE)
        slots = deadline_slots_make(deadlines, slot);
    struct deadline_groups *groups =
        slots ? atomic_load_explicit(&slots->groups[i], memory_order_relaxed) : NULL;
    if (__builtin_expect(keys > (size_t)DEADLINE_GROUP_KEYS << (groups ? groups->bits : 0), 0)) {
        deadline_regroup(deadlines, slot, keys);
        slots = atomic_load_explicit(&deadlines->slots[block], memory_order_acquire);
        groups = atomic_load_explicit(&slots->groups[i], memory_order_relaxed);
    }
    if (groups)
        deadline_lower(&groups->due_ms[hash >> (64 - groups->bits)], expiry_ms);
    if (slots)
        deadline_lower(&slots->due_ms[i], expiry_ms);
    deadline_lower_block(deadlines, block, expiry_ms); /* last: deadline.c, ordering */
}
/* Keys with a TTL have come of which nobody has told: all of the slot's are worth a look at once.
 */
void deadline_hurry(struct deadlines *deadlines, uint32_t slot);
/* The slot has no key with a TTL any more. */
void deadline_forget(struct deadlines *deadlines, uint32_t slot);

/* --- For active expiry. Any registered reader; the setters under the slot's token ------------- */

static inline int64_t deadline_of_block(const struct deadlines *deadlines, uint32_t block) {
    return atomic_load_explicit(&deadlines->due_ms[block], memory_order_relaxed);
}
/* Before looking at the block's slots, whose bits are loaded after it: what comes now lowers the
 * block's deadline by itself. Afterwards the block gets the earliest deadline of its slots by
 * deadline_lower_block; DEADLINE_UNKNOWN counts as due for each that was not looked at. */
static inline void deadline_take_block(struct deadlines *deadlines, uint32_t block) {
    atomic_store(&deadlines->due_ms[block], DEADLINE_NEVER);
}
/* DEADLINE_UNKNOWN: it has none of its own, or nobody has looked yet. */
int64_t deadline_of_slot(const struct deadlines *deadlines, uint32_t slot);
/* Of the slot there are 1 << bits groups; 0: one, whose deadline is the slot's. */
unsigned deadline_group_bits(const struct deadlines *deadlines, uint32_t slot);
/* group: below 1 << bits as it was read before; of what it has become if that has changed. */
int64_t deadline_of_group(const struct deadlines *deadlines, uint32_t slot, unsigned bits,
                          uint32_t group);
/* All keys of the group were looked at. Nothing happens if the slot was regrouped meanwhile, or has
 * no deadline of its own. */
void deadline_set_group(struct deadlines *deadlines, uint32_t slot, unsigned bits, uint32_t group,
                        int64_t due_ms);
/* The slot's deadline becomes the earliest of its groups. */
void deadline_settle(struct deadlines *deadlines, uint32_t slot);

#endif
