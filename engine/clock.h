/* Time. clock_now_ms is the process-wide expiry clock: unix time in milliseconds, read inside the
 * command (vdso call), never going back. Any thread. clock_monotonic_* never jump. */
#ifndef SLOTWISE_ENGINE_CLOCK_H
#define SLOTWISE_ENGINE_CLOCK_H

#include <stdint.h>

int64_t clock_now_ms(void);
int64_t clock_now_us(void);
uint64_t clock_monotonic_us(void);
uint64_t clock_monotonic_ns(void);

/* Cheapest interval timer (time-stamp counter where there is one). clock_ticks_to_ns after
 * clock_init. */
void clock_init(void);
static inline uint64_t clock_ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return clock_monotonic_ns();
#endif
}
uint64_t clock_ticks_to_ns(uint64_t ticks);
uint64_t clock_us_to_ticks(uint64_t us); /* UINT64_MAX: too many */

#endif
