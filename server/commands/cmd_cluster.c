/* CLUSTER: what changes the cluster; ASKING, READONLY, READWRITE.
 *
 * Run by: any worker, under the lock of the bus. What takes a slot or its keys away from this node,
 * or asks whether there are any, runs while all workers are stopped: so no command is under way in
 * a slot when the map that gives it away is published. */
#include "server/commands/cmd_cluster.h"
#include "cluster/operate.h"
#include "cluster/view.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/base/text.h"
#include "server/dispatch/background_work.h"
#include "server/dispatch/session.h"

command_handler cmd_asking, cmd_readonly, cmd_readwrite, cmd_cluster_help, cmd_cluster_meet,
    cmd_cluster_forget, cmd_cluster_replicate, cmd_cluster_failover, cmd_cluster_reset,
    cmd_cluster_bumpepoch, cmd_cluster_set_config_epoch, cmd_cluster_saveconfig,
    cmd_cluster_count_failure_reports;

bool cluster_slot_argument(struct call *call, int index, unsigned *slot) {
    int64_t value;
    const struct argument *argument = &call->argv[index];
    if (number_parse_int64(argument->data, argument->length, &value) && value >= 0 &&
        value < CLUSTER_SLOTS) {
        *slot = (unsigned)value;
        return true;
    }
    reply_error(call->reply, "ERR Invalid or out of range slot");
    return false;
}

/* --- Sessions --------------------------------------------------------------------------------- */

enum call_result cmd_asking(struct call *call) {
    if (!cluster_of_call(call))
        return CALL_DONE;
    call->session->asks_next = !call->in_exec; /* EXEC ends it, as every command does */
    reply_ok(call->reply);
    return CALL_DONE;
}

static enum call_result read_replica(struct call *call, bool on) {
    if (!cluster_of_call(call))
        return CALL_DONE;
    call->session->reads_replica = on;
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_readonly(struct call *call) {
    return read_replica(call, true);
}

enum call_result cmd_readwrite(struct call *call) {
    return read_replica(call, false);
}

/* --- Nodes ------------------------------------------------------------------------------------ */

/* The argument as a text, for messages and for addresses. */
static const char *argument_text(struct text *text, const struct call *call, int index) {
    text_append(text, call->argv[index].data, call->argv[index].length);
    return text_string(text);
}

static bool port_argument(struct call *call, int index, const char *kind, int64_t *port) {
    const struct argument *argument = &call->argv[index];
    if (number_parse_int64(argument->data, argument->length, port))
        return true;
    reply_error_format(call->reply, "ERR Invalid %s port specified: %.*s", kind,
                       (int)argument->length, argument->data);
    return false;
}

enum call_result cmd_cluster_meet(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    int64_t port, bus_port;
    if (!bus)
        return CALL_DONE;
    if (call->argc > 5) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (!port_argument(call, 3, "base", &port))
        return CALL_DONE;
    bus_port = (int64_t)((uint64_t)port + CLUSTER_BUS_PORT_STEP);
    if (call->argc == 5 && !port_argument(call, 4, "bus", &bus_port))
        return CALL_DONE;
    struct text address = {0};
    const char *text = argument_text(&address, call, 2);
    const char *error = cluster_meet(cluster_bus_enter(bus), text, port, bus_port);
    enum call_result result = cluster_answer(call, bus, error);
    text_free(&address);
    return result;
}

enum call_result cmd_cluster_forget(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    if (!bus)
        return CALL_DONE;
    const struct argument *id = &call->argv[2];
    return cluster_answer(call, bus, cluster_forget(cluster_bus_enter(bus), id->data, id->length));
}

static bool has_keys(const struct call *call) {
    return keyspace_count(call->keyspace, 0) > 0;
}

enum call_result cmd_cluster_replicate(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    if (!bus)
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    const struct argument *id = &call->argv[2];
    struct cluster *cluster = cluster_bus_enter(bus);
    return cluster_answer(call, bus,
                          cluster_replicate(cluster, id->data, id->length, has_keys(call)));
}

enum call_result cmd_cluster_count_failure_reports(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    if (!bus)
        return CALL_DONE;
    unsigned count;
    const struct argument *id = &call->argv[2];
    struct cluster *cluster = cluster_bus_enter(bus);
    const char *error = cluster_count_failure_reports(cluster, id->data, id->length, &count);
    if (error)
        reply_error(call->reply, error);
    else
        reply_integer(call->reply, count);
    cluster_bus_leave(bus, false);
    return CALL_DONE;
}

/* --- The file --------------------------------------------------------------------------------- */

struct file_saving {
    struct background_work work; /* first */
    struct cluster_bus *bus;
    bool saved;
};

static void save_file(struct background_work *work) {
    struct file_saving *saving = (struct file_saving *)(void *)work;
    saving->saved = cluster_bus_save(saving->bus);
}

static void save_file_destroy(struct background_work *work) {
    memory_free(work);
}

/* Writes the file of the cluster and waits for it: what raises an epoch asks first whether that can
 * be kept. false: *result; the first time to wait, then because it cannot be written. A transaction
 * cannot wait: it goes by what is known of the disk. */
static bool file_is_written(struct call *call, struct cluster_bus *bus, enum call_result *result) {
    struct session *session = call->session;
    *result = CALL_DONE;
    if (call->in_exec)
        return true;
    if (!session->unfinished) {
        struct file_saving *saving =
            memory_alloc_aligned(_Alignof(struct file_saving), sizeof *saving);
        saving->work = (struct background_work){
            .thread = BACKGROUND_OWN, .run = save_file, .destroy = save_file_destroy};
        saving->bus = bus;
        session->unfinished = background_work_begin(&saving->work);
        *result = CALL_UNFINISHED;
        return false;
    }
    if (((struct file_saving *)(void *)session->unfinished)->saved)
        return true;
    reply_error(call->reply, "ERR error saving the cluster node config: see the log");
    return false;
}

/* In a transaction the file is written soon. */
enum call_result cmd_cluster_saveconfig(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    enum call_result result;
    if (!bus || !file_is_written(call, bus, &result))
        return bus ? result : CALL_DONE;
    if (call->in_exec)
        cluster_save_config(cluster_bus_enter(bus));
    else
        cluster_bus_enter(bus);
    return cluster_answer(call, bus, NULL);
}

/* --- This node -------------------------------------------------------------------------------- */

enum call_result cmd_cluster_failover(struct call *call) {
    enum call_result result;
    struct cluster_bus *bus = cluster_of_call(call);
    enum cluster_failover_mode mode = CLUSTER_FAILOVER_AGREED;
    if (!bus)
        return CALL_DONE;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 3 && argument_is(&call->argv[2], "force")) {
        mode = CLUSTER_FAILOVER_FORCE;
    } else if (call->argc == 3 && argument_is(&call->argv[2], "takeover")) {
        mode = CLUSTER_FAILOVER_TAKEOVER;
    } else if (call->argc == 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (mode == CLUSTER_FAILOVER_TAKEOVER && !file_is_written(call, bus, &result))
        return result;
    return cluster_answer(call, bus, cluster_failover(cluster_bus_enter(bus), mode));
}

enum call_result cmd_cluster_reset(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    bool hard = call->argc == 3 && argument_is(&call->argv[2], "hard");
    if (!bus)
        return CALL_DONE;
    if (call->argc > 3) {
        call_reply_bad_subcommand(call);
        return CALL_DONE;
    }
    if (call->argc == 3 && !hard && !argument_is(&call->argv[2], "soft")) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    struct cluster *cluster = cluster_bus_enter(bus);
    return cluster_answer(call, bus, cluster_reset(cluster, hard, has_keys(call)));
}

enum call_result cmd_cluster_bumpepoch(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    enum call_result result;
    bool bumped;
    uint64_t epoch;
    if (!bus)
        return CALL_DONE;
    if (!file_is_written(call, bus, &result))
        return result;
    const char *error = cluster_bump_epoch(cluster_bus_enter(bus), &bumped, &epoch);
    if (error)
        return cluster_answer(call, bus, error);
    cluster_bus_leave(bus, true);
    struct text text = {0};
    text_append_format(&text, "%s %llu", bumped ? "BUMPED" : "STILL", (unsigned long long)epoch);
    reply_status(call->reply, text_string(&text));
    text_free(&text);
    return CALL_DONE;
}

enum call_result cmd_cluster_set_config_epoch(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    int64_t epoch;
    if (!bus || !argument_integer(call, 2, &epoch))
        return CALL_DONE;
    return cluster_answer(call, bus, cluster_set_config_epoch(cluster_bus_enter(bus), epoch));
}

/* --- HELP ------------------------------------------------------------------------------------- */

static const char *const help[] = {
    "ADDSLOTS <slot> [<slot> ...]",
    "    Assign slots to current node.",
    "ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Assign slots which are between <start-slot> and <end-slot> to current node.",
    "BUMPEPOCH",
    "    Advance the cluster config epoch.",
    "CANCELSLOTMIGRATIONS",
    "    Cancel all current ongoing slot migration operations.",
    "COUNT-FAILURE-REPORTS <node-id>",
    "    Return number of failure reports for <node-id>.",
    "COUNTKEYSINSLOT <slot>",
    "    Return the number of keys in <slot>.",
    "DELSLOTS <slot> [<slot> ...]",
    "    Delete slots information from current node.",
    "DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    "    Delete slots information which are between <start-slot> and <end-slot> from current "
    "node.",
    "FAILOVER [FORCE|TAKEOVER]",
    "    Promote current replica node to being a master.",
    "FORGET <node-id>",
    "    Remove a node from the cluster.",
    "GETKEYSINSLOT <slot> <count>",
    "    Return key names stored by current node in a slot.",
    "GETSLOTMIGRATIONS",
    "    Return the status of ongoing and recently finished slot migrations.",
    "FLUSHSLOTS",
    "    Delete current node own slots information.",
    "INFO",
    "    Return information about the cluster.",
    "KEYSLOT <key>",
    "    Return the hash slot for <key>.",
    "MEET <ip> <port> [<bus-port>]",
    "    Connect nodes into a working cluster.",
    "MIGRATESLOTS SLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...] NODE "
    "<node-id>",
    "    [SLOTSRANGE ... NODE <node-id> ...]",
    "    Migrate slots with their keys from this node to others.",
    "MYID",
    "    Return the node id.",
    "MYSHARDID",
    "    Return the node's shard id.",
    "NODES",
    "    Return cluster configuration seen by node. Output format:",
    "    <id> <ip:port@bus-port[,hostname]> <flags> <master> <pings> <pongs> <epoch> <link> "
    "<slot> ...",
    "REPLICATE <node-id>",
    "    Configure current node as replica to <node-id>.",
    "RESET [HARD|SOFT]",
    "    Reset current node (default: soft).",
    "SET-CONFIG-EPOCH <epoch>",
    "    Set config epoch of current node.",
    "SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    "    Set slot state.",
    "REPLICAS <node-id>",
    "    Return <node-id> replicas.",
    "SAVECONFIG",
    "    Force saving cluster configuration on disk.",
    "SLOTS",
    "    Return information about slots range mappings. Each range is made of:",
    "    start, end, master and replicas IP addresses, ports and ids",
    "SHARDS",
    "    Return information about slot range mappings and the nodes associated with them.",
    "LINKS",
    "    Return information about all network links between this node and its peers.",
    "    Output format is an array where each array element is a map containing attributes of "
    "a link",
    NULL};

enum call_result cmd_cluster_help(struct call *call) {
    if (cluster_of_call(call))
        call_reply_help(call, help);
    return CALL_DONE;
}
