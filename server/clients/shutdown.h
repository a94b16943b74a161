/* Shutdown: the orderly end that SHUTDOWN, SIGTERM and SIGINT ask for.
 *
 *   NONE --replicas lag: writes pause--> WAITING --all have everything, or the time is over--> END
 *    ^  |                                 |    |                                               ^
 *    |  +--nobody lags, or NOW------------|----|-----------------------------------------------+
 *    +--------------SHUTDOWN ABORT--------+    |
 *    +-----the last save fails, no FORCE-------+
 *
 * While it waits, for shutdown-timeout, all else is served. Who has asked by SHUTDOWN hears of it
 * when it does not come to an end.
 *
 * States change in exclusive sections; worker 0 looks after it ten times a second. Only a process
 * that neither saves nor has replicas ends without a section: there may be workers that never come
 * to one, and nothing is lost. */
#ifndef SLOTWISE_SERVER_SHUTDOWN_H
#define SLOTWISE_SERVER_SHUTDOWN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/waiter.h"
#include "server/dispatch/wait.h"

struct server;
struct unfinished; /* server/dispatch/session.h */

enum shutdown_result { SHUTDOWN_ENDS, SHUTDOWN_WAITS, SHUTDOWN_FAILED };

/* One for the process. */
struct shutdown {
    struct server *server;
    /* Monotonic: until when replicas are waited for; 0: they are not. Written in exclusive
     * sections. */
    _Atomic uint64_t due_us;
    unsigned flags;              /* CONFIG_SHUTDOWN_; exclusive sections */
    struct waiter_queue clients; /* who has asked and waits */
    bool over;                   /* they wait no more; under the queue's lock */
    _Atomic unsigned clients_waiting;
    struct wait wait; /* worker 0: for its turn to stop everybody */
};

/* Before the workers start; shutdown_attach when the mailbox of worker 0 is there. */
struct shutdown *shutdown_create(struct server *server);
void shutdown_attach(struct shutdown *shutdown, struct mailbox *mailbox);
void shutdown_destroy(struct shutdown *shutdown);

/* Whether shutdown_begin has to be called in an exclusive section. Any thread. */
bool shutdown_stops_workers(const struct server *server, unsigned flags);
/* flags: CONFIG_SHUTDOWN_. in_section: in an exclusive section. ENDS: no command runs after it, if
 * in a section, and the process ends. WAITS: for replicas; also when another has begun to. FAILED:
 * it could not be saved (logged), and all goes on. */
enum shutdown_result shutdown_begin(struct server *server, unsigned flags, bool in_section);
/* For the session whose SHUTDOWN has to wait: it runs again when the process goes on after all. */
struct unfinished *shutdown_wait(struct server *server);
/* In an exclusive section. false: none waits. */
bool shutdown_abort(struct server *server);

/* Any thread; a moment later it may be otherwise. */
static inline bool shutdown_is_waiting(const struct shutdown *shutdown) {
    return atomic_load_explicit(&shutdown->due_us, memory_order_relaxed) != 0;
}
/* While it waits. Any thread. */
uint64_t shutdown_remaining_ms(const struct shutdown *shutdown);

/* Worker 0 has to take turns for it, also while the process ends. */
static inline bool shutdown_is_queued(const struct shutdown *shutdown) {
    return wait_is_waiting(&shutdown->wait);
}
/* Ten times a second on worker 0. */
void shutdown_tick(struct server *server);

#endif
