/* I/O backend on io_uring (Linux 6.1 and newer): multishot accept, multishot receive into a ring of
 * provided buffers, sends of a turn submitted together with its wait.
 *
 * Invariants: the ring belongs to the worker's thread (SINGLE_ISSUER), completions run inside its
 * own calls (DEFER_TASKRUN). connection->operations counts the receive and the send that the kernel
 * has of a connection, and its cancellation; it is closed, or handed over, only when that is zero.
 * A cancellation may come too late (what it is for was just being done): it is tried again until
 * nothing is left to cancel. Blocks that are being sent are freed by the completion. A buffer that
 * a receive has filled stays ours until io_release_buffers; a receive that ended for lack of
 * buffers is started again there. Completions that nobody waits for (the end of an accept) carry
 * OPERATION_NONE.
 *
 * Source: io_uring(7), io_uring_prep_recv_multishot(3), io_uring_register_buf_ring(3). */
#ifdef SLOTWISE_IO_URING

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/net/io_backend.h"

#define SUBMISSIONS          512
#define COMPLETIONS          8192
#define BUFFER_COUNT         128 /* a power of two */
#define BUFFER_GROUP         0
#define WATCHED_MAX          80
#define VECTORS_MAX          32
#define COMPLETIONS_PER_POLL 256
#define SEND_RETRY_NS        10000000
#define ACCEPT_RETRY_US      50000
#define SEND_MAX_BYTES       (256 * 1024) /* of one send: its end tells that the client reads */

/* Low bits of the user data; the rest is the connection, or number and descriptor of what is
 * watched. */
enum operation {
    OPERATION_NONE,
    OPERATION_RECEIVE,
    OPERATION_SEND,
    OPERATION_ACCEPT,
    OPERATION_POLL,
    OPERATION_CANCEL
};
#define OPERATION_MASK 7

struct watched {
    enum operation operation; /* OPERATION_NONE: free */
    int fd;
    bool armed;
};

struct vectored_send {
    struct msghdr header;
    struct iovec vectors[VECTORS_MAX];
};

struct io_ring {
    struct io base;
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    uint16_t used[BUFFER_COUNT]; /* handed over since the last release */
    unsigned used_count;
    struct watched watched[WATCHED_MAX];
    uint64_t accept_retry_us;       /* 0: every listener is armed */
    struct io_connection *ended;    /* reported by the next poll; by next_ended */
    struct io_connection **starved; /* receives to start again when there are buffers */
    unsigned starved_count, starved_room;
};

#define BUFFER_RING_BYTES (BUFFER_COUNT * sizeof(struct io_uring_buf))

static char *buffer_at(const struct io_ring *r, unsigned number) {
    return r->buffers + (size_t)number * IO_BUFFER_BYTES;
}

static int make_buffers(struct io_ring *r) {
    r->buffer_ring =
        mmap(NULL, BUFFER_RING_BYTES, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    r->buffers = mmap(NULL, (size_t)BUFFER_COUNT * IO_BUFFER_BYTES, PROT_READ | PROT_WRITE,
                      MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (r->buffer_ring == MAP_FAILED || r->buffers == MAP_FAILED)
        return -ENOMEM;
    struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)r->buffer_ring,
                                            .ring_entries = BUFFER_COUNT,
                                            .bgid = BUFFER_GROUP};
    int error = io_uring_register_buf_ring(&r->ring, &registration, 0);
    if (error)
        return error;
    io_uring_buf_ring_init(r->buffer_ring);
    for (unsigned i = 0; i < BUFFER_COUNT; i++)
        io_uring_buf_ring_add(r->buffer_ring, buffer_at(r, i), IO_BUFFER_BYTES, (uint16_t)i,
                              io_uring_buf_ring_mask(BUFFER_COUNT), (int)i);
    io_uring_buf_ring_advance(r->buffer_ring, BUFFER_COUNT);
    return 0;
}

static void free_buffers(struct io_ring *r) {
    if (r->buffer_ring && r->buffer_ring != MAP_FAILED)
        munmap(r->buffer_ring, BUFFER_RING_BYTES);
    if (r->buffers && r->buffers != MAP_FAILED)
        munmap(r->buffers, (size_t)BUFFER_COUNT * IO_BUFFER_BYTES);
}

static int uring_create(const struct io_callbacks *callbacks, struct io **io) {
    struct io_ring *r = memory_calloc(1, sizeof *r);
    r->base.backend = &io_backend_uring;
    r->base.callbacks = *callbacks;
    /* A kernel that knows these flags (6.1) has all else that is used here. */
    struct io_uring_params parameters = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                                  IORING_SETUP_DEFER_TASKRUN |
                                                  IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
                                         .cq_entries = COMPLETIONS};
    int error = io_uring_queue_init_params(SUBMISSIONS, &r->ring, &parameters);
    if (error) {
        memory_free(r);
        return error == -EINVAL ? -ENOSYS : error;
    }
    error = make_buffers(r);
    if (error) {
        io_uring_queue_exit(&r->ring);
        free_buffers(r);
        memory_free(r);
        return error;
    }
    *io = &r->base;
    return 0;
}

static void uring_destroy(struct io *io) {
    struct io_ring *r = (struct io_ring *)io;
    io_uring_queue_exit(&r->ring);
    free_buffers(r);
    memory_free(r->starved);
    memory_free(r);
}

/* --- Submissions ------------------------------------------------------------------------------ */

static struct io_uring_sqe *next_sqe(struct io_ring *r) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    if (UNLIKELY(!sqe)) {
        io_uring_submit(&r->ring);
        sqe = io_uring_get_sqe(&r->ring);
        ASSERT(sqe != NULL);
    }
    return sqe;
}

static uint64_t connection_data(const struct io_connection *c, enum operation operation) {
    return (uint64_t)(uintptr_t)c | operation;
}

static uint64_t watched_data(const struct io_ring *r, const struct watched *w) {
    return (uint64_t)(unsigned)w->fd << 32 | (uint64_t)(w - r->watched) << 3 | w->operation;
}

static void arm_receive(struct io_ring *r, struct io_connection *c) {
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    sqe->user_data = connection_data(c, OPERATION_RECEIVE);
    c->armed = true;
    c->operations++;
}

static void arm_receive_later(struct io_ring *r, struct io_connection *c) {
    if (r->starved_count == r->starved_room) {
        r->starved_room = r->starved_room ? r->starved_room * 2 : 64;
        r->starved = memory_realloc(r->starved, r->starved_room * sizeof *r->starved);
    }
    r->starved[r->starved_count++] = c;
}

static void cancel_watched(struct io_ring *r, uint64_t user_data) {
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_cancel64(sqe, user_data, 0);
    sqe->user_data = OPERATION_NONE;
}

/* What must end: everything of a connection that is closing, else the receive that is not wanted.
 */
static bool has_to_end(const struct io_connection *c) {
    return c->closing ? c->armed || (c->sending && !c->delayed) : c->armed && !c->receiving;
}

static void cancel(struct io_ring *r, struct io_connection *c) {
    if (c->cancelling || !has_to_end(c))
        return;
    struct io_uring_sqe *sqe = next_sqe(r);
    if (c->closing)
        io_uring_prep_cancel_fd(sqe, c->fd, IORING_ASYNC_CANCEL_ALL);
    else
        io_uring_prep_cancel64(sqe, connection_data(c, OPERATION_RECEIVE), 0);
    sqe->user_data = connection_data(c, OPERATION_CANCEL);
    c->cancelling = true;
    c->operations++;
}

static void arm_watched(struct io_ring *r, struct watched *w) {
    struct io_uring_sqe *sqe = next_sqe(r);
    if (w->operation == OPERATION_ACCEPT)
        io_uring_prep_multishot_accept(sqe, w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    else
        io_uring_prep_poll_multishot(sqe, w->fd, POLLIN);
    sqe->user_data = watched_data(r, w);
    w->armed = true;
}

static int watch(struct io_ring *r, int fd, enum operation operation) {
    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        if (r->watched[i].operation != OPERATION_NONE)
            continue;
        r->watched[i] = (struct watched){operation, fd, false};
        arm_watched(r, &r->watched[i]);
        return 0;
    }
    return -ENOSPC;
}

static int uring_listen(struct io *io, int fd) {
    return watch((struct io_ring *)io, fd, OPERATION_ACCEPT);
}

static int uring_watch_fd(struct io *io, int fd) {
    return watch((struct io_ring *)io, fd, OPERATION_POLL);
}

static void uring_unlisten(struct io *io, int fd) {
    struct io_ring *r = (struct io_ring *)io;
    for (unsigned i = 0; i < WATCHED_MAX; i++) {
        struct watched *w = &r->watched[i];
        if (w->operation != OPERATION_ACCEPT || w->fd != fd)
            continue;
        if (w->armed)
            cancel_watched(r, watched_data(r, w));
        w->operation = OPERATION_NONE;
    }
    io_uring_submit(&r->ring); /* before the caller closes it */
}

static int uring_attach(struct io *io, struct io_connection *c) {
    arm_receive((struct io_ring *)io, c);
    return 0;
}

static void uring_receive_stop(struct io *io, struct io_connection *c) {
    cancel((struct io_ring *)io, c);
}

static void uring_receive_start(struct io *io, struct io_connection *c) {
    /* Before the next poll, which may sleep; what is armed still has a cancellation under way,
     * whose completion starts it again. */
    if (!c->armed)
        arm_receive((struct io_ring *)io, c);
}

/* No more than so many bytes; returns the new number. */
static int cut_vectors(struct iovec *vectors, int count, size_t bytes) {
    for (int i = 0; i < count; i++) {
        if (vectors[i].iov_len >= bytes) {
            vectors[i].iov_len = bytes;
            return i + 1;
        }
        bytes -= vectors[i].iov_len;
    }
    return count;
}

static void send_output(struct io_ring *r, struct io_connection *c) {
    while (c->output_first && c->output_first->length == 0)
        io_output_advance(c, 0);
    if (!c->output_first)
        return;
    struct io_uring_sqe *sqe = next_sqe(r);
    const struct output_block *first = c->output_first;
    if (!first->next) {
        size_t length = first->length < SEND_MAX_BYTES ? first->length : SEND_MAX_BYTES;
        io_uring_prep_send(sqe, c->fd, first->data, length, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        if (!c->extra)
            c->extra = memory_alloc(sizeof(struct vectored_send));
        struct vectored_send *send = c->extra;
        send->header = (struct msghdr){.msg_iov = send->vectors};
        send->header.msg_iovlen = (size_t)cut_vectors(
            send->vectors, io_output_vectors(c, send->vectors, VECTORS_MAX), SEND_MAX_BYTES);
        io_uring_prep_sendmsg(sqe, c->fd, &send->header, MSG_NOSIGNAL | MSG_WAITALL);
    }
    sqe->user_data = connection_data(c, OPERATION_SEND);
    c->sending = true;
    c->operations++;
}

/* A send to a peer that has shut down its side comes back for want of room instead of waiting, and
 * so does a poll: it is tried again in a moment. */
static void send_later(struct io_ring *r, struct io_connection *c) {
    static struct __kernel_timespec delay = {.tv_nsec = SEND_RETRY_NS};
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_timeout(sqe, &delay, 0, 0);
    sqe->user_data = connection_data(c, OPERATION_SEND);
    c->sending = c->delayed = true;
    c->operations++;
}

/* The end of a send is seen in another turn. Whoever has much to send does not wait for that as
 * long as its socket takes it. */
static void uring_flush(struct io *io, struct io_connection *c) {
    if (c->bulk && io_output_write(c) < 0) {
        c->failed = true; /* the next receive tells the worker */
        io_output_clear(c);
    }
    send_output((struct io_ring *)io, c);
}

/* --- The end of a connection, or of its stay here --------------------------------------------- */

static void check_ended(struct io_ring *r, struct io_connection *c) {
    if (c->operations > 0 || c->ended || !(c->closing || c->detaching))
        return;
    c->ended = true;
    c->next_ended = r->ended;
    r->ended = c;
}

static void forget_starved(struct io_ring *r, const struct io_connection *c) {
    for (unsigned i = 0; i < r->starved_count; i++)
        if (r->starved[i] == c)
            r->starved[i--] = r->starved[--r->starved_count];
}

static void uring_close(struct io *io, struct io_connection *c) {
    struct io_ring *r = (struct io_ring *)io;
    forget_starved(r, c);
    /* Both sides of the socket end, so that what is in flight does too, cancelled or not. */
    shutdown(c->fd, SHUT_RDWR);
    cancel(r, c);
    if (!c->sending)
        io_output_clear(c);
    check_ended(r, c);
}

static void uring_detach(struct io *io, struct io_connection *c) {
    struct io_ring *r = (struct io_ring *)io;
    forget_starved(r, c);
    cancel(r, c);
    check_ended(r, c);
}

static int report_ended(struct io_ring *r) {
    struct io_connection *list = r->ended;
    int n = 0;
    r->ended = NULL;
    for (; list; n++) {
        struct io_connection *c = list;
        list = c->next_ended;
        c->ended = false;
        c->next_ended = NULL;
        memory_free(c->extra);
        c->extra = NULL;
        if (c->closing) {
            io_output_clear(c);
            close(c->fd);
            c->fd = -1;
            r->base.callbacks.on_closed(c, r->base.callbacks.context);
        } else {
            c->detaching = false;
            r->base.callbacks.on_detached(c, r->base.callbacks.context);
        }
    }
    return n;
}

/* --- Completions ------------------------------------------------------------------------------ */

static void on_receive(struct io_ring *r, struct io_connection *c, int result, unsigned flags) {
    const struct io_callbacks *callbacks = &r->base.callbacks;
    bool more = flags & IORING_CQE_F_MORE;
    char *data = NULL;
    if (!more) {
        c->armed = false;
        c->operations--;
    }
    if (flags & IORING_CQE_F_BUFFER) {
        unsigned number = flags >> IORING_CQE_BUFFER_SHIFT;
        r->used[r->used_count++] = (uint16_t)number;
        data = buffer_at(r, number);
    }
    bool nothing =
        result == -ENOBUFS || result == -ECANCELED || result == -EINTR || result == -EAGAIN;
    if (!c->closing && !nothing) {
        if (result <= 0)
            c->receiving = false;
        callbacks->on_data(c, data, result, callbacks->context);
    }
    if (!c->armed && c->receiving && !c->closing && !c->detaching)
        arm_receive_later(r, c);
    check_ended(r, c);
}

static void on_sent(struct io_ring *r, struct io_connection *c, int result) {
    const struct io_callbacks *callbacks = &r->base.callbacks;
    c->operations--;
    c->sending = false;
    if (c->delayed) {
        c->delayed = false;
        result = 0;
    } else if (!c->closing && (result == 0 || result == -EAGAIN)) {
        send_later(r, c);
        return;
    }
    if (c->closing) {
        io_output_clear(c);
    } else if (result < 0 && result != -EAGAIN && result != -EINTR) {
        c->failed = true;
        io_output_clear(c);
        callbacks->on_drained(c, result, callbacks->context);
    } else {
        if (result > 0)
            io_output_advance(c, (size_t)result);
        if (c->output_first)
            uring_flush(&r->base, c);
        if (!c->sending) {
            memory_free(c->extra);
            c->extra = NULL;
            callbacks->on_drained(c, 0, callbacks->context);
        }
    }
    check_ended(r, c);
}

static void on_cancelled(struct io_ring *r, struct io_connection *c) {
    c->operations--;
    c->cancelling = false;
    cancel(r, c);
    check_ended(r, c);
}

static void on_watched(struct io_ring *r, uint64_t data, int result, unsigned flags) {
    struct watched *w = &r->watched[(data & UINT32_MAX) >> 3];
    bool current = w->operation == (data & OPERATION_MASK) && w->fd == (int)(data >> 32);
    if ((data & OPERATION_MASK) == OPERATION_ACCEPT && result >= 0) {
        if (current)
            r->base.callbacks.on_accept(result, w->fd, r->base.callbacks.context);
        else
            close(result);
    } else if (current && w->operation == OPERATION_POLL && result > 0) {
        r->base.callbacks.on_readable(w->fd, r->base.callbacks.context);
    }
    if ((flags & IORING_CQE_F_MORE) || !current)
        return;
    w->armed = false;
    if (result >= 0 || result == -ECONNABORTED || result == -EINTR)
        arm_watched(r, w);
    else
        r->accept_retry_us =
            clock_monotonic_us() + ACCEPT_RETRY_US; /* out of descriptors, most likely */
}

static void retry_accept(struct io_ring *r) {
    if (clock_monotonic_us() < r->accept_retry_us)
        return;
    r->accept_retry_us = 0;
    for (unsigned i = 0; i < WATCHED_MAX; i++)
        if (r->watched[i].operation != OPERATION_NONE && !r->watched[i].armed)
            arm_watched(r, &r->watched[i]);
}

static void deliver(struct io_ring *r, uint64_t data, int result, unsigned flags) {
    struct io_connection *c = (struct io_connection *)(uintptr_t)(data & ~(uint64_t)OPERATION_MASK);
    switch ((enum operation)(data & OPERATION_MASK)) {
    case OPERATION_RECEIVE:
        on_receive(r, c, result, flags);
        break;
    case OPERATION_SEND:
        on_sent(r, c, result);
        break;
    case OPERATION_ACCEPT:
    case OPERATION_POLL:
        on_watched(r, data, result, flags);
        break;
    case OPERATION_CANCEL:
        on_cancelled(r, c);
        break;
    case OPERATION_NONE:
        break;
    }
}

static int deliver_ready(struct io_ring *r) {
    struct io_uring_cqe *cqes[COMPLETIONS_PER_POLL];
    unsigned n = io_uring_peek_batch_cqe(&r->ring, cqes, COMPLETIONS_PER_POLL);
    for (unsigned i = 0; i < n; i++)
        deliver(r, cqes[i]->user_data, cqes[i]->res, cqes[i]->flags);
    io_uring_cq_advance(&r->ring, n);
    return (int)n;
}

static bool uring_pending(struct io *io) {
    struct io_ring *r = (struct io_ring *)io;
    return r->ended || io_uring_cq_ready(&r->ring) > 0 ||
           (__atomic_load_n(r->ring.sq.kflags, __ATOMIC_RELAXED) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

static int uring_poll(struct io *io, int64_t timeout_us, void (*before_block)(void *),
                      void (*after_block)(void *), void *context) {
    struct io_ring *r = (struct io_ring *)io;
    if (UNLIKELY(r->accept_retry_us))
        retry_accept(r);
    int ended = report_ended(r);
    if (timeout_us != 0 && (ended || uring_pending(io)))
        timeout_us = 0;
    if (timeout_us == 0) {
        io_uring_submit_and_get_events(&r->ring);
    } else {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec timeout = {.tv_sec = timeout_us / 1000000,
                                            .tv_nsec = timeout_us % 1000000 * 1000};
        before_block(context);
        io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, timeout_us > 0 ? &timeout : NULL, NULL);
        after_block(context);
    }
    return ended + deliver_ready(r);
}

static void uring_release_buffers(struct io *io) {
    struct io_ring *r = (struct io_ring *)io;
    for (unsigned i = 0; i < r->used_count; i++)
        io_uring_buf_ring_add(r->buffer_ring, buffer_at(r, r->used[i]), IO_BUFFER_BYTES, r->used[i],
                              io_uring_buf_ring_mask(BUFFER_COUNT), (int)i);
    if (r->used_count > 0)
        io_uring_buf_ring_advance(r->buffer_ring, (int)r->used_count);
    r->used_count = 0;
    unsigned n = r->starved_count;
    r->starved_count = 0;
    for (unsigned i = 0; i < n; i++) {
        struct io_connection *c = r->starved[i];
        if (!c->armed && c->receiving && !c->closing && !c->detaching)
            arm_receive(r, c);
    }
}

const struct io_backend io_backend_uring = {
    .name = "io_uring",
    .create = uring_create,
    .destroy = uring_destroy,
    .listen = uring_listen,
    .unlisten = uring_unlisten,
    .watch_fd = uring_watch_fd,
    .attach = uring_attach,
    .receive_stop = uring_receive_stop,
    .receive_start = uring_receive_start,
    .flush = uring_flush,
    .close = uring_close,
    .detach = uring_detach,
    .poll = uring_poll,
    .pending = uring_pending,
    .release_buffers = uring_release_buffers,
};

#else
/* Nothing without liburing. */
typedef int io_uring_is_not_built;
#endif
