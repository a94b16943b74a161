/* The chain of unsent blocks of a connection, for the I/O backends; see io_backend.h. The worker's
 * own thread. */
#include "server/net/io_backend.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define VECTORS_MAX 64

static void drop_first(struct io_connection *connection) {
    struct output_block *block = connection->output_first;
    connection->output_first = block->next;
    connection->output_blocks--;
    block->next = NULL;
    output_blocks_free(block);
}

void io_output_advance(struct io_connection *connection, size_t n) {
    connection->output_bytes -= n;
    connection->sent_bytes += n;
    while (n > 0) {
        struct output_block *block = connection->output_first;
        if (n < block->length) {
            block->data += n;
            block->length -= n;
            return;
        }
        n -= block->length;
        drop_first(connection);
    }
    /* Empty blocks (nothing was written to them) go as well. */
    while (connection->output_first && connection->output_first->length == 0)
        drop_first(connection);
    if (!connection->output_first)
        connection->output_last = NULL;
}

void io_output_clear(struct io_connection *connection) {
    output_blocks_free(connection->output_first);
    connection->output_first = connection->output_last = NULL;
    connection->output_bytes = connection->output_blocks = 0;
}

int io_output_vectors(const struct io_connection *connection, struct iovec *vectors, int max) {
    int n = 0;
    for (struct output_block *block = connection->output_first; block && n < max;
         block = block->next)
        if (block->length > 0)
            vectors[n++] = (struct iovec){(void *)block->data, block->length};
    return n;
}

int io_output_write(struct io_connection *c) {
    while (c->output_first) {
        struct iovec vectors[VECTORS_MAX];
        int n = io_output_vectors(c, vectors, VECTORS_MAX);
        if (n == 0) {
            io_output_advance(c, 0);
            continue;
        }
        struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)n};
        ssize_t sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        io_output_advance(c, (size_t)sent);
    }
    return 0;
}
