/* The choice between the I/O backends, and what is the same for each of them before it is asked;
 * see io.h. The worker's own thread. */
#include "server/net/io.h"

#include <errno.h>
#include <string.h>

#include "engine/assert.h"

int io_create(const char *name, const struct io_callbacks *callbacks, struct io **io,
              int *refused) {
    *refused = 0;
    bool any = strcmp(name, "auto") == 0;
#ifdef SLOTWISE_IO_URING
    if (any || strcmp(name, "io_uring") == 0) {
        int error = io_backend_uring.create(callbacks, io);
        if (error == 0 || !any)
            return error;
        *refused = error;
    }
#endif
    if (any || strcmp(name, "epoll") == 0)
        return io_backend_epoll.create(callbacks, io);
    return -EINVAL;
}

void io_destroy(struct io *io) {
    io->backend->destroy(io);
}

const char *io_name(const struct io *io) {
    return io->backend->name;
}

int io_listen(struct io *io, int fd) {
    return io->backend->listen(io, fd);
}

void io_unlisten(struct io *io, int fd) {
    io->backend->unlisten(io, fd);
}

int io_watch_fd(struct io *io, int fd) {
    return io->backend->watch_fd(io, fd);
}

int io_attach(struct io *io, struct io_connection *connection) {
    connection->receiving = true;
    return io->backend->attach(io, connection);
}

void io_receive_stop(struct io *io, struct io_connection *connection) {
    if (!connection->receiving)
        return;
    connection->receiving = false;
    io->backend->receive_stop(io, connection);
}

void io_receive_start(struct io *io, struct io_connection *connection) {
    if (connection->receiving || connection->closing)
        return;
    connection->receiving = true;
    io->backend->receive_start(io, connection);
}

void io_queue(struct io_connection *connection, struct output_block *blocks) {
    if (!blocks)
        return;
    if (connection->failed || connection->closing) {
        output_blocks_free(blocks);
        return;
    }
    if (connection->output_last)
        connection->output_last->next = blocks;
    else
        connection->output_first = blocks;
    for (struct output_block *block = blocks; block; block = block->next) {
        connection->output_bytes += block->length;
        connection->output_blocks++;
        connection->output_last = block;
    }
}

void io_flush(struct io *io, struct io_connection *connection) {
    if (connection->output_first && !connection->closing && !connection->sending)
        io->backend->flush(io, connection);
}

void io_close(struct io *io, struct io_connection *connection) {
    ASSERT(!connection->closing);
    connection->closing = true;
    connection->receiving = false;
    io->backend->close(io, connection);
}

void io_detach(struct io *io, struct io_connection *connection) {
    ASSERT(!connection->closing && !connection->detaching && !connection->output_first &&
           !connection->sending);
    connection->detaching = true;
    connection->receiving = false;
    io->backend->detach(io, connection);
}

int io_poll(struct io *io, int64_t timeout_us, void (*before_block)(void *),
            void (*after_block)(void *), void *context) {
    return io->backend->poll(io, timeout_us, before_block, after_block, context);
}

bool io_pending(struct io *io) {
    return io->backend->pending(io);
}

void io_release_buffers(struct io *io) {
    io->backend->release_buffers(io);
}
