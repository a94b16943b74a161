/* Linear hashing: see watch_index.h. */
#include "engine/watch_index.h"

#include "engine/assert.h"
#include "engine/memory.h"

static size_t power_below(size_t n) {
    return (size_t)1 << (63 - (unsigned)__builtin_clzll(n));
}

static struct watch_node **bucket_at(const struct watch_index *index, size_t bucket) {
    if (bucket < WATCH_INDEX_FIRST)
        return (struct watch_node **)&index->first[bucket];
    size_t start = power_below(bucket);
    return &index->segments[__builtin_ctzll(start / WATCH_INDEX_FIRST)][bucket - start];
}

static struct watch_node **bucket_of(const struct watch_index *index, uint64_t hash) {
    size_t power = power_below(index->buckets);
    size_t bucket = hash & (2 * power - 1);
    return bucket_at(index, bucket < index->buckets ? bucket : hash & (power - 1));
}

void watch_index_begin(struct watch_index *index) {
    *index = (struct watch_index){.buckets = WATCH_INDEX_FIRST};
}

void watch_index_end(struct watch_index *index) {
    ASSERT(index->count == 0);
    for (size_t i = 0; index->segments && i < WATCH_INDEX_SEGMENTS; i++)
        memory_free(index->segments[i]);
    memory_free(index->segments);
}

/* One more bucket, which takes its share of the nodes of another one. */
static void grow(struct watch_index *index) {
    size_t fresh = index->buckets, power = power_below(fresh);
    size_t segment = (size_t)__builtin_ctzll(power / WATCH_INDEX_FIRST);
    if (segment == WATCH_INDEX_SEGMENTS)
        return;
    if (!index->segments)
        index->segments = memory_calloc(WATCH_INDEX_SEGMENTS, sizeof *index->segments);
    if (!index->segments[segment])
        index->segments[segment] = memory_alloc(power * sizeof *index->segments[segment]);
    struct watch_node **from = bucket_at(index, fresh - power), **to = bucket_at(index, fresh);
    index->buckets++;
    *to = NULL;
    while (*from) {
        struct watch_node *node = *from;
        if ((node->hash & (2 * power - 1)) != fresh) {
            from = &node->next;
            continue;
        }
        *from = node->next;
        node->next = *to;
        *to = node;
    }
}

static void shrink(struct watch_index *index) {
    size_t last = index->buckets - 1, power = power_below(last);
    struct watch_node **from = bucket_at(index, last), **to = bucket_at(index, last - power);
    while (*to)
        to = &(*to)->next;
    *to = *from;
    index->buckets = last;
    if (last == power) {
        struct watch_node ***segment = &index->segments[__builtin_ctzll(power / WATCH_INDEX_FIRST)];
        memory_free(*segment);
        *segment = NULL;
    }
}

void watch_index_add(struct watch_index *index, struct watch_node *node) {
    struct watch_node **bucket = bucket_of(index, node->hash);
    node->next = *bucket;
    *bucket = node;
    if (++index->count > index->buckets)
        grow(index);
}

static struct watch_node **link_of(const struct watch_index *index, const struct watch_node *node) {
    struct watch_node **link = bucket_of(index, node->hash);
    while (*link != node) {
        ASSERT(*link); /* removed twice */
        link = &(*link)->next;
    }
    return link;
}

void watch_index_remove(struct watch_index *index, struct watch_node *node) {
    *link_of(index, node) = node->next;
    index->count--;
    /* Two for one, so that it keeps up; the slack keeps it from going back and forth. */
    for (int i = 0; i < 2; i++)
        if (index->buckets > WATCH_INDEX_FIRST && index->buckets > 2 * index->count)
            shrink(index);
}

void watch_index_replace(struct watch_index *index, struct watch_node *node,
                         struct watch_node *by) {
    by->next = node->next;
    *link_of(index, node) = by;
}

struct watch_node *watch_index_chain(const struct watch_index *index, uint64_t hash) {
    return *bucket_of(index, hash);
}

struct watch_node *watch_index_bucket(const struct watch_index *index, size_t bucket) {
    return *bucket_at(index, bucket);
}
