/* The batch: parsed commands of whatever connections were ready, whose slots, tables, buckets and
 * objects are prefetched together before the first of them runs. Measured, this is the biggest
 * lever of all: a GET costs three dependent cache misses, and 64 of them overlap.
 *
 * Entries run in the order in which they were parsed. Those of a connection that is not IDLE any
 * more (a command waits, its turn is over, it ends) are left out; its input keeps what was not run.
 * A batch that takes longer than YIELD_US runs one more command of each connection and leaves the
 * rest for the next turn, so that slow commands of one do not add up to a wait of the others. */
#include "server/clients/batch.h"

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"
#include "engine/types/collection_ahead.h"
#include "server/base/numbers.h"
#include "server/clients/pubsub.h"
#include "server/clients/replica_conn.h"
#include "server/dispatch/dispatch.h"

#define FLUSH_BYTES (256 * 1024) /* replies beyond this are sent in the middle of a batch */
/* A batch that publishes may take so much longer before others have their turn: to cut it short
 * costs a write more for each subscriber. */
#define YIELD_LATER 10

struct batch_entry *batch_next(struct loop *loop, struct conn *conn) {
    struct batch *batch = &loop->batch;
    if (UNLIKELY(batch->count == BATCH_MAX || batch->arguments_used > BATCH_ARGUMENTS - 16))
        batch_run(loop);
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

void batch_add(struct loop *loop, struct batch_entry *entry, bool foreign_arguments) {
    struct batch *batch = &loop->batch;
    struct conn *conn = entry->conn;
    if (!entry->own_argv && !foreign_arguments)
        batch->arguments_used += (unsigned)entry->call.argc;
    batch->count++;
    if (!conn->in_batch) {
        conn->in_batch = true;
        conn->next_in_batch = batch->members;
        batch->members = conn;
    }
}

/* As batch_prefetch. */
void batch_prefetch_keys(const struct keyspace *keyspace, unsigned database, const struct key *keys,
                         unsigned n) {
    const table_root *roots[BATCH_KEYS_TOGETHER];
    uint64_t further = 0;
    for (unsigned i = 0; i < n; i++) {
        roots[i] = keyspace_root(keyspace, database, keys[i].slot);
        if (roots[i])
            table_prefetch_header(roots[i]);
    }
    for (unsigned i = 0; i < n; i++)
        if (roots[i])
            table_prefetch_bucket(roots[i], keys[i].hash);
    for (unsigned i = 0; i < n; i++)
        if (roots[i] && table_prefetch_object(roots[i], keys[i].hash, true))
            further |= (uint64_t)1 << i;
    for (; further; further &= further - 1) {
        unsigned i = (unsigned)__builtin_ctzll(further);
        table_prefetch_further(roots[i], keys[i].hash);
    }
}

/* The further keys of commands with a list of them. */
static void prefetch_lists(const struct batch *batch, const struct keyspace *keyspace) {
    for (unsigned i = 0; i < batch->count; i++) {
        const struct call *call = &batch->entries[i].call;
        for (uint32_t j = 1; call->keys && j < call->key_count; j += BATCH_KEYS_TOGETHER) {
            unsigned n = call->key_count - j;
            batch_prefetch_keys(keyspace, call->session->database, call->keys + j,
                                n < BATCH_KEYS_TOGETHER ? n : BATCH_KEYS_TOGETHER);
        }
    }
}

/* A reader does not ask for the slot's line as its own, which would take it from other readers. */
static inline void prefetch_slot(const struct keyspace *keyspace, const struct call *call,
                                 uint32_t slot) {
    if (call->command->access == ACCESS_WRITE)
        __builtin_prefetch(&keyspace->slots[slot], 1);
    else
        __builtin_prefetch(&keyspace->slots[slot], 0);
}

/* Slots first (one line each), then headers, buckets, objects: each stage reads only what the one
 * before fetched. Both lines of an object also for a write, which frees it and soon writes to the
 * same memory. */
static void batch_prefetch(struct loop *loop) {
    struct batch *batch = &loop->batch;
    const struct keyspace *keyspace = loop->execution.keyspace;
    const table_root *roots[BATCH_MAX];
    if (batch->count < 2 && batch->keys_used == 0)
        return; /* nothing to overlap with */
    for (unsigned i = 0; i < batch->count; i++) {
        const struct call *call = &batch->entries[i].call;
        if (call->first_key)
            prefetch_slot(keyspace, call, call->key.slot);
        for (uint32_t j = 1; UNLIKELY(call->keys != NULL) && j < call->key_count; j++)
            prefetch_slot(keyspace, call, call->keys[j].slot);
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
    for (unsigned i = 0; i < batch->count; i++)
        if (roots[i] && table_prefetch_object(roots[i], batch->entries[i].call.key.hash, true))
            further |= (uint64_t)1 << i;
    for (; further; further &= further - 1) {
        unsigned i = (unsigned)__builtin_ctzll(further);
        table_prefetch_further(roots[i], batch->entries[i].call.key.hash);
    }
    if (batch->keys_used > 0)
        prefetch_lists(batch, keyspace);
}

/* The slot of the entry after i if both may run under one token, else -1. */
static inline int next_slot(const struct batch *batch, unsigned i) {
    if (i + 1 >= batch->count)
        return -1;
    const struct batch_entry *next = &batch->entries[i + 1];
    return next->conn->state == CONN_IDLE ? dispatch_shared_slot(&next->call) : -1;
}

/* What a command whose argument is a member will look into, NULL: nothing large. Under the token.
 */
static const struct collection *body_of(const struct keyspace *keyspace, const struct call *call) {
    const struct object *object = keyspace_find_raw(keyspace, call->session->database, &call->key);
    if (!object || object_type(object) < OBJECT_SET || object_type(object) > OBJECT_HASH ||
        !object_needs_token(object))
        return NULL;
    const struct collection *body = collection_body(object);
    return collection_ahead_is_worth(body) ? body : NULL;
}

/* What this command will look for in that body. */
static struct collection_ahead ahead_of(const struct call *call, const struct collection *body) {
    uint32_t flags = call->command->flags;
    int index = flags & COMMAND_MEMBER ? 2 : call->argc - 1;
    bool writes = call->command->access == ACCESS_WRITE;
    struct collection_ahead ahead = {.body = body,
                                     .member = call->argv[index].data,
                                     .length = call->argv[index].length,
                                     .changes = writes};
    if (body->order.count > 0) {
        ahead.by_score = writes || flags & COMMAND_RANK;
        ahead.by_new_score =
            flags & COMMAND_SCORE && call->argc == 4 &&
            number_parse_double(call->argv[2].data, call->argv[2].length, &ahead.new_score);
    }
    return ahead;
}

/* Members of large collections, for the commands from this one on that will run under the token
 * that is held: only under it may anybody look into a tree. Returns the first that was left out. */
static unsigned prefetch_members(const struct loop *loop, unsigned first) {
    const struct batch *batch = &loop->batch;
    struct collection_ahead ahead[COLLECTION_AHEAD_MAX];
    unsigned n = 0, i = first;
    for (; i < batch->count && n < COLLECTION_AHEAD_MAX; i++) {
        const struct call *call = &batch->entries[i].call;
        if (dispatch_shared_slot(call) != loop->execution.held_slot)
            break;
        if (!(call->command->flags & (COMMAND_MEMBER | COMMAND_MEMBER_LAST)) || call->argc < 3)
            continue;
        const struct collection *body = body_of(loop->execution.keyspace, call);
        if (body)
            ahead[n++] = ahead_of(call, body);
    }
    if (n > 1)
        collection_ahead_fetch(ahead, n);
    return i;
}

static bool ran_before(const struct batch *batch, unsigned i) {
    for (unsigned j = 0; j < i; j++)
        if (batch->entries[j].conn == batch->entries[i].conn)
            return true;
    return false;
}

/* The entries of the connection from this one on are left out. */
static void leave_out(struct batch_entry *entry, enum conn_state state) {
    conn_become(entry->conn, state);
    entry->conn->unexecuted = entry->start;
}

static inline void run_entry(struct loop *loop, unsigned i) {
    struct batch_entry *entry = &loop->batch.entries[i];
    struct conn *conn = entry->conn;
    int next = next_slot(&loop->batch, i);
    enum dispatch_result result;
    if (LIKELY(!conn->owner))
        result = dispatch_execute(&loop->execution, &conn->wait, &entry->call, next);
    else
        result = conn->owner->run(conn, entry, next);
    if (UNLIKELY(result == DISPATCH_PARKED))
        leave_out(entry, CONN_PARKED);
    else if (UNLIKELY(result == DISPATCH_CLOSE))
        conn_close_after_reply(conn);
    else if (UNLIKELY(reply_pending_bytes(&conn->reply) > FLUSH_BYTES)) {
        execution_give_back(&loop->execution); /* no token is held over a system call */
        conn_flush(conn);
    }
}

static void batch_finish(struct conn *members) {
    for (struct conn *conn = members, *next; conn; conn = next) {
        next = conn->next_in_batch;
        conn->in_batch = false;
        if (UNLIKELY(conn->state >= CONN_CLOSING)) {
            conn->unexecuted = NULL;
            conn_free_if_done(conn);
            continue;
        }
        conn_batch_done(conn);
        if (UNLIKELY(conn->session.replica != NULL))
            replica_conn_settle(conn);
        conn_mark_dirty(conn);
        if (UNLIKELY(conn->end_of_input)) /* it came with the command */
            conn_end_waiting(conn);
    }
}

void batch_run(struct loop *loop) {
    struct batch *batch = &loop->batch;
    struct execution *execution = &loop->execution;
    if (batch->count == 0)
        return;
    ASSERT(!batch->running);
    batch->running = true;
    batch_prefetch(loop);
    uint64_t began_ticks = execution->last_ticks = clock_ticks(), quiet_ticks = began_ticks;
    uint64_t yield_ticks = loop->yield_ticks;
    unsigned members_fetched = 0; /* entries before this one */
    for (unsigned i = 0; i < batch->count; i++) {
        struct batch_entry *entry = &batch->entries[i];
        struct conn *conn = entry->conn;
        if (UNLIKELY(execution->last_ticks - quiet_ticks > execution->hold_ticks)) {
            /* Between two commands nothing published is held: reclamation need not wait. */
            quiet_ticks = execution->last_ticks;
            epoch_quiescent();
            if (quiet_ticks - began_ticks > yield_ticks && conn->state == CONN_IDLE &&
                ran_before(batch, i))
                leave_out(entry, CONN_READY);
        }
        if (pubsub_has_mail(&loop->pubsub)) {
            pubsub_deliver(loop); /* who has heard of a message is answered behind it */
            yield_ticks = loop->yield_ticks * YIELD_LATER; /* to all of them it goes out once */
        }
        if (execution->held_slot >= 0 && i >= members_fetched)
            members_fetched = prefetch_members(loop, i);
        if (LIKELY(conn->state == CONN_IDLE))
            run_entry(loop, i);
        else
            execution_give_back(execution); /* kept for an entry that does not run */
        if (UNLIKELY(entry->own_argv || entry->scratch))
            batch_entry_drop(entry);
    }
    if (pubsub_has_mail(&loop->pubsub))
        pubsub_deliver(loop); /* what was published last goes out with the rest */
    ASSERT(execution->held_slot < 0);
    atomic_store_explicit(&execution->running, NULL, memory_order_relaxed);
    struct conn *members = batch->members;
    batch->members = NULL;
    batch->count = 0;
    batch->arguments_used = 0;
    batch->keys_used = 0;
    batch->running = false;
    /* Nothing published is held between batches; so what they replace is freed while it is in the
     * cache. */
    epoch_quiescent();
    batch_finish(members);
}
