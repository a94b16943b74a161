/* MULTI, EXEC, DISCARD, WATCH, UNWATCH: what dispatch needs to know of them. On the session's
 * thread.
 */
#ifndef SLOTWISE_SERVER_TRANSACTION_H
#define SLOTWISE_SERVER_TRANSACTION_H

#include "server/dispatch/execution.h"
#include "server/dispatch/session.h"

/* Copies the command into the session's queue. */
void transaction_queue(struct session *session, const struct call *call);
/* Of all queued commands, or'ed. */
uint32_t transaction_flags(const struct session *session);
/* Those that some queued command lacks. */
uint32_t transaction_missing_flags(const struct session *session);
/* EXEC that has passed all checks. */
enum dispatch_result transaction_exec(struct execution *execution, struct wait *wait,
                                      struct call *call);
/* The slots of the watched keys, ascending and without duplicates, into execution->slots. */
size_t transaction_watched_slots(struct execution *execution, const struct session *session);
/* Forgets the queue and the watches. true: done. false: it waits for a token, nothing has happened.
 * No token is held. */
bool transaction_abort(struct execution *execution, struct wait *wait, struct session *session);
/* Unlinks all watchers. With the tokens of their slots, or in an exclusive section. */
void transaction_unwatch(struct session *session);

#endif
