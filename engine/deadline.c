/* Deadlines: see deadline.h.
 *
 * Algorithm. A lower bound for each slot of when its next key expires; for a slot of more than
 * DEADLINE_GROUP_KEYS keys also one for each group of its keys, by ranges of their hash, so that
 * who looks for a key that is due looks at a group and not at a giant slot. When a slot outgrows
 * its groups it gets four to eight times as many, each of which begins with the deadline of the
 * group that it was part of. Bounds are of ranges of hashes, so a rebuild of the table changes
 * nothing.
 *
 * Ordering. Bounds are written under the slot's token and read by anybody at any time: a value that
 * is out of date is found a step later. Groups are published with release.
 *
 * Progress. A key that gets a TTL costs two comparisons; to regroup costs a store for each group.
 *
 * Reclamation. Groups that were replaced are retired (epoch.h). */
#include "engine/deadline.h"

#include "engine/assert.h"
#include "engine/epoch.h"
#include "engine/memory.h"

#define GROUP_BITS_MAX 32

struct deadlines *deadlines_make(void) {
    struct deadlines *deadlines = memory_calloc(1, sizeof *deadlines);
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        atomic_init(&deadlines->due_ms[slot], DEADLINE_NEVER);
    return deadlines;
}

void deadlines_destroy(struct deadlines *deadlines) {
    if (!deadlines)
        return;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        memory_free(atomic_load_explicit(&deadlines->groups[slot], memory_order_relaxed));
    memory_free(deadlines);
}

static size_t groups_bytes(unsigned bits) {
    return sizeof(struct deadline_groups) + ((size_t)1 << bits) * sizeof(int64_t);
}

static void groups_replace(struct deadlines *deadlines, uint32_t slot,
                           struct deadline_groups *groups) {
    struct deadline_groups *old =
        atomic_load_explicit(&deadlines->groups[slot], memory_order_relaxed);
    atomic_store_explicit(&deadlines->groups[slot], groups, memory_order_release);
    if (old)
        epoch_retire(old, memory_class_bytes(groups_bytes(old->bits)), memory_free);
}

void deadline_regroup(struct deadlines *deadlines, uint32_t slot, size_t keys) {
    const struct deadline_groups *old =
        atomic_load_explicit(&deadlines->groups[slot], memory_order_relaxed);
    unsigned old_bits = old ? old->bits : 0, bits = old_bits;
    if (keys <= (size_t)DEADLINE_GROUP_KEYS << old_bits)
        return;
    while (bits < GROUP_BITS_MAX && (size_t)DEADLINE_GROUP_KEYS / 4 << bits < keys)
        bits++;
    struct deadline_groups *groups = memory_alloc(groups_bytes(bits));
    groups->bits = bits;
    for (size_t i = 0; i < (size_t)1 << bits; i++) {
        const _Atomic int64_t *due_ms =
            old ? &old->due_ms[i >> (bits - old_bits)] : &deadlines->due_ms[slot];
        atomic_init(&groups->due_ms[i], atomic_load_explicit(due_ms, memory_order_relaxed));
    }
    groups_replace(deadlines, slot, groups);
}

void deadline_forget(struct deadlines *deadlines, uint32_t slot) {
    atomic_store_explicit(&deadlines->due_ms[slot], DEADLINE_NEVER, memory_order_relaxed);
    groups_replace(deadlines, slot, NULL);
}

static struct deadline_groups *groups_of(const struct deadlines *deadlines, uint32_t slot) {
    return atomic_load_explicit(&deadlines->groups[slot], memory_order_acquire);
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
    struct deadline_groups *groups = groups_of(deadlines, slot);
    if ((groups ? groups->bits : 0) != bits)
        return;
    ASSERT((uint64_t)group >> bits == 0);
    atomic_store_explicit(groups ? &groups->due_ms[group] : &deadlines->due_ms[slot], due_ms,
                          memory_order_relaxed);
}

void deadline_settle(struct deadlines *deadlines, uint32_t slot) {
    const struct deadline_groups *groups = groups_of(deadlines, slot);
    int64_t earliest = DEADLINE_NEVER;
    if (!groups)
        return;
    for (size_t i = 0; i < (size_t)1 << groups->bits; i++) {
        int64_t due_ms = atomic_load_explicit(&groups->due_ms[i], memory_order_relaxed);
        earliest = due_ms < earliest ? due_ms : earliest;
    }
    atomic_store_explicit(&deadlines->due_ms[slot], earliest, memory_order_relaxed);
}
