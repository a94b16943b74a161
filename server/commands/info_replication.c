/* The section of INFO about replication. Runs on the worker that got the command: roles, hosts and
 * ids change in exclusive sections only, offsets and times are read as they are. */
#include "engine/clock.h"
#include "server/commands/info_sections.h"
#include "server/config/config.h"
#include "server/links/primary_stream.h"

static void signed_number(struct text *text, const char *name, int64_t value) {
    text_append_format(text, "%s:%lld\r\n", name, (long long)value);
}

static int64_t seconds_since(uint64_t then_ms) {
    uint64_t now_ms = clock_monotonic_us() / 1000;
    return now_ms > then_ms ? (int64_t)((now_ms - then_ms) / 1000) : 0;
}

static void write_transfer(struct text *text, const struct sync_progress *progress) {
    int64_t total = atomic_load(&progress->total_bytes);
    int64_t received = atomic_load(&progress->received_bytes);
    signed_number(text, "master_sync_total_bytes", total);
    signed_number(text, "master_sync_read_bytes", received);
    signed_number(text, "master_sync_left_bytes", total - received);
    info_decimals(text, "master_sync_perc", total > 0 ? (double)received / (double)total * 100 : 0);
    signed_number(text, "master_sync_last_io_seconds_ago",
                  seconds_since(atomic_load(&progress->last_io_ms)));
}

static void write_link(struct text *text, const struct server *server) {
    const struct replica *replica = &server->replica;
    const struct replication *replication = &server->replication;
    const struct config *config = config_current();
    enum replication_link link = replica_link(replica);
    bool up = link == REPLICATION_LINK_CONNECTED;
    uint64_t offset = atomic_load(&replication->history.offset);
    uint64_t received = up ? atomic_load(&replica->received_offset) : offset;
    int64_t down_since_s = atomic_load(&replica->down_since_s);
    info_word(text, "master_host", replication->host);
    signed_number(text, "master_port", replication->port);
    info_word(text, "master_link_status", up ? "up" : "down");
    signed_number(text, "master_last_io_seconds_ago",
                  up ? seconds_since(atomic_load(&replica->last_io_ms)) : -1);
    info_number(text, "master_sync_in_progress", link == REPLICATION_LINK_TRANSFER);
    info_number(text, "slave_read_repl_offset", received > offset ? received : offset);
    info_number(text, "slave_repl_offset", offset);
    info_number(text, "slave_parallel_commands", atomic_load(&replica->shared_commands));
    if (link == REPLICATION_LINK_TRANSFER)
        write_transfer(text, &replica->progress);
    if (!up)
        signed_number(text, "master_link_down_since_seconds",
                      down_since_s ? clock_now_ms() / 1000 - down_since_s : -1);
    signed_number(text, "slave_priority", config->replica_priority);
    info_number(text, "slave_read_only", config->replica_read_only);
    info_number(text, "replica_announced", config->replica_announced);
}

struct replica_lines {
    const struct primary *primary;
    struct text *text; /* NULL: they are counted only */
    struct text lags;  /* our own, for behind all others */
    uint64_t end;      /* of the stream */
    unsigned count;
};

/* How far what it has acknowledged is behind, and how long ago that was all there was. */
static void write_lag(struct replica_lines *lines, const struct replica_link *link) {
    uint64_t acknowledged = atomic_load(&link->acknowledged_offset);
    uint64_t bytes = lines->end > acknowledged ? lines->end - acknowledged : 0;
    uint64_t ms = primary_lag_ms(lines->primary, acknowledged, clock_monotonic_us() / 1000);
    text_append_format(&lines->lags, "replica%u_lag:bytes=%llu,ms=%llu\r\n", lines->count,
                       (unsigned long long)bytes, (unsigned long long)(bytes > 0 ? ms : 0));
}

static void write_replica(void *context, const struct replica_link *link) {
    struct replica_lines *lines = context;
    enum replica_link_state state = replica_link_state(link);
    if (state == LINK_DROPPED)
        return;
    if (lines->text)
        text_append_format(
            lines->text, "slave%u:ip=%s,port=%d,state=%s,offset=%llu,lag=%lld\r\n", lines->count,
            link->address, link->listening_port, replica_link_state_name(state),
            (unsigned long long)atomic_load(&link->acknowledged_offset),
            state == LINK_ONLINE ? (long long)seconds_since(atomic_load(&link->acknowledged_ms))
                                 : 0);
    if (lines->text)
        write_lag(lines, link);
    lines->count++;
}

/* lags: to be freed. */
static void write_replicas(struct text *text, const struct primary *primary, struct text *lags) {
    const struct config *config = config_current();
    struct replica_lines counted = {0}, written = {.primary = primary, .text = text};
    written.end = atomic_load(&primary->around.replication->history.offset);
    primary_visit(primary, write_replica, &counted);
    info_number(text, "connected_slaves", counted.count);
    if (config->min_replicas_to_write && config->min_replicas_max_lag)
        info_number(text, "min_slaves_good_slaves", atomic_load(&primary->good_replicas));
    primary_visit(primary, write_replica, &written);
    *lags = written.lags;
}

static void write_backlog(struct text *text, const struct primary *primary, uint64_t end) {
    uint64_t first = atomic_load(&primary->backlog_first_offset);
    bool active = atomic_load(&primary->backlog_active);
    info_number(text, "repl_backlog_active", active);
    info_number(text, "repl_backlog_size", (uint64_t)config_current()->repl_backlog_size);
    info_number(text, "repl_backlog_first_byte_offset", active ? first + 1 : 0);
    info_number(text, "repl_backlog_histlen", active && end > first ? end - first : 0);
}

/* Our own: what the compression of the stream does. The bytes that the memory bridges are of the
 * same moment; repl_backlog_histlen is newer. */
static void write_compression(struct text *text, const struct primary *primary) {
    struct backlog_statistics figures;
    primary_figures(primary, &figures);
    info_number(text, "repl_backlog_memory", figures.retained_bytes);
    info_number(text, "repl_backlog_bridged_bytes", figures.retained_plain_bytes);
    info_number(text, "repl_backlog_pinned_memory", figures.pinned_bytes);
    info_number(text, "repl_stream_plain_bytes", figures.frames_plain_bytes);
    info_number(text, "repl_stream_wire_bytes", figures.frames_wire_bytes);
    info_decimals(text, "repl_stream_compression_ratio",
                  figures.frames_plain_bytes
                      ? (double)figures.frames_wire_bytes / (double)figures.frames_plain_bytes
                      : 1);
    info_number(text, "repl_stream_frames", figures.frames);
    info_number(text, "repl_stream_frames_stored", figures.frames_stored);
}

void info_write_replication(struct text *text, const struct info *info) {
    const struct replication *replication = &info->server->replication;
    const struct history *history = &replication->history;
    bool is_replica = replication_is_replica(replication);
    info_word(text, "role", is_replica ? "slave" : "master");
    if (is_replica)
        write_link(text, info->server);
    struct text lags;
    write_replicas(text, &info->server->primary, &lags);
    info_word(text, "master_failover_state", failover_state_name(&info->server->failover));
    info_word(text, "master_replid", history->id);
    info_word(text, "master_replid2", history->second_id);
    info_number(text, "master_repl_offset", atomic_load(&history->offset));
    signed_number(text, "second_repl_offset", history->second_offset);
    write_backlog(text, &info->server->primary, atomic_load(&history->offset));
    write_compression(text, &info->server->primary);
    text_append(text, lags.data, lags.length);
    text_free(&lags);
}
