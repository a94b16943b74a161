/* See cmd_collection.h. */
#include "server/commands/cmd_collection.h"

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
    if (element->data)
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
