/* The worker's thread: see worker.h for a turn. */
#include "server/worker.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/config.h"
#include "server/housekeeping.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/pause.h"
#include "server/statistics.h"

#define RECLAIM_AGAIN_US        1000
#define CONNECTION_SAMPLE_TICKS 10

_Thread_local struct worker *worker_self;

/* --- Callbacks of the backend
 * ----------------------------------------------------------------------------------- */

static struct conn *conn_of(struct io_connection *connection) {
    return (struct conn *)(void *)connection; /* first member */
}

static void on_data(struct io_connection *connection, const char *data, int64_t length,
                    void *context) {
    (void)context;
    struct conn *conn = conn_of(connection);
    if (length > 0)
        conn->last_active_ms = conn->worker->now_ms;
    conn_receive(conn, data, length);
}

static void on_drained(struct io_connection *connection, int error, void *context) {
    (void)context;
    struct conn *conn = conn_of(connection);
    if (conn->closing)
        return;
    conn_count_sent(conn);
    if (error || conn->close_after_reply)
        conn_close(conn);
}

static void on_closed(struct io_connection *connection, void *context) {
    (void)context;
    conn_released(conn_of(connection));
}

static void on_detached(struct io_connection *connection, void *context) {
    (void)context;
    balance_detached(conn_of(connection));
}

static void on_readable(int fd, void *context) {
    (void)context;
    uint64_t count;
    ssize_t n =
        read(fd, &count, sizeof count); /* the eventfd of the mailbox, which is drained each turn */
    (void)n;
}

static void on_accept(int fd, int listener_fd, void *context) {
    struct worker *worker = context;
    struct server *server = worker->server;
    bool tcp = listen_is_tcp(server, listener_fd);
    if (!listen_admit(server, fd, tcp))
        return;
    struct worker *target = balance_choose(server);
    struct conn *conn = conn_create(target, fd, tcp);
    if (target == worker) {
        balance_adopt(worker, conn);
    } else {
        conn->moving = true;
        balance_send(conn, target);
    }
}

/* --- Timers
 * --------------------------------------------------------------------------------------------------------
 */

static void close_idle(struct worker *worker, const struct config *config) {
    int64_t timeout_ms = (int64_t)config->timeout * 1000;
    bool killing = atomic_exchange(&worker->attention, false);
    bool soft_limit = config->client_output_buffer_limit.of[CONFIG_CLIENT_NORMAL].soft_bytes > 0;
    if (!killing && timeout_ms == 0 && !soft_limit)
        return;
    for (struct conn *conn = worker->connections, *next; conn; conn = next) {
        next = conn->next;
        if (conn->closing)
            continue;
        if (conn->kill_requested) {
            conn_close(conn);
        } else if (timeout_ms && worker->now_ms - conn->last_active_ms > timeout_ms &&
                   !conn->parked) {
            log_write(LOG_LEVEL_VERBOSE, "Closing idle client");
            conn_close(conn);
        } else if (soft_limit && conn_over_output_limit(conn)) {
            conn_close(conn);
        }
    }
}

/* Active expiry: up to a quarter of the time between timers while there is something to delete, in
 * steps that other work comes between. */
static void expire_some(struct worker *worker) {
    struct server *server = worker->server;
    uint64_t start_us = clock_monotonic_us();
    worker->expiry_due_us = start_us + WORKER_TIMER_MS * 1000;
    if (!atomic_load_explicit(&server->keyspace->active_expiry, memory_order_relaxed) ||
        pause_is_on(server))
        return;
    const struct config *config = config_current();
    worker->expiry_hurry =
        expiry_step(server->keyspace, &worker->expiry, worker->number, server->worker_count,
                    (unsigned)config->active_expire_effort, WORKER_EXPIRY_STEP_US);
    uint64_t spent_us = clock_monotonic_us() - start_us;
    COUNTER_ADD(keyspace_counters_mine(server->keyspace)->expire_cycle_us, spent_us);
    latency_monitor_note(&server->latency_monitor, LATENCY_EXPIRE_CYCLE, spent_us);
    /* As much pause as three times the step, so that at most a quarter of a core goes into it. */
    worker->expiry_due_us =
        start_us + spent_us * 4 + (worker->expiry_hurry ? 0 : WORKER_TIMER_MS * 1000);
}

/* In every turn while there is more to do, so that the limit holds again soon without traffic. */
static void evict_some(struct worker *worker) {
    struct server *server = worker->server;
    uint64_t limit_bytes = config_current()->maxmemory, start_us = clock_monotonic_us();
    bool more = !pause_is_on(server) &&
                eviction_continue(server->evictor, limit_bytes, WORKER_EVICT_STEP_US);
    uint64_t now_us = clock_monotonic_us();
    worker->eviction_due_us = now_us + (more ? 0 : WORKER_TIMER_MS * 1000);
    latency_monitor_note(&server->latency_monitor, LATENCY_EVICTION_CYCLE, now_us - start_us);
}

/* Frees what has become safe. What has not is looked at again soon, also when nothing else happens
 * here: it depends on what the other workers do. */
static void free_retired(struct worker *worker) {
    size_t left = epoch_reclaim_for(WORKER_FREE_STEP_US);
    worker->reclaim_due_us = left > 0 ? clock_monotonic_us() + RECLAIM_AGAIN_US : UINT64_MAX;
}

static void run_timers(struct worker *worker) {
    uint64_t now_us = clock_monotonic_us();
    worker->now_ms = clock_now_ms();
    if (now_us >= worker->expiry_due_us)
        expire_some(worker);
    if (now_us >= worker->eviction_due_us)
        evict_some(worker);
    free_retired(worker);
    if (now_us < worker->timer_due_us &&
        !atomic_load_explicit(&worker->attention, memory_order_relaxed))
        return;
    worker->timer_due_us = now_us + WORKER_TIMER_MS * 1000;
    access_clock_update();
    close_idle(worker, config_current());
    pause_tick(worker);
    balance_tick(worker);
    output_pool_trim();
    memory_thread_cache_check();
    if (worker->connection_samples++ % CONNECTION_SAMPLE_TICKS == 0)
        statistics_sample_connections(worker);
    if (worker->number == 0) {
        listen_update(worker->server, worker->io);
        housekeeping_tick(worker->server);
    }
}

/* --- The loop
 * --------------------------------------------------------------------------------------------------------
 */

static void before_block(void *context) {
    (void)context;
    epoch_offline();
    exclusive_sleep_begin();
}

static void after_block(void *context) {
    (void)context;
    exclusive_sleep_end();
    epoch_online();
}

static void flush_dirty(struct worker *worker) {
    while (worker->dirty) {
        struct conn *conn = worker->dirty;
        worker->dirty = conn->next_dirty;
        conn->dirty = false;
        if (conn->closing)
            conn_released(conn);
        else
            conn_flush(conn);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static int64_t time_to_timer_us(const struct worker *worker) {
    uint64_t due_us = earlier(earlier(worker->timer_due_us, worker->expiry_due_us),
                              earlier(worker->eviction_due_us, worker->reclaim_due_us));
    uint64_t now_us = clock_monotonic_us();
    return due_us > now_us ? (int64_t)(due_us - now_us) : 0;
}

static void turn(struct worker *worker) {
    mailbox_drain(&worker->mailbox);
    batch_run(worker);
    flush_dirty(worker);
    int64_t timeout_us = 0;
    COUNTER_ADD(worker->turns, 1);
    epoch_quiescent();
    exclusive_point();
    if (!io_pending(worker->io) && mailbox_prepare_sleep(&worker->mailbox)) {
        timeout_us = time_to_timer_us(worker);
        if (worker->leaving)
            timeout_us = 1000;
    }
    io_poll(worker->io, timeout_us, before_block, after_block, worker);
    mailbox_awake(&worker->mailbox);
    batch_run(worker);
    io_release_buffers(worker->io);
    flush_dirty(worker);
    run_timers(worker);
}

static void close_all(struct worker *worker) {
    for (struct conn *conn = worker->connections; conn; conn = conn->next)
        conn_close(conn);
    uint64_t deadline_us = clock_monotonic_us() + 1000000;
    while (worker->connections && clock_monotonic_us() < deadline_us)
        turn(worker);
}

static int worker_prepare(struct worker *worker) {
    const struct io_callbacks callbacks = {on_data,   on_drained,  on_closed, on_detached,
                                           on_accept, on_readable, worker};
    int error =
        io_create(worker->server->io_backend_name, &callbacks, &worker->io, &worker->io_refused);
    if (error)
        return error;
    return io_watch_fd(worker->io, worker->mailbox.wake_fd);
}

static void *worker_main(void *context) {
    struct worker *worker = context;
    char name[16];
    snprintf(name, sizeof name, "worker-%u", worker->number);
    pthread_setname_np(pthread_self(), name);
    worker_self = worker;
    keyspace_thread_set(worker->number);
    epoch_reader_enter();
    exclusive_join();
    int error = worker_prepare(worker);
    atomic_store(&worker->started, error ? error : 1);
    if (!error) {
        if (worker->number == 0)
            listen_attach(worker->server, worker->io);
        worker->now_ms = clock_now_ms();
        while (!atomic_load_explicit(&worker->server->stopping, memory_order_acquire))
            turn(worker);
        worker->leaving = true;
        close_all(worker);
    }
    exclusive_leave();
    epoch_reader_leave();
    output_pool_thread_exit();
    return NULL;
}

int worker_start(struct worker *worker) {
    worker->held_slot = -1;
    worker->statistics = memory_calloc(command_count(), sizeof *worker->statistics);
    worker_key_room(worker, 64);
    int error = mailbox_init(&worker->mailbox);
    if (error)
        return error;
    error = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (error)
        return -error;
    while ((error = atomic_load(&worker->started)) == 0)
        usleep(100);
    return error < 0 ? error : 0;
}

void worker_join(struct worker *worker) {
    worker_wake(worker);
    pthread_join(worker->thread, NULL);
    if (worker->io && !worker->connections)
        io_destroy(worker->io);
    mailbox_destroy(&worker->mailbox);
}

void worker_wake(struct worker *worker) {
    uint64_t one = 1;
    ssize_t n = write(worker->mailbox.wake_fd, &one, sizeof one);
    (void)n;
}
