/* Unblock: how a command that was blocked ends (blocked.h), on its connection's thread. */
#ifndef SLOTWISE_SERVER_UNBLOCK_H
#define SLOTWISE_SERVER_UNBLOCK_H

#include "server/dispatch/execution.h"

struct unfinished;

/* Its wait has ended: replies. true: *result is what dispatch returns. false: it is to run once
 * more, from its start. */
bool unblock(struct execution *execution, struct wait *wait, struct call *call,
             enum dispatch_result *result);
/* Takes its nodes out of their slots. true: done; wait holds nothing. false: it waits for a token.
 */
bool unblock_leave(struct execution *execution, struct wait *wait, struct unfinished *unfinished);

#endif
