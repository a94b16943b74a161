/* See client_eviction.h.
 *
 * Algorithm: each loop measures its own connections and publishes their sum and the biggest. While
 * the sums of all loops together reach the limit, the loop that has the biggest of all closes it;
 * the others leave it to that loop. So the order is that of size across loops, as far as what they
 * last published is true: it is some hundredths of a second old, and a connection more or less may
 * go when several loops fill up at once.
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
#define SPARE       19 /* times as long as a look takes it rests */

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
    return !conn->session.no_evict && conn->state < CONN_CLOSING;
}

static void measure(struct loop *loop) {
    uint64_t sum = 0, biggest = 0;
    for (const struct conn *conn = loop->connections; conn; conn = conn->next) {
        uint64_t bytes = conn_memory_bytes(conn);
        sum += bytes;
        if (bytes > biggest && may_be_evicted(conn))
            biggest = bytes;
    }
    publish(loop, sum, biggest);
}

static bool is_over(const struct server *server, uint64_t limit_bytes) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < server->loop_count; i++)
        sum += load(&server->loops[i]->client_eviction.bytes);
    return sum >= limit_bytes;
}

/* Whether the biggest of all is here; of equals the one on the first loop. */
static bool has_biggest(const struct loop *loop) {
    const struct server *server = loop->server;
    uint64_t mine = load(&loop->client_eviction.biggest_bytes);
    for (unsigned i = 0; i < server->loop_count; i++) {
        uint64_t other = load(&server->loops[i]->client_eviction.biggest_bytes);
        if (other > mine || (other == mine && i < loop->number))
            return false;
    }
    return mine > 0;
}

static int compare_candidates(const void *a, const void *b) {
    uint64_t bytes_a = ((const struct candidate *)a)->bytes;
    uint64_t bytes_b = ((const struct candidate *)b)->bytes;
    return (bytes_a < bytes_b) - (bytes_a > bytes_b); /* the biggest first */
}

static void evict_one(struct loop *loop, struct conn *conn) {
    struct text text = {0};
    connections_describe(&text, conn, NULL);
    log_write(LOG_LEVEL_NOTICE, "Evicting client: %.*s", (int)text.length - 1, text_string(&text));
    text_free(&text);
    atomic_fetch_add_explicit(&loop->server->evicted_clients, 1, memory_order_relaxed);
    conn_close(conn);
}

static void evict(struct loop *loop, uint64_t limit_bytes) {
    struct candidate *candidates = memory_alloc(loop->connection_count * sizeof *candidates);
    size_t count = 0;
    for (struct conn *conn = loop->connections; conn; conn = conn->next)
        if (may_be_evicted(conn))
            candidates[count++] = (struct candidate){conn, conn_memory_bytes(conn)};
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    for (size_t i = 0; i < count && is_over(loop->server, limit_bytes) && has_biggest(loop); i++) {
        uint64_t sum = load(&loop->client_eviction.bytes), bytes = candidates[i].bytes;
        evict_one(loop, candidates[i].conn);
        publish(loop, sum > bytes ? sum - bytes : 0, i + 1 < count ? candidates[i + 1].bytes : 0);
    }
    memory_free(candidates);
}

void client_eviction_tick(struct loop *loop) {
    const struct config *config = config_current();
    struct client_eviction *eviction = &loop->client_eviction;
    if (__builtin_expect(config->maxmemory_clients == 0, 1))
        return;
    uint64_t limit_bytes = client_eviction_limit_bytes(config), start_us = clock_monotonic_us();
    if (limit_bytes == UINT64_MAX || start_us < eviction->due_us)
        return;
    measure(loop);
    if (is_over(loop->server, limit_bytes) && has_biggest(loop))
        evict(loop, limit_bytes);
    uint64_t now_us = clock_monotonic_us(), rest_us = (now_us - start_us) * SPARE;
    eviction->due_us = now_us + (rest_us > EVERY_US ? rest_us : EVERY_US);
}
