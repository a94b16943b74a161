/* What an I/O backend (io_epoll.c, io_uring.c) implements and what it is given: connections with
 * their chains of unsent blocks, and the callbacks.
 *
 * An io, its connections and their output belong to one worker and are touched on its thread only.
 * Who uses a backend calls io.h, which says what each function does. */
#ifndef SLOTWISE_SERVER_IO_BACKEND_H
#define SLOTWISE_SERVER_IO_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/resp/reply.h"

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
    bool bulk;          /* the worker sends it much at a time */
    bool delayed;       /* io_uring: what is in flight for the send is the time until it is tried */
    bool cancelling;    /* a cancellation is in flight */
    uint8_t operations; /* kernel operations in flight, cancellations too */
    struct io_connection *next_ended;
    struct output_block *output_first, *output_last;
    size_t output_bytes;  /* unsent; worker may read */
    size_t output_blocks; /* in the chain; worker may read */
    uint64_t sent_bytes;  /* in all; worker may read */
    void *extra;          /* backend's own (message header of a vectored send) */
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
/* Writes until done or the socket is full; no send is under way. 0, or -errno when the connection
 * is broken. */
int io_output_write(struct io_connection *connection);
struct iovec;
/* Fills up to max vectors with the front of the output; returns how many. */
int io_output_vectors(const struct io_connection *connection, struct iovec *vectors, int max);

#endif
