/* The worker's thread: see worker.h for a turn. */
#include "server/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/rebuild.h"
#include "engine/types/collection.h"
#include "server/base/log.h"
#include "server/clients/balance.h"
#include "server/clients/batch.h"
#include "server/clients/client_eviction.h"
#include "server/clients/conn_events.h"
#include "server/clients/listen.h"
#include "server/clients/pubsub.h"
#include "server/clients/server.h"
#include "server/clients/shutdown.h"
#include "server/commands/statistics.h"
#include "server/config/config.h"
#include "server/dispatch/redirect.h"
#include "server/housekeeping.h"
#include "server/links/cluster_duties.h"

#define TIMER_MS                100
#define EXPIRY_STEP_US          500
#define EVICT_STEP_US           50 /* of a turn */
#define FREE_STEP_US            50
#define REBUILD_STEP_US         50 /* under the token */
#define SNAPSHOT_STEP_US        100
#define SNAPSHOT_BUSY_STEP_US   50
#define SNAPSHOT_BUSY_PAUSES    7    /* as long as a step */
#define SNAPSHOT_BEHIND_PAUSES  31   /* when sinks are behind */
#define SNAPSHOT_IDLE_US        3000 /* without a command */
#define SNAPSHOT_AGAIN_US       1000 /* until slots in use are looked at again */
#define RECLAIM_AGAIN_US        1000
#define LEAVING_WAIT_US         1000
#define CLOSE_ALL_US            1000000
#define CONNECTION_SAMPLE_TICKS 10
#define LOOK_AFTER_TICKS        10
#define LOOK_AFTER_LEAST        64

/* --- Callbacks of the backend ----------------------------------------------------------------- */

static struct conn *conn_of(struct io_connection *connection) {
    return (struct conn *)(void *)connection; /* first member */
}

static void on_data(struct io_connection *connection, const char *data, int64_t length,
                    void *context) {
    (void)context;
    conn_receive(conn_of(connection), data, length);
}

static void on_drained(struct io_connection *connection, int error, void *context) {
    (void)context;
    conn_drained(conn_of(connection), error);
}

static void on_closed(struct io_connection *connection, void *context) {
    (void)context;
    conn_closed(conn_of(connection));
}

static void on_detached(struct io_connection *connection, void *context) {
    (void)context;
    conn_detached(conn_of(connection));
}

static void on_readable(int fd, void *context) {
    (void)context;
    uint64_t count;
    ssize_t n =
        read(fd, &count, sizeof count); /* the eventfd of the mailbox, which is drained each turn */
    (void)n;
}

static void on_accept(int fd, int listener_fd, void *context) {
    struct loop *loop = context;
    struct server *server = loop->server;
    bool tcp = listen_is_tcp(server, listener_fd);
    if (!listen_admit(server, fd, tcp))
        return;
    struct loop *target = loop->leaving ? loop : balance_choose(server);
    struct conn *conn = conn_create(target, fd, tcp);
    if (target == loop)
        conn_arrive(conn);
    else
        conn_send(conn, target);
}

/* --- Timers ----------------------------------------------------------------------------------- */

/* Each connection about once a second. */
static void look_after_connections(struct loop *loop, const struct config *config) {
    const struct config_output_limits *limits = &config->client_output_buffer_limit;
    bool soft_limit =
        limits->of[CONFIG_CLIENT_NORMAL].soft_bytes > 0 ||
        (limits->of[CONFIG_CLIENT_PUBSUB].soft_bytes > 0 &&
         atomic_load_explicit(&loop->server->pubsub->clients, memory_order_relaxed) > 0);
    if (config->timeout == 0 && !soft_limit)
        return;
    unsigned left = loop->connection_count / LOOK_AFTER_TICKS + LOOK_AFTER_LEAST;
    if (left > loop->connection_count)
        left = loop->connection_count;
    for (; left > 0; left--) {
        struct conn *conn = loop->look_next ? loop->look_next : loop->connections;
        loop->look_next = conn->next;
        conn_look_after(conn, (uint64_t)config->timeout * 1000);
    }
}

/* Active expiry: up to a quarter of the time between timers while there is something to delete, in
 * steps that other work comes between. */
static void expire_some(struct worker *worker) {
    struct server *server = worker->loop.server;
    uint64_t start_us = clock_monotonic_us();
    worker->expiry_due_us = start_us + TIMER_MS * 1000;
    if (!atomic_load_explicit(&server->keyspace->active_expiry, memory_order_relaxed) ||
        pause_is_on(&server->pause))
        return;
    const struct config *config = config_current();
    worker->expiry_hurry = expiry_step(server->keyspace, &worker->loop.execution.change,
                                       &worker->expiry, worker->loop.number, server->loop_count,
                                       (unsigned)config->active_expire_effort, EXPIRY_STEP_US);
    uint64_t spent_us = clock_monotonic_us() - start_us;
    COUNTER_ADD(keyspace_counters_mine(server->keyspace)->expire_cycle_us, spent_us);
    latency_monitor_note(&server->latency_monitor, LATENCY_EXPIRE_CYCLE, spent_us);
    /* As much pause as three times the step, so that at most a quarter of a core goes into it. */
    worker->expiry_due_us = start_us + spent_us * 4 + (worker->expiry_hurry ? 0 : TIMER_MS * 1000);
}

/* In every turn while there is more to do, so that the limit holds again soon without traffic. */
static void evict_some(struct worker *worker) {
    struct server *server = worker->loop.server;
    uint64_t start_us = clock_monotonic_us();
    bool more = !pause_is_on(&server->pause) &&
                !(service_limits(&server->service) & SERVICE_NO_LIMIT) &&
                eviction_continue(server->evictor, config_current()->maxmemory, EVICT_STEP_US);
    uint64_t now_us = clock_monotonic_us();
    worker->eviction_due_us = now_us + (more ? 0 : TIMER_MS * 1000);
    latency_monitor_note(&server->latency_monitor, LATENCY_EVICTION_CYCLE, now_us - start_us);
}

/* As much pause as three times the step, as for expiry. */
static void rebuild_some(struct worker *worker) {
    struct server *server = worker->loop.server;
    bool more = rebuild_continue(server->keyspace, worker->loop.number, server->loop_count,
                                 REBUILD_STEP_US);
    worker->rebuild_due_us = clock_monotonic_us() + (more ? REBUILD_STEP_US * 3 : TIMER_MS * 1000);
}

static uint64_t thread_cpu_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* The walk of a snapshot: all of the time of a worker that has run no command for a while, else an
 * eighth of it. A quarter of that when sinks are behind: as a rule because commands want all of the
 * processors, and what the walk hands to the sinks would be taken from them. A worker without
 * commands that had to wait for its processor takes it from one
 * that has some: it stays away for longer than it was kept waiting. */
static void snapshot_some(struct worker *worker) {
    struct snapshot_walker *walker = &worker->loop.server->walker;
    uint64_t start_us = clock_monotonic_us();
    uint64_t commands =
        atomic_load_explicit(&worker->loop.execution.commands, memory_order_relaxed);
    if (commands != worker->snapshot_commands)
        worker->snapshot_busy_us = start_us;
    worker->snapshot_commands = commands;
    if (worker->snapshot_due_us != UINT64_MAX && start_us < worker->snapshot_due_us) {
        snapshot_walk_tell(walker);
        return;
    }
    uint64_t start_cpu_us = thread_cpu_us();
    bool busy = start_us - worker->snapshot_busy_us < SNAPSHOT_IDLE_US;
    enum snapshot_step step = snapshot_walk_step(walker, worker->loop.number,
                                                 busy ? SNAPSHOT_SHARE_BUSY : SNAPSHOT_SHARE_IDLE,
                                                 busy ? SNAPSHOT_BUSY_STEP_US : SNAPSHOT_STEP_US);
    uint64_t now_us = clock_monotonic_us(), took_us = now_us - start_us,
             ran_us = thread_cpu_us() - start_cpu_us;
    if (busy)
        worker->snapshot_due_us =
            now_us + took_us * (snapshot_walk_is_behind(walker) ? SNAPSHOT_BEHIND_PAUSES
                                                                : SNAPSHOT_BUSY_PAUSES);
    else if (took_us > ran_us + SNAPSHOT_STEP_US)
        worker->snapshot_due_us = now_us + (took_us - ran_us) * 4;
    else
        worker->snapshot_due_us = now_us;
    if (step != SNAPSHOT_STEP_MORE)
        worker->snapshot_due_us = now_us + SNAPSHOT_AGAIN_US;
}

/* Frees what has become safe. What has not is looked at again soon, also when nothing else happens
 * here: it depends on what the other workers do. */
static void free_retired(struct worker *worker) {
    size_t left = epoch_reclaim_for(FREE_STEP_US);
    worker->reclaim_due_us = left > 0 ? clock_monotonic_us() + RECLAIM_AGAIN_US : UINT64_MAX;
}

/* A pause has ended, perhaps early (CLIENT UNPAUSE); another may go on and hold some of them. */
static void paused_again(struct worker *worker) {
    struct loop *loop = &worker->loop;
    unsigned ends = atomic_load_explicit(&loop->server->pause.ends, memory_order_relaxed);
    if (worker->pause_ends != ends)
        wait_list_hurry(&loop->execution.paused);
    worker->pause_ends = ends;
}

static void run_timers(struct worker *worker) {
    struct loop *loop = &worker->loop;
    uint64_t now_us = clock_monotonic_us();
    loop->now_ms = now_us / 1000;
    if (now_us >= worker->expiry_due_us)
        expire_some(worker);
    if (now_us >= worker->eviction_due_us || loop->execution.delayed.count > 0)
        evict_some(worker);
    if (now_us >= worker->rebuild_due_us)
        rebuild_some(worker);
    if (UNLIKELY(snapshot_walk_is_on(&loop->server->walker)))
        snapshot_some(worker);
    else
        worker->snapshot_due_us = UINT64_MAX;
    free_retired(worker);
    client_eviction_tick(loop);
    if (UNLIKELY(atomic_load_explicit(&loop->attention, memory_order_relaxed)) &&
        atomic_exchange(&loop->attention, false)) {
        if (!conn_answer_asked(loop))
            atomic_store(&loop->attention, true); /* the rest in the next turn */
        paused_again(worker);
    }
    if (now_us < worker->timer_due_us)
        return;
    worker->timer_due_us = now_us + TIMER_MS * 1000;
    access_clock_update();
    look_after_connections(loop, config_current());
    if (UNLIKELY(loop->pubsub.of[PUBSUB_SHARD].count > 0) && loop->server->cluster)
        pubsub_check_shards(loop->server->pubsub, loop);
    if (UNLIKELY(loop->execution.blocked.first != NULL) && loop->server->cluster)
        blocked_check_slots(&loop->execution.blocked, redirect_keeps_blocked);
    pause_tick(&loop->server->pause);
    paused_again(worker);
    balance_tick(loop);
    output_pool_trim();
    memory_thread_cache_check();
    if (worker->connection_samples++ % CONNECTION_SAMPLE_TICKS == 0)
        statistics_sample_connections(loop);
    if (loop->number == 0) {
        listen_update(loop->server, loop->io);
        primary_count_good(&loop->server->primary, config_current());
        housekeeping_tick(loop->server);
        if (!loop->leaving) {
            failover_tick(&loop->server->failover);
            shutdown_tick(loop->server);
        }
        replica_tick(&loop->server->replica, loop->now_ms);
        own_expiry_tick(&loop->server->own_expiry, &loop->execution.change);
        slot_imports_tick(&loop->server->slot_imports, &loop->execution.change);
    }
}

/* --- The loop --------------------------------------------------------------------------------- */

static void before_block(void *context) {
    struct worker *worker = context;
    atomic_store_explicit(&worker->asleep, true, memory_order_relaxed);
    epoch_offline();
    exclusive_sleep_begin();
}

static void after_block(void *context) {
    struct worker *worker = context;
    exclusive_sleep_end();
    epoch_online();
    atomic_store_explicit(&worker->asleep, false, memory_order_relaxed);
}

static void flush_dirty(struct loop *loop) {
    if (UNLIKELY(loop->held != NULL))
        conn_release_held(loop);
    while (loop->dirty) {
        struct conn *conn = loop->dirty;
        loop->dirty = conn->next_dirty;
        conn->dirty = false;
        conn_flush(conn);
        conn_free_if_done(conn);
    }
}

/* Connections whose turn was over before their commands were. */
static void run_ready(struct loop *loop) {
    for (unsigned left = loop->ready_count; left > 0 && loop->ready_first; left--) {
        struct conn *conn = loop->ready_first;
        conn_become(conn, CONN_IDLE);
        conn_go_on(conn);
    }
}

static void run_waiting(struct loop *loop) {
    struct execution *execution = &loop->execution;
    if (LIKELY(execution->paused.count + execution->delayed.count +
                   execution->blocked.timeouts.count ==
               0))
        return;
    uint64_t now_us = clock_monotonic_us();
    blocked_time(&execution->blocked, now_us);
    wait_list_run(&execution->paused, now_us);
    wait_list_run(&execution->delayed, now_us);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static int64_t time_to_timer_us(const struct worker *worker) {
    const struct execution *execution = &worker->loop.execution;
    uint64_t due_us = earlier(earlier(worker->timer_due_us, worker->expiry_due_us),
                              earlier(worker->eviction_due_us, worker->reclaim_due_us));
    due_us = earlier(due_us, earlier(wait_list_due_us(&execution->paused),
                                     wait_list_due_us(&execution->delayed)));
    due_us = earlier(due_us, timeouts_due_us(&execution->blocked.timeouts));
    due_us = earlier(due_us, earlier(worker->rebuild_due_us, worker->snapshot_due_us));
    if (worker->loop.number == 0)
        due_us = earlier(due_us, primary_due_us(&worker->loop.server->primary));
    uint64_t now_us = clock_monotonic_us();
    return due_us > now_us ? (int64_t)(due_us - now_us) : 0;
}

static void turn(struct worker *worker) {
    struct loop *loop = &worker->loop;
    loop->turn++;
    COUNTER_ADD(loop->turns, 1);
    mailbox_drain(&loop->mailbox);
    run_ready(loop);
    run_waiting(loop);
    batch_run(loop);
    if (loop->number == 0)
        primary_turn(&loop->server->primary);
    flush_dirty(loop);
    int64_t timeout_us = 0;
    epoch_quiescent();
    exclusive_point();
    if (!loop->ready_first && !loop->asked && !io_pending(loop->io) &&
        mailbox_prepare_sleep(&loop->mailbox)) {
        timeout_us = time_to_timer_us(worker);
        if (loop->leaving)
            timeout_us = LEAVING_WAIT_US;
    }
    io_poll(loop->io, timeout_us, before_block, after_block, worker);
    mailbox_awake(&loop->mailbox);
    batch_run(loop);
    io_release_buffers(loop->io);
    if (loop->number == 0)
        primary_turn(&loop->server->primary);
    flush_dirty(loop);
    run_timers(worker);
}

static void close_connections(struct loop *loop) {
    for (struct conn *conn = loop->connections, *next; conn; conn = next) {
        next = conn->next;
        conn_close(conn);
    }
}

static void close_all(struct worker *worker) {
    struct loop *loop = &worker->loop;
    if (loop->number == 0)
        listen_refuse(loop->server);
    close_connections(loop);
    uint64_t deadline_us = clock_monotonic_us() + CLOSE_ALL_US;
    while ((loop->connections || conn_any_moving(loop->server) ||
            (loop->number == 0 && (failover_is_waiting(&loop->server->failover) ||
                                   shutdown_is_queued(loop->server->shutdown)))) &&
           clock_monotonic_us() < deadline_us)
        turn(worker);
}

static int worker_prepare(struct worker *worker) {
    struct loop *loop = &worker->loop;
    const struct io_callbacks callbacks = {on_data,   on_drained,  on_closed, on_detached,
                                           on_accept, on_readable, loop};
    int error =
        io_create(loop->server->io_backend_name, &callbacks, &loop->io, &worker->io_refused);
    if (error)
        return error;
    return io_watch_fd(loop->io, loop->mailbox.wake_fd);
}

static void *worker_main(void *context) {
    struct worker *worker = context;
    struct loop *loop = &worker->loop;
    char name[16];
    snprintf(name, sizeof name, "worker-%u", loop->number);
    pthread_setname_np(pthread_self(), name);
    loop_self = loop;
    keyspace_thread_set(loop->number);
    epoch_reader_enter();
    exclusive_join();
    int error = worker_prepare(worker);
    atomic_store(&worker->started, error ? error : 1);
    if (!error) {
        if (loop->number == 0)
            listen_attach(loop->server, loop->io);
        loop->now_ms = clock_monotonic_us() / 1000;
        while (!atomic_load_explicit(&loop->server->stopping, memory_order_acquire))
            turn(worker);
        loop->leaving = true;
        if (loop->number == 0 && loop->server->cluster)
            cluster_duties_end(loop->server->cluster);
        close_all(worker);
    }
    exclusive_leave();
    epoch_reader_leave();
    collection_thread_exit();
    output_pool_thread_exit();
    atomic_store(&worker->ended, true);
    sem_post(&loop->server->wake_watchdog);
    return NULL;
}

int worker_start(struct worker *worker, struct server *server, unsigned number) {
    struct loop *loop = &worker->loop;
    loop->server = server;
    loop->number = number;
    execution_init(&loop->execution, server);
    pubsub_inbox_init(loop);
    loop_set_time_slices(loop, true);
    loop->execution.keyspace = server->keyspace;
    change_init(&loop->execution.change, &server->keyspace->door, VIEW_PRIMARY);
    loop->execution.evictor = server->evictor;
    change_init(&loop->execution.applying, &server->keyspace->door, VIEW_APPLYING);
    loop->execution.change.serves_waiters = loop->execution.applying.serves_waiters = true;
    loop->execution.pause = &server->pause;
    loop->execution.service = &server->service;
    loop->execution.accounting = &server->accounting;
    worker->reclaim_due_us = worker->snapshot_due_us = UINT64_MAX;
    int error = mailbox_init(&loop->mailbox);
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
    struct loop *loop = &worker->loop;
    pthread_join(worker->thread, NULL);
    if (loop->io && !loop->connections)
        io_destroy(loop->io);
    mailbox_destroy(&loop->mailbox);
}

void worker_free(struct worker *worker) {
    execution_destroy(&worker->loop.execution);
    memory_free(worker);
}
