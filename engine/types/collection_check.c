/* Whether a collection of whatever type is as it is to be: for tests, fuzzers and DEBUG. */
#include "engine/types/collection.h"

#include "engine/assert.h"
#include "engine/types/field_times.h"
#include "engine/types/intset.h"
#include "engine/types/members.h"
#include "engine/types/zset.h"

/* Each element is looked for as well: what is met on a walk and not found is in the wrong place. */
struct checking {
    const struct object *object;
    const struct tree *members; /* where they are looked for; NULL: in the packed bytes */
    uint64_t count;
};

static bool is_once(const struct object *object, const char *text, size_t length) {
    unsigned step = object_type(object) == OBJECT_HASH ? 1 : 0, found = 0;
    size_t bytes;
    const uint8_t *listpack = object_packed(object, &bytes), *entry = listpack_first(listpack);
    while (entry && (entry = listpack_find(listpack, entry, text, length, step))) {
        found++;
        for (unsigned i = 0; i <= step && entry; i++)
            entry = listpack_next(listpack, entry);
    }
    return found == 1;
}

static bool check_member(void *context, const struct element *member, const struct element *value,
                         double score) {
    struct checking *checking = context;
    const struct object *object = checking->object;
    char room[LISTPACK_INTEGER_ROOM];
    struct element found;
    size_t length;
    (void)score;
    ASSERT((value != NULL) == (object_type(object) == OBJECT_HASH));
    const char *text = element_text(member, room, &length);
    if (checking->members) {
        ASSERT(members_find(checking->members, text, length, value ? &found : NULL));
        ASSERT(!value || (found.length == value->length && found.data == value->data));
    } else if (object_encoding(object) == ENCODING_LISTPACK) {
        ASSERT(is_once(object, text, length));
    }
    checking->count++;
    return true;
}

/* The number of elements. */
static uint64_t check_packed(const struct object *object) {
    size_t length;
    const uint8_t *bytes = object_packed(object, &length);
    ASSERT(object_encoding(object) != ENCODING_HASHTABLE);
    if (object_encoding(object) == ENCODING_INTSET) {
        ASSERT(object_type(object) == OBJECT_SET && intset_is_sound(bytes, length, true));
        return intset_count(bytes);
    }
    ASSERT(listpack_is_sound(bytes, length, true));
    uint64_t entries = listpack_count(bytes);
    if (object_type(object) != OBJECT_HASH)
        return entries;
    ASSERT(entries % 2 == 0);
    return entries / 2;
}

static const struct tree_kind *members_kind(const struct object *object) {
    switch (object_type(object)) {
    case OBJECT_SET:
        return &members_without_values;
    case OBJECT_HASH:
        return &members_with_values;
    default:
        return NULL;
    }
}

static uint64_t check_body(const struct object *object) {
    const struct collection *body = collection_body(object);
    ASSERT(atomic_load(&body->references) > 0);
    ASSERT(body->members.kind == members_kind(object));
    tree_check(&body->members);
    tree_check(&body->order);
    ASSERT(body->members.count == 0 || body->order.count == 0);
    ASSERT((body->field_times != NULL) == object_has_field_times(object));
    field_times_check(body);
    return body->members.count + body->order.count;
}

void collection_check(const struct object *object) {
    if (object_type(object) == OBJECT_ZSET) {
        zset_check(object);
        return;
    }
    bool has_body = object_needs_token(object);
    uint64_t count = has_body ? check_body(object) : check_packed(object);
    ASSERT(count > 0);
    if (object_type(object) == OBJECT_LIST)
        return;
    struct checking checking = {.object = object};
    if (has_body)
        checking.members = &collection_body(object)->members;
    collection_visit_all(object, check_member, &checking);
    ASSERT(checking.count == count);
}
