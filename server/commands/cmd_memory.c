/* MEMORY: what keys and the process take.
 *
 * Run by: any worker. MEMORY USAGE also without the token, except for values that only the token
 * protects. */
#include <stdio.h>

#include "engine/memory.h"
#include "server/commands/cmd_data.h"
#include "server/commands/keyspace_sample.h"
#include "server/commands/memory_report.h"
#include "server/commands/statistics.h"

#if defined(SLOTWISE_JEMALLOC)
#include <jemalloc/jemalloc.h>
#endif

/* A key's share of its table: an entry of a bucket that is 5 of 7 full. */
#define TABLE_SHARE_BYTES 13

static bool usage_options_parse(struct call *call) {
    for (int i = 3; i < call->argc; i += 2) {
        int64_t samples;
        if (!argument_is(&call->argv[i], "samples") || i + 1 == call->argc)
            goto error;
        if (!argument_integer(call, i + 1, &samples))
            return false;
        if (samples < 0)
            goto error;
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

enum call_result cmd_memory_usage(struct call *call) {
    if (!usage_options_parse(call))
        return CALL_DONE;
    /* An expired key takes memory as long as it is there. */
    struct object *object = keyspace_find_raw(call->keyspace, call->database, &call->key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    reply_integer(call->reply, (int64_t)object_total_bytes(object) + TABLE_SHARE_BYTES);
    return CALL_DONE;
}

/* --- What the process takes ------------------------------------------------------------------- */

static void collect(struct call *call, struct memory_report *report) {
    struct statistics sum;
    statistics_sum(call->server, &sum);
    memory_report_collect(call->server, &sum, report);
}

static void reply_number(struct reply *reply, const char *name, int64_t value) {
    reply_bulk_text(reply, name);
    reply_integer(reply, value);
}

static void reply_ratio(struct reply *reply, const char *name, double value) {
    reply_bulk_text(reply, name);
    reply_double(reply, value);
}

/* One entry for each database that has keys; returns how many. */
static size_t reply_databases(struct call *call) {
    struct reply *reply = call->reply;
    size_t n = 0;
    for (unsigned i = 0; i < call->keyspace->databases; i++) {
        if (keyspace_count(call->keyspace, i) == 0)
            continue;
        char name[32];
        snprintf(name, sizeof name, "db.%u", i);
        reply_bulk_text(reply, name);
        reply_map(reply, 3);
        reply_number(reply, "overhead.hashtable.main",
                     (int64_t)keyspace_sample_table_bytes(call->keyspace, i));
        reply_number(reply, "overhead.hashtable.expires", 0); /* a field of the key's object */
        reply_number(reply, "overhead.hashtable.slot-to-keys", 0);
        n++;
    }
    return n;
}

/* Returns the number of entries. */
static size_t reply_fragmentation(struct reply *reply, const struct memory_report *report) {
    int64_t allocated = (int64_t)report->allocated, active = (int64_t)report->active;
    int64_t allocator = (int64_t)report->allocator_resident, resident = (int64_t)report->resident;
    reply_number(reply, "allocator.allocated", allocated);
    reply_number(reply, "allocator.active", active);
    reply_number(reply, "allocator.resident", allocator);
    reply_ratio(reply, "allocator-fragmentation.ratio",
                memory_ratio(report->active, report->allocated));
    reply_number(reply, "allocator-fragmentation.bytes", active - allocated);
    reply_ratio(reply, "allocator-rss.ratio",
                memory_ratio(report->allocator_resident, report->active));
    reply_number(reply, "allocator-rss.bytes", allocator - active);
    reply_ratio(reply, "rss-overhead.ratio",
                memory_ratio(report->resident, report->allocator_resident));
    reply_number(reply, "rss-overhead.bytes", resident - allocator);
    reply_ratio(reply, "fragmentation", memory_ratio(report->resident, report->used));
    reply_number(reply, "fragmentation.bytes", resident - (int64_t)report->used);
    return 11;
}

enum call_result cmd_memory_stats(struct call *call) {
    struct reply *reply = call->reply;
    struct memory_report report;
    collect(call, &report);
    struct reply_deferred map = reply_deferred_begin(reply);
    reply_number(reply, "peak.allocated", (int64_t)report.peak);
    reply_number(reply, "total.allocated", (int64_t)report.used);
    reply_number(reply, "startup.allocated", (int64_t)report.startup);
    reply_number(reply, "replication.backlog", 0);
    reply_number(reply, "clients.slaves", 0);
    reply_number(reply, "clients.normal", (int64_t)report.clients);
    struct cluster_bus_figures bus = {0};
    if (call->server->cluster)
        cluster_bus_figures(call->server->cluster, &bus);
    reply_number(reply, "cluster.links", (int64_t)bus.buffer_bytes);
    reply_number(reply, "aof.buffer", 0);
    reply_number(reply, "lua.caches", 0);
    reply_number(reply, "functions.caches", 0);
    size_t n = 10 + reply_databases(call);
    reply_number(reply, "overhead.total", (int64_t)report.overhead);
    reply_number(reply, "keys.count", (int64_t)report.keys);
    reply_number(reply, "keys.bytes-per-key",
                 report.keys ? (int64_t)(report.net / report.keys) : 0);
    reply_number(reply, "dataset.bytes", (int64_t)report.dataset);
    reply_ratio(reply, "dataset.percentage", memory_ratio(report.dataset, report.net) * 100);
    reply_ratio(reply, "peak.percentage", memory_ratio(report.used, report.peak) * 100);
    n += 6 + reply_fragmentation(reply, &report);
    reply_deferred_map(reply, map, n);
    return CALL_DONE;
}

enum call_result cmd_memory_doctor(struct call *call) {
    struct memory_report report;
    struct text text = {0};
    collect(call, &report);
    memory_write_advice(&text, &report);
    reply_verbatim(call->reply, "txt", text_string(&text), text.length);
    text_free(&text);
    return CALL_DONE;
}

#if defined(SLOTWISE_JEMALLOC)
static void append_allocator_text(void *context, const char *piece) {
    text_append_string(context, piece);
}
#endif

enum call_result cmd_memory_malloc_stats(struct call *call) {
    struct text text = {0};
#if defined(SLOTWISE_JEMALLOC)
    malloc_stats_print(append_allocator_text, &text, NULL);
#else
    text_append_string(&text, "Stats not supported for the current allocator");
#endif
    reply_verbatim(call->reply, "txt", text_string(&text), text.length);
    text_free(&text);
    return CALL_DONE;
}

enum call_result cmd_memory_help(struct call *call) {
    static const char *const lines[] = {
        "DOCTOR",
        "    Return memory problems reports.",
        "MALLOC-STATS",
        "    Return internal statistics report from the memory allocator.",
        "PURGE",
        "    Attempt to purge dirty pages for reclamation by the allocator.",
        "STATS",
        "    Return information about the memory usage of the server.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}

enum call_result cmd_memory_purge(struct call *call) {
    memory_give_back();
    reply_ok(call->reply);
    return CALL_DONE;
}
