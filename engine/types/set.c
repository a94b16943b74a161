/* See set.h. A set moves one way only: from packed to a body; from ENCODING_INTSET to
 * ENCODING_LISTPACK or ENCODING_HASHTABLE, which always has a body, and from ENCODING_LISTPACK to
 * that. */
#include "engine/types/set.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/intset.h"
#include "engine/types/members.h"

#define INTSET_ENTRIES_MAX ((uint64_t)1 << 30) /* whatever the limit says */

static uint64_t intset_limit(void) {
    uint64_t limit = collection_limits.set_intset_entries;
    return limit < INTSET_ENTRIES_MAX ? limit : INTSET_ENTRIES_MAX;
}

/* --- Packed ones ------------------------------------------------------------------------------ */

/* As they lie in an object or in an edit. */
struct packed {
    const uint8_t *bytes;
    bool integers; /* an intset, else a listpack */
};

static struct packed packed_of(const struct object *object) {
    size_t length;
    return (struct packed){object_packed(object, &length),
                           object_encoding(object) == ENCODING_INTSET};
}

static struct packed packed_of_edit(const struct collection_edit *edit) {
    return (struct packed){edit->packed->bytes, edit->encoding == ENCODING_INTSET};
}

static uint64_t packed_count(struct packed packed) {
    return packed.integers ? intset_count(packed.bytes) : listpack_count(packed.bytes);
}

static size_t packed_bytes(struct packed packed) {
    return packed.integers ? intset_bytes(packed.bytes) : listpack_bytes(packed.bytes);
}

static const uint8_t *packed_entry(const uint8_t *listpack, const char *member, size_t length) {
    const uint8_t *first = listpack_first(listpack);
    return first ? listpack_find(listpack, first, member, length, 0) : NULL;
}

static bool packed_has(struct packed packed, const char *member, size_t length) {
    size_t index;
    if (!packed.integers)
        return packed_entry(packed.bytes, member, length) != NULL;
    struct element element = element_make(member, length);
    return !element.data && intset_find(packed.bytes, element.integer, &index);
}

static struct element integer_element(const uint8_t *intset, size_t index) {
    return (struct element){.data = NULL, .integer = intset_at(intset, index)};
}

static void packed_visit(struct packed packed, collection_visit *visit, void *context) {
    struct element member;
    if (packed.integers) {
        for (size_t i = 0; i < intset_count(packed.bytes); i++) {
            member = integer_element(packed.bytes, i);
            if (!visit(context, &member, NULL, 0))
                return;
        }
        return;
    }
    for (const uint8_t *entry = listpack_first(packed.bytes); entry;
         entry = listpack_next(packed.bytes, entry)) {
        listpack_get(entry, &member);
        if (!visit(context, &member, NULL, 0))
            return;
    }
}

static void packed_at(struct packed packed, uint64_t position, struct element *member) {
    if (packed.integers)
        *member = integer_element(packed.bytes, position);
    else
        listpack_get(listpack_at(packed.bytes, (int64_t)position), member);
}

/* --- Reading ---------------------------------------------------------------------------------- */

uint64_t set_count(const struct object *object) {
    if (object_needs_token(object))
        return collection_body(object)->members.count;
    return packed_count(packed_of(object));
}

bool set_has(const struct object *object, const char *member, size_t length) {
    if (object_needs_token(object))
        return members_find(&collection_body(object)->members, member, length, NULL);
    return packed_has(packed_of(object), member, length);
}

bool set_has_element(const struct object *object, const struct element *member) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length, index;
    if (!member->data && !object_needs_token(object) && object_encoding(object) == ENCODING_INTSET)
        return intset_find(packed_of(object).bytes, member->integer, &index);
    const char *text = element_text(member, room, &length);
    return set_has(object, text, length);
}

void set_visit_body(const struct collection *body, collection_visit *visit, void *context) {
    members_visit(&body->members, visit, context);
}

void set_visit(const struct object *object, collection_visit *visit, void *context) {
    if (object_needs_token(object))
        set_visit_body(collection_body(object), visit, context);
    else
        packed_visit(packed_of(object), visit, context);
}

uint64_t set_scan(const struct object *object, uint64_t cursor, uint64_t count,
                  collection_visit *visit, void *context) {
    if (object_encoding(object) == ENCODING_HASHTABLE)
        return members_scan(&collection_body(object)->members, cursor, count, visit, context);
    set_visit(object, visit, context);
    return 0;
}

void set_at(const struct object *object, uint64_t position, struct element *member) {
    if (object_needs_token(object))
        members_at(&collection_body(object)->members, position, member, NULL);
    else
        packed_at(packed_of(object), position, member);
}

/* --- Encodings -------------------------------------------------------------------------------- */

enum object_encoding set_encoding_for(const char *member, size_t length) {
    return set_encoding_for_many(member, length, 1);
}

enum object_encoding set_encoding_for_many(const char *member, size_t length, uint64_t count) {
    struct element element = element_make(member, length);
    if (!element.data && count <= collection_limits.set_intset_entries)
        return ENCODING_INTSET;
    return count <= collection_limits.set_listpack_entries ? ENCODING_LISTPACK : ENCODING_HASHTABLE;
}

bool set_expects_hashtable(const struct collection_edit *edit, uint64_t count) {
    if (edit->encoding == ENCODING_INTSET)
        return count > collection_limits.set_intset_entries;
    return edit->encoding == ENCODING_LISTPACK && count > collection_limits.set_listpack_entries;
}

static bool unpack_one(void *context, const struct element *member, const struct element *value,
                       double score) {
    char room[LISTPACK_INTEGER_ROOM];
    struct collection *body = context;
    size_t length;
    (void)value, (void)score;
    const char *text = element_text(member, room, &length);
    members_put(&body->members, text, length, NULL, 0);
    return true;
}

/* The members move into a body; the encoding stays. */
static void unpack(struct collection_edit *edit) {
    struct collection *body = collection_make(&members_without_values, NULL);
    packed_visit(packed_of_edit(edit), unpack_one, body);
    collection_edit_unpack(edit, body);
}

void set_become_hashtable(struct collection_edit *edit) {
    if (!edit->body)
        unpack(edit);
    edit->encoding = ENCODING_HASHTABLE;
}

static bool append_one(void *context, const struct element *member, const struct element *value,
                       double score) {
    (void)value, (void)score;
    listpack_append_integer(context, member->integer);
    return true;
}

/* Of integers that are still so few that they fit. */
static void become_listpack(struct collection_edit *edit) {
    if (!edit->body) {
        size_t length = intset_bytes(edit->packed->bytes);
        uint8_t *intset = memory_alloc(length);
        memcpy(intset, edit->packed->bytes, length);
        listpack_clear(edit->packed);
        packed_visit((struct packed){intset, true}, append_one, edit->packed);
        memory_free(intset);
    }
    edit->encoding = ENCODING_LISTPACK;
}

static bool note_longest(void *context, const struct element *member, const struct element *value,
                         double score) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length, *longest = context;
    (void)value, (void)score;
    element_text(member, room, &length);
    if (length > *longest)
        *longest = length;
    return true;
}

/* --- Changing --------------------------------------------------------------------------------- */

static uint64_t edit_count(const struct collection_edit *edit) {
    return edit->body ? edit->body->members.count : packed_count(packed_of_edit(edit));
}

/* A listpack may have one more, of this length. */
static bool fits_listpack(const struct collection_edit *edit, size_t length) {
    return edit_count(edit) < collection_limits.set_listpack_entries &&
           length <= collection_limits.set_listpack_value_bytes;
}

static bool body_add(struct collection_edit *edit, const char *member, size_t length) {
    collection_edit_touch(edit);
    return members_put(&edit->body->members, member, length, NULL, 0);
}

/* To a listpack or hash table, whichever it has been found to be. It is new. */
static bool add_new(struct collection_edit *edit, const char *member, size_t length) {
    if (!edit->body && (edit->encoding == ENCODING_HASHTABLE ||
                        packed_bytes(packed_of_edit(edit)) + length + LISTPACK_ENTRY_EXTRA >
                            COLLECTION_PACKED_MAX_BYTES))
        unpack(edit);
    if (edit->body)
        return body_add(edit, member, length);
    listpack_append(edit->packed, member, length);
    return true;
}

static bool add_to_intset(struct collection_edit *edit, const char *member, size_t length) {
    struct element element = element_make(member, length);
    if (element.data) {
        size_t longest = length;
        if (fits_listpack(edit, length))
            set_edit_visit(edit, note_longest, &longest);
        if (fits_listpack(edit, longest))
            become_listpack(edit);
        else
            set_become_hashtable(edit);
        return add_new(edit, member, length);
    }
    if (!edit->body &&
        intset_bytes(edit->packed->bytes) + sizeof(int64_t) > COLLECTION_PACKED_MAX_BYTES) {
        if (packed_has(packed_of_edit(edit), member, length))
            return false;
        unpack(edit);
    }
    if (!(edit->body ? body_add(edit, member, length) : intset_add(edit->packed, element.integer)))
        return false;
    if (edit_count(edit) > intset_limit())
        set_become_hashtable(edit);
    return true;
}

static bool add_to_listpack(struct collection_edit *edit, const char *member, size_t length) {
    if (set_edit_has(edit, member, length))
        return false;
    if (!fits_listpack(edit, length))
        set_become_hashtable(edit);
    return add_new(edit, member, length);
}

bool set_add(struct collection_edit *edit, const char *member, size_t length) {
    bool is_new;
    ASSERT(edit->type == OBJECT_SET);
    if (edit->encoding == ENCODING_INTSET)
        is_new = add_to_intset(edit, member, length);
    else if (edit->encoding == ENCODING_LISTPACK)
        is_new = add_to_listpack(edit, member, length);
    else
        is_new = edit->body ? body_add(edit, member, length) : add_new(edit, member, length);
    edit->count = edit_count(edit);
    edit->changed += is_new;
    return is_new;
}

static bool remove_packed(struct collection_edit *edit, const char *member, size_t length) {
    if (edit->encoding == ENCODING_INTSET) {
        struct element element = element_make(member, length);
        return !element.data && intset_remove(edit->packed, element.integer);
    }
    const uint8_t *entry = packed_entry(edit->packed->bytes, member, length);
    if (!entry)
        return false;
    listpack_delete(edit->packed, (size_t)(entry - edit->packed->bytes), 1);
    return true;
}

bool set_remove(struct collection_edit *edit, const char *member, size_t length) {
    bool was;
    ASSERT(edit->type == OBJECT_SET);
    if (edit->body) {
        collection_edit_touch(edit);
        was = members_remove(&edit->body->members, member, length);
    } else {
        was = remove_packed(edit, member, length);
    }
    edit->count = edit_count(edit);
    edit->changed += was;
    return was;
}

bool set_edit_has(const struct collection_edit *edit, const char *member, size_t length) {
    if (edit->body)
        return members_find(&edit->body->members, member, length, NULL);
    return packed_has(packed_of_edit(edit), member, length);
}

void set_edit_at(const struct collection_edit *edit, uint64_t position, struct element *member) {
    if (edit->body)
        members_at(&edit->body->members, position, member, NULL);
    else
        packed_at(packed_of_edit(edit), position, member);
}

void set_edit_visit(const struct collection_edit *edit, collection_visit *visit, void *context) {
    if (edit->body)
        members_visit(&edit->body->members, visit, context);
    else
        packed_visit(packed_of_edit(edit), visit, context);
}

bool set_add_element(struct collection_edit *edit, const struct element *member) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    return set_add(edit, text, length);
}

bool set_remove_element(struct collection_edit *edit, const struct element *member) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    return set_remove(edit, text, length);
}

/* --- The type --------------------------------------------------------------------------------- */

struct parts {
    element_visit *visit;
    void *context;
};

static bool visit_part(void *context, const struct element *member, const struct element *value,
                       double score) {
    const struct parts *parts = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    (void)value, (void)score;
    const char *text = element_text(member, room, &length);
    parts->visit(parts->context, text, length);
    return true;
}

static void type_visit(const struct object *object, element_visit *visit, void *context) {
    struct parts parts = {visit, context};
    set_visit(object, visit_part, &parts);
}

const struct type set_type = {
    .name = "set",
    .encoding_name = collection_encoding_name,
    .visit = type_visit,
    .body_bytes = collection_body_bytes,
    .body_copy = collection_body_copy,
    .body_free = collection_body_free,
};
