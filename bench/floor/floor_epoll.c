/*
 * The floor server on epoll: one receive and one send for whatever has arrived on a connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/common/net.h"
#include "bench/floor/floor.h"

#define EVENTS_PER_WAIT 256

static void take_connections(int epoll_fd, int intake_fd, uint32_t *carried) {
    int fds[64];
    ssize_t length = read(intake_fd, fds, sizeof(fds));
    for (ssize_t i = 0; i < length / (ssize_t)sizeof(int); i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        carried[fds[i]] = 0;
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event);
    }
}

/* Blocking sends: a client that does not read stops this thread. The floor serves only our own
 * client. */
static int answer(const struct floor_options *options, int fd, size_t count) {
    while (count > 0) {
        size_t part = count < FLOOR_MAX_REPLIES ? count : FLOOR_MAX_REPLIES;
        if (net_send_all(fd, options->replies, part * options->reply_bytes) < 0) {
            return -1;
        }
        count -= part;
    }
    return 0;
}

void *floor_epoll_thread(void *argument) {
    struct floor_thread *thread = argument;
    struct epoll_event events[EVENTS_PER_WAIT];
    char *inbox = malloc(FLOOR_INBOX_BYTES);
    uint32_t *carried = calloc(FLOOR_MAX_FD, sizeof(*carried));
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event intake = {.events = EPOLLIN, .data.fd = thread->intake_fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, thread->intake_fd, &intake);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == thread->intake_fd) {
                take_connections(epoll_fd, fd, carried);
                continue;
            }
            ssize_t length = recv(fd, inbox, FLOOR_INBOX_BYTES, MSG_DONTWAIT);
            if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
                continue;
            }
            if (length <= 0 ||
                answer(thread->options, fd,
                       floor_count(thread->options, inbox, (size_t)length, &carried[fd])) < 0) {
                close(fd);
            }
        }
    }
    return NULL;
}
