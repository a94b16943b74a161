/* Keyspace: roots, lookups as commands see them, and every change of a key.
 *
 * Invariants, per (database, slot), under the slot's token: the occupied bit is set if the table
 * has a key (and perhaps a while longer); the expiring bit if and only if it has a volatile key
 * (one with a TTL, or a hash with fields that have one); the sums of the threads' counters are the
 * numbers of keys. */
#include "engine/keyspace.h"
#include "engine/background.h"

#include <limits.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/deadline.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/object_private.h"
#include "engine/snapshot.h"

static _Thread_local unsigned thread_number;

void keyspace_thread_set(unsigned number) {
    ASSERT(number < KEYSPACE_THREADS_MAX);
    thread_number = number;
}

struct keyspace_counters *keyspace_counters_mine(struct keyspace *keyspace) {
    return &keyspace->counters[thread_number];
}

int keyspace_create(unsigned databases, struct keyspace **keyspace) {
    struct keyspace *k = memory_calloc(1, sizeof *k);
    k->databases = databases;
    k->slots = memory_alloc_aligned(64, SLOT_COUNT * sizeof *k->slots);
    memset(k->slots, 0, SLOT_COUNT * sizeof *k->slots);
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        atomic_init(&k->slots[i].word, SLOT_SERVING);
    k->door.slots = k->watch.slots = k->slots;
    k->bitmaps = memory_calloc(databases, sizeof *k->bitmaps);
    k->deadlines = memory_calloc(databases, sizeof *k->deadlines);
    k->tables = memory_calloc(databases, sizeof *k->tables);
    k->watch.replacements = memory_calloc(databases, sizeof *k->watch.replacements);
    atomic_init(&k->other_side_is_empty, true);
    k->database_map = memory_alloc(databases * sizeof *k->database_map);
    k->database_map_inverse = memory_alloc(databases * sizeof *k->database_map_inverse);
    k->clears = memory_calloc(databases, sizeof *k->clears);
    for (unsigned i = 0; i < databases; i++)
        k->database_map[i] = k->database_map_inverse[i] = (uint16_t)i;
    k->access.lfu_log_factor = 10;
    k->access.lfu_decay_minutes = 1;
    atomic_init(&k->active_expiry, true);
    k->counters = memory_alloc_aligned(64, KEYSPACE_THREADS_MAX * sizeof *k->counters);
    memset(k->counters, 0, KEYSPACE_THREADS_MAX * sizeof *k->counters);
    access_clock_update();
    *keyspace = k;
    return 0;
}

/* --- Numbers of keys (keyspace_numbers.c reads them at one moment) ------------------------------
 */

/* Of the calling thread, when it first counts a key. They fill whole cache lines of their own. */
static void counters_make(struct keyspace *keyspace, struct keyspace_counters *counters) {
    size_t bytes = (keyspace->databases * sizeof(struct key_counts) + 63) & ~(size_t)63;
    struct key_counts *published = memory_alloc_aligned(64, bytes);
    counters->counted = memory_alloc_aligned(64, bytes);
    memset(published, 0, bytes);
    memset(counters->counted, 0, bytes);
    counters->unpublished_first = UINT_MAX;
    counters->unpublished_end = 0;
    atomic_store_explicit(&counters->published, published, memory_order_release);
    unsigned high = atomic_load(&keyspace->counters_high);
    while (high <= thread_number &&
           !atomic_compare_exchange_weak(&keyspace->counters_high, &high, thread_number + 1))
        ;
}

static inline void counts_copy(struct key_counts *to, const struct key_counts *from) {
    atomic_store_explicit(&to->keys, atomic_load_explicit(&from->keys, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&to->expiring,
                          atomic_load_explicit(&from->expiring, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&to->field_timed,
                          atomic_load_explicit(&from->field_timed, memory_order_relaxed),
                          memory_order_relaxed);
}

static void counts_publish(struct keyspace_counters *counters) {
    struct key_counts *published = atomic_load_explicit(&counters->published, memory_order_relaxed);
    uint64_t version = atomic_load_explicit(&counters->version, memory_order_relaxed);
    atomic_store_explicit(&counters->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (unsigned i = counters->unpublished_first; i < counters->unpublished_end; i++)
        counts_copy(&published[i], &counters->counted[i]);
    atomic_store_explicit(&counters->version, version + 2, memory_order_release);
    counters->unpublished_first = UINT_MAX;
    counters->unpublished_end = 0;
}

static inline void count_keys(struct keyspace *keyspace, unsigned physical,
                              struct key_numbers change) {
    struct keyspace_counters *counters = keyspace_counters_mine(keyspace);
    if (UNLIKELY(!counters->counted))
        counters_make(keyspace, counters);
    COUNTER_ADD(counters->counted[physical].keys, change.keys);
    COUNTER_ADD(counters->counted[physical].expiring, change.expiring);
    COUNTER_ADD(counters->counted[physical].field_timed, change.field_timed);
    if (physical < counters->unpublished_first)
        counters->unpublished_first = physical;
    if (physical >= counters->unpublished_end)
        counters->unpublished_end = physical + 1;
    if (!counters->held)
        counts_publish(counters);
}

void keyspace_counts_add(struct keyspace *keyspace, unsigned physical, struct key_numbers change) {
    count_keys(keyspace, physical, change);
}

void keyspace_counts_hold(struct keyspace *keyspace) {
    keyspace_counters_mine(keyspace)->held = true;
}

void keyspace_counts_publish(struct keyspace *keyspace) {
    struct keyspace_counters *counters = keyspace_counters_mine(keyspace);
    counters->held = false;
    if (UNLIKELY(counters->unpublished_end != 0))
        counts_publish(counters);
}

static inline int64_t count_load(const _Atomic int64_t *count) {
    return atomic_load_explicit(count, memory_order_relaxed);
}

struct key_numbers keyspace_numbers(const struct keyspace *keyspace, unsigned physical) {
    struct key_numbers sum = {0, 0, 0};
    unsigned high = atomic_load_explicit(&keyspace->counters_high, memory_order_acquire);
    for (unsigned i = 0; i < high; i++) {
        const struct keyspace_counters *c = &keyspace->counters[i];
        const struct key_counts *counts =
            i == thread_number ? c->counted
                               : atomic_load_explicit(&c->published, memory_order_acquire);
        if (!counts)
            continue;
        sum.keys += count_load(&counts[physical].keys);
        sum.expiring += count_load(&counts[physical].expiring);
        sum.field_timed += count_load(&counts[physical].field_timed);
    }
    return (struct key_numbers){sum.keys > 0 ? sum.keys : 0, sum.expiring > 0 ? sum.expiring : 0,
                                sum.field_timed > 0 ? sum.field_timed : 0};
}

uint64_t keyspace_count(const struct keyspace *keyspace, unsigned database) {
    return (uint64_t)keyspace_numbers(keyspace, keyspace->database_map[database]).keys;
}

uint64_t keyspace_expiring_count(const struct keyspace *keyspace, unsigned database) {
    return (uint64_t)keyspace_numbers(keyspace, keyspace->database_map[database]).expiring;
}

uint64_t keyspace_field_timed_count(const struct keyspace *keyspace, unsigned database) {
    return (uint64_t)keyspace_numbers(keyspace, keyspace->database_map[database]).field_timed;
}

void keyspace_destroy(struct keyspace *keyspace) {
    struct change change;
    change_init(&change, &keyspace->door, VIEW_PRIMARY);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    for (unsigned i = 0; i < keyspace->databases; i++)
        memory_free(atomic_load(&keyspace->bitmaps[i]));
    for (unsigned i = 0; i < keyspace->databases; i++)
        deadlines_destroy(atomic_load(&keyspace->deadlines[i]));
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        memory_free(atomic_load(&keyspace->counters[i].published));
        memory_free(keyspace->counters[i].counted);
    }
    memory_free(keyspace->counters);
    memory_free((void *)keyspace->bitmaps);
    memory_free((void *)keyspace->deadlines);
    memory_free((void *)keyspace->tables);
    memory_free(keyspace->watch.replacements);
    memory_free(keyspace->database_map);
    memory_free(keyspace->database_map_inverse);
    memory_free(keyspace->clears);
    memory_free(keyspace->slots);
    memory_free(keyspace);
}

/* --- Roots and bitmaps ------------------------------------------------------------------------ */

static inline table_root *root_of_physical(const struct keyspace *keyspace, unsigned physical,
                                           uint32_t slot) {
    if (LIKELY(physical == 0))
        return &keyspace->slots[slot].table0[keyspace->side];
    struct database_tables *tables =
        atomic_load_explicit(&keyspace->tables[physical], memory_order_acquire);
    if (!tables)
        return NULL;
    struct table_block *block =
        atomic_load_explicit(&tables->blocks[slot / TABLE_BLOCK_SLOTS], memory_order_acquire);
    return block ? &block->tables[slot % TABLE_BLOCK_SLOTS] : NULL;
}

table_root *keyspace_root(const struct keyspace *keyspace, unsigned database, uint32_t slot) {
    return root_of_physical(keyspace, keyspace->database_map[database], slot);
}

/* The holders of two slots' tokens may make the same one at once; the first one's stays. */
static struct database_tables *tables_make(struct keyspace *keyspace, unsigned physical) {
    struct database_tables *tables =
        atomic_load_explicit(&keyspace->tables[physical], memory_order_acquire);
    if (LIKELY(tables != NULL))
        return tables;
    struct database_tables *made = memory_calloc(1, sizeof *made);
    if (atomic_compare_exchange_strong(&keyspace->tables[physical], &tables, made))
        return made;
    memory_free(made);
    return tables;
}

table_root *keyspace_root_make(struct keyspace *keyspace, unsigned database, uint32_t slot) {
    table_root *root = keyspace_root(keyspace, database, slot);
    if (LIKELY(root != NULL))
        return root;
    struct database_tables *tables = tables_make(keyspace, keyspace->database_map[database]);
    struct table_block *none = NULL, *made = memory_calloc(1, sizeof *made);
    if (!atomic_compare_exchange_strong(&tables->blocks[slot / TABLE_BLOCK_SLOTS], &none, made))
        memory_free(made);
    return keyspace_root(keyspace, database, slot);
}

static struct slot_bitmaps *bitmaps_make(struct keyspace *keyspace, unsigned physical) {
    struct slot_bitmaps *bitmaps =
        atomic_load_explicit(&keyspace->bitmaps[physical], memory_order_acquire);
    if (LIKELY(bitmaps != NULL))
        return bitmaps;
    struct slot_bitmaps *made = memory_calloc(1, sizeof *made);
    if (atomic_compare_exchange_strong(&keyspace->bitmaps[physical], &bitmaps, made))
        return made;
    memory_free(made); /* another slot's holder was first */
    return bitmaps;
}

static struct deadlines *deadlines_of(struct keyspace *keyspace, unsigned physical) {
    struct deadlines *deadlines =
        atomic_load_explicit(&keyspace->deadlines[physical], memory_order_acquire);
    if (LIKELY(deadlines != NULL))
        return deadlines;
    struct deadlines *made = deadlines_make();
    if (atomic_compare_exchange_strong(&keyspace->deadlines[physical], &deadlines, made))
        return made;
    deadlines_destroy(made); /* another slot's holder was first */
    return deadlines;
}

/* An object with a TTL has come into the table, or its TTL has changed, or that of a field. */
static inline void note_expiry(struct keyspace *keyspace, unsigned physical, const struct key *key,
                               const table_root *root, const struct object *object) {
    int64_t expiry_ms = object_expiry(object), next_ms;
    if (UNLIKELY(object_has_field_times(object))) {
        next_ms = type_of(object)->next_expiry(object);
        expiry_ms = expiry_ms == OBJECT_NO_EXPIRY || next_ms < expiry_ms ? next_ms : expiry_ms;
    }
    if (LIKELY(expiry_ms == OBJECT_NO_EXPIRY))
        return;
    /* First, since who finds deadlines without holding the token looks for the bitmaps too. */
    struct slot_bitmaps *bitmaps = bitmaps_make(keyspace, physical);
    deadline_note(deadlines_of(keyspace, physical), bitmaps->expiring, key->slot, key->hash,
                  expiry_ms, table_count(root));
}

static inline void bit_change(_Atomic uint64_t *bits, uint32_t slot, bool set) {
    uint64_t mask = (uint64_t)1 << (slot & 63);
    uint64_t word = atomic_load_explicit(&bits[slot / 64], memory_order_relaxed);
    if (!(word & mask) == !set)
        return; /* only the token's holder changes this bit */
    if (set)
        atomic_fetch_or_explicit(&bits[slot / 64], mask, memory_order_seq_cst);
    else
        atomic_fetch_and_explicit(&bits[slot / 64], ~mask, memory_order_seq_cst);
}

/* The occupied bit is not cleared with the last key: SCAN passes over a slot whose bit is clear
 * without looking at its word, and a transaction that deletes the key and makes it again must not
 * show the state between. So it is who finds the slot empty that clears it. */
void keyspace_note_empty(struct keyspace *keyspace, unsigned database, uint32_t slot,
                         bool exclusive) {
    if (!exclusive && !slot_try_acquire(&keyspace->slots[slot]))
        return;
    unsigned physical = keyspace->database_map[database];
    const table_root *root = root_of_physical(keyspace, physical, slot);
    if (!root || table_count(root) == 0) {
        struct slot_bitmaps *bitmaps = bitmaps_make(keyspace, physical);
        atomic_fetch_add(&bitmaps->cleared, 1);
        bit_change(bitmaps->occupied, slot, false);
    }
    if (!exclusive)
        slot_release(&keyspace->slots[slot]);
}

#define NO_KEY ((struct key_numbers){0, 0, 0})

/* What one object counts for. */
static inline struct key_numbers numbers_of(const struct object *object) {
    return (struct key_numbers){1, object_expiry(object) != OBJECT_NO_EXPIRY,
                                object_has_field_times(object)};
}

/* Brings bitmaps and counters up to date: of the table as it was before, one object has been
 * replaced by another. */
static inline void table_after(struct keyspace *keyspace, unsigned physical, uint32_t slot,
                               const table_root *root, struct key_numbers old,
                               struct key_numbers new, size_t volatile_before) {
    size_t keys = table_count(root), expiring = table_volatile_count(root);
    struct key_numbers change = {new.keys - old.keys, new.expiring - old.expiring,
                                 new.field_timed - old.field_timed};
    if (change.keys == 0 && change.expiring == 0 && change.field_timed == 0)
        return;
    count_keys(keyspace, physical, change);
    if (UNLIKELY(change.keys > 0 && keys == 1))
        bit_change(bitmaps_make(keyspace, physical)->occupied, slot, true);
    if (UNLIKELY(!expiring != !volatile_before)) {
        bit_change(bitmaps_make(keyspace, physical)->expiring, slot, expiring != 0);
        if (expiring == 0)
            deadline_forget(deadlines_of(keyspace, physical), slot);
    }
    if (UNLIKELY(table_is_rebuilding(root)))
        bit_change(keyspace->rebuilding, slot, true);
}

static inline struct keyspace *keyspace_of(const struct change *change) {
    return (struct keyspace *)(void *)((char *)change->door - offsetof(struct keyspace, door));
}

/* --- Lookups ---------------------------------------------------------------------------------- */

struct object *keyspace_find_raw(const struct keyspace *keyspace, unsigned database,
                                 const struct key *key) {
    const table_root *root = keyspace_root(keyspace, database, key->slot);
    return LIKELY(root != NULL) ? table_find(root, key->hash, key->data, key->length) : NULL;
}

struct object *keyspace_find_write(struct change *change, unsigned database,
                                   const struct key *key) {
    struct object *object = keyspace_find_raw(keyspace_of(change), database, key);
    if (LIKELY(!object || !view_is_expired(&change->view, object)))
        return object;
    keyspace_expire(change, database, key);
    return NULL;
}

/* --- Changes ---------------------------------------------------------------------------------- */

static inline void stamp(struct keyspace *keyspace, struct object *object, bool fresh) {
    object_set_snapshot_id(object, keyspace->door.snapshot_id);
    if (fresh)
        atomic_store_explicit(&object->access, access_initial(&keyspace->access),
                              memory_order_relaxed);
}

void keyspace_add(struct change *change, unsigned database, const struct key *key,
                  struct object *object, enum change_event event) {
    struct keyspace *keyspace = keyspace_of(change);
    unsigned physical = keyspace->database_map[database];
    table_root *root = keyspace_root_make(keyspace, database, key->slot);
    stamp(keyspace, object, atomic_load_explicit(&object->access, memory_order_relaxed) == 0);
    size_t volatile_before = table_volatile_count(root);
    table_insert(root, key->hash, object);
    table_after(keyspace, physical, key->slot, root, NO_KEY, numbers_of(object), volatile_before);
    note_expiry(keyspace, physical, key, root, object);
    if (!(CHANGES_NOT_TOLD_NEW >> event & 1))
        change_also(change, database, key, CHANGE_NEW);
    change_after(change, database, key, event);
}

/* In the table, and the door. */
static inline void exchange(struct change *change, unsigned database, const struct key *key,
                            struct object *old, struct object *object, enum change_event event) {
    struct keyspace *keyspace = keyspace_of(change);
    table_root *root = keyspace_root(keyspace, database, key->slot);
    change_before(change, database, key, old);
    if (LIKELY(!object_is_volatile(old) && !object_is_volatile(object))) {
        table_replace(root, key->hash, old, object); /* changes no number */
    } else {
        unsigned physical = keyspace->database_map[database];
        size_t volatile_before = table_volatile_count(root);
        table_replace(root, key->hash, old, object);
        table_after(keyspace, physical, key->slot, root, numbers_of(old), numbers_of(object),
                    volatile_before);
        note_expiry(keyspace, physical, key, root, object);
    }
    change_after(change, database, key, event);
}

void keyspace_replace(struct change *change, unsigned database, const struct key *key,
                      struct object *old, struct object *object, enum change_event event) {
    struct keyspace *keyspace = keyspace_of(change);
    if (keyspace->access.lfu) {
        /* Redis keeps the counter of an overwritten key. */
        stamp(keyspace, object, false);
        atomic_store_explicit(&object->access,
                              atomic_load_explicit(&old->access, memory_order_relaxed),
                              memory_order_relaxed);
    } else {
        stamp(keyspace, object, true);
    }
    exchange(change, database, key, old, object, event);
    if (UNLIKELY(object_needs_token(object)) && object_needs_token(old) &&
        object_pointer(object) == object_pointer(old))
        object_retire_shell(old);
    else
        object_retire(old);
}

struct object *keyspace_take(struct change *change, unsigned database, const struct key *key,
                             enum change_event event) {
    struct keyspace *keyspace = keyspace_of(change);
    table_root *root = keyspace_root(keyspace, database, key->slot);
    if (!root)
        return NULL;
    if (UNLIKELY(change->door->snapshot != NULL)) {
        struct object *present = keyspace_find_raw(keyspace, database, key);
        if (present)
            change_before(change, database, key, present);
    }
    size_t volatile_before = table_volatile_count(root);
    struct object *object = table_remove(root, key->hash, key->data, key->length);
    if (!object)
        return NULL;
    table_after(keyspace, keyspace->database_map[database], key->slot, root, numbers_of(object),
                NO_KEY, volatile_before);
    change_after(change, database, key, event);
    return object;
}

bool keyspace_delete(struct change *change, unsigned database, const struct key *key,
                     enum change_event event) {
    struct object *object = keyspace_take(change, database, key, event);
    if (!object)
        return false;
    object_retire(object);
    return true;
}

void keyspace_expire(struct change *change, unsigned database, const struct key *key) {
    change_append_deletion(
        change, database, key,
        atomic_load_explicit(&change->door->unlink_expired, memory_order_relaxed));
    keyspace_delete(change, database, key, CHANGE_EXPIRED);
    COUNTER_ADD(keyspace_counters_mine(keyspace_of(change))->expired, 1);
}

void keyspace_evict(struct change *change, unsigned database, const struct key *key) {
    change_append_deletion(
        change, database, key,
        atomic_load_explicit(&change->door->unlink_evicted, memory_order_relaxed));
    keyspace_delete(change, database, key, CHANGE_EVICTED);
    COUNTER_ADD(keyspace_counters_mine(keyspace_of(change))->evicted, 1);
}

struct object *keyspace_set_expiry(struct change *change, unsigned database, const struct key *key,
                                   struct object *object, int64_t expiry_ms) {
    struct keyspace *keyspace = keyspace_of(change);
    enum change_event event = expiry_ms == OBJECT_NO_EXPIRY ? CHANGE_PERSIST : CHANGE_EXPIRE;
    if (object_expiry(object) == expiry_ms) {
        if (expiry_ms != OBJECT_NO_EXPIRY)
            change_after(change, database, key, event);
        return object;
    }
    if (object_flags(object) & OBJECT_HAS_EXPIRY) {
        table_root *root = keyspace_root(keyspace, database, key->slot);
        unsigned physical = keyspace->database_map[database];
        struct key_numbers before = numbers_of(object);
        size_t volatile_before = table_volatile_count(root);
        change_before(change, database, key, object);
        object_set_expiry(object, expiry_ms);
        table_note_expiry(root, key->hash, object);
        table_after(keyspace, physical, key->slot, root, before, numbers_of(object),
                    volatile_before);
        note_expiry(keyspace, physical, key, root, object);
        change_after(change, database, key, event);
        return object;
    }
    /* It gets a field for the expiry; the value moves over if it is behind a pointer. */
    struct object *remade = object_remake(object, key->data, key->length, expiry_ms);
    stamp(keyspace, remade, false);
    exchange(change, database, key, object, remade, event);
    if (object_needs_token(object))
        object_retire_shell(object);
    else
        object_retire(object);
    return remade;
}

void keyspace_note_field_times(struct change *change, unsigned database, const struct key *key,
                               const struct object *object) {
    struct keyspace *keyspace = keyspace_of(change);
    note_expiry(keyspace, keyspace->database_map[database], key,
                keyspace_root(keyspace, database, key->slot), object);
}

/* --- Whole databases (exclusive sections) -------------------------------------------------------
 *
 * Algorithm: everything that a physical database has hangs from a few pointers, which a flush takes
 * out: bitmaps, deadlines, and the blocks of tables. Only the tables of physical database 0 lie in
 * the slots, where a lookup has them in the line that it needs anyway; a slot has two places for
 * one, and a flush makes the other place the one in use for all slots. The place that was in use is
 * emptied after the section by who flushed. If a flush comes before that is done, it takes the
 * tables out one by one, in its section.
 * Ordering: who finds a pointer, or keyspace->side, has passed a command boundary since the last
 * section. other_side_is_empty is a release of the emptying, which the next section acquires.
 * Reclamation: nobody can have found what was taken out; keyspace_garbage_free. */

/* What a flush has taken out. */
struct keyspace_garbage {
    struct keyspace *keyspace;
    unsigned databases; /* of these, each NULL if there was none: */
    struct slot_bitmaps **bitmaps;
    struct deadlines **deadlines;
    struct database_tables **tables;
    bool first_is_linked; /* the tables of physical database 0 are still in the slots: */
    uint32_t first_side;  /* on this side, as bitmaps[0] says */
    struct table **first; /* those that were taken out of them */
    size_t first_count;
    struct snapshot_salvage *salvage; /* sees them before they go; NULL: nobody does */
};

/* Tables of physical database 0 out of the slots: one line touched for each slot in use. */
static void unlink_first(struct keyspace_garbage *garbage) {
    const struct slot_bitmaps *bitmaps = garbage->bitmaps[0];
    size_t slots = 0;
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++)
        slots += (size_t)__builtin_popcountll(
            atomic_load_explicit(&bitmaps->occupied[word], memory_order_relaxed));
    garbage->first = memory_alloc(slots * sizeof *garbage->first);
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++) {
        uint64_t bits = atomic_load_explicit(&bitmaps->occupied[word], memory_order_relaxed);
        for (; bits; bits &= bits - 1) {
            uint32_t slot = word * 64 + (uint32_t)__builtin_ctzll(bits);
            struct table *table =
                table_detach(&garbage->keyspace->slots[slot].table0[garbage->first_side]);
            if (table)
                garbage->first[garbage->first_count++] = table;
        }
    }
}

/* The other side takes over, if it is empty. */
static void clear_first(struct keyspace *keyspace, struct keyspace_garbage *garbage) {
    garbage->first_side = keyspace->side;
    garbage->first_is_linked =
        atomic_load_explicit(&keyspace->other_side_is_empty, memory_order_acquire);
    if (garbage->first_is_linked) {
        atomic_store_explicit(&keyspace->other_side_is_empty, false, memory_order_relaxed);
        keyspace->side ^= 1;
    } else {
        unlink_first(garbage);
    }
}

/* No slot and no table is touched. */
static void clear_physical(struct keyspace *keyspace, unsigned physical,
                           struct keyspace_garbage *garbage) {
    keyspace->clears[physical]++;
    garbage->bitmaps[physical] = atomic_exchange(&keyspace->bitmaps[physical], NULL);
    garbage->deadlines[physical] = atomic_exchange(&keyspace->deadlines[physical], NULL);
    if (physical > 0)
        garbage->tables[physical] = atomic_exchange(&keyspace->tables[physical], NULL);
    else if (garbage->bitmaps[0])
        clear_first(keyspace, garbage);
    if (garbage->bitmaps[physical])
        count_keys(keyspace, physical, key_numbers_negative(keyspace_numbers(keyspace, physical)));
}

static struct keyspace_garbage *garbage_make(struct keyspace *keyspace) {
    struct keyspace_garbage *garbage = memory_calloc(1, sizeof *garbage);
    garbage->keyspace = keyspace;
    garbage->databases = keyspace->databases;
    garbage->bitmaps = memory_calloc(keyspace->databases, sizeof *garbage->bitmaps);
    garbage->deadlines = memory_calloc(keyspace->databases, sizeof *garbage->deadlines);
    garbage->tables = memory_calloc(keyspace->databases, sizeof *garbage->tables);
    return garbage;
}

struct keyspace_garbage *keyspace_clear(struct change *change, int database) {
    struct keyspace *keyspace = keyspace_of(change);
    struct keyspace_garbage *garbage = garbage_make(keyspace);
    const struct snapshot *snapshot = change->door->snapshot;
    if (snapshot)
        garbage->salvage = snapshot->salvage(snapshot->context);
    uint64_t keys = 0;
    for (unsigned i = 0; i < keyspace->databases; i++) {
        if (database >= 0 && (unsigned)database != i)
            continue;
        keys += keyspace_count(keyspace, i);
        clear_physical(keyspace, keyspace->database_map[i], garbage);
        keyspace->watch.replacements[i].count++;
    }
    change_mark(change, keys);
    return garbage;
}

void keyspace_garbage_prepare(struct keyspace_garbage *garbage) {
    if (!garbage->first_is_linked)
        return;
    garbage->first_is_linked = false;
    unlink_first(garbage);
    atomic_store_explicit(&garbage->keyspace->other_side_is_empty, true, memory_order_release);
}

/* NULL: nothing. */
static void table_free(const struct keyspace_garbage *garbage, unsigned physical,
                       struct table *table) {
    table_root root = table;
    if (!table)
        return;
    if (UNLIKELY(garbage->salvage != NULL))
        garbage->salvage->table(garbage->salvage, physical, &root);
    table_destroy(root);
}

static void tables_free(const struct keyspace_garbage *garbage, unsigned physical) {
    struct database_tables *tables = garbage->tables[physical];
    for (size_t i = 0; tables && i < SLOT_COUNT / TABLE_BLOCK_SLOTS; i++) {
        struct table_block *block = atomic_load_explicit(&tables->blocks[i], memory_order_relaxed);
        for (size_t j = 0; block && j < TABLE_BLOCK_SLOTS; j++)
            table_free(garbage, physical, table_detach(&block->tables[j]));
        memory_free(block);
    }
    memory_free(tables);
}

static void garbage_free_now(void *context) {
    struct keyspace_garbage *garbage = context;
    for (size_t i = 0; i < garbage->first_count; i++)
        table_free(garbage, 0, garbage->first[i]);
    for (unsigned i = 0; i < garbage->databases; i++)
        tables_free(garbage, i);
    if (garbage->salvage)
        garbage->salvage->end(garbage->salvage);
    for (unsigned i = 0; i < garbage->databases; i++) {
        deadlines_destroy(garbage->deadlines[i]);
        memory_free(garbage->bitmaps[i]);
    }
    memory_free(garbage->first);
    memory_free(garbage->bitmaps);
    memory_free((void *)garbage->deadlines);
    memory_free((void *)garbage->tables);
    memory_free(garbage);
}

void keyspace_garbage_free(struct keyspace_garbage *garbage, bool asynchronous) {
    /* All who could read these tables were stopped when they were taken out: no grace period is
     * due. */
    keyspace_garbage_prepare(garbage);
    if (asynchronous)
        background_submit(garbage_free_now, garbage);
    else
        garbage_free_now(garbage);
}

static void note_swap(struct change *change, struct replacements *replacements) {
    replacements->count++;
    replacements->swaps++;
    replacements->swapped_ms = view_now_ms(&change->view);
}

void keyspace_swap(struct change *change, unsigned a, unsigned b) {
    struct keyspace *keyspace = keyspace_of(change);
    uint16_t physical = keyspace->database_map[a];
    keyspace->database_map[a] = keyspace->database_map[b];
    keyspace->database_map[b] = physical;
    keyspace->database_map_inverse[keyspace->database_map[a]] = (uint16_t)a;
    keyspace->database_map_inverse[keyspace->database_map[b]] = (uint16_t)b;
    note_swap(change, &keyspace->watch.replacements[a]);
    note_swap(change, &keyspace->watch.replacements[b]);
    change_mark(change, 1);
}
