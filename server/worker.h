/* Worker: one thread with a loop (loop.h), and the background duties of its home slots (slot mod
 * number of workers).
 *
 * One turn: mailbox, connections with commands left over, what waits for a moment, events (bytes
 * are parsed into the batch, a full batch runs), the rest of the batch, replies, timers, quiescent
 * state, sleep. Nothing ever spins waiting for work. */
#ifndef SLOTWISE_SERVER_WORKER_H
#define SLOTWISE_SERVER_WORKER_H

#include <pthread.h>

#include "engine/expiry.h"
#include "server/clients/loop.h"

struct worker {
    struct loop loop; /* first */
    pthread_t thread;
    _Atomic int started; /* 1 running, negative: why not */
    _Atomic bool ended;  /* the thread has left its loop */
    _Atomic bool asleep; /* in a wait that may last; read by the watchdog */
    int io_refused;      /* of io_create; read when the worker has started */
    /* Timers; monotonic. */
    uint64_t timer_due_us, expiry_due_us, eviction_due_us, rebuild_due_us;
    uint64_t reclaim_due_us;                      /* UINT64_MAX: nothing is retired */
    uint64_t snapshot_due_us;                     /* UINT64_MAX: no walk goes on */
    uint64_t snapshot_busy_us, snapshot_commands; /* when it last saw that commands had run */
    struct expiry_cursor expiry;
    bool expiry_hurry;
    unsigned connection_samples;
    unsigned pause_ends; /* as it was when those who wait were looked at last */
};

int worker_start(struct worker *worker, struct server *server, unsigned number);
void worker_join(struct worker *worker);
void worker_free(struct worker *worker); /* after worker_join */

#endif
