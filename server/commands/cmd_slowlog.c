/* SLOWLOG GET, LEN, RESET, HELP. Any worker; the log has a lock of its own. */
#include <limits.h>

#include "server/base/numbers.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/dispatch/slowlog.h"

command_handler cmd_slowlog_get, cmd_slowlog_len, cmd_slowlog_reset, cmd_slowlog_help;

#define ENTRIES_DEFAULT 10

static void begin_entries(size_t n, void *context) {
    reply_array(context, n);
}

static void reply_entry(const struct slowlog_entry *entry, void *context) {
    struct reply *reply = context;
    reply_array(reply, 6);
    reply_integer(reply, entry->id);
    reply_integer(reply, entry->time_s);
    reply_integer(reply, entry->duration_us);
    reply_array(reply, (size_t)entry->argc);
    for (int i = 0; i < entry->argc; i++)
        reply_bulk(reply, entry->argv[i].data, entry->argv[i].length);
    reply_bulk(reply, entry->peer.data, entry->peer.length);
    reply_bulk(reply, entry->name.data, entry->name.length);
}

enum call_result cmd_slowlog_get(struct call *call) {
    int64_t count = ENTRIES_DEFAULT;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 3) {
        const struct argument *argument = &call->argv[2];
        if (!number_parse_int64(argument->data, argument->length, &count) || count < -1) {
            reply_error(call->reply, "ERR count should be greater than or equal to -1");
            return CALL_DONE;
        }
    }
    slowlog_each(call->server->slowlog, count < 0 ? SIZE_MAX : (size_t)count, begin_entries,
                 reply_entry, call->reply);
    return CALL_DONE;
}

enum call_result cmd_slowlog_len(struct call *call) {
    reply_integer(call->reply, (int64_t)slowlog_length(call->server->slowlog));
    return CALL_DONE;
}

enum call_result cmd_slowlog_reset(struct call *call) {
    slowlog_reset(call->server->slowlog);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_slowlog_help(struct call *call) {
    static const char *const lines[] = {
        "GET [<count>]",
        "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
        "    Entries are made of:",
        "    id, timestamp, time in microseconds, arguments array, client IP and port,",
        "    client name",
        "LEN",
        "    Return the length of the slowlog.",
        "RESET",
        "    Reset the slowlog.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
