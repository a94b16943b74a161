/* See replica_link.h. */
#include "server/links/replica_link.h"

#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/dispatch/session.h"

#define UNSENT_MAX_BYTES                                                                           \
    ((size_t)256 * 1024)                /* no more is taken from file or backlog meanwhile         \
                                         */
#define READ_BYTES       ((size_t)4096) /* what reply_reserve gives at a time */
#define PIECES           16
#define FILLED_MAX_BYTES ((uint64_t)256 * 1024) /* of the stream, before compression */

struct replica_link *replica_link_make(struct session *session,
                                       const struct replica_connection *connection) {
    struct replica_link *link = memory_calloc(1, sizeof *link);
    link->session = session;
    link->connection = connection;
    link->client_id = session->id;
    return link;
}

void replica_link_free(struct replica_link *link) {
    ASSERT(!link->attached && !link->cursor && !link->round);
    memory_free(link);
}

static void become_online(struct replica_link *link) {
    sync_round_leave(link->round);
    link->round = NULL;
    atomic_store(&link->acknowledged_ms, clock_monotonic_us() / 1000); /* silent from now on */
    atomic_store(&link->state, LINK_ONLINE);
}

/* "$slotwise-blocks-1", "$EOF:mark" or "$length". */
static void tell_length(struct replica_link *link, struct reply *reply, uint64_t length) {
    char text[32];
    if (link->blocks) {
        reply_literal(reply, "$" PSYNC_BLOCKS_NAME "\r\n");
    } else if (link->round_marked) {
        reply_literal(reply, "$EOF:");
        reply_raw(reply, link->round->mark, SYNC_ROUND_MARK_BYTES);
        reply_literal(reply, "\r\n");
    } else {
        int n = snprintf(text, sizeof text, "$%llu\r\n", (unsigned long long)length);
        reply_raw(reply, text, (size_t)n);
    }
    link->length_told = true;
}

/* Its end is seen when it comes, so its length need not be known first. */
static bool goes_out_early(const struct replica_link *link) {
    return link->round_marked || link->blocks;
}

/* The file of the round. false: it failed. */
static bool fill_snapshot(struct replica_link *link, struct reply *reply, size_t room) {
    enum sync_round_state state = sync_round_state(link->round);
    uint64_t written = atomic_load_explicit(&link->round->written, memory_order_acquire);
    if (state == SYNC_ROUND_FAILED)
        return false;
    if (!link->length_told) {
        if (!goes_out_early(link) && state != SYNC_ROUND_WHOLE)
            return true;
        tell_length(link, reply, written);
    }
    while (room > 0 && link->round_sent < written) {
        char *to = reply_reserve(reply, READ_BYTES);
        ssize_t n = to ? sync_round_read(link->round, link->round_sent, to, READ_BYTES) : -1;
        if (n < 0)
            return false;
        reply->cursor = to + n;
        link->round_sent += (uint64_t)n;
        room -= (size_t)n < room ? (size_t)n : room;
    }
    sync_round_note_read(link->round, link->round_sent);
    if (state == SYNC_ROUND_WHOLE && link->round_sent == written) {
        if (link->round_marked)
            reply_raw(reply, link->round->mark, SYNC_ROUND_MARK_BYTES);
        link->stream_on_acknowledge = link->round_marked;
        become_online(link);
    }
    return true;
}

static bool gets_stream(const struct replica_link *link) {
    return replica_link_state(link) == LINK_ONLINE && !link->snapshot_only &&
           !link->stream_on_acknowledge;
}

static size_t at_least(size_t bytes, size_t least) {
    return bytes > least ? bytes : least;
}

/* What compresses well takes little room and much time: so much of the stream in one go, and the
 * rest in the next turn. But a turn that has made more of it gives more as well, else the link
 * never gets all of it. */
static void fill_stream(struct replica_link *link, struct reply *reply, size_t room) {
    struct iovec pieces[PIECES];
    uint64_t end =
        backlog_cursor_offset(link->cursor) + at_least(link->share_bytes, FILLED_MAX_BYTES);
    while (room > 0 && backlog_cursor_offset(link->cursor) < end) {
        int count = backlog_cursor_peek(link->cursor, pieces, PIECES);
        if (count == 0)
            return;
        size_t taken = 0;
        for (int i = 0; i < count && taken < room; i++) {
            size_t length = pieces[i].iov_len;
            if (length > room - taken)
                length = room - taken;
            reply_raw(reply, pieces[i].iov_base, length);
            taken += length;
        }
        backlog_cursor_advance(link->cursor, taken);
        room -= taken;
    }
}

bool replica_link_fill(struct replica_link *link, struct reply *reply, size_t unsent_bytes) {
    size_t unsent_max = at_least(link->share_bytes, UNSENT_MAX_BYTES);
    if (unsent_bytes >= unsent_max)
        return true;
    size_t room = unsent_max - unsent_bytes;
    if (link->newline && !link->length_told && replica_link_state(link) != LINK_ONLINE)
        reply_literal(reply, "\n");
    link->newline = false;
    reply_raw(reply, link->greeting, strlen(link->greeting));
    link->greeting[0] = 0;
    if (replica_link_state(link) == LINK_SNAPSHOT && !fill_snapshot(link, reply, room))
        return false;
    if (gets_stream(link))
        fill_stream(link, reply, room);
    return true;
}

bool replica_link_is_due(const struct replica_link *link) {
    struct iovec piece;
    if (link->connection->unsent_bytes(link->session) >=
        at_least(link->share_bytes, UNSENT_MAX_BYTES))
        return false;
    if (link->newline || link->greeting[0])
        return true;
    switch (replica_link_state(link)) {
    case LINK_SNAPSHOT: {
        enum sync_round_state state = sync_round_state(link->round);
        return state != SYNC_ROUND_WRITING ||
               (goes_out_early(link) &&
                atomic_load_explicit(&link->round->written, memory_order_acquire) >
                    link->round_sent);
    }
    case LINK_ONLINE:
        return gets_stream(link) && backlog_cursor_peek(link->cursor, &piece, 1) > 0;
    default:
        return false;
    }
}

const char *replica_link_state_name(enum replica_link_state state) {
    static const char *const names[] = {[LINK_HANDSHAKE] = "wait_bgsave",
                                        [LINK_WAITING] = "wait_bgsave",
                                        [LINK_SNAPSHOT] = "send_bulk",
                                        [LINK_ONLINE] = "online",
                                        [LINK_DROPPED] = "dropped"};
    return names[state];
}
