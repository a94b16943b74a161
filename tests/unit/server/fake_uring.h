/* The scripted kernel as io_uring shows it: see fake_kernel.h.
 *
 * The rings are plain memory, which liburing's inline functions use as they would the kernel's;
 * what enters the kernel is redirected to here. Everything that is ready at a submission is
 * completed in one window. A cancellation finds its operation, or comes too late
 * (fake_cancel_too_late), as in the kernel when the operation is just being done: then that goes
 * on. Output of an operation in flight must stay readable: it is read when the peer takes it. */
#ifndef SLOTWISE_TESTS_FAKE_URING_H
#define SLOTWISE_TESTS_FAKE_URING_H

#ifdef SLOTWISE_IO_URING
#include <liburing.h>
#endif

#include "tests/unit/server/fake_kernel.h"

#ifdef SLOTWISE_IO_URING

#define FAKE_RINGS       2
#define FAKE_FLIGHTS     128
#define FAKE_SUBMISSIONS 512
#define FAKE_COMPLETIONS 1024

/* An operation in flight. */
struct fake_flight {
    bool used;
    struct io_uring_sqe sqe;
};

struct fake_ring {
    struct io_uring *ring;
    unsigned sq_head, sq_tail, sq_flags, sq_dropped, sq_mask, sq_entries;
    unsigned cq_head, cq_tail, cq_flags, cq_overflow, cq_mask, cq_entries;
    unsigned array[FAKE_SUBMISSIONS];
    struct io_uring_sqe sqes[FAKE_SUBMISSIONS];
    struct io_uring_cqe cqes[FAKE_COMPLETIONS];
    struct io_uring_buf_ring *buffers;
    unsigned buffer_count;
    uint16_t buffer_head;
    struct fake_flight flights[FAKE_FLIGHTS];
};

static struct fake_ring fake_rings[FAKE_RINGS];
static bool fake_cancel_too_late;
static bool fake_no_buffers; /* as if others had taken them all */
static unsigned fake_cancels;

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *parameters);
void __wrap_io_uring_queue_exit(struct io_uring *ring);
int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *registration,
                                      unsigned flags);
int __wrap_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring);
int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                            unsigned count, struct __kernel_timespec *timeout,
                                            sigset_t *mask);

static struct fake_ring *fake_ring_of(const struct io_uring *ring) {
    for (unsigned i = 0; i < FAKE_RINGS; i++)
        if (fake_rings[i].ring == ring)
            return &fake_rings[i];
    cr_assert_fail("an unknown ring");
    return NULL;
}

int __wrap_io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                                      struct io_uring_params *parameters) {
    struct fake_ring *f = fake_ring_of(NULL);
    cr_assert_leq(entries, FAKE_SUBMISSIONS);
    (void)parameters;
    memset(ring, 0, sizeof *ring);
    *f = (struct fake_ring){.ring = ring,
                            .sq_mask = FAKE_SUBMISSIONS - 1,
                            .sq_entries = FAKE_SUBMISSIONS,
                            .cq_mask = FAKE_COMPLETIONS - 1,
                            .cq_entries = FAKE_COMPLETIONS};
    ring->sq = (struct io_uring_sq){.khead = &f->sq_head,
                                    .ktail = &f->sq_tail,
                                    .kring_mask = &f->sq_mask,
                                    .kring_entries = &f->sq_entries,
                                    .kflags = &f->sq_flags,
                                    .kdropped = &f->sq_dropped,
                                    .array = f->array,
                                    .sqes = f->sqes,
                                    .ring_mask = f->sq_mask,
                                    .ring_entries = f->sq_entries};
    ring->cq = (struct io_uring_cq){.khead = &f->cq_head,
                                    .ktail = &f->cq_tail,
                                    .kring_mask = &f->cq_mask,
                                    .kring_entries = &f->cq_entries,
                                    .kflags = &f->cq_flags,
                                    .koverflow = &f->cq_overflow,
                                    .cqes = f->cqes,
                                    .ring_mask = f->cq_mask,
                                    .ring_entries = f->cq_entries};
    ring->ring_fd = ring->enter_ring_fd = -1;
    return 0;
}

void __wrap_io_uring_queue_exit(struct io_uring *ring) {
    fake_ring_of(ring)->ring = NULL;
}

int __wrap_io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *registration,
                                      unsigned flags) {
    (void)flags;
    struct fake_ring *f = fake_ring_of(ring);
    f->buffers = (struct io_uring_buf_ring *)(uintptr_t)registration->ring_addr;
    f->buffer_count = registration->ring_entries;
    return 0;
}

/* --- Completing ---------------------------------------------------------------------------------
 */

static void fake_complete(struct fake_ring *f, uint64_t user_data, int result, unsigned flags) {
    cr_assert_lt(f->cq_tail - f->cq_head, FAKE_COMPLETIONS);
    f->cqes[f->cq_tail & f->cq_mask] =
        (struct io_uring_cqe){.user_data = user_data, .res = result, .flags = flags};
    __atomic_store_n(&f->cq_tail, f->cq_tail + 1, __ATOMIC_RELEASE);
}

static void fake_finish(struct fake_ring *f, struct fake_flight *flight, int result) {
    flight->used = false;
    fake_complete(f, flight->sqe.user_data, result, 0);
}

/* Whether a cancellation is for that operation. */
static bool fake_cancel_matches(const struct io_uring_sqe *cancel, const struct io_uring_sqe *sqe) {
    if (cancel->cancel_flags & IORING_ASYNC_CANCEL_ANY)
        return true;
    if (cancel->cancel_flags & IORING_ASYNC_CANCEL_FD)
        return sqe->fd == cancel->fd;
    return sqe->user_data == cancel->addr;
}

static void fake_cancel(struct fake_ring *f, const struct io_uring_sqe *cancel) {
    int found = 0;
    fake_cancels++;
    for (unsigned i = 0; i < FAKE_FLIGHTS; i++) {
        struct fake_flight *flight = &f->flights[i];
        if (!flight->used || !fake_cancel_matches(cancel, &flight->sqe))
            continue;
        if (!fake_cancel_too_late)
            fake_finish(f, flight, -ECANCELED);
        found++;
        if (!(cancel->cancel_flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY)))
            break;
    }
    bool all = cancel->cancel_flags & (IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY);
    int result = found == 0 ? -ENOENT : fake_cancel_too_late ? -EALREADY : all ? found : 0;
    fake_complete(f, cancel->user_data, result, 0);
}

static void fake_submit_all(struct fake_ring *f) {
    struct io_uring_sq *sq = &f->ring->sq;
    for (; sq->sqe_head != sq->sqe_tail; sq->sqe_head++) {
        const struct io_uring_sqe *sqe = &f->sqes[sq->sqe_head & f->sq_mask];
        if (sqe->opcode == IORING_OP_ASYNC_CANCEL) {
            fake_cancel(f, sqe);
            continue;
        }
        unsigned i = 0;
        while (i < FAKE_FLIGHTS && f->flights[i].used)
            i++;
        cr_assert_lt(i, FAKE_FLIGHTS);
        f->flights[i] = (struct fake_flight){true, *sqe};
    }
    __atomic_store_n(&f->sq_head, sq->sqe_head, __ATOMIC_RELEASE);
}

/* One piece of input into one provided buffer; false: this receive gets no more. */
static bool fake_receive_once(struct fake_ring *f, struct fake_flight *flight) {
    const struct fake_step *step = fake_next_step(flight->sqe.fd);
    if (!step || step->kind != STEP_DATA || fake_open_socket(flight->sqe.fd)->shut) {
        fake_finish(f, flight, fake_receive(flight->sqe.fd, NULL, 0));
        return false;
    }
    uint16_t tail = __atomic_load_n(&f->buffers->tail, __ATOMIC_ACQUIRE);
    if (fake_no_buffers || f->buffer_head == tail) {
        fake_finish(f, flight, -ENOBUFS);
        return false;
    }
    const struct io_uring_buf *buffer =
        &f->buffers->bufs[f->buffer_head++ & (uint16_t)(f->buffer_count - 1)];
    int n = fake_receive(flight->sqe.fd, (char *)(uintptr_t)buffer->addr, buffer->len);
    unsigned flags = IORING_CQE_F_BUFFER | (unsigned)buffer->bid << IORING_CQE_BUFFER_SHIFT;
    fake_complete(f, flight->sqe.user_data, n, flags | IORING_CQE_F_MORE);
    return true;
}

static void fake_accept_all(struct fake_ring *f, struct fake_flight *flight) {
    while (flight->used && fake_next_step(flight->sqe.fd)) {
        int result = fake_accept(flight->sqe.fd);
        if (result < 0)
            fake_finish(f, flight, result);
        else
            fake_complete(f, flight->sqe.user_data, result, IORING_CQE_F_MORE);
    }
}

/* A send with MSG_WAITALL ends when all has been taken, or with what was taken when an error
 * comes; here it ends also when the test gives it room for a part. */
static void fake_send_once(struct fake_ring *f, struct fake_flight *flight) {
    const struct io_uring_sqe *sqe = &flight->sqe;
    cr_expect(sqe->msg_flags & MSG_NOSIGNAL);
    struct iovec one = {(void *)(uintptr_t)sqe->addr, sqe->len};
    const struct iovec *vectors = &one;
    size_t count = 1;
    if (sqe->opcode == IORING_OP_SENDMSG) {
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
        vectors = message->msg_iov;
        count = message->msg_iovlen;
    }
    int64_t result = fake_send(sqe->fd, vectors, count);
    if (result != -EAGAIN)
        fake_finish(f, flight, (int)result);
}

static void fake_advance(struct fake_ring *f, struct fake_flight *flight) {
    switch (flight->sqe.opcode) {
    case IORING_OP_RECV:
        while (flight->used &&
               (fake_next_step(flight->sqe.fd) || fake_open_socket(flight->sqe.fd)->shut) &&
               fake_receive_once(f, flight))
            ;
        break;
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        fake_send_once(f, flight);
        break;
    case IORING_OP_ACCEPT:
        fake_accept_all(f, flight);
        break;
    case IORING_OP_POLL_ADD:
        break;
    default:
        cr_assert_fail("the fake does not know operation %d", flight->sqe.opcode);
    }
}

/* All that is ready. Sends that end come before what is received if fake_sends_first. */
static bool fake_sends_first;

static void fake_window(struct fake_ring *f) {
    for (int pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < FAKE_FLIGHTS; i++) {
            struct fake_flight *flight = &f->flights[i];
            bool sends =
                flight->sqe.opcode == IORING_OP_SEND || flight->sqe.opcode == IORING_OP_SENDMSG;
            if (flight->used && sends == (fake_sends_first ? pass == 0 : pass == 1))
                fake_advance(f, flight);
        }
}

int __wrap_io_uring_submit(struct io_uring *ring) {
    fake_submit_all(fake_ring_of(ring));
    return 0;
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *ring) {
    struct fake_ring *f = fake_ring_of(ring);
    fake_submit_all(f);
    fake_window(f);
    return 0;
}

int __wrap_io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe,
                                            unsigned count, struct __kernel_timespec *timeout,
                                            sigset_t *mask) {
    (void)cqe, (void)count, (void)timeout, (void)mask;
    return __wrap_io_uring_submit_and_get_events(ring);
}

/* A closed descriptor's operations go on in the kernel; the backend must have ended them. */
static void fake_uring_forget(int fd) {
    for (unsigned i = 0; i < FAKE_RINGS; i++)
        for (unsigned k = 0; fake_rings[i].ring && k < FAKE_FLIGHTS; k++)
            cr_expect(!fake_rings[i].flights[k].used || fake_rings[i].flights[k].sqe.fd != fd,
                      "descriptor %d is closed with an operation in flight", fd);
}

#endif
#endif
