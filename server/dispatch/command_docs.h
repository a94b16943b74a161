/* What clients can ask about a command: COMMAND INFO and COMMAND DOCS.
 *
 * The texts are constants; .arguments is a small language that is read each time somebody asks, so
 * that the tree of arguments costs nothing until then:
 *
 *   arguments  = argument { " " argument }
 *   argument   = name [ ":" type ] { modifier } [ "(" arguments ")" ]      type: string when not
 * given modifier   = "#" key spec index | "=" token | "~" display text | "^" since | "!" deprecated
 * since | "?" optional | "*" multiple | "+" multiple with the token repeated
 *
 * A word that contains one of " ()?*+#=~^!'" stands in single quotes. The types oneof and block
 * have arguments of their own in parentheses.
 *
 * Pure functions of the table and the reply; any thread. */
#ifndef SLOTWISE_SERVER_COMMAND_DOCS_H
#define SLOTWISE_SERVER_COMMAND_DOCS_H

#include "server/dispatch/command.h"

struct command_documentation {
    const char *complexity;
    const char *tips;                             /* words */
    const char *key_notes[COMMAND_KEY_SPECS_MAX]; /* remark on a key spec */
    const char *flags;                            /* words: deprecated, syscmd */
    const char *deprecated_since;
    const char *replaced_by;
    const char *history; /* a line "version text" for each change */
    const char *arguments;
};

/* The details of a row of commands.def; all fields NULL for one that has none. */
const struct command_documentation *command_documentation(unsigned row);

/* One element of COMMAND INFO's reply; NULL: the command is unknown. */
void command_reply_info(struct reply *reply, const struct command *command);
/* The value of one command in COMMAND DOCS's reply. */
void command_reply_docs(struct reply *reply, const struct command *command);
/* The names of key flags ("RW", "access" ...), as COMMAND INFO and GETKEYSANDFLAGS show them. */
void command_reply_key_flags(struct reply *reply, uint32_t flags);

#endif
