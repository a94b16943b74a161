/* See unblock.h. What has been decided about the command holds: no check is repeated, and memory,
 * rights or a pause do not matter any more. */
#include "server/dispatch/unblock.h"

#include "server/dispatch/blocked.h"
#include "server/dispatch/session.h"

bool unblock_leave(struct execution *execution, struct wait *wait, struct unfinished *unfinished) {
    execution_key_room(execution, blocked_key_count(unfinished));
    size_t n = blocked_slots(unfinished, execution->slots);
    if (n == 0)
        return true;
    n = execution_sort_slots(execution->slots, n);
    if (!execution_take_tokens(execution, wait, n))
        return false;
    blocked_unlink(execution->keyspace, unfinished);
    slots_release(execution->keyspace->slots, execution->slots, n);
    return true;
}

bool unblock(struct execution *execution, struct wait *wait, struct call *call,
             enum dispatch_result *result) {
    struct session *session = call->session;
    uint64_t errors = call->reply->errors;
    bool close;
    execution_give_back(execution);
    *result = DISPATCH_PARKED;
    if (!unblock_leave(execution, wait, session->unfinished))
        return true;
    uint64_t began_ticks = execution->last_ticks;
    switch (blocked_result(session->unfinished, session, call->reply, &close)) {
    case BLOCKED_AGAIN:
        session_drop_unfinished(session);
        return false;
    case BLOCKED_TIMED_OUT:
        reply_null_array(call->reply);
        break;
    case BLOCKED_SERVED:
    case BLOCKED_BY_ERROR:
        break;
    }
    call->hits = call->misses = 0;
    execution_account(execution, call, errors, began_ticks);
    *result = close ? DISPATCH_CLOSE : DISPATCH_DONE;
    return true;
}
