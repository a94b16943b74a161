/* Dispatch: from a parsed command to its handler, in the order of checks that Redis has, with the
 * tokens that the command needs. Runs on the connection's worker.
 *
 * - ACCESS_READ runs without tokens between slot_read_begin and slot_read_validate of all its
 * slots; its reply is taken back and it runs again when that fails, the third time under the
 * tokens.
 * - ACCESS_WRITE takes the tokens of all its slots, all or none. If one is busy the connection
 * parks: nothing of the command has happened yet, so resuming means running it again from the
 * start. After PATIENCE_AFTER_US of parking it queues for patience, whose owner may wait while
 * holding.
 * - ACCESS_EXCLUSIVE takes patience and stops all workers. So does, as its last resort, a command
 * of ACCESS_NONE that looks at all slots and could not see them at one moment
 * (CALL_NEED_EXCLUSIVE). A token is kept for the next entry of the batch if that is for the same
 * slot alone; a batch has at most 64 entries, so no slot is kept longer than that. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "engine/patience.h"
#include "engine/watch.h"
#include "server/call.h"
#include "server/cmd_session.h"
#include "server/commands.h"
#include "server/config.h"
#include "server/latency.h"
#include "server/log.h"
#include "server/pause.h"
#include "server/statistics.h"
#include "server/worker.h"

#define EXEC_ABORT              "EXECABORT Transaction discarded because of: "
#define ERROR_OUT_OF_MEMORY     "OOM command not allowed when used memory > 'maxmemory'."
#define ERROR_NO_AUTHENTICATION "NOAUTH Authentication required."
#define READ_TRIES              3
#define PATIENCE_AFTER_US       1000
#define ADMISSION_WAIT_US       500000

void worker_key_room(struct worker *worker, size_t n) {
    if (n <= worker->key_room)
        return;
    size_t room = worker->key_room ? worker->key_room : 64;
    while (room < n)
        room *= 2;
    worker->slots = memory_realloc(worker->slots, room * sizeof *worker->slots);
    worker->words = memory_realloc(worker->words, room * sizeof *worker->words);
    worker->key_indexes = memory_realloc(worker->key_indexes, room * sizeof *worker->key_indexes);
    worker->key_room = room;
}

/* --- Running one handler, with statistics
 * --------------------------------------------------------------------- */

enum call_result dispatch_call(struct worker *worker, struct call *call) {
    uint64_t errors = call->reply->errors;
    enum call_result result = call->command->handler(call);
    if (UNLIKELY(result == CALL_NEED_TOKENS || result == CALL_NEED_EXCLUSIVE))
        return result;
    /* One reading per command: it began when the one before it ended. */
    uint64_t now = clock_ticks(), ticks = now - worker->last_ticks;
    worker->last_ticks = now;
    struct command_statistics *statistics = &worker->statistics[call->command->id];
    COUNTER_ADD(statistics->calls, 1);
    COUNTER_ADD(statistics->ticks, ticks);
    if (UNLIKELY(call->reply->errors != errors))
        COUNTER_ADD(statistics->failed, 1);
    struct latency_histogram *latency =
        atomic_load_explicit(&statistics->latency, memory_order_relaxed);
    if (LIKELY(latency != NULL))
        latency_record(latency, ticks);
    else
        statistics_start_latency(statistics, ticks);
    if (UNLIKELY(ticks >= worker->slow_ticks))
        statistics_note_slow(worker, call, ticks);
    COUNTER_ADD(worker->commands, 1);
    return result;
}

static enum dispatch_result finished(enum call_result result) {
    ASSERT(result != CALL_NEED_TOKENS && result != CALL_NEED_EXCLUSIVE);
    return UNLIKELY(result == CALL_CLOSE) ? DISPATCH_CLOSE : DISPATCH_DONE;
}

/* --- Waiting
 * ------------------------------------------------------------------------------------------------------
 */

static void resume_message(struct message *message) {
    struct conn *conn = (struct conn *)(void *)((char *)message - offsetof(struct conn, message));
    conn->owns_patience = conn->wait == WAIT_PATIENCE;
    conn->wait = WAIT_RESUMED;
    conn_resume(conn);
}

/* On whatever thread released the slot or patience. */
static void resume(struct waiter *waiter) {
    struct conn *conn = (struct conn *)(void *)((char *)waiter - offsetof(struct conn, waiter));
    conn->message.run = resume_message;
    mailbox_post(&conn->worker->mailbox, &conn->message);
}

static void wait_begins(struct conn *conn, enum conn_wait wait) {
    if (conn->wait == WAIT_NONE)
        conn->wait_started_us = clock_monotonic_us();
    conn->wait = (uint8_t)wait;
    conn->waiter.resume = resume;
}

/* The command has run (or will not): it waits no more. */
void dispatch_wait_ends(struct conn *conn) {
    conn->wait = WAIT_NONE;
    if (conn->owns_patience)
        dispatch_leave_patience(conn);
}

static inline void wait_ends(struct conn *conn) {
    if (UNLIKELY(conn->wait != WAIT_NONE || conn->owns_patience))
        dispatch_wait_ends(conn);
}

bool dispatch_enter_patience(struct conn *conn) {
    if (conn->owns_patience)
        return true;
    wait_begins(conn, WAIT_PATIENCE);
    conn->owns_patience = patience_enter(&conn->waiter);
    return conn->owns_patience;
}

void dispatch_leave_patience(struct conn *conn) {
    conn->owns_patience = false;
    patience_leave(&conn->waiter);
}

static bool waited_long(const struct conn *conn) {
    return conn->wait == WAIT_RESUMED &&
           clock_monotonic_us() - conn->wait_started_us > PATIENCE_AFTER_US;
}

bool dispatch_forget(struct conn *conn) {
    if (!conn->owns_patience && (conn->wait == WAIT_SLOT || conn->wait == WAIT_PATIENCE) &&
        !waiter_cancel(&conn->waiter))
        return false; /* its resume is under way: conn_resume comes back here */
    if (conn->wait == WAIT_PAUSE)
        pause_forget(conn);
    dispatch_wait_ends(conn);
    transaction_unwatch(&conn->session);
    return true;
}

void dispatch_release_held(struct worker *worker) {
    if (worker->held_slot < 0)
        return;
    slot_release(&worker->server->keyspace->slots[worker->held_slot]);
    worker->held_slot = -1;
}

/* --- Slots of a command
 * ------------------------------------------------------------------------------------------- */

static int compare_slots(const void *a, const void *b) {
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

size_t dispatch_sort_slots(uint16_t *slots, size_t n) {
    if (n < 2)
        return n;
    qsort(slots, n, sizeof *slots, compare_slots);
    size_t unique = 1;
    for (size_t i = 1; i < n; i++)
        if (slots[i] != slots[unique - 1])
            slots[unique++] = slots[i];
    return unique;
}

/* Appends the slots of one command's keys to worker->slots at position n; returns the new n. */
size_t dispatch_add_slots(struct worker *worker, const struct command *command,
                          const struct argument *argv, int argc, size_t n) {
    int count = command_keys(command, argv, argc, worker->key_indexes, (int)worker->key_room);
    if (count > 0 && ((size_t)count > worker->key_room || n + (size_t)count > worker->key_room)) {
        worker_key_room(worker, n + (size_t)count);
        count = command_keys(command, argv, argc, worker->key_indexes, (int)worker->key_room);
    }
    for (int i = 0; i < count; i++) {
        const struct argument *key = &argv[worker->key_indexes[i]];
        worker->slots[n++] = slot_of_key(key->data, key->length);
    }
    return n;
}

/* Ascending, without duplicates, in worker->slots. */
static inline size_t collect_slots(struct worker *worker, const struct call *call) {
    const struct command *command = call->command;
    if (call->first_key && command->key_spec_count == 1 &&
        command->key_specs[0].first == command->key_specs[0].last) {
        worker->slots[0] = (uint16_t)call->key.slot;
        return 1;
    }
    return dispatch_sort_slots(worker->slots,
                               dispatch_add_slots(worker, command, call->argv, call->argc, 0));
}

/* --- The four ways to run
 * ------------------------------------------------------------------------------------------ */

struct read_counters {
    uint64_t hits, misses;
};

static inline struct read_counters read_counters_save(struct call *call) {
    const struct keyspace_counters *counters = keyspace_counters_mine(call->keyspace);
    return (struct read_counters){atomic_load_explicit(&counters->hits, memory_order_relaxed),
                                  atomic_load_explicit(&counters->misses, memory_order_relaxed)};
}

/* What a read that is done again has counted. */
static void read_counters_restore(struct call *call, struct read_counters saved) {
    struct keyspace_counters *counters = keyspace_counters_mine(call->keyspace);
    atomic_store_explicit(&counters->hits, saved.hits, memory_order_relaxed);
    atomic_store_explicit(&counters->misses, saved.misses, memory_order_relaxed);
}

static void forget_call(struct worker *worker, struct call *call) {
    COUNTER_ADD(worker->statistics[call->command->id].calls, (uint64_t)-1);
    COUNTER_ADD(worker->commands, (uint64_t)-1);
}

/* true: done. false: it needs the tokens; nothing has been replied. */
static bool read_optimistically(struct worker *worker, struct call *call, size_t n,
                                enum dispatch_result *result) {
    struct slot *slots = call->keyspace->slots;
    struct reply_mark mark = reply_mark(call->reply);
    struct read_counters saved = read_counters_save(call);
    for (int attempt = 0; attempt < READ_TRIES; attempt++) {
        size_t begun = 0;
        while (begun < n && slot_read_begin(&slots[worker->slots[begun]], &worker->words[begun]))
            begun++;
        if (begun < n)
            continue;
        call->met_expired = false;
        enum call_result call_result = dispatch_call(worker, call);
        bool valid = call_result != CALL_NEED_TOKENS;
        if (UNLIKELY(call->met_expired && valid)) {
            forget_call(worker, call);
            call_result = CALL_NEED_TOKENS;
            valid = false;
        }
        for (size_t i = 0; i < n && valid; i++)
            valid = slot_read_validate(&slots[worker->slots[i]], worker->words[i]);
        if (LIKELY(valid)) {
            *result = finished(call_result);
            return true;
        }
        reply_rewind(call->reply, mark);
        read_counters_restore(call, saved);
        if (call_result == CALL_NEED_TOKENS)
            return false;
        forget_call(worker, call);
    }
    return false;
}

/* Takes the tokens of worker->slots[0..n), parks if one is busy. true: held. */
bool dispatch_take_tokens(struct worker *worker, struct conn *conn, size_t n) {
    struct slot *slots = worker->server->keyspace->slots;
    for (;;) {
        uint32_t busy;
        if (conn->owns_patience) {
            slots_acquire_waiting(slots, worker->slots, n);
            return true;
        }
        if (n == 1 ? slot_try_acquire(&slots[busy = worker->slots[0]])
                   : slots_try_acquire(slots, worker->slots, n, &busy))
            return true;
        if (waited_long(conn)) {
            if (!dispatch_enter_patience(conn))
                return false;
            continue;
        }
        wait_begins(conn, WAIT_SLOT);
        if (slot_park(slots, busy, &conn->waiter))
            return false;
        conn->wait = WAIT_RESUMED;
    }
}

static enum dispatch_result run_with_tokens(struct worker *worker, struct conn *conn,
                                            struct call *call, size_t n, int next_slot) {
    struct slot *slots = call->keyspace->slots;
    bool had = n == 1 && worker->held_slot == (int)worker->slots[0];
    if (!had) {
        dispatch_release_held(worker);
        if (UNLIKELY(!dispatch_take_tokens(worker, conn, n)))
            return DISPATCH_PARKED;
    }
    call->tokens = true;
    keyspace_counts_hold(call->keyspace);
    enum call_result result = dispatch_call(worker, call);
    keyspace_counts_publish(call->keyspace);
    if (n == 1 && next_slot == (int)worker->slots[0]) {
        worker->held_slot = next_slot;
    } else if (n == 1) {
        worker->held_slot = -1;
        slot_release(&slots[worker->slots[0]]);
    } else {
        slots_release(slots, worker->slots, n);
    }
    wait_ends(conn);
    return finished(result);
}

struct exclusive_run {
    struct worker *worker;
    struct call *call;
    enum call_result result;
};

static void run_in_section(void *context) {
    struct exclusive_run *run = context;
    run->result = dispatch_call(run->worker, run->call);
}

void dispatch_after_section(struct worker *worker) {
    if (!worker->after_section)
        return;
    void (*after)(void *) = worker->after_section;
    worker->after_section = NULL;
    after(worker->after_section_context);
}

static enum dispatch_result run_exclusively(struct worker *worker, struct conn *conn,
                                            struct call *call) {
    dispatch_release_held(worker);
    if (!dispatch_enter_patience(conn))
        return DISPATCH_PARKED;
    call->tokens = true;
    struct exclusive_run run = {worker, call, CALL_DONE};
    exclusive_run(run_in_section, &run);
    wait_ends(conn);
    dispatch_after_section(worker);
    return finished(run.result);
}

/* --- The checks before
 * -------------------------------------------------------------------------------------------- */

static enum dispatch_result reject(struct worker *worker, struct call *call) {
    if (call->command)
        COUNTER_ADD(worker->statistics[call->command->id].rejected, 1);
    if (call->session->in_multi)
        call->session->multi_failed = true;
    return UNLIKELY(call->session->close_after_reply) ? DISPATCH_CLOSE : DISPATCH_DONE;
}

static bool is_queued_by_multi(const struct call *call) {
    command_handler *handler = call->command->handler;
    return call->session->in_multi && handler != cmd_exec && handler != cmd_discard &&
           handler != cmd_multi && handler != cmd_watch && handler != cmd_quit &&
           handler != cmd_reset;
}

/* The flags of everything that will run: of the queued commands as well for EXEC. */
static uint32_t flags_of_all(const struct call *call) {
    uint32_t flags = call->command->flags;
    if (call->command->handler == cmd_exec)
        for (size_t i = 0; i < call->session->transaction.count; i++)
            flags |= call->session->transaction.commands[i].command->flags;
    return flags;
}

/* Whether there is memory for what needs some. true: go on. */
static bool admit_memory(struct worker *worker, struct call *call) {
    const struct config *config = config_current();
    if (LIKELY(!eviction_is_needed(config->maxmemory)))
        return true;
    /* Queueing takes memory too, whatever the command. */
    bool queued = call->session->in_multi && is_queued_by_multi(call);
    if (!(queued || (flags_of_all(call) & COMMAND_DENYOOM)) || pause_is_on(worker->server))
        return true;
    dispatch_release_held(worker);
    worker->eviction_due_us = 0;
    uint64_t start_us = clock_monotonic_us(), waited_us = 0;
    enum admission admission;
    while ((admission = eviction_admit(worker->server->evictor, config->maxmemory, waited_us)) ==
               ADMIT_WAIT &&
           waited_us < ADMISSION_WAIT_US) {
        epoch_offline();
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        epoch_online();
        waited_us = clock_monotonic_us() - start_us;
    }
    latency_monitor_note(&worker->server->latency_monitor, LATENCY_EVICTION_CYCLE, waited_us);
    if (admission == ADMIT_YES)
        return true;
    reply_error(call->reply, call->command->handler == cmd_exec && call->session->in_multi
                                 ? EXEC_ABORT ERROR_OUT_OF_MEMORY
                                 : ERROR_OUT_OF_MEMORY);
    return false;
}

/* DEBUG is for whom enable-debug-command names, subcommands of MODULE for whom
 * enable-module-command does. false: refused. */
static bool protected_is_allowed(struct call *call) {
    const struct config *config = config_current();
    bool module = call->command->parent != NULL; /* DEBUG has no rows for its subcommands */
    int allow = module ? config->enable_module_command : config->enable_debug_command;
    if (allow == CONFIG_ALLOW_YES ||
        (allow == CONFIG_ALLOW_LOCAL && session_is_local(call->session)))
        return true;
    reply_error_format(
        call->reply,
        "ERR %s command not allowed. If the %s option is set to \"local\", you can run it from a "
        "local connection, otherwise you need to set this option in the configuration file, and "
        "then restart the server.",
        module ? "MODULE" : "DEBUG", module ? "enable-module-command" : "enable-debug-command");
    return false;
}

/* A browser made to post to us by a hostile page: nothing of what it sends may be run. */
static bool looks_like_http(struct call *call) {
    if (!argument_is(&call->argv[0], "post") && !argument_is(&call->argv[0], "host:"))
        return false;
    log_write(LOG_LEVEL_WARNING,
              "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or "
              "Host: commands to Redis. This is likely due to an attacker attempting to use "
              "Cross Protocol Scripting to compromise your Redis instance. Connection aborted.");
    call->session->close_after_reply = true;
    return true;
}

static bool check(struct worker *worker, struct call *call) {
    struct session *session = call->session;
    if (UNLIKELY(!call->command)) {
        const struct command *container = NULL;
        command_lookup(call->argv, call->argc, &container);
        if (UNLIKELY(looks_like_http(call)))
            return false;
        command_reply_unknown(call->reply, call->argv, call->argc, container);
        return false;
    }
    const struct command *command = call->command;
    if (UNLIKELY(!command->handler || !command_arity_fits(command, call->argc))) {
        if (command->handler == cmd_exec)
            reply_error(call->reply, EXEC_ABORT "wrong number of arguments for 'exec' command");
        else
            command_reply_wrong_arity(call->reply, command);
        return false;
    }
    if (UNLIKELY(command->flags & COMMAND_PROTECTED) && !protected_is_allowed(call))
        return false;
    if (UNLIKELY(!session->authenticated) && !(command->flags & COMMAND_NO_AUTH) &&
        config_current()->requirepass) {
        reply_error(call->reply, command->handler == cmd_exec ? EXEC_ABORT ERROR_NO_AUTHENTICATION
                                                              : ERROR_NO_AUTHENTICATION);
        return false;
    }
    if (UNLIKELY(session->in_multi) && (command->flags & COMMAND_NO_MULTI)) {
        reply_error(call->reply, "ERR Command not allowed inside a transaction");
        return false;
    }
    return admit_memory(worker, call);
}

static void reply_mode_after(struct session *session, struct reply *reply) {
    if (session->reply_mode == REPLY_SKIP_NEXT)
        session->reply_mode = REPLY_SKIPPING;
    else if (session->reply_mode == REPLY_SKIPPING)
        session->reply_mode = REPLY_ON;
    reply->discard = session->reply_mode == REPLY_OFF || session->reply_mode == REPLY_SKIPPING;
}

static enum dispatch_result run(struct worker *worker, struct conn *conn, struct call *call,
                                int next_slot) {
    enum dispatch_result result;
    size_t n;
    switch ((enum command_access)call->command->access) {
    case ACCESS_READ:
        n = collect_slots(worker, call);
        if (worker->held_slot >= 0 && !(n == 1 && worker->held_slot == (int)worker->slots[0]))
            dispatch_release_held(worker);
        call->tokens = false;
        if (worker->held_slot < 0 && read_optimistically(worker, call, n, &result)) {
            wait_ends(conn);
            return result;
        }
        return run_with_tokens(worker, conn, call, n, next_slot);
    case ACCESS_WRITE:
        n = collect_slots(worker, call);
        return run_with_tokens(worker, conn, call, n, next_slot);
    case ACCESS_EXCLUSIVE:
        return run_exclusively(worker, conn, call);
    case ACCESS_NONE:
        break;
    }
    dispatch_release_held(worker);
    call->tokens = false;
    if (call->command->handler == cmd_exec)
        return transaction_exec(worker, conn, call);
    if (UNLIKELY(call->command->handler == cmd_debug) && debug_is_exclusive(call))
        return run_exclusively(worker, conn, call);
    struct reply_mark mark = reply_mark(call->reply);
    enum call_result call_result = dispatch_call(worker, call);
    if (UNLIKELY(call_result == CALL_NEED_EXCLUSIVE)) {
        reply_rewind(call->reply, mark);
        return run_exclusively(worker, conn, call);
    }
    wait_ends(conn); /* it may have wanted to be exclusive before */
    return finished(call_result);
}

enum dispatch_result dispatch_execute(struct worker *worker, struct conn *conn, struct call *call,
                                      int next_slot) {
    struct session *session = call->session;
    call->database = session->database;
    /* A command that has parked has been checked; memory and rights may have changed, so it is
     * checked again. */
    if (UNLIKELY(atomic_load_explicit(&exclusive_gate.requested, memory_order_acquire))) {
        dispatch_release_held(worker);
        exclusive_stop();
        if (conn->kill_requested) /* CLIENT KILL has replied: nothing of it may happen any more */
            return DISPATCH_CLOSE;
    }
    if (UNLIKELY(!check(worker, call))) {
        wait_ends(conn);
        enum dispatch_result rejected = reject(worker, call);
        if (call->command && call->command->handler == cmd_exec)
            transaction_abort(worker, conn);
        if (UNLIKELY(session->reply_mode != REPLY_ON))
            reply_mode_after(session, call->reply);
        return rejected;
    }
    session->last_command = call->command;
    if (pause_holds(worker->server, call)) {
        dispatch_release_held(worker);
        pause_park(conn);
        return DISPATCH_PARKED;
    }
    enum dispatch_result result;
    if (UNLIKELY(session->in_multi) && is_queued_by_multi(call)) {
        transaction_queue(session, call);
        reply_literal(call->reply, "+QUEUED\r\n");
        result = DISPATCH_DONE;
    } else {
        result = run(worker, conn, call, next_slot);
    }
    if (UNLIKELY(session->reply_mode != REPLY_ON) && result != DISPATCH_PARKED)
        reply_mode_after(session, call->reply);
    return result;
}
