/* See connections.h. */
#include "server/clients/connections.h"

#include "engine/clock.h"
#include "server/base/numbers.h"
#include "server/clients/pubsub.h"
#include "server/clients/server.h"
#include "server/dispatch/call.h"

/* --- Which there are -------------------------------------------------------------------------- */

bool client_type_by_name(const struct argument *name, enum client_type *type) {
    static const struct {
        const char *name;
        enum client_type type;
    } types[] = {{"normal", CLIENT_NORMAL},
                 {"slave", CLIENT_REPLICA},
                 {"replica", CLIENT_REPLICA},
                 {"pubsub", CLIENT_PUBSUB},
                 {"master", CLIENT_MASTER}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (argument_is(name, types[i].name)) {
            *type = types[i].type;
            return true;
        }
    return false;
}

enum client_type connections_type(const struct conn *conn) {
    if (conn->session.applies)
        return CLIENT_MASTER;
    if (conn_is_replica(conn))
        return CLIENT_REPLICA;
    return conn->session.subscriptions ? CLIENT_PUBSUB : CLIENT_NORMAL;
}

static bool is_ending(const struct conn *conn) {
    return conn->state >= CONN_CLOSING || conn->session.kill_requested;
}

size_t connections_next(struct server *server, struct client_walk *walk, struct conn **connections,
                        bool *more) {
    size_t seen = client_walk_next(walk, &server->clients, connections, CONNECTIONS_PIECE, more);
    size_t count = 0;
    for (size_t i = 0; i < seen; i++)
        if (!is_ending(connections[i]))
            connections[count++] = connections[i];
    return count;
}

struct conn *connections_find(struct server *server, uint64_t id) {
    struct conn *conn = client_list_find(&server->clients, id);
    return conn && !is_ending(conn) ? conn : NULL;
}

/* --- What they look like ---------------------------------------------------------------------- */

void connection_facts_note(struct connection_facts *facts, const struct conn *conn,
                           uint64_t now_ms) {
    const struct session *session = &conn->session;
    const struct transaction *transaction = &session->transaction;
    *facts = (struct connection_facts){
        .id = session->id,
        .now_ms = now_ms,
        .created_ms = session->created_ms,
        .active_ms = conn->last_active_ms,
        .peer = conn->peer,
        .local = conn->local,
        .name = shared_text_use(session->name),
        .library_name = shared_text_use(session->library_name),
        .library_version = shared_text_use(session->library_version),
        .last_command = session->last_command,
        .queued = transaction->count,
        .queued_bytes = transaction->bytes - transaction->arguments * sizeof(struct argument),
        .spare_bytes = conn->query.capacity - conn_query_bytes(conn),
        .pending_bytes = reply_pending_bytes(&conn->reply),
        .output_blocks = conn->io.output_blocks,
        .output_bytes = conn->io.output_bytes,
        .memory_bytes = conn_memory_bytes(conn),
        .fd = conn->io.fd,
        .database = session->database,
        .resp = session->resp,
        .applies = session->applies,
        .replica = conn_is_replica(conn),
        .in_multi = session->in_multi,
        .blocked =
            (session->unfinished && session->unfinished->ends_with_input) ||
            (conn->wait.state == WAIT_TIME && conn->wait.list == &conn->loop->execution.paused),
        .dirty = atomic_load_explicit(&session->watch_dirty, memory_order_relaxed),
        .closing = conn->state == CONN_DRAINING,
        .reads_replica = session->reads_replica,
        .no_evict = session->no_evict,
        .no_touch = session->no_touch,
        .has_block = conn->reply.cursor != NULL,
        .sending = conn->io.sending,
    };
    for (int kind = 0; session->subscriptions && kind < PUBSUB_KINDS; kind++)
        facts->subscriptions[kind] = session->subscriptions->of[kind].count;
    conn_incomplete_bytes(conn, &facts->argument_bytes, &facts->unparsed_bytes);
}

void connection_facts_drop(struct connection_facts *facts) {
    shared_text_drop(facts->name);
    shared_text_drop(facts->library_name);
    shared_text_drop(facts->library_version);
}

static void flags_text(const struct connection_facts *facts, char flags[16]) {
    char *cursor = flags;
    if (facts->replica)
        *cursor++ = 'S';
    if (facts->applies)
        *cursor++ = 'M';
    if (facts->subscriptions[PUBSUB_CHANNEL] + facts->subscriptions[PUBSUB_PATTERN] > 0)
        *cursor++ = 'P';
    if (facts->in_multi)
        *cursor++ = 'x';
    if (facts->blocked)
        *cursor++ = 'b';
    if (facts->dirty)
        *cursor++ = 'd';
    if (facts->closing)
        *cursor++ = 'c';
    if (address_is_unix(&facts->peer))
        *cursor++ = 'U';
    if (facts->reads_replica)
        *cursor++ = 'r';
    if (facts->no_evict)
        *cursor++ = 'e';
    if (facts->no_touch)
        *cursor++ = 'T';
    if (cursor == flags)
        *cursor++ = 'N';
    *cursor = '\0';
}

/* Bytes of a command's arguments, and of the command as it came over the wire (in the usual form).
 */
static void argument_bytes(const struct call *running, size_t *arguments, size_t *wire) {
    *arguments = 0;
    *wire = 0;
    if (!running)
        return;
    *wire = 3 + number_digits((uint64_t)running->argc);
    for (int i = 0; i < running->argc; i++) {
        size_t length = running->argv[i].length;
        *arguments += length;
        *wire += 5 + number_digits(length) + length;
    }
}

/* Fields with their names in front. Not by a format: a listing has hundreds of thousands. */
static void put_word(struct text *text, const char *name, const char *value) {
    text_append_string(text, name);
    text_append_string(text, value);
}

static void put_number(struct text *text, const char *name, int64_t value) {
    char digits[NUMBER_INT64_SIZE];
    text_append_string(text, name);
    text_append(text, digits, number_write_int64(digits, value));
}

void connection_facts_write(struct text *text, const struct connection_facts *facts,
                            const struct call *running) {
    char peer[128], local[128], flags[16];
    size_t arguments, wire;
    conn_address_text(&facts->peer, peer, sizeof peer);
    conn_address_text(&facts->local, local, sizeof local);
    flags_text(facts, flags);
    argument_bytes(running, &arguments, &wire);
    size_t memory = facts->memory_bytes;
    if (running) /* as Redis counts them: where they were received is the worker's */
        memory += arguments + (size_t)running->argc * sizeof *running->argv;
    uint64_t idle_ms = running ? 0 : facts->now_ms - facts->active_ms;
    put_number(text, "id=", (int64_t)facts->id);
    put_word(text, " addr=", peer);
    put_word(text, " laddr=", local);
    put_number(text, " fd=", facts->fd);
    put_word(text, " name=", shared_text_string(facts->name));
    put_number(text, " age=", (int64_t)(facts->now_ms - facts->created_ms) / 1000);
    put_number(text, " idle=", (int64_t)idle_ms / 1000);
    put_word(text, " flags=", flags);
    put_number(text, " db=", facts->database);
    put_number(text, " sub=", (int64_t)facts->subscriptions[PUBSUB_CHANNEL]);
    put_number(text, " psub=", (int64_t)facts->subscriptions[PUBSUB_PATTERN]);
    put_number(text, " ssub=", (int64_t)facts->subscriptions[PUBSUB_SHARD]);
    put_number(text, " multi=", facts->in_multi ? (int64_t)facts->queued : -1);
    put_number(text, " qbuf=", (int64_t)(running ? wire : facts->unparsed_bytes));
    put_number(text, " qbuf-free=", (int64_t)facts->spare_bytes);
    put_number(text, " argv-mem=", (int64_t)(running ? arguments : facts->argument_bytes));
    put_number(text, " multi-mem=", (int64_t)facts->queued_bytes);
    put_number(text, " rbs=", facts->has_block ? OUTPUT_BLOCK_BYTES : 0);
    put_number(text, " rbp=", (int64_t)facts->pending_bytes);
    put_number(text, " obl=", (int64_t)facts->pending_bytes);
    put_number(text, " oll=", (int64_t)facts->output_blocks);
    put_number(text, " omem=", (int64_t)facts->output_bytes);
    put_number(text, " tot-mem=", (int64_t)memory);
    put_word(text, " events=", facts->sending ? "rw" : "r");
    put_word(text, " cmd=", facts->last_command ? facts->last_command->name : "NULL");
    put_number(text, " user=default redir=-1 resp=", facts->resp);
    put_word(text, " lib-name=", shared_text_string(facts->library_name));
    put_word(text, " lib-ver=", shared_text_string(facts->library_version));
    text_append(text, "\n", 1);
}

void connections_describe(struct text *text, const struct conn *conn, const struct call *running) {
    struct connection_facts facts;
    connection_facts_note(&facts, conn, clock_monotonic_us() / 1000);
    connection_facts_write(text, &facts, running);
    connection_facts_drop(&facts);
}
