/* The scripted kernel as epoll and the plain socket calls show it: see fake_kernel.h. */
#ifndef SLOTWISE_TESTS_FAKE_EPOLL_H
#define SLOTWISE_TESTS_FAKE_EPOLL_H

#include <sys/epoll.h>

#include "tests/unit/server/fake_kernel.h"

#define FAKE_REGISTRATIONS 128

struct fake_registration {
    bool used;
    int epoll_fd, fd;
    struct epoll_event event;
};

static struct fake_registration fake_registrations[FAKE_REGISTRATIONS];

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms);
ssize_t __wrap_recv(int fd, void *buffer, size_t length, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);

static struct fake_registration *fake_registered(int epoll_fd, int fd) {
    for (unsigned i = 0; i < FAKE_REGISTRATIONS; i++)
        if (fake_registrations[i].used && fake_registrations[i].fd == fd &&
            (epoll_fd < 0 || fake_registrations[i].epoll_fd == epoll_fd))
            return &fake_registrations[i];
    return NULL;
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event) {
    if (!fake_socket(fd))
        return __real_epoll_ctl(epoll_fd, operation, fd, event);
    fake_open_socket(fd);
    struct fake_registration *found = fake_registered(epoll_fd, fd);
    if ((operation == EPOLL_CTL_ADD) == (found != NULL)) {
        errno = found ? EEXIST : ENOENT;
        return -1;
    }
    if (operation == EPOLL_CTL_DEL) {
        found->used = false;
        return 0;
    }
    for (unsigned i = 0; i < FAKE_REGISTRATIONS && !found; i++)
        if (!fake_registrations[i].used)
            found = &fake_registrations[i];
    cr_assert_not_null(found);
    *found = (struct fake_registration){true, epoll_fd, fd, *event};
    return 0;
}

static void fake_epoll_forget(int fd) {
    struct fake_registration *found;
    while ((found = fake_registered(-1, fd)))
        found->used = false;
}

/* Level-triggered, errors and the end of both directions reported whether asked for or not. */
static uint32_t fake_ready(const struct fake_registration *registration) {
    const struct fake_socket *s = fake_open_socket(registration->fd);
    const struct fake_step *step = fake_next_step(registration->fd);
    uint32_t ready = 0;
    if (step || s->shut)
        ready |= EPOLLIN;
    if (step && step->kind == STEP_RESET)
        ready |= EPOLLERR | EPOLLHUP;
    if (s->room > 0 || s->send_error)
        ready |= EPOLLOUT;
    return ready & (registration->event.events | EPOLLERR | EPOLLHUP);
}

int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int room, int timeout_ms) {
    int n = 0;
    (void)timeout_ms;
    for (unsigned i = 0; i < FAKE_REGISTRATIONS && n < room; i++) {
        const struct fake_registration *registration = &fake_registrations[i];
        if (!registration->used || registration->epoll_fd != epoll_fd)
            continue;
        uint32_t ready = fake_ready(registration);
        if (ready)
            events[n++] = (struct epoll_event){ready, registration->event.data};
    }
    return n;
}

static ssize_t fake_result(int64_t result) {
    if (result >= 0)
        return (ssize_t)result;
    errno = (int)-result;
    return -1;
}

ssize_t __wrap_recv(int fd, void *buffer, size_t length, int flags) {
    (void)flags;
    return fake_result(fake_receive(fd, buffer, length));
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags) {
    cr_expect(flags & MSG_NOSIGNAL);
    return fake_result(fake_send(fd, message->msg_iov, message->msg_iovlen));
}

ssize_t __wrap_send(int fd, const void *data, size_t length, int flags) {
    cr_expect(flags & MSG_NOSIGNAL);
    const struct iovec vector = {(void *)(uintptr_t)data, length};
    return fake_result(fake_send(fd, &vector, 1));
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    (void)address, (void)length;
    cr_expect(flags & SOCK_NONBLOCK);
    return (int)fake_result(fake_accept(fd));
}

#endif
