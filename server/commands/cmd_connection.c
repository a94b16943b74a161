/* PING, ECHO, AUTH, HELLO, SELECT, RESET, QUIT: what a connection says about itself.
 *
 * They touch no keys; they run on the connection's worker and change its session only. */
#include <string.h>

#include "engine/memory.h"
#include "server/clients/pubsub.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/config/config.h"
#include "server/dispatch/transaction.h"

command_handler cmd_ping, cmd_echo, cmd_auth, cmd_hello, cmd_select, cmd_reset, cmd_quit;

/* In the form of a message. */
static void reply_pong_to_subscriber(struct call *call) {
    reply_array(call->reply, 2);
    reply_bulk(call->reply, "pong", 4);
    if (call->argc == 2)
        reply_bulk(call->reply, call->argv[1].data, call->argv[1].length);
    else
        reply_bulk(call->reply, "", 0);
}

enum call_result cmd_ping(struct call *call) {
    if (call->argc > 2)
        command_reply_wrong_arity(call->reply, call->command);
    else if (UNLIKELY(call->session->subscriptions != NULL) && call->session->resp == 2)
        reply_pong_to_subscriber(call);
    else if (call->argc == 2)
        reply_bulk(call->reply, call->argv[1].data, call->argv[1].length);
    else
        reply_literal(call->reply, "+PONG\r\n");
    return CALL_DONE;
}

enum call_result cmd_echo(struct call *call) {
    reply_bulk(call->reply, call->argv[1].data, call->argv[1].length);
    return CALL_DONE;
}

enum call_result cmd_select(struct call *call) {
    int number;
    if (!data_int_argument(call, 1, NULL, &number))
        return CALL_DONE;
    if (number != 0 && data_single_database(call, "ERR SELECT is not allowed in cluster mode"))
        return CALL_DONE;
    if (!data_database_exists(call, number))
        return CALL_DONE;
    call->session->database = (uint32_t)number;
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_quit(struct call *call) {
    reply_ok(call->reply);
    return CALL_CLOSE;
}

/* --- AUTH ------------------------------------------------------------------------------------- */

static bool password_is_wanted(void) {
    return config_current()->requirepass != NULL;
}

/* Takes as long for a wrong password as for the right one. */
static bool password_matches(const struct argument *given) {
    const char *wanted = config_current()->requirepass;
    size_t length = config_text_length(wanted);
    unsigned difference = given->length != length;
    for (size_t i = 0; i < given->length; i++)
        difference |= (unsigned char)(given->data[i] ^ wanted[i % length]);
    return difference == 0;
}

/* The only user is "default", whose password is requirepass; without one any password will do. */
static bool authenticate(struct call *call, const struct argument *user,
                         const struct argument *password) {
    bool known = !user || (user->length == 7 && memcmp(user->data, "default", 7) == 0);
    if (!known || (password_is_wanted() && !password_matches(password))) {
        atomic_fetch_add(&call->server->authentication_failures, 1);
        reply_error(call->reply, "WRONGPASS invalid username-password pair or user is disabled.");
        return false;
    }
    call->session->authenticated = true;
    return true;
}

enum call_result cmd_auth(struct call *call) {
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (call->argc == 2 && !password_is_wanted()) {
        reply_error(call->reply,
                    "ERR AUTH <password> called without any password configured for the default "
                    "user. Are you sure your configuration is correct?");
        return CALL_DONE;
    }
    const struct argument *user = call->argc == 3 ? &call->argv[1] : NULL;
    if (authenticate(call, user, &call->argv[call->argc - 1]))
        reply_ok(call->reply);
    return CALL_DONE;
}

/* --- HELLO ------------------------------------------------------------------------------------ */

struct hello_options {
    const struct argument *user, *password, *name;
};

/* false: error replied. */
static bool hello_options_parse(struct call *call, struct hello_options *options) {
    for (int i = 2; i < call->argc; i++) {
        int more = call->argc - 1 - i;
        if (more >= 2 && argument_is(&call->argv[i], "auth")) {
            options->user = &call->argv[i + 1];
            options->password = &call->argv[i + 2];
            i += 2;
        } else if (more >= 1 && argument_is(&call->argv[i], "setname")) {
            options->name = &call->argv[++i];
            if (!session_name_is_valid(options->name)) {
                reply_error(call->reply, ERROR_CLIENT_NAME);
                return false;
            }
        } else {
            reply_error_format(call->reply, "ERR Syntax error in HELLO option '%.*s'",
                               (int)call->argv[i].length, call->argv[i].data);
            return false;
        }
    }
    return true;
}

static void reply_hello(struct call *call) {
    struct reply *reply = call->reply;
    reply_map(reply, 7);
    reply_bulk_text(reply, "server");
    reply_bulk_text(reply, "redis");
    reply_bulk_text(reply, "version");
    reply_bulk_text(reply, CONFIG_REDIS_VERSION);
    reply_bulk_text(reply, "proto");
    reply_integer(reply, call->session->resp);
    reply_bulk_text(reply, "id");
    reply_integer(reply, (int64_t)call->session->id);
    reply_bulk_text(reply, "mode");
    reply_bulk_text(reply, call->server->cluster ? "cluster" : "standalone");
    reply_bulk_text(reply, "role");
    reply_bulk_text(reply,
                    replication_is_replica(&call->server->replication) ? "replica" : "master");
    reply_bulk_text(reply, "modules");
    reply_empty_array(reply);
}

enum call_result cmd_hello(struct call *call) {
    struct session *session = call->session;
    int64_t version = 0;
    if (call->argc >= 2) {
        if (!number_parse_int64(call->argv[1].data, call->argv[1].length, &version)) {
            reply_error(call->reply, "ERR Protocol version is not an integer or out of range");
            return CALL_DONE;
        }
        if (version < 2 || version > 3) {
            reply_error(call->reply, "NOPROTO unsupported protocol version");
            return CALL_DONE;
        }
    }
    struct hello_options options = {0};
    if (!hello_options_parse(call, &options))
        return CALL_DONE;
    if (options.user && !authenticate(call, options.user, options.password))
        return CALL_DONE;
    if (!session->authenticated) {
        reply_error(call->reply,
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise "
                    "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                    "client and select the RESP protocol version at the same time");
        return CALL_DONE;
    }
    if (options.name)
        session_set_text(&session->name, options.name);
    if (version)
        call->reply->resp = session->resp = (uint8_t)version;
    reply_hello(call);
    return CALL_DONE;
}

/* --- RESET ------------------------------------------------------------------------------------ */

enum call_result cmd_reset(struct call *call) {
    struct session *session = call->session;
    session->database = 0;
    call->reply->resp = session->resp = 2;
    session->authenticated = !password_is_wanted();
    session_discard(session);
    pubsub_leave(call->server->pubsub, session);
    transaction_unwatch(session);    /* ACCESS_WATCHED: their tokens are held */
    shared_text_drop(session->name); /* what library it is does not change by a reset */
    session->name = NULL;
    session->no_evict = session->no_touch = false;
    session->reads_replica = session->asks_next = false;
    session->reply_mode = REPLY_ON;
    call->reply->discard = false;
    reply_status(call->reply, "RESET");
    return CALL_DONE;
}
