/* The keys of a database: SCAN, KEYS, RANDOMKEY, DBSIZE.
 *
 * SCAN and RANDOMKEY take no tokens of their own: keyspace_scan reads each slot's part
 * consistently. They collect pointers to objects, which live until the end of the command and whose
 * keys never change; the reply needs to know their number first. KEYS runs while all workers are
 * stopped, so what it returns existed at one moment.
 *
 * Run by: any worker. call->tokens tells that all is stopped (KEYS; SCAN inside a transaction). */
#include "engine/memory.h"
#include "server/cmd_data.h"
#include "server/glob.h"

#define SCAN_COUNT_DEFAULT 10
#define OBJECTS_FIRST      64
#define CURSOR_END         ((uint64_t)1 << 53)

/* --- Collecting ------------------------------------------------------------------------------- */

struct object_list {
    const struct object **objects;
    size_t count, final, capacity; /* what is beyond final may have to be forgotten */
};

static void list_push(struct object_list *list, const struct object *object) {
    if (UNLIKELY(list->count == list->capacity)) {
        list->capacity = list->capacity ? list->capacity * 2 : OBJECTS_FIRST;
        list->objects =
            memory_realloc(list->objects, list->capacity * sizeof(const struct object *));
    }
    list->objects[list->count++] = object;
}

struct collection {
    struct object_list found, expired;
    const char *pattern; /* NULL: all keys */
    size_t pattern_length;
    int type; /* enum object_type; -1: all, TYPE_UNKNOWN: none */
    bool keep_expired;
};

#define TYPE_UNKNOWN (-2)

static void collect(const struct object *object, void *context) {
    struct collection *collection = context;
    size_t length;
    if (object_is_expired(object)) {
        if (collection->keep_expired)
            list_push(&collection->expired, object);
        return;
    }
    if (collection->type != -1 && collection->type != (int)object_type(object))
        return;
    if (collection->pattern) {
        const char *key = object_key(object, &length);
        if (!glob_match(collection->pattern, collection->pattern_length, key, length, false))
            return;
    }
    list_push(&collection->found, object);
}

static void collect_mark(void *context) {
    struct collection *collection = context;
    collection->found.final = collection->found.count;
    collection->expired.final = collection->expired.count;
}

static void collect_reset(void *context) {
    struct collection *collection = context;
    collection->found.count = collection->found.final;
    collection->expired.count = collection->expired.final;
}

static struct scan_visitor collection_visitor(struct collection *collection) {
    return (struct scan_visitor){collect, collect_mark, collect_reset, collection};
}

static void collection_free(struct collection *collection) {
    memory_free(collection->found.objects);
    memory_free(collection->expired.objects);
}

static void collection_set_pattern(struct collection *collection, const struct argument *pattern) {
    if (pattern->length == 1 && pattern->data[0] == '*')
        collection->pattern = NULL; /* matches everything: do not even look */
    else
        collection->pattern = pattern->data;
    collection->pattern_length = pattern->length;
}

static void reply_keys(struct call *call, const struct object_list *list) {
    reply_array(call->reply, list->count);
    for (size_t i = 0; i < list->count; i++) {
        size_t length;
        const char *key = object_key(list->objects[i], &length);
        reply_bulk(call->reply, key, length);
    }
}

/* SCAN deletes the expired keys that it met, as in Redis. A slot that somebody else holds is left
 * alone: the expiry duty comes by. */
static void delete_expired(struct call *call, const struct object_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        const struct object *object = list->objects[i];
        size_t length;
        const char *data = object_key(object, &length);
        struct key key = key_make(data, length);
        struct slot *slot = &call->keyspace->slots[key.slot];
        if (!call->tokens && !slot_try_acquire(slot))
            continue;
        /* Meanwhile it may have been replaced, or made to live longer in place. */
        if (keyspace_find_raw(call->keyspace, call->database, &key) == object &&
            object_is_expired(object))
            keyspace_expire_now(call->keyspace, call->database, &key);
        if (!call->tokens)
            slot_release(slot);
    }
}

/* --- SCAN ------------------------------------------------------------------------------------- */

/* As strtoul reads it: a sign is allowed, nothing at all is 0. */
static bool cursor_parse(const struct argument *argument, uint64_t *cursor) {
    size_t i = 0;
    bool negative = false;
    *cursor = 0;
    if (argument->length > 0 && (argument->data[0] == '-' || argument->data[0] == '+')) {
        negative = argument->data[0] == '-';
        if (++i == argument->length)
            return false;
    }
    for (; i < argument->length; i++) {
        unsigned digit = (unsigned)(unsigned char)argument->data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(*cursor, 10, cursor) ||
            __builtin_add_overflow(*cursor, digit, cursor))
            return false;
    }
    if (negative)
        *cursor = 0 - *cursor;
    return true;
}

static int type_by_name(const struct argument *name) {
    for (int type = OBJECT_STRING; type < OBJECT_MODULE; type++)
        if (argument_is(name, object_type_name((enum object_type)type)))
            return type;
    return TYPE_UNKNOWN;
}

static bool scan_options_parse(struct call *call, struct collection *collection, int64_t *count) {
    *count = SCAN_COUNT_DEFAULT;
    for (int i = 2; i < call->argc; i += 2) {
        const struct argument *option = &call->argv[i];
        bool has_value = i + 1 < call->argc;
        if (argument_is(option, "count") && has_value) {
            if (!argument_integer(call, i + 1, count))
                return false;
            if (*count < 1)
                goto error;
        } else if (argument_is(option, "match") && has_value) {
            collection_set_pattern(collection, &call->argv[i + 1]);
        } else if (argument_is(option, "type") && has_value) {
            collection->type = type_by_name(&call->argv[i + 1]);
        } else {
            goto error;
        }
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

enum call_result cmd_scan(struct call *call) {
    struct collection collection = {.type = -1, .keep_expired = true};
    uint64_t cursor;
    int64_t count;
    if (!cursor_parse(&call->argv[1], &cursor)) {
        reply_error(call->reply, "ERR invalid cursor");
        return CALL_DONE;
    }
    if (!scan_options_parse(call, &collection, &count))
        return CALL_DONE;
    struct scan_visitor visitor = collection_visitor(&collection);
    if (cursor >= CURSOR_END)
        cursor = 0; /* never one of ours: nothing is left to be seen behind it */
    else
        cursor = keyspace_scan(call->keyspace, call->database, cursor, (size_t)count, call->tokens,
                               &visitor);
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, (int64_t)cursor);
    reply_keys(call, &collection.found);
    delete_expired(call, &collection.expired);
    collection_free(&collection);
    return CALL_DONE;
}

/* --- KEYS, RANDOMKEY, DBSIZE ------------------------------------------------------------------ */

enum call_result cmd_keys(struct call *call) {
    struct collection collection = {.type = -1};
    struct scan_visitor visitor = collection_visitor(&collection);
    uint64_t cursor = 0;
    collection_set_pattern(&collection, &call->argv[1]);
    do
        cursor = keyspace_scan(call->keyspace, call->database, cursor, SIZE_MAX, true, &visitor);
    while (cursor != 0);
    reply_keys(call, &collection.found);
    collection_free(&collection);
    return CALL_DONE;
}

enum call_result cmd_randomkey(struct call *call) {
    struct collection collection = {.type = -1};
    struct scan_visitor visitor = collection_visitor(&collection);
    bool found = keyspace_random(call->keyspace, call->database, call->tokens, &visitor) &&
                 collection.found.count > 0;
    if (found) {
        size_t length;
        const char *key = object_key(collection.found.objects[collection.found.count - 1], &length);
        reply_bulk(call->reply, key, length);
    } else {
        reply_null(call->reply);
    }
    collection_free(&collection);
    return CALL_DONE;
}

enum call_result cmd_dbsize(struct call *call) {
    uint64_t count;
    if (call->tokens)
        count = keyspace_count(call->keyspace, call->database);
    else if (!keyspace_count_at_once(call->keyspace, call->database, &count))
        return CALL_NEED_EXCLUSIVE;
    reply_integer(call->reply, (int64_t)count);
    return CALL_DONE;
}
