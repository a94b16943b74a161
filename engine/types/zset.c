/* See zset.h.
 *
 * Invariant of a large one: both trees have the same members with the same scores, and long members
 * in the same blobs; what one command does to the one it does to the other before anybody else sees
 * them. */
#include "engine/types/zset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/double_text.h"
#include "engine/memory.h"
#include "engine/types/members.h"
#include "engine/types/score_order.h"

#define SCORE_TEXT_MAX 128

_Static_assert(SCORE_INLINE_MAX == MEMBERS_INLINE_MAX, "a long member is in one blob for both");

/* --- Packed: members and scores by turns ------------------------------------------------------ */

static double packed_score(const uint8_t *entry) {
    struct element element;
    listpack_get(entry, &element);
    if (LIKELY(!element.data))
        return (double)element.integer;
    char text[SCORE_TEXT_MAX];
    size_t length = element.length < sizeof text - 1 ? element.length : sizeof text - 1;
    memcpy(text, element.data, length);
    text[length] = 0;
    return strtod(text, NULL);
}

/* An element of a packed set and where it is; entry NULL: behind the last one. */
struct place {
    const uint8_t *packed, *entry, *score_entry;
    uint64_t position;
};

static inline void place_settle(struct place *place) {
    place->score_entry = place->entry ? listpack_next(place->packed, place->entry) : NULL;
}

static inline struct place place_first(const uint8_t *packed) {
    struct place place = {packed, listpack_first(packed), NULL, 0};
    place_settle(&place);
    return place;
}

static inline void place_next(struct place *place) {
    place->entry = listpack_next(place->packed, place->score_entry);
    place->position++;
    place_settle(place);
}

static inline struct place place_at(const uint8_t *packed, uint64_t position) {
    struct place place = {packed, listpack_at(packed, 2 * (int64_t)position), NULL, position};
    place_settle(&place);
    return place;
}

static bool place_find(const uint8_t *packed, const char *member, size_t length,
                       struct place *place) {
    const uint8_t *first = listpack_first(packed);
    const uint8_t *entry = first ? listpack_find(packed, first, member, length, 1) : NULL;
    if (!entry)
        return false;
    *place = (struct place){packed, entry, NULL, 0};
    place_settle(place);
    return true;
}

static int compare_element(const struct element *element, const char *member, size_t length) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t here_length;
    const char *here = element_text(element, room, &here_length);
    int order = memcmp(here, member, here_length < length ? here_length : length);
    return order ? order : (here_length > length) - (here_length < length);
}

static int place_compare(const struct place *place, const char *member, size_t length) {
    struct element element;
    listpack_get(place->entry, &element);
    return compare_element(&element, member, length);
}

static uint64_t packed_count(const uint8_t *packed) {
    return listpack_count(packed) / 2;
}

static uint64_t packed_below(const uint8_t *packed, double score, bool equal) {
    struct place place = place_first(packed);
    for (; place.entry; place_next(&place)) {
        double here = packed_score(place.score_entry);
        if (equal ? here > score : here >= score)
            break;
    }
    return place.position;
}

static uint64_t packed_before(const uint8_t *packed, const char *member, size_t length,
                              bool equal) {
    struct place place = place_first(packed);
    for (; place.entry; place_next(&place)) {
        int order = place_compare(&place, member, length);
        if (order > 0 || (order == 0 && !equal))
            break;
    }
    return place.position;
}

static void packed_visit_range(const uint8_t *packed, uint64_t position, uint64_t count,
                               bool backwards, collection_visit *visit, void *context) {
    if (count == 0)
        return;
    const uint8_t *entry = listpack_at(packed, 2 * (int64_t)position);
    for (;;) {
        struct element member;
        const uint8_t *score_entry = listpack_next(packed, entry);
        listpack_get(entry, &member);
        if (!visit(context, &member, NULL, packed_score(score_entry)) || --count == 0)
            return;
        entry = backwards ? listpack_previous(packed, listpack_previous(packed, entry))
                          : listpack_next(packed, score_entry);
    }
}

/* --- Large ------------------------------------------------------------------------------------ */

static bool body_score(const struct collection *body, const char *member, size_t length,
                       double *score) {
    struct element value;
    if (!members_find(&body->members, member, length, &value))
        return false;
    memcpy(score, value.data, sizeof *score);
    return true;
}

static void body_visit_range(const struct collection *body, uint64_t position, uint64_t count,
                             bool backwards, collection_visit *visit, void *context) {
    if (count == 0)
        return;
    struct score_cursor cursor;
    score_cursor_at(&cursor, &body->order, position);
    for (;;) {
        struct element member;
        double score = score_cursor_get(&cursor, &member);
        if (!visit(context, &member, NULL, score) || --count == 0)
            return;
        bool there = backwards ? score_cursor_previous(&cursor) : score_cursor_next(&cursor);
        ASSERT(there);
    }
}

static uint64_t body_before(const struct collection *body, const char *member, size_t length,
                            bool equal) {
    const struct tree *order = &body->order;
    if (order->count == 0)
        return 0;
    struct score_cursor first, last;
    score_cursor_at(&first, order, 0);
    score_cursor_at(&last, order, order->count - 1);
    double score = score_cursor_get(&first, NULL);
    if (score != score_cursor_get(&last, NULL))
        return score_order_before(order, member, length, equal);
    uint64_t position = score_order_rank(order, score, member, length);
    if (!equal || position == order->count)
        return position;
    struct element there;
    score_cursor_at(&first, order, position);
    score_cursor_get(&first, &there);
    return position + element_equals(&there, member, length);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static inline const uint8_t *packed_of(const struct object *object) {
    size_t length;
    return object_packed(object, &length);
}

uint64_t zset_count(const struct object *object) {
    return object_needs_token(object) ? collection_body(object)->members.count
                                      : packed_count(packed_of(object));
}

static bool score_in(const struct collection *body, const uint8_t *packed, const char *member,
                     size_t length, double *score) {
    if (body)
        return body_score(body, member, length, score);
    struct place place;
    if (!place_find(packed, member, length, &place))
        return false;
    *score = packed_score(place.score_entry);
    return true;
}

bool zset_score(const struct object *object, const char *member, size_t length, double *score) {
    if (object_needs_token(object))
        return score_in(collection_body(object), NULL, member, length, score);
    return score_in(NULL, packed_of(object), member, length, score);
}

bool zset_rank(const struct object *object, const char *member, size_t length, uint64_t *position,
               double *score) {
    if (object_needs_token(object)) {
        const struct collection *body = collection_body(object);
        if (!body_score(body, member, length, score))
            return false;
        *position = score_order_rank(&body->order, *score, member, length);
        return true;
    }
    struct place place = place_first(packed_of(object));
    for (; place.entry; place_next(&place)) {
        struct element element;
        listpack_get(place.entry, &element);
        if (!element_equals(&element, member, length))
            continue;
        *position = place.position;
        *score = packed_score(place.score_entry);
        return true;
    }
    return false;
}

uint64_t zset_below(const struct object *object, double score, bool equal) {
    if (object_needs_token(object))
        return score_order_below(&collection_body(object)->order, score, equal);
    return packed_below(packed_of(object), score, equal);
}

uint64_t zset_before(const struct object *object, const char *member, size_t length, bool equal) {
    if (object_needs_token(object))
        return body_before(collection_body(object), member, length, equal);
    return packed_before(packed_of(object), member, length, equal);
}

void zset_at(const struct object *object, uint64_t position, struct element *member,
             double *score) {
    if (object_needs_token(object)) {
        struct score_cursor cursor;
        score_cursor_at(&cursor, &collection_body(object)->order, position);
        *score = score_cursor_get(&cursor, member);
        return;
    }
    struct place place = place_at(packed_of(object), position);
    listpack_get(place.entry, member);
    *score = packed_score(place.score_entry);
}

void zset_visit_range(const struct object *object, uint64_t position, uint64_t count,
                      bool backwards, collection_visit *visit, void *context) {
    if (object_needs_token(object))
        body_visit_range(collection_body(object), position, count, backwards, visit, context);
    else
        packed_visit_range(packed_of(object), position, count, backwards, visit, context);
}

void zset_visit(const struct object *object, collection_visit *visit, void *context) {
    zset_visit_range(object, 0, zset_count(object), false, visit, context);
}

void zset_visit_body(const struct collection *body, collection_visit *visit, void *context) {
    body_visit_range(body, 0, body->order.count, false, visit, context);
}

uint64_t zset_scan(const struct object *object, uint64_t cursor, uint64_t count,
                   collection_visit *visit, void *context) {
    if (object_needs_token(object))
        return members_scan(&collection_body(object)->members, cursor, count, visit, context);
    zset_visit(object, visit, context);
    return 0;
}

/* --- Changing --------------------------------------------------------------------------------- */

enum object_encoding zset_encoding_for(uint64_t elements, size_t first_length) {
    return elements <= collection_limits.zset_listpack_entries &&
                   first_length <= collection_limits.zset_listpack_value_bytes
               ? ENCODING_LISTPACK
               : ENCODING_SKIPLIST;
}

static void count_elements(struct collection_edit *edit) {
    edit->count = edit->body ? edit->body->members.count : packed_count(edit->packed->bytes);
}

static void body_add(struct collection *body, const char *member, size_t length, double score) {
    bool is_new = members_put(&body->members, member, length, (const char *)&score, sizeof score);
    ASSERT(is_new);
    score_order_add(&body->order, score, member, length,
                    UNLIKELY(length > MEMBERS_INLINE_MAX)
                        ? members_blob(&body->members, member, length)
                        : NULL);
}

static bool body_add_visited(void *context, const struct element *member,
                             const struct element *value, double score) {
    (void)value;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    body_add(context, text, length, score);
    return true;
}

/* From packed to a body. */
static void unpack(struct collection_edit *edit) {
    const uint8_t *packed = edit->packed->bytes;
    struct collection *body = collection_make(&members_with_scores, &score_order);
    packed_visit_range(packed, 0, packed_count(packed), false, body_add_visited, body);
    collection_edit_unpack(edit, body);
}

/* A set that is not packed any more has a body, and one with a body may still be called packed. */
static void become_skiplist(struct collection_edit *edit) {
    if (edit->encoding == ENCODING_SKIPLIST)
        return;
    edit->encoding = ENCODING_SKIPLIST;
    if (!edit->body)
        unpack(edit);
}

void zset_expect(struct collection_edit *edit, uint64_t elements) {
    if (elements > collection_limits.zset_listpack_entries)
        become_skiplist(edit);
}

/* In front of a place in packed, or at its end. */
static void packed_insert(struct collection_edit *edit, const char *member, size_t length,
                          double score) {
    struct listpack_buffer *buffer = edit->packed;
    struct place place = place_first(buffer->bytes);
    for (; place.entry; place_next(&place)) {
        double here = packed_score(place.score_entry);
        if (here > score || (here == score && place_compare(&place, member, length) > 0))
            break;
    }
    size_t at = place.entry ? (size_t)(place.entry - buffer->bytes)
                            : listpack_bytes(buffer->bytes) - 1; /* the end mark */
    at = listpack_insert(buffer, at, member, length);
    if (score >= -(double)(INT64_MAX / 2) && score <= (double)(INT64_MAX / 2) &&
        (double)(int64_t)score == score) {
        listpack_insert_integer(buffer, at, (int64_t)score);
        return;
    }
    char text[DOUBLE_TEXT_SIZE];
    listpack_insert(buffer, at, text, double_text_write(text, score));
}

static void packed_delete(struct collection_edit *edit, const uint8_t *entry) {
    listpack_delete(edit->packed, (size_t)(entry - edit->packed->bytes), 2);
}

/* false: the set has a body from now on, and the element is still to be put there. */
static bool packed_set(struct collection_edit *edit, const char *member, size_t length,
                       const double *old, double score) {
    const uint8_t *packed = edit->packed->bytes;
    struct place place;
    if (!old && (packed_count(packed) + 1 > collection_limits.zset_listpack_entries ||
                 length > collection_limits.zset_listpack_value_bytes)) {
        become_skiplist(edit);
        return false;
    }
    if (listpack_bytes(packed) + length + DOUBLE_TEXT_SIZE + 2 * LISTPACK_ENTRY_EXTRA >
        COLLECTION_PACKED_MAX_BYTES) {
        unpack(edit);
        return false;
    }
    if (old) {
        bool there = place_find(packed, member, length, &place);
        ASSERT(there);
        packed_delete(edit, place.entry);
    }
    packed_insert(edit, member, length, score);
    return true;
}

static void body_set(struct collection_edit *edit, const char *member, size_t length,
                     const double *old, double score) {
    struct collection *body = edit->body;
    if (!old && edit->encoding == ENCODING_LISTPACK &&
        (body->members.count + 1 > collection_limits.zset_listpack_entries ||
         length > collection_limits.zset_listpack_value_bytes))
        edit->encoding = ENCODING_SKIPLIST;
    if (score == 0 && edit->encoding == ENCODING_LISTPACK)
        score = 0; /* and not -0 */
    if (!old) {
        body_add(body, member, length, score);
        return;
    }
    members_put(&body->members, member, length, (const char *)&score, sizeof score);
    score_order_move(&body->order, *old, score, member, length);
}

void zset_set(struct collection_edit *edit, const char *member, size_t length, const double *old,
              double score) {
    ASSERT(!isnan(score));
    if (!edit->body && edit->encoding == ENCODING_SKIPLIST)
        unpack(edit); /* a new one */
    collection_edit_touch(edit);
    if (edit->body || !packed_set(edit, member, length, old, score))
        body_set(edit, member, length, old, score);
    edit->changed++;
    count_elements(edit);
}

bool zset_put(struct collection_edit *edit, const char *member, size_t length, double score) {
    double old;
    bool is_new = !zset_edit_score(edit, member, length, &old);
    zset_set(edit, member, length, is_new ? NULL : &old, score);
    return is_new;
}

static bool body_remove(struct collection_edit *edit, const char *member, size_t length) {
    double score;
    if (!body_score(edit->body, member, length, &score))
        return false;
    collection_edit_touch(edit);
    members_remove(&edit->body->members, member, length);
    score_order_remove(&edit->body->order, score, member, length);
    return true;
}

static bool packed_remove(struct collection_edit *edit, const char *member, size_t length) {
    struct place place;
    if (!place_find(edit->packed->bytes, member, length, &place))
        return false;
    collection_edit_touch(edit);
    packed_delete(edit, place.entry);
    return true;
}

bool zset_remove(struct collection_edit *edit, const char *member, size_t length) {
    bool removed =
        edit->body ? body_remove(edit, member, length) : packed_remove(edit, member, length);
    edit->changed += removed;
    count_elements(edit);
    return removed;
}

static bool members_remove_visited(void *context, const struct element *member,
                                   const struct element *value, double score) {
    (void)value, (void)score;
    bool removed = members_remove(context, member->data, member->length);
    ASSERT(removed);
    return true;
}

void zset_remove_range(struct collection_edit *edit, uint64_t position, uint64_t count) {
    if (count > 0)
        collection_edit_touch(edit);
    if (edit->body) {
        body_visit_range(edit->body, position, count, false, members_remove_visited,
                         &edit->body->members);
        score_order_remove_range(&edit->body->order, position, count);
    } else if (count > 0) {
        const uint8_t *packed = edit->packed->bytes;
        const uint8_t *entry = listpack_at(packed, 2 * (int64_t)position);
        listpack_delete(edit->packed, (size_t)(entry - packed), 2 * count);
    }
    edit->changed += count;
    count_elements(edit);
}

bool zset_edit_score(const struct collection_edit *edit, const char *member, size_t length,
                     double *score) {
    return score_in(edit->body, edit->packed->bytes, member, length, score);
}

void zset_edit_visit(const struct collection_edit *edit, collection_visit *visit, void *context) {
    if (edit->body)
        zset_visit_body(edit->body, visit, context);
    else
        packed_visit_range(edit->packed->bytes, 0, packed_count(edit->packed->bytes), false, visit,
                           context);
}

/* --- Check ------------------------------------------------------------------------------------ */

struct checking {
    const struct collection *body; /* NULL: packed */
    uint64_t count;
    double previous_score;
    char *previous; /* a copy */
    size_t previous_length;
};

static bool check_element(void *context, const struct element *member, const struct element *value,
                          double score) {
    (void)value;
    struct checking *checking = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    if (checking->body) {
        double indexed;
        ASSERT(body_score(checking->body, text, length, &indexed));
        ASSERT(memcmp(&indexed, &score, sizeof score) == 0);
        ASSERT(length <= MEMBERS_INLINE_MAX ||
               members_blob(&checking->body->members, text, length) == member->blob);
    } else if (checking->count > 0) {
        struct element previous = {.data = checking->previous, .length = checking->previous_length};
        ASSERT(checking->previous_score < score ||
               (checking->previous_score == score && compare_element(&previous, text, length) < 0));
    }
    checking->count++;
    checking->previous_score = score;
    memory_free(checking->previous);
    checking->previous = memory_alloc(length + 1);
    memcpy(checking->previous, text, length);
    checking->previous_length = length;
    return true;
}

void zset_check(const struct object *object) {
    struct checking checking = {.body =
                                    object_needs_token(object) ? collection_body(object) : NULL};
    if (checking.body) {
        tree_check(&checking.body->members);
        tree_check(&checking.body->order);
        ASSERT(checking.body->members.count == checking.body->order.count);
    } else {
        size_t length;
        const uint8_t *packed = object_packed(object, &length);
        ASSERT(listpack_is_sound(packed, length, true) && listpack_count(packed) % 2 == 0);
        ASSERT(object_encoding(object) == ENCODING_LISTPACK);
    }
    zset_visit(object, check_element, &checking);
    ASSERT(checking.count == zset_count(object) && checking.count > 0);
    memory_free(checking.previous);
}

/* --- The type --------------------------------------------------------------------------------- */

struct part_visit {
    element_visit *visit;
    void *context;
};

static bool visit_parts(void *context, const struct element *member, const struct element *value,
                        double score) {
    (void)value;
    const struct part_visit *parts = context;
    char room[LISTPACK_INTEGER_ROOM], text[SCORE_TEXT_MAX];
    size_t length;
    const char *bytes = element_text(member, room, &length);
    parts->visit(parts->context, bytes, length);
    parts->visit(parts->context, text, (size_t)snprintf(text, sizeof text, "%.17g", score));
    return true;
}

/* Members and scores by turns, scores as DEBUG DIGEST takes them. */
static void type_visit(const struct object *object, element_visit *visit, void *context) {
    struct part_visit parts = {visit, context};
    zset_visit(object, visit_parts, &parts);
}

const struct type zset_type = {
    .name = "zset",
    .encoding_name = collection_encoding_name,
    .visit = type_visit,
    .body_bytes = collection_body_bytes,
    .body_copy = collection_body_copy,
    .body_free = collection_body_free,
};
