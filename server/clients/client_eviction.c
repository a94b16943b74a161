/* See client_eviction.h.
 *
 * Algorithm: each loop measures its own connections and publishes their sum and the biggest. While
 * the sums of all loops together reach the limit, the loop that has the biggest of all closes it;
 * the others wake it. So the order is that of size across loops, as far as what they last published
 * is true: it is up to some hundredths of a second old, and a connection more or less may go when
 * several loops fill up at once. Between two looks a loop's connections cannot have grown by more
 * than what it has received (kept, queued, or a watched key) and what it could not send, times what
 * keeping it may cost; when that could reach the limit it looks at the end of the turn, so that a
 * client that has gone too far is gone when its next command comes. A limit that CONFIG SET lowers
 * is made to hold before it replies.
 * Ordering: relaxed figures, nothing depends on them but this decision.
 * Progress: nobody waits. Reclamation: conn_close, as for any connection. */
#include "server/clients/client_eviction.h"

#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/clients/connections.h"
#include "server/clients/server.h"
#include "server/config/config.h"

#define LEAST_BYTES (128 << 10) /* a limit below that would let nobody in to change it */
#define EVERY_US    10000
#define LOOK_NS     100 /* at one connection, when it is not in the cache */
#define SPARE       19  /* times as long as a look takes it rests */
#define KEEPING     32 /* a byte that was received takes at most so many: as part of a watched key */

struct candidate {
    struct conn *conn;
    uint64_t bytes;
};

uint64_t client_eviction_limit_bytes(const struct config *config) {
    int64_t limit = config->maxmemory_clients;
    if (limit < 0) { /* percent of maxmemory */
        if (config->maxmemory == 0)
            return UINT64_MAX;
        limit = (int64_t)((double)config->maxmemory * (double)-limit / 100);
    } else if (limit == 0) {
        return UINT64_MAX;
    }
    return limit < LEAST_BYTES ? LEAST_BYTES : (uint64_t)limit;
}

static uint64_t load(const _Atomic uint64_t *figure) {
    return atomic_load_explicit(figure, memory_order_relaxed);
}

static void publish(struct loop *loop, uint64_t bytes, uint64_t biggest_bytes) {
    atomic_store_explicit(&loop->client_eviction.bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&loop->client_eviction.biggest_bytes, biggest_bytes,
                          memory_order_relaxed);
}

static bool may_be_evicted(const struct conn *conn) {
    return !conn->session.no_evict && !conn->owner && !conn_is_replica(conn) &&
           !conn->session.kill_requested && conn->state < CONN_CLOSING;
}

/* What is to be sent counts from the next turn but one: before that the backend has not told
 * whether the kernel has taken it. One that ends is as good as gone; what is no client counts
 * elsewhere. */
static uint64_t counted_bytes(const struct conn *conn) {
    if (conn->state >= CONN_CLOSING || conn->session.kill_requested || conn->owner)
        return 0;
    bool under_way = conn->io.output_first && conn->loop->turn - conn->output_turn < 2;
    return conn_memory_bytes(conn) - (under_way ? conn->io.output_bytes : 0);
}

static void measure(struct loop *loop) {
    uint64_t sum = 0, biggest = 0;
    for (const struct conn *conn = loop->connections; conn; conn = conn->next) {
        uint64_t bytes = counted_bytes(conn);
        sum += bytes;
        if (bytes > biggest && may_be_evicted(conn))
            biggest = bytes;
    }
    publish(loop, sum, biggest);
    loop->client_eviction.received_bytes = load(&loop->received_bytes);
    loop->client_eviction.unsent_bytes = 0;
}

static uint64_t sum_of(const struct server *server) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        sum += load(&server->loops[i]->client_eviction.bytes);
    return sum;
}

static bool is_over(const struct server *server, uint64_t limit_bytes) {
    return sum_of(server) >= limit_bytes;
}

/* How much more the loop's connections can take than at the last look. CONFIG RESETSTAT sets what
 * was received back. */
static uint64_t growth_max(const struct loop *loop) {
    const struct client_eviction *eviction = &loop->client_eviction;
    uint64_t received = load(&loop->received_bytes), before = eviction->received_bytes;
    return (received >= before ? received - before : received) * KEEPING + eviction->unsent_bytes;
}

/* The loop that has the biggest of all, of equals the first; NULL: none may be evicted. */
static struct loop *loop_of_biggest(const struct server *server) {
    struct loop *found = NULL;
    uint64_t biggest = 0;
    for (unsigned i = 0; i < server->loop_count; i++) {
        uint64_t bytes = load(&server->loops[i]->client_eviction.biggest_bytes);
        if (bytes > biggest) {
            biggest = bytes;
            found = server->loops[i];
        }
    }
    return found;
}

static int compare_candidates(const void *a, const void *b) {
    uint64_t bytes_a = ((const struct candidate *)a)->bytes;
    uint64_t bytes_b = ((const struct candidate *)b)->bytes;
    return (bytes_a < bytes_b) - (bytes_a > bytes_b); /* the biggest first */
}

static void note_evicted(struct conn *conn) {
    struct text text = {0};
    connections_describe(&text, conn, NULL);
    log_write(LOG_LEVEL_NOTICE, "Evicting client: %.*s", (int)text.length - 1, text_string(&text));
    text_free(&text);
    atomic_fetch_add_explicit(&conn->loop->server->evicted_clients, 1, memory_order_relaxed);
}

/* Those of one loop, each with what it takes; returns their number. */
static size_t add_candidates(const struct loop *loop, struct candidate *candidates, uint64_t *sum) {
    size_t count = 0;
    for (struct conn *conn = loop->connections; conn; conn = conn->next) {
        uint64_t bytes = counted_bytes(conn);
        *sum += bytes;
        if (may_be_evicted(conn))
            candidates[count++] = (struct candidate){conn, bytes};
    }
    return count;
}

static void evict(struct loop *loop, uint64_t limit_bytes) {
    struct candidate *candidates = memory_alloc((loop->connection_count + 1) * sizeof *candidates);
    uint64_t sum = 0;
    size_t count = add_candidates(loop, candidates, &sum);
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    for (size_t i = 0;
         i < count && is_over(loop->server, limit_bytes) && loop_of_biggest(loop->server) == loop;
         i++) {
        sum -= candidates[i].bytes;
        note_evicted(candidates[i].conn);
        conn_close(candidates[i].conn);
        publish(loop, sum, i + 1 < count ? candidates[i + 1].bytes : 0);
    }
    memory_free(candidates);
}

void client_eviction_tick(struct loop *loop) {
    const struct config *config = config_current();
    struct client_eviction *eviction = &loop->client_eviction;
    if (__builtin_expect(config->maxmemory_clients == 0, 1))
        return;
    uint64_t limit_bytes = client_eviction_limit_bytes(config), start_us = clock_monotonic_us();
    if (limit_bytes == UINT64_MAX || start_us < eviction->rested_us ||
        (start_us < eviction->due_us && sum_of(loop->server) + growth_max(loop) < limit_bytes))
        return;
    measure(loop);
    struct loop *biggest =
        is_over(loop->server, limit_bytes) ? loop_of_biggest(loop->server) : NULL;
    if (biggest == loop)
        evict(loop, limit_bytes);
    else if (biggest)
        loop_wake(biggest);
    uint64_t now_us = clock_monotonic_us();
    eviction->rested_us = now_us + loop->connection_count * (uint64_t)LOOK_NS * SPARE / 1000;
    eviction->due_us = now_us + EVERY_US;
}

/* Those that are on their way from one loop to another are looked at where they arrive. */
void client_eviction_apply(struct server *server, const struct config *config) {
    uint64_t limit_bytes = client_eviction_limit_bytes(config), sum = 0;
    bool lower = limit_bytes < server->client_limit_bytes;
    server->client_limit_bytes = limit_bytes;
    if (!lower)
        return;
    size_t room = 1, count = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        room += server->loops[i]->connection_count;
    struct candidate *candidates = memory_alloc(room * sizeof *candidates);
    for (unsigned i = 0; i < server->loop_count; i++)
        count += add_candidates(server->loops[i], candidates + count, &sum);
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    for (size_t i = 0; i < count && sum >= limit_bytes; i++) {
        sum -= candidates[i].bytes;
        note_evicted(candidates[i].conn);
        conn_ask_to_end(candidates[i].conn);
    }
    for (unsigned i = 0; i < server->loop_count; i++)
        measure(server->loops[i]);
    memory_free(candidates);
}
