/* TIME, LOLWUT, SHUTDOWN, and what is asked of a primary that has no replicas. Any
 * worker. */
#include <stdio.h>

#include "engine/clock.h"
#include "server/clients/server.h"
#include "server/clients/shutdown.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/config/config.h"
#include "slotwise_version.h"

command_handler cmd_time, cmd_waitaof, cmd_lolwut, cmd_shutdown, cmd_bgrewriteaof;

/* --- Replication and persistence -------------------------------------------------------------- */

enum call_result cmd_waitaof(struct call *call) {
    int64_t local, replicas;
    uint64_t until_us;
    if (!argument_integer(call, 1, &local) || !argument_integer(call, 2, &replicas))
        return CALL_DONE;
    if (local < 0 || local > 1) {
        reply_error(call->reply, "ERR value is out of range, value must between 0 and 1");
        return CALL_DONE;
    }
    if (replicas < 0) {
        reply_error(call->reply, "ERR value is out of range, must be positive");
        return CALL_DONE;
    }
    if (!call_timeout_argument(call, 3, &until_us))
        return CALL_DONE;
    if (local > 0) {
        reply_error(call->reply, "ERR WAITAOF cannot be used when numlocal is set but appendonly "
                                 "is disabled.");
        return CALL_DONE;
    }
    reply_array(call->reply, 2);
    reply_integer(call->reply, 0);
    reply_integer(call->reply, 0);
    return CALL_DONE;
}

enum call_result cmd_bgrewriteaof(struct call *call) {
    reply_error(call->reply, "ERR the append only file is not implemented in this version");
    return CALL_DONE;
}

/* --- Time, version ---------------------------------------------------------------------------- */

enum call_result cmd_time(struct call *call) {
    int64_t now_us = clock_now_us();
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, now_us / 1000000);
    reply_bulk_integer(call->reply, now_us % 1000000);
    return CALL_DONE;
}

enum call_result cmd_lolwut(struct call *call) {
    int64_t version;
    static const char text[] = "Redis ver. " CONFIG_REDIS_VERSION "\n";
    if (call->argc >= 3 && argument_is(&call->argv[1], "version") &&
        !argument_integer(call, 2, &version))
        return CALL_DONE;
    reply_verbatim(call->reply, "txt", text, sizeof text - 1);
    return CALL_DONE;
}

/* --- SHUTDOWN --------------------------------------------------------------------------------- */

#define ERROR_SHUTDOWN "ERR Errors trying to SHUTDOWN. Check logs."

/* false: error replied. */
static bool shutdown_options_parse(struct call *call, unsigned *flags, bool *abort) {
    *flags = 0;
    *abort = false;
    for (int i = 1; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        if (argument_is(argument, "save"))
            *flags |= CONFIG_SHUTDOWN_SAVE;
        else if (argument_is(argument, "nosave"))
            *flags |= CONFIG_SHUTDOWN_NOSAVE;
        else if (argument_is(argument, "now"))
            *flags |= CONFIG_SHUTDOWN_NOW;
        else if (argument_is(argument, "force"))
            *flags |= CONFIG_SHUTDOWN_FORCE;
        else if (argument_is(argument, "abort"))
            *abort = true;
        else
            goto error;
    }
    unsigned both = CONFIG_SHUTDOWN_SAVE | CONFIG_SHUTDOWN_NOSAVE;
    if ((*flags & both) == both || (*abort && *flags))
        goto error;
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

static enum call_result abort_shutdown(struct call *call) {
    struct server *server = call->server;
    if (shutdown_is_waiting(server->shutdown) && !call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    if (call->exclusive && shutdown_abort(server))
        reply_ok(call->reply);
    else
        reply_error(call->reply, "ERR No shutdown in progress.");
    return CALL_DONE;
}

enum call_result cmd_shutdown(struct call *call) {
    struct server *server = call->server;
    unsigned flags;
    bool abort;
    if (call->session->unfinished) { /* it has been given up */
        reply_error(call->reply, ERROR_SHUTDOWN);
        return CALL_DONE;
    }
    if (!shutdown_options_parse(call, &flags, &abort))
        return CALL_DONE;
    if (abort)
        return abort_shutdown(call);
    if (!call->exclusive && shutdown_stops_workers(server, flags))
        return CALL_NEED_EXCLUSIVE;
    switch (shutdown_begin(server, flags, call->exclusive)) {
    case SHUTDOWN_ENDS:
        return CALL_CLOSE;
    case SHUTDOWN_WAITS:
        call->session->unfinished = shutdown_wait(server);
        return CALL_UNFINISHED;
    case SHUTDOWN_FAILED:
        break;
    }
    reply_error(call->reply, ERROR_SHUTDOWN);
    return CALL_DONE;
}
