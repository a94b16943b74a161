/* See collection.h.
 *
 * Packed bytes that are edited lie in buffers of the thread, one for each edit that may be open at
 * once, which are kept for the next ones: an edit allocates nothing but the new object.
 *
 * Reclamation: an object that was published is retired and freed after the grace periods, its body
 * with it; the body goes when the last who has it lent returns it. */
#include "engine/types/collection.h"

#include "engine/assert.h"
#include "engine/background.h"
#include "engine/memory.h"
#include "engine/object_private.h"
#include "engine/types/intset.h"

#define BUFFER_KEPT_BYTES  ((size_t)64 * 1024) /* a larger one is not kept for the next edit */
#define BACKGROUND_MEMBERS 64 /* a body of more is freed on the background thread */

static _Thread_local struct listpack_buffer buffers[COLLECTION_EDITS];
static _Thread_local unsigned buffers_used;

/* --- Bodies ----------------------------------------------------------------------------------- */

struct collection *collection_make(const struct tree_kind *members, const struct tree_kind *order) {
    struct collection *body = memory_alloc(sizeof *body);
    atomic_init(&body->references, 1);
    body->reserved = 0;
    tree_init(&body->members, members);
    tree_init(&body->order, order);
    body->field_times = NULL;
    return body;
}

struct collection *collection_lend(struct collection *body) {
    atomic_fetch_add_explicit(&body->references, 1, memory_order_relaxed);
    return body;
}

static void body_free(struct collection *body) {
    tree_clear(&body->members);
    tree_clear(&body->order);
    for (unsigned i = 0; body->field_times && i < FIELD_TIMES_TREES; i++)
        tree_clear(&body->field_times[i]);
    memory_free(body->field_times);
    memory_free(body);
}

static void free_job(void *pointer) {
    struct collection *body = pointer;
    int64_t bytes = (int64_t)collection_bytes(body);
    body_free(body);
    memory_freeing_add(-bytes);
}

void collection_return(struct collection *body) {
    if (atomic_fetch_sub_explicit(&body->references, 1, memory_order_acq_rel) != 1)
        return;
    if (body->members.count + body->order.count <= BACKGROUND_MEMBERS) {
        body_free(body);
        return;
    }
    memory_freeing_add((int64_t)collection_bytes(body));
    background_submit(free_job, body);
}

size_t collection_bytes(const struct collection *body) {
    size_t bytes = memory_class_bytes(sizeof *body) + body->members.bytes + body->order.bytes;
    if (!body->field_times)
        return bytes;
    bytes += memory_class_bytes(FIELD_TIMES_TREES * sizeof *body->field_times);
    for (unsigned i = 0; i < FIELD_TIMES_TREES; i++)
        bytes += body->field_times[i].bytes;
    return bytes;
}

/* Another body of the same content, whose nodes both have. */
static struct collection *body_share(const struct collection *body) {
    struct collection *copy = memory_alloc(sizeof *copy);
    atomic_init(&copy->references, 1);
    copy->reserved = 0;
    tree_share(&copy->members, &body->members);
    tree_share(&copy->order, &body->order);
    copy->field_times = NULL;
    if (body->field_times)
        copy->field_times = memory_alloc(FIELD_TIMES_TREES * sizeof *copy->field_times);
    for (unsigned i = 0; body->field_times && i < FIELD_TIMES_TREES; i++)
        tree_share(&copy->field_times[i], &body->field_times[i]);
    return copy;
}

size_t collection_body_bytes(const struct object *object) {
    return collection_bytes(collection_body(object));
}

void *collection_body_copy(const struct object *object) {
    return body_share(collection_body(object));
}

void collection_body_free(struct object *object) {
    collection_return(collection_body(object));
}

const char *collection_encoding_name(const struct object *object) {
    static const char *const names[] = {[ENCODING_LISTPACK] = "listpack",
                                        [ENCODING_INTSET] = "intset",
                                        [ENCODING_HASHTABLE] = "hashtable",
                                        [ENCODING_SKIPLIST] = "skiplist",
                                        [ENCODING_QUICKLIST] = "quicklist",
                                        [ENCODING_LISTPACK_EX] = "listpackex",
                                        [ENCODING_LISTPACK_EX_TIMED] = "listpackex",
                                        [ENCODING_HASHTABLE_TIMED] = "hashtable"};
    ASSERT(object_encoding(object) >= ENCODING_LISTPACK);
    return names[object_encoding(object)];
}

/* --- Edits ------------------------------------------------------------------------------------ */

static struct listpack_buffer *buffer_take(void) {
    ASSERT(buffers_used < COLLECTION_EDITS);
    return &buffers[buffers_used++];
}

static void buffer_give_back(struct collection_edit *edit) {
    ASSERT(buffers_used > 0 && edit->packed == &buffers[buffers_used - 1]);
    buffers_used--;
    if (edit->packed->capacity > BUFFER_KEPT_BYTES)
        listpack_buffer_free(edit->packed);
    edit->packed = NULL;
}

void collection_thread_exit(void) {
    ASSERT(buffers_used == 0);
    for (unsigned i = 0; i < COLLECTION_EDITS; i++)
        listpack_buffer_free(&buffers[i]);
}

static void clear_packed(const struct collection_edit *edit) {
    if (edit->encoding == ENCODING_INTSET)
        intset_clear(edit->packed);
    else
        listpack_clear(edit->packed);
}

void collection_edit_begin(struct collection_edit *edit, struct change *change, unsigned database,
                           const struct key *key, struct object *object, enum object_type type,
                           enum object_encoding encoding) {
    ASSERT(!object || object_type(object) == type);
    *edit = (struct collection_edit){.change = change,
                                     .database = database,
                                     .key = key,
                                     .object = object,
                                     .type = type,
                                     .encoding = object ? object_encoding(object) : encoding,
                                     .packed = buffer_take()};
    if (!object) {
        clear_packed(edit);
    } else if (object_needs_token(object)) {
        edit->body = collection_body(object);
    } else {
        size_t length;
        const uint8_t *bytes = object_packed(object, &length);
        listpack_assign(edit->packed, bytes, length);
    }
}

void collection_edit_touch_first(struct collection_edit *edit) {
    edit->touched = true;
    if (!edit->change || !edit->object || !edit->body)
        return;
    change_before(edit->change, edit->database, edit->key, edit->object);
    struct collection *body = edit->body;
    /* Only the token's holder lends, so 1 cannot become 2 here. */
    if (atomic_load_explicit(&body->references, memory_order_acquire) == 1)
        return;
    edit->body = body_share(body);
    object_set_pointer(edit->object, edit->body);
    collection_return(body);
}

void collection_edit_unpack(struct collection_edit *edit, struct collection *body) {
    ASSERT(!edit->body);
    edit->body = body;
    edit->touched = true;
}

static size_t packed_bytes(const struct collection_edit *edit) {
    return edit->encoding == ENCODING_INTSET ? intset_bytes(edit->packed->bytes)
                                             : listpack_bytes(edit->packed->bytes);
}

static struct object *make_object(const struct collection_edit *edit, const char *key,
                                  size_t key_length, int64_t expiry_ms) {
    if (edit->body)
        return object_make_pointer(key, key_length, edit->type, edit->encoding, edit->body,
                                   expiry_ms);
    return object_make_packed(key, key_length, edit->type, edit->encoding, edit->packed->bytes,
                              packed_bytes(edit), expiry_ms);
}

/* It has a body and had one: that has been changed in place, or taken the other's place already. */
static bool is_in_place(const struct collection_edit *edit) {
    return edit->object && edit->body && object_needs_token(edit->object);
}

static struct object *publish(const struct collection_edit *edit, enum change_event event) {
    const struct key *key = edit->key;
    if (is_in_place(edit) && object_encoding(edit->object) == edit->encoding) {
        change_after(edit->change, edit->database, key, event);
        return edit->object;
    }
    int64_t expiry_ms = edit->object ? object_expiry(edit->object) : OBJECT_NO_EXPIRY;
    /* A body that was there moves to the new object. */
    struct object *object = make_object(edit, key->data, key->length, expiry_ms);
    if (edit->object)
        keyspace_replace(edit->change, edit->database, key, edit->object, object, event);
    else
        keyspace_add(edit->change, edit->database, key, object, event);
    return object;
}

struct object *collection_edit_end(struct collection_edit *edit, enum change_event event) {
    struct object *object = edit->object;
    ASSERT(edit->change);
    if (edit->changed > 0 && edit->count == 0) {
        if (edit->body && !is_in_place(edit))
            collection_return(edit->body);
        if (object) {
            change_also(edit->change, edit->database, edit->key, event);
            keyspace_delete(edit->change, edit->database, edit->key, CHANGE_DEL);
            change_count(edit->change, edit->changed - 1);
        }
        object = NULL;
    } else if (edit->changed > 0) {
        object = publish(edit, event);
        change_count(edit->change, edit->changed - 1);
    } else {
        ASSERT(!edit->body || is_in_place(edit)); /* nothing was moved for nothing */
    }
    buffer_give_back(edit);
    return object;
}

void collection_draft_begin(struct collection_edit *draft, enum object_type type,
                            enum object_encoding encoding) {
    *draft = (struct collection_edit){.type = type, .encoding = encoding, .packed = buffer_take()};
    clear_packed(draft);
}

struct object *collection_draft_end(struct collection_edit *draft, const char *key,
                                    size_t key_length, int64_t expiry_ms) {
    struct object *object = NULL;
    ASSERT(!draft->change);
    if (draft->count > 0)
        object = make_object(draft, key, key_length, expiry_ms);
    else if (draft->body)
        collection_return(draft->body);
    buffer_give_back(draft);
    return object;
}

void collection_draft_drop(struct collection_edit *draft) {
    ASSERT(!draft->change);
    if (draft->body)
        collection_return(draft->body);
    buffer_give_back(draft);
}
