/* Deadlines: see deadline.h.
 *
 * Algorithm. Three levels of lower bounds of when a key expires. One for each block of neighbouring
 * slots is always there. While few slots of a block have keys with a TTL and none of them has many
 * keys, that is all: who looks for a key that is due looks at each of these slots. Then the block
 * gets bounds for each of its slots, which begin as unknown. A slot of more than
 * DEADLINE_GROUP_KEYS keys has also one for each group of its keys, by ranges of their hash, so
 * that a giant slot is not looked at as a whole; when it outgrows its groups it gets four to eight
 * times as many, each of which begins with the deadline of the group that it was part of. Bounds
 * are of ranges of hashes, so a rebuild of the table changes nothing. So a database takes 4 KB with
 * its first TTL, 1 KB more for each block in which there are dozens of keys, and 32 to 64 times
 * less than its keys for groups. What a block has got it keeps until the database is cleared.
 *
 * Ordering. Bounds of slots and groups are written under the slot's token and read by anybody at
 * any time: a value that is out of date is found a step later. Bounds of slots and groups are
 * published with release; who comes into a slot after an unknown bound was set has its token after
 * who set it, and so sees where the bound is.
 * A block's bound is shared by the holders of all its tokens, and whoever looks at the block may
 * not lose what they note. It first raises the bound to "never", then reads the bitmap, then the
 * words of the slots that have a bit, passing over a slot that is held (the block stays due), and
 * at last lowers the bound to the earliest of what it has found. A writer takes the token, sets the
 * bit, lowers the slot's bound, then the block's; all of these but the slot's bound are seq_cst. If
 * the writer found the block's bound low enough already, and so left it, before it was raised, then
 * its bit is seen, and its slot is seen held or as the writer has left it.
 *
 * Progress. A key that gets a TTL costs three comparisons; to regroup costs a store for each group.
 * The line of the block's bound is written only by a key that expires earlier than all others.
 *
 * Reclamation. Groups that were replaced are retired (epoch.h). */
#include "engine/deadline.h"

#include "engine/assert.h"
#include "engine/epoch.h"
#include "engine/memory.h"

#define GROUP_BITS_MAX 32

struct deadlines *deadlines_make(void) {
    struct deadlines *deadlines = memory_calloc(1, sizeof *deadlines);
    for (uint32_t block = 0; block < DEADLINE_BLOCKS; block++)
        atomic_init(&deadlines->due_ms[block], DEADLINE_NEVER);
    return deadlines;
}

void deadlines_destroy(struct deadlines *deadlines) {
    if (!deadlines)
        return;
    for (uint32_t block = 0; block < DEADLINE_BLOCKS; block++) {
        struct deadline_slots *slots = atomic_load(&deadlines->slots[block]);
        for (uint32_t i = 0; slots && i < DEADLINE_BLOCK_SLOTS; i++)
            memory_free(atomic_load_explicit(&slots->groups[i], memory_order_relaxed));
        memory_free(slots);
    }
    memory_free(deadlines);
}

static struct deadline_slots *slots_of(const struct deadlines *deadlines, uint32_t slot) {
    return atomic_load_explicit(&deadlines->slots[slot / DEADLINE_BLOCK_SLOTS],
                                memory_order_acquire);
}

struct deadline_slots *deadline_slots_make(struct deadlines *deadlines, uint32_t slot) {
    struct deadline_slots *slots = slots_of(deadlines, slot);
    if (slots)
        return slots;
    struct deadline_slots *made = memory_calloc(1, sizeof *made);
    for (uint32_t i = 0; i < DEADLINE_BLOCK_SLOTS; i++)
        atomic_init(&made->due_ms[i], DEADLINE_UNKNOWN);
    if (atomic_compare_exchange_strong(&deadlines->slots[slot / DEADLINE_BLOCK_SLOTS], &slots,
                                       made))
        return made;
    memory_free(made); /* another slot's holder was first */
    return slots;
}

/* --- Groups ----------------------------------------------------------------------------------- */

static struct deadline_groups *groups_of(const struct deadlines *deadlines, uint32_t slot) {
    const struct deadline_slots *slots = slots_of(deadlines, slot);
    return slots ? atomic_load_explicit(&slots->groups[slot % DEADLINE_BLOCK_SLOTS],
                                        memory_order_acquire)
                 : NULL;
}

static size_t groups_bytes(unsigned bits) {
    return sizeof(struct deadline_groups) + ((size_t)1 << bits) * sizeof(int64_t);
}

static void groups_replace(struct deadline_slots *slots, uint32_t slot,
                           struct deadline_groups *groups) {
    struct deadline_groups *_Atomic *place = &slots->groups[slot % DEADLINE_BLOCK_SLOTS];
    struct deadline_groups *old = atomic_load_explicit(place, memory_order_relaxed);
    atomic_store_explicit(place, groups, memory_order_release);
    if (old)
        epoch_retire(old, memory_class_bytes(groups_bytes(old->bits)), memory_free);
}

void deadline_regroup(struct deadlines *deadlines, uint32_t slot, size_t keys) {
    const struct deadline_groups *old = groups_of(deadlines, slot);
    unsigned old_bits = old ? old->bits : 0, bits = old_bits;
    if (keys <= (size_t)DEADLINE_GROUP_KEYS << old_bits)
        return;
    struct deadline_slots *slots = deadline_slots_make(deadlines, slot);
    while (bits < GROUP_BITS_MAX && (size_t)DEADLINE_GROUP_KEYS / 4 << bits < keys)
        bits++;
    struct deadline_groups *groups = memory_alloc(groups_bytes(bits));
    groups->bits = bits;
    for (size_t i = 0; i < (size_t)1 << bits; i++) {
        const _Atomic int64_t *due_ms = old ? &old->due_ms[i >> (bits - old_bits)]
                                            : &slots->due_ms[slot % DEADLINE_BLOCK_SLOTS];
        atomic_init(&groups->due_ms[i], atomic_load_explicit(due_ms, memory_order_relaxed));
    }
    groups_replace(slots, slot, groups);
}

void deadline_forget(struct deadlines *deadlines, uint32_t slot) {
    struct deadline_slots *slots = slots_of(deadlines, slot);
    if (!slots)
        return;
    atomic_store_explicit(&slots->due_ms[slot % DEADLINE_BLOCK_SLOTS], DEADLINE_NEVER,
                          memory_order_relaxed);
    groups_replace(slots, slot, NULL);
}

void deadline_hurry(struct deadlines *deadlines, uint32_t slot) {
    struct deadline_slots *slots = slots_of(deadlines, slot);
    if (slots) {
        atomic_store_explicit(&slots->due_ms[slot % DEADLINE_BLOCK_SLOTS], DEADLINE_UNKNOWN,
                              memory_order_relaxed);
        groups_replace(slots, slot, NULL);
    }
    deadline_lower_block(deadlines, slot / DEADLINE_BLOCK_SLOTS, 0);
}

/* --- For active expiry ------------------------------------------------------------------------ */

int64_t deadline_of_slot(const struct deadlines *deadlines, uint32_t slot) {
    const struct deadline_slots *slots = slots_of(deadlines, slot);
    return slots ? atomic_load_explicit(&slots->due_ms[slot % DEADLINE_BLOCK_SLOTS],
                                        memory_order_relaxed)
                 : DEADLINE_UNKNOWN;
}

unsigned deadline_group_bits(const struct deadlines *deadlines, uint32_t slot) {
    const struct deadline_groups *groups = groups_of(deadlines, slot);
    return groups ? groups->bits : 0;
}

int64_t deadline_of_group(const struct deadlines *deadlines, uint32_t slot, unsigned bits,
                          uint32_t group) {
    const struct deadline_groups *groups = groups_of(deadlines, slot);
    if (!groups)
        return deadline_of_slot(deadlines, slot);
    size_t i = groups->bits >= bits ? (size_t)group << (groups->bits - bits)
                                    : group >> (bits - groups->bits);
    return atomic_load_explicit(&groups->due_ms[i], memory_order_relaxed);
}

void deadline_set_group(struct deadlines *deadlines, uint32_t slot, unsigned bits, uint32_t group,
                        int64_t due_ms) {
    struct deadline_slots *slots = slots_of(deadlines, slot);
    struct deadline_groups *groups = groups_of(deadlines, slot);
    if (!slots || (groups ? groups->bits : 0) != bits)
        return;
    ASSERT((uint64_t)group >> bits == 0);
    atomic_store_explicit(groups ? &groups->due_ms[group]
                                 : &slots->due_ms[slot % DEADLINE_BLOCK_SLOTS],
                          due_ms, memory_order_relaxed);
}

void deadline_settle(struct deadlines *deadlines, uint32_t slot) {
    const struct deadline_groups *groups = groups_of(deadlines, slot);
    int64_t earliest_ms = DEADLINE_NEVER;
    if (!groups)
        return;
    for (size_t i = 0; i < (size_t)1 << groups->bits; i++) {
        int64_t due_ms = atomic_load_explicit(&groups->due_ms[i], memory_order_relaxed);
        earliest_ms = due_ms < earliest_ms ? due_ms : earliest_ms;
    }
    atomic_store_explicit(&slots_of(deadlines, slot)->due_ms[slot % DEADLINE_BLOCK_SLOTS],
                          earliest_ms, memory_order_relaxed);
}
