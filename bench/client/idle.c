/*
 * Idle connections. See idle.h.
 */
#include "bench/client/idle.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/common/clock.h"
#include "bench/common/net.h"

/* A connection is established in the kernel before the server has accepted it; the reply to PING
 * says that it has. */
static void ping(int fd, uint64_t number) {
    static const char command[] = "*1\r\n$4\r\nPING\r\n";
    char reply[128];
    if (net_send_all(fd, command, sizeof(command) - 1) < 0) {
        die("connection %llu: %s", (unsigned long long)number, strerror(errno));
    }
    ssize_t length = recv(fd, reply, sizeof(reply) - 1, 0);
    if (length <= 0 || reply[0] == '-') {
        reply[length > 0 ? length : 0] = '\0';
        die("connection %llu was refused: %s", (unsigned long long)number, reply);
    }
}

/* Waits until the time is over or whoever started us closes our standard input. */
static void hold(double seconds) {
    uint64_t end_ns = clock_now_ns() + (uint64_t)(seconds * (double)NS_PER_SECOND);
    for (uint64_t now_ns = clock_now_ns(); now_ns < end_ns; now_ns = clock_now_ns()) {
        char ignored[256];
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        int ready = poll(&input, 1, (int)((end_ns - now_ns) / 1000000) + 1);
        if (ready > 0 && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0) {
            return;
        }
    }
}

int idle_run(const struct options *options) {
    unsigned long limit = net_raise_file_limit(options->idle + 64);
    if (limit < options->idle + 16) {
        die("only %lu open files are allowed: too few for %llu connections", limit,
            (unsigned long long)options->idle);
    }
    int *fds = malloc(options->idle * sizeof(*fds));
    for (uint64_t i = 0; i < options->idle; i++) {
        fds[i] = net_connect(options->host, options->port, options->socket_path);
        if (fds[i] < 0) {
            die("connection %llu: %s", (unsigned long long)i, strerror(errno));
        }
        ping(fds[i], i);
    }
    printf("{\"idle_connections\": %llu}\n", (unsigned long long)options->idle);
    fflush(stdout);
    hold(options->hold_seconds);
    for (uint64_t i = 0; i < options->idle; i++) {
        close(fds[i]);
    }
    free(fds);
    return 0;
}
