/* See input.h.
 *
 * Where bytes live: commands are parsed in the backend's receive buffer and executed from there
 * before the turn ends. Only what is left (the beginning of a command, or everything behind one
 * that waits) is copied into the connection's query buffer. Entries of the batch point into one of
 * the two, so neither is moved or given back while a connection has entries.
 *
 * Fairness: in one turn a connection gets TURN_BUDGET of work, counted in bytes with something on
 * top for each argument: twenty short keys of one MSET are as much work as twenty SETs. Who has
 * used it up runs what it has in the batch and waits in the loop's ready list for the next turn;
 * what it sends meanwhile is kept up to QUERY_STOP_BYTES, then it is not read from. So no
 * connection keeps the others waiting for longer than its share takes. */
#include "server/clients/input.h"

#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/batch.h"
#include "server/clients/server.h"
#include "server/config/config.h"

#define TURN_BUDGET   (32 * 1024)
#define ARGUMENT_COST 16 /* of the budget, besides its bytes */

/* --- Query buffer ----------------------------------------------------------------------------- */

/* --- Commands --------------------------------------------------------------------------------- */

static void protocol_error(struct conn *conn, const char *text) {
    log_write(LOG_LEVEL_VERBOSE, "Protocol error (%s) from client: id=%llu", text,
              (unsigned long long)conn->session.id);
    if (conn->owner)
        conn->owner->broken(conn, text);
    reply_error(&conn->reply, text);
    conn_mark_dirty(conn);
    conn_close_after_reply(conn);
}

/* Looking up the same few names again and again: a few of them are remembered per loop, by their
 * last eight bytes as they came. Before a name in a multibulk request stand at least
 * "*1\r\n$1\r\n", so that these bytes can always be read, and with the length they say which name
 * of up to eight bytes it was. */
__attribute__((always_inline)) static inline const struct command *
lookup(struct loop *loop, const struct argument *argv, int argc, bool was_inline) {
    const struct command *container;
    size_t length = argv[0].length;
    if (UNLIKELY(was_inline || length > 8 || length == 0))
        return command_lookup(argv, argc, &container);
    uint64_t name;
    memcpy(&name, argv[0].data + length - 8, 8);
    struct remembered_name *remembered = &loop->names[(name >> 40 ^ length) % LOOP_NAMES];
    if (LIKELY(remembered->name == name && remembered->length == length))
        return remembered->command;
    const struct command *command = command_lookup(argv, argc, &container);
    if (command && !command->parent && !command->subcommands)
        *remembered = (struct remembered_name){name, length, command};
    return command;
}

const struct command *input_command(struct loop *loop, const struct argument *argv, int argc) {
    return lookup(loop, argv, argc, false);
}

/* The keys of a command with a list of them are hashed once, here, as far as the arena has room. */
static void hash_keys(struct batch *batch, struct call *call) {
    const struct key_spec *spec = &call->command->key_specs[0];
    int last = spec->last < 0 ? call->argc + spec->last : spec->last;
    unsigned count = last >= spec->first ? (unsigned)((last - spec->first) / spec->step) + 1 : 0;
    if (call->command->key_spec_count != 1 || count < 2 || last >= call->argc ||
        count > BATCH_KEYS - batch->keys_used)
        return;
    struct key *keys = &batch->keys[batch->keys_used];
    keys[0] = call->key;
    for (unsigned i = 1; i < count; i++) {
        const struct argument *key = &call->argv[spec->first + (int)i * spec->step];
        keys[i] = key_make(key->data, key->length);
    }
    batch->keys_used += count;
    call->keys = keys;
    call->key_count = count;
    call->key_step = (uint32_t)spec->step;
}

/* Turns one parsed command into a complete entry: looks it up, hashes its first key. */
static inline void entry_prepare(struct batch_entry *entry, struct conn *conn,
                                 const struct parse_output *parsed) {
    struct call *call = &entry->call;
    struct loop *loop = conn->loop;
    call->argc = parsed->argc;
    call->reply = &conn->reply;
    call->session = &conn->session;
    call->server = loop->server;
    call->keyspace = loop->execution.keyspace;
    call->in_exec = false;
    call->exclusive = false;
    call->tokens = false;
    call->first_key = 0;
    call->keys = NULL;
    call->command = lookup(loop, call->argv, call->argc, parsed->was_inline);
    if (LIKELY(call->command != NULL) && call->command->key_spec_count > 0) {
        int first = call->command->key_specs[0].first;
        if (first > 0 && first < call->argc) {
            call->first_key = first;
            call->key = key_make(call->argv[first].data, call->argv[first].length);
            if (call->command->key_specs[0].last != first)
                hash_keys(&loop->batch, call);
        }
    }
}

/* As long as the line: what is behind it may be a whole pipeline. */
static char *inline_scratch(struct batch_entry *entry, const char *data, size_t length) {
    const char *end = memchr(data, '\n', length);
    if (!entry->scratch)
        entry->scratch = memory_alloc(end ? (size_t)(end - data) + 1 : length + 1);
    return entry->scratch;
}

/* Parses one command at data into entry->call.argv, wherever that fits. */
static inline void parse_one(struct conn *conn, struct batch_entry *entry, const char *data,
                             size_t length, const struct parse_limits *limits,
                             struct parse_output *out) {
    struct batch *batch = &conn->loop->batch;
    struct argument *argv = batch->arguments + batch->arguments_used;
    int room = (int)(BATCH_ARGUMENTS - batch->arguments_used);
    char *scratch = NULL;
    if (UNLIKELY(*data != '*')) {
        scratch = inline_scratch(entry, data, length);
        if (conn->owner && *data != '\n' && *data != '\r') { /* it sends nothing by hand */
            out->result = PARSE_ERROR;
            out->error = "ERR Protocol error: inline command";
            return;
        }
    }
    resp_parse(data, length, limits, argv, room, scratch, out);
    if (UNLIKELY(out->result == PARSE_ARGUMENTS)) {
        int wanted = out->argc;
        entry->own_argv = memory_alloc((size_t)wanted * sizeof *argv);
        argv = entry->own_argv;
        resp_parse(data, length, limits, argv, wanted, scratch, out);
    }
    entry->call.argv = argv;
}

/* A command of many arguments that arrives in many packets is parsed on from where the last packet
 * ended; else looking at it again for each packet would take quadratic time. */
static void parse_large(struct conn *conn, struct batch_entry *entry, const char *data,
                        size_t length, const struct parse_limits *limits,
                        struct parse_output *out) {
    if (!conn->large)
        conn->large = memory_calloc(1, sizeof *conn->large);
    resp_parse_large(conn->large, data, length, limits, out);
    entry->call.argv = conn->large->argv;
}

static inline bool is_trusted(const struct conn *conn) {
    return LIKELY(conn->session.authenticated) || !config_current()->requirepass;
}

static inline void parse_next(struct conn *conn, struct batch_entry *entry, const char *data,
                              size_t length, bool *large, struct parse_output *out) {
    const struct parse_limits limits = {config_current()->proto_max_bulk_len, is_trusted(conn)};
    *large = conn->large != NULL;
    if (LIKELY(!*large)) {
        parse_one(conn, entry, data, length, &limits, out);
        if (LIKELY(out->result != PARSE_INCOMPLETE || out->argc < RESP_LARGE_ARGUMENTS))
            return;
    }
    parse_large(conn, entry, data, length, &limits, out);
}

/* An entry is complete. What the next command depends on (AUTH), or what will not stay where it is,
 * runs at once. */
static void command_parsed(struct conn *conn, struct batch_entry *entry,
                           const struct parse_output *out, bool large) {
    struct loop *loop = conn->loop;
    entry_prepare(entry, conn, out);
    batch_add(loop, entry, large);
    if (UNLIKELY(large || !is_trusted(conn))) {
        batch_run(loop);
        conn_large_end(conn);
    }
}

static inline void begin_turn(struct conn *conn) {
    if (conn->turn != conn->loop->turn) {
        conn->turn = conn->loop->turn;
        conn->spent = 0;
    }
}

bool input_turn_is_over(struct conn *conn) {
    begin_turn(conn);
    return conn->spent >= TURN_BUDGET;
}

enum parse_end { PARSE_END_ALL, PARSE_END_INCOMPLETE, PARSE_END_STOPPED, PARSE_END_BUDGET };

/* Parses [data, data + length) into the batch, which may run meanwhile. *done: bytes that became
 * entries; *missing: how many the next command wants at least. STOPPED: the connection is not IDLE
 * any more, and what was not executed has been kept. */
static enum parse_end parse_all(struct conn *conn, const char *data, size_t length, size_t *done,
                                size_t *missing) {
    struct loop *loop = conn->loop;
    begin_turn(conn);
    size_t at = 0;
    *missing = 0;
    for (*done = 0; at < length; *done = at) {
        if (UNLIKELY(conn->spent >= TURN_BUDGET))
            return PARSE_END_BUDGET;
        struct batch_entry *entry = batch_next(loop, conn);
        if (UNLIKELY(conn->state != CONN_IDLE))
            return PARSE_END_STOPPED;
        struct parse_output out;
        bool large;
        parse_next(conn, entry, data + at, length - at, &large, &out);
        if (LIKELY(out.result == PARSE_COMMAND && out.argc > 0)) {
            entry->start = data + at;
            at += out.consumed;
            entry->end = data + at;
            conn->spent += out.consumed + out.argc * ARGUMENT_COST;
            command_parsed(conn, entry, &out, large);
            if (UNLIKELY(conn->state != CONN_IDLE))
                return PARSE_END_STOPPED;
            continue;
        }
        batch_entry_drop(entry);
        if (out.result == PARSE_COMMAND) { /* an empty line */
            at += out.consumed;
            conn->spent += ARGUMENT_COST;
        } else if (out.result == PARSE_ERROR) {
            batch_run(loop); /* what came before is answered first */
            if (conn->state == CONN_IDLE)
                protocol_error(conn, out.error);
            return PARSE_END_STOPPED;
        } else {
            *missing = out.missing_hint;
            return PARSE_END_INCOMPLETE;
        }
    }
    return PARSE_END_ALL;
}

/* The budget of this turn is used up: what is in the batch runs, the rest waits for the next turn.
 * true: it does; false: the batch has brought the connection into another state. */
static bool yield(struct conn *conn) {
    batch_run(conn->loop);
    if (conn->state != CONN_IDLE)
        return false;
    conn_become(conn, CONN_READY);
    return true;
}

void input_parse(struct conn *conn, const char *data, size_t length) {
    ASSERT(conn->state == CONN_IDLE && !conn->in_batch && conn_query_bytes(conn) == 0);
    conn->source_end = data + length;
    conn->source_is_query = false;
    size_t done, missing;
    enum parse_end end = parse_all(conn, data, length, &done, &missing);
    if (UNLIKELY(end == PARSE_END_STOPPED || (end == PARSE_END_BUDGET && !yield(conn))))
        return; /* conn_batch_done has kept what was not executed */
    if (LIKELY(done == length))
        return;
    conn->query.needed = missing ? length - done + missing : 0;
    conn_keep_input(conn, data + done, length - done);
}

void input_parse_kept(struct conn *conn) {
    struct query_buffer *query = &conn->query;
    ASSERT(conn->state == CONN_IDLE && !conn->in_batch && query->parsed == query->begin);
    size_t length = query->end - query->begin;
    if (length == 0 || length < query->needed)
        return;
    conn->source_end = query->data + query->end;
    conn->source_is_query = true;
    size_t done, missing;
    enum parse_end end = parse_all(conn, query->data + query->begin, length, &done, &missing);
    if (end == PARSE_END_STOPPED)
        return;
    query->parsed = query->begin + done;
    query->needed = missing ? length - done + missing : 0;
    if (end == PARSE_END_BUDGET)
        yield(conn);
    if (!conn->in_batch && query->parsed > query->begin)
        query_drop(query, query->parsed); /* all of it ran while it was being parsed */
}
