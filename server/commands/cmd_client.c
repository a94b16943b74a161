/* CLIENT: what a connection says about itself; PAUSE. LIST and KILL are in cmd_client_list.c.
 *
 * What concerns the own connection runs on its worker; PAUSE, UNPAUSE and UNBLOCK run while all
 * workers are stopped. Keys are not tracked, so TRACKING can only be switched off. */
#include "server/clients/connections.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"

command_handler cmd_client_caching, cmd_client_getname, cmd_client_getredir, cmd_client_help,
    cmd_client_id, cmd_client_info, cmd_client_no_evict, cmd_client_no_touch, cmd_client_pause,
    cmd_client_reply, cmd_client_setinfo, cmd_client_setname, cmd_client_tracking,
    cmd_client_trackinginfo, cmd_client_unblock, cmd_client_unpause;

/* --- The own connection ----------------------------------------------------------------------- */

enum call_result cmd_client_id(struct call *call) {
    reply_integer(call->reply, (int64_t)call->session->id);
    return CALL_DONE;
}

enum call_result cmd_client_getname(struct call *call) {
    if (call->session->name)
        reply_bulk_text(call->reply, call->session->name->text);
    else
        reply_null(call->reply);
    return CALL_DONE;
}

enum call_result cmd_client_setname(struct call *call) {
    if (!session_name_is_valid(&call->argv[2])) {
        reply_error(call->reply, ERROR_CLIENT_NAME);
        return CALL_DONE;
    }
    session_set_text(&call->session->name, &call->argv[2]);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_client_setinfo(struct call *call) {
    const struct argument *option = &call->argv[2];
    struct shared_text **field;
    if (argument_is(option, "lib-name")) {
        field = &call->session->library_name;
    } else if (argument_is(option, "lib-ver")) {
        field = &call->session->library_version;
    } else {
        reply_error_format(call->reply, "ERR Unrecognized option '%.*s'", (int)option->length,
                           option->data);
        return CALL_DONE;
    }
    if (!session_name_is_valid(&call->argv[3])) {
        reply_error_format(call->reply,
                           "ERR %.*s cannot contain spaces, newlines or special characters.",
                           (int)option->length, option->data);
        return CALL_DONE;
    }
    session_set_text(field, &call->argv[3]);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_client_info(struct call *call) {
    struct text text = {0};
    connections_describe(&text, conn_of_session(call->session), call);
    reply_verbatim(call->reply, "txt", text_string(&text), text.length);
    text_free(&text);
    return CALL_DONE;
}

/* ON or OFF; false: error replied. */
static bool switch_argument(struct call *call, bool *on) {
    *on = argument_is(&call->argv[2], "on");
    if (*on || argument_is(&call->argv[2], "off"))
        return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

enum call_result cmd_client_no_evict(struct call *call) {
    bool on;
    if (!switch_argument(call, &on))
        return CALL_DONE;
    call->session->no_evict = on;
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_client_no_touch(struct call *call) {
    bool on;
    if (!switch_argument(call, &on))
        return CALL_DONE;
    call->session->no_touch = on;
    reply_ok(call->reply);
    return CALL_DONE;
}

/* The dispatcher advances the mode and discards replies accordingly. */
enum call_result cmd_client_reply(struct call *call) {
    struct session *session = call->session;
    if (argument_is(&call->argv[2], "on")) {
        session->reply_mode = REPLY_ON;
        call->reply->discard = false;
        reply_ok(call->reply);
    } else if (argument_is(&call->argv[2], "off")) {
        session->reply_mode = REPLY_OFF;
    } else if (argument_is(&call->argv[2], "skip")) {
        if (session->reply_mode != REPLY_OFF)
            session->reply_mode = REPLY_SKIP_NEXT;
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
    }
    return CALL_DONE;
}

/* --- Blocked clients ------------------------------------------------------------------------- */

/* While all workers are stopped, so that the other connection stays what it is. */
enum call_result cmd_client_unblock(struct call *call) {
    int64_t id;
    bool by_error = call->argc == 4 && argument_is(&call->argv[3], "error");
    if (call->argc > 4) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 4 && !by_error && !argument_is(&call->argv[3], "timeout")) {
        reply_error(call->reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        return CALL_DONE;
    }
    if (!argument_integer(call, 2, &id))
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    struct conn *conn = client_list_find(&call->server->clients, (uint64_t)id);
    struct unfinished *unfinished = conn ? conn->session.unfinished : NULL;
    const char *error = by_error ? "UNBLOCKED client unblocked via CLIENT UNBLOCK" : NULL;
    reply_integer(call->reply,
                  unfinished && unfinished->unblock && unfinished->unblock(unfinished, error));
    return CALL_DONE;
}

/* --- CLIENT PAUSE ----------------------------------------------------------------------------- */

enum call_result cmd_client_pause(struct call *call) {
    bool all = true;
    uint64_t until_us;
    if (call->argc > 4) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 4) {
        all = argument_is(&call->argv[3], "all");
        if (!all && !argument_is(&call->argv[3], "write")) {
            reply_error(call->reply, "ERR CLIENT PAUSE mode must be WRITE or ALL");
            return CALL_DONE;
        }
    }
    if (!call_timeout_argument(call, 2, &until_us))
        return CALL_DONE;
    pause_begin(&call->server->pause, PAUSE_BY_CLIENT, until_us, all);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_client_unpause(struct call *call) {
    pause_end(&call->server->pause, PAUSE_BY_CLIENT);
    server_call_attention(call->server);
    reply_ok(call->reply);
    return CALL_DONE;
}

/* --- Tracking: off ---------------------------------------------------------------------------- */

enum call_result cmd_client_caching(struct call *call) {
    reply_error(call->reply, "ERR CLIENT CACHING can be called only when the client is in tracking "
                             "mode with OPTIN or OPTOUT mode enabled");
    return CALL_DONE;
}

enum call_result cmd_client_getredir(struct call *call) {
    reply_integer(call->reply, -1);
    return CALL_DONE;
}

enum call_result cmd_client_trackinginfo(struct call *call) {
    struct reply *reply = call->reply;
    reply_map(reply, 3);
    reply_bulk_text(reply, "flags");
    reply_set(reply, 1);
    reply_bulk_text(reply, "off");
    reply_bulk_text(reply, "redirect");
    reply_integer(reply, -1);
    reply_bulk_text(reply, "prefixes");
    reply_empty_array(reply);
    return CALL_DONE;
}

enum call_result cmd_client_tracking(struct call *call) {
    bool on;
    if (!switch_argument(call, &on))
        return CALL_DONE;
    if (on)
        reply_error(call->reply, "ERR CLIENT TRACKING is not supported");
    else
        reply_ok(call->reply);
    return CALL_DONE;
}

/* --- HELP ------------------------------------------------------------------------------------- */

enum call_result cmd_client_help(struct call *call) {
    static const char *const lines[] = {
        "CACHING (YES|NO)",
        "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
        "GETREDIR",
        "    Return the client ID we are redirecting to when tracking is enabled.",
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are:",
        "    * ADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made from the specified address",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made to specified local address",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Kill connections by type.",
        "    * USER <username>",
        "      Kill connections authenticated by <username>.",
        "    * SKIPME (YES|NO)",
        "      Skip killing current connection (default: yes).",
        "LIST [options ...]",
        "    Return information about client connections. Options:",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Return clients of specified type.",
        "UNPAUSE",
        "    Stop the current client pause, resuming traffic.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "SETINFO <option> <value>",
        "    Set client meta attr. Options are:",
        "    * LIB-NAME: the client lib name.",
        "    * LIB-VER: the client lib version.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Unblock the specified blocked client.",
        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
        "         [OPTIN] [OPTOUT] [NOLOOP]",
        "    Control server assisted client side caching.",
        "TRACKINGINFO",
        "    Report tracking status for the current connection.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Will not touch LRU/LFU stats when this mode is on.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
