/* Dispatch: from a parsed command to its handler, in the order of checks that Redis has. Knows no
 * sockets: whoever has commands to run (a connection's batch; later scripts and links) calls it. */
#ifndef SLOTWISE_SERVER_DISPATCH_H
#define SLOTWISE_SERVER_DISPATCH_H

#include "server/dispatch/execution.h"

/* Runs one command on the thread of execution, at a command boundary: no token is held but the one
 * that the entry before it may have kept (execution.held_slot), and no published pointer. call: as
 * dispatch_prepare left it. next_slot: slot of the next entry if both may run under one token, else
 * -1. DISPATCH_PARKED: wait->resumed will be called; the same command is then to be given again.
 * Otherwise wait is WAIT_NONE afterwards. */
enum dispatch_result dispatch_execute(struct execution *execution, struct wait *wait,
                                      struct call *call, int next_slot);
/* The same for a command out of the stream of a primary, which has been decided about there: no
 * check that a client's command has to pass, no pause, and no key is expired for it. */
enum dispatch_result dispatch_apply(struct execution *execution, struct wait *wait,
                                    struct call *call, int next_slot);
/* The slot of a command if it may run under the token of the one before, else -1. */
int dispatch_shared_slot(const struct call *call);
/* A session ends: its watchers, and the command that is blocked, leave their slots. true: done.
 * false: it waits for a slot's token; after wait->resumed call again. */
bool dispatch_forget(struct execution *execution, struct wait *wait, struct session *session);

#endif
