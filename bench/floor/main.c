/*
 * bench_floor: command line, and the thread that accepts. See floor.h.
 */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/common/net.h"
#include "bench/floor/floor.h"

static const char usage[] =
    "bench_floor: answers every RESP command with the same reply without parsing it.\n"
    "\n"
    "  --port N           (6390, on 127.0.0.1)\n"
    "  --threads N        serving threads (1)\n"
    "  --backend NAME     epoll (default) | io_uring\n"
    "  --reply KIND       get (a bulk string, default) | set (+OK)\n"
    "  --value-bytes N    length of the bulk string (64)\n"
    "  --request-bytes N  count commands by their length, all being equal, and not by their '*'\n";

struct settings {
    int port;
    int threads;
    bool uring;
    bool set;
    size_t value_bytes;
    size_t request_bytes;
};

static size_t number(const char *text, size_t most) {
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value > most) {
        die("'%s' is no number up to %zu", text, most);
    }
    return value;
}

static void parse(int argc, char **argv, struct settings *settings) {
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},
        {"threads", required_argument, NULL, 't'},
        {"backend", required_argument, NULL, 'b'},
        {"reply", required_argument, NULL, 'r'},
        {"value-bytes", required_argument, NULL, 'v'},
        {"request-bytes", required_argument, NULL, 'n'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option = 0;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'p':
            settings->port = (int)number(optarg, 65535);
            break;
        case 't':
            settings->threads = (int)number(optarg, FLOOR_MAX_THREADS);
            break;
        case 'b':
            settings->uring = strcmp(optarg, "io_uring") == 0;
            if (!settings->uring && strcmp(optarg, "epoll") != 0) {
                die("--backend is epoll or io_uring");
            }
            break;
        case 'r':
            settings->set = strcmp(optarg, "set") == 0;
            break;
        case 'v':
            settings->value_bytes = number(optarg, 1 << 20);
            break;
        case 'n':
            settings->request_bytes = number(optarg, 1 << 20);
            break;
        case 'h':
            fputs(usage, stdout);
            exit(0);
        default:
            die("see bench_floor --help");
        }
    }
    if (optind != argc || settings->threads < 1) {
        die("see bench_floor --help");
    }
}

static void make_replies(const struct settings *settings, struct floor_options *options) {
    char *reply = malloc(settings->value_bytes + 64);
    int header = sprintf(reply, "$%zu\r\n", settings->value_bytes);
    memset(reply + header, 'x', settings->value_bytes);
    memcpy(reply + header + settings->value_bytes, "\r\n", 2);
    options->reply_bytes = (size_t)header + settings->value_bytes + 2;
    if (settings->set) {
        options->reply_bytes = (size_t)sprintf(reply, "+OK\r\n");
    }
    options->request_bytes = settings->request_bytes;
    options->replies = malloc(options->reply_bytes * FLOOR_MAX_REPLIES);
    for (size_t i = 0; i < FLOOR_MAX_REPLIES; i++) {
        memcpy(options->replies + i * options->reply_bytes, reply, options->reply_bytes);
    }
    free(reply);
}

static void accept_forever(int listener, struct floor_thread *threads, int count) {
    for (int next = 0;; next = (next + 1) % count) {
        int one = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            die("accept: %s", strerror(errno));
        }
        if (fd >= FLOOR_MAX_FD) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (write(threads[next].handing_fd, &fd, sizeof(fd)) != sizeof(fd)) {
            die("pipe: %s", strerror(errno));
        }
    }
}

int main(int argc, char **argv) {
    struct settings settings = {.port = 6390, .threads = 1, .value_bytes = 64};
    static struct floor_options options;
    static struct floor_thread threads[FLOOR_MAX_THREADS];
    parse(argc, argv, &settings);
    make_replies(&settings, &options);
    signal(SIGPIPE, SIG_IGN);
    net_raise_file_limit(FLOOR_MAX_FD);
    int listener = net_listen("127.0.0.1", settings.port);
    if (listener < 0) {
        die("cannot listen on port %d: %s", settings.port, strerror(errno));
    }
    for (int i = 0; i < settings.threads; i++) {
        int ends[2];
        pthread_t thread;
        if (pipe(ends) < 0) {
            die("pipe: %s", strerror(errno));
        }
        threads[i] =
            (struct floor_thread){.options = &options, .intake_fd = ends[0], .handing_fd = ends[1]};
        if (pthread_create(&thread, NULL, settings.uring ? floor_uring_thread : floor_epoll_thread,
                           &threads[i]) != 0) {
            die("cannot start a thread");
        }
    }
    accept_forever(listener, threads, settings.threads);
    return 0;
}
