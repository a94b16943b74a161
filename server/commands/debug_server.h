/* Subcommands of DEBUG that force what is rare: moves, taken tokens, waits. Private to cmd_debug.c.
 */
#ifndef SLOTWISE_SERVER_DEBUG_SERVER_H
#define SLOTWISE_SERVER_DEBUG_SERVER_H

#include "server/dispatch/command.h"

enum call_result debug_move_client(struct call *call); /* as a handler */
void debug_slot_serving(struct call *call);            /* all workers are stopped */
void debug_slot_hold(struct call *call);
void debug_patience_hold(struct call *call);
void debug_workers_awake(struct call *call);
void debug_lookup_delay(struct call *call);
void debug_slot_migration_hold(struct call *call);
void debug_drop_cluster_packets(struct call *call); /* all workers are stopped */
void debug_cluster_link(struct call *call);
void debug_time_slices(struct call *call); /* all workers are stopped */

#endif
