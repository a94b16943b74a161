/* The batch: up to 64 parsed commands of whatever connections were ready, whose slots, tables,
 * buckets and objects are prefetched together before the first of them runs. Measured, this is the
 * biggest lever of all: a GET costs three dependent cache misses, and 64 of them overlap. */
#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "server/worker.h"

struct batch_entry *batch_next(struct worker *worker, struct conn *conn) {
    struct batch *batch = &worker->batch;
    if (UNLIKELY(batch->count == BATCH_MAX || batch->arguments_used > BATCH_ARGUMENTS - 16))
        batch_run(worker);
    struct batch_entry *entry = &batch->entries[batch->count];
    entry->conn = conn;
    entry->own_argv = NULL;
    entry->scratch = NULL;
    return entry;
}

void batch_entry_drop(struct batch_entry *entry) {
    memory_free(entry->own_argv);
    memory_free(entry->scratch);
    entry->own_argv = NULL;
    entry->scratch = NULL;
}

void batch_add(struct worker *worker, struct batch_entry *entry, bool foreign_arguments) {
    struct batch *batch = &worker->batch;
    struct conn *conn = entry->conn;
    if (!entry->own_argv && !foreign_arguments)
        batch->arguments_used += (unsigned)entry->call.argc;
    batch->count++;
    if (!conn->touched) {
        conn->touched = true;
        conn->next_touched = batch->touched;
        batch->touched = conn;
    }
}

/* Slots first (one line each), then headers, buckets, objects: each stage reads only what the one
 * before fetched. */
static void batch_prefetch(struct worker *worker) {
    struct batch *batch = &worker->batch;
    struct keyspace *keyspace = worker->server->keyspace;
    const table_root *roots[BATCH_MAX];
    if (batch->count < 2)
        return; /* nothing to overlap with */
    for (unsigned i = 0; i < batch->count; i++) {
        const struct call *call = &batch->entries[i].call;
        if (call->first_key)
            __builtin_prefetch(&keyspace->slots[call->key.slot], 1);
    }
    for (unsigned i = 0; i < batch->count; i++) {
        const struct call *call = &batch->entries[i].call;
        roots[i] = NULL;
        if (!call->first_key)
            continue;
        roots[i] = keyspace_root(keyspace, call->session->database, call->key.slot);
        if (roots[i])
            table_prefetch_header(roots[i]);
    }
    for (unsigned i = 0; i < batch->count; i++)
        if (roots[i])
            table_prefetch_bucket(roots[i], batch->entries[i].call.key.hash);
    uint64_t further = 0; /* a bit per entry: not in its home bucket */
    for (unsigned i = 0; i < batch->count; i++) {
        const struct call *call = &batch->entries[i].call;
        if (roots[i] &&
            table_prefetch_object(roots[i], call->key.hash, call->command->access == ACCESS_READ))
            further |= (uint64_t)1 << i;
    }
    for (; further; further &= further - 1) {
        unsigned i = (unsigned)__builtin_ctzll(further);
        table_prefetch_further(roots[i], batch->entries[i].call.key.hash);
    }
}

/* The slot of the entry after i if both may run under one token, else -1. */
static int next_slot(const struct batch *batch, unsigned i) {
    if (i + 1 >= batch->count)
        return -1;
    const struct batch_entry *next = &batch->entries[i + 1];
    const struct call *call = &next->call;
    if (next->conn->stop_batch || !call->first_key || !call->command || call->session->in_multi ||
        (call->command->access != ACCESS_READ && call->command->access != ACCESS_WRITE))
        return -1;
    return (int)call->key.slot;
}

static void batch_finish(struct conn *touched) {
    for (struct conn *conn = touched, *next; conn; conn = next) {
        next = conn->next_touched;
        conn->touched = false;
        const char *rest = conn->unexecuted;
        conn->unexecuted = NULL;
        if (conn->closing) {
            conn_released(conn);
            continue;
        }
        conn_batch_done(conn, rest);
        conn_mark_dirty(conn);
    }
}

void batch_run(struct worker *worker) {
    struct batch *batch = &worker->batch;
    if (batch->count == 0)
        return;
    ASSERT(!batch->running);
    batch->running = true;
    batch_prefetch(worker);
    worker->last_ticks = clock_ticks();
    for (unsigned i = 0; i < batch->count; i++) {
        struct batch_entry *entry = &batch->entries[i];
        struct conn *conn = entry->conn;
        if (LIKELY(!conn->stop_batch)) {
            enum dispatch_result result =
                dispatch_execute(worker, conn, &entry->call, next_slot(batch, i));
            if (UNLIKELY(result == DISPATCH_PARKED)) {
                conn->stop_batch = true;
                conn->parked = true;
                conn->unexecuted = entry->start;
            } else if (UNLIKELY(result == DISPATCH_CLOSE)) {
                conn_close_after_reply(conn);
            } else if (UNLIKELY(reply_pending_bytes(&conn->reply) > WORKER_FLUSH_BYTES)) {
                conn_flush(conn);
            }
        }
        if (UNLIKELY(entry->own_argv || entry->scratch))
            batch_entry_drop(entry);
    }
    dispatch_release_held(worker);
    struct conn *touched = batch->touched;
    batch->touched = NULL;
    batch->count = 0;
    batch->arguments_used = 0;
    batch->running = false;
    /* Nothing published is held between batches; so what they replace is freed while it is in the
     * cache. */
    epoch_quiescent();
    batch_finish(touched);
}
