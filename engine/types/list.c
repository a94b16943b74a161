/* See list.h.
 *
 * Redis's lists of more than one node of a quicklist have a name of their own, and its nodes have
 * the limit that list-max-listpack-size sets. Here a node is a leaf of the tree whatever that limit
 * is; the name is what Redis's would be if all elements that a node may have were in one. */
#include "engine/types/list.h"

#include "engine/assert.h"
#include "engine/types/list_order.h"

#define NODE_SAFE_BYTES 8192 /* a limit by number holds up to this */

/* --- Reading ---------------------------------------------------------------------------------- */

static const uint8_t *packed_of(const struct object *object) {
    size_t length;
    return object_packed(object, &length);
}

uint64_t list_count(const struct object *object) {
    if (object_needs_token(object))
        return collection_body(object)->order.count;
    return listpack_count(packed_of(object));
}

/* Of count entries; from the nearer end. */
static const uint8_t *entry_at(const uint8_t *listpack, uint64_t position, uint64_t count) {
    int64_t index = (int64_t)position;
    return listpack_at(listpack, position < count / 2 ? index : index - (int64_t)count);
}

static void visit_packed(const uint8_t *listpack, uint64_t position, uint64_t count, bool backwards,
                         collection_visit *visit, void *context) {
    struct element element;
    uint64_t there = listpack_count(listpack);
    const uint8_t *entry = position < there ? entry_at(listpack, position, there) : NULL;
    for (; entry && count > 0; count--) {
        listpack_get(entry, &element);
        if (!visit(context, &element, NULL, 0))
            return;
        entry = backwards ? listpack_previous(listpack, entry) : listpack_next(listpack, entry);
    }
}

void list_visit_range(const struct object *object, uint64_t position, uint64_t count,
                      bool backwards, collection_visit *visit, void *context) {
    if (object_needs_token(object))
        list_order_visit(&collection_body(object)->order, position, count, backwards, visit,
                         context);
    else
        visit_packed(packed_of(object), position, count, backwards, visit, context);
}

void list_visit(const struct object *object, collection_visit *visit, void *context) {
    list_visit_range(object, 0, UINT64_MAX, false, visit, context);
}

void list_visit_body(const struct collection *body, collection_visit *visit, void *context) {
    list_order_visit(&body->order, 0, UINT64_MAX, false, visit, context);
}

void list_at(const struct object *object, uint64_t position, struct element *element) {
    if (object_needs_token(object))
        list_order_at(&collection_body(object)->order, position, element);
    else
        listpack_get(entry_at(packed_of(object), position, list_count(object)), element);
}

/* --- Changing --------------------------------------------------------------------------------- */

static void count_anew(struct collection_edit *edit) {
    edit->count = edit->body ? edit->body->order.count : listpack_count(edit->packed->bytes);
}

static void note_changes(struct collection_edit *edit, uint64_t changes) {
    edit->changed += changes;
    count_anew(edit);
}

void list_edit_begin(struct collection_edit *edit, struct change *change, unsigned database,
                     const struct key *key, struct object *object) {
    collection_edit_begin(edit, change, database, key, object, OBJECT_LIST, ENCODING_LISTPACK);
    count_anew(edit);
}

/* Whether all entries are as listpack_entry_write makes them: a tree gives others a meaning. */
static bool are_ours(const uint8_t *listpack) {
    if (listpack_bytes(listpack) > LIST_ORDER_ENTRIES_MAX)
        return false;
    struct element element;
    const uint8_t *entry = listpack_first(listpack);
    for (; entry; entry = listpack_next(listpack, entry)) {
        listpack_get(entry, &element);
        if (element.data &&
            (element.length > LIST_INLINE_MAX ||
             listpack_entry_size(entry) != listpack_entry_bytes(element.data, element.length)))
            return false;
    }
    return true;
}

static bool append_element(void *context, const struct element *element,
                           const struct element *value, double score) {
    (void)value, (void)score;
    struct tree *tree = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *data = element_text(element, room, &length);
    list_order_insert(tree, tree->count, data, length);
    return true;
}

static void unpack(struct collection_edit *edit) {
    const uint8_t *listpack = edit->packed->bytes;
    struct collection *body = collection_make(NULL, &list_order);
    if (edit->count > 0 && are_ours(listpack))
        list_order_fill(&body->order, listpack + LISTPACK_HEADER_BYTES,
                        listpack_bytes(listpack) - LISTPACK_EMPTY_BYTES, (unsigned)edit->count);
    else
        visit_packed(listpack, 0, UINT64_MAX, false, append_element, &body->order);
    collection_edit_unpack(edit, body);
}

/* Before a change that adds so many bytes to a packed list: it may become a body. */
static void make_room(struct collection_edit *edit, size_t bytes) {
    if (!edit->body && listpack_bytes(edit->packed->bytes) + bytes > LIST_PACKED_MAX_BYTES)
        unpack(edit);
    if (edit->body)
        collection_edit_touch(edit);
}

static size_t offset_of(const struct collection_edit *edit, uint64_t position) {
    const uint8_t *listpack = edit->packed->bytes;
    if (position == edit->count)
        return listpack_bytes(listpack) - 1;
    return (size_t)(entry_at(listpack, position, edit->count) - listpack);
}

void list_edit_at(const struct collection_edit *edit, uint64_t position, struct element *element) {
    ASSERT(position < edit->count);
    if (edit->body)
        list_order_at(&edit->body->order, position, element);
    else
        listpack_get(entry_at(edit->packed->bytes, position, edit->count), element);
}

void list_insert(struct collection_edit *edit, uint64_t position, const char *data, size_t length) {
    make_room(edit, length + LISTPACK_ENTRY_EXTRA);
    if (edit->body)
        list_order_insert(&edit->body->order, position, data, length);
    else
        listpack_insert(edit->packed, offset_of(edit, position), data, length);
    note_changes(edit, 1);
}

void list_push(struct collection_edit *edit, bool head, const char *data, size_t length) {
    list_insert(edit, head ? 0 : edit->count, data, length);
}

void list_replace(struct collection_edit *edit, uint64_t position, const char *data,
                  size_t length) {
    make_room(edit, length + LISTPACK_ENTRY_EXTRA);
    if (edit->body)
        list_order_replace(&edit->body->order, position, data, length);
    else
        listpack_replace(edit->packed, offset_of(edit, position), data, length);
    note_changes(edit, 1);
}

void list_remove_range(struct collection_edit *edit, uint64_t position, uint64_t count) {
    ASSERT(position + count <= edit->count);
    if (count == 0)
        return;
    make_room(edit, 0);
    if (edit->body)
        list_order_remove(&edit->body->order, position, count);
    else
        listpack_delete(edit->packed, offset_of(edit, position), count);
    note_changes(edit, count);
}

static uint64_t remove_equal_packed(struct collection_edit *edit, const char *data, size_t length,
                                    uint64_t limit, bool backwards) {
    uint64_t removed = 0, left = edit->count, position = backwards ? left : 0;
    while (left-- > 0 && removed < limit) {
        struct element element;
        if (backwards)
            position--;
        size_t at = offset_of(edit, position);
        listpack_get(edit->packed->bytes + at, &element);
        if (!element_equals(&element, data, length)) {
            position += !backwards;
            continue;
        }
        listpack_delete(edit->packed, at, 1);
        edit->count--;
        removed++;
    }
    return removed;
}

uint64_t list_remove_equal(struct collection_edit *edit, const char *data, size_t length,
                           uint64_t limit, bool backwards) {
    uint64_t removed;
    if (edit->body) {
        collection_edit_touch(edit);
        removed = list_order_remove_equal(&edit->body->order, data, length, limit, backwards);
    } else {
        removed = remove_equal_packed(edit, data, length, limit, backwards);
    }
    note_changes(edit, removed);
    return removed;
}

/* --- Its name --------------------------------------------------------------------------------- */

/* What a node may have: bytes or, if the limit is not below 0, a number of elements. */
static void node_limits(size_t *bytes, uint64_t *count) {
    static const size_t sizes[] = {4096, 8192, 16384, 32768, 65536};
    int64_t size = collection_limits.list_listpack_size;
    *bytes = SIZE_MAX;
    *count = UINT64_MAX;
    if (size >= 0)
        *count = size > 0 ? (uint64_t)size : 1;
    else
        *bytes = sizes[size < -5 ? 4 : -size - 1];
}

/* As a listpack; no more than limit and a leaf are counted. */
static size_t bytes_up_to(const struct collection_edit *edit, size_t limit) {
    return edit->body ? list_order_listpack_bytes(&edit->body->order, limit)
                      : listpack_bytes(edit->packed->bytes);
}

static bool exceeds(const struct collection_edit *edit, size_t more_bytes, uint64_t more_count) {
    size_t bytes_max;
    uint64_t count_max;
    node_limits(&bytes_max, &count_max);
    if (count_max != UINT64_MAX) {
        if (edit->count + more_count > count_max)
            return true;
        bytes_max = NODE_SAFE_BYTES;
    }
    return more_bytes > bytes_max || bytes_up_to(edit, bytes_max) + more_bytes > bytes_max;
}

/* part: of the limits, 1 or 2: a half. */
static bool fits_one_node(const struct collection_edit *edit, unsigned part) {
    size_t bytes_max;
    uint64_t count_max;
    node_limits(&bytes_max, &count_max);
    if (edit->count > count_max / part)
        return false;
    if (bytes_max == SIZE_MAX) /* a node has no more than this if it has more than one element */
        return edit->count == 1 || bytes_up_to(edit, NODE_SAFE_BYTES) <= NODE_SAFE_BYTES;
    return bytes_up_to(edit, bytes_max / part) <= bytes_max / part;
}

void list_grows(struct collection_edit *edit, size_t bytes, uint64_t count) {
    if (edit->encoding == ENCODING_LISTPACK && exceeds(edit, bytes, count))
        edit->encoding = ENCODING_QUICKLIST;
}

void list_shrank(struct collection_edit *edit) {
    if (edit->encoding == ENCODING_QUICKLIST && edit->count > 0 && fits_one_node(edit, 2))
        edit->encoding = ENCODING_LISTPACK;
}

void list_was_made(struct collection_edit *edit) {
    if (edit->encoding == ENCODING_QUICKLIST && edit->count > 0 && fits_one_node(edit, 1))
        edit->encoding = ENCODING_LISTPACK;
    else
        list_grows(edit, 0, 0);
}

/* --- The type --------------------------------------------------------------------------------- */

struct text_visit {
    element_visit *visit;
    void *context;
};

static bool visit_text(void *context, const struct element *element, const struct element *value,
                       double score) {
    (void)value, (void)score;
    const struct text_visit *to = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *data = element_text(element, room, &length);
    to->visit(to->context, data, length);
    return true;
}

static void visit_all(const struct object *object, element_visit *visit, void *context) {
    struct text_visit to = {visit, context};
    list_visit(object, visit_text, &to);
}

const struct type list_type = {
    .name = "list",
    .encoding_name = collection_encoding_name,
    .visit = visit_all,
    .body_bytes = collection_body_bytes,
    .body_copy = collection_body_copy,
    .body_free = collection_body_free,
};
