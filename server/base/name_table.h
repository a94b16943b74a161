/* A hash table of things with names (any bytes). Entries are the caller's, and intrusive; grows by
 * doubling and never shrinks, but for an empty one. No thread of its own: whoever owns it. */
#ifndef SLOTWISE_SERVER_NAME_TABLE_H
#define SLOTWISE_SERVER_NAME_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct name_entry {
    struct name_entry *next; /* of the same bucket */
    uint64_t hash;
    const char *name; /* the caller's; lives as long as the entry is in a table */
    size_t length;
};

/* All zero is an empty table. */
struct name_table {
    struct name_entry **buckets;
    size_t size; /* a power of two, or 0 */
    size_t count;
};

uint64_t name_hash(const char *name, size_t length);
/* NULL: it is not there. */
struct name_entry *name_table_find(const struct name_table *table, uint64_t hash, const char *name,
                                   size_t length);
/* name, length and hash are set; nothing of that name is there. */
void name_table_add(struct name_table *table, struct name_entry *entry);
/* It is there. */
void name_table_remove(struct name_table *table, struct name_entry *entry);
/* All entries, in no order: begins with NULL. The one that was given may be removed before the next
 * call only if its successor was asked for first. */
struct name_entry *name_table_next(const struct name_table *table, const struct name_entry *entry);
/* The table is empty, or its entries are of no interest any more. */
void name_table_free(struct name_table *table);

#endif
