/* Connections: bytes in, batch entries; replies out; the end of one. See conn.h for who owns what.
 *
 * Where bytes live: commands are parsed in the backend's receive buffer and executed from there
 * before the turn ends. Only what is left (the beginning of a command, or everything behind a
 * parked command) is copied into the connection's query buffer. Entries of the running batch point
 * into one of the two, so neither is moved or given back while a connection has entries:
 * conn_receive runs the batch first. */
#include "server/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/config.h"
#include "server/log.h"
#include "server/worker.h"

#define QUERY_TRUST_BYTES (1024 * 1024)
#define QUERY_SPARE_BYTES                                                                          \
    (32 * 1024) /* a query buffer larger than this is given back when it is empty */

struct conn *conn_create(struct worker *worker, int fd, bool tcp) {
    struct conn *conn = memory_calloc(1, sizeof *conn);
    struct server *server = worker->server;
    conn->io.fd = fd;
    conn->tcp = tcp;
    conn->worker = worker;
    reply_init(&conn->reply);
    const struct config *config = config_current();
    bool open = !config->requirepass;
    session_init(&conn->session, atomic_fetch_add(&server->next_client_id, 1), open);
    conn->last_active_ms = conn->session.created_ms;
    return conn;
}

/* --- Query buffer
 * -------------------------------------------------------------------------------------------- */

static void query_append(struct query_buffer *query, const char *data, size_t length) {
    size_t wanted = query->length + length;
    if (wanted > query->capacity) {
        /* Doubling; the announced size at once when it is not far away (what was announced need not
         * come). */
        size_t capacity = query->capacity * 2 > wanted ? query->capacity * 2 : wanted;
        if (query->needed > wanted &&
            (query->needed <= QUERY_TRUST_BYTES || query->needed / 4 <= wanted))
            capacity = query->needed;
        query->data = memory_realloc(query->data, capacity);
        query->capacity = capacity;
    }
    memcpy(query->data + query->length, data, length);
    query->length = wanted;
}

static void query_drop(struct query_buffer *query, size_t n) {
    query->length -= n;
    query->needed = 0;
    if (query->length > 0) {
        memmove(query->data, query->data + n, query->length);
    } else {
        memory_free(query->data);
        *query = (struct query_buffer){0};
    }
    query->parsed = 0;
}

/* --- Parsing
 * -----------------------------------------------------------------------------------------------------
 */

static void protocol_error(struct conn *conn, const char *text) {
    char error[160];
    snprintf(error, sizeof error, "%s", text);
    log_write(LOG_LEVEL_VERBOSE, "Protocol error (%s) from client: id=%llu", text,
              (unsigned long long)conn->session.id);
    reply_error(&conn->reply, error);
    conn_mark_dirty(conn);
    conn_close_after_reply(conn);
}

/* Looking up the same few names again and again: four of them are remembered per worker, by their
 * last eight bytes as they came. Before a name in a multibulk request stand at least
 * "*1\r\n$1\r\n", so that these bytes can always be read, and with the length they say which name
 * of up to eight bytes it was. */
static const struct command *lookup(struct worker *worker, const struct argument *argv, int argc,
                                    bool was_inline) {
    const struct command *container;
    size_t length = argv[0].length;
    if (UNLIKELY(was_inline || length > 8 || length == 0))
        return command_lookup(argv, argc, &container);
    uint64_t name;
    memcpy(&name, argv[0].data + length - 8, 8);
    struct remembered_name *remembered = &worker->names[(name >> 40 ^ length) % WORKER_NAMES];
    if (LIKELY(remembered->name == name && remembered->length == length))
        return remembered->command;
    const struct command *command = command_lookup(argv, argc, &container);
    if (command && !command->parent && !command->subcommands)
        *remembered = (struct remembered_name){name, length, command};
    return command;
}

/* Turns one parsed command into a complete entry: looks it up, hashes its first key. */
static inline void entry_prepare(struct batch_entry *entry, struct conn *conn,
                                 const struct parse_output *parsed) {
    struct call *call = &entry->call;
    struct worker *worker = conn->worker;
    call->argc = parsed->argc;
    call->reply = &conn->reply;
    call->session = &conn->session;
    call->server = worker->server;
    call->keyspace = worker->server->keyspace;
    call->in_exec = false;
    call->tokens = false;
    call->first_key = 0;
    call->command = lookup(worker, call->argv, call->argc, parsed->was_inline);
    if (LIKELY(call->command != NULL) && call->command->key_spec_count > 0) {
        int first = call->command->key_specs[0].first;
        if (first > 0 && first < call->argc) {
            call->first_key = first;
            call->key = key_make(call->argv[first].data, call->argv[first].length);
        }
    }
}

static char *inline_scratch(struct batch_entry *entry, size_t length) {
    if (!entry->scratch)
        entry->scratch = memory_alloc(length + 1);
    return entry->scratch;
}

/* Parses one command at data into entry->call.argv, wherever that fits. */
static inline void parse_one(struct conn *conn, struct batch_entry *entry, const char *data,
                             size_t length, const struct parse_limits *limits,
                             struct parse_output *out) {
    struct batch *batch = &conn->worker->batch;
    struct argument *argv = batch->arguments + batch->arguments_used;
    int room = (int)(BATCH_ARGUMENTS - batch->arguments_used);
    char *scratch = NULL;
    if (UNLIKELY(*data != '*'))
        scratch = inline_scratch(entry, length);
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
 * ended; else looking at it again for each packet would take quadratic time. true: entry is
 * complete. */
static bool parse_large(struct conn *conn, struct batch_entry *entry, const char *data,
                        size_t length, struct parse_output *out) {
    const struct parse_limits limits = {config_current()->proto_max_bulk_len,
                                        conn->session.authenticated};
    if (!conn->large)
        conn->large = memory_calloc(1, sizeof *conn->large);
    resp_parse_large(conn->large, data, length, &limits, out);
    entry->call.argv = conn->large->argv;
    return out->result == PARSE_COMMAND;
}

static void large_end(struct conn *conn) {
    if (!conn->large)
        return;
    resp_parse_large_release(conn->large);
    memory_free(conn->large);
    conn->large = NULL;
}

/* Parses [data, data + length) into the batch until it is used up; returns the bytes that became
 * entries. The batch may run meanwhile. Stops when the connection parks or closes. */
static size_t parse_all(struct conn *conn, const char *data, size_t length, size_t *missing) {
    struct worker *worker = conn->worker;
    size_t done = 0;
    const int64_t bulk_length_max = config_current()->proto_max_bulk_len;
    *missing = 0;
    while (done < length && !conn->stop_batch && !conn->close_after_reply) {
        struct batch_entry *entry = batch_next(worker, conn);
        if (UNLIKELY(conn->stop_batch || conn->closing))
            break;
        struct parse_output out;
        bool large = conn->large != NULL;
        const struct parse_limits limits = {bulk_length_max, conn->session.authenticated};
        if (UNLIKELY(large))
            parse_large(conn, entry, data + done, length - done, &out);
        else
            parse_one(conn, entry, data + done, length - done, &limits, &out);
        if (UNLIKELY(!large && out.result == PARSE_INCOMPLETE && out.argc >= RESP_LARGE_ARGUMENTS))
            parse_large(conn, entry, data + done, length - done, &out);
        if (LIKELY(out.result == PARSE_COMMAND)) {
            if (UNLIKELY(out.argc == 0)) {
                done += out.consumed;
                batch_entry_drop(entry);
                continue;
            }
            entry->start = data + done;
            done += out.consumed;
            entry_prepare(entry, conn, &out);
            batch_add(worker, entry, large);
            if (UNLIKELY(!conn->session.authenticated))
                batch_run(worker); /* AUTH changes what may be parsed next */
            if (UNLIKELY(large)) {
                batch_run(worker); /* while its arguments live */
                large_end(conn);
            }
            continue;
        }
        batch_entry_drop(entry);
        if (out.result == PARSE_ERROR) {
            batch_run(worker); /* what came before is answered first */
            if (!conn->stop_batch)
                protocol_error(conn, out.error);
            return length;
        }
        done += out.consumed;
        *missing = out.missing_hint;
        break;
    }
    return done;
}

/* Parses what is in the query buffer. */
static void parse_query(struct conn *conn) {
    struct query_buffer *query = &conn->query;
    if (query->length == query->parsed || query->length < query->needed)
        return;
    conn->source_end = query->data + query->length;
    size_t missing, before = query->parsed;
    size_t done = parse_all(conn, query->data + before, query->length - before, &missing);
    if (conn->stop_batch || conn->closing || conn->close_after_reply)
        return; /* conn_batch_done has seen to the rest */
    query->parsed = before + done;
    size_t rest = query->length - query->parsed;
    if (!conn->touched && query->parsed > 0)
        query_drop(query, query->parsed);
    query->needed = query->parsed + (missing ? rest + missing : 0);
}

static bool over_query_limit(struct conn *conn) {
    uint64_t limit = config_current()->client_query_buffer_limit;
    if (conn->query.length <= limit)
        return false;
    log_write(
        LOG_LEVEL_WARNING,
        "Closing client that reached max query buffer length: id=%llu (qbuf initial bytes: %zu)",
        (unsigned long long)conn->session.id, conn->query.length);
    conn_close(conn);
    return true;
}

static void end_of_input(struct conn *conn, int64_t length) {
    conn->end_of_input = true;
    if (length < 0) {
        conn_close(conn);
        return;
    }
    /* Half-closed: whatever was sent before is still answered. */
    if (conn->touched)
        batch_run(conn->worker);
    if (!conn->parked && !conn->closing)
        conn_close_after_reply(conn);
}

void conn_receive(struct conn *conn, const char *data, int64_t length) {
    if (conn->closing)
        return;
    if (UNLIKELY(conn->touched))
        batch_run(conn->worker);
    if (conn->closing)
        return;
    if (UNLIKELY(length <= 0)) {
        end_of_input(conn, length);
        return;
    }
    conn->received_bytes += (uint64_t)length;
    struct worker *worker = conn->worker;
    COUNTER_ADD(worker->received_bytes, (uint64_t)length);
    COUNTER_ADD(worker->reads, 1);
    if (UNLIKELY(conn->close_after_reply))
        return;
    if (LIKELY(conn->query.length == 0 && !conn->parked)) {
        conn->source_end = data + length;
        size_t missing, done = parse_all(conn, data, (size_t)length, &missing);
        if (conn->closing || conn->parked || conn->close_after_reply)
            return;
        size_t rest = (size_t)length - done;
        if (UNLIKELY(rest > 0)) {
            conn->query.needed = missing ? rest + missing : 0;
            query_append(&conn->query, data + done, rest);
        }
    } else {
        query_append(&conn->query, data, (size_t)length);
        if (!conn->parked)
            parse_query(conn);
        else if (conn->query.length > QUERY_SPARE_BYTES * 4)
            io_receive_stop(worker->io, &conn->io);
    }
    if (!conn->closing)
        over_query_limit(conn);
}

void conn_batch_done(struct conn *conn, const char *unexecuted) {
    struct query_buffer *query = &conn->query;
    bool in_query = query->data && conn->source_end >= query->data &&
                    conn->source_end <= query->data + query->capacity && query->length > 0;
    if (UNLIKELY(unexecuted != NULL)) {
        if (in_query) {
            query_drop(query, (size_t)(unexecuted - query->data));
        } else {
            query->length = 0; /* an incomplete end that was put there already is part of it */
            query_append(query, unexecuted, (size_t)(conn->source_end - unexecuted));
        }
        query->needed = 0;
    } else if (in_query && query->parsed > 0) {
        size_t needed = query->needed > query->parsed ? query->needed - query->parsed : 0;
        query_drop(query, query->parsed);
        query->needed = needed;
    }
}

/* --- Going on, ending
 * ---------------------------------------------------------------------------------------------- */

void conn_resume(struct conn *conn) {
    conn->parked = false;
    conn->stop_batch = false;
    if (conn->kill_requested)
        conn_close(conn);
    if (conn->closing) {
        conn_released(conn);
        return;
    }
    parse_query(conn);
    if (conn->touched)
        batch_run(conn->worker);
    if (conn->closing || conn->parked)
        return;
    if (conn->end_of_input)
        conn_close_after_reply(conn);
    else
        io_receive_start(conn->worker->io, &conn->io);
}

void conn_mark_dirty(struct conn *conn) {
    if (conn->dirty)
        return;
    conn->dirty = true;
    conn->next_dirty = conn->worker->dirty;
    conn->worker->dirty = conn;
}

/* Redis's client-output-buffer-limit of the class "normal". */
bool conn_over_output_limit(struct conn *conn) {
    const struct config_output_limit *limit =
        &config_current()->client_output_buffer_limit.of[CONFIG_CLIENT_NORMAL];
    if (LIKELY(limit->hard_bytes == 0 && limit->soft_bytes == 0))
        return false;
    size_t pending = conn->io.output_bytes;
    bool over = limit->hard_bytes && pending >= limit->hard_bytes;
    if (limit->soft_bytes && pending >= limit->soft_bytes) {
        int64_t now_ms = clock_now_ms();
        if (!conn->output_soft_since_ms)
            conn->output_soft_since_ms = now_ms;
        over = over || now_ms - conn->output_soft_since_ms > limit->soft_seconds * 1000;
    } else {
        conn->output_soft_since_ms = 0;
    }
    if (over) {
        log_write(
            LOG_LEVEL_WARNING,
            "Client id=%llu scheduled to be closed ASAP for overcoming of output buffer limits.",
            (unsigned long long)conn->session.id);
        atomic_fetch_add(&conn->worker->server->output_limit_disconnections, 1);
    }
    return over;
}

void conn_count_sent(struct conn *conn) {
    COUNTER_ADD(conn->worker->sent_bytes, conn->io.sent_bytes - conn->sent_counted);
    conn->sent_counted = conn->io.sent_bytes;
}

void conn_flush(struct conn *conn) {
    if (conn->closing) {
        reply_clear(&conn->reply);
        return;
    }
    struct io *io = conn->worker->io;
    io_queue(&conn->io, reply_take(&conn->reply));
    io_flush(io, &conn->io);
    conn_count_sent(conn);
    COUNTER_ADD(conn->worker->writes, 1);
    if (conn_over_output_limit(conn) || (conn->close_after_reply && !conn->io.output_first))
        conn_close(conn);
}

void conn_close_after_reply(struct conn *conn) {
    if (conn->closing)
        return;
    conn->close_after_reply = true;
    conn->stop_batch = true;
    io_receive_stop(conn->worker->io, &conn->io);
    conn_mark_dirty(conn); /* the flush closes it when nothing is left to send */
}

void conn_close(struct conn *conn) {
    if (conn->closing)
        return;
    conn->closing = true;
    conn->stop_batch = true;
    io_close(conn->worker->io, &conn->io);
}

void conn_released(struct conn *conn) {
    conn->released = conn->io.fd < 0;
    if (!conn->released || conn->dirty || conn->touched || !dispatch_forget(conn))
        return;
    struct worker *worker = conn->worker;
    if (conn->previous)
        conn->previous->next = conn->next;
    else
        worker->connections = conn->next;
    if (conn->next)
        conn->next->previous = conn->previous;
    worker->connection_count--;
    atomic_fetch_sub(&worker->server->client_count, 1);
    reply_clear(&conn->reply);
    memory_free(conn->query.data);
    large_end(conn);
    session_destroy(&conn->session);
    memory_free_sized(conn, sizeof *conn);
}

bool conn_is_detachable(const struct conn *conn) {
    return !conn->closing && !conn->close_after_reply && !conn->parked && !conn->touched &&
           !conn->dirty && !conn->end_of_input && conn->wait == WAIT_NONE;
}

bool conn_is_movable(const struct conn *conn) {
    return !conn->moving && conn_is_detachable(conn);
}

/* --- Addresses
 * -------------------------------------------------------------------------------------------------------
 */

static void address_text(const struct conn *conn, bool peer, char *text, size_t size) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "";
    snprintf(text, size, "?:0");
    if (conn->io.fd < 0)
        return;
    if (!conn->tcp) {
        snprintf(text, size, "%s:0",
                 config_current()->unixsocket ? config_current()->unixsocket : "");
        return;
    }
    int failed = peer ? getpeername(conn->io.fd, (struct sockaddr *)&address, &length)
                      : getsockname(conn->io.fd, (struct sockaddr *)&address, &length);
    if (failed)
        return;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&address;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(text, size, "[%s]:%u", host, ntohs(in->sin6_port));
    }
}

void conn_peer_text(const struct conn *conn, char *text, size_t size) {
    address_text(conn, true, text, size);
}

void conn_local_text(const struct conn *conn, char *text, size_t size) {
    address_text(conn, false, text, size);
}
