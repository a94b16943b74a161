/* Finding in a tree: see tree.h. Goes down by the first keys or the counts of children; reads only.
 */
#include "engine/assert.h"
#include "engine/types/tree_inner.h"

#define LINE_BYTES 64
#define LINE_WORDS (LINE_BYTES / sizeof(uint64_t))

/* --- By keys ---------------------------------------------------------------------------------- */

/* How many of these, which are in order, are not above the bound. The comparisons are multiplied
 * with, since a processor cannot predict branches that depend on them. */
static inline unsigned count_not_above(const uint64_t *words, unsigned n, uint64_t bound) {
    size_t below = 0;
    if (UNLIKELY(n == 0))
        return 0;
    while (n > 1) {
        unsigned half = n / 2;
        below += half * (size_t)(words[below + half - 1] <= bound);
        n -= half;
    }
    return (unsigned)below + (words[below] <= bound);
}

/* Children from..to begin with the same major word as the key: the first one that begins behind the
 * key, or to. sought NULL: by keys alone. */
static unsigned first_behind(const struct tree_kind *kind, const struct tree_inner *inner,
                             unsigned height, struct tree_key key, const void *sought,
                             unsigned from, unsigned to) {
    while (from < to) {
        unsigned middle = (from + to) / 2;
        int order = tree_compare_keys(key, inner_first(inner, middle));
        if (order == 0 && kind->compare && sought)
            order = kind->compare(sought, tree_leftmost(inner_nodes(inner)[middle], height - 1));
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

/* The last child that does not begin behind the sought element, else the first one. height: of the
 * node. */
static inline unsigned choose_child(const struct tree_kind *kind, const struct tree_inner *inner,
                                    unsigned height, struct tree_key key, const void *sought) {
    const uint64_t *majors = inner_majors(inner);
    unsigned behind = count_not_above(majors, inner->children, key.major);
    if (UNLIKELY(behind > 0 && majors[behind - 1] == key.major)) {
        unsigned from = key.major > 0 ? count_not_above(majors, behind, key.major - 1) : 0;
        behind = first_behind(kind, inner, height, key, sought, from, behind);
    }
    return behind > 0 ? behind - 1 : 0;
}

static inline void fetch_keys(const struct tree_inner *inner, unsigned children) {
    for (unsigned i = LINE_WORDS; i <= children; i += LINE_WORDS)
        __builtin_prefetch(&inner->columns[i - 1]);
}

void tree_find(const struct tree *tree, struct tree_key key, const void *sought,
               struct tree_path *path) {
    void *node = tree->root;
    path->keeps_first = false;
    for (unsigned depth = 0; depth < tree->height; depth++) {
        struct tree_inner *inner = node;
        if (inner->is_lowest) /* there are few of the others, so that they are near */
            fetch_keys(inner, inner->children);
        unsigned i = choose_child(tree->kind, inner, tree->height - depth, key, sought);
        path->node[depth] = inner;
        path->index[depth] = (uint8_t)i;
        node = inner_nodes(inner)[i];
    }
    path->leaf = node;
}

/* --- Many at once ----------------------------------------------------------------------------- */

/* All keys of an inner node, however many it has. A leaf has what is read of it first in its first
 * two lines. */
static void fetch_node(const void *node, unsigned height) {
    __builtin_prefetch(node);
    if (height == 0)
        __builtin_prefetch((const char *)node + LINE_BYTES);
    else
        fetch_keys(node, TREE_FANOUT);
}

void tree_probe_begin(const struct tree *tree, struct tree_key key, struct tree_probe *probe) {
    *probe = (struct tree_probe){
        .node = tree->root, .kind = tree->kind, .key = key, .height = tree->height};
    if (probe->node)
        fetch_node(probe->node, probe->height);
}

bool tree_probe_step(struct tree_probe *probe) {
    if (probe->height == 0)
        return false;
    const struct tree_inner *inner = probe->node;
    if (!probe->child) {
        unsigned i = choose_child(probe->kind, inner, probe->height, probe->key, NULL);
        probe->child = &inner_nodes(inner)[i];
        __builtin_prefetch(probe->child);
        return true;
    }
    probe->node = *probe->child;
    probe->child = NULL;
    probe->height--;
    fetch_node(probe->node, probe->height);
    return true;
}

/* --- By position ------------------------------------------------------------------------------ */

unsigned tree_at(const struct tree *tree, uint64_t position, struct tree_path *path) {
    ASSERT(position < tree->count);
    void *node = tree->root;
    path->keeps_first = false;
    for (unsigned depth = 0; depth < tree->height; depth++) {
        struct tree_inner *inner = node;
        unsigned i = 0;
        if (inner->is_lowest) {
            const uint16_t *counts = inner_counts(inner);
            for (; position >= counts[i]; i++)
                position -= counts[i];
        } else {
            const uint64_t *counts = inner_counts(inner);
            for (; position >= counts[i]; i++)
                position -= counts[i];
        }
        path->node[depth] = inner;
        path->index[depth] = (uint8_t)i;
        node = inner_nodes(inner)[i];
    }
    path->leaf = node;
    return (unsigned)position;
}

uint64_t tree_before(const struct tree *tree, const struct tree_path *path) {
    uint64_t before = 0;
    for (unsigned depth = 0; depth < tree->height; depth++) {
        const struct tree_inner *inner = path->node[depth];
        unsigned n = path->index[depth];
        if (inner->is_lowest) {
            const uint16_t *counts = inner_counts(inner);
            uint32_t sum = 0;
            for (unsigned i = 0; i < n; i++)
                sum += counts[i];
            before += sum;
        } else {
            const uint64_t *counts = inner_counts(inner);
            for (unsigned i = 0; i < n; i++)
                before += counts[i];
        }
    }
    return before;
}

/* --- From leaf to leaf ------------------------------------------------------------------------ */

void tree_first(const struct tree *tree, struct tree_path *path) {
    tree_descend(tree, path, 0, tree->root, false);
}

void tree_last(const struct tree *tree, struct tree_path *path) {
    tree_descend(tree, path, 0, tree->root, true);
}

bool tree_next(const struct tree *tree, struct tree_path *path) {
    unsigned depth = tree->height;
    while (depth > 0 && path->index[depth - 1] + 1u == path->node[depth - 1]->children)
        depth--;
    if (depth == 0)
        return false;
    unsigned i = ++path->index[depth - 1];
    tree_descend(tree, path, depth, inner_nodes(path->node[depth - 1])[i], false);
    return true;
}

bool tree_previous(const struct tree *tree, struct tree_path *path) {
    unsigned depth = tree->height;
    while (depth > 0 && path->index[depth - 1] == 0)
        depth--;
    if (depth == 0)
        return false;
    unsigned i = --path->index[depth - 1];
    tree_descend(tree, path, depth, inner_nodes(path->node[depth - 1])[i], true);
    return true;
}
