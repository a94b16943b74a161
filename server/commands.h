/* The handlers that the dispatcher must tell from others: their effect is on the session or on how
 * they run. */
#ifndef SLOTWISE_SERVER_COMMANDS_H
#define SLOTWISE_SERVER_COMMANDS_H

#include "server/command.h"

command_handler cmd_multi, cmd_exec, cmd_discard, cmd_watch, cmd_unwatch, cmd_quit, cmd_reset,
    cmd_touch, cmd_scan, cmd_randomkey, cmd_dbsize, cmd_debug;

/* A subcommand of DEBUG that needs all workers stopped. */
bool debug_is_exclusive(const struct call *call);

#endif
