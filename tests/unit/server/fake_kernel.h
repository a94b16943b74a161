/* A scripted kernel: sockets without a network, for both I/O backends.
 *
 * A test writes down what happens to sockets (bytes come, the peer ends, it takes so much output,
 * descriptors run out) and then lets the backend poll; all that was written down since the last
 * poll is ready at once, in that order. fake_epoll.h and fake_uring.h stand in for the calls by
 * which the backends learn of it; the linker redirects these (--wrap, see tests/CMakeLists.txt).
 * Nothing here ever blocks. Descriptors of the fake begin at FAKE_FD_FIRST; whatever is done with
 * others goes to the real kernel. */
#ifndef SLOTWISE_TESTS_FAKE_KERNEL_H
#define SLOTWISE_TESTS_FAKE_KERNEL_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAKE_FD_FIRST   10000
#define FAKE_SOCKETS    64
#define FAKE_STEPS      512
#define FAKE_STEP_BYTES 64

/* What happens to a socket, in the order in which it happens. */
enum fake_step_kind { STEP_NONE, STEP_DATA, STEP_END, STEP_RESET, STEP_ACCEPT };

struct fake_step {
    enum fake_step_kind kind;
    int fd;
    int error;    /* of STEP_RESET */
    int accepted; /* descriptor of STEP_ACCEPT */
    size_t length;
    char data[FAKE_STEP_BYTES];
};

struct fake_socket {
    bool open;
    bool listener;
    bool shut; /* by shutdown(2), both ways */
    unsigned closes;
    size_t room; /* so many bytes the peer takes yet */
    int send_error;
    char *sent; /* what the peer has got */
    size_t sent_length;
};

static struct fake_step fake_steps[FAKE_STEPS]; /* those that have not been delivered */
static unsigned fake_step_count;
static struct fake_socket fake_sockets[FAKE_SOCKETS];
static bool fake_no_descriptors; /* accepting fails with EMFILE */
static unsigned fake_accept_calls;

int __real_close(int fd);
int __wrap_close(int fd);
int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);

static struct fake_socket *fake_socket(int fd) {
    if (fd < FAKE_FD_FIRST || fd >= FAKE_FD_FIRST + FAKE_SOCKETS)
        return NULL;
    return &fake_sockets[fd - FAKE_FD_FIRST];
}

static struct fake_socket *fake_open_socket(int fd) {
    struct fake_socket *s = fake_socket(fd);
    cr_assert(s && s->open, "descriptor %d is used but not open", fd);
    return s;
}

static int fake_open(bool listener) {
    for (int i = 0; i < FAKE_SOCKETS; i++)
        if (!fake_sockets[i].open && fake_sockets[i].closes == 0) {
            fake_sockets[i] =
                (struct fake_socket){.open = true, .listener = listener, .room = SIZE_MAX};
            return FAKE_FD_FIRST + i;
        }
    cr_assert_fail("no fake sockets left");
    return -1;
}

/* --- The script ---------------------------------------------------------------------------------
 */

static struct fake_step *fake_add_step(enum fake_step_kind kind, int fd) {
    cr_assert_lt(fake_step_count, FAKE_STEPS);
    struct fake_step *step = &fake_steps[fake_step_count++];
    *step = (struct fake_step){.kind = kind, .fd = fd};
    return step;
}

__attribute__((unused)) static void fake_data(int fd, const char *text) {
    struct fake_step *step = fake_add_step(STEP_DATA, fd);
    step->length = strlen(text);
    cr_assert_leq(step->length, FAKE_STEP_BYTES);
    memcpy(step->data, text, step->length);
}

__attribute__((unused)) static void fake_end(int fd) {
    fake_add_step(STEP_END, fd);
}

__attribute__((unused)) static void fake_reset(int fd, int error) {
    fake_add_step(STEP_RESET, fd)->error = error;
}

/* A client has connected; returns the descriptor that its socket will have. */
__attribute__((unused)) static int fake_connect(int listener) {
    struct fake_step *step = fake_add_step(STEP_ACCEPT, listener);
    step->accepted = fake_open(false);
    return step->accepted;
}

__attribute__((unused)) static void fake_room(int fd, size_t bytes) {
    fake_open_socket(fd)->room = bytes;
}

__attribute__((unused)) static void fake_send_error(int fd, int error) {
    fake_open_socket(fd)->send_error = error;
}

/* --- What both fakes do -------------------------------------------------------------------------
 */

static struct fake_step *fake_next_step(int fd) {
    for (unsigned i = 0; i < fake_step_count; i++)
        if (fake_steps[i].fd == fd)
            return &fake_steps[i];
    return NULL;
}

static void fake_step_done(struct fake_step *step) {
    unsigned number = (unsigned)(step - fake_steps);
    memmove(step, step + 1, (fake_step_count - number - 1) * sizeof *step);
    fake_step_count--;
}

/* Up to `room` bytes of `length` go to the socket: one piece into the buffer, or the error of a
 * step. */
static int fake_receive(int fd, char *buffer, size_t room) {
    struct fake_step *step = fake_next_step(fd);
    if (fake_open_socket(fd)->shut)
        return 0;
    if (!step)
        return -EAGAIN;
    if (step->kind == STEP_DATA) {
        size_t n = step->length < room ? step->length : room;
        memcpy(buffer, step->data, n);
        step->length -= n;
        memmove(step->data, step->data + n, step->length);
        if (step->length == 0)
            fake_step_done(step);
        return (int)n;
    }
    if (step->kind == STEP_RESET) {
        int error = step->error;
        fake_step_done(step);
        return -error;
    }
    return 0; /* the end stays the end */
}

/* How much of the vectors the peer takes; -EAGAIN when that is nothing. */
static int64_t fake_send(int fd, const struct iovec *vectors, size_t count) {
    struct fake_socket *s = fake_open_socket(fd);
    size_t total = 0;
    if (s->shut)
        return -EPIPE;
    if (s->send_error)
        return -s->send_error;
    for (size_t i = 0; i < count && s->room > 0; i++) {
        size_t n = vectors[i].iov_len < s->room ? vectors[i].iov_len : s->room;
        s->sent = realloc(s->sent, s->sent_length + n + 1);
        cr_assert_not_null(s->sent);
        memcpy(s->sent + s->sent_length, vectors[i].iov_base, n);
        s->sent_length += n;
        s->sent[s->sent_length] = '\0';
        s->room -= s->room == SIZE_MAX ? 0 : n;
        total += n;
    }
    return total > 0 ? (int64_t)total : -EAGAIN;
}

__attribute__((unused)) static const char *fake_sent(int fd) {
    const char *sent = fake_socket(fd)->sent;
    return sent ? sent : "";
}

/* The next client of a listener, -EAGAIN or -EMFILE. */
static int fake_accept(int listener) {
    struct fake_step *step = fake_next_step(listener);
    fake_accept_calls++;
    if (!step)
        return -EAGAIN;
    if (fake_no_descriptors)
        return -EMFILE;
    int accepted = step->accepted;
    fake_step_done(step);
    return accepted;
}

int __wrap_shutdown(int fd, int how) {
    struct fake_socket *s = fake_socket(fd);
    if (!s)
        return __real_shutdown(fd, how);
    s->shut = true;
    return 0;
}

static void fake_forget(int fd);

int __wrap_close(int fd) {
    struct fake_socket *s = fake_socket(fd);
    if (!s)
        return __real_close(fd);
    cr_expect(s->open, "descriptor %d is closed twice", fd);
    fake_forget(fd);
    s->open = false;
    s->closes++;
    for (struct fake_step *step; (step = fake_next_step(fd));)
        fake_step_done(step);
    return 0;
}

__attribute__((unused)) static void fake_release(void) {
    for (int i = 0; i < FAKE_SOCKETS; i++)
        free(fake_sockets[i].sent);
}

#endif
