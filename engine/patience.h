/* Patience: one process-wide FIFO of those who must wait for tokens while they hold others, or for
 * everybody to stop. See patience.c. */
#ifndef SLOTWISE_ENGINE_PATIENCE_H
#define SLOTWISE_ENGINE_PATIENCE_H

#include "engine/waiter.h"

/* true: this waiter owns patience now. false: queued; resume is called when it owns it. The caller
 * holds no token. waiter_cancel takes a queued waiter out; an owner must patience_leave. */
bool patience_enter(struct waiter *waiter);
/* Gives patience to the next in the queue. Only its owner calls it. */
void patience_leave(struct waiter *waiter);
/* Somebody owns patience (for assertions). */
bool patience_is_owned(void);

#endif
