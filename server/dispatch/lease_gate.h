/* The lease gate: whether replies to writes may leave now. In a cluster a primary acknowledges
 * writes by its lease (cluster/lease.h), and the clock that counts is that of the moment after the
 * write and before the reply is sent: a process may have been stopped in between.
 *
 * Algorithm. A command that writes keys marks its session with the reign of the moment when it is
 * admitted (redirect.c); what another does for a client that waits is marked as that one's own
 * (blocked.h), and WAIT when it has counted replicas. Who flushes the replies of a marked session
 * looks here: OPEN clears the mark; HELD keeps them until the lease is renewed; LOST, in a later
 * reign, ends the connection, since nobody knows whether the write survives. The oldest mark
 * counts. Commands without a cluster pay nothing, reads one test for each flush.
 *
 * What writes no keys by name (FLUSHALL) is not held: it is for who mends a node that is alone.
 *
 * Ordering: a reign ends after the slot map is published by which no more writes are admitted
 * (redirect.h), and the mark is read after the map by which the command passes. So what has the
 * mark of the next reign finds that its map is stale when it has its tokens. Progress: nothing
 * waits here. Reclamation: none. */
#ifndef SLOTWISE_SERVER_LEASE_GATE_H
#define SLOTWISE_SERVER_LEASE_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lease_gate_look { LEASE_GATE_OPEN, LEASE_GATE_HELD, LEASE_GATE_LOST };

/* One for the process. Written by whoever holds the lock of the bus. */
struct lease_gate {
    _Alignas(64) _Atomic uint64_t until_ms; /* CLOCK_BOOTTIME; UINT64_MAX: always */
    _Atomic uint32_t reign;                 /* not 0 */
};
extern struct lease_gate lease_gate;

/* One thread at a time. ends: what was written until now is not acknowledged any more. */
void lease_gate_set(uint64_t until_ms, bool ends);
/* Of a session with this mark, not 0. Any thread. */
enum lease_gate_look lease_gate_look(uint32_t mark);

static inline uint32_t lease_gate_mark(void) {
    return atomic_load_explicit(&lease_gate.reign, memory_order_acquire);
}
/* In a session: by its own thread. mark: 0 changes nothing. */
static inline void lease_gate_note(uint32_t *unacknowledged, uint32_t mark) {
    if (*unacknowledged == 0)
        *unacknowledged = mark;
}

#endif
