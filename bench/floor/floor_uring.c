/*
 * The floor server on io_uring: multishot receive into buffers that the kernel picks, the sends of
 * a turn submitted with its wait.
 *
 * A send's success is not reported (CQE_SKIP_SUCCESS), so several may be on their way on one
 * connection; all replies being equal, only whole ones must not interleave, which MSG_WAITALL and
 * replies far smaller than a socket buffer see to.
 */
#include "bench/common/net.h"
#include "bench/floor/floor.h"

#ifndef BENCH_HAVE_URING

void *floor_uring_thread(void *argument) {
    (void)argument;
    die("built without liburing");
}

#else

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_ENTRIES 1024
#define BUFFER_COUNT 256 /* a power of two */
#define BUFFER_BYTES 16384
#define BUFFER_GROUP 1
#define INTAKE_TAG   UINT64_MAX
#define SEND_TAG     (UINT64_MAX - 1)

struct uring_server {
    struct floor_thread *thread;
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    uint32_t *carried;
    int intake[64];
};

static struct io_uring_sqe *get_sqe(struct uring_server *server) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);
    while (sqe == NULL) {
        io_uring_submit(&server->ring);
        sqe = io_uring_get_sqe(&server->ring);
    }
    return sqe;
}

static void arm_intake(struct uring_server *server) {
    struct io_uring_sqe *sqe = get_sqe(server);
    io_uring_prep_read(sqe, server->thread->intake_fd, server->intake, sizeof(server->intake), 0);
    io_uring_sqe_set_data64(sqe, INTAKE_TAG);
}

static void arm_receive(struct uring_server *server, int fd) {
    struct io_uring_sqe *sqe = get_sqe(server);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, (uint64_t)fd);
}

static void answer(struct uring_server *server, int fd, size_t count) {
    const struct floor_options *options = server->thread->options;
    while (count > 0) {
        size_t part = count < FLOOR_MAX_REPLIES ? count : FLOOR_MAX_REPLIES;
        struct io_uring_sqe *sqe = get_sqe(server);
        io_uring_prep_send(sqe, fd, options->replies, part * options->reply_bytes,
                           MSG_WAITALL | MSG_NOSIGNAL);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, SEND_TAG);
        count -= part;
    }
}

static void give_back(struct uring_server *server, unsigned buffer) {
    io_uring_buf_ring_add(server->buffer_ring, server->buffers + (size_t)buffer * BUFFER_BYTES,
                          BUFFER_BYTES, (unsigned short)buffer,
                          io_uring_buf_ring_mask(BUFFER_COUNT), 0);
    io_uring_buf_ring_advance(server->buffer_ring, 1);
}

static void take_received(struct uring_server *server, const struct io_uring_cqe *cqe) {
    int fd = (int)cqe->user_data;
    if (cqe->res > 0) {
        unsigned buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        size_t count =
            floor_count(server->thread->options, server->buffers + (size_t)buffer * BUFFER_BYTES,
                        (size_t)cqe->res, &server->carried[fd]);
        give_back(server, buffer);
        answer(server, fd, count);
    } else if (cqe->res != -ENOBUFS) {
        close(fd);
        return;
    }
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) {
        arm_receive(server, fd);
    }
}

static void take_completion(struct uring_server *server, const struct io_uring_cqe *cqe) {
    if (cqe->user_data == SEND_TAG) {
        return; /* failed: the receive will see it too */
    }
    if (cqe->user_data != INTAKE_TAG) {
        take_received(server, cqe);
        return;
    }
    for (int i = 0; i < cqe->res / (int)sizeof(int); i++) {
        server->carried[server->intake[i]] = 0;
        arm_receive(server, server->intake[i]);
    }
    arm_intake(server);
}

static void set_up(struct uring_server *server) {
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = RING_ENTRIES * 8,
    };
    size_t ring_bytes = BUFFER_COUNT * sizeof(struct io_uring_buf);
    if (io_uring_queue_init_params(RING_ENTRIES, &server->ring, &params) < 0) {
        die("this kernel gives us no io_uring");
    }
    server->buffer_ring =
        mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    server->buffers = malloc((size_t)BUFFER_COUNT * BUFFER_BYTES);
    server->carried = calloc(FLOOR_MAX_FD, sizeof(*server->carried));
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)server->buffer_ring,
        .ring_entries = BUFFER_COUNT,
        .bgid = BUFFER_GROUP,
    };
    if (io_uring_register_buf_ring(&server->ring, &registration, 0) < 0) {
        die("this kernel has no provided buffers");
    }
    io_uring_buf_ring_init(server->buffer_ring);
    for (unsigned i = 0; i < BUFFER_COUNT; i++) {
        give_back(server, i);
    }
}

void *floor_uring_thread(void *argument) {
    static _Thread_local struct uring_server server;
    server.thread = argument;
    set_up(&server);
    arm_intake(&server);
    for (;;) {
        io_uring_submit_and_wait(&server.ring, 1);
        struct io_uring_cqe *cqe = NULL;
        unsigned head = 0;
        unsigned seen = 0;
        io_uring_for_each_cqe(&server.ring, head, cqe) {
            take_completion(&server, cqe);
            seen++;
        }
        io_uring_cq_advance(&server.ring, seen);
    }
    return NULL;
}

#endif
