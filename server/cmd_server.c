/* TIME, LASTSAVE, ROLE, WAIT, LOLWUT, SHUTDOWN, and what of ACL needs no users: they touch no keys.
 */
#include <stdio.h>

#include "engine/clock.h"
#include "server/cmd_data.h"
#include "server/cmd_session.h"
#include "server/config.h"
#include "server/log.h"
#include "server/server.h"
#include "slotwise_version.h"

command_handler cmd_time, cmd_lastsave, cmd_role, cmd_wait, cmd_lolwut, cmd_shutdown,
    cmd_acl_whoami, cmd_acl_users, cmd_acl_cat, cmd_acl_help;

enum call_result cmd_time(struct call *call) {
    int64_t now_us = clock_now_us();
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, now_us / 1000000);
    reply_bulk_integer(call->reply, now_us % 1000000);
    return CALL_DONE;
}

/* Nothing is saved yet: as Redis before its first save, the time of the start. */
enum call_result cmd_lastsave(struct call *call) {
    reply_integer(call->reply, call->server->started_ms / 1000);
    return CALL_DONE;
}

enum call_result cmd_role(struct call *call) {
    reply_array(call->reply, 3);
    reply_bulk_text(call->reply, "master");
    reply_integer(call->reply, 0);
    reply_empty_array(call->reply);
    return CALL_DONE;
}

/* No replica can acknowledge anything, however long one waits. */
enum call_result cmd_wait(struct call *call) {
    int64_t replicas, until_ms;
    if (!argument_integer(call, 1, &replicas) || !call_timeout_argument(call, 2, &until_ms))
        return CALL_DONE;
    reply_integer(call->reply, 0);
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

/* --- SHUTDOWN -----------------------------------------------------------------------------------
 */

struct shutdown_options {
    bool save, no_save, now, force, abort;
};

/* false: error replied. */
static bool shutdown_options_parse(struct call *call, struct shutdown_options *options) {
    for (int i = 1; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        options->save |= argument_is(argument, "save");
        options->no_save |= argument_is(argument, "nosave");
        options->now |= argument_is(argument, "now");
        options->force |= argument_is(argument, "force");
        options->abort |= argument_is(argument, "abort");
        if (!argument_is(argument, "save") && !argument_is(argument, "nosave") &&
            !argument_is(argument, "now") && !argument_is(argument, "force") &&
            !argument_is(argument, "abort"))
            goto error;
    }
    if (options->save && options->no_save)
        goto error;
    if (options->abort && (options->save || options->no_save || options->now || options->force))
        goto error;
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

/* There are no replicas to wait for, so that a shutdown is over at once and can never be aborted.
 */
enum call_result cmd_shutdown(struct call *call) {
    struct shutdown_options options = {0};
    if (!shutdown_options_parse(call, &options))
        return CALL_DONE;
    if (options.abort) {
        reply_error(call->reply, "ERR No shutdown in progress.");
        return CALL_DONE;
    }
    log_write(LOG_LEVEL_NOTICE, "User requested shutdown...");
    if (options.save)
        log_write(LOG_LEVEL_WARNING,
                  "SHUTDOWN SAVE: nothing is saved, there is no persistence yet");
    if (options.save && !options.force) {
        reply_error(call->reply, "ERR Errors trying to SHUTDOWN. Check logs.");
        return CALL_DONE;
    }
    server_request_shutdown(call->server);
    return CALL_CLOSE;
}

/* --- ACL: one user, "default", who may do everything --------------------------------------------
 */

enum call_result cmd_acl_whoami(struct call *call) {
    reply_bulk_text(call->reply, "default");
    return CALL_DONE;
}

enum call_result cmd_acl_users(struct call *call) {
    reply_array(call->reply, 1);
    reply_bulk_text(call->reply, "default");
    return CALL_DONE;
}

enum call_result cmd_acl_cat(struct call *call) {
    struct reply *reply = call->reply;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 2) {
        reply_array(reply, CATEGORY_COUNT);
        for (unsigned i = 0; i < CATEGORY_COUNT; i++)
            reply_bulk_text(reply, command_category_name(i));
        return CALL_DONE;
    }
    uint64_t category = command_category_by_name(call->argv[2].data, call->argv[2].length);
    if (!category) {
        reply_error_format(reply, "ERR Unknown category '%.*s'", (int)call->argv[2].length,
                           call->argv[2].data);
        return CALL_DONE;
    }
    struct reply_deferred list = reply_deferred_begin(reply);
    size_t n = 0;
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        if (!(command->acl_categories & category))
            continue;
        reply_bulk(reply, command->name, command->name_length);
        n++;
    }
    reply_deferred_array(reply, list, n);
    return CALL_DONE;
}

enum call_result cmd_acl_help(struct call *call) {
    static const char *const lines[] = {
        "CAT [<category>]",
        "    List all commands that belong to <category>, or all command categories",
        "    when no category is specified.",
        "USERS",
        "    List all the registered usernames.",
        "WHOAMI",
        "    Return the current connection username.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
