/* Strings: SET and its relatives, GET and its relatives, ranges.
 *
 * A value of up to OBJECT_EMBED_MAX_BYTES is never changed in place: readers look at it without a
 * token. Every change of one publishes a new object and retires the old. A larger one is a blob,
 * which only holders of the token see; APPEND and SETRANGE change it in place.
 *
 * Run by: any worker, see command.h. Readers (GET, MGET, STRLEN, GETRANGE) also without tokens. */
#include "engine/memory.h"
#include "engine/types/string.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_data.h"

/* --- Options of SET and GETEX ----------------------------------------------------------------- */

enum {
    OPTION_NX = 1 << 0,
    OPTION_XX = 1 << 1,
    OPTION_GET = 1 << 2,
    OPTION_KEEPTTL = 1 << 3,
    OPTION_PERSIST = 1 << 4,
    OPTION_EX = 1 << 5,
    OPTION_PX = 1 << 6,
    OPTION_EXAT = 1 << 7,
    OPTION_PXAT = 1 << 8,
    OPTIONS_WITH_TIME = OPTION_EX | OPTION_PX | OPTION_EXAT | OPTION_PXAT,
    OPTIONS_OF_SET = OPTION_NX | OPTION_XX | OPTION_GET | OPTION_KEEPTTL | OPTIONS_WITH_TIME,
    OPTIONS_OF_GETEX = OPTION_PERSIST | OPTIONS_WITH_TIME,
    OPTIONS_OF_TTL = OPTION_KEEPTTL | OPTION_PERSIST | OPTIONS_WITH_TIME,
};

/* Of each group only one may be given; the same one may be repeated, the last counts. */
static const struct option {
    const char *word;
    unsigned flag, group;
} option_words[] = {
    {"ex", OPTION_EX, OPTIONS_OF_TTL},
    {"px", OPTION_PX, OPTIONS_OF_TTL},
    {"nx", OPTION_NX, OPTION_NX | OPTION_XX},
    {"xx", OPTION_XX, OPTION_NX | OPTION_XX},
    {"get", OPTION_GET, 0},
    {"exat", OPTION_EXAT, OPTIONS_OF_TTL},
    {"pxat", OPTION_PXAT, OPTIONS_OF_TTL},
    {"keepttl", OPTION_KEEPTTL, OPTIONS_OF_TTL},
    {"persist", OPTION_PERSIST, OPTIONS_OF_TTL},
};

static const struct option *option_find(const struct argument *argument) {
    for (size_t i = 0; i < sizeof option_words / sizeof *option_words; i++)
        if (argument_is(argument, option_words[i].word))
            return &option_words[i];
    return NULL;
}

/* Reads argv[first..]. *time_index is where the time stands, if one of OPTIONS_WITH_TIME is set. */
static bool options_parse(struct call *call, int first, unsigned allowed, unsigned *flags,
                          int *time_index) {
    *flags = 0;
    for (int i = first; i < call->argc; i++) {
        const struct option *option = option_find(&call->argv[i]);
        if (!option || !(option->flag & allowed) || (*flags & option->group & ~option->flag))
            goto error;
        if (option->flag & OPTIONS_WITH_TIME) {
            if (++i == call->argc)
                goto error;
            *time_index = i;
        }
        *flags |= option->flag;
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static bool options_expiry(struct call *call, unsigned flags, int time_index, int64_t *expiry_ms) {
    *expiry_ms = OBJECT_NO_EXPIRY;
    if (!(flags & OPTIONS_WITH_TIME))
        return true;
    return data_expiry_argument(call, time_index, flags & (OPTION_EX | OPTION_EXAT),
                                flags & (OPTION_EX | OPTION_PX), expiry_ms);
}

/* --- SET -------------------------------------------------------------------------------------- */

/* SET key value PXAT ms. */
static void propagate_dated(struct call *call, const struct key *key, const struct argument *value,
                            int64_t expiry_ms) {
    if (!call_is_logged(call))
        return;
    char text[NUMBER_INT64_SIZE];
    size_t length = number_write_int64(text, expiry_ms);
    struct effect_argument arguments[5] = {{"SET", 3},
                                           {key->data, key->length},
                                           {value->data, value->length},
                                           {"PXAT", 4},
                                           {text, length}};
    call_propagate(call, arguments, 5);
}

/* SET key value, without the options GET, which asks for a reply only. */
static void propagate_without_get(struct call *call) {
    if (!call_is_logged(call))
        return;
    struct effect_argument few[8], *arguments = few;
    size_t count = 0;
    if ((size_t)call->argc > sizeof few / sizeof *few)
        arguments = memory_alloc((size_t)call->argc * sizeof *arguments);
    for (int i = 0; i < call->argc; i++)
        if (i < 3 || !argument_is(&call->argv[i], "get"))
            arguments[count++] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    call_propagate(call, arguments, count);
    if (arguments != few)
        memory_free(arguments);
}

static inline void store(struct call *call, const struct key *key, struct object *old,
                         const struct argument *value, int64_t expiry_ms) {
    struct object *object = object_make_string(key->data, key->length, value->data, value->length,
                                               expiry_ms, STRING_SET);
    data_publish(call, key, old, object, CHANGE_SET);
}

/* The same with a time to live of its own. */
static void store_dated(struct call *call, const struct key *key, struct object *old,
                        const struct argument *value, int64_t expiry_ms) {
    store(call, key, old, value, expiry_ms);
    change_also(call->change, call->database, key, CHANGE_EXPIRE);
}

/* The old value is the reply. *old as call_find_write gives it. false: error replied. */
static bool reply_old_value(struct call *call, struct object **old) {
    *old = call_find_read(call, &call->key);
    if (!*old) {
        reply_null(call->reply);
        *old = call_find_write(call, &call->key);
        return true;
    }
    if (!data_is_string(call, *old))
        return false;
    reply_bulk_object(call->reply, *old);
    return true;
}

static void set_with_options(struct call *call) {
    unsigned flags;
    int time_index = 0;
    int64_t expiry_ms;
    const struct key *key = &call->key;
    struct object *old;
    if (!options_parse(call, 3, OPTIONS_OF_SET, &flags, &time_index) ||
        !options_expiry(call, flags, time_index, &expiry_ms))
        return;
    if (!(flags & OPTION_GET))
        old = call_find_write(call, key);
    else if (!reply_old_value(call, &old))
        return;
    if (old ? flags & OPTION_NX : flags & OPTION_XX) {
        if (!(flags & OPTION_GET))
            reply_null(call->reply);
        return;
    }
    if ((flags & OPTION_KEEPTTL) && old)
        expiry_ms = object_expiry(old);
    if (flags & OPTIONS_WITH_TIME) {
        store_dated(call, key, old, &call->argv[2], expiry_ms);
        if (!(flags & OPTION_PXAT))
            propagate_dated(call, key, &call->argv[2], expiry_ms);
    } else {
        store(call, key, old, &call->argv[2], expiry_ms);
        if (flags & OPTION_GET)
            propagate_without_get(call);
    }
    if (!(flags & OPTION_GET))
        reply_ok(call->reply);
}

enum call_result cmd_set(struct call *call) {
    if (LIKELY(call->argc == 3)) {
        struct object *old = call_find_write(call, &call->key);
        store(call, &call->key, old, &call->argv[2], OBJECT_NO_EXPIRY);
        reply_ok(call->reply);
    } else {
        set_with_options(call);
    }
    return CALL_DONE;
}

enum call_result cmd_setnx(struct call *call) {
    struct object *old = call_find_write(call, &call->key);
    if (!old)
        store(call, &call->key, NULL, &call->argv[2], OBJECT_NO_EXPIRY);
    reply_integer(call->reply, !old);
    return CALL_DONE;
}

static enum call_result set_dated(struct call *call, bool seconds) {
    int64_t expiry_ms;
    if (!data_expiry_argument(call, 2, seconds, true, &expiry_ms))
        return CALL_DONE;
    struct object *old = call_find_write(call, &call->key);
    store_dated(call, &call->key, old, &call->argv[3], expiry_ms);
    propagate_dated(call, &call->key, &call->argv[3], expiry_ms);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_setex(struct call *call) {
    return set_dated(call, true);
}

enum call_result cmd_psetex(struct call *call) {
    return set_dated(call, false);
}

enum call_result cmd_getset(struct call *call) {
    struct object *old;
    if (!reply_old_value(call, &old))
        return CALL_DONE;
    store(call, &call->key, old, &call->argv[2], OBJECT_NO_EXPIRY);
    struct effect_argument arguments[3] = {
        {"SET", 3}, {call->key.data, call->key.length}, {call->argv[2].data, call->argv[2].length}};
    call_propagate(call, arguments, 3);
    return CALL_DONE;
}

static bool pairs_are_complete(struct call *call) {
    if (call->argc % 2 == 1)
        return true;
    command_reply_wrong_arity(call->reply, call->command);
    return false;
}

/* A key may be named twice: each pair is looked up when its turn comes. */
static void store_pairs(struct call *call) {
    for (int i = 1; i < call->argc; i += 2) {
        struct key key = call_key(call, i);
        struct object *old = call_find_write(call, &key);
        store(call, &key, old, &call->argv[i + 1], OBJECT_NO_EXPIRY);
    }
}

enum call_result cmd_mset(struct call *call) {
    if (!pairs_are_complete(call))
        return CALL_DONE;
    store_pairs(call);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_msetnx(struct call *call) {
    if (!pairs_are_complete(call))
        return CALL_DONE;
    for (int i = 1; i < call->argc; i += 2) {
        struct key key = call_key(call, i);
        if (call_find_write(call, &key)) {
            reply_integer(call->reply, 0);
            return CALL_DONE;
        }
    }
    store_pairs(call);
    reply_integer(call->reply, 1);
    return CALL_DONE;
}

/* --- GET -------------------------------------------------------------------------------------- */

enum call_result cmd_get(struct call *call) {
    struct object *object = call_find_read(call, &call->key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (UNLIKELY(!data_is_string(call, object)))
        return CALL_DONE;
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    reply_bulk_object(call->reply, object);
    return CALL_DONE;
}

enum call_result cmd_mget(struct call *call) {
    reply_array(call->reply, (size_t)call->argc - 1);
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        struct object *object = call_find_read(call, &key);
        if (!object || object_type(object) != OBJECT_STRING) {
            reply_null(call->reply);
            continue;
        }
        if (data_is_protected(call, object))
            return CALL_NEED_TOKENS;
        reply_bulk_object(call->reply, object);
    }
    return CALL_DONE;
}

enum call_result cmd_getdel(struct call *call) {
    struct object *object = call_find_read(call, &call->key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (!data_is_string(call, object))
        return CALL_DONE;
    reply_bulk_object(call->reply, object);
    keyspace_delete(call->change, call->database, &call->key, CHANGE_DEL);
    data_propagate_key(call, "DEL", &call->key);
    return CALL_DONE;
}

enum call_result cmd_getex(struct call *call) {
    unsigned flags;
    int time_index = 0;
    int64_t expiry_ms;
    const struct key *key = &call->key;
    if (!options_parse(call, 2, OPTIONS_OF_GETEX, &flags, &time_index))
        return CALL_DONE;
    struct object *object = call_find_read(call, key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (!data_is_string(call, object) || !options_expiry(call, flags, time_index, &expiry_ms))
        return CALL_DONE;
    reply_bulk_object(call->reply, object);
    if ((flags & (OPTION_EXAT | OPTION_PXAT)) && view_is_over(&call->change->view, expiry_ms)) {
        data_expire_at_once(call, key);
    } else if (flags & OPTIONS_WITH_TIME) {
        keyspace_set_expiry(call->change, call->database, key, object, expiry_ms);
        data_propagate_key_integer(call, "PEXPIREAT", key, expiry_ms);
    } else if ((flags & OPTION_PERSIST) && object_expiry(object) != OBJECT_NO_EXPIRY) {
        keyspace_set_expiry(call->change, call->database, key, object, OBJECT_NO_EXPIRY);
        data_propagate_key(call, "PERSIST", key);
    }
    return CALL_DONE;
}

enum call_result cmd_strlen(struct call *call) {
    struct object *object = call_find_read(call, &call->key);
    if (!object) {
        reply_integer(call->reply, 0);
        return CALL_DONE;
    }
    if (!data_is_string(call, object))
        return CALL_DONE;
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    reply_integer(call->reply, (int64_t)object_string_length(object));
    return CALL_DONE;
}

/* --- Ranges ----------------------------------------------------------------------------------- */

enum call_result cmd_getrange(struct call *call) {
    int64_t start, end;
    if (!argument_integer(call, 2, &start) || !argument_integer(call, 3, &end))
        return CALL_DONE;
    struct object *object = call_find_read(call, &call->key);
    if (!object) {
        reply_bulk(call->reply, "", 0);
        return CALL_DONE;
    }
    if (!data_is_string(call, object))
        return CALL_DONE;
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t size;
    const char *text = object_string(object, buffer, &size);
    int64_t length = (int64_t)size;
    /* Two negative bounds in the wrong order name nothing; else both could be cut off to 0. */
    bool nothing = start < 0 && end < 0 && start > end;
    if (start < 0)
        start = start + length > 0 ? start + length : 0;
    if (end < 0)
        end = end + length > 0 ? end + length : 0;
    if (end >= length)
        end = length - 1;
    if (nothing || start > end || length == 0)
        reply_bulk(call->reply, "", 0);
    else
        reply_bulk(call->reply, text + start, (size_t)(end - start) + 1);
    return CALL_DONE;
}

enum call_result cmd_substr(struct call *call) {
    return cmd_getrange(call);
}

static size_t write_range(struct call *call, struct object *old, size_t offset,
                          const struct argument *value, enum change_event event) {
    return string_write_range(call->change, call->database, &call->key, old, offset, value->data,
                              value->length, event);
}

enum call_result cmd_append(struct call *call) {
    const struct argument *value = &call->argv[2];
    struct object *old = call_find_write(call, &call->key);
    if (!old) {
        store(call, &call->key, NULL, value, OBJECT_NO_EXPIRY);
        reply_integer(call->reply, (int64_t)value->length);
        return CALL_DONE;
    }
    if (!data_is_string(call, old))
        return CALL_DONE;
    size_t length = object_string_length(old);
    if (data_length_is_allowed(call, length, value->length))
        reply_integer(call->reply, (int64_t)write_range(call, old, length, value, CHANGE_APPEND));
    return CALL_DONE;
}

enum call_result cmd_setrange(struct call *call) {
    const struct key *key = &call->key;
    const struct argument *value = &call->argv[3];
    int64_t offset;
    if (!argument_integer(call, 2, &offset))
        return CALL_DONE;
    if (offset < 0) {
        reply_error(call->reply, "ERR offset is out of range");
        return CALL_DONE;
    }
    struct object *old = call_find_write(call, key);
    if (old && !data_is_string(call, old))
        return CALL_DONE;
    if (value->length == 0) {
        reply_integer(call->reply, old ? (int64_t)object_string_length(old) : 0);
        return CALL_DONE;
    }
    if (!data_length_is_allowed(call, (size_t)offset, value->length))
        return CALL_DONE;
    if (old) {
        reply_integer(call->reply,
                      (int64_t)write_range(call, old, (size_t)offset, value, CHANGE_SETRANGE));
        return CALL_DONE;
    }
    char *content;
    size_t length = (size_t)offset + value->length;
    struct object *object =
        object_make_buffer(key->data, key->length, length, OBJECT_NO_EXPIRY, false, &content);
    memset(content, 0, (size_t)offset);
    memcpy(content + offset, value->data, value->length);
    keyspace_add(call->change, call->database, key, object, CHANGE_SETRANGE);
    reply_integer(call->reply, (int64_t)length);
    return CALL_DONE;
}
