/* Times to live: EXPIRE and its relatives, TTL and its relatives, PERSIST.
 *
 * Run by: any worker; TTL ... PEXPIRETIME also without token (the expiry is one atomic word). */
#include <limits.h>

#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_data.h"

enum {
    CONDITION_NX = 1 << 0, /* only if there is no expiry */
    CONDITION_XX = 1 << 1, /* only if there is one */
    CONDITION_GT = 1 << 2, /* only if the new one is later; none is infinitely late */
    CONDITION_LT = 1 << 3, /* only if it is earlier */
};

static bool conditions_parse(struct call *call, unsigned *conditions) {
    *conditions = 0;
    for (int i = 3; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        if (argument_is(argument, "nx"))
            *conditions |= CONDITION_NX;
        else if (argument_is(argument, "xx"))
            *conditions |= CONDITION_XX;
        else if (argument_is(argument, "gt"))
            *conditions |= CONDITION_GT;
        else if (argument_is(argument, "lt"))
            *conditions |= CONDITION_LT;
        else {
            int length = argument->length < INT_MAX / 2 ? (int)argument->length : INT_MAX / 2;
            reply_error_format(call->reply, "ERR Unsupported option %.*s", length, argument->data);
            return false;
        }
    }
    if ((*conditions & CONDITION_NX) && *conditions != CONDITION_NX) {
        reply_error(call->reply,
                    "ERR NX and XX, GT or LT options at the same time are not compatible");
        return false;
    }
    if ((*conditions & CONDITION_GT) && (*conditions & CONDITION_LT)) {
        reply_error(call->reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

static bool conditions_hold(unsigned conditions, int64_t current, int64_t wanted) {
    bool has_expiry = current != OBJECT_NO_EXPIRY;
    if ((conditions & CONDITION_NX) && has_expiry)
        return false;
    if ((conditions & CONDITION_XX) && !has_expiry)
        return false;
    /* No expiry is later than any time. */
    if ((conditions & CONDITION_GT) && (!has_expiry || wanted <= current))
        return false;
    if ((conditions & CONDITION_LT) && has_expiry && wanted >= current)
        return false;
    return true;
}

/* PEXPIREAT key ms, with the conditions: as in Redis they stay, although they are fulfilled. */
static void propagate_expiry(struct call *call, const struct key *key, int64_t expiry_ms) {
    if (!call_is_logged(call))
        return;
    char text[NUMBER_INT64_SIZE];
    struct effect_argument *arguments =
        memory_alloc((size_t)call->argc * sizeof(struct effect_argument));
    arguments[0] = (struct effect_argument){"PEXPIREAT", 9};
    arguments[1] = (struct effect_argument){key->data, key->length};
    arguments[2] = (struct effect_argument){text, number_write_int64(text, expiry_ms)};
    for (int i = 3; i < call->argc; i++)
        arguments[i] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    call_propagate(call, arguments, (size_t)call->argc);
    memory_free(arguments);
}

/* base_ms is added to the argument: now, or 0 for absolute times. */
static enum call_result expire(struct call *call, int64_t base_ms, bool seconds) {
    const struct key *key = &call->key;
    unsigned conditions;
    int64_t expiry_ms;
    if (!conditions_parse(call, &conditions) || !argument_integer(call, 2, &expiry_ms))
        return CALL_DONE;
    if ((seconds && __builtin_mul_overflow(expiry_ms, 1000, &expiry_ms)) ||
        __builtin_add_overflow(expiry_ms, base_ms, &expiry_ms)) {
        data_reply_bad_expiry(call);
        return CALL_DONE;
    }
    expiry_ms = data_clamp_expiry(expiry_ms);
    struct object *object = call_find_write(call, key);
    if (!object || !conditions_hold(conditions, object_expiry(object), expiry_ms)) {
        reply_integer(call->reply, 0);
        return CALL_DONE;
    }
    if (view_is_over(&call->change->view, expiry_ms)) {
        data_expire_at_once(call, key);
    } else {
        keyspace_set_expiry(call->change, call->database, key, object, expiry_ms);
        propagate_expiry(call, key, expiry_ms);
    }
    reply_integer(call->reply, 1);
    return CALL_DONE;
}

enum call_result cmd_expire(struct call *call) {
    return expire(call, data_now_ms(call), true);
}

enum call_result cmd_pexpire(struct call *call) {
    return expire(call, data_now_ms(call), false);
}

enum call_result cmd_expireat(struct call *call) {
    return expire(call, 0, true);
}

enum call_result cmd_pexpireat(struct call *call) {
    return expire(call, 0, false);
}

static enum call_result time_to_live(struct call *call, bool seconds, bool absolute) {
    struct object *object = call_find_read_untouched(call, &call->key);
    int64_t result;
    if (!object) {
        result = -2;
    } else if ((result = object_expiry(object)) == OBJECT_NO_EXPIRY) {
        result = -1;
    } else {
        if (!absolute)
            result -= data_now_ms(call);
        if (result < 0)
            result = 0;
        if (seconds) /* rounded to the nearest, without overflow at the end of time */
            result = result / 1000 + (result % 1000 >= 500);
    }
    reply_integer(call->reply, result);
    return CALL_DONE;
}

enum call_result cmd_ttl(struct call *call) {
    return time_to_live(call, true, false);
}

enum call_result cmd_pttl(struct call *call) {
    return time_to_live(call, false, false);
}

enum call_result cmd_expiretime(struct call *call) {
    return time_to_live(call, true, true);
}

enum call_result cmd_pexpiretime(struct call *call) {
    return time_to_live(call, false, true);
}

enum call_result cmd_persist(struct call *call) {
    struct object *object = call_find_write(call, &call->key);
    bool persists = object && object_expiry(object) != OBJECT_NO_EXPIRY;
    if (persists)
        keyspace_set_expiry(call->change, call->database, &call->key, object, OBJECT_NO_EXPIRY);
    reply_integer(call->reply, persists);
    return CALL_DONE;
}
