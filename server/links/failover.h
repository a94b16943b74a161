/* Failover: FAILOVER hands the role of the primary over to one of its replicas, without losing
 * anything that was acknowledged.
 *
 *   NONE --FAILOVER: writes pause--> WAIT_FOR_SYNC --a replica has everything--> IN_PROGRESS
 *    ^                                  |    |                                      |   |
 *    +----time is over, or ABORT--------+    +--time is over, FORCE-----------------+   |
 *    +----------- the replica has taken over, has refused, or ABORT --------------------+
 *
 * Writes pause from the first moment to the last, so that what the replica has when it is asked is
 * all that anybody was told is done. In IN_PROGRESS this process is a replica of the target already
 * and asks it by PSYNC ... FAILOVER (sync.h): writes that come now get -READONLY, and those that
 * were paused get it when it has taken over, or go on when it has not. As in Redis nothing ends
 * IN_PROGRESS but the answer or ABORT: a target that does not answer is asked again.
 *
 * State changes in exclusive sections; worker 0 looks after it ten times a second. */
#ifndef SLOTWISE_SERVER_FAILOVER_H
#define SLOTWISE_SERVER_FAILOVER_H

#include "server/dispatch/pause.h"
#include "server/dispatch/wait.h"
#include "server/links/primary.h"
#include "server/links/replica.h"

enum failover_state { FAILOVER_NONE, FAILOVER_WAIT_FOR_SYNC, FAILOVER_IN_PROGRESS };

struct failover_surroundings {
    struct primary *primary;
    struct replica *replica;
    struct pause *pause;
    void (*resume)(void *context); /* paused commands are to be looked at again; any thread */
    void *context;
};

struct failover {
    struct failover_surroundings around;
    /* Exclusive. */
    enum failover_state state;
    char *host; /* NULL: any replica */
    int port;
    uint64_t due_us; /* monotonic; 0: no limit */
    bool force;
    struct wait wait; /* worker 0: for its turn to stop everybody */
};

/* Before the workers start; failover_attach when the mailbox of worker 0 is there. */
void failover_init(struct failover *failover, const struct failover_surroundings *around);
void failover_attach(struct failover *failover, struct mailbox *mailbox);
void failover_destroy(struct failover *failover);

static inline bool failover_is_on(const struct failover *failover) {
    return failover->state != FAILOVER_NONE;
}
/* As INFO names it. */
const char *failover_state_name(const struct failover *failover);

/* What FAILOVER asks for. */
struct failover_request {
    const char *host; /* NULL: any replica */
    int64_t port;
    int64_t timeout_ms; /* 0: none */
    bool force;
};
/* The error that refuses it, or NULL. In a handler. */
const char *failover_refusal(const struct failover *failover,
                             const struct failover_request *request);
/* Not refused. In an exclusive section. */
void failover_begin(struct failover *failover, const struct failover_request *request);
/* In an exclusive section; nothing if there is none. */
void failover_abort(struct failover *failover, const char *why);

/* Worker 0 has to take turns for it, also while the process ends. */
static inline bool failover_is_waiting(const struct failover *failover) {
    return wait_is_waiting(&failover->wait);
}
/* Ten times a second on worker 0. */
void failover_tick(struct failover *failover);

#endif
