/* See statistics.h. */
#include "server/commands/statistics.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/eviction.h"
#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/accounting.h"
#include "server/dispatch/latency.h"
#include "server/resp/error_statistics.h"

#if defined(SLOTWISE_JEMALLOC)
#include <jemalloc/jemalloc.h>
#endif

#define ALLOCATOR_EVERY 10 /* samples */

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void clear(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

void statistics_sample_connections(struct loop *loop) {
    uint64_t bytes = 0, input_max = 0, output_max = 0;
    unsigned seen = 0;
    for (const struct conn *conn = loop->connections; conn && seen < STATISTICS_CONNECTIONS;
         conn = conn->next, seen++) {
        input_max = larger(input_max, conn->query.capacity);
        output_max = larger(output_max, conn->io.output_bytes + reply_pending_bytes(&conn->reply));
        bytes += conn_memory_bytes(conn);
    }
    if (seen > 0)
        bytes = bytes * loop->connection_count / seen;
    atomic_store_explicit(&loop->input_buffer_max, input_max, memory_order_relaxed);
    atomic_store_explicit(&loop->output_buffer_max, output_max, memory_order_relaxed);
    atomic_store_explicit(&loop->connection_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&loop->paused_clients, loop->execution.paused.count,
                          memory_order_relaxed);
}

static void sum_connections(const struct loop *loop, struct statistics *sum) {
    sum->input_buffer_max = larger(sum->input_buffer_max, load(&loop->input_buffer_max));
    sum->output_buffer_max = larger(sum->output_buffer_max, load(&loop->output_buffer_max));
    sum->connection_bytes += load(&loop->connection_bytes);
    sum->paused += (unsigned)load(&loop->paused_clients);
    const struct blocked_list *blocked = &loop->execution.blocked;
    sum->blocked += atomic_load_explicit(&blocked->count, memory_order_relaxed);
    sum->blocked_for_a_time += timeouts_count(&blocked->timeouts);
}

static void sum_keyspace(const struct keyspace *keyspace, struct statistics *sum) {
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        const struct keyspace_counters *counters = &keyspace->counters[i];
        sum->hits += load(&counters->hits);
        sum->misses += load(&counters->misses);
        sum->expired += load(&counters->expired);
        sum->expired_fields += load(&counters->expired_fields);
        sum->evicted += load(&counters->evicted);
        sum->expire_cycle_us += load(&counters->expire_cycle_us);
        sum->evict_us += load(&counters->evict_us);
        sum->expire_limit_reached += load(&counters->expire_limit_reached);
    }
}

void statistics_sum(const struct server *server, struct statistics *sum) {
    *sum = (struct statistics){0};
    uint64_t slowest_ticks = 0;
    for (unsigned i = 0; i < server->loop_count; i++) {
        const struct loop *loop = server->loops[i];
        sum->commands += load(&loop->execution.commands);
        sum->changes += load(&loop->execution.change.dirty);
        sum->received_bytes += load(&loop->received_bytes);
        sum->sent_bytes += load(&loop->sent_bytes);
        sum->turns += load(&loop->turns);
        sum->reads += load(&loop->reads);
        sum->writes += load(&loop->writes);
        sum->busy_us += load(&loop->busy_ns) / 1000;
        if (load(&loop->execution.slowest_ticks) > slowest_ticks) {
            slowest_ticks = load(&loop->execution.slowest_ticks);
            sum->slowest_command =
                atomic_load_explicit(&loop->execution.slowest_command, memory_order_relaxed);
        }
        sum_connections(loop, sum);
    }
    sum->slowest_us = clock_ticks_to_ns(slowest_ticks) / 1000;
    sum_keyspace(server->keyspace, sum);
}

void statistics_sum_command(const struct server *server, const struct command *command,
                            struct command_sum *sum) {
    *sum = (struct command_sum){0};
    for (unsigned i = 0; i < server->loop_count; i++) {
        const struct command_statistics *one = &server->loops[i]->execution.statistics[command->id];
        sum->calls += load(&one->calls);
        sum->ticks += load(&one->ticks);
        sum->rejected += load(&one->rejected);
        sum->failed += load(&one->failed);
    }
}

bool statistics_sum_latency(const struct server *server, const struct command *command,
                            struct latency_histogram *sum) {
    bool any = false;
    for (unsigned i = 0; i < server->loop_count; i++) {
        const struct command_statistics *one = &server->loops[i]->execution.statistics[command->id];
        const struct latency_histogram *latency =
            atomic_load_explicit(&one->latency, memory_order_acquire);
        if (!latency)
            latency = one->kept_latency;
        if (!latency)
            continue;
        if (!any)
            memset((void *)sum, 0, sizeof *sum);
        latency_add(sum, latency);
        any = true;
    }
    return any;
}

static void reset_loop(struct loop *loop) {
    clear(&loop->received_bytes);
    clear(&loop->sent_bytes);
    clear(&loop->turns);
    clear(&loop->reads);
    clear(&loop->writes);
    accounting_reset(&loop->execution);
}

void server_reset_statistics(struct server *server) {
    for (unsigned i = 0; i < server->loop_count; i++)
        reset_loop(server->loops[i]);
    for (unsigned i = 0; i < KEYSPACE_THREADS_MAX; i++) {
        struct keyspace_counters *counters = &server->keyspace->counters[i];
        clear(&counters->hits);
        clear(&counters->misses);
        clear(&counters->expired);
        clear(&counters->expired_fields);
        clear(&counters->evicted);
        clear(&counters->expire_cycle_us);
        clear(&counters->evict_us);
        clear(&counters->expire_limit_reached);
    }
    atomic_store(&server->accepted, 0);
    atomic_store(&server->rejected_connections, 0);
    atomic_store(&server->output_limit_disconnections, 0);
    atomic_store(&server->evicted_clients, 0);
    atomic_store(&server->authentication_failures, 0);
    atomic_store(&server->persistence.saves, 0);
    error_statistics_reset();
    replica_reset_statistics(&server->replica);
    atomic_store(&server->primary.full_syncs, 0);
    atomic_store(&server->primary.partial_syncs, 0);
    atomic_store(&server->primary.partial_syncs_refused, 0);
    evictor_reset_statistics(server->evictor);
    server->statistics_reset_ms = clock_now_ms();
}

void statistics_configure(struct server *server, const struct config *config) {
    accounting_configure(&server->accounting, config);
    for (unsigned i = 0; i < server->loop_count; i++)
        accounting_apply(&server->loops[i]->execution, config);
}

/* --- The process ------------------------------------------------------------------------------ */

static uint64_t resident_bytes(void) {
    char text[128];
    unsigned long long all, resident = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text, "%llu %llu", &all, &resident) != 2)
        return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#if defined(SLOTWISE_JEMALLOC)
static uint64_t allocator_figure(const char *name) {
    size_t value = 0, size = sizeof value;
    return mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

static void sample_allocator(struct server *server) {
    uint64_t epoch = 1;
    size_t size = sizeof epoch;
    mallctl("epoch", &epoch, &size, &epoch, size); /* what follows shows the state of now */
    atomic_store(&server->allocator_allocated, allocator_figure("stats.allocated"));
    atomic_store(&server->allocator_active, allocator_figure("stats.active"));
    atomic_store(&server->allocator_resident, allocator_figure("stats.resident"));
}
#else
static void sample_allocator(struct server *server) {
    uint64_t used = memory_used_bytes(), resident = atomic_load(&server->resident_bytes);
    atomic_store(&server->allocator_allocated, used);
    atomic_store(&server->allocator_active, resident);
    atomic_store(&server->allocator_resident, resident);
}
#endif

void statistics_sample_process(struct server *server) {
    atomic_store(&server->resident_bytes, resident_bytes());
    if (server->process_samples++ % ALLOCATOR_EVERY == 0)
        sample_allocator(server);
}
