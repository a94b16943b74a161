/* What the handlers of the data commands (cmd_string.c, cmd_increment.c, cmd_lcs.c, cmd_key.c,
 * cmd_expire.c, cmd_scan.c, cmd_flush.c) share. Called from handlers only: on the worker that runs
 * the command, with the tokens that call->tokens speaks of. */
#ifndef SLOTWISE_SERVER_CMD_DATA_H
#define SLOTWISE_SERVER_CMD_DATA_H

#include "engine/assert.h"
#include "server/dispatch/call.h"

#define ERROR_SAME_OBJECT "ERR source and destination objects are the same"

/* Publishes object in place of old, or as a new key when old is NULL. Needs the token. */
static inline void data_publish(struct call *call, const struct key *key, struct object *old,
                                struct object *object, enum change_event event) {
    if (old)
        keyspace_replace(call->change, call->database, key, old, object, event);
    else
        keyspace_add(call->change, call->database, key, object, event);
}

/* false: not a string, and the error is replied. */
static inline bool data_is_string(struct call *call, const struct object *object) {
    if (LIKELY(object_type(object) == OBJECT_STRING))
        return true;
    reply_error(call->reply, ERROR_WRONG_TYPE);
    return false;
}

/* The value is one that only the token protects, and the command runs without: CALL_NEED_TOKENS. */
static inline bool data_is_protected(const struct call *call, const struct object *object) {
    return UNLIKELY(object_needs_token(object)) && !call->tokens;
}

/* The time of this unit of work. */
static inline int64_t data_now_ms(struct call *call) {
    return view_now_ms(&call->change->view);
}

/* The latest time that fits beside the mark for "no expiry". A user who asks for INT64_MAX gets a
 * TTL that is a millisecond shorter after 292 million years. */
static inline int64_t data_clamp_expiry(int64_t expiry_ms) {
    return expiry_ms == OBJECT_NO_EXPIRY ? OBJECT_NO_EXPIRY + 1 : expiry_ms;
}

/* A string of a + b bytes keeps proto-max-bulk-len. false: error replied. */
bool data_length_is_allowed(struct call *call, size_t a, size_t b);

/* A node of a cluster has database 0 only, and its role from the cluster: true, and message is
 * replied. */
bool data_single_database(struct call *call, const char *message);

/* "ERR invalid expire time in 'x' command" */
void data_reply_bad_expiry(struct call *call);

/* The expire argument of SET, SETEX and GETEX as unix time in ms: argv[index] is positive, in
 * seconds or ms, from now or absolute. false: error replied. */
bool data_expiry_argument(struct call *call, int index, bool seconds, bool relative,
                          int64_t *expiry_ms);

/* An int in argv[index]; message is the error for anything else, NULL for the common texts. false:
 * error replied. */
bool data_int_argument(struct call *call, int index, const char *message, int *value);

/* A cursor of SCAN and its kind in argv[index]; false: error replied. */
bool data_cursor_argument(struct call *call, int index, uint64_t *cursor);

/* A number of a database; false: error replied. */
bool data_database_exists(struct call *call, int number);

/* A key whose new time to live is over already: it goes, and is propagated as a deletion. */
void data_expire_at_once(struct call *call, const struct key *key);

/* Propagation: name key, and name key integer. No-ops without a log. */
void data_propagate_key(struct call *call, const char *name, const struct key *key);
void data_propagate_key_integer(struct call *call, const char *name, const struct key *key,
                                int64_t value);

#endif
