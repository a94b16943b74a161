/* See name_table.h. */
#include "server/base/name_table.h"

#include <string.h>
#include <xxhash.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define SIZE_FIRST 8

uint64_t name_hash(const char *name, size_t length) {
    return XXH3_64bits(name, length);
}

static struct name_entry **bucket_of(const struct name_table *table, uint64_t hash) {
    return &table->buckets[hash & (table->size - 1)];
}

struct name_entry *name_table_find(const struct name_table *table, uint64_t hash, const char *name,
                                   size_t length) {
    if (table->count == 0)
        return NULL;
    for (struct name_entry *entry = *bucket_of(table, hash); entry; entry = entry->next)
        if (entry->hash == hash && entry->length == length &&
            memcmp(entry->name, name, length) == 0)
            return entry;
    return NULL;
}

static void link_entry(struct name_table *table, struct name_entry *entry) {
    struct name_entry **bucket = bucket_of(table, entry->hash);
    entry->next = *bucket;
    *bucket = entry;
}

static void grow(struct name_table *table) {
    struct name_table larger = {.size = table->size ? table->size * 2 : SIZE_FIRST};
    larger.buckets = memory_alloc(larger.size * sizeof *larger.buckets);
    memset(larger.buckets, 0, larger.size * sizeof *larger.buckets);
    for (size_t i = 0; i < table->size; i++)
        for (struct name_entry *entry = table->buckets[i], *next; entry; entry = next) {
            next = entry->next;
            link_entry(&larger, entry);
        }
    larger.count = table->count;
    memory_free(table->buckets);
    *table = larger;
}

void name_table_add(struct name_table *table, struct name_entry *entry) {
    if (table->count == table->size)
        grow(table);
    link_entry(table, entry);
    table->count++;
}

void name_table_remove(struct name_table *table, struct name_entry *entry) {
    struct name_entry **link = bucket_of(table, entry->hash);
    while (*link != entry) {
        ASSERT(*link);
        link = &(*link)->next;
    }
    *link = entry->next;
    table->count--;
    if (table->count == 0)
        name_table_free(table);
}

struct name_entry *name_table_next(const struct name_table *table, const struct name_entry *entry) {
    if (entry && entry->next)
        return entry->next;
    for (size_t i = entry ? (entry->hash & (table->size - 1)) + 1 : 0; i < table->size; i++)
        if (table->buckets[i])
            return table->buckets[i];
    return NULL;
}

void name_table_free(struct name_table *table) {
    memory_free(table->buckets);
    *table = (struct name_table){0};
}
