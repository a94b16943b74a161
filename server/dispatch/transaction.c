/* MULTI, EXEC, DISCARD, WATCH, UNWATCH.
 *
 * EXEC takes the tokens of every slot that its queued commands and its watched keys name, in one
 * step, and runs the commands one after the other: nobody sees a state between two of them. If one
 * of them needs all slots, the whole EXEC is an exclusive section. All on the connection's worker.
 */
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/keyspace_watch.h"
#include "engine/memory.h"
#include "server/dispatch/call.h"
#include "server/dispatch/redirect.h"
#include "server/dispatch/transaction.h"

command_handler cmd_multi, cmd_exec, cmd_discard, cmd_watch, cmd_unwatch;

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
    transaction->arguments += (size_t)call->argc;
}

uint32_t transaction_flags(const struct session *session) {
    uint32_t flags = 0;
    for (size_t i = 0; i < session->transaction.count; i++)
        flags |= session->transaction.commands[i].command->flags;
    return flags;
}

uint32_t transaction_missing_flags(const struct session *session) {
    uint32_t flags = 0;
    for (size_t i = 0; i < session->transaction.count; i++)
        flags |= ~session->transaction.commands[i].command->flags;
    return flags;
}

void transaction_unwatch(struct session *session) {
    while (session->watchers) {
        struct watcher *watcher = session->watchers;
        session->watchers = watcher->next_of_owner;
        watcher_unlink(watcher);
        watcher_free(watcher);
    }
    session->watched_bytes = 0;
    atomic_store_explicit(&session->watch_dirty, false, memory_order_relaxed);
}

static size_t add_watched_slots(struct execution *execution, const struct session *session,
                                size_t n) {
    for (const struct watcher *watcher = session->watchers; watcher;
         watcher = watcher->next_of_owner) {
        execution_key_room(execution, n + 1);
        execution->slots[n++] = (uint16_t)watcher->slot;
    }
    return execution_sort_slots(execution->slots, n);
}

size_t transaction_watched_slots(struct execution *execution, const struct session *session) {
    return add_watched_slots(execution, session, 0);
}

bool transaction_abort(struct execution *execution, struct wait *wait, struct session *session) {
    size_t n = transaction_watched_slots(execution, session);
    if (n > 0) {
        if (!execution_take_tokens(execution, wait, n))
            return false;
        transaction_unwatch(session);
        slots_release(execution->keyspace->slots, execution->slots, n);
        if (wait->state != WAIT_NONE)
            wait_end(wait);
    }
    session_discard(session);
    atomic_store_explicit(&session->watch_dirty, false, memory_order_relaxed);
    return true;
}

static bool needs_everything(const struct session *session) {
    for (size_t i = 0; i < session->transaction.count; i++) {
        const struct command *command = session->transaction.commands[i].command;
        if (command->access == ACCESS_EXCLUSIVE ||
            (command->flags & (COMMAND_TOUCHES_ARBITRARY_KEYS | COMMAND_MAY_STOP_ALL)))
            return true;
    }
    return false;
}

static size_t collect_slots(struct execution *execution, const struct session *session) {
    size_t n = 0;
    for (size_t i = 0; i < session->transaction.count; i++) {
        const struct queued_command *queued = &session->transaction.commands[i];
        if (queued->command->access == ACCESS_READ || queued->command->access == ACCESS_WRITE)
            n = execution_add_slots(execution, queued->command, queued->argv, queued->argc, n);
        if (n > SLOT_COUNT * 2)
            n = execution_sort_slots(execution->slots, n);
    }
    return add_watched_slots(execution, session, n);
}

struct unit {
    struct execution *execution;
    struct call *call;
    bool exclusive; /* all threads are stopped and no token is held; else those of all slots are */
    bool close;
    bool stale;    /* nothing has been done: it is to be checked anew */
    bool rejected; /* nothing has been done, the error is replied, the transaction is over */
};

static void run_queued(struct unit *unit, const struct queued_command *queued) {
    struct session *session = unit->call->session;
    struct call call = *unit->call;
    call.command = queued->command;
    call.argv = queued->argv;
    call.argc = queued->argc;
    call.database = session->database; /* an earlier command may be SELECT */
    call.tokens = true;
    call.exclusive = unit->exclusive;
    call.in_exec = true;
    call.first_key = 0;
    int first = call.command->key_spec_count ? call.command->key_specs[0].first : 0;
    if (first > 0 && first < call.argc) {
        call.first_key = first;
        call.key = key_make(call.argv[first].data, call.argv[first].length);
    }
    unit->close |= execution_call(unit->execution, &call) == CALL_CLOSE;
}

/* With all tokens held: whether this node still is to answer it, and can. */
static bool is_redirected(struct unit *unit) {
    struct execution *execution = unit->execution;
    unit->stale = redirect_is_stale(execution);
    if (unit->stale || execution->open_slot < 0 || redirect_check_open(execution, unit->call))
        return unit->stale;
    unit->rejected = true;
    transaction_unwatch(unit->call->session);
    session_discard(unit->call->session);
    return true;
}

/* With all tokens held. The queue is taken out of the session first, so that commands see no MULTI
 * state. */
static void execute(void *context) {
    struct unit *unit = context;
    struct session *session = unit->call->session;
    struct reply *reply = unit->call->reply;
    const struct keyspace *keyspace = unit->call->keyspace;
    struct view *view = &unit->call->change->view;
    if (UNLIKELY(unit->execution->map != NULL) && is_redirected(unit))
        return;
    if (unit->exclusive && execution_is_unserved(unit->execution)) {
        unit->stale = true; /* no token says so */
        return;
    }
    bool dirty = atomic_load_explicit(&session->watch_dirty, memory_order_relaxed);
    for (const struct watcher *watcher = session->watchers; watcher && !dirty;
         watcher = watcher->next_of_owner)
        dirty = keyspace_watch_is_replaced(keyspace, view, watcher) ||
                keyspace_watch_is_expired(keyspace, view, watcher);
    transaction_unwatch(session);
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
        run_queued(unit, &transaction.commands[i]);
    execution_commit(unit->call); /* its effects refer to what was queued */
    session->transaction = transaction;
    session_discard(session);
}

/* Outside of a transaction. The handler of EXEC itself is run only here. */
enum call_result cmd_exec(struct call *call) {
    reply_error(call->reply, "ERR EXEC without MULTI");
    return CALL_DONE;
}

static void execute_holding(struct unit *unit, size_t n) {
    struct execution *execution = unit->execution;
    /* Handlers use the scratch arrays: keep the slots apart. */
    uint16_t few[64], *slots = few;
    if (n > 64)
        slots = memory_alloc(n * sizeof *slots);
    memcpy(slots, execution->slots, n * sizeof *slots);
    keyspace_counts_hold(execution->keyspace);
    execute(unit);
    keyspace_counts_publish(execution->keyspace);
    slots_release(execution->keyspace->slots, slots, n);
    if (slots != few)
        memory_free(slots);
}

enum dispatch_result transaction_exec(struct execution *execution, struct wait *wait,
                                      struct call *call) {
    struct session *session = call->session;
    uint64_t errors = call->reply->errors, began_ticks = execution->last_ticks;
    if (!session->in_multi) {
        execution_call(execution, call);
        return DISPATCH_DONE;
    }
    struct unit unit = {.execution = execution, .call = call};
    unit.exclusive = needs_everything(session);
    if (session->multi_failed) {
        if (!transaction_abort(execution, wait, session))
            return DISPATCH_PARKED;
        reply_error(call->reply, "EXECABORT Transaction discarded because of previous errors.");
    } else if (unit.exclusive && execution_is_unserved(execution)) {
        wait_by_time(wait, &execution->delayed, clock_monotonic_us() + SERVING_RETRY_US);
        return DISPATCH_PARKED;
    } else if (unit.exclusive) {
        if (!wait_for_patience(wait))
            return DISPATCH_PARKED;
        exclusive_run(execute, &unit);
    } else {
        size_t n = collect_slots(execution, session);
        if (n > 0 && (!execution_take_served(execution, wait, n) ||
                      !execution_take_targets(execution, wait, &n)))
            return DISPATCH_PARKED;
        execute_holding(&unit, n);
        errors = call->reply->errors; /* those of the commands inside are counted with them */
    }
    if (UNLIKELY(unit.stale)) {
        wait_by_time(wait, &execution->delayed, clock_monotonic_us());
        return DISPATCH_PARKED;
    }
    if (UNLIKELY(unit.rejected)) {
        COUNTER_ADD(execution->statistics[call->command->id].rejected, 1);
        return DISPATCH_DONE;
    }
    call->hits = call->misses = 0;
    execution_account(execution, call, errors, began_ticks);
    return unit.close ? DISPATCH_CLOSE : DISPATCH_DONE;
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

/* As all that end the watches (ACCESS_WATCHED) it has the tokens of the watched slots. */
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

/* With the tokens of all its keys, as a write. */
enum call_result cmd_watch(struct call *call) {
    struct session *session = call->session;
    if (session->in_multi) {
        reply_error(call->reply, "ERR WATCH inside MULTI is not allowed");
        return CALL_DONE;
    }
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        if (watch_find(&call->keyspace->watch, call->database, &key, &session->watch_dirty))
            continue;
        struct watcher *watcher =
            watcher_make(&call->keyspace->watch, call->database, &key, &session->watch_dirty);
        keyspace_watch_link(call->keyspace, &call->change->view, watcher);
        watcher->next_of_owner = session->watchers;
        session->watchers = watcher;
        session->watched_bytes += sizeof *watcher + watcher->length;
    }
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_unwatch(struct call *call) {
    if (call->in_exec) /* EXEC has ended the watches */
        atomic_store_explicit(&call->session->watch_dirty, false, memory_order_relaxed);
    else
        transaction_unwatch(call->session);
    reply_ok(call->reply);
    return CALL_DONE;
}
