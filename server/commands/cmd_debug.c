/* DEBUG: for tests and for finding out what goes on inside.
 *
 * Runs on the connection's worker beside the others, DIGEST with all workers stopped. Subcommands
 * about what this server does not have are unknown; those that only tune an inner part of Redis are
 * accepted and do nothing. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "engine/epoch.h"
#include "engine/exclusive.h"
#include "replication/rdb_read.h"
#include "server/base/log.h"
#include "server/base/numbers.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/commands/debug_data.h"
#include "server/commands/debug_server.h"
#include "server/commands/debug_structure.h"
#include "server/persistence/loading.h"

/* --- Time and logs ---------------------------------------------------------------------------- */

/* The others go on: this worker counts as asleep meanwhile. Not when everything is stopped for it
 * (inside a transaction). */
static void debug_sleep(struct call *call) {
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)call->argv[2].length, call->argv[2].data);
    int64_t sleep_us = (int64_t)(strtod(text, NULL) * 1000000);
    struct timespec wait = {sleep_us / 1000000, sleep_us % 1000000 * 1000};
    if (!call->tokens) {
        epoch_offline();
        exclusive_sleep_begin();
    }
    while (nanosleep(&wait, &wait) < 0 && errno == EINTR) /* the watchdog looks who this is */
        ;
    if (!call->tokens) {
        exclusive_sleep_end();
        epoch_online();
    }
    reply_ok(call->reply);
}

static void debug_log(struct call *call) {
    log_write(LOG_LEVEL_WARNING, "DEBUG LOG: %.*s", (int)call->argv[2].length, call->argv[2].data);
    reply_ok(call->reply);
}

static void debug_error(struct call *call) {
    /* As it is: a first word that is no code is what tests want to see. */
    reply_error_format(call->reply, "%.*s", (int)call->argv[2].length, call->argv[2].data);
}

/* --- Switches --------------------------------------------------------------------------------- */

static void debug_set_active_expire(struct call *call) {
    char text[32];
    snprintf(text, sizeof text, "%.*s", (int)call->argv[2].length, call->argv[2].data);
    atomic_store(&call->keyspace->active_expiry, atoi(text) != 0);
    reply_ok(call->reply);
}

static void debug_accept(struct call *call) {
    reply_ok(call->reply);
}

static void debug_packed_threshold(struct call *call) {
    char text[64];
    uint64_t bytes;
    snprintf(text, sizeof text, "%.*s", (int)call->argv[2].length, call->argv[2].data);
    if (!number_parse_memory(text, &bytes) || bytes >= (uint64_t)1 << 32)
        reply_error(call->reply,
                    "ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    else
        reply_ok(call->reply);
}

static void debug_skip_checksums(struct call *call) {
    atomic_store(&rdb_checksums_are_skipped, !argument_is(&call->argv[2], "0"));
    reply_ok(call->reply);
}

static void debug_change_replication_id(struct call *call) {
    log_write(LOG_LEVEL_NOTICE, "Changing replication IDs after receiving DEBUG change-repl-id");
    history_new_id(&call->server->replication.history);
    reply_ok(call->reply);
}

/* A command that has changed nothing here. */
static void debug_replicate(struct call *call) {
    call_propagate(call, (const struct effect_argument *)(const void *)&call->argv[2],
                   (size_t)call->argc - 2);
    reply_ok(call->reply);
}

struct reload_options {
    bool merge, flush, save;
};

/* false: error replied. */
static bool reload_options_parse(struct call *call, struct reload_options *options) {
    *options = (struct reload_options){.flush = true, .save = true};
    for (int i = 2; i < call->argc; i++) {
        const struct argument *argument = &call->argv[i];
        if (argument_is(argument, "merge")) {
            options->merge = true;
        } else if (argument_is(argument, "noflush")) {
            options->flush = false;
        } else if (argument_is(argument, "nosave")) {
            options->save = false;
        } else {
            reply_error(call->reply, "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE "
                                     "options.");
            return false;
        }
    }
    return true;
}

/* What follows puts it back: no change of the data set, for nobody. */
static void empty_all(struct keyspace *keyspace) {
    struct change change;
    change_init(&change, &keyspace->door, VIEW_APPLYING);
    keyspace_garbage_free(keyspace_clear(&change, -1), false);
    change_destroy(&change);
}

static void debug_reload(struct call *call) {
    struct server *server = call->server;
    struct reload_options options;
    if (!reload_options_parse(call, &options))
        return;
    if (options.save && server_save(server) != 0) {
        reply_error(call->reply, "ERR");
        return;
    }
    if (options.flush)
        empty_all(server->keyspace);
    if (loading_run(&server->persistence, server->loop_count,
                    server_load_thread_number(server->loop_count),
                    options.merge) != RDB_LOAD_DONE) {
        reply_error(call->reply, "ERR Error trying to load the RDB dump, check server logs.");
        return;
    }
    log_write(LOG_LEVEL_WARNING, "DB reloaded by DEBUG RELOAD");
    reply_ok(call->reply);
}

static void debug_loadaof(struct call *call) {
    reply_error(call->reply, "ERR DEBUG LOADAOF needs persistence, which is not supported yet");
}

/* --- Crashes ---------------------------------------------------------------------------------- */

static void debug_segfault(struct call *call) {
    (void)call;
    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile char *)page = 'x';
}

static void debug_assert(struct call *call) {
    ASSERT(call == NULL);
}

static void debug_panic(struct call *call) {
    (void)call;
    log_write(LOG_LEVEL_WARNING, "Guru Meditation: DEBUG PANIC called at Unix time %lld",
              (long long)time(NULL));
    abort();
}

/* --- DEBUG PROTOCOL --------------------------------------------------------------------------- */

static void reply_numbers(struct reply *reply) {
    for (int i = 0; i < 3; i++)
        reply_integer(reply, i);
}

static void protocol_map(struct reply *reply) {
    reply_map(reply, 3);
    for (int i = 0; i < 3; i++) {
        reply_integer(reply, i);
        reply_boolean(reply, i == 1);
    }
}

static void protocol_attribute(struct reply *reply) {
    if (reply->resp >= 3) {
        reply_literal(reply, "|1\r\n");
        reply_bulk_text(reply, "key-popularity");
        reply_array(reply, 2);
        reply_bulk_text(reply, "key:123");
        reply_integer(reply, 90);
    }
    reply_bulk_text(reply, "Some real reply following the attribute");
}

static void protocol_push(struct reply *reply) {
    if (reply->resp < 3) {
        reply_error(reply, "ERR RESP2 is not supported by this command");
        return;
    }
    /* A push never comes before the reply of the command that causes it, whatever the text says. */
    reply_bulk_text(reply, "Some real reply following the push reply");
    reply_push(reply, 2);
    reply_bulk_text(reply, "server-cpu-usage");
    reply_integer(reply, 42);
}

static void debug_protocol(struct call *call) {
    const struct argument *type = &call->argv[2];
    struct reply *reply = call->reply;
    if (argument_is(type, "string")) {
        reply_bulk_text(reply, "Hello World");
    } else if (argument_is(type, "integer")) {
        reply_integer(reply, 12345);
    } else if (argument_is(type, "double")) {
        reply_double(reply, 3.141);
    } else if (argument_is(type, "bignum")) {
        reply_big_number(reply, "1234567999999999999999999999999999999");
    } else if (argument_is(type, "null")) {
        reply_null(reply);
    } else if (argument_is(type, "array")) {
        reply_array(reply, 3);
        reply_numbers(reply);
    } else if (argument_is(type, "set")) {
        reply_set(reply, 3);
        reply_numbers(reply);
    } else if (argument_is(type, "map")) {
        protocol_map(reply);
    } else if (argument_is(type, "attrib")) {
        protocol_attribute(reply);
    } else if (argument_is(type, "push")) {
        protocol_push(reply);
    } else if (argument_is(type, "true") || argument_is(type, "false")) {
        reply_boolean(reply, argument_is(type, "true"));
    } else if (argument_is(type, "verbatim")) {
        reply_verbatim(reply, "txt", "This is a verbatim\nstring", 25);
    } else {
        reply_error(reply, "ERR Wrong protocol type name. Please use one of the following: string|"
                           "integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|"
                           "false");
    }
}

/* --- HELP and choosing ------------------------------------------------------------------------ */

static void debug_help(struct call *call) {
    static const char *const lines[] = {
        "ASSERT",
        "    Crash by assertion failed.",
        "CHECK [<key>]",
        "    Crash if the structure of the value at <key> is not as it is to be; without",
        "    <key> that of anything.",
        "CHANGE-REPL-ID",
        "    Change the replication IDs of the instance.",
        "    Dangerous: should be used only for testing the replication subsystem.",
        "CLUSTERLINK KILL <to|from|all> <node-id>",
        "    Kills the link based on the direction to/from (both) with the provided node.",
        "DIGEST",
        "    Output a hex signature representing the current DB content.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    Output a hex signature of the values of all the specified keys.",
        "DROP-CLUSTER-PACKET-FILTER <packet-type>",
        "    Drop all packets that match the filtered type. Set to -1 allow all packets.",
        "ERROR <string>",
        "    Return a Redis protocol error with <string> as message. Useful for clients",
        "    unit tests to simulate Redis errors.",
        "HTSTATS <dbid> [full]",
        "    Return hash table statistics of the specified Redis database.",
        "HTSTATS-KEY <key> [full]",
        "    Like HTSTATS but for the hash table stored at <key>'s value.",
        "LOG <message>",
        "    Write <message> to the server log.",
        "LOOKUP-DELAY <milliseconds>",
        "    Looking up a host name for CONFIG SET bind takes so much longer.",
        "MOVE-CLIENT (<id>|ALL) [<worker>]",
        "    Move connections to another worker, as the balance of load does.",
        "OBJECT <key>",
        "    Show low level info about `key` and associated value.",
        "PANIC",
        "    Crash the server simulating a panic.",
        "PATIENCE-HOLD <milliseconds>",
        "    Own the right to wait while holding, for which exclusive commands queue.",
        "POPULATE <count> [<prefix>] [<size>]",
        "    Create <count> string keys named key:<num>. If <prefix> is specified then",
        "    it is used instead of the 'key' prefix. These are not propagated to",
        "    replicas. Cluster slots are not respected so keys not belonging to the",
        "    current node can be created in cluster mode.",
        "PROTOCOL <type>",
        "    Reply with a test value of the specified type. <type> can be: string,",
        "    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
        "    true, false.",
        "REPLICATE <string>",
        "    Replicates the provided string to replicas, allowing data divergence.",
        "SEGFAULT",
        "    Crash the server with sigsegv.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Setting it to 0 disables expiring keys in background when they are not",
        "    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
        "    default.",
        "SLEEP <seconds>",
        "    Stop the worker of this connection for <seconds>. Decimals allowed.",
        "SLOT-HOLD <key> <milliseconds>",
        "    Hold the token of the key's slot, as a long command does.",
        "SLOT-SERVING <key> <0|1>",
        "    Whether the key's slot is served; commands for one that is not wait.",
        "TIME-SLICES <0|1>",
        "    Whether tokens are given back and batches cut short by time; 0 for counting",
        "    instructions under an instrument that slows everything down.",
        "WORKERS-AWAKE <count>",
        "    Keep so many workers awake whatever the load; 0: as many as it needs.",
        NULL};
    call_reply_help(call, lines);
}

static const struct subcommand {
    const char *name;
    int least, most; /* arguments, DEBUG and the name included */
    void (*run)(struct call *call);
    bool exclusive; /* all workers are stopped for it */
    /* Instead of run: it decides itself what it needs, as a handler does. */
    enum call_result (*handler)(struct call *call);
} subcommands[] = {
    {"aof-flush-sleep", 3, 3, debug_accept, false, NULL},
    {"assert", 2, 2, debug_assert, false, NULL},
    {"change-repl-id", 2, 2, debug_change_replication_id, true, NULL},
    {"check", 2, 3, NULL, false, debug_check},
    {"clusterlink", 5, 5, debug_cluster_link, false, NULL},
    {"digest", 2, 2, debug_digest, true, NULL},
    {"digest-value", 2, INT32_MAX, debug_digest_value, false, NULL},
    {"drop-cluster-packet-filter", 3, 3, debug_drop_cluster_packets, true, NULL},
    {"error", 3, 3, debug_error, false, NULL},
    {"help", 2, 2, debug_help, false, NULL},
    {"htstats", 3, INT32_MAX, debug_table_statistics, false, NULL},
    {"htstats-key", 3, INT32_MAX, debug_key_statistics, false, NULL},
    {"loadaof", 2, 2, debug_loadaof, false, NULL},
    {"log", 3, 3, debug_log, false, NULL},
    {"lookup-delay", 3, 3, debug_lookup_delay, false, NULL},
    {"object", 3, 3, debug_object, false, NULL},
    {"move-client", 3, 4, NULL, false, debug_move_client},
    {"panic", 2, 2, debug_panic, false, NULL},
    {"patience-hold", 3, 3, debug_patience_hold, false, NULL},
    {"pause-cron", 3, 3, debug_accept, false, NULL},
    {"populate", 3, 5, debug_populate, false, NULL},
    {"protocol", 3, 3, debug_protocol, false, NULL},
    {"quicklist-packed-threshold", 3, 3, debug_packed_threshold, false, NULL},
    {"reload", 2, INT32_MAX, debug_reload, true, NULL},
    {"replicate", 3, INT32_MAX, debug_replicate, true, NULL},
    {"replybuffer", 4, 4, debug_accept, false, NULL},
    {"segfault", 2, 2, debug_segfault, false, NULL},
    {"set-active-expire", 3, 3, debug_set_active_expire, false, NULL},
    {"set-skip-checksum-validation", 3, 3, debug_skip_checksums, false, NULL},
    {"sleep", 3, 3, debug_sleep, false, NULL},
    {"slot-hold", 4, 4, debug_slot_hold, false, NULL},
    {"slot-migration-hold", 3, 3, debug_slot_migration_hold, false, NULL},
    {"slot-serving", 4, 4, debug_slot_serving, true, NULL},
    {"time-slices", 3, 3, debug_time_slices, true, NULL},
    {"workers-awake", 3, 3, debug_workers_awake, false, NULL},
};

static const struct subcommand *find(const struct call *call) {
    for (size_t i = 0; i < sizeof subcommands / sizeof *subcommands; i++) {
        const struct subcommand *subcommand = &subcommands[i];
        if (argument_is(&call->argv[1], subcommand->name))
            return call->argc >= subcommand->least && call->argc <= subcommand->most ? subcommand
                                                                                     : NULL;
    }
    return NULL;
}

enum call_result cmd_debug(struct call *call) {
    const struct subcommand *subcommand = find(call);
    if (subcommand && subcommand->handler)
        return subcommand->handler(call);
    if (subcommand && subcommand->exclusive && !call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    if (subcommand)
        subcommand->run(call);
    else
        call_reply_bad_subcommand(call);
    return CALL_DONE;
}
