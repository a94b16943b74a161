/* See score_order.h.
 *
 * A leaf is changed in place where its memory and its width allow it; else a new one of the right
 * size takes its place. What lies outside is counted: a leaf that is made out of another refers to
 * it once more, and the tree lets go of the other one. */
#include "engine/types/score_order.h"

#define PREFETCHED_BYTES 512 /* most of a leaf of short members */
#define SLACK_MAX        64 /* a removal leaves unused up to this, which an insertion may then take */

/* --- Adding ----------------------------------------------------------------------------------- */

static void add_item(struct tree *order, struct tree_path *path, unsigned index,
                     const struct score_item *item) {
    struct tree_leaf *leaf = path->leaf;
    path->keeps_first = index > 0;
    if (leaf && score_leaf_fits(leaf, item->code) &&
        leaf->bytes + score_leaf_width(leaf) + 1u + score_item_bytes(item) <= leaf->capacity) {
        unsigned old_count = leaf->count;
        size_t old_outside = score_leaf_outside_bytes(leaf);
        leaf = tree_writable(order, path);
        if (LIKELY(leaf->bytes + score_leaf_width(leaf) + 1u + score_item_bytes(item) <=
                   leaf->capacity)) {
            score_leaf_insert(leaf, index, item);
            tree_update(order, path, old_count, old_outside);
            return;
        }
    }
    tree_put(order, path, score_leaf_with(leaf, index, item));
}

static inline struct tree_key key_of(uint64_t code, const struct score_sought *sought) {
    return (struct tree_key){score_code_order(code),
                             sought->data ? score_member_prefix(sought->data, sought->length) : 0};
}

static inline void fetch_leaf(const struct tree_leaf *leaf) {
    for (unsigned at = 0; at < PREFETCHED_BYTES; at += 64)
        __builtin_prefetch((const char *)leaf + at);
}

/* As tree_find; what will be looked at of the leaf is on its way. */
static inline void find_leaf(const struct tree *order, uint64_t code,
                             const struct score_sought *sought, struct tree_path *path) {
    tree_find(order, key_of(code, sought), sought, path);
    if (path->leaf)
        fetch_leaf(path->leaf);
}

void score_order_add(struct tree *order, double score, const char *member, size_t length,
                     struct blob *blob) {
    struct score_sought sought = {member, length};
    struct score_item item = {score_code(score), NULL, member, (uint8_t)length};
    if (UNLIKELY(length > SCORE_INLINE_MAX)) {
        item.blob = blob ? blob_lend(blob) : blob_make(length, length);
        if (!blob)
            memcpy(item.blob->data, member, length);
        item.length = SCORE_OUTSIDE;
    }
    struct tree_path path;
    bool equal = false;
    find_leaf(order, item.code, &sought, &path);
    unsigned index =
        path.leaf ? score_leaf_find(path.leaf, score_code_order(item.code), &sought, &equal) : 0;
    ASSERT(!equal);
    add_item(order, &path, index, &item);
}

/* --- Removing --------------------------------------------------------------------------------- */

static void remove_items(struct tree *order, struct tree_path *path, unsigned first,
                         unsigned count) {
    struct tree_leaf *leaf = path->leaf;
    size_t gone = score_members_before(leaf, first + count) - score_members_before(leaf, first) +
                  count * (score_leaf_width(leaf) + 1u);
    path->keeps_first = first > 0;
    if (count == leaf->count || leaf->bytes - gone + SLACK_MAX < leaf->capacity) {
        tree_put(order, path, score_leaf_without(leaf, first, count));
        return;
    }
    unsigned old_count = leaf->count;
    size_t old_outside = score_leaf_outside_bytes(leaf);
    leaf = tree_writable(order, path);
    score_leaf_return_blobs(leaf, first, count);
    score_leaf_remove(leaf, first, count);
    tree_update(order, path, old_count, old_outside);
}

/* The path and the index of an element that is there. */
static unsigned find_present(struct tree *order, double score, const struct score_sought *sought,
                             struct tree_path *path) {
    uint64_t code = score_code(score);
    bool equal = false;
    find_leaf(order, code, sought, path);
    ASSERT(path->leaf);
    unsigned index = score_leaf_find(path->leaf, score_code_order(code), sought, &equal);
    ASSERT(equal);
    return index;
}

void score_order_remove(struct tree *order, double score, const char *member, size_t length) {
    struct score_sought sought = {member, length};
    struct tree_path path;
    unsigned index = find_present(order, score, &sought, &path);
    remove_items(order, &path, index, 1);
}

void score_order_remove_range(struct tree *order, uint64_t position, uint64_t count) {
    while (count > 0) {
        struct tree_path path;
        unsigned first = tree_at(order, position, &path), there = path.leaf->count - first;
        unsigned removed = count < there ? (unsigned)count : there;
        remove_items(order, &path, first, removed);
        count -= removed;
    }
}

/* The new score leaves the element where it is among its neighbours in the leaf: it is only written
 * anew. The first one of a leaf is left to the general way, since the key of the leaf changes. */
static bool move_in_place(struct tree *order, struct tree_path *path, unsigned index,
                          double new_score) {
    const struct tree_leaf *leaf = path->leaf;
    uint64_t code = score_code(new_score), here = score_code_order(code);
    if (index == 0 || index + 1u >= leaf->count || !score_leaf_fits(leaf, code) ||
        score_code_order(score_leaf_code(leaf, index - 1)) >= here ||
        score_code_order(score_leaf_code(leaf, index + 1)) <= here)
        return false;
    struct tree_leaf *own = tree_writable(order, path);
    score_code_store(own->data + SCORE_HEADER_BYTES + index * score_leaf_width(own), code,
                     score_leaf_width(own), own->data[SCORE_AT_ZEROS]);
    return true;
}

void score_order_move(struct tree *order, double old_score, double new_score, const char *member,
                      size_t length) {
    struct score_sought sought = {member, length};
    struct tree_path path;
    unsigned index = find_present(order, old_score, &sought, &path);
    if (move_in_place(order, &path, index, new_score))
        return;
    struct blob *blob = NULL;
    if (UNLIKELY(length > SCORE_INLINE_MAX))
        blob = blob_lend(score_leaf_blob(path.leaf, index));
    remove_items(order, &path, index, 1);
    score_order_add(order, new_score, member, length, blob);
    if (blob)
        blob_return(blob);
}

/* --- Positions -------------------------------------------------------------------------------- */

static uint64_t rank_of(const struct tree *order, uint64_t code,
                        const struct score_sought *sought) {
    struct tree_path path;
    bool equal;
    find_leaf(order, code, sought, &path);
    if (!path.leaf)
        return 0;
    return tree_before(order, &path) +
           score_leaf_find(path.leaf, score_code_order(code), sought, &equal);
}

uint64_t score_order_rank(const struct tree *order, double score, const char *member,
                          size_t length) {
    return rank_of(order, score_code(score), &(struct score_sought){member, length});
}

uint64_t score_order_below(const struct tree *order, double score, bool equal) {
    /* Before all members of the next higher score are all of this one. */
    return rank_of(order, score_code_order(score_code(score)) + equal,
                   &(struct score_sought){NULL, 0});
}

uint64_t score_order_before(const struct tree *order, const char *member, size_t length,
                            bool equal) {
    uint64_t low = 0, high = order->count;
    while (low < high) {
        struct tree_path path;
        size_t here_length;
        uint64_t middle = low + (high - low) / 2;
        unsigned index = tree_at(order, middle, &path);
        const char *here = score_leaf_member(path.leaf, index, &here_length);
        int compared = score_compare_members(here, here_length, member, length);
        if (compared < 0 || (compared == 0 && equal))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void score_order_fetch(const struct score_place *places, unsigned n) {
    struct tree_probe probes[SCORE_PLACES_MAX];
    ASSERT(n <= SCORE_PLACES_MAX);
    for (unsigned i = 0; i < n; i++) {
        const struct score_sought sought = {places[i].member, places[i].length};
        tree_probe_begin(places[i].order, key_of(score_code(places[i].score), &sought), &probes[i]);
    }
    for (bool more = true; more;) {
        more = false;
        for (unsigned i = 0; i < n; i++)
            more |= tree_probe_step(&probes[i]);
    }
    for (unsigned i = 0; i < n; i++)
        if (probes[i].node)
            fetch_leaf(probes[i].node);
}

/* --- Walking ---------------------------------------------------------------------------------- */

void score_cursor_at(struct score_cursor *cursor, const struct tree *order, uint64_t position) {
    cursor->order = order;
    cursor->index = tree_at(order, position, &cursor->path);
    const struct tree_leaf *leaf = cursor->path.leaf;
    cursor->member = score_leaf_members(leaf) + score_members_before(leaf, cursor->index);
}

bool score_cursor_next(struct score_cursor *cursor) {
    const struct tree_leaf *leaf = cursor->path.leaf;
    if (cursor->index + 1u < leaf->count) {
        cursor->member += score_place_bytes(score_leaf_lengths(leaf)[cursor->index++]);
        return true;
    }
    if (!tree_next(cursor->order, &cursor->path))
        return false;
    cursor->index = 0;
    cursor->member = score_leaf_members(cursor->path.leaf);
    return true;
}

bool score_cursor_previous(struct score_cursor *cursor) {
    if (cursor->index > 0) {
        cursor->member -= score_place_bytes(score_leaf_lengths(cursor->path.leaf)[--cursor->index]);
        return true;
    }
    if (!tree_previous(cursor->order, &cursor->path))
        return false;
    const struct tree_leaf *leaf = cursor->path.leaf;
    cursor->index = leaf->count - 1u;
    cursor->member = score_leaf_members(leaf) + score_members_before(leaf, cursor->index);
    return true;
}

double score_cursor_get(const struct score_cursor *cursor, struct element *member) {
    const struct tree_leaf *leaf = cursor->path.leaf;
    if (member) {
        bool outside = score_leaf_lengths(leaf)[cursor->index] == SCORE_OUTSIDE;
        member->data = score_member_get(leaf, cursor->index, cursor->member, &member->length);
        member->integer = 0;
        member->blob = outside ? blob_at(cursor->member) : NULL;
    }
    return score_of_code(score_leaf_code(leaf, cursor->index));
}
