/* The rows of commands.def as numbers: ROW_get, ROW_config_get ... Private to the command table and
 * what needs to name a row without its handler. */
#ifndef SLOTWISE_SERVER_COMMAND_ROWS_H
#define SLOTWISE_SERVER_COMMAND_ROWS_H

enum command_row {
#define COMMAND(id, ...)            ROW_##id,
#define CONTAINER(id, ...)          ROW_##id,
#define SUBCOMMAND(parent, id, ...) ROW_##id,
#include "server/dispatch/commands.def"
#undef COMMAND
#undef CONTAINER
#undef SUBCOMMAND
    ROW_COUNT
};

#endif
