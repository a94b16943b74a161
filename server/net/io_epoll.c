/* I/O backend on epoll: level-triggered, one read per ready connection and turn into pooled
 * buffers, writes tried at once and finished when the socket becomes writable.
 *
 * Invariants: a descriptor is registered with exactly the events in io_connection: EPOLLIN while
 * receiving (and not paused for lack of buffers: level triggering brings it again), EPOLLOUT while
 * sending. io_close takes effect at once; on_closed is delivered from the next poll, so that nobody
 * frees a connection inside its own callback. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/net/io_backend.h"

#define EVENTS_MAX        128
#define BUFFERS_MAX       64
#define WATCHED_MAX       80
#define ACCEPTS_PER_EVENT 128
#define ACCEPT_RETRY_US   50000

enum watched_kind { WATCHED_NONE, WATCHED_LISTENER, WATCHED_READABLE };

struct watched {
    enum watched_kind kind;
    int fd;
};

struct io_epoll {
    struct io base;
    int epoll_fd;
    unsigned buffers_used, buffers_made;
    char *buffers[BUFFERS_MAX];
    struct watched watched[WATCHED_MAX];
    struct io_connection
        *ended;               /* closing or detaching: reported by the next poll; by next_ended */
    uint64_t accept_retry_us; /* 0: listeners are registered; else out of descriptors until then */
    struct epoll_event events[EVENTS_MAX];
};

static int epoll_create_backend(const struct io_callbacks *callbacks, struct io **io) {
    struct io_epoll *e = memory_calloc(1, sizeof *e);
    e->base.backend = &io_backend_epoll;
    e->base.callbacks = *callbacks;
    e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->epoll_fd < 0) {
        int error = -errno;
        memory_free(e);
        return error;
    }
    *io = &e->base;
    return 0;
}

static void epoll_destroy_backend(struct io *io) {
    struct io_epoll *e = (struct io_epoll *)io;
    for (unsigned i = 0; i < e->buffers_made; i++)
        memory_free(e->buffers[i]);
    close(e->epoll_fd);
    memory_free(e);
}

/* Watched descriptors are told from connections by bit 0 of the event's pointer. */
static int watch(struct io_epoll *e, int fd, enum watched_kind kind) {
    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        if (e->watched[i].kind != WATCHED_NONE)
            continue;
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)i << 1 | 1};
        if (epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            return -errno;
        e->watched[i] = (struct watched){kind, fd};
        return 0;
    }
    return -ENOSPC;
}

static int epoll_listen(struct io *io, int fd) {
    return watch((struct io_epoll *)io, fd, WATCHED_LISTENER);
}

static int epoll_watch_fd(struct io *io, int fd) {
    return watch((struct io_epoll *)io, fd, WATCHED_READABLE);
}

static void epoll_unlisten(struct io *io, int fd) {
    struct io_epoll *e = (struct io_epoll *)io;
    for (unsigned i = 0; i < WATCHED_MAX; i++)
        if (e->watched[i].kind == WATCHED_LISTENER && e->watched[i].fd == fd) {
            epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
            e->watched[i].kind = WATCHED_NONE;
        }
}

static void register_events(struct io_epoll *e, struct io_connection *c) {
    struct epoll_event event = {
        .events = (c->receiving ? EPOLLIN : 0) | (c->sending ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(e->epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
}

static int epoll_attach(struct io *io, struct io_connection *c) {
    struct io_epoll *e = (struct io_epoll *)io;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0 ? -errno : 0;
}

static void epoll_receive_change(struct io *io, struct io_connection *c) {
    register_events((struct io_epoll *)io, c);
}

static void end_later(struct io_epoll *e, struct io_connection *c) {
    if (c->ended)
        return;
    epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->ended = true;
    c->next_ended = e->ended;
    e->ended = c;
}

static void epoll_close(struct io *io, struct io_connection *c) {
    struct io_epoll *e = (struct io_epoll *)io;
    io_output_clear(c);
    c->detaching = false; /* if it was, it is in the list already */
    end_later(e, c);
}

static void epoll_flush(struct io *io, struct io_connection *c) {
    struct io_epoll *e = (struct io_epoll *)io;
    int error = io_output_write(c);
    if (error) {
        /* The next read tells the worker; what is left will never be sent. */
        c->failed = true;
        io_output_clear(c);
    }
    if (c->output_first) {
        c->sending = true;
        register_events(e, c);
    }
}

static void epoll_detach(struct io *io, struct io_connection *c) {
    end_later((struct io_epoll *)io, c);
}

static void on_writable(struct io_epoll *e, struct io_connection *c) {
    int error = io_output_write(c);
    if (error) {
        c->failed = true;
        io_output_clear(c);
    }
    if (c->output_first)
        return;
    c->sending = false;
    register_events(e, c);
    e->base.callbacks.on_drained(c, error, e->base.callbacks.context);
}

static void on_input(struct io_epoll *e, struct io_connection *c) {
    if (e->buffers_used == e->buffers_made)
        e->buffers[e->buffers_made++] = memory_alloc(IO_BUFFER_BYTES);
    char *buffer = e->buffers[e->buffers_used];
    ssize_t n = recv(c->fd, buffer, IO_BUFFER_BYTES, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        e->buffers_used++;
    int64_t length = n < 0 ? -errno : n;
    if (length <= 0) {
        c->receiving = false;
        register_events(e, c);
    }
    e->base.callbacks.on_data(c, buffer, length, e->base.callbacks.context);
}

static void change_listeners(struct io_epoll *e, int operation) {
    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)i << 1 | 1};
        if (e->watched[i].kind == WATCHED_LISTENER)
            epoll_ctl(e->epoll_fd, operation, e->watched[i].fd, &event);
    }
}

static void stop_accepting(struct io_epoll *e) {
    if (e->accept_retry_us)
        return;
    change_listeners(e, EPOLL_CTL_DEL);
    e->accept_retry_us = clock_monotonic_us() + ACCEPT_RETRY_US;
}

static void retry_accept(struct io_epoll *e) {
    if (clock_monotonic_us() < e->accept_retry_us)
        return;
    e->accept_retry_us = 0;
    change_listeners(e, EPOLL_CTL_ADD);
}

static void on_listener(struct io_epoll *e, int listener) {
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno != EAGAIN)
                stop_accepting(e); /* out of descriptors: else every poll would tell of it */
            return;
        }
        e->base.callbacks.on_accept(fd, listener, e->base.callbacks.context);
    }
}

static int report_ended(struct io_epoll *e) {
    struct io_connection *list = e->ended;
    e->ended = NULL;
    int n = 0;
    for (; list; n++) {
        struct io_connection *c = list;
        list = c->next_ended;
        c->next_ended = NULL;
        c->ended = false;
        if (c->closing) {
            io_output_clear(c);
            close(c->fd);
            c->fd = -1;
            e->base.callbacks.on_closed(c, e->base.callbacks.context);
        } else {
            c->detaching = false;
            e->base.callbacks.on_detached(c, e->base.callbacks.context);
        }
    }
    return n;
}

static void deliver(struct io_epoll *e, const struct epoll_event *event) {
    if (event->data.u64 & 1) {
        struct watched watched = e->watched[event->data.u64 >> 1];
        if (watched.kind == WATCHED_LISTENER)
            on_listener(e, watched.fd);
        else if (watched.kind == WATCHED_READABLE)
            e->base.callbacks.on_readable(watched.fd, e->base.callbacks.context);
        return;
    }
    struct io_connection *c = event->data.ptr;
    if (c->closing)
        return;
    if ((event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && c->sending)
        on_writable(e, c);
    if ((event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && c->receiving && !c->closing)
        on_input(e, c);
    else if ((event->events & (EPOLLERR | EPOLLHUP)) && !c->receiving && !c->sending &&
             !c->closing && !c->detaching)
        e->base.callbacks.on_data(c, NULL, -ECONNRESET, e->base.callbacks.context);
}

static int epoll_poll(struct io *io, int64_t timeout_us, void (*before_block)(void *),
                      void (*after_block)(void *), void *context) {
    struct io_epoll *e = (struct io_epoll *)io;
    if (UNLIKELY(e->accept_retry_us))
        retry_accept(e);
    int ended = report_ended(e);
    if (ended)
        timeout_us = 0;
    /* One event per buffer at most: what does not fit comes again. */
    int timeout_ms = timeout_us < 0 ? -1 : (int)((timeout_us + 999) / 1000);
    if (timeout_ms)
        before_block(context);
    int n = epoll_wait(e->epoll_fd, e->events, BUFFERS_MAX, timeout_ms);
    if (timeout_ms)
        after_block(context);
    for (int i = 0; i < n; i++)
        deliver(e, &e->events[i]);
    return ended + (n > 0 ? n : 0);
}

static bool epoll_pending(struct io *io) {
    return ((struct io_epoll *)io)->ended != NULL;
}

static void epoll_release_buffers(struct io *io) {
    struct io_epoll *e = (struct io_epoll *)io;
    e->buffers_used = 0;
}

const struct io_backend io_backend_epoll = {
    .name = "epoll",
    .create = epoll_create_backend,
    .destroy = epoll_destroy_backend,
    .listen = epoll_listen,
    .unlisten = epoll_unlisten,
    .watch_fd = epoll_watch_fd,
    .attach = epoll_attach,
    .receive_stop = epoll_receive_change,
    .receive_start = epoll_receive_change,
    .flush = epoll_flush,
    .close = epoll_close,
    .detach = epoll_detach,
    .poll = epoll_poll,
    .pending = epoll_pending,
    .release_buffers = epoll_release_buffers,
};
