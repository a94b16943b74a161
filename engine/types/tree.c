/* See tree.h; finding is in tree_find.c.
 *
 * Algorithm. Changing follows the path that finding took, copies what is shared, changes the leaf
 * and sets right on the way up what the inner nodes know. Inner nodes that are full are split on
 * the way down before a child is put in, so that a split never has to go further up; those that
 * have few children are joined with one beside them on the way up.
 *
 * Ordering. references: who finds that a node has one reference has the only one (only the token's
 * holder makes more). Its acquire load pairs with the release of the one who let go last, so that
 * what that thread has read is behind. Progress: nothing waits. Reclamation: by references alone; a
 * node is freed by who lets go of it last. */
#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/tree_inner.h"

#define CHILDREN_FIRST 4                     /* an inner node begins with room for so many */
#define CHILDREN_MORE  8                     /* and later gets room for so many more */
#define CHILDREN_FEW   (TREE_FANOUT / 4)     /* fewer are joined with a node beside */
#define CHILDREN_MOST  (TREE_FANOUT * 3 / 4) /* but not to more than this */

/* --- Nodes ------------------------------------------------------------------------------------ */

static size_t leaf_size(const struct tree_leaf *leaf) {
    return sizeof *leaf + leaf->capacity;
}

struct tree_leaf *tree_leaf_make(size_t capacity) {
    ASSERT(capacity <= TREE_LEAF_BYTES_MAX);
    struct tree_leaf *leaf = memory_alloc_object(sizeof *leaf + capacity);
    atomic_init(&leaf->references, 1);
    leaf->count = leaf->bytes = leaf->begin = 0;
    leaf->capacity = (uint16_t)capacity;
    return leaf;
}

void tree_leaf_free(struct tree_leaf *leaf) {
    memory_free_object(leaf, leaf_size(leaf));
}

/* With what it refers to. */
static size_t leaf_bytes(const struct tree *tree, const struct tree_leaf *leaf) {
    size_t outside = tree->kind->outside_bytes ? tree->kind->outside_bytes(leaf) : 0;
    return memory_object_bytes(leaf_size(leaf)) + outside;
}

/* height: of the node. */
static struct tree_inner *inner_make(struct tree *tree, unsigned capacity, unsigned height) {
    unsigned key_words = tree->kind->key_words;
    size_t size = inner_size_of(capacity, key_words, height == 1);
    struct tree_inner *inner = memory_alloc_object(size);
    atomic_init(&inner->references, 1);
    inner->children = 0;
    inner->capacity = (uint8_t)capacity;
    inner->key_words = (uint8_t)key_words;
    inner->is_lowest = height == 1;
    tree->bytes += memory_object_bytes(size);
    return inner;
}

/* Room for so many children, as a new node gets it. */
static unsigned capacity_for(unsigned children) {
    unsigned capacity = (children + CHILDREN_MORE - 1) / CHILDREN_MORE * CHILDREN_MORE;
    return children <= CHILDREN_FIRST ? CHILDREN_FIRST : capacity;
}

static _Atomic uint32_t *references_of(void *node, bool is_leaf) {
    return is_leaf ? &((struct tree_leaf *)node)->references
                   : &((struct tree_inner *)node)->references;
}

static void acquire_node(void *node, bool is_leaf) {
    atomic_fetch_add_explicit(references_of(node, is_leaf), 1, memory_order_relaxed);
}

static bool is_shared(void *node, bool is_leaf) {
    return atomic_load_explicit(references_of(node, is_leaf), memory_order_acquire) != 1;
}

/* One reference less; the last one goes on below. height: inner nodes from there to a leaf. Any
 * thread. */
static void release_node(const struct tree_kind *kind, void *node, unsigned height) {
    if (atomic_fetch_sub_explicit(references_of(node, height == 0), 1, memory_order_acq_rel) != 1)
        return;
    if (height == 0) {
        if (kind->release)
            kind->release(node);
        tree_leaf_free(node);
        return;
    }
    struct tree_inner *inner = node;
    for (unsigned i = 0; i < inner->children; i++)
        release_node(kind, inner_nodes(inner)[i], height - 1);
    memory_free_object(inner, inner_size(inner));
}

/* The inner node alone is no longer this tree's. */
static void forget_inner(struct tree *tree, const struct tree_inner *inner) {
    tree->bytes -= memory_object_bytes(inner_size(inner));
}

void tree_clear(struct tree *tree) {
    if (tree->root)
        release_node(tree->kind, tree->root, tree->height);
    tree_init(tree, tree->kind);
}

void tree_share(struct tree *copy, const struct tree *tree) {
    *copy = *tree;
    if (tree->root)
        acquire_node(tree->root, tree->height == 0);
}

/* --- What is shared is copied ----------------------------------------------------------------- */

/* Where the tree has the path's node of this depth, or its leaf (depth: the height). */
static void **place_of(struct tree *tree, const struct tree_path *path, unsigned depth) {
    return depth == 0 ? &tree->root : &inner_nodes(path->node[depth - 1])[path->index[depth - 1]];
}

/* height: of the node itself. Both have the same children then. */
static struct tree_inner *copy_inner(struct tree *tree, const struct tree_inner *inner,
                                     unsigned height) {
    struct tree_inner *copy = inner_make(tree, inner->capacity, height);
    forget_inner(tree, inner);
    copy->children = inner->children;
    inner_move(copy, 0, inner, 0, inner->children);
    for (unsigned i = 0; i < copy->children; i++)
        acquire_node(inner_nodes(copy)[i], height == 1);
    return copy;
}

/* What lies at *place is nobody else's afterwards. */
static struct tree_inner *unshare_inner(struct tree *tree, void **place, unsigned height) {
    struct tree_inner *inner = *place;
    if (!is_shared(inner, false))
        return inner;
    struct tree_inner *copy = copy_inner(tree, inner, height);
    *place = copy;
    release_node(tree->kind, inner, height);
    return copy;
}

static void unshare_path(struct tree *tree, struct tree_path *path) {
    for (unsigned depth = 0; depth < tree->height; depth++)
        path->node[depth] = unshare_inner(tree, place_of(tree, path, depth), tree->height - depth);
}

struct tree_leaf *tree_writable(struct tree *tree, struct tree_path *path) {
    unshare_path(tree, path);
    struct tree_leaf *leaf = path->leaf;
    if (!is_shared(leaf, true))
        return leaf;
    struct tree_leaf *copy = tree_leaf_make(leaf->capacity);
    copy->count = leaf->count;
    copy->bytes = leaf->bytes;
    copy->begin = leaf->begin;
    memcpy(copy->data, leaf->data, leaf->capacity);
    if (tree->kind->acquire)
        tree->kind->acquire(copy);
    *place_of(tree, path, tree->height) = path->leaf = copy;
    release_node(tree->kind, leaf, 0);
    return copy;
}

/* --- What inner nodes know -------------------------------------------------------------------- */

/* The first key of what lies below the path's child at this depth is another one: above too, as far
 * as it is the first. */
static void set_first(struct tree_path *path, unsigned depth, struct tree_key key) {
    for (;; depth--) {
        inner_set_first(path->node[depth], path->index[depth], key);
        if (depth == 0 || path->index[depth] != 0)
            return;
    }
}

static void add_count(struct tree *tree, struct tree_path *path, unsigned depths, int64_t delta) {
    if (delta == 0)
        return; /* nothing is written */
    tree->count += (uint64_t)delta;
    for (unsigned depth = 0; depth < depths; depth++) {
        struct tree_inner *inner = path->node[depth];
        unsigned i = path->index[depth];
        inner_set_count(inner, i, inner_count(inner, i) + (uint64_t)delta);
    }
}

static void leaf_changed(struct tree *tree, struct tree_path *path, int64_t delta) {
    add_count(tree, path, tree->height, delta);
    if (tree->height > 0 && tree->kind->first && !path->keeps_first)
        set_first(path, tree->height - 1, tree->kind->first(path->leaf));
}

static struct tree_child child_for_leaf(const struct tree *tree, struct tree_leaf *leaf) {
    struct tree_child child = {.count = leaf->count, .node = leaf};
    if (tree->kind->first)
        child.first = tree->kind->first(leaf);
    return child;
}

static uint64_t sum_counts(const struct tree_inner *inner) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < inner->children; i++)
        sum += inner_count(inner, i);
    return sum;
}

/* --- More children ---------------------------------------------------------------------------- */

/* The path's node at this depth, which is nobody else's, gets room for so many children. */
static struct tree_inner *resize_inner(struct tree *tree, struct tree_path *path, unsigned depth,
                                       unsigned capacity) {
    struct tree_inner *inner = path->node[depth];
    struct tree_inner *other = inner_make(tree, capacity, tree->height - depth);
    other->children = inner->children;
    inner_move(other, 0, inner, 0, inner->children);
    forget_inner(tree, inner);
    *place_of(tree, path, depth) = path->node[depth] = other;
    memory_free_object(inner, inner_size(inner));
    return other;
}

/* Puts a child into the path's node at this depth, which is nobody else's and not full. */
static void insert_child(struct tree *tree, struct tree_path *path, unsigned depth, unsigned at,
                         struct tree_child child) {
    struct tree_inner *inner = path->node[depth];
    if (inner->children == inner->capacity)
        inner = resize_inner(tree, path, depth, capacity_for(inner->children + 1u));
    inner_move(inner, at + 1, inner, at, inner->children - at);
    inner_set(inner, at, child);
    inner->children++;
}

/* A new root above the old one; the path is longer by it. */
static void grow_root(struct tree *tree, struct tree_path *path) {
    ASSERT(tree->height < TREE_DEPTH_MAX);
    struct tree_inner *root = inner_make(tree, CHILDREN_FIRST, tree->height + 1);
    struct tree_child child = {.count = tree->count, .node = tree->root};
    if (tree->kind->first)
        child.first = tree->kind->first(tree_leftmost(tree->root, tree->height));
    inner_set(root, 0, child);
    root->children = 1;
    memmove(&path->node[1], &path->node[0], tree->height * sizeof path->node[0]);
    memmove(&path->index[1], &path->index[0], tree->height * sizeof path->index[0]);
    path->node[0] = root;
    path->index[0] = 0;
    tree->root = root;
    tree->height++;
}

/* The path's node at this depth, which is full, becomes two; the one above is not full. */
static void split_inner(struct tree *tree, struct tree_path *path, unsigned depth) {
    struct tree_inner *left = path->node[depth];
    unsigned moved = TREE_FANOUT / 2, kept = left->children - moved;
    struct tree_inner *right = inner_make(tree, capacity_for(moved + 1), tree->height - depth);
    inner_move(right, 0, left, kept, moved);
    right->children = (uint8_t)moved;
    left->children = (uint8_t)kept;
    left = resize_inner(tree, path, depth, capacity_for(kept + 1));
    unsigned at = path->index[depth - 1];
    inner_set_count(path->node[depth - 1], at, sum_counts(left));
    struct tree_child child = {inner_first(right, 0), sum_counts(right), right};
    insert_child(tree, path, depth - 1, at + 1, child);
    if (path->index[depth] >= kept) {
        path->node[depth] = right;
        path->index[depth] = (uint8_t)(path->index[depth] - kept);
        path->index[depth - 1]++;
    }
}

/* Behind the path's leaf, whose path is nobody else's and stays valid. */
static void insert_leaf_behind(struct tree *tree, struct tree_path *path, struct tree_leaf *leaf) {
    if (tree->height == 0 || path->node[0]->children == TREE_FANOUT)
        grow_root(tree, path);
    for (unsigned depth = 1; depth < tree->height; depth++)
        if (path->node[depth]->children == TREE_FANOUT)
            split_inner(tree, path, depth);
    unsigned last = tree->height - 1;
    insert_child(tree, path, last, path->index[last] + 1u, child_for_leaf(tree, leaf));
    add_count(tree, path, last, leaf->count);
    tree->bytes += leaf_bytes(tree, leaf);
}

/* The path's leaf becomes as many as it takes. */
static void split_leaf(struct tree *tree, struct tree_path *path) {
    const struct tree_kind *kind = tree->kind;
    struct tree_leaf *leaf = path->leaf;
    unsigned whole = leaf->count;
    tree->bytes -= leaf_bytes(tree, leaf);
    struct tree_leaf *behind = kind->split(&leaf);
    ASSERT(leaf->count > 0 && behind->count > 0 && leaf->count + behind->count == whole);
    path->leaf = *place_of(tree, path, tree->height) = leaf;
    tree->bytes += leaf_bytes(tree, leaf);
    leaf_changed(tree, path, (int64_t)leaf->count - whole);
    insert_leaf_behind(tree, path, behind);
}

/* --- Fewer children --------------------------------------------------------------------------- */

/* Takes a child out of the path's node at this depth; the node may be left without any. */
static void remove_child(struct tree_path *path, unsigned depth, unsigned at) {
    struct tree_inner *inner = path->node[depth];
    inner->children--;
    inner_move(inner, at, inner, at + 1, inner->children - at);
    if (at == 0 && depth > 0 && inner->children > 0)
        set_first(path, depth - 1, inner_first(inner, 0));
}

/* Moves the children of the path's node at this depth and of one beside it into one node, if they
 * are few enough. */
static void join_inner(struct tree *tree, struct tree_path *path, unsigned depth) {
    struct tree_inner *above = path->node[depth - 1];
    if (above->children < 2)
        return;
    unsigned at = path->index[depth - 1], left_at = at > 0 ? at - 1 : 0;
    unsigned height = tree->height - depth;
    struct tree_inner *left = inner_nodes(above)[left_at], *right = inner_nodes(above)[left_at + 1];
    unsigned sum = left->children + (unsigned)right->children;
    if (sum > CHILDREN_MOST)
        return;
    struct tree_inner *joined = inner_make(tree, capacity_for(sum), height);
    inner_move(joined, 0, left, 0, left->children);
    inner_move(joined, left->children, right, 0, right->children);
    joined->children = (uint8_t)sum;
    for (unsigned i = 0; i < sum; i++)
        acquire_node(inner_nodes(joined)[i], height == 1);
    forget_inner(tree, left);
    forget_inner(tree, right);
    release_node(tree->kind, left, height);
    release_node(tree->kind, right, height);
    inner_nodes(above)[left_at] = joined;
    inner_set_count(above, left_at, inner_count(above, left_at) + inner_count(above, left_at + 1));
    remove_child(path, depth - 1, left_at + 1);
}

/* After a child was taken out at this depth: nodes without children go, nodes with few are joined
 * with others, and a root with a single child gives way to it. */
static void shrink(struct tree *tree, struct tree_path *path, unsigned depth) {
    for (; depth > 0; depth--) {
        struct tree_inner *inner = path->node[depth];
        if (inner->children == 0) {
            forget_inner(tree, inner);
            memory_free_object(inner, inner_size(inner));
            remove_child(path, depth - 1, path->index[depth - 1]);
        } else if (inner->children < CHILDREN_FEW) {
            join_inner(tree, path, depth);
        }
    }
    while (tree->height > 0) {
        struct tree_inner *root = tree->root;
        if (root->children > 1)
            return;
        void *child = root->children ? inner_nodes(root)[0] : NULL;
        if (child)
            acquire_node(child, tree->height == 1);
        forget_inner(tree, root);
        release_node(tree->kind, root, tree->height);
        tree->root = child;
        tree->height = child ? tree->height - 1 : 0;
    }
}

/* The path's leaf has no elements any more; lost: what the counts on the path had of it. */
static void remove_leaf(struct tree *tree, struct tree_path *path, uint64_t lost) {
    struct tree_leaf *leaf = path->leaf;
    tree->bytes -= leaf_bytes(tree, leaf);
    add_count(tree, path, tree->height, -(int64_t)lost);
    release_node(tree->kind, leaf, 0);
    if (tree->height == 0) {
        tree->root = NULL;
        return;
    }
    unsigned last = tree->height - 1;
    remove_child(path, last, path->index[last]);
    shrink(tree, path, last);
}

/* The path's leaf is small: goes together with one beside it, if there is one of the same parent
 * and it is not too large. */
static void join_leaf(struct tree *tree, struct tree_path *path) {
    if (tree->height == 0)
        return;
    unsigned last = tree->height - 1;
    struct tree_inner *inner = path->node[last];
    for (int side = 0; side < 2; side++) {
        unsigned left_at = path->index[last] - (side ? 1u : 0u);
        if ((side == 1 && path->index[last] == 0) || left_at + 1 >= inner->children)
            continue;
        struct tree_leaf *left = inner_nodes(inner)[left_at],
                         *right = inner_nodes(inner)[left_at + 1];
        struct tree_leaf *both = tree->kind->merge(left, right);
        if (!both)
            continue;
        ASSERT(both->count == left->count + right->count);
        tree->bytes += leaf_bytes(tree, both);
        tree->bytes -= leaf_bytes(tree, left);
        inner_nodes(inner)[left_at] = both;
        inner_set_count(inner, left_at, both->count);
        release_node(tree->kind, left, 0);
        /* The right one goes; what the counts above say is still true. */
        path->leaf = right;
        path->index[last] = (uint8_t)(left_at + 1);
        tree->bytes -= leaf_bytes(tree, right);
        release_node(tree->kind, right, 0);
        remove_child(path, last, left_at + 1);
        shrink(tree, path, last);
        return;
    }
}

/* --- Changing --------------------------------------------------------------------------------- */

/* The leaf is as it is to be, and the counts know. */
static void settle(struct tree *tree, struct tree_path *path) {
    const struct tree_kind *kind = tree->kind;
    bool was_split = false;
    while (path->leaf->count > 1 && kind->is_large(path->leaf)) {
        split_leaf(tree, path);
        was_split = true;
    }
    if (!was_split && kind->is_small(path->leaf))
        join_leaf(tree, path);
}

void tree_update(struct tree *tree, struct tree_path *path, unsigned old_count,
                 size_t old_outside) {
    struct tree_leaf *leaf = path->leaf;
    size_t outside = tree->kind->outside_bytes ? tree->kind->outside_bytes(leaf) : 0;
    tree->bytes += outside - old_outside;
    if (leaf->count == 0) {
        remove_leaf(tree, path, old_count);
        return;
    }
    leaf_changed(tree, path, (int64_t)leaf->count - (int64_t)old_count);
    settle(tree, path);
}

void tree_put(struct tree *tree, struct tree_path *path, struct tree_leaf *leaf) {
    if (!tree->root) {
        ASSERT(leaf->count > 0);
        tree->root = path->leaf = leaf;
        tree->count = leaf->count;
        tree->bytes += leaf_bytes(tree, leaf);
        settle(tree, path);
        return;
    }
    unshare_path(tree, path);
    struct tree_leaf *old = path->leaf;
    if (leaf->count == 0) {
        tree_leaf_free(leaf);
        remove_leaf(tree, path, old->count);
        return;
    }
    int64_t delta = (int64_t)leaf->count - (int64_t)old->count;
    tree->bytes += leaf_bytes(tree, leaf) - leaf_bytes(tree, old);
    *place_of(tree, path, tree->height) = path->leaf = leaf;
    release_node(tree->kind, old, 0);
    leaf_changed(tree, path, delta);
    settle(tree, path);
}

void tree_append(struct tree *tree, struct tree_leaf *leaf) {
    struct tree_path path;
    ASSERT(leaf->count > 0);
    if (!tree->root) {
        tree->root = leaf;
        tree->count = leaf->count;
        tree->bytes += leaf_bytes(tree, leaf);
        return;
    }
    tree_descend(tree, &path, 0, tree->root, true);
    unshare_path(tree, &path);
    insert_leaf_behind(tree, &path, leaf);
}

/* --- Check ------------------------------------------------------------------------------------ */

struct checked {
    uint64_t count, bytes;
};

static struct checked check_node(const struct tree *tree, const void *node, unsigned height) {
    if (height == 0) {
        const struct tree_leaf *leaf = node;
        ASSERT(leaf->count > 0 && atomic_load(&leaf->references) > 0);
        ASSERT(leaf->bytes <= leaf->capacity);
        if (tree->kind->check)
            tree->kind->check(leaf);
        return (struct checked){leaf->count, leaf_bytes(tree, leaf)};
    }
    const struct tree_inner *inner = node;
    struct checked sum = {0, memory_object_bytes(inner_size(inner))};
    ASSERT(inner->children > 0 && inner->children <= inner->capacity);
    ASSERT(inner->capacity <= TREE_FANOUT && atomic_load(&inner->references) > 0);
    ASSERT(inner->is_lowest == (height == 1) && inner->key_words == tree->kind->key_words);
    for (unsigned i = 0; i < inner->children; i++) {
        const struct tree_child child = inner_get(inner, i);
        struct checked below = check_node(tree, child.node, height - 1);
        ASSERT(below.count == child.count);
        sum.count += below.count;
        sum.bytes += below.bytes;
        if (!tree->kind->first)
            continue;
        struct tree_key first = tree->kind->first(tree_leftmost(child.node, height - 1));
        ASSERT(tree_compare_keys(first, child.first) == 0);
        ASSERT(i == 0 || tree_compare_keys(inner_first(inner, i - 1), first) <= 0);
    }
    return sum;
}

void tree_check(const struct tree *tree) {
    if (!tree->root) {
        ASSERT(tree->count == 0 && tree->bytes == 0 && tree->height == 0);
        return;
    }
    ASSERT(tree->height <= TREE_DEPTH_MAX);
    ASSERT(tree->height == 0 || ((const struct tree_inner *)tree->root)->children > 1);
    struct checked sum = check_node(tree, tree->root, tree->height);
    ASSERT(sum.count == tree->count && sum.bytes == tree->bytes);
}
