/* What handlers are given (call.c): lookups, arguments, propagation, common replies. To be called
 * from handlers only: on the worker that runs the command, with the tokens that call->tokens speaks
 * of. */
#ifndef SLOTWISE_SERVER_CALL_H
#define SLOTWISE_SERVER_CALL_H

#include "server/command.h"

/* Lookup as commands do it. read: counts a hit or a miss, notes the access, sees no expired key.
 * write (tokens held): deletes an expired key first. NULL: absent. */
struct object *call_find_read(struct call *call, const struct key *key);
/* No access noted, no hit counted. */
struct object *call_find_read_quietly(struct call *call, const struct key *key);
struct object *call_find_write(struct call *call, const struct key *key);

/* Case-insensitive comparison with a lower-case word. */
bool argument_is(const struct argument *argument, const char *lower_case_word);
/* An integer; false: Redis's error is replied. */
bool argument_integer(struct call *call, int index, int64_t *value);

/* What to propagate instead of argv (deterministic form). No-op without a log. */
void call_propagate(struct call *call, const struct effect_argument *arguments, size_t count);
static inline bool call_is_logged(const struct call *call) {
    return __builtin_expect(call->keyspace->log != NULL, 0);
}

/* What X HELP replies: a heading, the lines (NULL-terminated; two per subcommand), HELP itself. */
void call_reply_help(struct call *call, const char *const *lines);
/* "ERR unknown subcommand or wrong number of arguments for 'x'. Try CONTAINER HELP." */
void call_reply_bad_subcommand(struct call *call);

#endif
