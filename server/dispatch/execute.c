/* The ways in which a command runs: see execution.h.
 *
 * Tokens and waiting, the one rule: who waits holds nothing. Each way here takes what it needs in
 * one step or parks; a token kept for the next entry of a batch (held_slot) is either used by that
 * entry or given back before anything else happens (dispatch_execute has the one exit that makes
 * sure).
 *
 * - Reading runs between slot_read_begin and slot_read_validate of all slots of the command; what
 * it replied is taken back and it runs again when that fails, the third time under the tokens.
 * - Writing takes the tokens of all slots, all or none. If one is busy the command parks: nothing
 * of it has happened yet, so resuming means running it again from the start. After
 *   PATIENCE_AFTER_US it queues for patience, whose owner may wait while holding.
 * - Exclusive takes patience and stops all threads.
 *
 * A token is kept for the next entry of the batch if that is for the same slot alone, at most for a
 * batch and for hold_ticks. */
#include <stdlib.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/exclusive.h"
#include "engine/memory.h"
#include "server/dispatch/accounting.h"
#include "server/dispatch/blocked_table.h"
#include "server/dispatch/call.h"
#include "server/dispatch/command_keys.h"
#include "server/dispatch/latency.h"
#include "server/dispatch/redirect.h"
#include "server/dispatch/session.h"

#define READ_TRIES        3
#define INSERTION_MAX     32 /* fewer slots than this are sorted in place */
#define PATIENCE_AFTER_US 1000
#define KEY_ROOM_FIRST    64

void execution_init(struct execution *execution, struct server *server) {
    *execution = (struct execution){.server = server, .open_slot = -1, .held_slot = -1};
    execution->statistics = memory_calloc(command_count(), sizeof *execution->statistics);
    execution_key_room(execution, KEY_ROOM_FIRST);
}

void execution_destroy(struct execution *execution) {
    for (unsigned id = 0; id < command_count() && execution->statistics; id++) {
        memory_free(execution->statistics[id].latency);
        memory_free(execution->statistics[id].kept_latency);
    }
    blocked_list_destroy(&execution->blocked);
    change_destroy(&execution->change);
    change_destroy(&execution->applying);
    memory_free(execution->statistics);
    memory_free(execution->slots);
    memory_free(execution->words);
    memory_free(execution->key_indexes);
}

/* --- Accounting ------------------------------------------------------------------------------- */

static inline void account(struct execution *execution, struct call *call, uint64_t errors,
                           uint64_t now, uint64_t ticks) {
    execution->last_ticks = now;
    struct command_statistics *statistics = &execution->statistics[call->command->id];
    COUNTER_ADD(statistics->calls, 1);
    COUNTER_ADD(statistics->ticks, ticks);
    if (UNLIKELY(call->reply->errors != errors))
        COUNTER_ADD(statistics->failed, 1);
    struct latency_histogram *latency =
        atomic_load_explicit(&statistics->latency, memory_order_relaxed);
    if (LIKELY(latency != NULL))
        latency_record(latency, ticks);
    else
        accounting_start_latency(statistics, ticks);
    COUNTER_ADD(execution->commands, 1);
    if (call->hits | call->misses) {
        struct keyspace_counters *counters = keyspace_counters_mine(call->keyspace);
        COUNTER_ADD(counters->hits, call->hits);
        COUNTER_ADD(counters->misses, call->misses);
    }
    if (UNLIKELY(ticks >= execution->slow_ticks))
        accounting_note_slow(execution, call, ticks);
}

/* One reading of the clock per command: it began when the one before it ended. */
static inline void account_now(struct execution *execution, struct call *call, uint64_t errors) {
    uint64_t now = clock_ticks();
    account(execution, call, errors, now, now - execution->last_ticks);
}

void execution_account(struct execution *execution, struct call *call, uint64_t errors,
                       uint64_t began_ticks) {
    uint64_t now = clock_ticks();
    account(execution, call, errors, now, now - began_ticks);
}

static inline enum call_result run_handler(struct execution *execution, struct call *call) {
    call->hits = call->misses = 0;
    call->wants_tokens = false;
    atomic_store_explicit(&execution->running, call->command, memory_order_relaxed);
    return call->command->handler(call);
}

static inline enum dispatch_result finished(enum call_result result) {
    ASSERT(result == CALL_DONE || result == CALL_CLOSE);
    return UNLIKELY(result == CALL_CLOSE) ? DISPATCH_CLOSE : DISPATCH_DONE;
}

enum call_result execution_call(struct execution *execution, struct call *call) {
    uint64_t errors = call->reply->errors;
    enum call_result result = run_handler(execution, call);
    call_done(call);
    account_now(execution, call, errors);
    return result;
}

/* --- Slots and tokens ------------------------------------------------------------------------- */

void execution_key_room(struct execution *execution, size_t n) {
    if (n <= execution->key_room)
        return;
    size_t room = execution->key_room ? execution->key_room : KEY_ROOM_FIRST;
    while (room < n)
        room *= 2;
    execution->slots = memory_realloc(execution->slots, room * sizeof *execution->slots);
    execution->words = memory_realloc(execution->words, room * sizeof *execution->words);
    execution->key_indexes =
        memory_realloc(execution->key_indexes, room * sizeof *execution->key_indexes);
    execution->key_room = room;
}

static int compare_slots(const void *a, const void *b) {
    return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static void insertion_sort(uint16_t *slots, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint16_t slot = slots[i];
        size_t at = i;
        for (; at > 0 && slots[at - 1] > slot; at--)
            slots[at] = slots[at - 1];
        slots[at] = slot;
    }
}

size_t execution_sort_slots(uint16_t *slots, size_t n) {
    if (n < 2)
        return n;
    if (n <= INSERTION_MAX)
        insertion_sort(slots, n);
    else
        qsort(slots, n, sizeof *slots, compare_slots);
    size_t unique = 1;
    for (size_t i = 1; i < n; i++)
        if (slots[i] != slots[unique - 1])
            slots[unique++] = slots[i];
    return unique;
}

size_t execution_add_slots(struct execution *execution, const struct command *command,
                           const struct argument *argv, int argc, size_t n) {
    int count = command_keys(command, argv, argc, execution->key_indexes, (int)execution->key_room);
    if (count > 0 &&
        ((size_t)count > execution->key_room || n + (size_t)count > execution->key_room)) {
        execution_key_room(execution, n + (size_t)count);
        count = command_keys(command, argv, argc, execution->key_indexes, (int)execution->key_room);
    }
    for (int i = 0; i < count; i++) {
        const struct argument *key = &argv[execution->key_indexes[i]];
        execution->slots[n++] = slot_of_key(key->data, key->length);
    }
    return n;
}

/* Ascending, without duplicates, in execution->slots. */
static inline size_t collect_slots(struct execution *execution, const struct call *call) {
    const struct command *command = call->command;
    if (LIKELY(command->single_key && call->first_key)) {
        execution->slots[0] = (uint16_t)call->key.slot;
        return 1;
    }
    if (call->keys) {
        execution_key_room(execution, call->key_count);
        for (uint32_t i = 0; i < call->key_count; i++)
            execution->slots[i] = (uint16_t)call->keys[i].slot;
        return execution_sort_slots(execution->slots, call->key_count);
    }
    size_t n = execution_add_slots(execution, command, call->argv, call->argc, 0);
    return execution_sort_slots(execution->slots, n); /* they may have moved */
}

void execution_give_back(struct execution *execution) {
    if (execution->held_slot < 0)
        return;
    slot_release(&execution->keyspace->slots[execution->held_slot]);
    execution->held_slot = -1;
}

/* Under the tokens, before anything is read or changed: whether this node serves all of them.
 * The pause and the role change in exclusive sections only, and no thread passes a command boundary
 * between dispatch_execute's look at them and the release of the tokens. */
static bool serves_all(struct execution *execution, struct wait *wait, size_t n) {
    struct slot *slots = execution->keyspace->slots;
    for (size_t i = 0; i < n; i++) {
        if (LIKELY(slot_is_serving(&slots[execution->slots[i]])))
            continue;
        slots_release(slots, execution->slots, n);
        wait_by_time(wait, &execution->delayed, clock_monotonic_us() + SERVING_RETRY_US);
        return false;
    }
    return true;
}

bool execution_take_tokens(struct execution *execution, struct wait *wait, size_t n) {
    struct slot *slots = execution->keyspace->slots;
    ASSERT(execution->held_slot < 0);
    for (;;) {
        uint32_t busy;
        if (UNLIKELY(wait->state == WAIT_OWNER)) {
            slots_acquire_waiting(slots, execution->slots, n);
            break;
        }
        if (n == 1 ? slot_try_acquire(&slots[busy = execution->slots[0]])
                   : slots_try_acquire(slots, execution->slots, n, &busy))
            break;
        if (wait->state == WAIT_RETRY && wait_elapsed_us(wait) > PATIENCE_AFTER_US) {
            if (!wait_for_patience(wait))
                return false;
            continue;
        }
        if (wait_for_slot(wait, slots, busy))
            return false;
    }
    return true;
}

bool execution_take_served(struct execution *execution, struct wait *wait, size_t n) {
    return execution_take_tokens(execution, wait, n) && serves_all(execution, wait, n);
}

/* Whether somebody waits for a key in one of them. */
static bool is_waited_in(const struct execution *execution, size_t n) {
    const struct slot *slots = execution->keyspace->slots;
    for (size_t i = 0; i < n; i++)
        if (UNLIKELY(slot_is_waited_for(&slots[execution->slots[i]])))
            return true;
    return false;
}

/* Whether one of the slots behind the first n is not among these, which are ascending. */
static bool is_any_missing(const uint16_t *slots, size_t n, size_t more) {
    for (size_t i = n; i < n + more; i++)
        if (!bsearch(&slots[i], slots, n, sizeof *slots, compare_slots))
            return true;
    return false;
}

bool execution_take_targets(struct execution *execution, struct wait *wait, size_t *n) {
    const struct keyspace *keyspace = execution->keyspace;
    while (is_waited_in(execution, *n)) {
        size_t more = blocked_targets(keyspace, execution->slots, *n, NULL);
        execution_key_room(execution, *n + more);
        more = blocked_targets(keyspace, execution->slots, *n, execution->slots + *n);
        if (!is_any_missing(execution->slots, *n, more))
            return true;
        slots_release(keyspace->slots, execution->slots, *n);
        *n = execution_sort_slots(execution->slots, *n + more);
        if (!execution_take_served(execution, wait, *n))
            return false;
    }
    return true;
}

/* --- The ways to run -------------------------------------------------------------------------- */

/* true: done. false: it needs the tokens; nothing has been replied. */
static bool read_optimistically(struct execution *execution, struct call *call, size_t n,
                                enum dispatch_result *result) {
    struct slot *slots = call->keyspace->slots;
    struct reply_mark mark = reply_mark(call->reply);
    for (int attempt = 0; attempt < READ_TRIES; attempt++) {
        size_t begun = 0;
        while (begun < n &&
               slot_read_begin(&slots[execution->slots[begun]], &execution->words[begun]))
            begun++;
        if (begun < n)
            continue;
        enum call_result call_result = run_handler(execution, call);
        bool tokens = call_result == CALL_NEED_TOKENS || call->wants_tokens, valid = !tokens;
        for (size_t i = 0; i < n && valid; i++)
            valid = slot_read_validate(&slots[execution->slots[i]], execution->words[i]);
        if (LIKELY(valid)) {
            account_now(execution, call, mark.errors);
            *result = finished(call_result);
            return true;
        }
        reply_rewind(call->reply, mark);
        if (tokens)
            return false;
    }
    return false;
}

/* The tokens are held, and the slots may have got another owner before. */
static enum dispatch_result begin_anew(struct execution *execution, struct wait *wait, size_t n) {
    if (execution->held_slot >= 0)
        execution_give_back(execution);
    else
        slots_release(execution->keyspace->slots, execution->slots, n);
    wait_by_time(wait, &execution->delayed, clock_monotonic_us());
    return DISPATCH_PARKED;
}

/* One slot, as most writes want it: free, and served. false: nothing has happened. */
static inline bool take_one(const struct wait *wait, struct slot *slot) {
    if (UNLIKELY(wait->state == WAIT_OWNER) || !slot_try_acquire(slot))
        return false;
    if (LIKELY(slot_is_serving(slot)))
        return true;
    slot_release(slot);
    return false;
}

/* The command goes on when what it waits for is there, or in the next turn. */
static enum dispatch_result wait_unfinished(struct execution *execution, struct wait *wait,
                                            const struct call *call) {
    struct unfinished *unfinished = call->session->unfinished;
    ASSERT(unfinished);
    blocked_enlist(&execution->blocked, unfinished);
    if (!unfinished->queue || !wait_for_work(wait, unfinished->queue, unfinished->done))
        wait_by_time(wait, &execution->delayed, clock_monotonic_us());
    return DISPATCH_PARKED;
}

enum dispatch_result execution_hold(struct execution *execution, struct wait *wait,
                                    struct call *call, size_t n, int next_slot) {
    struct slot *slots = call->keyspace->slots;
    int own_slot = n == 1 ? (int)execution->slots[0] : -1;
    if (own_slot < 0 || execution->held_slot != own_slot) {
        execution_give_back(execution);
        bool taken = own_slot >= 0 && LIKELY(take_one(wait, &slots[own_slot]));
        if (UNLIKELY(!taken))
            taken = call->command->access == ACCESS_WATCHED
                        ? execution_take_tokens(execution, wait, n)
                        : execution_take_served(execution, wait, n);
        if (UNLIKELY(!taken))
            return DISPATCH_PARKED;
        execution->held_since_ticks = execution->last_ticks;
    }
    bool is_waited =
        LIKELY(own_slot >= 0) ? slot_is_waited_for(&slots[own_slot]) : is_waited_in(execution, n);
    if (UNLIKELY(is_waited) && call->command->access == ACCESS_WRITE) {
        execution->held_slot = -1; /* as if it had just been taken */
        if (!execution_take_targets(execution, wait, &n))
            return DISPATCH_PARKED;
        own_slot = n == 1 ? own_slot : -1;
    }
    if (UNLIKELY(redirect_is_stale(execution)))
        return begin_anew(execution, wait, n);
    call->tokens = true;
    uint64_t errors = call->reply->errors;
    keyspace_counts_hold(call->keyspace);
    enum call_result result = run_handler(execution, call);
    call_done(call);
    execution_commit(call);
    keyspace_counts_publish(call->keyspace);
    if (UNLIKELY(result == CALL_UNFINISHED)) {
        execution->held_slot = -1;
        slots_release(slots, execution->slots, n);
        return wait_unfinished(execution, wait, call);
    }
    uint64_t now = clock_ticks();
    if (own_slot >= 0 && next_slot == own_slot &&
        now - execution->held_since_ticks < execution->hold_ticks) {
        execution->held_slot = own_slot;
        execution->kept = true;
    } else if (own_slot >= 0) {
        execution->held_slot = -1;
        slot_release(&slots[own_slot]);
    } else {
        slots_release(slots, execution->slots, n);
    }
    account(execution, call, errors, now, now - execution->last_ticks);
    return finished(result);
}

enum dispatch_result execution_write(struct execution *execution, struct wait *wait,
                                     struct call *call, int next_slot) {
    size_t n = collect_slots(execution, call);
    return execution_hold(execution, wait, call, n, next_slot);
}

/* The same for one slot, which is what most reads want. */
static inline bool read_one(struct execution *execution, struct call *call,
                            enum dispatch_result *result) {
    const struct slot *slot = &call->keyspace->slots[call->key.slot];
    struct reply_mark mark = reply_mark(call->reply);
    for (int attempt = 0; attempt < READ_TRIES; attempt++) {
        uint64_t word;
        if (UNLIKELY(!slot_read_begin(slot, &word)))
            continue;
        enum call_result call_result = run_handler(execution, call);
        bool tokens = call_result == CALL_NEED_TOKENS || call->wants_tokens;
        if (LIKELY(!tokens && slot_read_validate(slot, word))) {
            account_now(execution, call, mark.errors);
            *result = finished(call_result);
            return true;
        }
        reply_rewind(call->reply, mark);
        if (tokens)
            return false;
    }
    return false;
}

enum dispatch_result execution_read(struct execution *execution, struct wait *wait,
                                    struct call *call, int next_slot) {
    enum dispatch_result result;
    call->tokens = false;
    if (LIKELY(call->command->single_key && call->first_key && execution->held_slot < 0)) {
        if (LIKELY(read_one(execution, call, &result)))
            return result;
        execution->slots[0] = (uint16_t)call->key.slot;
        return execution_hold(execution, wait, call, 1, next_slot);
    }
    size_t n = collect_slots(execution, call);
    if (UNLIKELY(execution->held_slot >= 0) &&
        !(n == 1 && execution->held_slot == (int)execution->slots[0]))
        execution_give_back(execution);
    if (LIKELY(execution->held_slot < 0) && read_optimistically(execution, call, n, &result))
        return result;
    return execution_hold(execution, wait, call, n, next_slot);
}

struct section {
    struct execution *execution;
    struct call *call;
    enum call_result result;
    bool unserved; /* nothing has happened */
};

/* Whoever changes keys in a section looks at no slot: it waits until all of them serve. Whole
 * databases may be flushed and exchanged meanwhile, since who sends keys away looks at that; but
 * not while somebody is blocked, who might be served what is on its way to another server. */
static bool waits_for_service(const struct execution *execution, const struct call *call) {
    return UNLIKELY(execution_is_unserved(execution)) && (call->command->flags & COMMAND_WRITE) &&
           (call->command->key_spec_count > 0 || blocked_keys() > 0);
}

static void call_in_section(void *context) {
    struct section *section = context;
    uint64_t errors = section->call->reply->errors;
    if (waits_for_service(section->execution, section->call)) {
        section->unserved = true;
        return;
    }
    section->result = run_handler(section->execution, section->call);
    call_done(section->call); /* what an unfinished command has changed is done */
    if (section->result != CALL_UNFINISHED)
        account_now(section->execution, section->call, errors);
    execution_commit(section->call);
}

enum dispatch_result execution_exclusive(struct execution *execution, struct wait *wait,
                                         struct call *call) {
    execution_give_back(execution);
    struct section section = {execution, call, CALL_DONE, waits_for_service(execution, call)};
    if (!section.unserved) {
        if (!wait_for_patience(wait))
            return DISPATCH_PARKED;
        call->tokens = call->exclusive = true;
        exclusive_run(call_in_section, &section);
    }
    if (UNLIKELY(section.unserved)) {
        call->tokens = call->exclusive = false;
        wait_by_time(wait, &execution->delayed, clock_monotonic_us() + SERVING_RETRY_US);
        return DISPATCH_PARKED;
    }
    if (UNLIKELY(section.result == CALL_UNFINISHED))
        return wait_unfinished(execution, wait, call);
    return finished(section.result);
}

enum dispatch_result execution_plain(struct execution *execution, struct wait *wait,
                                     struct call *call) {
    execution_give_back(execution);
    call->tokens = false;
    struct reply_mark mark = reply_mark(call->reply);
    call->change->serves_waiters = false; /* it holds no token to the end of the unit */
    enum call_result result = run_handler(execution, call);
    call->change->serves_waiters = true;
    if (UNLIKELY(result == CALL_NEED_EXCLUSIVE)) {
        reply_rewind(call->reply, mark);
        return execution_exclusive(execution, wait, call);
    }
    if (UNLIKELY(result == CALL_UNFINISHED))
        return wait_unfinished(execution, wait, call);
    call_done(call);
    account_now(execution, call, mark.errors);
    return finished(result);
}
