/* Successors of a keyspace: see keyspace.h. What a load fills while the old data are still served
 * becomes the content at once, however much it is.
 *
 * Algorithm. All that a database has hangs from a few pointers (keyspace.c), which move; only the
 * tables of physical database 0 lie in the slots, so a line is touched for each slot with keys. Run
 * by: whoever loads, in exclusive sections. Reclamation: nothing is retired, since nobody else has
 * seen the successor. */
#include "engine/assert.h"
#include "engine/deadline.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "engine/snapshot.h"

struct keyspace *keyspace_make_successor(const struct keyspace *keyspace) {
    struct keyspace *successor;
    ASSERT(keyspace_create(keyspace->databases, &successor) == 0);
    successor->access = keyspace->access;
    successor->door.snapshot_id = keyspace->door.snapshot_id;
    return successor;
}

static void move_first_tables(struct keyspace *keyspace, struct keyspace *successor) {
    const struct slot_bitmaps *bitmaps = atomic_load(&successor->bitmaps[0]);
    for (uint32_t word = 0; bitmaps && word < SLOT_COUNT / 64; word++) {
        uint64_t bits = atomic_load_explicit(&bitmaps->occupied[word], memory_order_relaxed);
        for (; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            table_root *to = &keyspace->slots[slot].table0[keyspace->side];
            ASSERT(!atomic_load_explicit(to, memory_order_relaxed));
            atomic_store(to,
                         atomic_exchange(&successor->slots[slot].table0[successor->side], NULL));
        }
    }
}

static void move_database(struct keyspace *keyspace, struct keyspace *successor,
                          unsigned physical) {
    struct key_numbers numbers =
        keyspace_numbers(successor, physical); /* its map is the identity */
    ASSERT(!atomic_load(&keyspace->bitmaps[physical]));
    atomic_store(&keyspace->bitmaps[physical],
                 atomic_exchange(&successor->bitmaps[physical], NULL));
    atomic_store(&keyspace->deadlines[physical],
                 atomic_exchange(&successor->deadlines[physical], NULL));
    atomic_store(&keyspace->tables[physical], atomic_exchange(&successor->tables[physical], NULL));
    keyspace_counts_add(keyspace, physical, numbers);
    keyspace_counts_add(successor, physical, key_numbers_negative(numbers));
}

void keyspace_adopt(struct change *change, struct keyspace *successor) {
    struct keyspace *keyspace = (struct keyspace *)(void *)change->door; /* its first member */
    uint64_t keys = 0;
    ASSERT(keyspace->databases == successor->databases);
    for (unsigned i = 0; i < keyspace->databases; i++)
        ASSERT(successor->database_map[i] == i);
    move_first_tables(keyspace, successor);
    for (unsigned i = 0; i < keyspace->databases; i++) {
        keys += keyspace_count(successor, i);
        keyspace->database_map[i] = keyspace->database_map_inverse[i] = (uint16_t)i;
        move_database(keyspace, successor, i);
        struct replacements *replacements = &keyspace->watch.replacements[i];
        replacements->swaps++; /* keyspace_clear has counted it */
        replacements->swapped_ms = view_now_ms(&change->view);
    }
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++)
        atomic_fetch_or(&keyspace->rebuilding[word],
                        atomic_exchange(&successor->rebuilding[word], 0));
    if (keyspace->door.snapshot_id != successor->door.snapshot_id)
        snapshot_forget_stamps(&keyspace->door);
    change_mark(change, keys);
}

/* --- Some slots ------------------------------------------------------------------------------- */

static void set_bit(_Atomic uint64_t *bits, uint32_t slot, bool set) {
    uint64_t mask = (uint64_t)1 << (slot & 63);
    if (set)
        atomic_fetch_or(&bits[slot / 64], mask);
    else
        atomic_fetch_and(&bits[slot / 64], ~mask);
}

/* What the keys of the slot have been, the keyspace sees for the first time: their deadlines are
 * found by looking. */
static void note_adopted(struct keyspace *keyspace, struct keyspace *successor, uint32_t slot,
                         size_t expiring) {
    struct slot_bitmaps *bitmaps = atomic_load(&keyspace->bitmaps[0]);
    set_bit(bitmaps->occupied, slot, true);
    set_bit(bitmaps->expiring, slot, expiring > 0);
    if (expiring > 0)
        deadline_hurry(atomic_load(&keyspace->deadlines[0]), slot);
    if (atomic_load(&successor->rebuilding[slot / 64]) >> (slot & 63) & 1)
        set_bit(keyspace->rebuilding, slot, true);
    set_bit(successor->rebuilding, slot, false);
    struct slot_bitmaps *before = atomic_load(&successor->bitmaps[0]);
    set_bit(before->occupied, slot, false);
    set_bit(before->expiring, slot, false);
}

static void count_volatile(struct object *object, uint64_t hash, void *context) {
    struct key_numbers *numbers = context;
    (void)hash;
    numbers->expiring += object_expiry(object) != OBJECT_NO_EXPIRY;
    numbers->field_timed += object_has_field_times(object);
}

/* Most often no field has a time to live; else those that are volatile are looked at. */
static void add_numbers(struct key_numbers *sum, const table_root *root, bool field_times) {
    size_t volatile_keys = table_volatile_count(root);
    sum->keys += (int64_t)table_count(root);
    if (!field_times) {
        sum->expiring += (int64_t)volatile_keys;
        return;
    }
    uint64_t next;
    if (volatile_keys > 0)
        table_walk(root, 0, 0, SIZE_MAX, SIZE_MAX, true, count_volatile, sum, &next);
}

uint64_t keyspace_adopt_slots(struct keyspace *keyspace, struct keyspace *successor,
                              const uint8_t *slots) {
    struct key_numbers moved = {0, 0, 0};
    bool field_times = keyspace_numbers(successor, 0).field_timed > 0;
    ASSERT(keyspace->database_map[0] == 0 && successor->database_map[0] == 0);
    if (!atomic_load(&keyspace->bitmaps[0]))
        atomic_store(&keyspace->bitmaps[0], memory_calloc(1, sizeof(struct slot_bitmaps)));
    if (!atomic_load(&keyspace->deadlines[0]))
        atomic_store(&keyspace->deadlines[0], deadlines_make());
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
        table_root *from = &successor->slots[slot].table0[successor->side];
        table_root *to = &keyspace->slots[slot].table0[keyspace->side];
        if (!(slots[slot / 8] >> (slot % 8) & 1) || table_count(from) == 0)
            continue;
        ASSERT(table_count(to) == 0);
        add_numbers(&moved, from, field_times);
        note_adopted(keyspace, successor, slot, table_volatile_count(from));
        atomic_store(to, atomic_exchange(from, NULL));
    }
    keyspace_counts_add(keyspace, 0, moved);
    keyspace_counts_add(successor, 0, key_numbers_negative(moved));
    if (keyspace->door.snapshot_id != successor->door.snapshot_id)
        snapshot_forget_stamps(&keyspace->door);
    return (uint64_t)moved.keys;
}
