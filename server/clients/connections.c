/* See connections.h. */
#include "server/clients/connections.h"

#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/clients/server.h"

/* --- Which there are -------------------------------------------------------------------------- */

struct list {
    struct conn **connections;
    size_t count, capacity;
};

static void add_all(struct list *list, struct conn *first) {
    for (struct conn *conn = first; conn; conn = conn->next) {
        if (conn->state >= CONN_CLOSING || conn->session.kill_requested)
            continue;
        if (list->count == list->capacity) {
            list->capacity = list->capacity ? list->capacity * 2 : 64;
            list->connections =
                memory_realloc(list->connections, list->capacity * sizeof *list->connections);
        }
        list->connections[list->count++] = conn;
    }
}

static int compare_ids(const void *a, const void *b) {
    uint64_t id_a = (*(struct conn *const *)a)->session.id;
    uint64_t id_b = (*(struct conn *const *)b)->session.id;
    return (id_a > id_b) - (id_a < id_b);
}

struct conn **connections_collect(const struct server *server, size_t *count) {
    struct list list = {0};
    for (unsigned i = 0; i < server->loop_count; i++)
        add_all(&list, server->loops[i]->connections);
    add_all(&list, server->moving);
    if (list.count > 0)
        qsort(list.connections, list.count, sizeof *list.connections, compare_ids);
    *count = list.count;
    return list.connections;
}

struct conn *connections_find(struct conn *const *connections, size_t count, uint64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (connections[middle]->session.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && connections[low]->session.id == id ? connections[low] : NULL;
}

void connections_kill(struct conn *conn) {
    conn->session.kill_requested = true;
    atomic_store(&conn->loop->attention, true);
    loop_wake(conn->loop);
}

/* --- What they look like ---------------------------------------------------------------------- */

static void flags_text(const struct conn *conn, char flags[16]) {
    const struct session *session = &conn->session;
    char *cursor = flags;
    if (session->in_multi)
        *cursor++ = 'x';
    if (conn->wait.state == WAIT_TIME)
        *cursor++ = 'b';
    if (atomic_load_explicit(&session->watch_dirty, memory_order_relaxed))
        *cursor++ = 'd';
    if (conn->state == CONN_DRAINING)
        *cursor++ = 'c';
    if (!conn->tcp)
        *cursor++ = 'U';
    if (session->no_evict)
        *cursor++ = 'e';
    if (session->no_touch)
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

static size_t queued_bytes(const struct session *session) {
    size_t bytes = session->transaction.bytes;
    for (size_t i = 0; i < session->transaction.count; i++)
        bytes -= (size_t)session->transaction.commands[i].argc * sizeof(struct argument);
    return bytes;
}

static size_t count_blocks(const struct conn *conn) {
    size_t n = 0;
    for (const struct output_block *block = conn->io.output_first; block; block = block->next)
        n++;
    return n;
}

void connections_describe(struct text *text, const struct conn *conn, const struct call *running) {
    const struct session *session = &conn->session;
    char peer[128], local[128], flags[16];
    size_t arguments, wire;
    uint64_t now_ms = clock_monotonic_us() / 1000;
    conn_peer_text(conn, peer, sizeof peer);
    conn_local_text(conn, local, sizeof local);
    flags_text(conn, flags);
    argument_bytes(running, &arguments, &wire);
    size_t unparsed = conn_query_bytes(conn) > 0 ? conn_query_bytes(conn) : wire;
    size_t spare = conn->query.capacity - conn_query_bytes(conn);
    size_t pending = reply_pending_bytes(&conn->reply);
    text_append_format(
        text, "id=%llu addr=%s laddr=%s fd=%d name=%s age=%lld idle=%lld flags=%s db=%u",
        (unsigned long long)session->id, peer, local, conn->io.fd,
        session->name ? session->name : "", (long long)((now_ms - session->created_ms) / 1000),
        (long long)(running ? 0 : (now_ms - conn->last_active_ms) / 1000), flags,
        session->database);
    text_append_format(text, " sub=0 psub=0 ssub=0 multi=%lld qbuf=%zu qbuf-free=%zu argv-mem=%zu",
                       session->in_multi ? (long long)session->transaction.count : -1, unparsed,
                       spare, arguments);
    text_append_format(text, " multi-mem=%zu rbs=%u rbp=%zu obl=%zu oll=%zu omem=%zu tot-mem=%zu",
                       queued_bytes(session), conn->reply.cursor ? OUTPUT_BLOCK_BYTES : 0, pending,
                       pending, count_blocks(conn), conn->io.output_bytes, conn_memory_bytes(conn));
    text_append_format(text,
                       " events=%s cmd=%s user=default redir=-1 resp=%u lib-name=%s"
                       " lib-ver=%s\n",
                       conn->io.sending ? "rw" : "r",
                       session->last_command ? session->last_command->name : "NULL", session->resp,
                       session->library_name ? session->library_name : "",
                       session->library_version ? session->library_version : "");
}
