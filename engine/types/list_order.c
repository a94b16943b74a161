/* See list_order.h.
 *
 * Algorithm. A leaf that has no room for an entry, at the end where it is wanted, is moved within
 * itself so that all free room is there, if there is enough of it to be worth that; else it is
 * copied into one of more capacity, up to LEAF_ENTRIES_MAX. From there on a push at an end begins a
 * new leaf, so that a list that only grows has full leaves, and an insertion in the middle makes
 * two halves. Both happen in the tree's split: a leaf with more entries than LEAF_ENTRIES_MAX is
 * never seen by anybody else, lies from DATA_FIRST on and has in begin the number of entries that
 * stay in the lower part, 0: half of the bytes.
 *
 * Reclamation: blobs by their references, one for each leaf that refers to them. */
#include "engine/types/list_order.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/blob.h"
#include "engine/memory.h"

#define LEAF_CAPACITY    (4096 - sizeof(struct tree_leaf))
#define DATA_FIRST       sizeof(uint64_t) /* where entries may begin */
#define LEAF_ENTRIES_MAX (LEAF_CAPACITY - DATA_FIRST)
#define LEAF_FREE_WORTH  (LEAF_CAPACITY / 16) /* less free room than this stays where it is */
#define LEAF_SMALL       (LEAF_ENTRIES_MAX / 4)
#define LEAF_JOINED_MAX  (LEAF_ENTRIES_MAX * 3 / 4)

#define OUTSIDE_MARK        0xf0 /* a string with a length of 32 bits */
#define OUTSIDE_ENTRY_BYTES 14   /* mark, length 8, address, length of all that */

/* Where the free room of a leaf is to be. */
enum free_room { FREE_IN_FRONT, FREE_BEHIND, FREE_ON_BOTH_SIDES };

/* --- Leaves ----------------------------------------------------------------------------------- */

static bool is_large(const struct tree_leaf *leaf) {
    return leaf->bytes > LEAF_ENTRIES_MAX;
}

static bool is_small(const struct tree_leaf *leaf) {
    return leaf->bytes < LEAF_SMALL;
}

static uint8_t *entries_of(const struct tree_leaf *leaf) {
    return (uint8_t *)leaf->data + (is_large(leaf) ? DATA_FIRST : leaf->begin);
}

static const uint8_t *entries_end(const struct tree_leaf *leaf) {
    return entries_of(leaf) + leaf->bytes;
}

static uint64_t outside_get(const struct tree_leaf *leaf) {
    uint64_t bytes;
    memcpy(&bytes, leaf->data, sizeof bytes);
    return bytes;
}

static void outside_set(struct tree_leaf *leaf, uint64_t bytes) {
    memcpy(leaf->data, &bytes, sizeof bytes);
}

static size_t outside_bytes(const struct tree_leaf *leaf) {
    return outside_get(leaf);
}

/* Of no entries yet; the allocator's size classes are used up. */
static struct tree_leaf *leaf_make(size_t capacity) {
    size_t whole = memory_object_bytes(sizeof(struct tree_leaf) + capacity);
    struct tree_leaf *leaf = tree_leaf_make(whole - sizeof(struct tree_leaf));
    outside_set(leaf, 0);
    leaf->begin = DATA_FIRST;
    return leaf;
}

/* The leaf is to have so many bytes of entries: where they begin. */
static void leaf_place(struct tree_leaf *leaf, size_t bytes, enum free_room room) {
    size_t left = leaf->capacity - DATA_FIRST - bytes;
    leaf->bytes = (uint16_t)bytes;
    leaf->begin = (uint16_t)(DATA_FIRST + (room == FREE_IN_FRONT ? left
                                           : room == FREE_BEHIND ? 0
                                                                 : left / 2));
}

/* Capacity of a leaf with so many bytes of entries and some room for more. */
static size_t capacity_for(size_t bytes) {
    size_t capacity = DATA_FIRST + bytes + bytes / 8 + 64;
    return capacity < LEAF_CAPACITY ? capacity : LEAF_CAPACITY;
}

/* --- Entries ---------------------------------------------------------------------------------- */

static bool is_outside(const uint8_t *entry) {
    return *entry == OUTSIDE_MARK;
}

static struct blob *blob_of(const uint8_t *entry) {
    struct blob *blob;
    memcpy(&blob, entry + 5, sizeof blob);
    return blob;
}

/* As it is to be stored. */
static inline struct element entry_element(const char *data, size_t length) {
    return length > LIST_INLINE_MAX ? (struct element){.data = data, .length = length}
                                    : element_make(data, length);
}

static size_t entry_bytes(const struct element *element) {
    return UNLIKELY(element->length > LIST_INLINE_MAX) ? OUTSIDE_ENTRY_BYTES
                                                       : listpack_element_bytes(element);
}

/* There is room for it at this place of the leaf. */
static void entry_write(struct tree_leaf *leaf, uint8_t *place, const struct element *element) {
    static const uint8_t head[5] = {OUTSIDE_MARK, sizeof(struct blob *), 0, 0, 0};
    size_t length = element->length;
    if (LIKELY(length <= LIST_INLINE_MAX)) {
        listpack_element_write(place, element);
        return;
    }
    struct blob *blob = blob_make(length, length);
    memcpy(blob->data, element->data, length);
    memcpy(place, head, sizeof head);
    memcpy(place + sizeof head, &blob, sizeof blob);
    place[OUTSIDE_ENTRY_BYTES - 1] = OUTSIDE_ENTRY_BYTES - 1;
    outside_set(leaf, outside_get(leaf) + blob_bytes(blob));
}

static void entry_get(const uint8_t *entry, struct element *element) {
    if (LIKELY(!is_outside(entry))) {
        listpack_get(entry, element);
        return;
    }
    struct blob *blob = blob_of(entry);
    *element = (struct element){.data = blob->data, .length = blob->length, .blob = blob};
}

/* index: the count: the end of the entries. */
static const uint8_t *entry_at(const struct tree_leaf *leaf, unsigned index) {
    const uint8_t *entry = entries_of(leaf);
    if (index <= leaf->count / 2u) {
        for (; index > 0; index--)
            entry += listpack_entry_size(entry);
        return entry;
    }
    entry = entries_end(leaf);
    for (unsigned i = leaf->count; i > index; i--)
        entry = listpack_entry_before(entry);
    return entry;
}

/* Memory of the blobs that these entries refer to. */
static uint64_t outside_sum(const uint8_t *entry, const uint8_t *end) {
    uint64_t sum = 0;
    for (; entry < end; entry += listpack_entry_size(entry))
        if (is_outside(entry))
            sum += blob_bytes(blob_of(entry));
    return sum;
}

static void acquire_entries(const uint8_t *entry, const uint8_t *end) {
    for (; entry < end; entry += listpack_entry_size(entry))
        if (is_outside(entry))
            blob_lend(blob_of(entry));
}

static void release_entries(const uint8_t *entry, const uint8_t *end) {
    for (; entry < end; entry += listpack_entry_size(entry))
        if (is_outside(entry))
            blob_return(blob_of(entry));
}

/* --- The kind --------------------------------------------------------------------------------- */

static void acquire(const struct tree_leaf *leaf) {
    if (UNLIKELY(outside_get(leaf) > 0))
        acquire_entries(entries_of(leaf), entries_end(leaf));
}

static void release(const struct tree_leaf *leaf) {
    if (UNLIKELY(outside_get(leaf) > 0))
        release_entries(entries_of(leaf), entries_end(leaf));
}

/* A leaf of these entries, which may be copied in two parts; who refers to the blobs is the
 * caller's business. */
static struct tree_leaf *leaf_of(const uint8_t *entries, size_t bytes, unsigned count,
                                 bool has_outside, enum free_room room) {
    struct tree_leaf *leaf = leaf_make(capacity_for(bytes));
    leaf_place(leaf, bytes, room);
    leaf->count = (uint16_t)count;
    memcpy(entries_of(leaf), entries, bytes);
    if (UNLIKELY(has_outside))
        outside_set(leaf, outside_sum(entries, entries + bytes));
    return leaf;
}

/* The number of entries in the first half of the bytes: at least one, and not all. */
static unsigned half_of(const struct tree_leaf *leaf) {
    const uint8_t *first = entries_of(leaf), *entry = first + listpack_entry_size(first);
    unsigned n = 1;
    for (; n + 1u < leaf->count && entry - first < leaf->bytes / 2; n++)
        entry += listpack_entry_size(entry);
    return n;
}

static struct tree_leaf *split(struct tree_leaf **place) {
    struct tree_leaf *whole = *place;
    unsigned lower = whole->begin ? whole->begin : half_of(whole);
    const uint8_t *first = entries_of(whole), *cut = entry_at(whole, lower);
    bool has_outside = outside_get(whole) > 0;
    size_t bytes = (size_t)(cut - first);
    enum free_room of_lower = FREE_ON_BOTH_SIDES, of_upper = FREE_ON_BOTH_SIDES;
    if (whole->begin) { /* one of them has the one entry that was pushed; more will follow */
        of_lower = FREE_IN_FRONT;
        of_upper = FREE_BEHIND;
    }
    *place = leaf_of(first, bytes, lower, has_outside, of_lower);
    struct tree_leaf *upper =
        leaf_of(cut, whole->bytes - bytes, whole->count - lower, has_outside, of_upper);
    tree_leaf_free(whole);
    return upper;
}

static struct tree_leaf *merge(const struct tree_leaf *left, const struct tree_leaf *right) {
    size_t bytes = (size_t)left->bytes + right->bytes;
    if (bytes > LEAF_JOINED_MAX)
        return NULL;
    struct tree_leaf *both = leaf_make(capacity_for(bytes));
    leaf_place(both, bytes, FREE_ON_BOTH_SIDES);
    both->count = (uint16_t)(left->count + right->count);
    memcpy(entries_of(both), entries_of(left), left->bytes);
    memcpy(entries_of(both) + left->bytes, entries_of(right), right->bytes);
    outside_set(both, outside_get(left) + outside_get(right));
    acquire(both);
    return both;
}

static void check(const struct tree_leaf *leaf) {
    ASSERT(!is_large(leaf) && leaf->begin >= DATA_FIRST);
    ASSERT(leaf->begin + (size_t)leaf->bytes <= leaf->capacity);
    unsigned count = 0;
    const uint8_t *entry = entries_of(leaf);
    for (; entry < entries_end(leaf); count++) {
        const uint8_t *next = entry + listpack_entry_size(entry);
        ASSERT(listpack_entry_before(next) == entry);
        if (is_outside(entry)) {
            const struct blob *blob = blob_of(entry);
            ASSERT(next - entry == OUTSIDE_ENTRY_BYTES && blob->length > LIST_INLINE_MAX);
            ASSERT(atomic_load(&blob->references) > 0);
        }
        entry = next;
    }
    ASSERT(entry == entries_end(leaf) && count == leaf->count);
    ASSERT(outside_get(leaf) == outside_sum(entries_of(leaf), entries_end(leaf)));
}

const struct tree_kind list_order = {
    .is_large = is_large,
    .split = split,
    .is_small = is_small,
    .merge = merge,
    .acquire = acquire,
    .release = release,
    .outside_bytes = outside_bytes,
    .check = check,
};

/* --- Reading ---------------------------------------------------------------------------------- */

void list_order_at(const struct tree *tree, uint64_t position, struct element *element) {
    struct tree_path path;
    unsigned index = tree_at(tree, position, &path);
    entry_get(entry_at(path.leaf, index), element);
}

/* Towards the end of the leaf, at most *left. false: the visitor has had enough. */
static bool visit_forwards(const struct tree_leaf *leaf, unsigned index, uint64_t *left,
                           collection_visit *visit, void *context) {
    struct element element;
    const uint8_t *entry = entry_at(leaf, index), *end = entries_end(leaf);
    for (; entry<end && * left> 0; entry += listpack_entry_size(entry), --*left) {
        entry_get(entry, &element);
        if (!visit(context, &element, NULL, 0))
            return false;
    }
    return true;
}

/* The same towards the beginning; index: of the first one visited. */
static bool visit_backwards(const struct tree_leaf *leaf, unsigned index, uint64_t *left,
                            collection_visit *visit, void *context) {
    struct element element;
    const uint8_t *entry = entry_at(leaf, index + 1), *first = entries_of(leaf);
    for (; entry > first && *left > 0; --*left) {
        entry = listpack_entry_before(entry);
        entry_get(entry, &element);
        if (!visit(context, &element, NULL, 0))
            return false;
    }
    return true;
}

void list_order_visit(const struct tree *tree, uint64_t position, uint64_t count, bool backwards,
                      collection_visit *visit, void *context) {
    struct tree_path path;
    if (position >= tree->count)
        return;
    unsigned index = tree_at(tree, position, &path);
    if (backwards) {
        while (visit_backwards(path.leaf, index, &count, visit, context) && count > 0 &&
               tree_previous(tree, &path))
            index = path.leaf->count - 1u;
    } else {
        while (visit_forwards(path.leaf, index, &count, visit, context) && count > 0 &&
               tree_next(tree, &path))
            index = 0;
    }
}

/* Of the entries in a listpack, where those outside would be inside. */
static size_t leaf_listpack_bytes(const struct tree_leaf *leaf) {
    size_t bytes = leaf->bytes;
    if (LIKELY(outside_get(leaf) == 0))
        return bytes;
    const uint8_t *entry = entries_of(leaf), *end = entries_end(leaf);
    for (; entry < end; entry += listpack_entry_size(entry))
        if (is_outside(entry))
            bytes += listpack_entry_bytes(blob_of(entry)->data, blob_of(entry)->length) -
                     OUTSIDE_ENTRY_BYTES;
    return bytes;
}

size_t list_order_listpack_bytes(const struct tree *tree, size_t limit) {
    size_t bytes = LISTPACK_EMPTY_BYTES;
    struct tree_path path;
    if (!tree->root)
        return bytes;
    tree_first(tree, &path);
    do
        bytes += leaf_listpack_bytes(path.leaf);
    while (bytes <= limit && tree_next(tree, &path));
    return bytes;
}

/* --- Inserting -------------------------------------------------------------------------------- */

/* Where the room of a leaf is wanted by who inserts an entry there. */
static enum free_room room_for(const struct tree_leaf *leaf, unsigned index) {
    return index == leaf->count ? FREE_BEHIND : index == 0 ? FREE_IN_FRONT : FREE_ON_BOTH_SIDES;
}

static size_t room_in_front(const struct tree_leaf *leaf) {
    return leaf->begin - DATA_FIRST;
}

static size_t room_behind(const struct tree_leaf *leaf) {
    return (size_t)leaf->capacity - leaf->begin - leaf->bytes;
}

/* Whether the leaf can take so many bytes more without a copy of it. */
static bool has_room(const struct tree_leaf *leaf, unsigned index, size_t bytes) {
    size_t front = room_in_front(leaf), behind = room_behind(leaf);
    if (leaf->bytes + bytes > LEAF_ENTRIES_MAX)
        return false;
    switch (room_for(leaf, index)) {
    case FREE_BEHIND:
        return behind >= bytes || (front >= LEAF_FREE_WORTH && front + behind >= bytes);
    case FREE_IN_FRONT:
        return front >= bytes || (behind >= LEAF_FREE_WORTH && front + behind >= bytes);
    case FREE_ON_BOTH_SIDES:
        break;
    }
    return front >= bytes || behind >= bytes;
}

/* Makes a gap in front of the entry at this index; the leaf is writable and has_room. */
static uint8_t *open_gap(struct tree_leaf *leaf, unsigned index, size_t bytes) {
    enum free_room room = room_for(leaf, index);
    uint8_t *first = entries_of(leaf);
    size_t offset = (size_t)(entry_at(leaf, index) - first), rest = leaf->bytes - offset;
    bool in_front = room == FREE_IN_FRONT;
    if (room == FREE_ON_BOTH_SIDES) {
        in_front = room_in_front(leaf) >= bytes && (offset < rest || room_behind(leaf) < bytes);
    } else if ((in_front ? room_in_front(leaf) : room_behind(leaf)) < bytes) {
        leaf_place(leaf, leaf->bytes, room);
        memmove(entries_of(leaf), first, leaf->bytes);
        first = entries_of(leaf);
    }
    if (in_front) {
        memmove(first - bytes, first, offset);
        leaf->begin = (uint16_t)(leaf->begin - bytes);
    } else {
        memmove(first + offset + bytes, first + offset, rest);
    }
    leaf->bytes = (uint16_t)(leaf->bytes + bytes);
    return entries_of(leaf) + offset;
}

/* A copy of the leaf in which old_bytes of entries from offset on make way for a gap of new_bytes;
 * it refers to the same blobs, except those in the way, once more. index: of the gap, for the room
 * and the split. */
static struct tree_leaf *copy_with_gap(const struct tree_leaf *leaf, unsigned index, size_t offset,
                                       size_t old_bytes, size_t new_bytes) {
    const uint8_t *from = entries_of(leaf);
    size_t bytes = leaf->bytes - old_bytes + new_bytes, rest = leaf->bytes - offset - old_bytes;
    struct tree_leaf *copy;
    if (bytes > LEAF_ENTRIES_MAX) {
        copy = leaf_make(DATA_FIRST + bytes);
        copy->bytes = (uint16_t)bytes;
        copy->begin = old_bytes > 0 ? 0 : index == leaf->count ? leaf->count : index == 0 ? 1 : 0;
    } else {
        copy = leaf_make(capacity_for(bytes));
        leaf_place(copy, bytes, room_for(leaf, index));
    }
    uint8_t *to = entries_of(copy);
    memcpy(to, from, offset);
    memcpy(to + offset + new_bytes, from + offset + old_bytes, rest);
    if (UNLIKELY(outside_get(leaf) > 0)) {
        outside_set(copy,
                    outside_get(leaf) - outside_sum(from + offset, from + offset + old_bytes));
        acquire_entries(from, from + offset);
        acquire_entries(from + offset + old_bytes, entries_end(leaf));
    }
    copy->count = leaf->count;
    return copy;
}

static void insert_first(struct tree *tree, const struct element *element) {
    struct tree_path path = {.leaf = NULL};
    size_t bytes = entry_bytes(element);
    struct tree_leaf *leaf = leaf_make(capacity_for(bytes));
    leaf_place(leaf, bytes, FREE_ON_BOTH_SIDES);
    leaf->count = 1;
    entry_write(leaf, entries_of(leaf), element);
    tree_put(tree, &path, leaf);
}

void list_order_insert(struct tree *tree, uint64_t position, const char *data, size_t length) {
    struct element element = entry_element(data, length);
    struct tree_path path;
    unsigned index = 0;
    if (UNLIKELY(!tree->root)) {
        insert_first(tree, &element);
        return;
    }
    if (position == tree->count) {
        tree_last(tree, &path);
        index = path.leaf->count;
    } else if (position == 0) {
        tree_first(tree, &path);
    } else {
        index = tree_at(tree, position, &path);
    }
    size_t bytes = entry_bytes(&element);
    if (LIKELY(has_room(path.leaf, index, bytes))) {
        struct tree_leaf *leaf = tree_writable(tree, &path);
        size_t old_outside = outside_bytes(leaf);
        entry_write(leaf, open_gap(leaf, index, bytes), &element);
        leaf->count++;
        tree_update(tree, &path, leaf->count - 1u, old_outside);
        return;
    }
    size_t offset = (size_t)(entry_at(path.leaf, index) - entries_of(path.leaf));
    struct tree_leaf *leaf = copy_with_gap(path.leaf, index, offset, 0, bytes);
    entry_write(leaf, entries_of(leaf) + offset, &element);
    leaf->count++;
    tree_put(tree, &path, leaf);
}

void list_order_fill(struct tree *tree, const uint8_t *entries, size_t bytes, unsigned count) {
    struct tree_path path = {.leaf = NULL};
    ASSERT(!tree->root && count > 0 && bytes <= LIST_ORDER_ENTRIES_MAX);
    tree_put(tree, &path, leaf_of(entries, bytes, count, false, FREE_ON_BOTH_SIDES));
}

void list_order_replace(struct tree *tree, uint64_t position, const char *data, size_t length) {
    struct element element = entry_element(data, length);
    struct tree_path path;
    unsigned index = tree_at(tree, position, &path);
    const uint8_t *entry = entry_at(path.leaf, index);
    size_t offset = (size_t)(entry - entries_of(path.leaf)), old_bytes = listpack_entry_size(entry);
    size_t bytes = entry_bytes(&element);
    struct tree_leaf *leaf;
    if (old_bytes != bytes) {
        leaf = copy_with_gap(path.leaf, index, offset, old_bytes, bytes);
        entry_write(leaf, entries_of(leaf) + offset, &element);
        tree_put(tree, &path, leaf);
        return;
    }
    leaf = tree_writable(tree, &path);
    size_t old_outside = outside_bytes(leaf);
    uint8_t *place = entries_of(leaf) + offset;
    outside_set(leaf, old_outside - outside_sum(place, place + bytes));
    release_entries(place, place + bytes);
    entry_write(leaf, place, &element);
    tree_update(tree, &path, leaf->count, old_outside);
}

/* --- Removing --------------------------------------------------------------------------------- */

/* Some of the leaf's entries, not all. */
static void remove_from_leaf(struct tree *tree, struct tree_path *path, unsigned index,
                             unsigned count) {
    struct tree_leaf *leaf = tree_writable(tree, path);
    size_t old_outside = outside_bytes(leaf);
    uint8_t *first = entries_of(leaf), *from = (uint8_t *)entry_at(leaf, index), *to = from;
    for (unsigned i = 0; i < count; i++)
        to += listpack_entry_size(to);
    size_t gap = (size_t)(to - from), offset = (size_t)(from - first);
    if (UNLIKELY(old_outside > 0)) {
        outside_set(leaf, old_outside - outside_sum(from, to));
        release_entries(from, to);
    }
    size_t rest = leaf->bytes - offset - gap;
    if (offset <= rest) {
        memmove(first + gap, first, offset);
        leaf->begin = (uint16_t)(leaf->begin + gap);
    } else {
        memmove(from, to, rest);
    }
    leaf->bytes = (uint16_t)(leaf->bytes - gap);
    leaf->count = (uint16_t)(leaf->count - count);
    tree_update(tree, path, leaf->count + count, old_outside);
}

void list_order_remove(struct tree *tree, uint64_t position, uint64_t count) {
    struct tree_path path;
    while (count > 0) {
        unsigned index = tree_at(tree, position, &path), there = path.leaf->count - index;
        unsigned n = count < there ? (unsigned)count : there;
        count -= n;
        if (n == path.leaf->count)
            tree_put(tree, &path, tree_leaf_make(0));
        else
            remove_from_leaf(tree, &path, index, n);
    }
}

static bool entry_equals(const uint8_t *entry, const char *data, size_t length) {
    struct element element;
    entry_get(entry, &element);
    return element_equals(&element, data, length);
}

static unsigned count_equal(const struct tree_leaf *leaf, const char *data, size_t length) {
    unsigned n = 0;
    const uint8_t *entry = entries_of(leaf), *end = entries_end(leaf);
    for (; entry < end; entry += listpack_entry_size(entry))
        n += entry_equals(entry, data, length);
    return n;
}

/* The path's leaf, without count of those that equal, from the skip-th of them on. */
static void remove_some_equal(struct tree *tree, struct tree_path *path, const char *data,
                              size_t length, unsigned skip, unsigned count) {
    const struct tree_leaf *leaf = path->leaf;
    struct tree_leaf *rest = leaf_make(capacity_for(leaf->bytes));
    leaf_place(rest, leaf->bytes, FREE_BEHIND);
    uint8_t *to = entries_of(rest);
    const uint8_t *entry = entries_of(leaf), *end = entries_end(leaf);
    for (size_t size; entry < end; entry += size) {
        size = listpack_entry_size(entry);
        if (count > 0 && entry_equals(entry, data, length)) {
            if (skip == 0) {
                count--;
                continue;
            }
            skip--;
        }
        memcpy(to, entry, size);
        to += size;
        rest->count++;
    }
    rest->bytes = (uint16_t)(to - entries_of(rest));
    if (UNLIKELY(outside_get(leaf) > 0)) {
        outside_set(rest, outside_sum(entries_of(rest), to));
        acquire(rest);
    }
    tree_put(tree, path, rest);
}

/* Forwards each step begins behind the leaf that is done; that leaf may have been joined with the
 * next one, of which then the first part is looked at again: nothing there equals. Backwards the
 * same. */
uint64_t list_order_remove_equal(struct tree *tree, const char *data, size_t length, uint64_t limit,
                                 bool backwards) {
    uint64_t removed = 0, position = backwards && tree->count > 0 ? tree->count - 1 : 0;
    struct tree_path path;
    while (removed < limit && position < tree->count) {
        uint64_t begin = position - tree_at(tree, position, &path);
        unsigned equal = count_equal(path.leaf, data, length), n = equal, count = path.leaf->count;
        if (n > limit - removed)
            n = (unsigned)(limit - removed);
        if (n == count)
            tree_put(tree, &path, tree_leaf_make(0));
        else if (n > 0)
            remove_some_equal(tree, &path, data, length, backwards ? equal - n : 0, n);
        removed += n;
        if (backwards && begin == 0)
            break;
        position = backwards ? begin - 1 : begin + count - n;
    }
    return removed;
}
