/* Hashes.
 *
 * Run by: any worker, see command.h. Those that only read also without tokens: what is packed is
 * never changed in place; a body is read under the token. */
#include <math.h>

#include "engine/types/hash.h"
#include "server/base/numbers.h"
#include "server/commands/choice.h"
#include "server/commands/cmd_collection.h"

/* --- Setting ---------------------------------------------------------------------------------- */

static void edit_begin(struct call *call, struct collection_edit *edit, struct object *object) {
    collection_edit_begin(edit, call->change, call->database, &call->key, object, OBJECT_HASH,
                          ENCODING_LISTPACK);
}

/* Puts argv[2..]; false: nothing has been done, and the error is replied. */
static bool put_pairs(struct call *call, int64_t *created) {
    struct collection_edit edit;
    struct object *object;
    size_t longest = 0;
    if (call->argc % 2 == 1) {
        command_reply_wrong_arity(call->reply, call->command);
        return false;
    }
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE)
        return false;
    for (int i = 2; i < call->argc; i++)
        if (call->argv[i].length > longest)
            longest = call->argv[i].length;
    *created = 0;
    edit_begin(call, &edit, object);
    hash_expect(&edit, (uint64_t)call->argc / 2 - 1, longest);
    for (int i = 2; i < call->argc; i += 2) {
        const struct argument *pair = &call->argv[i];
        *created += hash_put(&edit, pair[0].data, pair[0].length, pair[1].data, pair[1].length);
    }
    collection_edit_end(&edit, CHANGE_HSET);
    return true;
}

enum call_result cmd_hset(struct call *call) {
    int64_t created;
    if (put_pairs(call, &created))
        reply_integer(call->reply, created);
    return CALL_DONE;
}

enum call_result cmd_hmset(struct call *call) {
    int64_t created;
    if (put_pairs(call, &created))
        reply_ok(call->reply);
    return CALL_DONE;
}

/* The value of one field becomes another one. */
static void put_one(struct call *call, struct object *object, const char *value, size_t length,
                    enum change_event event) {
    const struct argument *field = &call->argv[2];
    struct collection_edit edit;
    edit_begin(call, &edit, object);
    hash_put(&edit, field->data, field->length, value, length);
    collection_edit_end(&edit, event);
}

enum call_result cmd_hsetnx(struct call *call) {
    const struct argument *field = &call->argv[2], *value = &call->argv[3];
    struct element old;
    struct object *object;
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    bool is_there = object && hash_get(object, field->data, field->length, &old);
    if (!is_there)
        put_one(call, object, value->data, value->length, CHANGE_HSET);
    reply_integer(call->reply, !is_there);
    return CALL_DONE;
}

static bool element_integer(const struct element *element, int64_t *value) {
    if (element->data)
        return number_parse_int64(element->data, element->length, value);
    *value = element->integer;
    return true;
}

enum call_result cmd_hincrby(struct call *call) {
    const struct argument *field = &call->argv[2];
    int64_t amount, value = 0;
    struct element old;
    struct object *object;
    if (!argument_integer(call, 3, &amount) ||
        collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (object && hash_get(object, field->data, field->length, &old) &&
        !element_integer(&old, &value)) {
        reply_error(call->reply, "ERR hash value is not an integer");
        return CALL_DONE;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return CALL_DONE;
    }
    char text[NUMBER_INT64_SIZE];
    size_t length = number_write_int64(text, value);
    put_one(call, object, text, length, CHANGE_HINCRBY);
    reply_integer(call->reply, value);
    return CALL_DONE;
}

static bool element_float(const struct element *element, long double *value) {
    if (element->data)
        return number_parse_long_double(element->data, element->length, value);
    *value = (long double)element->integer;
    return true;
}

/* Logged as its result: formatting and precision may differ between machines. */
static void propagate_float(struct call *call, const char *text, size_t length) {
    if (!call_is_logged(call))
        return;
    struct effect_argument arguments[4] = {{"HSET", 4},
                                           {call->key.data, call->key.length},
                                           {call->argv[2].data, call->argv[2].length},
                                           {text, length}};
    call_propagate(call, arguments, 4);
}

enum call_result cmd_hincrbyfloat(struct call *call) {
    const struct argument *field = &call->argv[2], *argument = &call->argv[3];
    long double amount, value = 0;
    struct element old;
    struct object *object;
    if (!number_parse_long_double(argument->data, argument->length, &amount)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return CALL_DONE;
    }
    if (isnan(amount) || isinf(amount)) {
        reply_error(call->reply, "ERR value is NaN or Infinity");
        return CALL_DONE;
    }
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (object && hash_get(object, field->data, field->length, &old) &&
        !element_float(&old, &value)) {
        reply_error(call->reply, "ERR hash value is not a float");
        return CALL_DONE;
    }
    value += amount;
    if (isnan(value) || isinf(value)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return CALL_DONE;
    }
    char text[NUMBER_LONG_DOUBLE_SIZE];
    size_t length = number_write_long_double(text, value);
    put_one(call, object, text, length, CHANGE_HINCRBYFLOAT);
    propagate_float(call, text, length);
    reply_bulk(call->reply, text, length);
    return CALL_DONE;
}

enum call_result cmd_hdel(struct call *call) {
    return collection_remove(call, OBJECT_HASH, CHANGE_HDEL, hash_remove);
}

/* --- Single fields ---------------------------------------------------------------------------- */

static void reply_value(struct call *call, const struct object *object,
                        const struct argument *field) {
    struct element value;
    if (object && hash_get(object, field->data, field->length, &value))
        reply_element(call->reply, &value);
    else
        reply_null(call->reply);
}

enum call_result cmd_hget(struct call *call) {
    return collection_ask(call, OBJECT_HASH, reply_value);
}

enum call_result cmd_hmget(struct call *call) {
    return collection_ask_each(call, OBJECT_HASH, reply_value);
}

static void reply_has(struct call *call, const struct object *object,
                      const struct argument *field) {
    struct element value;
    reply_integer(call->reply, object && hash_get(object, field->data, field->length, &value));
}

enum call_result cmd_hexists(struct call *call) {
    return collection_ask(call, OBJECT_HASH, reply_has);
}

static void reply_value_length(struct call *call, const struct object *object,
                               const struct argument *field) {
    char room[LISTPACK_INTEGER_ROOM];
    struct element value;
    size_t length = 0;
    if (object && hash_get(object, field->data, field->length, &value))
        element_text(&value, room, &length);
    reply_integer(call->reply, (int64_t)length);
}

enum call_result cmd_hstrlen(struct call *call) {
    return collection_ask(call, OBJECT_HASH, reply_value_length);
}

static void reply_count(struct call *call, const struct object *object,
                        const struct argument *none) {
    (void)none;
    reply_integer(call->reply, object ? (int64_t)hash_count(object) : 0);
}

enum call_result cmd_hlen(struct call *call) {
    return collection_ask(call, OBJECT_HASH, reply_count);
}

/* --- All fields ------------------------------------------------------------------------------- */

enum { WITH_FIELDS = 1 << 0, WITH_VALUES = 1 << 1 };

struct listing {
    struct reply *reply;
    unsigned what;
    bool nested; /* field and value are an array of two */
};

static bool list_one(void *context, const struct element *field, const struct element *value,
                     double score) {
    const struct listing *listing = context;
    (void)score;
    if (listing->nested)
        reply_array(listing->reply, 2);
    if (listing->what & WITH_FIELDS)
        reply_element(listing->reply, field);
    if (listing->what & WITH_VALUES)
        reply_element(listing->reply, value);
    return true;
}

static enum call_result reply_all(struct call *call, unsigned what) {
    struct listing listing = {call->reply, what, false};
    struct object *object;
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    size_t count = object ? hash_count(object) : 0;
    if (what == (WITH_FIELDS | WITH_VALUES))
        reply_map(call->reply, count);
    else
        reply_array(call->reply, count);
    if (object)
        hash_visit(object, list_one, &listing);
    return CALL_DONE;
}

enum call_result cmd_hgetall(struct call *call) {
    return reply_all(call, WITH_FIELDS | WITH_VALUES);
}

enum call_result cmd_hkeys(struct call *call) {
    return reply_all(call, WITH_FIELDS);
}

enum call_result cmd_hvals(struct call *call) {
    return reply_all(call, WITH_VALUES);
}

enum call_result cmd_hscan(struct call *call) {
    return scan_collection(call, OBJECT_HASH, hash_scan);
}

/* --- HRANDFIELD ------------------------------------------------------------------------------- */

static enum call_result reply_random(struct call *call, int64_t count, bool with_values) {
    struct object *object;
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT || count == 0) {
        reply_empty_array(call->reply);
        return CALL_DONE;
    }
    struct choice choice = {object, hash_count(object), hash_visit, hash_at};
    struct listing listing = {.reply = call->reply,
                              .what = WITH_FIELDS | (with_values ? WITH_VALUES : 0),
                              .nested = with_values && call->reply->resp > 2};
    uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
    if (count > 0 && n > choice.count)
        n = choice.count;
    reply_array(call->reply, with_values && !listing.nested ? 2 * n : n);
    if (count < 0)
        choice_visit_any(&choice, n, list_one, &listing);
    else
        choice_visit_different(&choice, n, list_one, &listing);
    return CALL_DONE;
}

static enum call_result reply_one_random(struct call *call) {
    struct object *object;
    struct element field;
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    if (found != COLLECTION_THERE)
        return CALL_DONE;
    struct choice choice = {object, hash_count(object), hash_visit, hash_at};
    choice_one(&choice, &field, NULL);
    reply_element(call->reply, &field);
    return CALL_DONE;
}

enum call_result cmd_hrandfield(struct call *call) {
    int64_t count;
    if (call->argc == 2)
        return reply_one_random(call);
    if (!choice_count_argument(call, 2, &count))
        return CALL_DONE;
    bool with_values = call->argc == 4 && argument_is(&call->argv[3], "withvalues");
    if (call->argc > 3 && !with_values) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (with_values && (count < -INT64_MAX / 2 || count > INT64_MAX / 2)) {
        reply_error(call->reply, "ERR value is out of range");
        return CALL_DONE;
    }
    return reply_random(call, count, with_values);
}
