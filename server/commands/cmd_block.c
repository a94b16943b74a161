/* See cmd_block.h. */
#include "server/commands/cmd_block.h"

#include <limits.h>
#include <math.h>

#include "engine/clock.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_data.h"

bool block_timeout_argument(struct call *call, int index, uint64_t *until_us) {
    const struct argument *argument = &call->argv[index];
    long double seconds;
    if (!number_parse_long_double(argument->data, argument->length, &seconds)) {
        reply_error(call->reply, "ERR timeout is not a float or out of range");
        return false;
    }
    long double ms = ceill(seconds * 1000);
    if (ms > (long double)LLONG_MAX || (ms > 0 && (int64_t)ms > INT64_MAX - data_now_ms(call))) {
        reply_error(call->reply, "ERR timeout is out of range");
        return false;
    }
    if (ms < 0) {
        reply_error(call->reply, "ERR timeout is negative");
        return false;
    }
    *until_us = UINT64_MAX;
    uint64_t wait_us;
    if (ms > 0 && !__builtin_mul_overflow((uint64_t)ms, 1000, &wait_us) &&
        __builtin_add_overflow(wait_us, clock_monotonic_us(), until_us))
        *until_us = UINT64_MAX;
    return true;
}

enum call_result block_or_reply_null_array(struct call *call,
                                           const struct blocked_request *request) {
    if (!call->in_exec)
        return blocked_begin(call, request);
    reply_null_array(call->reply);
    return CALL_DONE;
}
