/* Random slots by weight: see random_slot.h.
 *
 * Two levels. A group of 64 slots is drawn by sums that may be a little out of date; within it a
 * slot is drawn by rejection against the largest, with its number of keys as it is now. So a draw
 * touches a slot or two and not all 64, and only in a group where one slot is much larger than the
 * others does it come to counting them all. */
#include "engine/random_slot.h"

#include "engine/clock.h"

#define REFRESH_US     1000000
#define REJECTIONS_MAX 32

static uint64_t keys_in(const struct slot_choice *choice, uint32_t slot) {
    const struct keyspace *keyspace = choice->keyspace;
    const table_root *root =
        keyspace_root(keyspace, keyspace->database_map_inverse[choice->physical], slot);
    if (!root)
        return 0;
    return choice->volatile_only ? table_volatile_count(root) : table_count(root);
}

static uint32_t clamp(uint64_t n) {
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static uint64_t group_bits(const struct slot_choice *choice, uint32_t group) {
    const struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&choice->keyspace->bitmaps[choice->physical], memory_order_acquire);
    if (!bitmaps)
        return 0;
    const _Atomic uint64_t *bits = choice->volatile_only ? bitmaps->expiring : bitmaps->occupied;
    return atomic_load_explicit(&bits[group], memory_order_acquire);
}

void slot_choice_make(struct slot_choice *choice, const struct keyspace *keyspace,
                      unsigned database, bool volatile_only) {
    choice->keyspace = keyspace;
    choice->physical = keyspace->database_map[database];
    choice->volatile_only = volatile_only;
    choice->made_us = clock_monotonic_us();
    choice->total = 0;
    for (uint32_t group = 0; group < SLOT_GROUPS; group++) {
        uint64_t sum = 0, largest = 0;
        for (uint64_t bits = group_bits(choice, group); bits; bits &= bits - 1) {
            uint64_t keys = keys_in(choice, group * 64 + (uint32_t)__builtin_ctzll(bits));
            sum += keys;
            largest = keys > largest ? keys : largest;
        }
        choice->sums[group] = clamp(sum);
        choice->maxima[group] = clamp(largest);
        choice->total += choice->sums[group];
    }
}

void slot_choice_refresh(struct slot_choice *choice, const struct keyspace *keyspace,
                         unsigned database, bool volatile_only, unsigned tolerance) {
    uint64_t now = volatile_only ? keyspace_expiring_count(keyspace, database)
                                 : keyspace_count(keyspace, database);
    if (choice->keyspace == keyspace && choice->physical == keyspace->database_map[database] &&
        choice->volatile_only == volatile_only && choice->total > 0) {
        uint64_t moved = now > choice->total ? now - choice->total : choice->total - now;
        if (moved <= choice->total / tolerance &&
            clock_monotonic_us() - choice->made_us <= REFRESH_US)
            return;
    }
    slot_choice_make(choice, keyspace, database, volatile_only);
}

/* By counting the group's slots. */
static uint32_t pick_counting(struct slot_choice *choice, uint32_t group, uint64_t *random_state) {
    uint64_t keys[64] = {0}, sum = 0, largest = 0;
    for (uint64_t bits = group_bits(choice, group); bits; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        sum += keys[i] = keys_in(choice, group * 64 + i);
        largest = keys[i] > largest ? keys[i] : largest;
    }
    choice->maxima[group] = clamp(largest);
    if (sum == 0)
        return SLOT_COUNT;
    uint64_t pick = random_below(random_state, sum);
    uint32_t i = 0;
    while (pick >= keys[i])
        pick -= keys[i++];
    return group * 64 + i;
}

uint32_t slot_choice_pick(struct slot_choice *choice, uint64_t *random_state) {
    if (choice->total == 0)
        return SLOT_COUNT;
    uint64_t pick = random_below(random_state, choice->total);
    uint32_t group = 0;
    while (group < SLOT_GROUPS - 1 && pick >= choice->sums[group])
        pick -= choice->sums[group++];
    for (int i = 0; i < REJECTIONS_MAX; i++) {
        uint32_t slot = group * 64 + (uint32_t)(random_next(random_state) >> 58);
        if (!(group_bits(choice, group) >> (slot & 63) & 1))
            continue;
        uint64_t keys = keys_in(choice, slot);
        if (keys > choice->maxima[group])
            choice->maxima[group] =
                clamp(keys); /* it has grown: the draws before were a little unfair */
        if (keys > 0 && random_below(random_state, choice->maxima[group]) < keys)
            return slot;
    }
    return pick_counting(choice, group, random_state);
}
