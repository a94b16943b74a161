/* I/O of one worker: sockets in, bytes out. What the worker calls; io_backend.h has the
 * connections, the callbacks, and the interface that io_uring and epoll implement.
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
#include <stdint.h>

#include "server/net/io_backend.h"

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

#endif
