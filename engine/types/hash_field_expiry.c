/* See hash_field_expiry.h. One edit of the hash for all fields that are removed at once. */
#include "engine/types/hash_field_expiry.h"

#include "engine/assert.h"
#include "engine/types/hash.h"

bool hash_field_is_over(struct view *view, const struct object *hash, const char *field,
                        size_t length) {
    int64_t time_ms;
    return object_has_field_times(hash) &&
           field_times_get(collection_body(hash), field, length, &time_ms) &&
           view_is_over(view, time_ms);
}

uint64_t hash_fields_over(struct view *view, const struct object *hash) {
    if (!object_has_field_times(hash) || !view_is_over(view, type_of(hash)->next_expiry(hash)))
        return 0;
    return field_times_due(collection_body(hash), view_now_ms(view));
}

void hash_log_expired_field(struct change *change, unsigned database, const struct key *key,
                            const char *field, size_t length) {
    struct effect_argument arguments[3] = {{"HDEL", 4}, {key->data, key->length}, {field, length}};
    struct keyspace *keyspace = (struct keyspace *)(void *)change->door; /* its first member */
    change_append_beside(change, database, arguments, 3);
    COUNTER_ADD(keyspace_counters_mine(keyspace)->expired_fields, 1);
}

/* --- Removing --------------------------------------------------------------------------------- */

static void begin(struct collection_edit *edit, struct change *change, unsigned database,
                  const struct key *key, struct object *hash) {
    ASSERT(view_may_expire(&change->view));
    collection_edit_begin(edit, change, database, key, hash, OBJECT_HASH, ENCODING_LISTPACK);
}

/* The field may lie in the trees. */
static void remove_field(struct collection_edit *edit, const char *field, size_t length) {
    hash_log_expired_field(edit->change, edit->database, edit->key, field, length);
    bool was = hash_remove(edit, field, length);
    ASSERT(was);
}

/* What goes by itself is no change that is counted, the key's end included. */
static struct object *end(struct collection_edit *edit) {
    struct change *change = edit->change;
    uint64_t dirty = atomic_load_explicit(&change->dirty, memory_order_relaxed);
    struct object *hash = collection_edit_end(edit, CHANGE_HEXPIRED);
    atomic_store_explicit(&change->dirty, dirty, memory_order_relaxed);
    return hash;
}

struct object *hash_expire_fields(struct change *change, unsigned database, const struct key *key,
                                  struct object *hash, const struct hash_field *fields, size_t n) {
    struct collection_edit edit;
    int64_t time_ms;
    begin(&edit, change, database, key, hash);
    for (size_t i = 0; i < n; i++)
        if (hash_edit_time(&edit, fields[i].data, fields[i].length, &time_ms) &&
            view_is_over(&change->view, time_ms))
            remove_field(&edit, fields[i].data, fields[i].length);
    return end(&edit);
}

struct object *hash_expire_due(struct change *change, unsigned database, const struct key *key,
                               struct object *hash, uint64_t n) {
    struct collection_edit edit;
    struct element field;
    ASSERT(object_has_field_times(hash));
    begin(&edit, change, database, key, hash);
    collection_edit_touch(&edit); /* what is read next is what will be changed */
    for (; n > 0 && view_is_over(&change->view, field_times_first(edit.body, &field)); n--)
        remove_field(&edit, field.data, field.length);
    return end(&edit);
}
