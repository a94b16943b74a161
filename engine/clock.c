/* Time sources. The wall clock is clamped so that expiry never sees it go back within one process:
 * the highest value seen is kept per thread (threads may differ by what one clock step differs,
 * never a thread with itself). */
#include "engine/clock.h"

#include <time.h>

static uint64_t ns_per_2_32_ticks = (uint64_t)1
                                    << 32; /* written by clock_init before threads exist */

static int64_t read_us(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_now_us(void) {
    static _Thread_local int64_t highest_us;
    int64_t now_us = read_us(CLOCK_REALTIME);
    if (now_us > highest_us)
        highest_us = now_us;
    /* An administrator who sets the clock back by more than a second means it. */
    else if (highest_us - now_us > 1000000)
        highest_us = now_us;
    return highest_us;
}

int64_t clock_now_ms(void) {
    return clock_now_us() / 1000;
}

uint64_t clock_monotonic_us(void) {
    return (uint64_t)read_us(CLOCK_MONOTONIC);
}

uint64_t clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void clock_init(void) {
#if defined(__x86_64__)
    /* 2 ms are enough for four digits; statistics need no more. */
    uint64_t start_ns = clock_monotonic_ns(), start_ticks = clock_ticks();
    while (clock_monotonic_ns() - start_ns < 2000000)
        ;
    uint64_t ns = clock_monotonic_ns() - start_ns, ticks = clock_ticks() - start_ticks;
    if (ticks > 0)
        ns_per_2_32_ticks = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
#endif
}

uint64_t clock_ticks_to_ns(uint64_t ticks) {
    return (uint64_t)(((unsigned __int128)ticks * ns_per_2_32_ticks) >> 32);
}

uint64_t clock_us_to_ticks(uint64_t us) {
    double ticks = (double)us * 1000 / ((double)ns_per_2_32_ticks / 4294967296.0);
    return ticks < (double)(UINT64_MAX / 2) ? (uint64_t)ticks : UINT64_MAX;
}
