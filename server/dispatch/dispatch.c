/* See dispatch.h. The order of the checks is Redis's processCommand; which way a command runs is
 * told by its row (enum command_access) and done in execute.c.
 *
 * Invariant: on return nothing is held but a token that the entry itself has kept for the next one.
 */
#include "server/dispatch/dispatch.h"

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/eviction.h"
#include "engine/exclusive.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/accounting.h"
#include "server/dispatch/call.h"
#include "server/dispatch/pause.h"
#include "server/dispatch/redirect.h"
#include "server/dispatch/service.h"
#include "server/dispatch/session.h"
#include "server/dispatch/transaction.h"
#include "server/dispatch/unblock.h"

#define EXEC_ABORT              "EXECABORT Transaction discarded because of: "
#define ERROR_OUT_OF_MEMORY     "OOM command not allowed when used memory > 'maxmemory'."
#define ERROR_NO_AUTHENTICATION "NOAUTH Authentication required."
#define ERROR_READ_ONLY         "READONLY You can't write against a read only replica."
#define ERROR_FEW_REPLICAS      "NOREPLICAS Not enough good replicas to write."
#define ERROR_LOADING           "LOADING Redis is loading the dataset in memory"
#define ERROR_PRIMARY_DOWN                                                                         \
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
#define ERROR_DISK                                                                                 \
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "  \
    "disk. Commands that may modify the data set are disabled, because this instance is "          \
    "configured to report errors during writes if RDB snapshotting fails "                         \
    "(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB " \
    "error."
#define MEMORY_RETRY_US  1000
#define LOADING_RETRY_US 1000

enum check { CHECK_PASSED, CHECK_REJECTED, CHECK_LATER };

static inline bool is_exec(const struct call *call) {
    return call->command->access == ACCESS_TRANSACTION;
}

static bool is_queued_by_multi(const struct call *call) {
    return call->session->in_multi && !(call->command->flags & COMMAND_NOT_QUEUED);
}

/* The flags of everything that will run: of the queued commands as well for EXEC. */
static uint32_t flags_of_all(const struct call *call) {
    uint32_t flags = call->command->flags;
    if (is_exec(call))
        flags |= transaction_flags(call->session);
    return flags;
}

/* Whether there is memory for what needs some. A command that has to wait for it waits holding
 * nothing, and is checked again in a moment. */
static enum check admit_memory(struct execution *execution, struct wait *wait, struct call *call) {
    const struct config *config = config_current();
    if (LIKELY(!eviction_is_needed(config->maxmemory)))
        return CHECK_PASSED;
    /* Queueing takes memory too, whatever the command. */
    if (!(is_queued_by_multi(call) || (flags_of_all(call) & COMMAND_DENYOOM)) ||
        pause_is_on(execution->pause) || (service_limits(execution->service) & SERVICE_NO_LIMIT))
        return CHECK_PASSED;
    execution_give_back(execution);
    /* What it has waited for otherwise (a pause, a slot) is not held against it. */
    uint64_t now_us = clock_monotonic_us();
    uint64_t since_us = wait->no_room_since_us ? wait->no_room_since_us : now_us;
    enum admission admission =
        eviction_admit(execution->evictor, config->maxmemory, now_us - since_us);
    now_us = clock_monotonic_us();
    if (admission == ADMIT_WAIT) {
        wait_by_time(wait, &execution->delayed, now_us + MEMORY_RETRY_US);
        wait->for_room = true;
        wait->no_room_since_us = since_us;
        return CHECK_LATER;
    }
    if (!wait->no_room_since_us)
        accounting_note_eviction(execution, now_us - since_us);
    if (admission == ADMIT_YES)
        return CHECK_PASSED;
    reply_error(call->reply, is_exec(call) && call->session->in_multi
                                 ? EXEC_ABORT ERROR_OUT_OF_MEMORY
                                 : ERROR_OUT_OF_MEMORY);
    return CHECK_REJECTED;
}

/* DEBUG is for whom enable-debug-command names, subcommands of MODULE for whom
 * enable-module-command does. false: refused. */
static bool protected_is_allowed(struct call *call) {
    const struct config *config = config_current();
    bool module = call->command->parent != NULL; /* DEBUG has no rows for its subcommands */
    int allow = module ? config->enable_module_command : config->enable_debug_command;
    if (allow == CONFIG_ALLOW_YES || (allow == CONFIG_ALLOW_LOCAL && call->session->is_local))
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

/* Whether the command exists and has as many arguments as it takes. */
static inline bool is_well_formed(struct call *call) {
    if (UNLIKELY(!call->command)) {
        const struct command *container = NULL;
        command_lookup(call->argv, call->argc, &container);
        if (UNLIKELY(!looks_like_http(call)))
            command_reply_unknown(call->reply, call->argv, call->argc, container);
        return false;
    }
    const struct command *command = call->command;
    if (UNLIKELY(!command->handler || !command_arity_fits(command, call->argc))) {
        if (is_exec(call))
            reply_error(call->reply, EXEC_ABORT "wrong number of arguments for 'exec' command");
        else
            command_reply_wrong_arity(call->reply, command);
        return false;
    }
    return true;
}

static bool refuses_by_disk_error(const struct call *call) {
    const struct config *config = config_current();
    return config->stop_writes_on_bgsave_error && config->save.count > 0 &&
           (flags_of_all(call) & (COMMAND_WRITE | COMMAND_REFUSED_AS_WRITE));
}

/* A load has just begun: it is over, or serves others, in a moment. */
static bool loads_briefly(const struct execution *execution) {
    return service_loads_briefly(execution->service,
                                 (uint64_t)config_current()->loading_process_events_interval_bytes,
                                 clock_monotonic_us());
}

static enum check wait_for_load(struct execution *execution, struct wait *wait) {
    execution_give_back(execution);
    wait_by_time(wait, &execution->delayed, clock_monotonic_us() + LOADING_RETRY_US);
    return CHECK_LATER;
}

/* The state of the process. In Redis's order. */
static enum check check_service(struct execution *execution, struct wait *wait, struct call *call,
                                unsigned limits) {
    uint32_t missing = ~call->command->flags;
    const char *plain = NULL, *aborting = NULL;
    if (is_exec(call))
        missing |= transaction_missing_flags(call->session);
    if ((limits & SERVICE_DISK_ERROR) && refuses_by_disk_error(call)) {
        plain = ERROR_DISK;
        aborting = EXEC_ABORT ERROR_DISK;
    } else if ((limits & SERVICE_READ_ONLY) && (flags_of_all(call) & COMMAND_WRITE)) {
        plain = ERROR_READ_ONLY;
        aborting = EXEC_ABORT ERROR_READ_ONLY;
    } else if ((limits & SERVICE_FEW_REPLICAS) && (flags_of_all(call) & COMMAND_WRITE)) {
        plain = ERROR_FEW_REPLICAS;
        aborting = EXEC_ABORT ERROR_FEW_REPLICAS;
    } else if ((limits & SERVICE_STALE) && (missing & COMMAND_STALE)) {
        plain = ERROR_PRIMARY_DOWN;
        aborting = EXEC_ABORT ERROR_PRIMARY_DOWN;
    } else if (((limits & SERVICE_LOADING) && (missing & COMMAND_LOADING)) ||
               ((limits & SERVICE_ASYNC_LOADING) &&
                (flags_of_all(call) & COMMAND_NO_ASYNC_LOADING))) {
        if (loads_briefly(execution))
            return wait_for_load(execution, wait);
        plain = ERROR_LOADING;
        aborting = EXEC_ABORT ERROR_LOADING;
    } else {
        return CHECK_PASSED;
    }
    reply_error(call->reply, is_exec(call) ? aborting : plain);
    return CHECK_REJECTED;
}

/* A write waits while those who read the effect log are behind. */
static bool log_is_full(struct execution *execution, struct wait *wait, struct call *call) {
    const struct effect_log *log = execution->keyspace->door.log;
    if (!(flags_of_all(call) & COMMAND_WRITE) || is_queued_by_multi(call) || !log->is_full ||
        !log->is_full(log->context))
        return false;
    execution_give_back(execution);
    wait_by_time(wait, &execution->delayed, clock_monotonic_us() + MEMORY_RETRY_US);
    return true;
}

/* In RESP2 a client cannot tell messages from replies. */
static bool may_while_subscribed(struct call *call) {
    if (call->session->resp > 2 || (call->command->flags & COMMAND_SUBSCRIBED))
        return true;
    reply_error_format(call->reply,
                       "%sCan't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / "
                       "QUIT / RESET are allowed in this context",
                       is_exec(call) ? EXEC_ABORT : "ERR ", call->command->name);
    return false;
}

static enum check check(struct execution *execution, struct wait *wait, struct call *call) {
    struct session *session = call->session;
    if (!is_well_formed(call))
        return CHECK_REJECTED;
    const struct command *command = call->command;
    if (UNLIKELY(command->flags & COMMAND_PROTECTED) && !protected_is_allowed(call))
        return CHECK_REJECTED;
    if (UNLIKELY(!session->authenticated) && !(command->flags & COMMAND_NO_AUTH) &&
        config_current()->requirepass) {
        reply_error(call->reply,
                    is_exec(call) ? EXEC_ABORT ERROR_NO_AUTHENTICATION : ERROR_NO_AUTHENTICATION);
        return CHECK_REJECTED;
    }
    if (UNLIKELY(session->in_multi) && (command->flags & COMMAND_NO_MULTI)) {
        reply_error(call->reply, "ERR Command not allowed inside a transaction");
        return CHECK_REJECTED;
    }
    const struct slot_map *map = redirect_map();
    if (UNLIKELY(map != NULL) &&
        !redirect_check(execution, map, call, flags_of_all(call), wait->state == WAIT_NONE))
        return CHECK_REJECTED;
    if (UNLIKELY(session->subscriptions != NULL) && !may_while_subscribed(call))
        return CHECK_REJECTED;
    if (UNLIKELY(execution->keyspace->door.log != NULL) && log_is_full(execution, wait, call))
        return CHECK_LATER;
    enum check memory = admit_memory(execution, wait, call);
    unsigned limits = service_limits(execution->service) & SERVICE_REFUSING;
    if (UNLIKELY(limits != 0) && memory == CHECK_PASSED)
        return check_service(execution, wait, call, limits);
    return memory;
}

/* The error has been replied. An EXEC that is refused ends its transaction, and with it the
 * watches; if their tokens are not to be had now, nothing of it has happened yet (mark: before the
 * error). */
static enum dispatch_result rejected(struct execution *execution, struct wait *wait,
                                     struct call *call, struct reply_mark mark) {
    execution_give_back(execution);
    if (call->command && is_exec(call)) {
        if (!transaction_abort(execution, wait, call->session)) {
            reply_rewind(call->reply, mark);
            return DISPATCH_PARKED;
        }
    } else if (call->session->in_multi) {
        call->session->multi_failed = true;
    }
    if (call->command)
        COUNTER_ADD(execution->statistics[call->command->id].rejected, 1);
    return UNLIKELY(call->session->close_after_reply) ? DISPATCH_CLOSE : DISPATCH_DONE;
}

static enum dispatch_result run(struct execution *execution, struct wait *wait, struct call *call,
                                int next_slot) {
    switch ((enum command_access)call->command->access) {
    case ACCESS_READ:
        return execution_read(execution, wait, call, next_slot);
    case ACCESS_WRITE:
        return execution_write(execution, wait, call, next_slot);
    case ACCESS_EXCLUSIVE:
        return execution_exclusive(execution, wait, call);
    case ACCESS_TRANSACTION:
        execution_give_back(execution);
        return transaction_exec(execution, wait, call);
    case ACCESS_WATCHED:
        return execution_hold(execution, wait, call,
                              transaction_watched_slots(execution, call->session), -1);
    case ACCESS_NONE:
        break;
    }
    return execution_plain(execution, wait, call);
}

/* A command for a slot that is being moved: takes its token, which is kept for the command, and
 * looks for its keys. EXEC does so with all of its tokens. */
static enum check check_open(struct execution *execution, struct wait *wait, struct call *call) {
    int slot = execution->open_slot;
    if (is_exec(call))
        return CHECK_PASSED;
    if (execution->held_slot != slot) {
        execution_give_back(execution);
        execution->slots[0] = (uint16_t)slot;
        if (!execution_take_served(execution, wait, 1))
            return CHECK_LATER;
        execution->held_slot = slot;
        execution->held_since_ticks = execution->last_ticks;
    }
    if (redirect_is_stale(execution)) {
        execution_give_back(execution);
        wait_by_time(wait, &execution->delayed, clock_monotonic_us());
        return CHECK_LATER;
    }
    return redirect_check_open(execution, call) ? CHECK_PASSED : CHECK_REJECTED;
}

/* All that can happen to a command; whatever it leaves held is dispatch_execute's to see to. */
static inline enum dispatch_result decide(struct execution *execution, struct wait *wait,
                                          struct call *call, int next_slot) {
    struct session *session = call->session;
    struct reply_mark mark = {0};
    if (UNLIKELY(session->in_multi || session->watchers))
        mark = reply_mark(call->reply);
    enum check passed = check(execution, wait, call);
    if (UNLIKELY(passed != CHECK_PASSED))
        return passed == CHECK_LATER ? DISPATCH_PARKED : rejected(execution, wait, call, mark);
    session->last_command = call->command;
    if (UNLIKELY(pause_is_set(execution->pause)) &&
        pause_holds(execution->pause, flags_of_all(call))) {
        execution_give_back(execution);
        wait_by_time(wait, &execution->paused, pause_end_us(execution->pause));
        return DISPATCH_PARKED;
    }
    if (UNLIKELY(execution->open_slot >= 0)) {
        passed = check_open(execution, wait, call);
        if (passed != CHECK_PASSED)
            return passed == CHECK_LATER ? DISPATCH_PARKED : rejected(execution, wait, call, mark);
    }
    if (UNLIKELY(session->in_multi) && is_queued_by_multi(call)) {
        transaction_queue(session, call);
        reply_literal(call->reply, "+QUEUED\r\n");
        return DISPATCH_DONE;
    }
    return run(execution, wait, call, next_slot);
}

static void reply_mode_after(struct session *session, struct reply *reply) {
    if (session->reply_mode == REPLY_SKIP_NEXT)
        session->reply_mode = REPLY_SKIPPING;
    else if (session->reply_mode == REPLY_SKIPPING)
        session->reply_mode = REPLY_ON;
    reply->discard = session->reply_mode == REPLY_OFF || session->reply_mode == REPLY_SKIPPING;
}

/* The command, which has waited, does not wait for room any more: it is done, or waits for
 * something else. */
static void note_room(struct execution *execution, struct wait *wait) {
    if (!wait->no_room_since_us || (wait_is_waiting(wait) && wait->for_room))
        return;
    accounting_note_eviction(execution, clock_monotonic_us() - wait->no_room_since_us);
    wait->no_room_since_us = 0;
}

/* What is applied: only what is no command at all is refused. */
static enum dispatch_result decide_applied(struct execution *execution, struct wait *wait,
                                           struct call *call, int next_slot) {
    struct session *session = call->session;
    struct reply_mark mark = reply_mark(call->reply);
    execution->map = NULL;
    if (!is_well_formed(call))
        return rejected(execution, wait, call, mark);
    session->last_command = call->command;
    if (is_queued_by_multi(call)) {
        transaction_queue(session, call);
        return DISPATCH_DONE;
    }
    return run(execution, wait, call, next_slot);
}

__attribute__((always_inline)) static inline enum dispatch_result
dispatch(struct execution *execution, struct wait *wait, struct call *call, int next_slot,
         bool applied) {
    struct session *session = call->session;
    call->database = session->database;
    call->change = applied ? &execution->applying : &execution->change;
    if (UNLIKELY(atomic_load_explicit(&exclusive_gate.requested, memory_order_acquire))) {
        execution_give_back(execution);
        exclusive_stop();
    }
    change_begin(call->change); /* who logs and who takes snapshots changes in such sections */
    if (UNLIKELY(session->kill_requested)) { /* CLIENT KILL has replied: nothing more may happen */
        execution_give_back(execution);
        if (wait->state != WAIT_NONE)
            wait_end(wait);
        return DISPATCH_CLOSE;
    }
    execution->kept = false;
    /* A command that has waited is checked again: memory and rights may have changed. */
    enum dispatch_result result;
    if (LIKELY(wait->state == WAIT_NONE) || !blocked_is(session->unfinished) ||
        !unblock(execution, wait, call, &result))
        result = applied ? decide_applied(execution, wait, call, next_slot)
                         : decide(execution, wait, call, next_slot);
    if (UNLIKELY(execution->held_slot >= 0) && !execution->kept)
        execution_give_back(execution); /* this entry had no use for it */
    if (UNLIKELY(result == DISPATCH_PARKED)) {
        ASSERT(execution->held_slot < 0 && wait_is_waiting(wait));
        note_room(execution, wait);
        return result;
    }
    if (UNLIKELY(wait->state != WAIT_NONE)) {
        note_room(execution, wait);
        wait_end(wait);
        session_drop_unfinished(session); /* only who has waited can have any */
    }
    if (UNLIKELY(session->reply_mode != REPLY_ON))
        reply_mode_after(session, call->reply);
    return result;
}

enum dispatch_result dispatch_execute(struct execution *execution, struct wait *wait,
                                      struct call *call, int next_slot) {
    return dispatch(execution, wait, call, next_slot, false);
}

enum dispatch_result dispatch_apply(struct execution *execution, struct wait *wait,
                                    struct call *call, int next_slot) {
    return dispatch(execution, wait, call, next_slot, true);
}

int dispatch_shared_slot(const struct call *call) {
    if (!call->first_key || !call->command || call->session->in_multi ||
        (call->command->access != ACCESS_READ && call->command->access != ACCESS_WRITE))
        return -1;
    return (int)call->key.slot;
}

bool dispatch_forget(struct execution *execution, struct wait *wait, struct session *session) {
    if (UNLIKELY(blocked_is(session->unfinished)) &&
        !unblock_leave(execution, wait, session->unfinished))
        return false;
    if (!session->watchers)
        return true;
    return transaction_abort(execution, wait, session);
}
