/* How many workers are awake, and on which worker a connection sits.
 *
 * Worker 0 accepts. New connections go to the least loaded of the workers that are awake. Ten times
 * a second each worker publishes how much CPU time it used and how long it had to wait for a core;
 * from that worker 0 decides how many shall be awake (govern.h): one more when those awake are busy
 * (CPU time, not wall time), if it brings something, and one less when the rest could carry the
 * load easily. Then connections move: one that is to move does so as soon as it is quiet (nothing
 * runs, waits or is unsent): the backend lets go of the socket, the connection travels in a
 * message, and the new worker attaches it and goes on with what has not been parsed.
 *
 * Who writes: workers_awake by worker 0; a connection's loop field by its old worker before the
 * message is posted. Connections on their way are in the server's list of them, under its lock, so
 * that CLIENT LIST and CLIENT KILL find them too. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/balance.h"
#include "server/clients/govern.h"
#include "server/clients/server.h"

static uint64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* How long this thread was ready to run and had to wait for a core; 0 where the kernel does not
 * tell. */
static uint64_t waited_for_cpu_ns(struct loop *loop) {
    if (loop->server->loop_count == 1)
        return 0;
    char text[96];
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *space = strchr(text, ' ');
    return space ? strtoull(space + 1, NULL, 10) : 0;
}

struct loop *balance_choose(struct server *server) {
    unsigned awake = atomic_load_explicit(&server->workers_awake, memory_order_relaxed);
    struct loop *best = server->loops[0];
    for (unsigned i = 1; i < awake; i++) {
        struct loop *loop = server->loops[i];
        if (atomic_load_explicit(&loop->connections_published, memory_order_relaxed) <
            atomic_load_explicit(&best->connections_published, memory_order_relaxed))
            best = loop;
    }
    atomic_fetch_add_explicit(&best->connections_published, 1, memory_order_relaxed);
    return best;
}

/* --- Moving ----------------------------------------------------------------------------------- */

/* Those that were asked before and are not quiet yet count. */
static void give_away(struct loop *loop) {
    for (struct conn *conn = loop->connections, *next; conn && loop->give_away > 0; conn = next) {
        next = conn->next;
        if (conn->state >= CONN_DETACHING || conn->owner || conn_is_replica(conn) ||
            conn->session.subscriptions)
            continue;
        loop->give_away--;
        if (!conn->move_target)
            conn->move_target = loop->give_target;
        conn_try_move(conn);
    }
    loop->give_away = 0;
}

static void control(struct message *message) {
    struct loop *loop = (struct loop *)(void *)((char *)message - offsetof(struct loop, control));
    give_away(loop);
    atomic_store_explicit(&loop->control_pending, false, memory_order_release);
}

/* Asks a worker to hand over n connections. Worker 0 only; one request at a time. */
static void request_move(struct loop *from, struct loop *to, unsigned n) {
    if (n == 0 || atomic_exchange(&from->control_pending, true))
        return;
    from->give_away = n;
    from->give_target = to;
    from->control.run = control;
    mailbox_post(&from->mailbox, &from->control);
}

static unsigned connections_of(const struct loop *loop) {
    return atomic_load_explicit(&loop->connections_published, memory_order_relaxed);
}

/* One move per tick evens out what is uneven: from the fullest of those awake, or from one that
 * should sleep. */
static void even_out(struct server *server, unsigned awake) {
    struct loop *least = server->loops[0], *most = server->loops[0];
    for (unsigned i = 1; i < awake; i++) {
        struct loop *loop = server->loops[i];
        if (connections_of(loop) < connections_of(least))
            least = loop;
        if (connections_of(loop) > connections_of(most))
            most = loop;
    }
    for (unsigned i = awake; i < server->loop_count; i++)
        if (connections_of(server->loops[i]) > 0) {
            request_move(server->loops[i], least, connections_of(server->loops[i]));
            return;
        }
    unsigned difference = connections_of(most) - connections_of(least);
    if (most != least && difference > 1 && difference * 8 > connections_of(most))
        request_move(most, least, difference / 2);
}

static void decide(struct server *server, uint64_t now_ns) {
    static struct govern govern; /* worker 0 only */
    if (govern.limit == 0)
        govern_init(&govern, server->loop_count);
    struct govern_sample sample = {.now_ms = now_ns / 1000000};
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct loop *loop = server->loops[i];
        sample.load_permille += atomic_load_explicit(&loop->load_permille, memory_order_relaxed);
        sample.waiting_permille +=
            atomic_load_explicit(&loop->waiting_permille, memory_order_relaxed);
        sample.commands += atomic_load_explicit(&loop->execution.commands, memory_order_relaxed);
        sample.reads += atomic_load_explicit(&loop->reads, memory_order_relaxed);
        sample.clients += connections_of(loop);
    }
    unsigned awake = govern_step(&govern, &sample);
    unsigned pinned = atomic_load_explicit(&server->workers_pinned, memory_order_relaxed);
    if (pinned)
        awake = pinned < server->loop_count ? pinned : server->loop_count;
    atomic_store_explicit(&server->workers_awake, awake, memory_order_relaxed);
    if (server->loop_count > 1)
        even_out(server, awake);
}

static unsigned permille(uint64_t part_ns, uint64_t whole_ns) {
    return (unsigned)(part_ns * 1000 / whole_ns);
}

void balance_tick(struct loop *loop) {
    uint64_t now_ns = clock_monotonic_ns(), cpu_ns = thread_cpu_ns(),
             waited_ns = waited_for_cpu_ns(loop);
    uint64_t elapsed_ns = now_ns - loop->load_sampled_ns;
    if (loop->load_sampled_ns && elapsed_ns > 0) {
        uint64_t used_ns = cpu_ns - atomic_load_explicit(&loop->busy_ns, memory_order_relaxed);
        atomic_store_explicit(&loop->load_permille, permille(used_ns, elapsed_ns),
                              memory_order_relaxed);
        atomic_store_explicit(&loop->waiting_permille,
                              permille(waited_ns - loop->waited_ns, elapsed_ns),
                              memory_order_relaxed);
    }
    loop->load_sampled_ns = now_ns;
    loop->waited_ns = waited_ns;
    atomic_store_explicit(&loop->busy_ns, cpu_ns, memory_order_relaxed);
    atomic_store_explicit(&loop->connections_published, loop->connection_count,
                          memory_order_relaxed);
    if (loop->number == 0)
        decide(loop->server, now_ns);
}
