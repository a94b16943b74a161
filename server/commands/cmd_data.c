/* Helpers of the data commands: arguments with Redis's checks and texts, propagation. No state. */
#include "server/commands/cmd_data.h"

#include <limits.h>

#include "server/base/numbers.h"
#include "server/config/config.h"

bool data_length_is_allowed(struct call *call, size_t a, size_t b) {
    size_t limit = (size_t)config_current()->proto_max_bulk_len;
    if (LIKELY(a <= limit && b <= limit - a))
        return true;
    reply_error(call->reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    return false;
}

bool data_single_database(struct call *call, const char *message) {
    if (LIKELY(!config_current()->cluster_enabled))
        return false;
    reply_error(call->reply, message);
    return true;
}

void data_reply_bad_expiry(struct call *call) {
    reply_error_format(call->reply, "ERR invalid expire time in '%s' command", call->command->name);
}

bool data_expiry_argument(struct call *call, int index, bool seconds, bool relative,
                          int64_t *expiry_ms) {
    int64_t value;
    if (!argument_integer(call, index, &value))
        return false;
    if (value <= 0 || (seconds && __builtin_mul_overflow(value, 1000, &value)) ||
        (relative && __builtin_add_overflow(value, data_now_ms(call), &value))) {
        data_reply_bad_expiry(call);
        return false;
    }
    *expiry_ms = data_clamp_expiry(value);
    return true;
}

bool data_int_argument(struct call *call, int index, const char *message, int *value) {
    const struct argument *argument = &call->argv[index];
    int64_t wide;
    bool is_number = number_parse_int64(argument->data, argument->length, &wide);
    if (is_number && wide >= INT_MIN && wide <= INT_MAX) {
        *value = (int)wide;
        return true;
    }
    if (message)
        reply_error(call->reply, message);
    else if (!is_number)
        reply_error(call->reply, ERROR_NOT_INTEGER);
    else
        reply_error_format(call->reply, "ERR value is out of range, value must between %d and %d",
                           INT_MIN, INT_MAX);
    return false;
}

bool data_database_exists(struct call *call, int number) {
    if (number >= 0 && (unsigned)number < call->keyspace->databases)
        return true;
    reply_error(call->reply, "ERR DB index is out of range");
    return false;
}

void data_expire_at_once(struct call *call, const struct key *key) {
    keyspace_delete(call->change, call->database, key, CHANGE_DEL);
    bool unlink = atomic_load_explicit(&call->change->door->unlink_expired, memory_order_relaxed);
    data_propagate_key(call, unlink ? "UNLINK" : "DEL", key);
}

void data_propagate_key(struct call *call, const char *name, const struct key *key) {
    if (!call_is_logged(call))
        return;
    struct effect_argument arguments[2] = {{name, strlen(name)}, {key->data, key->length}};
    call_propagate(call, arguments, 2);
}

void data_propagate_key_integer(struct call *call, const char *name, const struct key *key,
                                int64_t value) {
    if (!call_is_logged(call))
        return;
    char text[NUMBER_INT64_SIZE];
    size_t length = number_write_int64(text, value);
    struct effect_argument arguments[3] = {
        {name, strlen(name)}, {key->data, key->length}, {text, length}};
    call_propagate(call, arguments, 3);
}

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

bool data_cursor_argument(struct call *call, int index, uint64_t *cursor) {
    if (cursor_parse(&call->argv[index], cursor))
        return true;
    reply_error(call->reply, "ERR invalid cursor");
    return false;
}
