/* REPLICAOF (SLAVEOF), FAILOVER, ROLE.
 *
 * REPLICAOF and FAILOVER change roles while all workers are stopped. */
#include <string.h>
#include <strings.h>

#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/connections.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"
#include "server/dispatch/session.h"

command_handler cmd_replicaof, cmd_slaveof, cmd_failover, cmd_role;

void replication_log_change(struct call *call, const char *what, const char *by) {
    struct text client = {0};
    connections_describe(&client, conn_of_session(call->session), call);
    log_write(LOG_LEVEL_NOTICE, "%s (%s from '%.*s')", what, by, (int)client.length - 1,
              text_string(&client));
    text_free(&client);
}

static void log_change(struct call *call, const char *what) {
    replication_log_change(call, what, "user request");
}

static enum call_result promote(struct call *call) {
    if (replication_is_replica(&call->server->replication)) {
        if (!call->exclusive)
            return CALL_NEED_EXCLUSIVE;
        replica_unset_primary(&call->server->replica);
        log_change(call, "MASTER MODE enabled");
    }
    reply_ok(call->reply);
    return CALL_DONE;
}

static enum call_result follow(struct call *call, const char *host, int port) {
    const struct replication *replication = &call->server->replication;
    if (replication_is_replica(replication) && strcasecmp(replication->host, host) == 0 &&
        replication->port == port) {
        log_write(LOG_LEVEL_NOTICE,
                  "REPLICAOF would result into synchronization with the master we are already "
                  "connected with. No operation performed.");
        reply_status(call->reply, "OK Already connected to specified master");
        return CALL_DONE;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    call_commit(call); /* of a transaction: what came before in it is still a primary's */
    replica_set_primary(&call->server->replica, host, port);
    struct text what = {0};
    text_append_format(&what, "REPLICAOF %s:%d enabled", host, port);
    log_change(call, text_string(&what));
    text_free(&what);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_replicaof(struct call *call) {
    int port;
    if (data_single_database(call, "ERR REPLICAOF not allowed in cluster mode."))
        return CALL_DONE;
    if (failover_is_on(&call->server->failover)) {
        reply_error(call->reply, "ERR REPLICAOF not allowed while failing over.");
        return CALL_DONE;
    }
    if (call->session->applies) { /* a primary cannot make us somebody else's */
        reply_error(call->reply, "ERR Command is not valid when client is a replica.");
        return CALL_DONE;
    }
    if (argument_is(&call->argv[1], "no") && argument_is(&call->argv[2], "one"))
        return promote(call);
    if (!data_int_argument(call, 2, "ERR Invalid master port", &port))
        return CALL_DONE;
    if (port < 0 || port > 65535) {
        reply_error(call->reply, "ERR Invalid master port");
        return CALL_DONE;
    }
    struct text host = {0};
    text_append(&host, call->argv[1].data, call->argv[1].length);
    enum call_result result = follow(call, text_string(&host), port);
    text_free(&host);
    return result;
}

enum call_result cmd_slaveof(struct call *call) {
    return cmd_replicaof(call);
}

/* --- FAILOVER --------------------------------------------------------------------------------- */

/* false: error replied. host: its argument, NULL if there is none. */
static bool parse_failover(struct call *call, struct failover_request *request,
                           const struct argument **host) {
    *request = (struct failover_request){.host = NULL};
    *host = NULL;
    for (int i = 1; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        if (argument_is(argument, "timeout") && i + 1 < call->argc && request->timeout_ms == 0) {
            if (!argument_integer(call, ++i, &request->timeout_ms))
                return false;
            if (request->timeout_ms <= 0) {
                reply_error(call->reply, "ERR FAILOVER timeout must be greater than 0");
                return false;
            }
        } else if (argument_is(argument, "to") && i + 2 < call->argc && !*host) {
            *host = &call->argv[i + 1];
            i += 2;
            if (!argument_integer(call, i, &request->port))
                return false;
        } else if (argument_is(argument, "force") && !request->force) {
            request->force = true;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static enum call_result abort_failover(struct call *call) {
    if (!failover_is_on(&call->server->failover)) {
        reply_error(call->reply, "ERR No failover in progress.");
        return CALL_DONE;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    failover_abort(&call->server->failover, "Failover manually aborted");
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_failover(struct call *call) {
    struct failover_request request;
    const struct argument *host;
    if (data_single_database(call, "ERR FAILOVER not allowed in cluster mode."))
        return CALL_DONE;
    if (call->argc == 2 && argument_is(&call->argv[1], "abort"))
        return abort_failover(call);
    if (!parse_failover(call, &request, &host))
        return CALL_DONE;
    struct text name = {0};
    if (host) {
        text_append(&name, host->data, host->length);
        request.host = text_string(&name);
    }
    const char *refusal = failover_refusal(&call->server->failover, &request);
    if (refusal) {
        reply_error(call->reply, refusal);
    } else if (call->exclusive) {
        failover_begin(&call->server->failover, &request);
        reply_ok(call->reply);
    }
    text_free(&name);
    return refusal || call->exclusive ? CALL_DONE : CALL_NEED_EXCLUSIVE;
}

/* --- ROLE ------------------------------------------------------------------------------------- */

static const char *link_name(enum replication_link link) {
    static const char *const names[] = {
        [REPLICATION_LINK_NONE] = "none",
        [REPLICATION_LINK_CONNECT] = "connect",
        [REPLICATION_LINK_CONNECTING] = "connecting",
        [REPLICATION_LINK_HANDSHAKE] = "handshake",
        [REPLICATION_LINK_TRANSFER] = "sync",
        [REPLICATION_LINK_CONNECTED] = "connected",
    };
    return names[link];
}

static void role_of_primary(struct call *call) {
    const struct replication *replication = &call->server->replication;
    reply_array(call->reply, 3);
    reply_bulk_text(call->reply, "master");
    reply_integer(call->reply, (int64_t)atomic_load(&replication->history.offset));
    if (replication->serving.list)
        replication->serving.list(replication->serving.context, call->reply);
    else
        reply_empty_array(call->reply);
}

enum call_result cmd_role(struct call *call) {
    const struct replication *replication = &call->server->replication;
    if (!replication_is_replica(replication)) {
        role_of_primary(call);
        return CALL_DONE;
    }
    enum replication_link link = replica_link(&call->server->replica);
    reply_array(call->reply, 5);
    reply_bulk_text(call->reply, "slave");
    reply_bulk_text(call->reply, replication->host);
    reply_integer(call->reply, replication->port);
    reply_bulk_text(call->reply, link_name(link));
    reply_integer(call->reply, link == REPLICATION_LINK_CONNECTED
                                   ? (int64_t)atomic_load(&replication->history.offset)
                                   : -1);
    return CALL_DONE;
}
