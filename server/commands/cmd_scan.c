/* The keys of a database: SCAN, KEYS, RANDOMKEY, DBSIZE. Each shows it as it was at one moment.
 *
 * SCAN, RANDOMKEY and DBSIZE look at it without tokens while others go on, and run once more with
 * all workers stopped if changes came between too often. What they find are objects, which live
 * until the end of the command and whose keys never change. KEYS stops the workers at once.
 *
 * Run by: any worker. call->tokens tells that all is stopped. */
#include "engine/types/type.h"
#include "server/base/glob.h"
#include "server/commands/cmd_data.h"

#define SCAN_COUNT_DEFAULT 10
#define CURSOR_END         ((uint64_t)1 << 53)

/* --- Which of the keys ------------------------------------------------------------------------ */

struct filter {
    const char *pattern; /* NULL: all keys */
    size_t pattern_length;
    int type; /* enum object_type; -1: all, TYPE_UNKNOWN: none */
};

#define TYPE_UNKNOWN (-2)

static bool filter_matches(const struct filter *filter, const struct object *object) {
    size_t length;
    if (filter->type != -1 && filter->type != (int)object_type(object))
        return false;
    if (!filter->pattern)
        return true;
    const char *key = object_key(object, &length);
    return glob_match(filter->pattern, filter->pattern_length, key, length, false);
}

static void filter_set_pattern(struct filter *filter, const struct argument *pattern) {
    if (pattern->length == 1 && pattern->data[0] == '*')
        filter->pattern = NULL; /* matches everything: do not even look */
    else
        filter->pattern = pattern->data;
    filter->pattern_length = pattern->length;
}

static void reply_key(struct call *call, const struct object *object) {
    size_t length;
    const char *key = object_key(object, &length);
    reply_bulk(call->reply, key, length);
}

/* Moves the expired ones to the end; returns how many of the list come before them. */
static size_t expired_to_end(struct view *view, struct scan_list *list) {
    size_t live = list->count;
    for (size_t i = 0; i < live;) {
        const struct object *object = list->objects[i];
        if (!view_is_expired(view, object)) {
            i++;
            continue;
        }
        list->objects[i] = list->objects[--live];
        list->objects[live] = object;
    }
    return live;
}

/* Replies those of the first n objects that match. */
static void reply_keys(struct call *call, const struct filter *filter, struct scan_list *list,
                       size_t n) {
    size_t matches = 0;
    for (size_t i = 0; i < n; i++)
        if (filter_matches(filter, list->objects[i]))
            list->objects[matches++] = list->objects[i];
    reply_array(call->reply, matches);
    for (size_t i = 0; i < matches; i++)
        reply_key(call, list->objects[i]);
}

/* SCAN deletes the expired keys that it met, as in Redis. A slot that somebody else holds is left
 * alone: the expiry duty comes by. */
static void delete_expired(struct call *call, const struct object *const *objects, size_t n) {
    if (n == 0 || !view_may_expire(&call->change->view))
        return;
    for (size_t i = 0; i < n; i++) {
        const struct object *object = objects[i];
        size_t length;
        const char *data = object_key(object, &length);
        struct key key = key_make(data, length);
        struct slot *slot = &call->keyspace->slots[key.slot];
        if (!call->tokens && !slot_try_acquire(slot))
            continue;
        /* Meanwhile it may have been replaced, or made to live longer in place. */
        if (keyspace_find_raw(call->keyspace, call->database, &key) == object &&
            view_is_expired(&call->change->view, object))
            keyspace_expire(call->change, call->database, &key);
        if (call->tokens)
            continue;
        change_commit(call->change);
        slot_release(slot);
    }
}

/* --- SCAN ------------------------------------------------------------------------------------- */

/* A type that is not linked in has no name. */
static int type_by_name(const struct argument *name) {
    for (int type = 0; type < OBJECT_MODULE; type++)
        if (object_types[type] && argument_is(name, object_types[type]->name))
            return type;
    return TYPE_UNKNOWN;
}

static bool scan_options_parse(struct call *call, struct filter *filter, int64_t *count) {
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
            filter_set_pattern(filter, &call->argv[i + 1]);
        } else if (argument_is(option, "type") && has_value) {
            filter->type = type_by_name(&call->argv[i + 1]);
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
    struct filter filter = {.type = -1};
    struct scan_list list = {0};
    uint64_t cursor;
    int64_t count;
    if (!data_cursor_argument(call, 1, &cursor))
        return CALL_DONE;
    if (!scan_options_parse(call, &filter, &count))
        return CALL_DONE;
    bool settled = true;
    if (cursor >= CURSOR_END)
        cursor = 0; /* never one of ours: nothing is left to be seen behind it */
    else
        settled = keyspace_scan(call->keyspace, call->database, &cursor, (size_t)count,
                                call->tokens, &list);
    if (settled) {
        reply_array(call->reply, 2);
        reply_bulk_integer(call->reply, (int64_t)cursor);
        size_t live = expired_to_end(&call->change->view, &list);
        reply_keys(call, &filter, &list, live);
        delete_expired(call, list.objects + live, list.count - live);
    }
    scan_list_free(&list);
    return settled ? CALL_DONE : CALL_NEED_EXCLUSIVE;
}

/* --- KEYS, RANDOMKEY, DBSIZE ------------------------------------------------------------------ */

enum call_result cmd_keys(struct call *call) {
    struct filter filter = {.type = -1};
    struct scan_list list = {0};
    struct reply_deferred array = reply_deferred_begin(call->reply);
    uint64_t cursor = 0;
    size_t matches = 0;
    filter_set_pattern(&filter, &call->argv[1]);
    do {
        keyspace_scan(call->keyspace, call->database, &cursor, SIZE_MAX, true, &list);
        for (size_t i = 0; i < list.count; i++)
            if (!view_is_expired(&call->change->view, list.objects[i]) &&
                filter_matches(&filter, list.objects[i])) {
                reply_key(call, list.objects[i]);
                matches++;
            }
    } while (cursor != 0);
    scan_list_free(&list);
    reply_deferred_array(call->reply, array, matches);
    return CALL_DONE;
}

enum call_result cmd_randomkey(struct call *call) {
    const struct object *object;
    if (!keyspace_random(call->keyspace, &call->change->view, call->database, call->tokens,
                         &object))
        return CALL_NEED_EXCLUSIVE;
    if (object)
        reply_key(call, object);
    else
        reply_null(call->reply);
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
