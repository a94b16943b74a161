/* What handlers are given (call.c): lookups, arguments, propagation, common replies. To be called
 * from handlers only: on the worker that runs the command, with the tokens that call->tokens speaks
 * of. */
#ifndef SLOTWISE_SERVER_CALL_H
#define SLOTWISE_SERVER_CALL_H

#include "server/dispatch/command.h"

/* Lookup as commands do it. read: counts a hit or a miss, notes the access, tells of a miss, sees
 * no expired key. write (tokens held): deletes an expired key first. NULL: absent. */
struct object *call_find_read(struct call *call, const struct key *key);
/* The access clocks stay: EXISTS, TYPE and TTL do not make a key look used. */
struct object *call_find_read_untouched(struct call *call, const struct key *key);
/* Nor is a miss told: OBJECT. */
struct object *call_find_read_quietly(struct call *call, const struct key *key);
struct object *call_find_write(struct call *call, const struct key *key);

/* Case-insensitive comparison with a lower-case word. */
bool argument_is(const struct argument *argument, const char *lower_case_word);
/* An integer; false: Redis's error is replied. */
bool argument_integer(struct call *call, int index, int64_t *value);

/* What to propagate instead of the command's arguments (deterministic form). No-op without a log.
 */
void call_propagate(struct call *call, const struct effect_argument *arguments, size_t count);
static inline bool call_is_logged(const struct call *call) {
    return change_is_logged(call->change);
}

/* The handler has returned: what it changed is logged as its arguments unless it has propagated
 * something else. For whoever runs handlers, each time that it is true that the command has run. */
void call_done_logged(struct call *call);
void call_note_commit(struct call *call, uint64_t number); /* for WAIT */
static inline void call_done(struct call *call) {
    if (call_is_logged(call))
        call_done_logged(call);
}

/* What the unit has changed goes into the effect log, under its tokens. */
static inline void call_commit(struct call *call) {
    uint64_t number = change_commit(call->change);
    if (UNLIKELY(number != 0))
        call_note_commit(call, number);
}

/* What X HELP replies: a heading, the lines (NULL-terminated; two per subcommand), HELP itself. */
void call_reply_help(struct call *call, const char *const *lines);
/* "ERR unknown subcommand or wrong number of arguments for 'x'. Try CONTAINER HELP." */
void call_reply_bad_subcommand(struct call *call);

#endif
