/* Both I/O backends above a scripted kernel: what happens together, too late, or not at all. */
#include <stdarg.h>

#include "tests/unit/server/io_fixture.h"

#ifdef SLOTWISE_IO_URING
#define BACKENDS "epoll", "io_uring"
#else
#define BACKENDS "epoll"
#endif

/* BACKEND_TEST(name) { ... }: the body runs on every backend. */
#define BACKEND_TEST(name)                                                                         \
    static void name##_body(bool uring);                                                           \
    ParameterizedTestParameters(io, name) {                                                        \
        static char backends[][16] = {BACKENDS};                                                   \
        return cr_make_param_array(char[16], backends, sizeof backends / sizeof *backends);        \
    }                                                                                              \
    ParameterizedTest(char backend[16], io, name) {                                                \
        start(backend);                                                                            \
        name##_body(strcmp(backend, "io_uring") == 0);                                             \
        finish();                                                                                  \
    }                                                                                              \
    static void name##_body(__attribute__((unused)) bool uring)

/* --- In and out ---------------------------------------------------------------------------------
 */

BACKEND_TEST(data_comes_and_goes) {
    struct connection *a = connect_one();
    int fd = a->io.fd;
    a->on_data = REACT_ECHO;
    fake_data(fd, "hello");
    poll_times(3);
    cr_expect_str_eq(fake_sent(fd), "hello");
    cr_expect_eq(times_happened("a:data(hello)"), 1);
    cr_expect_eq(times_happened("a:data"), 1);
    cr_expect_null(a->io.output_first);
    cr_expect_eq(a->io.sent_bytes, 5);
}

BACKEND_TEST(pieces_keep_their_order) {
    struct connection *a = connect_one(), *b = connect_one();
    for (int i = 0; i < 20; i++) {
        char text[32];
        snprintf(text, sizeof text, "<%d>", i);
        fake_data(a->io.fd, text);
        fake_data(b->io.fd, text);
    }
    a->on_data = b->on_data = REACT_ECHO;
    int fd_a = a->io.fd, fd_b = b->io.fd;
    poll_times(60);
    const char *wanted = "<0><1><2><3><4><5><6><7><8><9><10><11><12><13><14><15><16><17><18><19>";
    cr_expect_str_eq(fake_sent(fd_a), wanted);
    cr_expect_str_eq(fake_sent(fd_b), wanted);
}

BACKEND_TEST(data_and_end_together) {
    struct connection *a = connect_one();
    fake_data(a->io.fd, "last words");
    fake_end(a->io.fd);
    poll_times(5);
    expect_happened("a:data(last words) a:end");
}

BACKEND_TEST(data_and_reset_together) {
    struct connection *a = connect_one();
    fake_data(a->io.fd, "last words");
    fake_reset(a->io.fd, ECONNRESET);
    a->on_data = REACT_NOTHING;
    poll_times(3);
    cr_expect_eq(times_happened("a:data(last words)"), 1);
    cr_expect_geq(times_happened("a:error(104)"), 1);
    cr_expect_eq(times_happened("a:end"), 0);
}

BACKEND_TEST(the_end_is_told_once) {
    struct connection *a = connect_one();
    fake_end(a->io.fd);
    poll_times(10);
    expect_happened("a:end");
    /* What is still to be said is said. */
    send_text(a, "goodbye");
    poll_times(2);
    cr_expect_str_eq(fake_sent(a->io.fd), "goodbye");
}

BACKEND_TEST(end_and_send_together) {
    for (int sends_first = 0; sends_first < 2; sends_first++) {
        struct connection *a = connect_one();
        int fd = a->io.fd;
#ifdef SLOTWISE_IO_URING
        fake_sends_first = sends_first;
#endif
        fake_room(fd, 0);
        send_text(a, "reply");
        poll_times(2);
        cr_expect_str_eq(happened, "");
        fake_end(fd);
        fake_room(fd, 100);
        poll_times(3);
        cr_expect_eq(times_happened(":end"), 1, "%s", happened);
        cr_expect_eq(times_happened(":drained"), 1, "%s", happened);
        cr_expect_str_eq(fake_sent(fd), "reply");
        close_connection(a);
        poll_times(3);
        cr_expect_eq(times_happened(":closed"), 1, "%s", happened);
        happened[0] = '\0';
    }
}

BACKEND_TEST(send_error_and_data_together) {
    for (int sends_first = 0; sends_first < 2; sends_first++) {
        struct connection *a = connect_one();
        int fd = a->io.fd;
#ifdef SLOTWISE_IO_URING
        fake_sends_first = sends_first;
#endif
        a->on_drained = REACT_CLOSE;
        fake_room(fd, 0);
        send_text(a, "reply");
        poll_times(2);
        fake_data(fd, "more");
        fake_send_error(fd, EPIPE);
        poll_times(5);
        cr_expect_eq(times_happened(":failed(32)"), 1, "%s", happened);
        cr_expect_leq(times_happened(":data(more)"), 1, "%s", happened);
        cr_expect_eq(times_happened(":closed"), 1, "%s", happened);
        happened[0] = '\0';
    }
}

BACKEND_TEST(output_after_a_failure_is_dropped) {
    struct connection *a = connect_one();
    fake_send_error(a->io.fd, EPIPE);
    send_text(a, "one");
    poll_times(2);
    send_text(a, "two");
    poll_times(2);
    cr_expect_null(a->io.output_first);
    cr_expect_eq(a->io.output_bytes, 0);
    cr_expect_str_eq(fake_sent(a->io.fd), "");
}

/* --- Output -------------------------------------------------------------------------------------
 */

BACKEND_TEST(output_goes_in_parts) {
    struct connection *a = connect_one();
    int fd = a->io.fd;
    char wanted[2000] = "";
    fake_room(fd, 0);
    for (int i = 0; i < 150; i++) { /* more blocks than one call takes */
        char text[16];
        snprintf(text, sizeof text, "[%d]", i);
        strcat(wanted, text);
        send_text(a, text);
    }
    cr_expect_eq(a->io.output_bytes, strlen(wanted));
    for (int i = 0; i < 2000 && strlen(fake_sent(fd)) < strlen(wanted); i++) {
        fake_room(fd, (size_t)(i % 7));
        poll_times(1);
        size_t sent = strlen(fake_sent(fd));
        cr_expect_eq(memcmp(fake_sent(fd), wanted, sent), 0);
    }
    cr_expect_str_eq(fake_sent(fd), wanted);
    poll_times(2);
    expect_happened("a:drained");
    cr_expect_eq(a->io.sent_bytes, strlen(wanted));
    cr_expect_eq(a->io.output_bytes, 0);
}

BACKEND_TEST(output_grows_while_it_goes) {
    struct connection *a = connect_one();
    int fd = a->io.fd;
    fake_room(fd, 3);
    send_text(a, "first");
    poll_times(1);
    send_text(a, "second");
    fake_room(fd, 4);
    poll_times(1);
    send_text(a, "third");
    fake_room(fd, 100);
    poll_times(4);
    cr_expect_str_eq(fake_sent(fd), "firstsecondthird");
    expect_happened("a:drained");
}

BACKEND_TEST(input_goes_on_while_output_waits) {
    struct connection *a = connect_one();
    fake_room(a->io.fd, 0);
    send_text(a, "waits");
    fake_data(a->io.fd, "comes");
    poll_times(3);
    expect_happened("a:data(comes)");
}

/* --- Stopping and starting ----------------------------------------------------------------------
 */

BACKEND_TEST(nothing_is_lost_while_stopped) {
    struct connection *a = connect_one();
    io_receive_stop(io, &a->io);
    poll_times(2);
    fake_data(a->io.fd, "one");
    fake_data(a->io.fd, "two");
    poll_times(3);
    expect_happened("");
    io_receive_start(io, &a->io);
    poll_times(4);
    expect_happened("a:data(one) a:data(two)");
}

BACKEND_TEST(the_next_poll_after_a_start_receives) {
    /* It may be one that sleeps until something comes. */
    struct connection *a = connect_one();
    io_receive_stop(io, &a->io);
    poll_times(3);
    fake_data(a->io.fd, "one");
    io_receive_start(io, &a->io);
    poll_times(1);
    expect_happened("a:data(one)");
}

BACKEND_TEST(stopped_and_started_at_once) {
    struct connection *a = connect_one();
    poll_times(1);
    for (int i = 0; i < 5; i++) {
        io_receive_stop(io, &a->io);
        io_receive_start(io, &a->io);
    }
    fake_data(a->io.fd, "one");
    poll_times(4);
    fake_data(a->io.fd, "two");
    poll_times(4);
    expect_happened("a:data(one) a:data(two)");
}

BACKEND_TEST(stopped_by_its_own_data) {
    struct connection *a = connect_one();
    a->on_data = REACT_STOP;
    for (int i = 0; i < 10; i++)
        fake_data(a->io.fd, "x");
    poll_times(20);
    size_t before = a->received;
    poll_times(20);
    cr_expect_eq(a->received, before);
    a->on_data = REACT_NOTHING;
    io_receive_start(io, &a->io);
    poll_times(20);
    cr_expect_eq(a->received, 10);
}

BACKEND_TEST(a_reset_while_stopped) {
    struct connection *a = connect_one();
    io_receive_stop(io, &a->io);
    poll_times(2);
    a->on_data = REACT_CLOSE;
    fake_reset(a->io.fd, ECONNRESET);
    poll_times(2);
    if (connections[0] && !a->closing) /* io_uring learns of it when it receives again */
        io_receive_start(io, &a->io);
    poll_times(4);
    expect_happened("a:error(104) a:closed");
}

/* --- Closing ------------------------------------------------------------------------------------
 */

BACKEND_TEST(closed_in_its_own_callback) {
    struct connection *a = connect_one(), *b = connect_one();
    a->on_data = REACT_CLOSE;
    fake_data(a->io.fd, "one");
    fake_data(a->io.fd, "two");
    fake_end(a->io.fd);
    fake_data(b->io.fd, "three");
    poll_times(5);
    expect_happened("a:data(one) b:data(three) a:closed");
}

BACKEND_TEST(closed_with_everything_in_flight) {
    struct connection *a = connect_one();
    fake_room(a->io.fd, 0);
    send_text(a, "never sent");
    poll_times(2);
    fake_data(a->io.fd, "never read");
    close_connection(a);
    poll_times(5);
    expect_happened("a:closed");
}

BACKEND_TEST(closed_while_all_completes) {
    /* What was in flight completes in the window in which the cancellation is looked at. */
    struct connection *a = connect_one();
    int fd = a->io.fd;
    fake_room(fd, 0);
    send_text(a, "sent or not");
    poll_times(2);
    fake_data(fd, "late");
    fake_end(fd);
    fake_room(fd, 4);
    close_connection(a);
    poll_times(5);
    expect_happened("a:closed");
    cr_expect_eq(fake_socket(fd)->closes, 1);
}

BACKEND_TEST(closed_before_the_first_poll) {
    struct connection *a = connect_one();
    send_text(a, "x");
    close_connection(a);
    cr_expect_str_eq(happened, "", "on_closed must not come from within io_close");
    poll_times(4);
    expect_happened("a:closed");
}

BACKEND_TEST(others_are_closed_in_a_callback) {
    /* The owner closes b while a's data is handed over, and b has something in the same window. */
    struct connection *a = connect_one(), *b = connect_one();
    a->on_data = REACT_CLOSE;
    b->on_data = REACT_CLOSE;
    fake_data(a->io.fd, "one");
    fake_data(b->io.fd, "two");
    fake_reset(a->io.fd, ECONNRESET);
    fake_reset(b->io.fd, ECONNRESET);
    poll_times(5);
    expect_happened("a:data(one) b:data(two) b:closed a:closed");
}

BACKEND_TEST(pending_says_that_an_end_is_to_be_told) {
    struct connection *a = connect_one();
    poll_times(1);
    close_connection(a);
    poll_times(1);
    /* Either it is told already or a poll would not block. */
    if (times_happened("a:closed") == 0)
        cr_expect(io_pending(io));
    poll_times(2);
    expect_happened("a:closed");
}

/* --- Leaving ------------------------------------------------------------------------------------
 */

static void attach_elsewhere(struct connection *c, const char *backend) {
    if (!other_io)
        other_io = io_make(backend);
    c->on = other_io;
    cr_assert_eq(io_attach(other_io, &c->io), 0);
}

BACKEND_TEST(it_leaves_and_is_served_elsewhere) {
    struct connection *a = connect_one();
    a->on_data = REACT_ECHO;
    poll_times(1);
    io_detach(io, &a->io);
    cr_expect_str_eq(happened, "", "on_detached must not come from within io_detach");
    poll_times(3);
    expect_happened("a:detached");
    fake_data(a->io.fd, "hello");
    poll_times(2);
    expect_happened("");
    attach_elsewhere(a, io_name(io));
    for (int i = 0; i < 4; i++)
        poll_io(other_io);
    cr_expect_str_eq(fake_sent(a->io.fd), "hello");
}

BACKEND_TEST(data_comes_as_it_leaves) {
    struct connection *a = connect_one();
    poll_times(1);
    fake_data(a->io.fd, "one");
    fake_data(a->io.fd, "two");
    io_detach(io, &a->io);
    poll_times(4);
    cr_expect_eq(times_happened("a:detached"), 1, "%s", happened);
    attach_elsewhere(a, io_name(io));
    for (int i = 0; i < 4; i++)
        poll_io(other_io);
    cr_expect_eq(a->received, 6);
    cr_expect_eq(times_happened("a:data(one)"), 1, "%s", happened);
    cr_expect_eq(times_happened("a:data(two)"), 1, "%s", happened);
}

BACKEND_TEST(it_leaves_in_its_own_callback) {
    struct connection *a = connect_one();
    a->on_data = REACT_DETACH;
    fake_data(a->io.fd, "one");
    fake_data(a->io.fd, "two");
    fake_data(a->io.fd, "three");
    poll_times(6);
    cr_expect_eq(times_happened("a:detached"), 1, "%s", happened);
    a->on_data = REACT_NOTHING;
    attach_elsewhere(a, io_name(io));
    for (int i = 0; i < 6; i++)
        poll_io(other_io);
    cr_expect_eq(a->received, strlen("onetwothree"), "%s", happened);
}

BACKEND_TEST(the_end_comes_as_it_leaves) {
    struct connection *a = connect_one();
    poll_times(1);
    fake_data(a->io.fd, "one");
    fake_end(a->io.fd);
    io_detach(io, &a->io);
    poll_times(4);
    cr_expect_eq(times_happened("a:detached"), 1, "%s", happened);
    attach_elsewhere(a, io_name(io));
    for (int i = 0; i < 4; i++)
        poll_io(other_io);
    cr_expect_eq(times_happened("a:data(one)"), 1, "%s", happened);
    cr_expect_geq(times_happened("a:end"), 1, "%s", happened);
}

BACKEND_TEST(closed_while_it_leaves) {
    for (unsigned polls = 0; polls < 2; polls++) {
        struct connection *a = connect_one();
        poll_times(1);
        fake_data(a->io.fd, "late");
        io_detach(io, &a->io);
        a->on_detached = REACT_CLOSE;
        if (polls == 0)
            close_connection(a);
        poll_times(4);
        cr_expect_eq(times_happened(":closed"), 1, "%s", happened);
        cr_expect_eq(times_happened(":detached"), polls, "%s", happened);
        happened[0] = '\0';
    }
}

BACKEND_TEST(it_comes_and_goes) {
    /* Back and forth many times, with data and output at every step. */
    struct connection *a = connect_one();
    const char *name = io_name(io);
    other_io = io_make(name);
    struct io *both[2] = {io, other_io};
    a->on_data = REACT_ECHO;
    char wanted[600] = "";
    for (int i = 0; i < 60; i++) {
        char text[16];
        snprintf(text, sizeof text, "<%d>", i);
        strcat(wanted, text);
        fake_data(a->io.fd, text);
        if (i % 3 == 0)
            poll_io(a->on);
        while (a->io.output_first)
            poll_io(a->on);
        io_detach(a->on, &a->io);
        for (int k = 0; k < 4; k++)
            poll_io(a->on);
        cr_assert_eq(times_happened("a:detached"), 1, "turn %d: %s", i, happened);
        happened[0] = '\0';
        a->on = both[(i + 1) % 2];
        cr_assert_eq(io_attach(a->on, &a->io), 0);
    }
    for (int k = 0; k < 100; k++)
        poll_io(a->on);
    cr_expect_str_eq(fake_sent(a->io.fd), wanted);
}

/* --- Accepting ----------------------------------------------------------------------------------
 */

BACKEND_TEST(clients_are_let_in) {
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    int first = fake_connect(listener), second = fake_connect(listener);
    fake_data(first, "hello");
    poll_times(4);
    cr_expect_eq(times_happened("accept("), 2, "%s", happened);
    cr_expect_eq(times_happened("a:data(hello)"), 1, "%s", happened);
    fake_data(second, "world");
    poll_times(2);
    cr_expect_eq(times_happened("b:data(world)"), 1, "%s", happened);
}

BACKEND_TEST(out_of_descriptors) {
    /* Nobody is let in for a while, at little cost; then all are. */
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    poll_times(1);
    fake_no_descriptors = true;
    fake_connect(listener);
    fake_connect(listener);
    fake_accept_calls = 0;
    struct connection *a = connect_one();
    a->on_data = REACT_ECHO;
    uint64_t begin_us = clock_monotonic_us();
    poll_times(2000);
    uint64_t taken_us = clock_monotonic_us() - begin_us;
    cr_expect_lt(fake_accept_calls, 20 + taken_us / 1000, "%u attempts in %llu us",
                 fake_accept_calls, (unsigned long long)taken_us);
    cr_expect_eq(times_happened("accept("), 0);
    fake_data(a->io.fd, "served");
    poll_times(3);
    cr_expect_str_eq(fake_sent(a->io.fd), "served");
    fake_no_descriptors = false;
    begin_us = clock_monotonic_us();
    while (times_happened("accept(") < 2 && clock_monotonic_us() - begin_us < 5000000)
        poll_times(1);
    cr_expect_eq(times_happened("accept("), 2, "%s", happened);
}

BACKEND_TEST(out_of_descriptors_again_and_again) {
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    for (int turn = 0; turn < 3; turn++) {
        fake_no_descriptors = true;
        fake_connect(listener);
        poll_times(5);
        fake_no_descriptors = false;
        uint64_t begin_us = clock_monotonic_us();
        while (times_happened("accept(") < (unsigned)turn + 1 &&
               clock_monotonic_us() - begin_us < 5000000)
            poll_times(1);
        cr_expect_eq(times_happened("accept("), (unsigned)turn + 1, "%s", happened);
    }
}

BACKEND_TEST(nobody_is_let_in_any_more) {
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    poll_times(1);
    io_unlisten(io, listener);
    int late = fake_connect(listener);
    poll_times(3);
    cr_expect_eq(times_happened("accept("), 0, "%s", happened);
    fake_socket(late)->open = false;
}

/* --- Many at random -----------------------------------------------------------------------------
 */

struct random_peer {
    struct connection *connection;
    int fd;
    unsigned written, sent; /* bytes that the test has put in, and has queued as output */
};

static unsigned random_state = 1;

static unsigned random_below(unsigned limit) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % limit;
}

static void random_step(struct random_peer *peer) {
    struct connection *c = peer->connection;
    char text[8];
    switch (random_below(9)) {
    case 0:
    case 1:
        snprintf(text, sizeof text, "%c%u", c->name, peer->written % 10);
        fake_data(peer->fd, text);
        peer->written += 2;
        break;
    case 2:
        if (!c->io.detaching) {
            send_text(c, "0123456789");
            peer->sent += 10;
        }
        break;
    case 3:
        fake_room(peer->fd, random_below(12));
        break;
    case 4:
        fake_room(peer->fd, SIZE_MAX);
        break;
    case 5:
        if (!c->io.detaching)
            io_receive_stop(io, &c->io);
        break;
    case 6:
        if (!c->io.detaching)
            io_receive_start(io, &c->io);
        break;
    case 7:
        if (!c->io.detaching && !c->io.output_first && !c->io.sending && random_below(3) == 0)
            io_detach(io, &c->io);
        break;
    default:
        poll_times(1);
    }
}

/* Those that have left come back. */
static void random_attach(struct random_peer *peers, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        char word[16];
        snprintf(word, sizeof word, "%c:detached", peers[i].connection->name);
        if (times_happened(word) > 0)
            cr_assert_eq(io_attach(io, &peers[i].connection->io), 0);
    }
    happened[0] = '\0';
}

BACKEND_TEST(everything_at_random) {
    for (unsigned seed = 1; seed <= 40; seed++) {
        struct random_peer peers[3];
        random_state = seed;
        connection_count = 0;
        for (unsigned i = 0; i < 3; i++) {
            peers[i] = (struct random_peer){.connection = connect_one()};
            peers[i].fd = peers[i].connection->io.fd;
        }
        for (unsigned step = 0; step < 100; step++) {
            random_step(&peers[random_below(3)]);
#ifdef SLOTWISE_IO_URING
            fake_sends_first = random_below(2);
            fake_no_buffers = random_below(8) == 0;
            fake_cancel_too_late = random_below(4) == 0;
#endif
            if (random_below(2))
                poll_times(1);
            random_attach(peers, 3);
        }
#ifdef SLOTWISE_IO_URING
        fake_no_buffers = fake_cancel_too_late = false;
#endif
        uint64_t begin_us = clock_monotonic_us();
        bool leaving = false;
        for (unsigned turn = 0;
             turn < 200 || (leaving && clock_monotonic_us() - begin_us < 2000000); turn++) {
            leaving = false;
            for (unsigned i = 0; i < 3; i++) {
                fake_room(peers[i].fd, SIZE_MAX);
                if (!peers[i].connection->io.detaching)
                    io_receive_start(io, &peers[i].connection->io);
                leaving |= peers[i].connection->io.detaching;
            }
            poll_times(1);
            random_attach(peers, 3);
        }
        for (unsigned i = 0; i < 3; i++) {
            cr_expect_eq(peers[i].connection->received, peers[i].written, "seed %u, %c", seed,
                         peers[i].connection->name);
            cr_assert_not(peers[i].connection->io.detaching, "seed %u, %c", seed,
                          peers[i].connection->name);
            cr_expect_eq(strlen(fake_sent(peers[i].fd)), peers[i].sent, "seed %u, %c", seed,
                         peers[i].connection->name);
            close_connection(peers[i].connection);
        }
        poll_times(6);
        cr_expect_eq(times_happened(":closed"), 3, "seed %u: %s", seed, happened);
        happened[0] = '\0';
        for (unsigned i = 0; i < 3; i++) {
            struct fake_socket *s = fake_socket(peers[i].fd);
            free(s->sent);
            *s = (struct fake_socket){0};
        }
        fake_step_count = 0;
    }
}
