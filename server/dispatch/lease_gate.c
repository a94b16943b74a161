/* See lease_gate.h. */
#include "server/dispatch/lease_gate.h"

#include <time.h>

struct lease_gate lease_gate = {.until_ms = UINT64_MAX, .reign = 1};

void lease_gate_set(uint64_t until_ms, bool ends) {
    if (ends) {
        uint32_t next = atomic_load_explicit(&lease_gate.reign, memory_order_relaxed) + 1;
        atomic_store_explicit(&lease_gate.reign, next ? next : 1, memory_order_release);
    }
    atomic_store_explicit(&lease_gate.until_ms, until_ms, memory_order_release);
}

enum lease_gate_look lease_gate_look(uint32_t mark) {
    uint64_t until_ms = atomic_load_explicit(&lease_gate.until_ms, memory_order_acquire);
    struct timespec now;
    if (mark != atomic_load_explicit(&lease_gate.reign, memory_order_acquire))
        return LEASE_GATE_LOST;
    if (until_ms == UINT64_MAX)
        return LEASE_GATE_OPEN;
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return now_ms < until_ms ? LEASE_GATE_OPEN : LEASE_GATE_HELD;
}
