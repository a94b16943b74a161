/* See hash.h. A hash moves one way only: from packed to a body, and from a listpack by its encoding
 * to a hash table, which always has a body. So has one whose fields have, or had, times to live;
 * its encoding says at any time whether some have them. */
#include "engine/types/hash.h"

#include "engine/assert.h"
#include "engine/types/field_times.h"
#include "engine/types/members.h"

static inline bool is_listpack(enum object_encoding encoding) {
    return encoding == ENCODING_LISTPACK || encoding == ENCODING_LISTPACK_EX ||
           encoding == ENCODING_LISTPACK_EX_TIMED;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static const uint8_t *packed_of(const struct object *object) {
    size_t length;
    return object_packed(object, &length);
}

uint64_t hash_count(const struct object *object) {
    if (object_needs_token(object))
        return collection_body(object)->members.count;
    return listpack_count(packed_of(object)) / 2;
}

/* The entry of the field; NULL: none. */
static const uint8_t *packed_find(const uint8_t *packed, const char *field, size_t length) {
    const uint8_t *first = listpack_first(packed);
    return first ? listpack_find(packed, first, field, length, 1) : NULL;
}

static bool packed_get(const uint8_t *packed, const char *field, size_t length,
                       struct element *value) {
    const uint8_t *entry = packed_find(packed, field, length);
    if (!entry)
        return false;
    listpack_get(listpack_next(packed, entry), value);
    return true;
}

bool hash_get(const struct object *object, const char *field, size_t length,
              struct element *value) {
    if (object_needs_token(object))
        return members_find(&collection_body(object)->members, field, length, value);
    return packed_get(packed_of(object), field, length, value);
}

static void packed_visit(const uint8_t *packed, collection_visit *visit, void *context) {
    const uint8_t *entry = listpack_first(packed);
    while (entry) {
        struct element field, value;
        listpack_get(entry, &field);
        entry = listpack_next(packed, entry);
        listpack_get(entry, &value);
        if (!visit(context, &field, &value, 0))
            return;
        entry = listpack_next(packed, entry);
    }
}

void hash_visit_body(const struct collection *body, collection_visit *visit, void *context) {
    members_visit(&body->members, visit, context);
}

void hash_visit(const struct object *object, collection_visit *visit, void *context) {
    if (object_needs_token(object))
        hash_visit_body(collection_body(object), visit, context);
    else
        packed_visit(packed_of(object), visit, context);
}

uint64_t hash_scan(const struct object *object, uint64_t cursor, uint64_t count,
                   collection_visit *visit, void *context) {
    if (!is_listpack(object_encoding(object)))
        return members_scan(&collection_body(object)->members, cursor, count, visit, context);
    hash_visit(object, visit, context);
    return 0;
}

void hash_at(const struct object *object, uint64_t position, struct element *field,
             struct element *value) {
    if (object_needs_token(object)) {
        members_at(&collection_body(object)->members, position, field, value);
        return;
    }
    const uint8_t *packed = packed_of(object), *entry = listpack_at(packed, (int64_t)position * 2);
    listpack_get(entry, field);
    if (value)
        listpack_get(listpack_next(packed, entry), value);
}

/* --- Changing --------------------------------------------------------------------------------- */

static bool unpack_one(void *context, const struct element *field, const struct element *value,
                       double score) {
    char field_room[LISTPACK_INTEGER_ROOM], value_room[LISTPACK_INTEGER_ROOM];
    struct collection *body = context;
    size_t field_length, value_length;
    (void)score;
    const char *field_text = element_text(field, field_room, &field_length);
    const char *value_text = element_text(value, value_room, &value_length);
    members_put(&body->members, field_text, field_length, value_text, value_length);
    return true;
}

/* The fields move into a body; the encoding stays. */
static void unpack(struct collection_edit *edit) {
    struct collection *body = collection_make(&members_with_values, NULL);
    packed_visit(edit->packed->bytes, unpack_one, body);
    collection_edit_unpack(edit, body);
}

static void settle_encoding(struct collection_edit *edit) {
    bool timed = edit->body && edit->body->field_times;
    if (!is_listpack(edit->encoding))
        edit->encoding = timed ? ENCODING_HASHTABLE_TIMED : ENCODING_HASHTABLE;
    else if (timed)
        edit->encoding = ENCODING_LISTPACK_EX_TIMED;
    else if (edit->encoding == ENCODING_LISTPACK_EX_TIMED)
        edit->encoding = ENCODING_LISTPACK_EX;
}

static void become_hashtable(struct collection_edit *edit) {
    if (!edit->body)
        unpack(edit);
    edit->encoding = ENCODING_HASHTABLE;
    settle_encoding(edit);
}

void hash_expect(struct collection_edit *edit, uint64_t fields, size_t longest) {
    if (is_listpack(edit->encoding) && (fields > collection_limits.hash_listpack_entries ||
                                        longest > collection_limits.hash_listpack_value_bytes))
        become_hashtable(edit);
}

static bool put_packed(struct collection_edit *edit, const char *field, size_t field_length,
                       const char *value, size_t value_length) {
    const uint8_t *packed = edit->packed->bytes, *entry = packed_find(packed, field, field_length);
    if (entry) {
        size_t at = (size_t)(listpack_next(packed, entry) - packed);
        listpack_replace(edit->packed, at, value, value_length);
        return false;
    }
    listpack_append(edit->packed, field, field_length);
    listpack_append(edit->packed, value, value_length);
    return true;
}

static void note_count(struct collection_edit *edit) {
    edit->count = edit->body ? edit->body->members.count : listpack_count(edit->packed->bytes) / 2;
    settle_encoding(edit);
}

bool hash_put_keeping_time(struct collection_edit *edit, const char *field, size_t field_length,
                           const char *value, size_t value_length) {
    bool is_new;
    ASSERT(edit->type == OBJECT_HASH);
    hash_expect(edit, 1, field_length > value_length ? field_length : value_length);
    if (!edit->body && listpack_bytes(edit->packed->bytes) + field_length + value_length +
                               2 * LISTPACK_ENTRY_EXTRA >
                           COLLECTION_PACKED_MAX_BYTES)
        unpack(edit);
    if (edit->body) {
        collection_edit_touch(edit);
        is_new = members_put(&edit->body->members, field, field_length, value, value_length);
    } else {
        is_new = put_packed(edit, field, field_length, value, value_length);
    }
    note_count(edit);
    edit->changed++;
    if (is_listpack(edit->encoding) && edit->count > collection_limits.hash_listpack_entries)
        become_hashtable(edit);
    return is_new;
}

static bool forget_time(struct collection_edit *edit, const char *field, size_t length) {
    if (LIKELY(!edit->body || !edit->body->field_times))
        return false;
    collection_edit_touch(edit);
    bool had = field_times_remove(edit->body, field, length);
    note_count(edit);
    return had;
}

bool hash_put(struct collection_edit *edit, const char *field, size_t field_length,
              const char *value, size_t value_length) {
    forget_time(edit, field, field_length);
    return hash_put_keeping_time(edit, field, field_length, value, value_length);
}

bool hash_edit_get(const struct collection_edit *edit, const char *field, size_t length,
                   struct element *value) {
    if (edit->body)
        return members_find(&edit->body->members, field, length, value);
    return packed_get(edit->packed->bytes, field, length, value);
}

static bool remove_packed(struct collection_edit *edit, const char *field, size_t length) {
    const uint8_t *entry = packed_find(edit->packed->bytes, field, length);
    if (!entry)
        return false;
    listpack_delete(edit->packed, (size_t)(entry - edit->packed->bytes), 2);
    return true;
}

bool hash_remove(struct collection_edit *edit, const char *field, size_t length) {
    bool was;
    ASSERT(edit->type == OBJECT_HASH);
    if (edit->body) {
        collection_edit_touch(edit);
        was = members_remove(&edit->body->members, field, length);
    } else {
        was = remove_packed(edit, field, length);
    }
    if (was)
        forget_time(edit, field, length);
    note_count(edit);
    edit->changed += was;
    return was;
}

void hash_set_time(struct collection_edit *edit, const char *field, size_t length,
                   int64_t time_ms) {
    ASSERT(edit->type == OBJECT_HASH);
    if (!edit->body)
        unpack(edit);
    collection_edit_touch(edit);
    field_times_put(edit->body, field, length, time_ms);
    note_count(edit);
    edit->changed++;
}

bool hash_clear_time(struct collection_edit *edit, const char *field, size_t length) {
    bool had = forget_time(edit, field, length);
    edit->changed += had;
    return had;
}

bool hash_edit_time(const struct collection_edit *edit, const char *field, size_t length,
                    int64_t *time_ms) {
    return edit->body && field_times_get(edit->body, field, length, time_ms);
}

/* --- The type --------------------------------------------------------------------------------- */

struct parts {
    element_visit *visit;
    void *context;
};

static bool visit_parts(void *context, const struct element *field, const struct element *value,
                        double score) {
    const struct parts *parts = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    (void)score;
    const char *text = element_text(field, room, &length);
    parts->visit(parts->context, text, length);
    text = element_text(value, room, &length);
    parts->visit(parts->context, text, length);
    return true;
}

static int64_t next_expiry(const struct object *object) {
    return field_times_first(collection_body(object), NULL);
}

static void type_visit(const struct object *object, element_visit *visit, void *context) {
    struct parts parts = {visit, context};
    hash_visit(object, visit_parts, &parts);
}

const struct type hash_type = {
    .name = "hash",
    .encoding_name = collection_encoding_name,
    .visit = type_visit,
    .body_bytes = collection_body_bytes,
    .body_copy = collection_body_copy,
    .body_free = collection_body_free,
    .next_expiry = next_expiry,
};
