/* INCR, DECR, INCRBY, DECRBY, INCRBYFLOAT.
 *
 * An integer object changes in place by one atomic store; readers without a token see the old or
 * the new number and validate. Run by: any worker, under the key's token. */
#include <math.h>

#include "engine/types/string.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_data.h"

/* The number that a string holds. false: none, nothing replied. */
static bool integer_of(const struct object *object, int64_t *value) {
    if (LIKELY(object_encoding(object) == ENCODING_INT)) {
        *value = object_integer(object);
        return true;
    }
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *text = object_string(object, buffer, &length);
    return number_parse_int64(text, length, value);
}

static enum call_result increment(struct call *call, int64_t amount) {
    const struct key *key = &call->key;
    struct object *old = call_find_write(call, key);
    int64_t value = 0;
    if (old && !data_is_string(call, old))
        return CALL_DONE;
    if (old && !integer_of(old, &value)) {
        reply_error(call->reply, ERROR_NOT_INTEGER);
        return CALL_DONE;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return CALL_DONE;
    }
    if (LIKELY(old && object_encoding(old) == ENCODING_INT)) {
        string_set_integer(call->change, call->database, key, old, value, CHANGE_INCRBY);
    } else {
        int64_t expiry_ms = old ? object_expiry(old) : OBJECT_NO_EXPIRY;
        data_publish(call, key, old, object_make_integer(key->data, key->length, value, expiry_ms),
                     CHANGE_INCRBY);
    }
    reply_integer(call->reply, value);
    return CALL_DONE;
}

enum call_result cmd_incr(struct call *call) {
    return increment(call, 1);
}

enum call_result cmd_decr(struct call *call) {
    return increment(call, -1);
}

enum call_result cmd_incrby(struct call *call) {
    int64_t amount;
    return argument_integer(call, 2, &amount) ? increment(call, amount) : CALL_DONE;
}

enum call_result cmd_decrby(struct call *call) {
    int64_t amount;
    if (!argument_integer(call, 2, &amount))
        return CALL_DONE;
    if (amount == INT64_MIN) {
        reply_error(call->reply, "ERR decrement would overflow");
        return CALL_DONE;
    }
    return increment(call, -amount);
}

static bool float_of(const struct object *object, long double *value) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *text = object_string(object, buffer, &length);
    return number_parse_long_double(text, length, value);
}

/* Logged as its result: formatting and precision may differ between machines. */
static void propagate_float(struct call *call, const char *text, size_t length) {
    if (!call_is_logged(call))
        return;
    struct effect_argument arguments[4] = {
        {"SET", 3}, {call->key.data, call->key.length}, {text, length}, {"KEEPTTL", 7}};
    call_propagate(call, arguments, 4);
}

enum call_result cmd_incrbyfloat(struct call *call) {
    const struct key *key = &call->key;
    const struct argument *argument = &call->argv[2];
    struct object *old = call_find_write(call, key);
    long double value = 0, amount;
    if (old && !data_is_string(call, old))
        return CALL_DONE;
    if ((old && !float_of(old, &value)) ||
        !number_parse_long_double(argument->data, argument->length, &amount)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return CALL_DONE;
    }
    value += amount;
    if (isnan(value) || isinf(value)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return CALL_DONE;
    }
    char text[NUMBER_LONG_DOUBLE_SIZE];
    size_t length = number_write_long_double(text, value);
    int64_t expiry_ms = old ? object_expiry(old) : OBJECT_NO_EXPIRY;
    data_publish(call, key, old,
                 object_make_string(key->data, key->length, text, length, expiry_ms, STRING_PLAIN),
                 CHANGE_INCRBYFLOAT);
    propagate_float(call, text, length);
    reply_bulk(call->reply, text, length);
    return CALL_DONE;
}
