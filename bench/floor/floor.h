/*
 * bench_floor: a server that answers every command with the same reply and looks at nothing.
 *
 * It counts commands, by their '*' or by a fixed length, because a client that gets no reply sends
 * no more; everything else that it spends is the kernel's. What a real server costs beyond it is
 * what its authors can still save.
 */
#ifndef BENCH_FLOOR_FLOOR_H
#define BENCH_FLOOR_FLOOR_H

#include <stddef.h>
#include <stdint.h>

#define FLOOR_MAX_REPLIES 4096 /* that can be sent at once */
#define FLOOR_INBOX_BYTES 65536
#define FLOOR_MAX_FD      65536
#define FLOOR_MAX_THREADS 64

/* Constant after start. */
struct floor_options {
    size_t request_bytes; /* 0: count '*' */
    char *replies;        /* FLOOR_MAX_REPLIES copies of the reply */
    size_t reply_bytes;
};

/* A serving thread. The main thread accepts, and hands over descriptors through a pipe. */
struct floor_thread {
    const struct floor_options *options;
    int intake_fd;  /* the reading end: ints, one a connection */
    int handing_fd; /* the writing end, main thread only */
};

/* How many commands begin (or, with a fixed length, end) in what has arrived. `carried` is the
 * connection's, 0 at first. */
static inline size_t floor_count(const struct floor_options *options, const char *data,
                                 size_t length, uint32_t *carried) {
    if (options->request_bytes > 0) {
        size_t total = *carried + length;
        *carried = (uint32_t)(total % options->request_bytes);
        return total / options->request_bytes;
    }
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        count += data[i] == '*';
    }
    return count;
}

/* The serving loops: never return. The argument is a struct floor_thread. */
void *floor_epoll_thread(void *argument);
void *floor_uring_thread(void *argument);

#endif
