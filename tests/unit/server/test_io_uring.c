/* What only io_uring has: provided buffers that run out, cancellations that come too late,
 * completions that end a multishot operation. */
#include <stdarg.h>

#include "tests/unit/server/io_fixture.h"

#ifdef SLOTWISE_IO_URING

static void start_uring(void) {
    start("io_uring");
}

TestSuite(uring, .init = start_uring, .fini = finish);

Test(uring, out_of_buffers) {
    struct connection *a = connect_one();
    fake_no_buffers = true;
    fake_data(a->io.fd, "one");
    poll_times(3);
    expect_happened("");
    fake_no_buffers = false;
    poll_times(3);
    expect_happened("a:data(one)");
    fake_data(a->io.fd, "two");
    poll_times(2);
    expect_happened("a:data(two)");
}

Test(uring, all_buffers_are_taken_by_one) {
    /* More pieces in one window than there are buffers: the rest comes later, for all. */
    struct connection *a = connect_one(), *b = connect_one();
    for (int i = 0; i < 300; i++)
        fake_data(a->io.fd, "x");
    fake_data(b->io.fd, "y");
    poll_times(40);
    cr_expect_eq(a->received, 300);
    cr_expect_eq(b->received, 1);
}

Test(uring, out_of_buffers_and_stopped) {
    struct connection *a = connect_one();
    fake_no_buffers = true;
    fake_data(a->io.fd, "one");
    io_poll(io, 0, no_block, no_block, NULL);
    io_receive_stop(io, &a->io);
    fake_no_buffers = false;
    poll_times(4);
    expect_happened("");
    io_receive_start(io, &a->io);
    poll_times(4);
    expect_happened("a:data(one)");
}

Test(uring, out_of_buffers_and_closed) {
    struct connection *a = connect_one();
    fake_no_buffers = true;
    fake_data(a->io.fd, "one");
    io_poll(io, 0, no_block, no_block, NULL);
    close_connection(a);
    fake_no_buffers = false;
    poll_times(4);
    expect_happened("a:closed");
}

Test(uring, out_of_buffers_and_leaving) {
    struct connection *a = connect_one();
    fake_no_buffers = true;
    fake_data(a->io.fd, "one");
    io_poll(io, 0, no_block, no_block, NULL);
    io_detach(io, &a->io);
    fake_no_buffers = false;
    poll_times(4);
    expect_happened("a:detached");
    cr_assert_eq(io_attach(io, &a->io), 0);
    poll_times(3);
    expect_happened("a:data(one)");
}

Test(uring, a_cancellation_of_a_leaving_one_comes_too_late) {
    /* It is tried again: a connection on which nothing comes leaves all the same. */
    struct connection *a = connect_one();
    poll_times(1);
    fake_cancel_too_late = true;
    io_detach(io, &a->io);
    poll_times(3);
    expect_happened("");
    fake_cancel_too_late = false;
    uint64_t begin_us = clock_monotonic_us();
    while (times_happened("a:detached") == 0 && clock_monotonic_us() - begin_us < 2000000)
        poll_times(1);
    expect_happened("a:detached");
}

Test(uring, data_comes_with_a_cancellation_that_is_too_late) {
    struct connection *a = connect_one();
    poll_times(1);
    fake_cancel_too_late = true;
    fake_data(a->io.fd, "one");
    io_detach(io, &a->io);
    poll_times(2);
    fake_cancel_too_late = false;
    uint64_t begin_us = clock_monotonic_us();
    while (times_happened("a:detached") == 0 && clock_monotonic_us() - begin_us < 2000000)
        poll_times(1);
    cr_assert_eq(times_happened("a:detached"), 1, "%s", happened);
    cr_assert_eq(io_attach(io, &a->io), 0);
    fake_data(a->io.fd, "two");
    poll_times(3);
    cr_expect_eq(a->received, 6, "%s", happened);
}

Test(uring, a_cancellation_of_a_closing_one_comes_too_late) {
    /* What is in flight ends all the same, and the connection only after it. */
    struct connection *a = connect_one();
    fake_room(a->io.fd, 0);
    send_text(a, "never sent");
    poll_times(1);
    fake_cancel_too_late = true;
    close_connection(a);
    poll_times(3);
    fake_cancel_too_late = false;
    uint64_t begin_us = clock_monotonic_us();
    while (times_happened("a:closed") == 0 && clock_monotonic_us() - begin_us < 2000000)
        poll_times(1);
    expect_happened("a:closed");
}

Test(uring, a_cancellation_of_a_stopped_one_comes_too_late) {
    /* Bytes may come once more after io_receive_stop, but not for ever. */
    struct connection *a = connect_one();
    poll_times(1);
    fake_cancel_too_late = true;
    io_receive_stop(io, &a->io);
    poll_times(2);
    fake_cancel_too_late = false;
    poll_times(2);
    for (int i = 0; i < 20; i++) {
        fake_data(a->io.fd, "x");
        poll_times(2);
    }
    cr_expect_leq(a->received, 2);
    io_receive_start(io, &a->io);
    poll_times(10);
    cr_expect_eq(a->received, 20);
}

Test(uring, a_multishot_receive_that_ends) {
    /* The kernel may end one whenever it likes: without more, with data or without. */
    struct connection *a = connect_one();
    struct fake_ring *f = &fake_rings[0];
    for (int i = 0; i < 5; i++) {
        poll_times(1);
        for (unsigned k = 0; k < FAKE_FLIGHTS; k++)
            if (f->flights[k].used && f->flights[k].sqe.opcode == IORING_OP_RECV)
                fake_finish(f, &f->flights[k], i % 2 ? -EINTR : -EAGAIN);
        fake_data(a->io.fd, "x");
        poll_times(3);
    }
    cr_expect_eq(a->received, 5);
}

Test(uring, a_multishot_accept_that_ends) {
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    struct fake_ring *f = &fake_rings[0];
    for (unsigned i = 0; i < 3; i++) {
        poll_times(1);
        for (unsigned k = 0; k < FAKE_FLIGHTS; k++)
            if (f->flights[k].used && f->flights[k].sqe.opcode == IORING_OP_ACCEPT)
                fake_finish(f, &f->flights[k], -ECONNABORTED);
        fake_connect(listener);
        poll_times(3);
        cr_expect_eq(times_happened("accept("), i + 1);
    }
}

Test(uring, one_that_was_let_in_too_late_is_closed) {
    int listener = fake_open(true);
    cr_assert_eq(io_listen(io, listener), 0);
    poll_times(1);
    int late = fake_connect(listener);
    fake_window(&fake_rings[0]); /* completed, not seen */
    io_unlisten(io, listener);
    poll_times(2);
    expect_happened("");
    cr_expect_eq(fake_socket(late)->closes, 1);
}

Test(uring, a_thousand_submissions) {
    /* More than the queue holds, between two polls. */
    struct connection *a = connect_one(), *b = connect_one();
    for (int i = 0; i < 1000; i++) {
        io_receive_stop(io, &a->io);
        io_receive_start(io, &a->io);
        io_receive_stop(io, &b->io);
        io_receive_start(io, &b->io);
        if (i % 100 == 0)
            poll_times(1);
    }
    poll_times(3);
    fake_data(a->io.fd, "one");
    fake_data(b->io.fd, "two");
    poll_times(3);
    cr_expect_eq(a->received, 3);
    cr_expect_eq(b->received, 3);
}

#else
Test(uring, is_not_built) {
}
#endif
