/* How many workers are awake, and on which worker a connection sits.
 *
 * Worker 0 accepts. New connections go to the least loaded of the workers that are awake. Ten times
 * a second each worker publishes how much CPU time it used; worker 0 wakes one more when those
 * awake are busy (more than WAKE_PERMILLE of a core on average: CPU time, not wall time, so that a
 * machine whose cores are taken by others wakes nobody for nothing), and puts one to sleep when the
 * rest could carry the load easily. Then connections move: the backend lets go of the socket (no
 * operation in flight, nothing unsent), the connection travels in a message, and the new worker
 * attaches it and parses what had not been parsed. A parked or closing connection stays.
 *
 * Who writes: workers_awake by worker 0; a connection's worker field by its old worker before the
 * message is posted. */
#include <time.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/log.h"
#include "server/worker.h"

#define WAKE_PERMILLE     900 /* mean load of those awake above which one more wakes */
#define SLEEP_PERMILLE    850 /* what the mean would become, below which one goes to sleep */
#define SLEEP_AFTER_TICKS 10  /* for that long */
#define WAKE_AFTER_TICKS  3

static uint64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct worker *balance_choose(struct server *server) {
    unsigned awake = atomic_load_explicit(&server->workers_awake, memory_order_relaxed);
    struct worker *best = server->workers[0];
    for (unsigned i = 1; i < awake; i++) {
        struct worker *worker = server->workers[i];
        if (atomic_load_explicit(&worker->connections_published, memory_order_relaxed) <
            atomic_load_explicit(&best->connections_published, memory_order_relaxed))
            best = worker;
    }
    atomic_fetch_add_explicit(&best->connections_published, 1, memory_order_relaxed);
    return best;
}

/* --- Moving
 * ---------------------------------------------------------------------------------------------------------
 */

static void link_connection(struct worker *worker, struct conn *conn) {
    conn->worker = worker;
    conn->previous = NULL;
    conn->next = worker->connections;
    if (conn->next)
        conn->next->previous = conn;
    worker->connections = conn;
    worker->connection_count++;
}

static void unlink_connection(struct worker *worker, struct conn *conn) {
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        worker->connections = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    conn->next = conn->previous = NULL;
    worker->connection_count--;
}

void balance_adopt(struct worker *worker, struct conn *conn) {
    conn->moving = false;
    link_connection(worker, conn);
    int error = io_attach(worker->io, &conn->io);
    if (error || worker->leaving || conn->kill_requested) {
        if (error)
            log_write(LOG_LEVEL_WARNING, "Cannot attach a client's socket: error %d", -error);
        conn_close(conn);
        return;
    }
    if (conn->query.length > 0)
        conn_resume(conn);
}

/* CLIENT LIST and CLIENT KILL find it on its way too. */
static void travel_begins(struct server *server, struct conn *conn) {
    pthread_mutex_lock(&server->travelling_lock);
    conn->previous = NULL;
    conn->next = server->travelling;
    if (conn->next)
        conn->next->previous = conn;
    server->travelling = conn;
    pthread_mutex_unlock(&server->travelling_lock);
}

static void travel_ends(struct server *server, struct conn *conn) {
    pthread_mutex_lock(&server->travelling_lock);
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        server->travelling = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    pthread_mutex_unlock(&server->travelling_lock);
}

static void arrive(struct message *message) {
    struct conn *conn = (struct conn *)(void *)((char *)message - offsetof(struct conn, message));
    travel_ends(conn->worker->server, conn);
    balance_adopt(conn->worker, conn);
}

void balance_send(struct conn *conn, struct worker *target) {
    conn->worker = target;
    travel_begins(target->server, conn);
    conn->message.run = arrive;
    mailbox_post(&target->mailbox, &conn->message);
}

void balance_detached(struct conn *conn) {
    struct worker *worker = conn->worker, *target = conn->move_target;
    if (conn->closing)
        return;
    if (!conn_is_detachable(conn)) {
        /* Something came meanwhile (a parked command, the end of input): it stays. */
        conn->moving = false;
        int error = io_attach(worker->io, &conn->io);
        if (error)
            conn_close(conn);
        return;
    }
    unlink_connection(worker, conn);
    balance_send(conn, target);
}

static void give_away(struct worker *worker) {
    struct conn *next;
    for (struct conn *conn = worker->connections; conn && worker->give_away > 0; conn = next) {
        next = conn->next;
        if (!conn_is_movable(conn))
            continue;
        worker->give_away--;
        conn->moving = true;
        conn->move_target = worker->give_target;
        io_detach(worker->io, &conn->io);
    }
    worker->give_away = 0;
}

static void control(struct message *message) {
    struct worker *worker =
        (struct worker *)(void *)((char *)message - offsetof(struct worker, control));
    give_away(worker);
    atomic_store_explicit(&worker->control_pending, false, memory_order_release);
}

/* Asks a worker to hand over n connections. Worker 0 only; one request at a time. */
static void request_move(struct worker *from, struct worker *to, unsigned n) {
    if (n == 0 || atomic_exchange(&from->control_pending, true))
        return;
    from->give_away = n;
    from->give_target = to;
    from->control.run = control;
    mailbox_post(&from->mailbox, &from->control);
}

static unsigned connections_of(const struct worker *worker) {
    return atomic_load_explicit(&worker->connections_published, memory_order_relaxed);
}

/* One move per tick evens out what is uneven: from the fullest of those awake, or from one that
 * should sleep. */
static void even_out(struct server *server, unsigned awake) {
    struct worker *least = server->workers[0], *most = server->workers[0];
    for (unsigned i = 1; i < awake; i++) {
        struct worker *worker = server->workers[i];
        if (connections_of(worker) < connections_of(least))
            least = worker;
        if (connections_of(worker) > connections_of(most))
            most = worker;
    }
    for (unsigned i = awake; i < server->worker_count; i++)
        if (connections_of(server->workers[i]) > 0) {
            request_move(server->workers[i], least, connections_of(server->workers[i]));
            return;
        }
    unsigned difference = connections_of(most) - connections_of(least);
    if (most != least && difference > 1 && difference * 8 > connections_of(most))
        request_move(most, least, difference / 2);
}

static void govern(struct server *server) {
    static unsigned busy_ticks, idle_ticks; /* worker 0 only */
    unsigned awake = atomic_load_explicit(&server->workers_awake, memory_order_relaxed), load = 0,
             clients = 0;
    for (unsigned i = 0; i < server->worker_count; i++) {
        load += atomic_load_explicit(&server->workers[i]->load_permille, memory_order_relaxed);
        clients += connections_of(server->workers[i]);
    }
    bool busy = load > awake * WAKE_PERMILLE && awake < server->worker_count && clients > awake;
    bool idle = awake > 1 && load < (awake - 1) * SLEEP_PERMILLE;
    busy_ticks = busy ? busy_ticks + 1 : 0;
    idle_ticks = idle ? idle_ticks + 1 : 0;
    if (busy_ticks >= WAKE_AFTER_TICKS) {
        busy_ticks = 0;
        awake++;
    } else if (idle_ticks >= SLEEP_AFTER_TICKS) {
        idle_ticks = 0;
        awake--;
    }
    atomic_store_explicit(&server->workers_awake, awake, memory_order_relaxed);
    if (server->worker_count > 1)
        even_out(server, awake);
}

void balance_tick(struct worker *worker) {
    uint64_t now_ns = clock_monotonic_ns(), cpu_ns = thread_cpu_ns();
    uint64_t elapsed_ns = now_ns - worker->load_sampled_ns;
    if (worker->load_sampled_ns && elapsed_ns > 0) {
        uint64_t used_ns = cpu_ns - atomic_load_explicit(&worker->busy_ns, memory_order_relaxed);
        atomic_store_explicit(&worker->load_permille, (unsigned)(used_ns * 1000 / elapsed_ns),
                              memory_order_relaxed);
    }
    worker->load_sampled_ns = now_ns;
    atomic_store_explicit(&worker->busy_ns, cpu_ns, memory_order_relaxed);
    atomic_store_explicit(&worker->connections_published, worker->connection_count,
                          memory_order_relaxed);
    if (worker->number == 0)
        govern(worker->server);
}
