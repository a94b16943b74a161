/* See blocked_table.h. */
#include "server/dispatch/blocked_table.h"

#include <string.h>

#include "engine/epoch.h"
#include "engine/memory.h"

#define BUCKETS_FIRST 4

struct target {
    uint16_t slot;
    int32_t nodes; /* whose commands have it */
};

/* Of a slot; NULL there while it is empty. */
struct blocked_table {
    struct blocked_key **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    struct target *targets;
    size_t target_count;
};

static _Atomic uint64_t keys_waited_for; /* in all tables; a statistic */

/* --- Keys ------------------------------------------------------------------------------------- */

static struct blocked_key **place_of(const struct blocked_table *table, unsigned database,
                                     const struct key *key) {
    struct blocked_key **place = &table->buckets[key->hash & (table->bucket_count - 1)];
    for (; *place; place = &(*place)->next)
        if ((*place)->hash == key->hash && (*place)->database == database &&
            (*place)->length == key->length && memcmp((*place)->data, key->data, key->length) == 0)
            break;
    return place;
}

static void table_grow(struct blocked_table *table) {
    struct blocked_key **old = table->buckets;
    size_t old_count = table->bucket_count;
    table->bucket_count *= 2;
    table->buckets = memory_calloc(table->bucket_count, sizeof *table->buckets);
    for (size_t i = 0; i < old_count; i++)
        for (struct blocked_key *key = old[i], *next; key; key = next) {
            next = key->next;
            struct blocked_key **bucket = &table->buckets[key->hash & (table->bucket_count - 1)];
            key->next = *bucket;
            *bucket = key;
        }
    memory_free(old);
}

static struct blocked_key *key_find_or_make(struct slot *slot, unsigned database,
                                            const struct key *key) {
    struct blocked_table *table = slot->blocked;
    if (!table) {
        table = slot->blocked = memory_calloc(1, sizeof *table);
        table->bucket_count = BUCKETS_FIRST;
        table->buckets = memory_calloc(BUCKETS_FIRST, sizeof *table->buckets);
        slot_set_bits(slot, SLOT_BLOCKED);
    }
    struct blocked_key *found = *place_of(table, database, key);
    if (found)
        return found;
    if (table->count >= table->bucket_count * 2)
        table_grow(table);
    found = memory_calloc(1, sizeof *found + key->length);
    found->hash = key->hash;
    found->length = key->length;
    found->database = database;
    found->slot = key->slot;
    memcpy(found->data, key->data, key->length);
    *place_of(table, database, key) = found;
    table->count++;
    atomic_fetch_add_explicit(&keys_waited_for, 1, memory_order_relaxed);
    return found;
}

struct blocked_key *blocked_key_find(const struct slot *slot, unsigned database,
                                     const struct key *key) {
    return slot->blocked ? *place_of(slot->blocked, database, key) : NULL;
}

void blocked_key_free_if_unused(struct slot *slot, struct blocked_key *key) {
    struct blocked_table *table = slot->blocked;
    if (key->first || atomic_load_explicit(&key->ready_in, memory_order_relaxed))
        return;
    struct key name = blocked_key_name(key);
    struct blocked_key **place = place_of(table, key->database, &name);
    ASSERT(*place == key);
    *place = key->next;
    epoch_retire(key, memory_class_bytes(sizeof *key + key->length), memory_free);
    atomic_fetch_sub_explicit(&keys_waited_for, 1, memory_order_relaxed);
    if (--table->count > 0)
        return;
    ASSERT(table->target_count == 0);
    memory_free(table->targets);
    memory_free(table->buckets);
    memory_free(table);
    slot->blocked = NULL;
    slot_clear_bits(slot, SLOT_BLOCKED);
}

void blocked_keys_visit(const struct slot *slot,
                        void (*visit)(void *context, struct blocked_key *key), void *context) {
    const struct blocked_table *table = slot->blocked;
    for (size_t i = 0; table && i < table->bucket_count; i++)
        for (struct blocked_key *key = table->buckets[i]; key; key = key->next)
            visit(context, key);
}

uint64_t blocked_keys(void) {
    return atomic_load_explicit(&keys_waited_for, memory_order_relaxed);
}

/* --- Targets ---------------------------------------------------------------------------------- */

/* One more node whose command has this target, or one less; -1: none. */
static void count_target(struct blocked_table *table, int slot, bool more) {
    size_t i = 0;
    if (slot < 0)
        return;
    while (i < table->target_count && table->targets[i].slot != slot)
        i++;
    if (i == table->target_count) {
        ASSERT(more);
        table->targets =
            memory_realloc(table->targets, ++table->target_count * sizeof *table->targets);
        table->targets[i] = (struct target){.slot = (uint16_t)slot};
    }
    table->targets[i].nodes += more ? 1 : -1;
    if (table->targets[i].nodes == 0)
        table->targets[i] = table->targets[--table->target_count];
}

size_t blocked_table_targets(const struct slot *slot, uint16_t *targets) {
    const struct blocked_table *table = slot->blocked;
    if (!table)
        return 0;
    for (size_t i = 0; targets && i < table->target_count; i++)
        targets[i] = table->targets[i].slot;
    return table->target_count;
}

/* --- Nodes ------------------------------------------------------------------------------------ */

bool blocked_node_link(struct slot *slot, struct blocked_node *node, unsigned database,
                       int target) {
    struct blocked_key *key = key_find_or_make(slot, database, &node->key);
    if (key->last && key->last->record == node->record)
        return false;
    node->of = key;
    node->next = NULL;
    node->previous = key->last;
    if (key->last)
        key->last->next = node;
    else
        key->first = node;
    key->last = node;
    count_target(slot->blocked, target, true);
    atomic_store_explicit(&node->linked, true, memory_order_relaxed);
    return true;
}

void blocked_node_unlink(struct slot *slot, struct blocked_node *node, int target) {
    struct blocked_key *key = node->of;
    if (node->previous)
        node->previous->next = node->next;
    else
        key->first = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        key->last = node->previous;
    count_target(slot->blocked, target, false);
    atomic_store_explicit(&node->linked, false, memory_order_release);
}

/* --- Ready keys ------------------------------------------------------------------------------- */

void blocked_key_make_ready(struct change *change, struct blocked_key *key) {
    if (atomic_load_explicit(&key->ready_in, memory_order_relaxed))
        return;
    atomic_store_explicit(&key->ready_in, change, memory_order_relaxed);
    key->next_ready = NULL;
    if (change->ready)
        *change->ready_end = key;
    else
        change->ready = key;
    change->ready_end = &key->next_ready;
}

struct blocked_key *blocked_key_take_ready(struct change *change) {
    struct blocked_key *key = change->ready;
    if (!key)
        return NULL;
    change->ready = key->next_ready;
    atomic_store_explicit(&key->ready_in, NULL, memory_order_relaxed);
    return key;
}
