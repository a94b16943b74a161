/* The subcommands of DEBUG that look at keys or make some (cmd_debug.c calls them). */
#ifndef SLOTWISE_SERVER_DEBUG_DATA_H
#define SLOTWISE_SERVER_DEBUG_DATA_H

#include "server/dispatch/command.h"

/* The key's token, unless all workers are stopped; nothing else is held meanwhile. */
void debug_key_lock(struct call *call, const struct key *key);
void debug_key_unlock(struct call *call, const struct key *key);

/* With all workers stopped. */
void debug_digest(struct call *call);
/* With all workers stopped, or taking the token of each key's slot. */
void debug_digest_value(struct call *call);
void debug_object(struct call *call);
void debug_populate(struct call *call);

#endif
