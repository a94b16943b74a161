/* Where the keys of a command are, by its key specs. Pure functions, any thread. */
#ifndef SLOTWISE_SERVER_COMMAND_KEYS_H
#define SLOTWISE_SERVER_COMMAND_KEYS_H

#include "server/dispatch/command.h"

/* Indexes of the key arguments into out (capacity room); returns how many there are, which may be
 * more than room; negative if the arguments are malformed. argc must fit the arity. */
int command_keys(const struct command *command, const struct argument *argv, int argc, int *out,
                 int room);
/* As command_keys; flags (may be NULL) gets the key flags of each key, arguments considered. */
int command_keys_and_flags(const struct command *command, const struct argument *argv, int argc,
                           int *out, uint32_t *flags, int room);
/* The triple of COMMAND INFO (first, last, step) that older clients know, out of all key specs:
 * zeros without keys. False: it does not tell all keys (flag movablekeys). */
bool command_legacy_keys(const struct command *command, int *first, int *last, int *step);

#endif
