/* Tree: what all large collections consist of. A B+tree whose leaves are packed pieces of memory of
 * some hundred bytes to 4 KB, and whose inner nodes know how many elements lie below each child.
 * What a leaf has in it, and by what it is ordered, is its kind's business: members by their hash
 * (hashes, sets), members by their score (sorted sets), or just positions (lists).
 *
 *   tree ── inner (counts, first keys) ── inner ── leaf: references, count, bytes | packed elements
 *
 * Sharing. Nodes are counted. tree_share makes a second tree of the same content in constant time;
 * whoever changes a tree copies those nodes on the way to the leaf that another tree has too, one
 * leaf and at most TREE_DEPTH_MAX inner nodes. So a snapshot that shares a tree under its token
 * reads it afterwards without one, while the key goes on changing, and COPY copies nothing.
 *
 * Invariants. All leaves are at the same depth; no leaf is empty; a root that is an inner node has
 * two children at least; counts are the sums of what is below; key[i] is the first key of child i;
 * bytes is what all nodes take in memory, blobs that leaves refer to included, shared or not.
 *
 * Threads. A tree is changed by who holds its token, and read by who does or by who alone has it (a
 * shared one). Only the token's holder shares it, so that a node that is nobody else's cannot
 * become shared meanwhile; any thread may free a tree. */
#ifndef SLOTWISE_ENGINE_TYPES_TREE_H
#define SLOTWISE_ENGINE_TYPES_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TREE_DEPTH_MAX      12
#define TREE_LEAF_BYTES_MAX 65535

/* By what the elements of a tree are ordered: major, then minor, then as the kind compares. */
struct tree_key {
    uint64_t major, minor;
};

struct tree_leaf {
    _Atomic uint32_t references;
    uint16_t count;    /* elements; never 0 in a tree */
    uint16_t bytes;    /* of data that are used: from 0, or from begin where the kind uses that */
    uint16_t capacity; /* of data */
    uint16_t begin;    /* the kind's */
    uint8_t data[];
};

struct tree_kind {
    /* How much of a key is used: 0: positions only; 1: minor is always 0; 2. */
    unsigned key_words;
    /* The key of the leaf's first element. NULL if key_words is 0. */
    struct tree_key (*first)(const struct tree_leaf *leaf);
    /* Of a sought element and the leaf's first one, whose keys are equal: below 0 if it comes
     * before. NULL: it does not; elements of equal keys are in one leaf then. */
    int (*compare)(const void *sought, const struct tree_leaf *leaf);
    /* The leaf is too large, and has two elements at least. */
    bool (*is_large)(const struct tree_leaf *leaf);
    /* Takes the upper part, about half, out of a leaf that nobody else has into a new one, which it
     * returns. *leaf may become another one; the old one is then the kind's to free
     * (tree_leaf_free). */
    struct tree_leaf *(*split)(struct tree_leaf **leaf);
    /* The leaf should go together with one beside it. */
    bool (*is_small)(const struct tree_leaf *leaf);
    /* Both in one new leaf, if that is not nearly large, else NULL. Neither is changed; what they
     * refer to is referred to once more. */
    struct tree_leaf *(*merge)(const struct tree_leaf *left, const struct tree_leaf *right);
    /* What the leaf refers to has one more owner, or one less (the leaf itself is freed by the
     * tree); its memory. NULL: leaves refer to nothing. */
    void (*acquire)(const struct tree_leaf *leaf);
    void (*release)(const struct tree_leaf *leaf);
    size_t (*outside_bytes)(const struct tree_leaf *leaf);
    /* ASSERTs all that is to be true of a leaf. */
    void (*check)(const struct tree_leaf *leaf);
};

struct tree_inner;

struct tree {
    const struct tree_kind *kind;
    void *root; /* an inner node, or the only leaf, or NULL: no elements */
    uint64_t count;
    uint64_t bytes;
    unsigned height; /* inner nodes from the root to a leaf */
};

/* A leaf, and how to get there. Valid until the tree changes. */
struct tree_path {
    struct tree_leaf *leaf;                  /* NULL: the tree is empty */
    uint64_t before;                         /* elements in front of the leaf */
    struct tree_inner *node[TREE_DEPTH_MAX]; /* from the root down */
    uint8_t index[TREE_DEPTH_MAX];
    /* false when it was found. Who changes the leaf may say that its first element has the same key
     * afterwards, which then is not computed anew. */
    bool keeps_first;
};

static inline void tree_init(struct tree *tree, const struct tree_kind *kind) {
    *tree = (struct tree){.kind = kind};
}
/* Lets go of all nodes; takes as long as there are nodes that nobody else has. Empty afterwards. */
void tree_clear(struct tree *tree);
/* An uninitialised tree becomes one of the same content. Constant time. */
void tree_share(struct tree *copy, const struct tree *tree);
/* ASSERTs all invariants, and that the order is right. */
void tree_check(const struct tree *tree);

/* --- Leaves ----------------------------------------------------------------------------------- */

/* Of one reference, count and bytes 0, begin 0; capacity may be rounded up to what is there anyway.
 */
struct tree_leaf *tree_leaf_make(size_t capacity);
/* One that is in no tree; what it refers to is not touched. */
void tree_leaf_free(struct tree_leaf *leaf);

/* --- Finding ---------------------------------------------------------------------------------- */

/* The leaf where the sought element is, or where it belongs: the last one whose first element is
 * not behind it, else the first one. */
void tree_find(const struct tree *tree, struct tree_key key, const void *sought,
               struct tree_path *path);
/* A search that many do at once, so that their waits for memory overlap: each step reads only what
 * the one before has fetched. By keys alone: nothing depends on what is found. */
struct tree_probe {
    const void *node; /* the leaf when there are no more steps; NULL: the tree is empty */
    const struct tree_kind *kind;
    struct tree_key key;
    unsigned height;    /* of the node */
    void *const *child; /* where the node has the next one; NULL: not yet known */
};
void tree_probe_begin(const struct tree *tree, struct tree_key key, struct tree_probe *probe);
bool tree_probe_step(struct tree_probe *probe); /* false: there are no more */
/* The leaf of the element at a position below tree->count; returns which it is there. */
unsigned tree_at(const struct tree *tree, uint64_t position, struct tree_path *path);
/* The elements in front of the path's leaf. */
uint64_t tree_before(const struct tree *tree, const struct tree_path *path);
void tree_first(const struct tree *tree, struct tree_path *path);
void tree_last(const struct tree *tree, struct tree_path *path);
/* The leaf behind, in front. false: there is none, and the path is as it was. */
bool tree_next(const struct tree *tree, struct tree_path *path);
bool tree_previous(const struct tree *tree, struct tree_path *path);

/* --- Changing --------------------------------------------------------------------------------- */

/* The path's leaf and all above are nobody else's afterwards: the leaf, which may be another one
 * now, may be changed in place; tree_update must follow, unless the leaf has the same count, first
 * key and size and as many bytes outside as before. */
struct tree_leaf *tree_writable(struct tree *tree, struct tree_path *path);
/* The leaf, writable, was changed in place: counts, bytes and keys follow, too large a leaf is
 * split, too small a one merged, an empty one taken out. old_count and old_bytes: the leaf's count,
 * and kind->outside_bytes before, 0 without. The path is not valid any more. */
void tree_update(struct tree *tree, struct tree_path *path, unsigned old_count, size_t old_outside);
/* The same for a leaf that takes the place of the path's one (of an empty tree: the first leaf).
 * The new one is made by the caller; what both refer to has been referred to once more. Of count 0:
 * the leaf goes, and the new one is freed. */
void tree_put(struct tree *tree, struct tree_path *path, struct tree_leaf *leaf);
/* Behind all others: for building in order. Not small and not large. */
void tree_append(struct tree *tree, struct tree_leaf *leaf);

#endif
