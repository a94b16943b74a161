/* MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * EXEC takes the tokens of every slot that its queued commands and its watched keys name, in one
 * step, and runs the commands one after the other: nobody sees a state between two of them. If one
 * of them needs all slots, the whole EXEC is an exclusive section. All on the connection's worker.
 */
#include <string.h>

#include "engine/assert.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/watch.h"
#include "server/commands.h"
#include "server/worker.h"

void transaction_queue(struct session *session, const struct call *call) {
    struct transaction *transaction = &session->transaction;
    if (transaction->count == transaction->capacity) {
        transaction->capacity = transaction->capacity ? transaction->capacity * 2 : 4;
        transaction->commands = memory_realloc(
            transaction->commands, transaction->capacity * sizeof *transaction->commands);
    }
    size_t bytes = (size_t)call->argc * sizeof(struct argument);
    for (int i = 0; i < call->argc; i++)
        bytes += call->argv[i].length;
    struct argument *argv = memory_alloc(bytes);
    char *text = (char *)(argv + call->argc);
    for (int i = 0; i < call->argc; i++) {
        argv[i] = (struct argument){text, call->argv[i].length};
        memcpy(text, call->argv[i].data, call->argv[i].length);
        text += call->argv[i].length;
    }
    transaction->commands[transaction->count++] =
        (struct queued_command){call->command, call->argc, argv, bytes};
    transaction->bytes += bytes;
}

/* Off the fast path, with nothing else held: may wait for each token. */
void transaction_unwatch(struct session *session) {
    while (session->watchers) {
        struct watcher *watcher = session->watchers;
        session->watchers = watcher->next_of_owner;
        struct slot *slot = &watcher->keyspace->slots[watcher->slot];
        slot_acquire_waiting(slot);
        watcher_unlink(watcher);
        slot_release(slot);
        watcher_free(watcher);
    }
    atomic_store_explicit(&session->watch_dirty, false, memory_order_relaxed);
}

/* The same with the tokens held. */
static void unwatch_holding(struct session *session) {
    while (session->watchers) {
        struct watcher *watcher = session->watchers;
        session->watchers = watcher->next_of_owner;
        watcher_unlink(watcher);
        watcher_free(watcher);
    }
    atomic_store_explicit(&session->watch_dirty, false, memory_order_relaxed);
}

static bool needs_everything(const struct session *session) {
    for (size_t i = 0; i < session->transaction.count; i++) {
        const struct command *command = session->transaction.commands[i].command;
        if (command->access == ACCESS_EXCLUSIVE || command->handler == cmd_scan ||
            command->handler == cmd_randomkey || command->handler == cmd_dbsize ||
            command->handler == cmd_debug)
            return true;
    }
    return false;
}

static size_t collect_slots(struct worker *worker, const struct session *session) {
    size_t n = 0;
    for (size_t i = 0; i < session->transaction.count; i++) {
        const struct queued_command *queued = &session->transaction.commands[i];
        if (queued->command->access == ACCESS_READ || queued->command->access == ACCESS_WRITE)
            n = dispatch_add_slots(worker, queued->command, queued->argv, queued->argc, n);
        if (n > SLOT_COUNT * 2)
            n = dispatch_sort_slots(worker->slots, n);
    }
    for (const struct watcher *watcher = session->watchers; watcher;
         watcher = watcher->next_of_owner) {
        worker_key_room(worker, n + 1);
        worker->slots[n++] = (uint16_t)watcher->slot;
    }
    return dispatch_sort_slots(worker->slots, n);
}

struct execution {
    struct worker *worker;
    struct call *call;
    bool exclusive; /* all workers are stopped and no token is held; else those of all slots are */
    bool close;
};

static void run_queued(struct execution *execution, const struct queued_command *queued) {
    struct session *session = execution->call->session;
    struct call call = *execution->call;
    call.command = queued->command;
    call.argv = queued->argv;
    call.argc = queued->argc;
    call.database = session->database; /* an earlier command may be SELECT */
    call.tokens = true;
    call.in_exec = true;
    call.first_key = 0;
    int first = call.command->key_spec_count ? call.command->key_specs[0].first : 0;
    if (first > 0 && first < call.argc) {
        call.first_key = first;
        call.key = key_make(call.argv[first].data, call.argv[first].length);
    }
    enum call_result result = dispatch_call(execution->worker, &call);
    ASSERT(result != CALL_NEED_TOKENS && result != CALL_NEED_EXCLUSIVE);
    execution->close |= result == CALL_CLOSE;
}

/* With all tokens held. The queue is taken out of the session first, so that commands see no MULTI
 * state. */
static void execute(void *context) {
    struct execution *execution = context;
    struct session *session = execution->call->session;
    struct reply *reply = execution->call->reply;
    bool dirty = atomic_load_explicit(&session->watch_dirty, memory_order_relaxed);
    for (const struct watcher *watcher = session->watchers; watcher && !dirty;
         watcher = watcher->next_of_owner)
        dirty = watcher_is_expired(watcher);
    if (execution->exclusive)
        transaction_unwatch(session); /* every token is free */
    else
        unwatch_holding(session);
    if (dirty) {
        reply_null_array(reply);
        session_discard(session);
        return;
    }
    struct transaction transaction = session->transaction;
    session->transaction = (struct transaction){0};
    session->in_multi = false;
    reply_array(reply, transaction.count);
    for (size_t i = 0; i < transaction.count; i++)
        run_queued(execution, &transaction.commands[i]);
    session->transaction = transaction;
    session_discard(session);
}

/* EXEC itself counts as a call too; its handler is never run by dispatch_call. */
enum call_result cmd_exec(struct call *call) {
    reply_error(call->reply, "ERR EXEC without MULTI");
    return CALL_DONE;
}

void transaction_abort(struct worker *worker, struct conn *conn) {
    (void)worker;
    session_discard(&conn->session);
    transaction_unwatch(&conn->session);
}

/* What dispatch_call does for others: EXEC's own handler is not run. */
static void count_exec(struct worker *worker, const struct call *call) {
    COUNTER_ADD(worker->statistics[call->command->id].calls, 1);
    COUNTER_ADD(worker->commands, 1);
}

enum dispatch_result transaction_exec(struct worker *worker, struct conn *conn, struct call *call) {
    struct session *session = call->session;
    if (!session->in_multi) {
        dispatch_call(worker, call);
        return DISPATCH_DONE;
    }
    if (session->multi_failed) {
        reply_error(call->reply, "EXECABORT Transaction discarded because of previous errors.");
        session_discard(session);
        transaction_unwatch(session);
        COUNTER_ADD(worker->statistics[call->command->id].failed, 1);
        count_exec(worker, call);
        return DISPATCH_DONE;
    }
    struct execution execution = {worker, call, needs_everything(session), false};
    if (execution.exclusive) {
        if (!dispatch_enter_patience(conn))
            return DISPATCH_PARKED;
        exclusive_run(execute, &execution);
        dispatch_after_section(worker);
    } else {
        size_t n = collect_slots(worker, session);
        if (n > 0 && !dispatch_take_tokens(worker, conn, n))
            return DISPATCH_PARKED;
        /* Handlers use the scratch arrays: keep the slots apart. */
        uint16_t few[64], *slots = few;
        if (n > 64)
            slots = memory_alloc(n * sizeof *slots);
        memcpy(slots, worker->slots, n * sizeof *slots);
        keyspace_counts_hold(call->keyspace);
        execute(&execution);
        keyspace_counts_publish(call->keyspace);
        slots_release(call->keyspace->slots, slots, n);
        if (slots != few)
            memory_free(slots);
    }
    count_exec(worker, call);
    dispatch_wait_ends(conn);
    return execution.close ? DISPATCH_CLOSE : DISPATCH_DONE;
}

enum call_result cmd_multi(struct call *call) {
    if (call->session->in_multi) {
        reply_error(call->reply, "ERR MULTI calls can not be nested");
        return CALL_DONE;
    }
    call->session->in_multi = true;
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_discard(struct call *call) {
    if (!call->session->in_multi) {
        reply_error(call->reply, "ERR DISCARD without MULTI");
        return CALL_DONE;
    }
    session_discard(call->session);
    transaction_unwatch(call->session);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_watch(struct call *call) {
    struct session *session = call->session;
    if (session->in_multi) {
        reply_error(call->reply, "ERR WATCH inside MULTI is not allowed");
        return CALL_DONE;
    }
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        struct slot *slot = &call->keyspace->slots[key.slot];
        slot_acquire_waiting(slot); /* nothing else is held */
        if (!watch_find(call->keyspace, call->database, &key, &session->watch_dirty)) {
            struct watcher *watcher =
                watcher_make(call->keyspace, call->database, &key, &session->watch_dirty);
            watcher_link(watcher);
            watcher->next_of_owner = session->watchers;
            session->watchers = watcher;
        }
        slot_release(slot);
    }
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_unwatch(struct call *call) {
    if (call->in_exec)
        atomic_store_explicit(&call->session->watch_dirty, false, memory_order_relaxed);
    else
        transaction_unwatch(call->session);
    reply_ok(call->reply);
    return CALL_DONE;
}
