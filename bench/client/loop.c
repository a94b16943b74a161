/*
 * The client's event loop. See loop.h.
 *
 * Client and server share few cores, so what the client costs is taken from the server. A batch
 * costs a send, a receive and its share of an epoll_wait; commands are made by copying and
 * patching, replies only counted.
 */
#include "bench/client/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/common/clock.h"
#include "bench/common/net.h"

#define INBOX_BYTES     (256 * 1024)
#define EVENTS_PER_WAIT 256
#define DRAIN_NS        (5 * NS_PER_SECOND) /* how long replies are awaited after the end */

struct connection {
    int fd; /* -1: closed */
    unsigned index;
    bool waits_to_write;
    uint64_t sent;          /* requests */
    uint64_t batch_left;    /* closed loop: replies of the batch that have not come */
    uint64_t batch_sent_ns; /* closed loop */
    uint64_t first_seed;
    char *unsent;
    size_t unsent_length;
    size_t unsent_capacity;
    struct reply_reader reader;
};

static uint64_t run_end_ns(struct run *run) {
    return atomic_load_explicit(&run->end_ns, memory_order_relaxed);
}

static bool is_open_loop(const struct client_thread *thread) {
    return thread->run->options->rate > 0;
}

/* The arrival-th batch of this thread is due at a random moment of the arrival-th interval. */
static uint64_t due_ns(const struct client_thread *thread, uint64_t arrival) {
    const struct options *options = thread->run->options;
    double interval_ns =
        (double)NS_PER_SECOND * options->pipeline * options->threads / options->rate;
    double jitter = random_unit(random_mix(arrival ^ ((uint64_t)thread->index << 40)));
    return thread->run->warmup_start_ns + (uint64_t)(((double)arrival + jitter) * interval_ns);
}

static void watch(struct client_thread *thread, struct connection *connection, int operation,
                  bool write) {
    struct epoll_event event = {
        .events = EPOLLIN | (write ? (uint32_t)EPOLLOUT : 0),
        .data.ptr = connection,
    };
    if (epoll_ctl(thread->epoll_fd, operation, connection->fd, &event) < 0) {
        die("epoll_ctl: %s", strerror(errno));
    }
    connection->waits_to_write = write;
}

static void close_connection(struct client_thread *thread, struct connection *connection) {
    close(connection->fd);
    connection->fd = -1;
    thread->open_count--;
    thread->disconnects++;
    if (connection->batch_left > 0) {
        thread->busy_count--;
        thread->unanswered += connection->batch_left;
        connection->batch_left = 0;
    }
}

static void keep_unsent(struct client_thread *thread, struct connection *connection,
                        const char *data, size_t length) {
    size_t needed = connection->unsent_length + length;
    if (needed > connection->unsent_capacity) {
        connection->unsent = realloc(connection->unsent, needed * 2);
        connection->unsent_capacity = needed * 2;
        if (connection->unsent == NULL) {
            die("out of memory");
        }
    }
    memcpy(connection->unsent + connection->unsent_length, data, length);
    connection->unsent_length = needed;
    if (!connection->waits_to_write) {
        watch(thread, connection, EPOLL_CTL_MOD, true);
    }
}

static void send_bytes(struct client_thread *thread, struct connection *connection,
                       const char *data, size_t length) {
    ssize_t sent = 0;
    if (connection->unsent_length == 0) {
        sent = send(connection->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            return; /* the next read will see the end of the connection */
        }
        sent = sent < 0 ? 0 : sent;
    }
    if ((size_t)sent < length) {
        keep_unsent(thread, connection, data + sent, length - (size_t)sent);
    }
}

static void send_unsent(struct client_thread *thread, struct connection *connection) {
    ssize_t sent = send(connection->fd, connection->unsent, connection->unsent_length,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
        connection->unsent_length -= (size_t)sent;
        memmove(connection->unsent, connection->unsent + sent, connection->unsent_length);
    }
    if (connection->unsent_length == 0) {
        watch(thread, connection, EPOLL_CTL_MOD, false);
    }
}

static void send_requests(struct client_thread *thread, struct connection *connection,
                          uint64_t seed, unsigned count) {
    char *end = thread->batch;
    for (unsigned i = 0; i < count; i++) {
        end = workload_append(thread->run->workload, seed + i, end);
    }
    connection->sent += count;
    connection->batch_sent_ns = clock_now_ns();
    send_bytes(thread, connection, thread->batch, (size_t)(end - thread->batch));
}

/* How many requests the next batch may have, under --requests and the time. */
static unsigned allowance(struct client_thread *thread, uint64_t now_ns) {
    struct run *run = thread->run;
    unsigned wanted = run->options->pipeline;
    if (now_ns >= run_end_ns(run)) {
        return 0;
    }
    if (run->options->requests == 0 || now_ns < run->start_ns) {
        return wanted;
    }
    uint64_t before = atomic_fetch_add(&run->issued, wanted);
    if (before >= run->options->requests) {
        return 0;
    }
    uint64_t left = run->options->requests - before;
    return left < wanted ? (unsigned)left : wanted;
}

static void start_batch(struct client_thread *thread, struct connection *connection,
                        uint64_t now_ns) {
    struct run *run = thread->run;
    unsigned count = allowance(thread, now_ns);
    if (count == 0) {
        return;
    }
    uint64_t seed = connection->first_seed + connection->sent;
    if (run->options->keys == KEYS_SEQUENTIAL) {
        seed = atomic_fetch_add(&run->sequence, count);
    }
    connection->reader.seed = seed;
    connection->batch_left = count;
    thread->busy_count++;
    send_requests(thread, connection, seed, count);
}

static void note_in_timeline(struct client_thread *thread, uint64_t at_ns, uint64_t latency_ns,
                             uint64_t count) {
    struct run *run = thread->run;
    if (thread->timeline == NULL) {
        return;
    }
    uint64_t slot = (at_ns - run->start_ns) / (run->options->timeline_ms * 1000000ULL);
    if (slot < run->timeline_slots) {
        thread->timeline[slot].replies += count;
        if (latency_ns > thread->timeline[slot].worst_ns) {
            thread->timeline[slot].worst_ns = latency_ns;
        }
    }
}

static void closed_replies(struct client_thread *thread, struct connection *connection,
                           uint64_t count, uint64_t now_ns) {
    struct run *run = thread->run;
    if (count > connection->batch_left) {
        die("the server sent more replies than it had requests");
    }
    if (now_ns >= run->start_ns && now_ns < run_end_ns(run)) {
        uint64_t latency_ns = now_ns - connection->batch_sent_ns;
        histogram_add(&thread->latency, latency_ns, count);
        thread->measured += count;
        note_in_timeline(thread, now_ns, latency_ns, count);
    }
    connection->batch_left -= count;
    if (connection->batch_left == 0) {
        thread->busy_count--;
        start_batch(thread, connection, now_ns);
    }
}

/* Records `count` requests of one batch of an open loop, answered (or given up) at now_ns. */
static void open_sample(struct client_thread *thread, uint64_t arrival, uint64_t count,
                        uint64_t now_ns) {
    struct run *run = thread->run;
    uint64_t due = due_ns(thread, arrival);
    if (due < run->start_ns || due >= run_end_ns(run)) {
        return;
    }
    uint64_t latency_ns = now_ns > due ? now_ns - due : 0;
    histogram_add(&thread->latency, latency_ns, count);
    note_in_timeline(thread, due, latency_ns, count);
}

/* Requests [first, first + count) of a connection, which may belong to several batches. */
static void open_samples(struct client_thread *thread, struct connection *connection,
                         uint64_t first, uint64_t count, uint64_t now_ns) {
    const uint64_t pipeline = thread->run->options->pipeline;
    while (count > 0) {
        uint64_t batch = first / pipeline;
        uint64_t rest = (batch + 1) * pipeline - first;
        uint64_t part = count < rest ? count : rest;
        open_sample(thread, batch * thread->connection_count + connection->index, part, now_ns);
        first += part;
        count -= part;
    }
}

static void receive(struct client_thread *thread, struct connection *connection) {
    struct reply_reader *reader = &connection->reader;
    ssize_t length = recv(connection->fd, thread->inbox, INBOX_BYTES, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (length <= 0) {
        close_connection(thread, connection);
        return;
    }
    uint64_t before = reader->completed;
    if (reply_read(reader, thread->inbox, (size_t)length) < 0) {
        die("the server sent something that is not RESP: %s", thread->stats.first_error);
    }
    uint64_t count = reader->completed - before;
    if (count == 0) {
        return;
    }
    uint64_t now_ns = clock_now_ns();
    thread->last_reply_ns = now_ns;
    if (is_open_loop(thread)) {
        if (reader->completed > connection->sent) {
            die("the server sent more replies than it had requests");
        }
        open_samples(thread, connection, before, count, now_ns);
        if (now_ns >= thread->run->start_ns && now_ns < run_end_ns(thread->run)) {
            thread->measured += count;
        }
    } else {
        closed_replies(thread, connection, count, now_ns);
    }
    uint64_t total = atomic_load_explicit(&thread->replies_total, memory_order_relaxed);
    atomic_store_explicit(&thread->replies_total, total + count, memory_order_relaxed);
}

static void serve_events(struct client_thread *thread, struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        if (connection->fd >= 0 && (events[i].events & EPOLLOUT) != 0) {
            send_unsent(thread, connection);
        }
        if (connection->fd >= 0 && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
            receive(thread, connection);
        }
    }
}

static uint64_t drain_end_ns(const struct client_thread *thread) {
    uint64_t end = run_end_ns(thread->run);
    return end > UINT64_MAX - DRAIN_NS ? UINT64_MAX : end + DRAIN_NS;
}

static void run_closed(struct client_thread *thread) {
    struct epoll_event events[EVENTS_PER_WAIT];
    for (unsigned i = 0; i < thread->connection_count; i++) {
        start_batch(thread, &thread->connections[i], clock_now_ns());
    }
    while (thread->busy_count > 0 && clock_now_ns() < drain_end_ns(thread)) {
        int count = epoll_wait(thread->epoll_fd, events, EVENTS_PER_WAIT, 100);
        serve_events(thread, events, count);
    }
    for (unsigned i = 0; i < thread->connection_count; i++) {
        thread->unanswered += thread->connections[i].batch_left;
    }
}

/* Sends what is due. Stops at a connection that is too far behind: its arrival stays due, and gets
 * later. */
static void send_due(struct client_thread *thread, uint64_t now_ns) {
    struct run *run = thread->run;
    const unsigned pipeline = run->options->pipeline;
    for (;;) {
        uint64_t due = due_ns(thread, thread->next_arrival);
        struct connection *connection =
            &thread->connections[thread->next_arrival % thread->connection_count];
        if (due > now_ns || due >= run_end_ns(run) || thread->open_count == 0) {
            return;
        }
        if (connection->fd >= 0) {
            uint64_t in_flight = connection->sent - connection->reader.completed;
            if (in_flight + pipeline > run->options->max_in_flight && in_flight > 0) {
                return;
            }
            if (due >= run->start_ns) {
                histogram_add(&thread->lag, now_ns - due, 1);
            }
            send_requests(thread, connection, connection->first_seed + connection->sent, pipeline);
        }
        thread->next_arrival++;
    }
}

static bool open_loop_done(struct client_thread *thread, uint64_t now_ns) {
    if (thread->open_count == 0 || now_ns >= drain_end_ns(thread)) {
        return true;
    }
    if (due_ns(thread, thread->next_arrival) < run_end_ns(thread->run)) {
        return false;
    }
    for (unsigned i = 0; i < thread->connection_count; i++) {
        struct connection *connection = &thread->connections[i];
        if (connection->fd >= 0 && connection->reader.completed < connection->sent) {
            return false;
        }
    }
    return true;
}

/* What was due and has no answer has waited at least until now. */
static void count_unanswered(struct client_thread *thread, uint64_t now_ns) {
    const unsigned pipeline = thread->run->options->pipeline;
    for (unsigned i = 0; i < thread->connection_count; i++) {
        struct connection *connection = &thread->connections[i];
        uint64_t left = connection->sent - connection->reader.completed;
        open_samples(thread, connection, connection->reader.completed, left, now_ns);
        thread->unanswered += left;
    }
    for (; due_ns(thread, thread->next_arrival) < run_end_ns(thread->run); thread->next_arrival++) {
        open_sample(thread, thread->next_arrival, pipeline, now_ns);
        thread->unanswered += pipeline;
    }
}

static void run_open(struct client_thread *thread) {
    struct epoll_event events[EVENTS_PER_WAIT];
    prctl(PR_SET_TIMERSLACK, 1UL); /* the default lets a timer be 50 us late */
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        send_due(thread, now_ns);
        uint64_t due = due_ns(thread, thread->next_arrival);
        if (due >= run_end_ns(thread->run) && open_loop_done(thread, now_ns)) {
            break;
        }
        if (now_ns >= drain_end_ns(thread) || thread->open_count == 0) {
            break;
        }
        uint64_t wait_ns = due > now_ns ? due - now_ns : 10000000;
        wait_ns = wait_ns > 100000000 ? 100000000 : wait_ns;
        struct timespec wait = {.tv_nsec = (long)wait_ns};
        int count = epoll_pwait2(thread->epoll_fd, events, EVENTS_PER_WAIT, &wait, NULL);
        serve_events(thread, events, count);
    }
    count_unanswered(thread, clock_now_ns());
}

/* Sends one of the --setup commands (inline form) and waits for its reply line. */
static void run_setup(const struct options *options, int fd) {
    char reply[256];
    for (unsigned i = 0; i < options->setup_count; i++) {
        char command[1024];
        int length = snprintf(command, sizeof(command), "%s\r\n", options->setup[i]);
        if (length < 0 || (size_t)length >= sizeof(command) ||
            net_send_all(fd, command, (size_t)length) < 0 ||
            recv(fd, reply, sizeof(reply), 0) <= 0) {
            die("--setup '%s' failed", options->setup[i]);
        }
        if (reply[0] == '-') {
            die("--setup '%s': %.*s", options->setup[i], (int)strcspn(reply, "\r"), reply);
        }
    }
}

static void connect_all(struct client_thread *thread) {
    const struct options *options = thread->run->options;
    thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    thread->connections = calloc(thread->connection_count, sizeof(*thread->connections));
    thread->batch = malloc(thread->run->workload->max_command_bytes * options->pipeline);
    thread->inbox = malloc(INBOX_BYTES);
    if (thread->connections == NULL || thread->batch == NULL || thread->inbox == NULL) {
        die("out of memory");
    }
    for (unsigned i = 0; i < thread->connection_count; i++) {
        struct connection *connection = &thread->connections[i];
        connection->index = i;
        connection->fd = net_connect(options->host, options->port, options->socket_path);
        if (connection->fd < 0) {
            die("cannot connect: %s", strerror(errno));
        }
        run_setup(options, connection->fd);
        reply_reader_init(&connection->reader, thread->run->workload, &thread->stats);
        uint64_t number = options->seed * 1000003 + thread->index * 100003ULL + i;
        connection->first_seed = random_mix(number) >> 20;
        connection->reader.seed = connection->first_seed;
        net_set_nonblocking(connection->fd);
        watch(thread, connection, EPOLL_CTL_ADD, false);
    }
    thread->open_count = thread->connection_count;
}

static void disconnect_all(struct client_thread *thread) {
    for (unsigned i = 0; i < thread->connection_count; i++) {
        if (thread->connections[i].fd >= 0) {
            close(thread->connections[i].fd);
        }
        free(thread->connections[i].unsent);
    }
    close(thread->epoll_fd);
    free(thread->connections);
    free(thread->batch);
    free(thread->inbox);
}

void *loop_thread(void *argument) {
    struct client_thread *thread = argument;
    struct run *run = thread->run;
    histogram_reset(&thread->latency);
    histogram_reset(&thread->lag);
    connect_all(thread);
    pthread_barrier_wait(&run->barrier);
    pthread_barrier_wait(&run->barrier);
    if (is_open_loop(thread)) {
        run_open(thread);
    } else {
        run_closed(thread);
    }
    pthread_mutex_lock(&run->lock);
    run->threads_running--;
    pthread_cond_signal(&run->thread_ended);
    pthread_mutex_unlock(&run->lock);
    disconnect_all(thread);
    return NULL;
}
