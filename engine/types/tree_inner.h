/* Inner nodes of a tree, for tree.c and tree_find.c alone, which say who may do what with them.
 *
 *   struct tree_inner | major[capacity] | minor[capacity] | node[capacity] | count[capacity]
 *
 * Each has a column for itself, so that a search reads a few lines of keys and a sum of counts
 * reads a few lines of counts, however far away the node is. There are as many columns of keys as
 * the kind has key words. Counts of leaves are 16 bits wide, as in the leaves themselves. */
#ifndef SLOTWISE_ENGINE_TYPES_TREE_INNER_H
#define SLOTWISE_ENGINE_TYPES_TREE_INNER_H

#include <string.h>

#include "engine/assert.h"
#include "engine/types/tree.h"

#define TREE_FANOUT 64

struct tree_inner {
    _Atomic uint32_t references;
    uint8_t children, capacity;
    uint8_t key_words;
    bool is_lowest; /* its children are leaves */
    uint64_t columns[];
};

/* What an inner node knows of a child. */
struct tree_child {
    struct tree_key first; /* words that the kind does not use: 0 */
    uint64_t count;
    void *node;
};

static inline size_t inner_count_bytes(const struct tree_inner *inner) {
    return inner->is_lowest ? sizeof(uint16_t) : sizeof(uint64_t);
}
static inline size_t inner_size_of(unsigned capacity, unsigned key_words, bool is_lowest) {
    return sizeof(struct tree_inner) +
           capacity * ((key_words + 1) * sizeof(uint64_t) +
                       (is_lowest ? sizeof(uint16_t) : sizeof(uint64_t)));
}
static inline size_t inner_size(const struct tree_inner *inner) {
    return inner_size_of(inner->capacity, inner->key_words, inner->is_lowest);
}

static inline const uint64_t *inner_majors(const struct tree_inner *inner) {
    return inner->columns;
}
static inline const uint64_t *inner_minors(const struct tree_inner *inner) {
    return inner->columns + inner->capacity;
}
static inline void **inner_nodes(const struct tree_inner *inner) {
    return (void **)(uintptr_t)(inner->columns + (size_t)inner->key_words * inner->capacity);
}
static inline void *inner_counts(const struct tree_inner *inner) {
    return inner_nodes(inner) + inner->capacity;
}

static inline uint64_t inner_count(const struct tree_inner *inner, unsigned i) {
    return inner->is_lowest ? ((const uint16_t *)inner_counts(inner))[i]
                            : ((const uint64_t *)inner_counts(inner))[i];
}
static inline void inner_set_count(struct tree_inner *inner, unsigned i, uint64_t count) {
    if (inner->is_lowest)
        ((uint16_t *)inner_counts(inner))[i] = (uint16_t)count;
    else
        ((uint64_t *)inner_counts(inner))[i] = count;
}

static inline struct tree_key inner_first(const struct tree_inner *inner, unsigned i) {
    return (struct tree_key){inner->key_words > 0 ? inner_majors(inner)[i] : 0,
                             inner->key_words > 1 ? inner_minors(inner)[i] : 0};
}
static inline void inner_set_first(struct tree_inner *inner, unsigned i, struct tree_key first) {
    if (inner->key_words > 0)
        inner->columns[i] = first.major;
    if (inner->key_words > 1)
        inner->columns[inner->capacity + i] = first.minor;
}

static inline struct tree_child inner_get(const struct tree_inner *inner, unsigned i) {
    return (struct tree_child){inner_first(inner, i), inner_count(inner, i), inner_nodes(inner)[i]};
}
static inline void inner_set(struct tree_inner *inner, unsigned i, struct tree_child child) {
    inner_set_first(inner, i, child.first);
    inner_nodes(inner)[i] = child.node;
    inner_set_count(inner, i, child.count);
}

/* Children first .. first + n of one node become those from at on of another one, or of the same;
 * the numbers of children stay as they are. */
static inline void inner_move(struct tree_inner *to, unsigned at, const struct tree_inner *from,
                              unsigned first, unsigned n) {
    for (unsigned word = 0; word < from->key_words; word++)
        memmove(to->columns + (size_t)word * to->capacity + at,
                from->columns + (size_t)word * from->capacity + first, n * sizeof(uint64_t));
    memmove(inner_nodes(to) + at, inner_nodes(from) + first, n * sizeof(void *));
    size_t bytes = inner_count_bytes(from);
    memmove((char *)inner_counts(to) + at * bytes, (const char *)inner_counts(from) + first * bytes,
            n * bytes);
}

static inline int tree_compare_keys(struct tree_key a, struct tree_key b) {
    if (a.major != b.major)
        return a.major < b.major ? -1 : 1;
    return a.minor == b.minor ? 0 : a.minor < b.minor ? -1 : 1;
}

static inline const struct tree_leaf *tree_leftmost(const void *node, unsigned height) {
    for (; height > 0; height--)
        node = inner_nodes(node)[0];
    return node;
}

/* From the path's node at this depth down, always to the first or last child. */
static inline void tree_descend(const struct tree *tree, struct tree_path *path, unsigned depth,
                                void *node, bool last) {
    path->keeps_first = false;
    for (; depth < tree->height; depth++) {
        struct tree_inner *inner = node;
        ASSERT(depth < TREE_DEPTH_MAX);
        path->node[depth] = inner;
        path->index[depth] = last ? (uint8_t)(inner->children - 1) : 0;
        node = inner_nodes(inner)[path->index[depth]];
    }
    path->leaf = node;
}

#endif
