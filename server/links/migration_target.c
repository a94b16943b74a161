/* See migration_target.h. */
#include "server/links/migration_target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/memory.h"

#define LOOK_MS 50 /* how soon the end of the process is noticed */

static uint64_t now_ms(void) {
    return clock_monotonic_us() / 1000;
}

/* Waits for an event on the socket. false: it did not come within the time, or the process ends. */
static bool await(struct migration_targets *targets, int fd, short events, uint64_t timeout_ms) {
    uint64_t until_ms = now_ms() + timeout_ms;
    targets->timed_out = false;
    for (;;) {
        if (atomic_load(targets->cancelled))
            return false;
        uint64_t at_ms = now_ms();
        if (at_ms >= until_ms)
            break;
        uint64_t left_ms = until_ms - at_ms;
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int n = poll(&poll_fd, 1, (int)(left_ms < LOOK_MS ? left_ms : LOOK_MS));
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    targets->timed_out = true;
    return false;
}

static bool connect_one(struct migration_targets *targets, int fd, const struct addrinfo *address,
                        uint64_t timeout_ms) {
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return true;
    if (errno != EINPROGRESS || !await(targets, fd, POLLOUT, timeout_ms))
        return false;
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return error == 0;
}

/* The descriptor, or -1. */
static int connect_any(struct migration_targets *targets, const char *host, const char *port,
                       uint64_t timeout_ms) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return -1;
    int connected = -1;
    for (const struct addrinfo *at = found; at && connected < 0; at = at->ai_next) {
        int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        if (connect_one(targets, fd, at, timeout_ms))
            connected = fd;
        else
            close(fd);
    }
    freeaddrinfo(found);
    int one = 1;
    if (connected >= 0)
        setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return connected;
}

/* A free place, or that of the one that was used the longest ago, which is closed. */
static struct migration_target *make_room(struct migration_targets *targets) {
    struct migration_target *oldest = &targets->of[0];
    for (size_t i = 0; i < MIGRATION_TARGETS; i++) {
        if (!targets->of[i].name)
            return &targets->of[i];
        if (targets->of[i].used_ms < oldest->used_ms)
            oldest = &targets->of[i];
    }
    migration_target_close(oldest);
    return oldest;
}

struct migration_target *migration_target_open(struct migration_targets *targets, const char *host,
                                               const char *port, uint64_t timeout_ms) {
    size_t size = strlen(host) + strlen(port) + 2;
    char *name = memory_alloc(size);
    snprintf(name, size, "%s:%s", host, port);
    for (size_t i = 0; i < MIGRATION_TARGETS; i++) {
        struct migration_target *target = &targets->of[i];
        if (target->name && strcmp(target->name, name) == 0) {
            memory_free(name);
            target->used_ms = now_ms();
            return target;
        }
    }
    int fd = connect_any(targets, host, port, timeout_ms);
    if (fd < 0) {
        memory_free(name);
        return NULL;
    }
    struct migration_target *target = make_room(targets);
    target->name = name;
    target->fd = fd;
    target->database = -1;
    target->used_ms = now_ms();
    target->begin = target->end = 0;
    return target;
}

void migration_target_close(struct migration_target *target) {
    if (!target->name)
        return;
    close(target->fd);
    memory_free(target->name);
    target->name = NULL;
}

void migration_targets_close_idle(struct migration_targets *targets) {
    for (size_t i = 0; i < MIGRATION_TARGETS; i++)
        if (targets->of[i].name &&
            targets->of[i].used_ms + MIGRATION_TARGET_IDLE_S * 1000 <= now_ms())
            migration_target_close(&targets->of[i]);
}

unsigned migration_targets_count(const struct migration_targets *targets) {
    unsigned count = 0;
    for (size_t i = 0; i < MIGRATION_TARGETS; i++)
        count += atomic_load_explicit(&targets->of[i].name, memory_order_relaxed) != NULL;
    return count;
}

void migration_targets_close(struct migration_targets *targets) {
    for (size_t i = 0; i < MIGRATION_TARGETS; i++)
        migration_target_close(&targets->of[i]);
}

bool migration_target_send(struct migration_targets *targets, struct migration_target *target,
                           const void *data, size_t length, uint64_t timeout_ms) {
    const char *at = data;
    while (length > 0) {
        ssize_t n = send(target->fd, at, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (!await(targets, target->fd, POLLOUT, timeout_ms))
                return false;
            continue;
        }
        if (n < 0) {
            targets->timed_out = false;
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

/* More bytes into the empty buffer. */
static bool receive(struct migration_targets *targets, struct migration_target *target,
                    uint64_t timeout_ms) {
    for (;;) {
        ssize_t n = recv(target->fd, target->buffer, sizeof target->buffer, 0);
        if (n > 0) {
            target->begin = 0;
            target->end = (size_t)n;
            return true;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || errno != EAGAIN) {
            targets->timed_out = false;
            return false;
        }
        if (!await(targets, target->fd, POLLIN, timeout_ms))
            return false;
    }
}

bool migration_target_read_line(struct migration_targets *targets, struct migration_target *target,
                                char *line, size_t size, uint64_t timeout_ms) {
    size_t length = 0;
    for (;;) {
        if (target->begin == target->end && !receive(targets, target, timeout_ms))
            return false;
        char byte = target->buffer[target->begin++];
        if (byte == '\n')
            break;
        if (length + 1 < size)
            line[length++] = byte;
    }
    if (length > 0 && line[length - 1] == '\r')
        length--;
    line[length] = '\0';
    return true;
}
