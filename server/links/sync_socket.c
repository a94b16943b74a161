/* See sync_socket.h. */
#include "server/links/sync_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/clock.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/links/sync_private.h"

#define CONNECT_LOOK_MS 50   /* how soon a cancellation is noticed while connecting */
#define RECEIVE_LOOK_MS 1000 /* how soon another timeout is noticed while nothing comes */

bool sync_is_cancelled(struct sync *sync) {
    pthread_mutex_lock(&sync->lock);
    bool cancelled = sync->cancelled;
    pthread_mutex_unlock(&sync->lock);
    return cancelled || atomic_load(&sync->stopping);
}

void sync_set_link(struct sync *sync, enum replication_link link) {
    pthread_mutex_lock(&sync->lock);
    if (!sync->cancelled)
        atomic_store(&sync->environment.progress->link, link);
    pthread_mutex_unlock(&sync->lock);
}

void sync_set_answer(struct sync *sync, enum sync_answer answer) {
    pthread_mutex_lock(&sync->lock);
    if (!sync->cancelled && sync->request.failover)
        atomic_store(&sync->environment.progress->answer, answer);
    pthread_mutex_unlock(&sync->lock);
}

void sync_note_io(struct sync *sync) {
    atomic_store_explicit(&sync->environment.progress->last_io_ms, clock_monotonic_us() / 1000,
                          memory_order_relaxed);
}

/* false: cancelled, and the descriptor is closed. */
static bool adopt_socket(struct sync *sync, int fd) {
    pthread_mutex_lock(&sync->lock);
    bool cancelled = sync->cancelled;
    if (!cancelled)
        sync->fd = fd;
    pthread_mutex_unlock(&sync->lock);
    if (cancelled)
        close(fd);
    return !cancelled;
}

void sync_close(struct sync *sync) {
    pthread_mutex_lock(&sync->lock);
    int fd = sync->fd;
    sync->fd = -1;
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&sync->lock);
}

static bool failed(struct sync *sync, int error) {
    sync->timed_out = error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT;
    snprintf(sync->error, sizeof sync->error, "%s",
             sync->timed_out ? "Connection timed out" : strerror(error));
    return false;
}

/* The last call has brought nothing so far, and may yet. */
static bool goes_on(struct sync *sync, int error, uint64_t since_us) {
    uint64_t waited_ms = (clock_monotonic_us() - since_us) / 1000;
    if (error != EINTR &&
        (error != EAGAIN || waited_ms >= (uint64_t)atomic_load(&sync->timeout_ms)))
        return false;
    return !sync_is_cancelled(sync);
}

ssize_t sync_read(struct sync *sync, void *data, size_t length) {
    uint64_t since_us = clock_monotonic_us();
    ssize_t n;
    int error;
    do {
        n = recv(sync->fd, data, length, 0);
        error = errno;
    } while (n < 0 && goes_on(sync, error, since_us));
    if (n < 0)
        failed(sync, error);
    else if (n > 0)
        sync_note_io(sync);
    if (n == 0) {
        sync->timed_out = false;
        snprintf(sync->error, sizeof sync->error, "connection lost");
    }
    return n < 0 ? -1 : n;
}

bool sync_read_line(struct sync *sync, char *line, size_t size) {
    size_t length = 0;
    for (;;) { /* byte by byte: what follows is not ours to take */
        char byte;
        if (sync_read(sync, &byte, 1) <= 0)
            return false;
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

bool sync_send(struct sync *sync, const char *data, size_t length) {
    while (length > 0) {
        ssize_t n = send(sync->fd, data, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR && !sync_is_cancelled(sync))
            continue;
        if (n <= 0)
            return failed(sync, n < 0 ? errno : EPIPE);
        data += n;
        length -= (size_t)n;
    }
    return true;
}

/* It is in the log if it fails. */
static bool send_text(struct sync *sync, struct text *text) {
    bool sent = sync_send(sync, text_string(text), text->length);
    text_free(text);
    if (!sent)
        log_write(LOG_LEVEL_WARNING, "Sending command to master in replication handshake: %s",
                  sync->error);
    return sent;
}

static void append_word(struct text *text, const char *word, size_t length) {
    text_append_format(text, "$%zu\r\n", length);
    text_append(text, word, length);
    text_append(text, "\r\n", 2);
}

bool sync_send_command(struct sync *sync, const char *const *words) {
    struct text text = {0};
    unsigned count = 0;
    while (words[count])
        count++;
    text_append_format(&text, "*%u\r\n", count);
    for (unsigned i = 0; i < count; i++)
        append_word(&text, words[i], strlen(words[i]));
    return send_text(sync, &text);
}

bool sync_send_auth(struct sync *sync) {
    const struct sync_request *request = &sync->request;
    struct text text = {0};
    text_append_format(&text, "*%d\r\n", request->user ? 3 : 2);
    append_word(&text, "AUTH", 4);
    if (request->user)
        append_word(&text, request->user, request->user_length);
    append_word(&text, request->password, request->password_length);
    return send_text(sync, &text);
}

/* Connects fd, looking now and then whether it is still wanted. false: sync->error. */
static bool finish_connect(struct sync *sync, int fd) {
    int64_t left_ms = sync->request.timeout_ms;
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    while (left_ms > 0) {
        int n = poll(&poll_fd, 1, CONNECT_LOOK_MS);
        if (sync_is_cancelled(sync))
            return failed(sync, ECANCELED);
        if (n > 0) {
            int error = 0;
            socklen_t length = sizeof error;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
            return error ? failed(sync, error) : true;
        }
        left_ms -= CONNECT_LOOK_MS;
    }
    return failed(sync, ETIMEDOUT);
}

static void bind_source(const struct sync *sync, int fd, int family) {
    struct addrinfo hints = {
        .ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    const char *source = sync->request.source_address;
    if (!source || getaddrinfo(source, NULL, &hints, &found) != 0)
        return;
    int result = -1;
    for (struct addrinfo *at = found; at && result != 0; at = at->ai_next)
        result = bind(fd, at->ai_addr, at->ai_addrlen);
    freeaddrinfo(found);
}

static void set_options(struct sync *sync, int fd) {
    int one = 1;
    const struct timeval look = {.tv_sec = RECEIVE_LOOK_MS / 1000};
    struct timeval timeout = {.tv_sec = sync->request.timeout_ms / 1000,
                              .tv_usec = sync->request.timeout_ms % 1000 * 1000};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof look);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

static bool connect_to(struct sync *sync, const struct addrinfo *address) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return failed(sync, errno);
    bind_source(sync, fd, address->ai_family);
    bool connected = connect(fd, address->ai_addr, address->ai_addrlen) == 0;
    if (!connected)
        connected = errno == EINPROGRESS ? finish_connect(sync, fd) : failed(sync, errno);
    if (!connected) {
        close(fd);
        return false;
    }
    set_options(sync, fd);
    return adopt_socket(sync, fd);
}

bool sync_connect(struct sync *sync) {
    char port[16];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    snprintf(port, sizeof port, "%d", sync->request.port);
    int error = getaddrinfo(sync->request.host, port, &hints, &found);
    pthread_mutex_lock(&sync->lock);
    sync->resolving = false;
    pthread_mutex_unlock(&sync->lock);
    if (error) {
        log_write(LOG_LEVEL_WARNING, "Unable to connect to MASTER: %s", gai_strerror(error));
        return false;
    }
    bool connected = false;
    for (struct addrinfo *at = found; at && !connected && !sync_is_cancelled(sync);
         at = at->ai_next)
        connected = connect_to(sync, at);
    freeaddrinfo(found);
    if (!connected && !sync_is_cancelled(sync)) {
        if (sync->timed_out)
            log_write(LOG_LEVEL_WARNING, "Timeout connecting to the MASTER...");
        else
            log_write(LOG_LEVEL_WARNING, "Error condition on socket for SYNC: %s", sync->error);
    }
    return connected;
}
