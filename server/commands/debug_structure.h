/* The subcommands of DEBUG about how values and tables are built (cmd_debug.c calls them). */
#ifndef SLOTWISE_SERVER_DEBUG_STRUCTURE_H
#define SLOTWISE_SERVER_DEBUG_STRUCTURE_H

#include "server/dispatch/command.h"

/* As a handler: with a key under its token, without one with all workers stopped. */
enum call_result debug_check(struct call *call);
void debug_table_statistics(struct call *call);
/* Under the key's token, which it takes unless all workers are stopped. */
void debug_key_statistics(struct call *call);

#endif
