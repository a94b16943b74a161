/* What handlers are given: lookups as commands see them, arguments with Redis's errors, the replies
 * that all containers of subcommands share. A handler includes this and never the dispatcher.
 *
 * Run by: the worker that runs the command, with the tokens that call->tokens speaks of. No state.
 */
#include "server/dispatch/call.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/assert.h"
#include "server/base/numbers.h"
#include "server/dispatch/session.h"

/* --- Lookups ---------------------------------------------------------------------------------- */

/* An expired key is absent for everybody; with the tokens it is deleted if the view allows it.
 * Without them the command runs again with them, so that the memory of what is read too late comes
 * back at once. */
static struct object *find_live(struct call *call, const struct key *key) {
    struct object *object = keyspace_find_raw(call->keyspace, call->database, key);
    if (LIKELY(!object || !view_is_expired(&call->change->view, object)))
        return object;
    if (!view_may_expire(&call->change->view))
        return NULL;
    if (call->tokens)
        keyspace_expire(call->change, call->database, key);
    else
        call->wants_tokens = true;
    return NULL;
}

/* Who wants to know of it is told under the token, and so once, however often a read is tried. */
static void tell_miss(struct call *call, const struct key *key) {
    if (call->tokens)
        change_tell(call->change, call->database, key, CHANGE_KEYMISS);
    else
        call->wants_tokens = true;
}

static inline void count_lookup(struct call *call, const struct object *object) {
    if (object)
        call->hits++;
    else
        call->misses++;
}

struct object *call_find_read_quietly(struct call *call, const struct key *key) {
    struct object *object = find_live(call, key);
    count_lookup(call, object);
    return object;
}

struct object *call_find_read_untouched(struct call *call, const struct key *key) {
    struct object *object = find_live(call, key);
    count_lookup(call, object);
    if (UNLIKELY(call->change->door->tells_misses) && !object)
        tell_miss(call, key);
    return object;
}

struct object *call_find_read(struct call *call, const struct key *key) {
    struct object *object = call_find_read_untouched(call, key);
    if (object && (!call->session->no_touch || (call->command->flags & COMMAND_ALWAYS_TOUCH)))
        access_note(&call->keyspace->access, object);
    return object;
}

struct object *call_find_write(struct call *call, const struct key *key) {
    ASSERT(call->tokens);
    struct object *object = keyspace_find_write(call->change, call->database, key);
    if (object && !call->session->no_touch)
        access_note(&call->keyspace->access, object);
    return object;
}

/* --- Arguments -------------------------------------------------------------------------------- */

bool argument_is(const struct argument *argument, const char *lower_case_word) {
    size_t length = strlen(lower_case_word);
    return argument->length == length && strncasecmp(argument->data, lower_case_word, length) == 0;
}

bool argument_integer(struct call *call, int index, int64_t *value) {
    if (number_parse_int64(call->argv[index].data, call->argv[index].length, value))
        return true;
    reply_error(call->reply, ERROR_NOT_INTEGER);
    return false;
}

void call_propagate(struct call *call, const struct effect_argument *arguments, size_t count) {
    change_append(call->change, call->database, arguments, count);
}

void call_done_logged(struct call *call) {
    _Static_assert(sizeof(struct argument) == sizeof(struct effect_argument) &&
                       offsetof(struct argument, length) ==
                           offsetof(struct effect_argument, length),
                   "arguments are logged as they are");
    change_command_done(call->change, call->database,
                        (const struct effect_argument *)(const void *)call->argv,
                        (size_t)call->argc);
}

void call_note_commit(struct call *call, uint64_t number) {
    call->session->last_commit = number;
}

/* --- Containers of subcommands ---------------------------------------------------------------- */

void call_reply_help(struct call *call, const char *const *lines) {
    size_t n = 0;
    while (lines[n] != NULL)
        n++;
    char heading[256], name[128];
    int length = (int)(call->argv[0].length < sizeof(name) ? call->argv[0].length : sizeof(name));
    for (int i = 0; i < length; i++)
        name[i] = (char)toupper((unsigned char)call->argv[0].data[i]);
    snprintf(heading, sizeof(heading),
             "%.*s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", length, name);
    reply_array(call->reply, n + 3);
    reply_status(call->reply, heading);
    for (size_t i = 0; i < n; i++)
        reply_status(call->reply, lines[i]);
    reply_status(call->reply, "HELP");
    reply_status(call->reply, "    Print this help.");
}

void call_reply_bad_subcommand(struct call *call) {
    char name[32];
    size_t length = call->argv[0].length < sizeof name ? call->argv[0].length : sizeof name - 1;
    for (size_t i = 0; i < length; i++)
        name[i] = (char)toupper((unsigned char)call->argv[0].data[i]);
    size_t shown = call->argv[1].length < 128 ? call->argv[1].length : 128;
    reply_error_format(call->reply,
                       "ERR unknown subcommand or wrong number of arguments for '%.*s'. "
                       "Try %.*s HELP.",
                       (int)shown, call->argv[1].data, (int)length, name);
}
