/* Watch index: a hash table of intrusive nodes that grows and shrinks by one bucket at a time
 * (linear hashing), so that no single call moves more than a bucket. Run by whoever holds what
 * protects the table: the token of its slot (watch.c), or a lock (server/links/own_expiry.c).
 *
 * Invariant: with 2^k the highest power of two up to `buckets`, a node is in the bucket that its
 * hash modulo 2^(k+1) names, or modulo 2^k where that one is not there yet. Buckets are kept in
 * segments that double in size and never move. */
#ifndef SLOTWISE_ENGINE_WATCH_INDEX_H
#define SLOTWISE_ENGINE_WATCH_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define WATCH_INDEX_FIRST    4 /* buckets that are always there; a power of two */
#define WATCH_INDEX_SEGMENTS 30

struct watch_node {
    struct watch_node *next; /* in its bucket */
    uint64_t hash;
};

struct watch_index {
    size_t count;
    size_t buckets;
    struct watch_node *first[WATCH_INDEX_FIRST];
    struct watch_node ***segments; /* [k]: FIRST << k buckets; NULL while the first ones do */
};

void watch_index_begin(struct watch_index *index);
/* Frees the segments. The index is empty. */
void watch_index_end(struct watch_index *index);
void watch_index_add(struct watch_index *index, struct watch_node *node);
void watch_index_remove(struct watch_index *index, struct watch_node *node);
/* Another node takes its place; its hash is the same. */
void watch_index_replace(struct watch_index *index, struct watch_node *node, struct watch_node *by);
/* The nodes of the bucket of this hash, and of bucket i. */
struct watch_node *watch_index_chain(const struct watch_index *index, uint64_t hash);
struct watch_node *watch_index_bucket(const struct watch_index *index, size_t bucket);

#endif
