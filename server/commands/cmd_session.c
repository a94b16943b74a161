/* See cmd_session.h. */
#include "server/commands/cmd_session.h"

#include <string.h>

#include "engine/clock.h"
#include "engine/memory.h"

bool session_name_is_valid(const struct argument *name) {
    for (size_t i = 0; i < name->length; i++)
        if (name->data[i] < '!' || name->data[i] > '~')
            return false;
    return true;
}

void session_set_text(struct shared_text **field, const struct argument *value) {
    shared_text_drop(*field);
    *field = value->length > 0 ? shared_text_make(value->data, value->length) : NULL;
}

bool call_timeout_argument(struct call *call, int index, uint64_t *until_us) {
    const struct argument *argument = &call->argv[index];
    const char *error = NULL;
    int64_t timeout_ms, ignored;
    if (!number_parse_int64(argument->data, argument->length, &timeout_ms))
        error = "ERR timeout is not an integer or out of range";
    else if (timeout_ms < 0)
        error = "ERR timeout is negative";
    else if (timeout_ms > 0 && __builtin_add_overflow(timeout_ms, clock_now_ms(), &ignored))
        error = "ERR timeout is out of range";
    if (error) {
        reply_error(call->reply, error);
        return false;
    }
    uint64_t now_us = clock_monotonic_us();
    if (timeout_ms == 0)
        *until_us = 0;
    else
        *until_us = (uint64_t)timeout_ms > (INT64_MAX - now_us) / 1000
                        ? INT64_MAX
                        : now_us + (uint64_t)timeout_ms * 1000;
    return true;
}
