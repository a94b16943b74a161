/* What replicas say to their primary, and WAIT: REPLCONF, PSYNC, SYNC.
 *
 * Run by: any worker. PSYNC is decided while all workers are stopped (links/primary.h); from then
 * on the connection belongs to a replica and moves to worker 0. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "server/base/log.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/dispatch/lease_gate.h"
#include "server/dispatch/redirect.h"
#include "server/dispatch/session.h"

#define ERROR_WAIT_ON_REPLICA                                                                      \
    "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a "  \
    "replica is configured to be writable (which is not the default) writes to replicas are just " \
    "local and are not propagated."

command_handler cmd_replconf, cmd_psync, cmd_sync, cmd_wait;

/* --- REPLCONF --------------------------------------------------------------------------------- */

static struct replica_link *link_of(struct call *call) {
    struct session *session = call->session;
    if (!session->replica)
        session->replica = replica_link_make(session, call->server->primary.around.connection);
    return session->replica;
}

static bool is_attached(const struct session *session) {
    return session->replica && session->replica->attached;
}

static void acknowledge(struct call *call, const struct argument *offset) {
    struct replica_link *link = call->session->replica;
    int64_t value;
    if (!is_attached(call->session) || !number_parse_int64(offset->data, offset->length, &value))
        return;
    if (value > 0 && (uint64_t)value > atomic_load(&link->acknowledged_offset))
        atomic_store(&link->acknowledged_offset, (uint64_t)value);
    atomic_store(&link->acknowledged_ms, clock_monotonic_us() / 1000);
    if (replica_link_state(link) == LINK_ONLINE)
        link->stream_on_acknowledge = false;
}

/* false: replied, or nothing is to be replied. */
static bool set_option(struct call *call, const struct argument *name,
                       const struct argument *value) {
    int64_t number;
    if (argument_is(name, "ack")) {
        acknowledge(call, value);
        return false;
    }
    if (argument_is(name, "getack")) /* asked of a replica, through its primary's link only */
        return false;
    if (is_attached(call->session)) /* others read it: who it is has been told */
        return true;
    struct replica_link *link = link_of(call);
    if (argument_is(name, "listening-port")) {
        if (!number_parse_int64(value->data, value->length, &number) || number < 0 ||
            number > 65535) {
            reply_error(call->reply, ERROR_NOT_INTEGER);
            return false;
        }
        link->listening_port = (int)number;
    } else if (argument_is(name, "ip-address")) {
        if (value->length >= sizeof link->announced_address) {
            reply_error_format(call->reply,
                               "ERR REPLCONF ip-address provided by replica instance is too long: "
                               "%zu bytes",
                               value->length);
            return false;
        }
        memcpy(link->announced_address, value->data, value->length);
        link->announced_address[value->length] = 0;
    } else if (argument_is(name, "capa")) {
        char capability[32] = "";
        if (value->length < sizeof capability)
            memcpy(capability, value->data, value->length);
        link->capabilities |= psync_capability(capability);
    } else if (argument_is(name, "rdb-only")) {
        if (!number_parse_int64(value->data, value->length, &number))
            number = 0;
        link->snapshot_only = number == 1;
    } else if (!argument_is(name, "version") && !argument_is(name, "rdb-filter-only")) {
        reply_error_format(call->reply, "ERR Unrecognized REPLCONF option: %.*s",
                           (int)(name->length < 128 ? name->length : 128), name->data);
        return false;
    }
    return true;
}

enum call_result cmd_replconf(struct call *call) {
    if (call->argc % 2 == 0) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    for (int i = 1; i < call->argc; i += 2)
        if (!set_option(call, &call->argv[i], &call->argv[i + 1]))
            return CALL_DONE;
    reply_ok(call->reply);
    return CALL_DONE;
}

/* --- PSYNC and SYNC --------------------------------------------------------------------------- */

/* As log lines and INFO show it: the port is the one that it listens on, once it has told. */
static void set_address(struct call *call, struct replica_link *link) {
    char peer[80];
    call->session->peer_text(call->session, peer, sizeof peer);
    char *colon = strrchr(peer, ':');
    if (colon)
        *colon = 0;
    snprintf(link->address, sizeof link->address, "%.45s",
             link->announced_address[0] ? link->announced_address : peer);
    if (link->listening_port)
        snprintf(link->name, sizeof link->name, "%s:%d", link->address, link->listening_port);
    else
        snprintf(link->name, sizeof link->name, "client id #%llu",
                 (unsigned long long)link->client_id);
}

/* PSYNC id offset FAILOVER, from the primary that gives its role to us: become one, then go on as
 * with any PSYNC. false: *result says what is to be done instead. */
static bool take_over(struct call *call, const char *id, enum call_result *result) {
    const struct replication *replication = &call->server->replication;
    const char *refusal =
        psync_failover_refusal(replication_is_replica(replication), replication->history.id, id);
    *result = CALL_DONE;
    if (!refusal && !call->exclusive) {
        *result = CALL_NEED_EXCLUSIVE;
        return false;
    }
    log_write(LOG_LEVEL_NOTICE, "Failover request received for replid %s.", id);
    if (refusal) {
        reply_error(call->reply, refusal + 1); /* without the dash */
        return false;
    }
    replica_unset_primary(&call->server->replica);
    replication_log_change(call, "MASTER MODE enabled", "failover request");
    return true;
}

/* id NULL: SYNC. */
static enum call_result synchronize(struct call *call, const char *id) {
    struct session *session = call->session;
    int64_t offset = -1;
    if (is_attached(session))
        return CALL_DONE;
    const struct psync_obstacles obstacles = {
        .failing_over = failover_is_on(&call->server->failover),
        .is_replica = replication_is_replica(&call->server->replication),
        .is_connected = replica_link(&call->server->replica) == REPLICATION_LINK_CONNECTED,
        .pending_output = call->server->primary.around.connection->unsent_bytes(session) > 0,
        .capabilities = session->replica ? session->replica->capabilities : 0,
    };
    const char *refusal = psync_refusal(&obstacles);
    if (refusal) {
        reply_error(call->reply, refusal[0] == '-' ? refusal + 1 : refusal);
        return CALL_DONE;
    }
    if (id && !argument_integer(call, 2, &offset)) {
        log_write(LOG_LEVEL_WARNING,
                  "Replica client id #%llu asks for synchronization but with a wrong offset",
                  (unsigned long long)session->id);
        return CALL_DONE;
    }
    if (session->subscriptions) /* subscribers stay with their worker, and messages are no stream */
        session->unsubscribe(session);
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    struct replica_link *link = link_of(call);
    link->asked_by_sync = id == NULL;
    set_address(call, link);
    session->reply_mode = REPLY_ON; /* what it is sent is no reply */
    call->reply->discard = false;
    primary_sync(&call->server->primary, link, id, offset);
    return CALL_DONE;
}

enum call_result cmd_psync(struct call *call) {
    char id[HISTORY_ID_LENGTH + 1] = "";
    const struct argument *asked = &call->argv[1];
    enum call_result result;
    if (is_attached(call->session))
        return CALL_DONE;
    if (asked->length < sizeof id)
        memcpy(id, asked->data, asked->length);
    if (call->argc > 3 && argument_is(&call->argv[3], "failover") && !take_over(call, id, &result))
        return result;
    return synchronize(call, id);
}

enum call_result cmd_sync(struct call *call) {
    return synchronize(call, NULL);
}

/* --- WAIT ------------------------------------------------------------------------------------- */

/* In a cluster it is as an acknowledgement of the writes that it counts for. */
static void reply_replicas(struct call *call, unsigned count) {
    if (count > 0 && redirect_map())
        lease_gate_note(&call->session->unacknowledged, lease_gate_mark());
    reply_integer(call->reply, count);
}

enum call_result cmd_wait(struct call *call) {
    struct session *session = call->session;
    struct primary *primary = &call->server->primary;
    int64_t replicas;
    uint64_t until_us;
    unsigned count;
    if (session->unfinished) { /* enough, or the time is over */
        const struct replica_wait *wait = (struct replica_wait *)(void *)session->unfinished;
        if (wait->refusal) {
            reply_error(call->reply, wait->refusal);
            return wait->closes ? CALL_CLOSE : CALL_DONE;
        }
        count = wait->offset == UINT64_MAX ? 0 : primary_acknowledged(primary, wait->offset);
        reply_replicas(call, count);
        return CALL_DONE;
    }
    if (replication_is_replica(&call->server->replication)) {
        reply_error(call->reply, ERROR_WAIT_ON_REPLICA);
        return CALL_DONE;
    }
    if (!argument_integer(call, 1, &replicas) || !call_timeout_argument(call, 2, &until_us))
        return CALL_DONE;
    if (replicas < 0)
        replicas = 0;
    if (replicas > UINT32_MAX)
        replicas = UINT32_MAX;
    if (call->in_exec) { /* nothing can wait here */
        reply_integer(call->reply, primary_acknowledged_number(primary, session->last_commit));
        return CALL_DONE;
    }
    struct replica_wait *wait =
        primary_wait(primary, session->last_commit, (unsigned)replicas, until_us, &count);
    if (!wait) {
        reply_replicas(call, count);
        return CALL_DONE;
    }
    session->unfinished = &wait->unfinished;
    return CALL_UNFINISHED;
}
