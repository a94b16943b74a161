/* The sections of INFO about commands, errors and keys: stats, commandstats, errorstats,
 * latencystats, keyspace. See info.c for who runs them. */
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/clients/pubsub.h"
#include "server/commands/info_sections.h"
#include "server/commands/keyspace_sample.h"
#include "server/config/config.h"
#include "server/dispatch/latency.h"
#include "server/resp/error_statistics.h"

/* --- Stats ------------------------------------------------------------------------------------ */

static void rate(struct text *text, const char *name, uint64_t bytes_per_second) {
    text_append_format(text, "%s:%.2f\r\n", name, (double)bytes_per_second / 1024);
}

static void write_traffic(struct text *text, const struct info *info) {
    const struct server *server = info->server;
    info_number(text, "total_connections_received", atomic_load(&server->accepted));
    info_number(text, "total_commands_processed", info->sum.commands);
    info_number(text, "instantaneous_ops_per_sec", atomic_load(&server->instantaneous_commands));
    uint64_t transferred = atomic_load(&server->replica.progress.all_bytes);
    uint64_t applied = atomic_load(&server->replica.stream_bytes);
    info_number(text, "total_net_input_bytes", info->sum.received_bytes + transferred);
    info_number(text, "total_net_output_bytes", info->sum.sent_bytes);
    info_number(text, "total_net_repl_input_bytes", transferred + applied);
    info_number(text, "total_net_repl_output_bytes", 0);
    rate(text, "instantaneous_input_kbps", atomic_load(&server->instantaneous_input_bytes));
    rate(text, "instantaneous_output_kbps", atomic_load(&server->instantaneous_output_bytes));
    rate(text, "instantaneous_input_repl_kbps", 0);
    rate(text, "instantaneous_output_repl_kbps", 0);
    info_number(text, "rejected_connections", atomic_load(&server->rejected_connections));
    info_number(text, "sync_full", atomic_load(&server->primary.full_syncs));
    info_number(text, "sync_partial_ok", atomic_load(&server->primary.partial_syncs));
    info_number(text, "sync_partial_err", atomic_load(&server->primary.partial_syncs_refused));
}

static void write_keys(struct text *text, const struct info *info) {
    info_number(text, "expired_subkeys", info->sum.expired_fields);
    info_number(text, "expired_keys", info->sum.expired);
    info_word(text, "expired_stale_perc", "0.00");
    info_number(text, "expired_time_cap_reached_count", info->sum.expire_limit_reached);
    info_number(text, "expire_cycle_cpu_milliseconds", info->sum.expire_cycle_us / 1000);
    info_number(text, "evicted_keys", info->sum.evicted);
    info_number(text, "evicted_clients", atomic_load(&info->server->evicted_clients));
    uint64_t exceeded_now_ms, exceeded_ms;
    eviction_exceeded_ms(info->server->evictor, &exceeded_now_ms, &exceeded_ms);
    info_number(text, "total_eviction_exceeded_time", exceeded_ms);
    info_number(text, "current_eviction_exceeded_time", exceeded_now_ms);
    info_number(text, "keyspace_hits", info->sum.hits);
    info_number(text, "keyspace_misses", info->sum.misses);
    const struct pubsub *pubsub = info->server->pubsub;
    info_number(text, "pubsub_channels", pubsub_count(pubsub, PUBSUB_CHANNEL));
    info_number(text, "pubsub_patterns", pubsub_count(pubsub, PUBSUB_PATTERN));
    info_number(text, "pubsubshard_channels", pubsub_count(pubsub, PUBSUB_SHARD));
    INFO_ZEROS(text, "latest_fork_usec", "total_forks");
    info_number(text, "migrate_cached_sockets",
                migration_targets_count(&info->server->migrator.targets));
    info_number(text, "slave_expires_tracked_keys", atomic_load(&info->server->own_expiry.count));
    INFO_ZEROS(text, "active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits",
               "active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time",
               "tracking_total_keys", "tracking_total_items", "tracking_total_prefixes");
    info_number(text, "unexpected_error_replies",
                atomic_load(&info->server->replica.stream_errors));
}

static uint64_t command_time_us(const struct server *server) {
    uint64_t ticks = 0;
    for (unsigned id = 0; id < command_count(); id++) {
        struct command_sum sum;
        statistics_sum_command(server, command_by_id(id), &sum);
        ticks += sum.ticks;
    }
    return clock_ticks_to_ns(ticks) / 1000;
}

static void write_event_loop(struct text *text, const struct info *info) {
    const struct server *server = info->server;
    uint64_t turns_per_s = atomic_load(&server->instantaneous_turns);
    uint64_t busy_us_per_s = atomic_load(&server->instantaneous_busy_us);
    info_number(text, "total_error_replies", error_statistics_total());
    info_number(text, "dump_payload_sanitizations", 0);
    info_number(text, "total_reads_processed", info->sum.reads);
    info_number(text, "total_writes_processed", info->sum.writes);
    INFO_ZEROS(text, "io_threaded_reads_processed", "io_threaded_writes_processed",
               "reply_buffer_shrinks", "reply_buffer_expands");
    info_number(text, "eventloop_cycles", info->sum.turns);
    info_number(text, "eventloop_duration_sum", info->sum.busy_us);
    info_number(text, "eventloop_duration_cmd_sum", command_time_us(server));
    info_number(text, "instantaneous_eventloop_cycles_per_sec", turns_per_s);
    info_number(text, "instantaneous_eventloop_duration_usec",
                turns_per_s ? busy_us_per_s / turns_per_s : 0);
    info_number(text, "acl_access_denied_auth", atomic_load(&server->authentication_failures));
    INFO_ZEROS(text, "acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel");
}

void info_write_stats(struct text *text, const struct info *info) {
    const struct command *slowest = info->sum.slowest_command;
    write_traffic(text, info);
    write_keys(text, info);
    write_event_loop(text, info);
    info_number(text, "client_output_buffer_limit_disconnections",
                atomic_load(&info->server->output_limit_disconnections));
    info_number(text, "slowest_command_usec", info->sum.slowest_us);
    info_word(text, "slowest_command", slowest ? slowest->name : "");
}

void info_write_debug(struct text *text, const struct info *info) {
    (void)info;
    info_number(text, "exclusive_sections", exclusive_count());
    INFO_ZEROS(text, "eventloop_duration_aof_sum", "eventloop_duration_cron_sum",
               "eventloop_duration_max", "eventloop_cmd_per_cycle_max");
}

/* --- Commands and errors ---------------------------------------------------------------------- */

void info_write_commandstats(struct text *text, const struct info *info) {
    for (unsigned id = 0; id < command_count(); id++) {
        const struct command *command = command_by_id(id);
        struct command_sum sum;
        statistics_sum_command(info->server, command, &sum);
        if (!sum.calls && !sum.failed && !sum.rejected)
            continue;
        double us = (double)clock_ticks_to_ns(sum.ticks) / 1000;
        text_append_format(text,
                           "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,"
                           "rejected_calls=%llu,failed_calls=%llu\r\n",
                           command->name, (unsigned long long)sum.calls, (unsigned long long)us,
                           sum.calls ? us / (double)sum.calls : 0, (unsigned long long)sum.rejected,
                           (unsigned long long)sum.failed);
    }
}

/* A code comes from the reply of a handler that may have quoted a client: nothing in it may look
 * like a line of INFO. */
static void write_error(const char *code, uint64_t count, void *context) {
    struct text *text = context;
    text_append_string(text, "errorstat_");
    for (; *code; code++)
        text_append(text, strchr("#:\r\n", *code) ? "_" : code, 1);
    text_append_format(text, ":count=%llu\r\n", (unsigned long long)count);
}

void info_write_errorstats(struct text *text, const struct info *info) {
    (void)info;
    error_statistics_each(write_error, text);
}

static void write_percentiles(struct text *text, const char *name,
                              const struct latency_histogram *histogram) {
    const struct config_percentiles *wanted = &config_current()->latency_tracking_info_percentiles;
    text_append_format(text, "latency_percentiles_usec_%s:", name);
    for (size_t i = 0; i < wanted->count; i++) {
        char label[64];
        int n = snprintf(label, sizeof label, "%f", wanted->percentile[i]);
        label[number_trim_zeros(label, (size_t)n)] = '\0';
        text_append_format(text, "%sp%s=%.3f", i ? "," : "", label,
                           (double)latency_percentile_ns(histogram, wanted->percentile[i]) / 1000);
    }
    text_append_string(text, "\r\n");
}

void info_write_latencystats(struct text *text, const struct info *info) {
    if (!config_current()->latency_tracking)
        return;
    struct latency_histogram *sum = memory_alloc(sizeof *sum);
    for (unsigned id = 0; id < command_count(); id++)
        if (statistics_sum_latency(info->server, command_by_id(id), sum))
            write_percentiles(text, command_by_id(id)->name, sum);
    memory_free(sum);
}

/* --- Keys ------------------------------------------------------------------------------------- */

void info_write_keyspace(struct text *text, const struct info *info) {
    struct keyspace *keyspace = info->server->keyspace;
    for (unsigned i = 0; i < keyspace->databases; i++) {
        uint64_t keys = keyspace_count(keyspace, i);
        uint64_t expiring = keyspace_expiring_count(keyspace, i);
        if (!keys && !expiring)
            continue;
        int64_t ttl_ms = expiring ? keyspace_sample_ttl_ms(keyspace, i) : 0;
        text_append_format(text, "db%u:keys=%llu,expires=%llu,avg_ttl=%lld,subexpiry=%llu\r\n", i,
                           (unsigned long long)keys, (unsigned long long)expiring,
                           (long long)ttl_ms,
                           (unsigned long long)keyspace_field_timed_count(keyspace, i));
    }
}
