/*
 * What a table has to do to take part in the table bake-off. All run on one thread, a registered
 * reader.
 */
#ifndef BENCH_BAKEOFF_BAKEOFF_TABLE_H
#define BENCH_BAKEOFF_BAKEOFF_TABLE_H

#include "bench/bakeoff/world.h"

struct table_contender {
    const char *name;
    void (*create)(struct world *world);
    /* Puts the object of this key in. The object has been made by object_make_string. */
    void (*insert)(struct world *world, const struct key *key, struct object *object);
    /* The object or NULL. */
    struct object *(*find)(struct world *world, const struct key *key);
    /* NULL if the table cannot be prefetched. */
    void (*prefetch)(struct world *world, const struct key *keys, unsigned count);
    /* Whether a lookup needs the key's slot too. */
    bool needs_slot;
};

/* NULL where the library is not installed. */
const struct table_contender *table_contender_own(void);
const struct table_contender *table_contender_lfht(void);
const struct table_contender *table_contender_ck(void);

#endif
