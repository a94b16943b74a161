/* Connections on a backend above the scripted kernel: what the backend calls is written down.
 *
 * Every callback adds a word to `happened`: "a:data(hello)", "a:end", "a:error(104)", "a:drained",
 * "a:failed(32)", "a:closed", "a:detached", "accept(b)". A connection is freed in its on_closed, so
 * that a sanitizer sees every later use of it. Included by tests of backends; all is static. */
#ifndef SLOTWISE_TESTS_IO_FIXTURE_H
#define SLOTWISE_TESTS_IO_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdio.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/net/io.h"
#include "tests/unit/server/fake_epoll.h"
#include "tests/unit/server/fake_uring.h"

#define CONNECTIONS_MAX 32

/* What a connection's owner does in a callback. */
enum reaction { REACT_NOTHING, REACT_CLOSE, REACT_DETACH, REACT_STOP, REACT_ECHO };

struct connection {
    struct io_connection io; /* first */
    char name;
    struct io *on; /* the backend that it is attached to */
    enum reaction on_data, on_drained, on_detached;
    bool closing;
    size_t received;
};

static struct io *io, *other_io;
static struct connection *connections[CONNECTIONS_MAX]; /* NULL: freed */
static unsigned connection_count;
static char happened[16384];

static void fake_forget(int fd) {
    fake_epoll_forget(fd);
#ifdef SLOTWISE_IO_URING
    fake_uring_forget(fd);
#endif
}

static void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *format, ...) {
    size_t length = strlen(happened);
    va_list arguments;
    va_start(arguments, format);
    if (length > 0 && length + 1 < sizeof happened)
        happened[length++] = ' ';
    vsnprintf(happened + length, sizeof happened - length, format, arguments);
    va_end(arguments);
}

/* --- What the worker would do -------------------------------------------------------------------
 */

static void send_text(struct connection *c, const char *text) {
    struct reply reply;
    reply_init(&reply);
    reply_raw(&reply, text, strlen(text));
    io_queue(&c->io, reply_take(&reply));
    io_flush(c->on, &c->io);
}

static void close_connection(struct connection *c) {
    c->closing = true;
    io_close(c->on, &c->io);
}

static void react(struct connection *c, enum reaction reaction, const char *data, size_t length) {
    char text[IO_BUFFER_BYTES + 1];
    switch (reaction) {
    case REACT_NOTHING:
        break;
    case REACT_CLOSE:
        close_connection(c);
        break;
    case REACT_DETACH:
        if (!c->io.detaching)
            io_detach(c->on, &c->io);
        break;
    case REACT_STOP:
        io_receive_stop(c->on, &c->io);
        break;
    case REACT_ECHO:
        memcpy(text, data, length);
        text[length] = '\0';
        send_text(c, text);
        break;
    }
}

/* --- Callbacks ----------------------------------------------------------------------------------
 */

static struct connection *connection_of(struct io_connection *connection) {
    struct connection *c = (struct connection *)(void *)connection;
    bool known = false;
    for (unsigned i = 0; i < connection_count && !known; i++)
        known = connections[i] == c;
    cr_assert(known, "a callback for a connection that has been closed");
    return c;
}

static void on_data(struct io_connection *connection, const char *data, int64_t length,
                    void *context) {
    struct connection *c = connection_of(connection);
    cr_expect(!c->closing, "on_data after io_close");
    cr_expect_eq(context, (void *)c->on, "on_data from a backend that has given it away");
    if (length > 0) {
        note("%c:data(%.*s)", c->name, (int)length, data);
        c->received += (size_t)length;
    } else if (length == 0) {
        note("%c:end", c->name);
    } else {
        note("%c:error(%d)", c->name, (int)-length);
    }
    react(c, c->on_data, data, length > 0 ? (size_t)length : 0);
}

static void on_drained(struct io_connection *connection, int error, void *context) {
    struct connection *c = connection_of(connection);
    cr_expect(!c->closing, "on_drained after io_close");
    cr_expect_eq(context, (void *)c->on, "on_drained from a backend that has given it away");
    if (error)
        note("%c:failed(%d)", c->name, -error);
    else
        note("%c:drained", c->name);
    cr_expect_eq(c->io.output_bytes, 0);
    react(c, c->on_drained, NULL, 0);
}

static void on_closed(struct io_connection *connection, void *context) {
    struct connection *c = connection_of(connection);
    cr_expect(c->closing, "on_closed without io_close");
    cr_expect_eq(context, (void *)c->on);
    cr_expect_eq(c->io.fd, -1);
    note("%c:closed", c->name);
    for (unsigned i = 0; i < connection_count; i++)
        if (connections[i] == c)
            connections[i] = NULL;
    cr_expect_null(c->io.output_first);
    free(c);
}

static void on_detached(struct io_connection *connection, void *context) {
    struct connection *c = connection_of(connection);
    cr_expect(!c->closing, "on_detached after io_close");
    cr_expect_eq(context, (void *)c->on);
    cr_expect_null(c->io.output_first, "it leaves with output that is not sent");
    note("%c:detached", c->name);
    react(c, c->on_detached, NULL, 0);
}

static struct connection *connection_make(struct io *on, int fd, char name) {
    struct connection *c = calloc(1, sizeof *c);
    cr_assert_not_null(c);
    cr_assert_lt(connection_count, CONNECTIONS_MAX);
    c->io.fd = fd;
    c->name = name;
    c->on = on;
    connections[connection_count++] = c;
    cr_assert_eq(io_attach(on, &c->io), 0);
    return c;
}

static void on_accept(int fd, int listener_fd, void *context) {
    (void)listener_fd;
    char name = (char)('a' + connection_count);
    note("accept(%c)", name);
    connection_make(context, fd, name);
}

static void on_readable(int fd, void *context) {
    (void)context;
    note("readable(%d)", fd);
}

/* --- Setting up ---------------------------------------------------------------------------------
 */

static struct io *io_make(const char *backend) {
    /* The context of the callbacks is the backend itself, known only when it has been made. */
    const struct io_callbacks callbacks = {on_data,   on_drained,  on_closed, on_detached,
                                           on_accept, on_readable, NULL};
    struct io *made;
    int refused;
    cr_assert_eq(io_create(backend, &callbacks, &made, &refused), 0);
    made->callbacks.context = made;
    return made;
}

static struct connection *connect_one(void) {
    return connection_make(io, fake_open(false), (char)('a' + connection_count));
}

static void no_block(void *context) {
    (void)context;
}

static void poll_io(struct io *which) {
    io_poll(which, 0, no_block, no_block, NULL);
    io_release_buffers(which);
}

static void poll_times(unsigned times) {
    for (unsigned i = 0; i < times; i++)
        poll_io(io);
}

#define expect_happened(text)                                                                      \
    do {                                                                                           \
        cr_expect_str_eq(happened, (text), "%s: got '%s', wanted '%s'", io_name(io), happened,     \
                         (text));                                                                  \
        happened[0] = '\0';                                                                        \
    } while (0)

/* How often a word is among what has happened. */
static unsigned times_happened(const char *word) {
    unsigned n = 0;
    for (const char *at = happened; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

static void start(const char *backend) {
    clock_init();
    io = io_make(backend);
}

/* Every connection ends, exactly once, and nothing is left of it. */
static void finish(void) {
    happened[0] = '\0';
#ifdef SLOTWISE_IO_URING
    fake_cancel_too_late = false;
#endif
    unsigned left = 0;
    for (unsigned i = 0; i < connection_count; i++)
        if (connections[i]) {
            left += 1;
            if (!connections[i]->closing)
                close_connection(connections[i]);
        }
    for (unsigned i = 0; i < 10; i++) {
        poll_io(io);
        if (other_io)
            poll_io(other_io);
    }
    cr_expect_eq(times_happened(":closed"), left, "%u connections, and '%s'", left, happened);
    for (unsigned i = 0; i < FAKE_SOCKETS; i++)
        if (fake_sockets[i].open && !fake_sockets[i].listener)
            cr_expect_fail("descriptor %d is left open", FAKE_FD_FIRST + (int)i);
    io_destroy(io);
    if (other_io)
        io_destroy(other_io);
    output_pool_thread_exit();
    fake_release();
}

#endif
