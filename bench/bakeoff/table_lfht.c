/*
 * liburcu's lock-free resizable table. Its node stands before the object, in one allocation with
 * it; the table is made with its final number of buckets, so that nothing is lost to growing.
 */
#include "bench/bakeoff/bakeoff_table.h"

#ifdef BENCH_HAVE_LFHT

#include <string.h>

#include <urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "bench/common/net.h"
#include "engine/memory.h"
#include "engine/value.h"

struct node {
    struct cds_lfht_node link;
    struct object object;
};

static struct cds_lfht *lfht;

static void create(struct world *world) {
    unsigned long buckets = 1;
    while (buckets < world->keys) {
        buckets *= 2;
    }
    if (buckets > world->keys * 4 / 3) {
        buckets /= 2; /* 0.75 to 1.5 keys a bucket */
    }
    lfht = cds_lfht_new(buckets, buckets, 0, CDS_LFHT_ACCOUNTING, NULL);
    if (lfht == NULL) {
        die("cds_lfht_new failed");
    }
}

static int matches(struct cds_lfht_node *link, const void *wanted) {
    const struct key *key = wanted;
    return object_key_equals(&((struct node *)link)->object, key->data, key->length);
}

static void insert(struct world *world, const struct key *key, struct object *object) {
    size_t bytes = object_shell_bytes(object);
    struct node *node = memory_alloc(sizeof(struct cds_lfht_node) + bytes);
    (void)world;
    cds_lfht_node_init(&node->link);
    memcpy((void *)&node->object, (const void *)object, bytes);
    object_free(object);
    cds_lfht_add(lfht, key->hash, &node->link);
}

static struct object *find(struct world *world, const struct key *key) {
    struct cds_lfht_iter iterator;
    (void)world;
    cds_lfht_lookup(lfht, key->hash, matches, key, &iterator);
    struct node *node = (struct node *)cds_lfht_iter_get_node(&iterator);
    return node == NULL ? NULL : &node->object;
}

const struct table_contender *table_contender_lfht(void) {
    static const struct table_contender contender = {
        .name = "cds_lfht",
        .create = create,
        .insert = insert,
        .find = find,
    };
    return &contender;
}

#else

const struct table_contender *table_contender_lfht(void) {
    return NULL;
}

#endif
