/* I/O backend of one worker: sockets in, bytes out. Two implementations of one interface: io_uring
 * and epoll.
 *
 * All functions are called on the worker's own thread, except that wake is done by writing to an
 * eventfd that the worker gave to io_watch_fd. Callbacks come from io_poll only. A backend never
 * parses anything.
 *
 * Receiving: on_data hands over bytes that stay valid until io_release_buffers (the worker runs its
 * batch first). Sending: io_queue appends blocks to the connection's output; io_flush sends them
 * (epoll: writes now; io_uring: queues the send, which goes out with the next io_poll). Blocks are
 * freed when they have been sent. */
#ifndef SLOTWISE_SERVER_IO_H
#define SLOTWISE_SERVER_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/reply.h"

struct io;

#define IO_BUFFER_BYTES (16 * 1024)

/* Embedded in struct conn; all fields belong to the backend except where noted. */
struct io_connection {
    int fd;
    bool receiving;     /* wanted by the worker: io_receive_start/stop */
    bool armed;         /* a recv is in flight or the descriptor is registered for input */
    bool sending;       /* a send is in flight, or waiting for writability */
    bool closing;       /* io_close was called; on_closed will come */
    bool detaching;     /* io_detach was called; on_detached will come */
    bool failed;        /* a send failed: output is dropped */
    bool ended;         /* in the list of those whose end the next poll reports */
    bool cancelling;    /* a cancellation is in flight */
    uint8_t operations; /* kernel operations in flight, cancellations too */
    struct io_connection *next_ended;
    struct output_block *output_first, *output_last;
    size_t output_bytes; /* unsent; worker may read */
    uint64_t sent_bytes; /* in all; worker may read */
    void *extra;         /* backend's own (message header of a vectored send) */
};

struct io_callbacks {
    /* length 0: the peer has shut down its side; negative: -errno. */
    void (*on_data)(struct io_connection *connection, const char *data, int64_t length,
                    void *context);
    /* All output has been sent (only called when it had not been sent within io_flush). error: 0 or
     * -errno. */
    void (*on_drained)(struct io_connection *connection, int error, void *context);
    /* After io_close: the kernel uses nothing of it any more and the descriptor is closed. */
    void (*on_closed)(struct io_connection *connection, void *context);
    /* After io_detach: nothing is in flight; the descriptor may go to another io. */
    void (*on_detached)(struct io_connection *connection, void *context);
    void (*on_accept)(int fd, int listener_fd, void *context);
    void (*on_readable)(int fd, void *context); /* of io_watch_fd */
    void *context;
};

/* name: "auto" (io_uring where the kernel has what is needed, else epoll), "io_uring", "epoll". 0
 * or -errno. *refused: why "auto" did not take io_uring (-ENOSYS: the kernel is too old), or 0.
 * Must be called on the worker's thread. */
int io_create(const char *name, const struct io_callbacks *callbacks, struct io **io, int *refused);
void io_destroy(struct io *io); /* every connection must have been closed */
const char *io_name(const struct io *io);

int io_listen(struct io *io,
              int fd); /* a listening, non-blocking socket; accepted ones are non-blocking */
void io_unlisten(struct io *io, int fd); /* no on_accept for it afterwards */
int io_watch_fd(struct io *io, int fd); /* on_readable while readable; the callback must drain it */

/* Registers a connection (fd set, all else zero, or as on_detached left it) and starts receiving.
 */
int io_attach(struct io *io, struct io_connection *connection);
void io_receive_stop(struct io *io,
                     struct io_connection *connection); /* bytes may still come once */
void io_receive_start(struct io *io, struct io_connection *connection);
void io_queue(struct io_connection *connection, struct output_block *blocks);
void io_flush(struct io *io, struct io_connection *connection);
/* Stops everything; on_closed comes from a later io_poll (or io_reap) exactly once. Unsent output
 * is dropped. */
void io_close(struct io *io, struct io_connection *connection);
/* Stops receiving; on_detached comes when nothing is in flight. on_data may still come before.
 * Nothing is unsent. */
void io_detach(struct io *io, struct io_connection *connection);

/* Waits up to timeout_us (0: does not block; -1: no limit) for events and runs callbacks.
 * before_block/after_block are called around a wait that may really block. Returns the number of
 * events. */
int io_poll(struct io *io, int64_t timeout_us, void (*before_block)(void *),
            void (*after_block)(void *), void *context);
/* true: something is ready already, a poll would not block. Cheap. */
bool io_pending(struct io *io);
/* Gives back the buffers handed over by on_data since the last call. */
void io_release_buffers(struct io *io);

/* What a backend implements. */
struct io_backend {
    const char *name;
    int (*create)(const struct io_callbacks *callbacks, struct io **io);
    void (*destroy)(struct io *io);
    int (*listen)(struct io *io, int fd);
    void (*unlisten)(struct io *io, int fd);
    int (*watch_fd)(struct io *io, int fd);
    int (*attach)(struct io *io, struct io_connection *connection);
    void (*receive_stop)(struct io *io, struct io_connection *connection);
    void (*receive_start)(struct io *io, struct io_connection *connection);
    void (*flush)(struct io *io, struct io_connection *connection);
    void (*close)(struct io *io, struct io_connection *connection);
    void (*detach)(struct io *io, struct io_connection *connection);
    int (*poll)(struct io *io, int64_t timeout_us, void (*before_block)(void *),
                void (*after_block)(void *), void *context);
    bool (*pending)(struct io *io);
    void (*release_buffers)(struct io *io);
};

/* First member of each backend's struct io. */
struct io {
    const struct io_backend *backend;
    struct io_callbacks callbacks;
};

extern const struct io_backend io_backend_epoll;
extern const struct io_backend io_backend_uring; /* only if SLOTWISE_IO_URING */

/* For backends: drops n sent bytes from the front of the output; frees blocks that are done. */
void io_output_advance(struct io_connection *connection, size_t n);
void io_output_clear(struct io_connection *connection);
struct iovec;
/* Fills up to max vectors with the front of the output; returns how many. */
int io_output_vectors(const struct io_connection *connection, struct iovec *vectors, int max);

#endif
