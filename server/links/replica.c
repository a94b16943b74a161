/* See replica.h. */
#include "server/links/replica.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/service.h"

#define RETRY_MS       1000
#define ACKNOWLEDGE_MS 1000

static void changed(struct replica *replica) {
    const struct replication_serving *serving = &replica->replication->serving;
    if (serving->changed)
        serving->changed(serving->context);
}

/* What clients are refused follows from the role, the link and the configuration. */
static void set_stale(struct replica *replica) {
    bool down = replication_is_replica(replica->replication) && !replica->connected;
    service_set(replica->environment.service, SERVICE_STALE, down && !replica->serves_stale);
}

static void set_link(struct replica *replica, enum replication_link link) {
    replica->connected = link == REPLICATION_LINK_CONNECTED;
    atomic_store(&replica->link, link);
    if (replica->connected) {
        atomic_store(&replica->down_since_s, 0);
        atomic_store(&replica->has_primary_data, true);
    }
    set_stale(replica);
}

enum replication_link replica_link(const struct replica *replica) {
    enum replication_link link = (enum replication_link)atomic_load(&replica->link);
    /* While it wants to connect an attempt may be under way. */
    return link == REPLICATION_LINK_CONNECT
               ? (enum replication_link)atomic_load(&replica->progress.link)
               : link;
}

/* --- Attempts --------------------------------------------------------------------------------- */

static const char *source_address(const struct config *config) {
    const char *address = config->bind_source_addr;
    return address && address[0] ? address : NULL;
}

static bool is_empty(const struct keyspace *keyspace) {
    for (unsigned i = 0; i < keyspace->databases; i++)
        if (keyspace_count(keyspace, i) > 0)
            return false;
    return true;
}

static void start(struct replica *replica) {
    const struct config *config = config_current();
    const struct replication *replication = replica->replication;
    struct sync_request request = {
        .host = replication->host,
        .port = replication->port,
        .source_address = source_address(config),
        .user = config->masteruser,
        .password = config->masterauth,
        .user_length = config_text_length(config->masteruser),
        .password_length = config_text_length(config->masterauth),
        .announced_address = config->replica_announce_ip,
        .announced_port =
            (int)(config->replica_announce_port ? config->replica_announce_port : config->port),
        .timeout_ms = (int64_t)config->repl_timeout * 1000,
        .failover = replica->failing_over,
        .may_continue = replication->place.may_continue,
        .offset = atomic_load(&replication->history.offset),
        .database = replication->place.database,
        .lazy_flush = config->replica_lazy_flush,
        .checksum = config->rdbchecksum,
        .delete_file = config->rdb_del_sync_files && !config->appendonly && config->save.count == 0,
        .file = config->dbfilename,
        .string_bytes = (uint64_t)INT64_MAX,
        .from_socket = config->repl_diskless_load == CONFIG_DISKLESS_LOAD_SWAPDB ||
                       (config->repl_diskless_load == CONFIG_DISKLESS_LOAD_ON_EMPTY_DB &&
                        is_empty(replica->environment.keyspace)),
        .beside = config->repl_diskless_load == CONFIG_DISKLESS_LOAD_SWAPDB,
        .threads = replica->threads,
        .thread_number = replica->thread_number,
    };
    memcpy(request.id, replication->history.id, sizeof request.id);
    replica->tried_ms = clock_monotonic_us() / 1000;
    /* Said before the attempt, whose own thread may fail at once. */
    log_write(LOG_LEVEL_NOTICE, "MASTER <-> REPLICA sync started");
    replica->sync = sync_start(&request, &replica->environment);
    if (!replica->sync)
        atomic_store(&replica->progress.link, REPLICATION_LINK_CONNECT);
}

static void cancel(struct replica *replica) {
    if (replica->sync)
        sync_cancel(replica->sync);
    replica->sync = NULL;
    atomic_store(&replica->progress.link, REPLICATION_LINK_CONNECT);
}

/* Worker 0: a message. */
static void ended(struct sync *sync, void *context) {
    struct replica *replica = context;
    enum sync_result result = sync_result(sync);
    unsigned database;
    bool wants_ack = false;
    replica->sync = NULL;
    atomic_store(&replica->progress.link, REPLICATION_LINK_CONNECT);
    if (result == SYNC_CONTINUED || result == SYNC_LOADED) {
        int fd = sync_take_socket(sync, &database, &wants_ack);
        place_connected(&replica->replication->place);
        atomic_store(&replica->last_io_ms, clock_monotonic_us() / 1000);
        atomic_store(&replica->received_offset, atomic_load(&replica->replication->history.offset));
        set_link(replica, REPLICATION_LINK_CONNECTED);
        replication_feed_raw(replica->replication, NULL, 0); /* from here on siblings may go on */
        replica->connection.open(replica->connection.context, fd, database, sync_gets_frames(sync));
        if (wants_ack)
            replica_acknowledge(replica);
    }
    sync_free(sync);
    if (result == SYNC_BROKEN) {
        log_write(LOG_LEVEL_NOTICE, "Reconnecting to MASTER %s:%d after failure",
                  replica->replication->host, replica->replication->port);
        start(replica);
    }
}

/* --- The role --------------------------------------------------------------------------------- */

static void take_role(struct replica *replica, const char *host, int port) {
    struct replication *replication = replica->replication;
    memory_free(replication->host);
    replication->host = host ? memory_strdup(host) : NULL;
    replication->port = port;
    atomic_store(&replica->has_primary_data, false);
    if (!host)
        atomic_store(&replication->data_gone, false);
    atomic_store(&replica->view->mode, host ? VIEW_REPLICA : VIEW_PRIMARY);
    log_set_role(host ? 'S' : 'M');
}

static void drop_connection(struct replica *replica) {
    if (!replica->connected)
        return;
    log_write(LOG_LEVEL_NOTICE, "Connection with master lost.");
    log_write(LOG_LEVEL_NOTICE, "Caching the disconnected master state.");
    place_lost(&replica->replication->place, replica->connection.drop(replica->connection.context),
               true);
}

void replica_set_primary(struct replica *replica, const char *host, int port) {
    bool was_primary = !replication_is_replica(replica->replication);
    drop_connection(replica);
    cancel(replica);
    take_role(replica, host, port);
    if (was_primary) {
        log_write(LOG_LEVEL_NOTICE,
                  "Before turning into a replica, using my own master parameters to synthesize a "
                  "cached master: I may be able to synchronize with the new master with just a "
                  "partial transfer.");
        place_demoted(&replica->replication->place);
    }
    atomic_store(&replica->down_since_s, clock_now_ms() / 1000);
    set_link(replica, REPLICATION_LINK_CONNECT);
    config_set_replicaof(host, port);
    changed(replica);
    log_write(LOG_LEVEL_NOTICE, "Connecting to MASTER %s:%d", host, port);
    start(replica);
}

void replica_start_as(struct replica *replica, const char *host, int port) {
    take_role(replica, host, port);
    atomic_store(&replica->link, REPLICATION_LINK_CONNECT);
    config_set_replicaof(host, port);
    replica_configure(replica, config_current());
}

void replica_unset_primary(struct replica *replica) {
    struct replication *replication = replica->replication;
    const struct history *history = &replication->history;
    if (!replication_is_replica(replication))
        return;
    drop_connection(replica);
    if (replication->place.may_continue)
        log_write(LOG_LEVEL_NOTICE, "Discarding previously cached master state.");
    cancel(replica);
    take_role(replica, NULL, 0);
    unsigned effects = place_promoted(&replication->place, &replication->history);
    log_write(LOG_LEVEL_NOTICE,
              "Setting secondary replication ID to %s, valid up to offset: %lld. New replication "
              "ID is %s",
              history->second_id, (long long)history->second_offset, history->id);
    replication_act(replication, effects);
    atomic_store(&replica->down_since_s, 0);
    set_link(replica, REPLICATION_LINK_NONE);
    config_set_replicaof(NULL, 0);
    changed(replica);
}

void replica_adopt_place(struct replica *replica, const char *id, uint64_t offset,
                         unsigned database) {
    place_restored(&replica->replication->place, &replica->replication->history, id, offset,
                   database);
}

/* --- The connection --------------------------------------------------------------------------- */

void replica_lost(struct replica *replica, unsigned database, bool may_continue) {
    struct replication *replication = replica->replication;
    log_write(LOG_LEVEL_NOTICE, "Connection with master lost.");
    if (may_continue)
        log_write(LOG_LEVEL_NOTICE, "Caching the disconnected master state.");
    place_lost(&replication->place, database, may_continue);
    atomic_store(&replica->down_since_s, clock_now_ms() / 1000);
    atomic_store(&replica->progress.link, REPLICATION_LINK_CONNECTING); /* the attempt below */
    set_link(replica, REPLICATION_LINK_CONNECT);
    log_write(LOG_LEVEL_NOTICE, "Reconnecting to MASTER %s:%d", replication->host,
              replication->port);
    start(replica);
}

void replica_acknowledge(struct replica *replica) {
    char offset[24], text[96];
    if (!replica->connected)
        return;
    uint64_t applied =
        atomic_load_explicit(&replica->replication->history.offset, memory_order_relaxed);
    int digits = snprintf(offset, sizeof offset, "%" PRIu64, applied);
    int length = snprintf(text, sizeof text, "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%s\r\n",
                          digits, offset);
    replica->connection.send(replica->connection.context, text, (size_t)length);
}

/* What the process began with is still being loaded, and from where the stream is to go on not
 * known yet. */
static bool is_reading_file(const struct replica *replica) {
    return !replica->sync && (service_limits(replica->environment.service) & SERVICE_LOADING) != 0;
}

void replica_tick(struct replica *replica, uint64_t now_ms) {
    struct replication *replication = replica->replication;
    if (!replication_is_replica(replication) || is_reading_file(replica))
        return;
    uint64_t timeout_ms = (uint64_t)config_current()->repl_timeout * 1000;
    if (replica->connected) {
        uint64_t last_io_ms = replica->connection.last_received_ms(replica->connection.context);
        atomic_store_explicit(&replica->last_io_ms, last_io_ms, memory_order_relaxed);
        if (now_ms > last_io_ms && now_ms - last_io_ms > timeout_ms) {
            log_write(LOG_LEVEL_WARNING, "MASTER timeout: no data nor PING received...");
            replica->connection.close(replica->connection.context);
        } else if (now_ms - replica->acknowledged_ms >= ACKNOWLEDGE_MS) {
            replica->acknowledged_ms = now_ms;
            replica_acknowledge(replica);
        }
    } else if (!replica->sync && now_ms - replica->tried_ms >= RETRY_MS) {
        log_write(LOG_LEVEL_NOTICE, "Connecting to MASTER %s:%d", replication->host,
                  replication->port);
        start(replica);
    }
}

void replica_reset_statistics(struct replica *replica) {
    atomic_store(&replica->progress.all_bytes, 0);
    atomic_store(&replica->stream_bytes, 0);
    atomic_store(&replica->stream_errors, 0);
    atomic_store(&replica->shared_commands, 0);
}

/* --- Life ------------------------------------------------------------------------------------- */

void replica_configure(struct replica *replica, const struct config *config) {
    bool has_primary = replication_is_replica(replica->replication);
    replica->serves_stale = config->replica_serve_stale_data;
    if (replica->sync)
        sync_set_timeout(replica->sync, (int64_t)config->repl_timeout * 1000);
    service_set(replica->environment.service, SERVICE_READ_ONLY,
                has_primary && config->replica_read_only);
    service_set(replica->environment.service, SERVICE_NO_LIMIT,
                has_primary && config->replica_ignore_maxmemory);
    set_stale(replica);
}

void replica_init(struct replica *replica, struct replication *replication,
                  const struct sync_environment *environment, struct view_state *view,
                  unsigned threads, unsigned thread_number) {
    const struct config *config = config_current();
    *replica = (struct replica){.replication = replication,
                                .environment = *environment,
                                .view = view,
                                .threads = threads,
                                .thread_number = thread_number};
    replica->environment.replication = replication;
    replica->environment.progress = &replica->progress;
    replica->environment.ended = ended;
    replica->environment.context = replica;
    if (config->replicaof.host) {
        take_role(replica, config->replicaof.host, config->replicaof.port);
        atomic_store(&replica->link, REPLICATION_LINK_CONNECT);
    }
    atomic_store(&replica->progress.link, REPLICATION_LINK_CONNECT);
    replica_configure(replica, config);
}

void replica_stop(struct replica *replica) {
    if (replica->sync)
        sync_stop(replica->sync);
    replica->sync = NULL;
}
