/* See loop.h. */
#include "server/clients/loop.h"

#include <unistd.h>

#include "engine/clock.h"

#define HOLD_US  50  /* no token is kept longer over commands of a batch */
#define YIELD_US 200 /* a batch that takes longer runs one command of each connection */

_Thread_local struct loop *loop_self;

void loop_set_time_slices(struct loop *loop, bool on) {
    loop->yield_ticks = on ? clock_us_to_ticks(YIELD_US) : UINT64_MAX;
    loop->execution.hold_ticks = on ? clock_us_to_ticks(HOLD_US) : UINT64_MAX;
}

void loop_wake(struct loop *loop) {
    uint64_t one = 1;
    ssize_t n = write(loop->mailbox.wake_fd, &one, sizeof one);
    (void)n;
}

void loop_call_attention(struct loop *loop) {
    if (!atomic_exchange(&loop->attention, true))
        loop_wake(loop);
}
