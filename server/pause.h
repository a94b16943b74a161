/* CLIENT PAUSE: for a while nobody, or nobody who writes, is served.
 *
 * A paused command has been checked but nothing of it has happened: its connection parks, as one
 * that waits for a slot does, and its worker resumes it when the pause is over. The pause begins
 * and is prolonged in exclusive sections, so that no command is under way when CLIENT PAUSE
 * replies. */
#ifndef SLOTWISE_SERVER_PAUSE_H
#define SLOTWISE_SERVER_PAUSE_H

#include "engine/assert.h"
#include "server/worker.h"

/* In an exclusive section. until_ms: unix time; a pause that lasts longer already stays. */
void pause_begin(struct server *server, int64_t until_ms, bool all);
void pause_end(struct server *server);

/* Any worker. */
bool pause_is_on(const struct server *server);
/* Whether this command, which has passed all checks, has to wait. */
bool pause_holds_slow(const struct server *server, const struct call *call);
static inline bool pause_holds(const struct server *server, const struct call *call) {
    return UNLIKELY(atomic_load_explicit(&server->pause_until_ms, memory_order_relaxed) != 0) &&
           pause_holds_slow(server, call);
}
/* The connection waits; to be followed by DISPATCH_PARKED. Nothing is held. */
void pause_park(struct conn *conn);
/* It waits no more: it is being closed. */
void pause_forget(struct conn *conn);
/* Timer of a worker: resumes its connections if the pause is over. */
void pause_tick(struct worker *worker);

#endif
