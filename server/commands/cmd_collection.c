/* See cmd_collection.h. */
#include "server/commands/cmd_collection.h"

#include "engine/memory.h"
#include "server/base/glob.h"

#define SCAN_COUNT_DEFAULT 10

static enum collection_found judge(struct call *call, const struct object *object,
                                   enum object_type type) {
    if (!object)
        return COLLECTION_ABSENT;
    if (UNLIKELY(object_type(object) != type)) {
        reply_error(call->reply, ERROR_WRONG_TYPE);
        return COLLECTION_WRONG_TYPE;
    }
    return COLLECTION_THERE;
}

enum collection_found collection_read(struct call *call, int index, enum object_type type,
                                      struct object **object) {
    struct key key = call_key(call, index);
    *object = call_find_read(call, &key);
    enum collection_found found = judge(call, *object, type);
    if (found == COLLECTION_THERE && data_is_protected(call, *object))
        return COLLECTION_NEEDS_TOKEN;
    return found;
}

enum collection_found collection_write(struct call *call, int index, enum object_type type,
                                       struct object **object) {
    struct key key = call_key(call, index);
    *object = call_find_write(call, &key);
    return judge(call, *object, type);
}

void reply_element(struct reply *reply, const struct element *element) {
    if (UNLIKELY(element->blob != NULL))
        reply_bulk_blob(reply, element->blob);
    else if (element->data)
        reply_bulk(reply, element->data, element->length);
    else
        reply_bulk_integer(reply, element->integer);
}

/* --- SCAN's options --------------------------------------------------------------------------- */

bool scan_options_read(struct call *call, struct scan_options *options) {
    *options = (struct scan_options){.count = SCAN_COUNT_DEFAULT};
    if (!data_cursor_argument(call, 2, &options->cursor))
        return false;
    for (int i = 3; i < call->argc; i += 2) {
        const struct argument *option = &call->argv[i];
        bool has_value = i + 1 < call->argc;
        if (argument_is(option, "count") && has_value) {
            int64_t count;
            if (!argument_integer(call, i + 1, &count))
                return false;
            if (count < 1)
                goto error;
            options->count = (uint64_t)count;
        } else if (argument_is(option, "match") && has_value) {
            const struct argument *pattern = &call->argv[i + 1];
            bool all = pattern->length == 1 && pattern->data[0] == '*';
            options->pattern = all ? NULL : pattern->data;
            options->pattern_length = pattern->length;
        } else {
            goto error;
        }
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

bool scan_matches(const struct scan_options *options, const struct element *element) {
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    if (!options->pattern)
        return true;
    const char *text = element_text(element, room, &length);
    return glob_match(options->pattern, options->pattern_length, text, length, false);
}

/* What a scan has met, since the next cursor is replied first. */
struct scan_found {
    const struct scan_options *options;
    struct call *call;
    const struct object *object;
    bool (*is_hidden)(struct call *call, const struct object *object, const char *member,
                      size_t length); /* NULL: none is */
    struct element *elements;         /* few, or more in memory of their own */
    size_t count, room;
    struct element few[64];
};

static void scan_add(struct scan_found *found, const struct element *element) {
    if (found->count == found->room) {
        size_t bytes = found->room * sizeof *found->elements;
        struct element *more = memory_alloc(2 * bytes);
        memcpy(more, found->elements, bytes);
        if (found->elements != found->few)
            memory_free(found->elements);
        found->elements = more;
        found->room *= 2;
    }
    found->elements[found->count++] = *element;
}

static bool scan_note(void *context, const struct element *member, const struct element *value,
                      double score) {
    struct scan_found *found = context;
    (void)score;
    if (!scan_matches(found->options, member))
        return true;
    if (UNLIKELY(found->is_hidden != NULL) &&
        found->is_hidden(found->call, found->object, member->data, member->length))
        return true; /* in a body members are texts */
    scan_add(found, member);
    if (value)
        scan_add(found, value);
    return true;
}

enum call_result scan_collection(struct call *call, enum object_type type,
                                 uint64_t (*scan)(const struct object *object, uint64_t cursor,
                                                  uint64_t count, collection_visit *visit,
                                                  void *context),
                                 bool (*is_hidden)(struct call *call, const struct object *object,
                                                   const char *member, size_t length)) {
    struct scan_options options;
    struct object *object;
    uint64_t cursor;
    if (!data_cursor_argument(call, 2, &cursor))
        return CALL_DONE;
    enum collection_found is_there = collection_read(call, 1, type, &object);
    if (is_there == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (is_there == COLLECTION_WRONG_TYPE ||
        (is_there == COLLECTION_THERE && !scan_options_read(call, &options)))
        return CALL_DONE;
    struct scan_found found;
    found.options = &options;
    found.call = call;
    found.object = object;
    found.is_hidden = object && object_has_field_times(object) ? is_hidden : NULL;
    found.elements = found.few;
    found.count = 0;
    found.room = sizeof found.few / sizeof *found.few;
    cursor = object ? scan(object, options.cursor, options.count, scan_note, &found) : 0;
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, (int64_t)cursor);
    reply_array(call->reply, found.count);
    for (size_t i = 0; i < found.count; i++)
        reply_element(call->reply, &found.elements[i]);
    if (found.elements != found.few)
        memory_free(found.elements);
    return CALL_DONE;
}
