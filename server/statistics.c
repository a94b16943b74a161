/* See statistics.h. */
#include "server/statistics.h"

#include "engine/clock.h"
#include "engine/watch.h"

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void clear(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}

size_t statistics_connection_bytes(const struct conn *conn) {
    const struct session *session = &conn->session;
    size_t bytes = sizeof *conn + conn->query.capacity + conn->io.output_bytes +
                   reply_pending_bytes(&conn->reply) + session->transaction.bytes +
                   session->transaction.capacity * sizeof *session->transaction.commands;
    for (const struct watcher *watcher = session->watchers; watcher;
         watcher = watcher->next_of_owner)
        bytes += sizeof *watcher + watcher->length;
    return bytes;
}

static void sum_connections(const struct worker *worker, struct statistics *sum) {
    for (const struct conn *conn = worker->connections; conn; conn = conn->next) {
        uint64_t output = conn->io.output_bytes + reply_pending_bytes(&conn->reply);
        if (conn->query.capacity > sum->input_buffer_max)
            sum->input_buffer_max = conn->query.capacity;
        if (output > sum->output_buffer_max)
            sum->output_buffer_max = output;
        sum->connection_bytes += statistics_connection_bytes(conn);
        sum->parked += conn->parked;
        sum->watching += conn->session.watchers != NULL;
    }
}

static void sum_keyspace(const struct keyspace *keyspace, struct statistics *sum) {
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        const struct keyspace_counters *counters = &keyspace->counters[i];
        sum->hits += load(&counters->hits);
        sum->misses += load(&counters->misses);
        sum->expired += load(&counters->expired);
        sum->evicted += load(&counters->evicted);
        sum->expire_cycle_us += load(&counters->expire_cycle_us);
        sum->evict_us += load(&counters->evict_us);
        sum->expire_limit_reached += load(&counters->expire_limit_reached);
    }
}

void statistics_sum(const struct server *server, struct statistics *sum) {
    *sum = (struct statistics){0};
    uint64_t slowest_ticks = 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct worker *worker = server->workers[i];
        sum->commands += load(&worker->commands);
        sum->received_bytes += load(&worker->received_bytes);
        sum->sent_bytes += load(&worker->sent_bytes);
        if (worker->slowest_ticks > slowest_ticks) {
            slowest_ticks = worker->slowest_ticks;
            sum->slowest_command = worker->slowest_command;
        }
        sum_connections(worker, sum);
    }
    sum->slowest_us = clock_ticks_to_ns(slowest_ticks) / 1000;
    sum_keyspace(server->keyspace, sum);
}

void statistics_sum_command(const struct server *server, const struct command *command,
                            struct command_statistics *sum) {
    *sum = (struct command_statistics){0};
    for (unsigned i = 0; i < server->worker_count; i++) {
        const struct command_statistics *one = &server->workers[i]->statistics[command->id];
        sum->calls += one->calls;
        sum->ticks += one->ticks;
        sum->rejected += one->rejected;
        sum->failed += one->failed;
    }
}

static void reset_worker(struct worker *worker) {
    clear(&worker->commands);
    clear(&worker->received_bytes);
    clear(&worker->sent_bytes);
    worker->slowest_ticks = 0;
    worker->slowest_command = NULL;
    for (unsigned id = 0; id < command_count(); id++)
        worker->statistics[id] = (struct command_statistics){0};
}

void server_reset_statistics(struct server *server) {
    for (unsigned i = 0; i < server->worker_count; i++)
        reset_worker(server->workers[i]);
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        struct keyspace_counters *counters = &server->keyspace->counters[i];
        clear(&counters->hits);
        clear(&counters->misses);
        clear(&counters->expired);
        clear(&counters->evicted);
        clear(&counters->expire_cycle_us);
        clear(&counters->evict_us);
        clear(&counters->expire_limit_reached);
    }
    atomic_store(&server->accepted, 0);
    atomic_store(&server->rejected_connections, 0);
    atomic_store(&server->output_limit_disconnections, 0);
    error_statistics_reset();
    server->statistics_reset_ms = clock_now_ms();
}
