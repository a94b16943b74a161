/* See apply.h. */
#include "server/clients/apply.h"

#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/futex.h"
#include "engine/keyspace_counts.h"
#include "engine/memory.h"
#include "server/clients/batch.h"
#include "server/clients/input.h"
#include "server/clients/server.h"
#include "server/config/config.h"
#include "server/dispatch/call.h"
#include "server/dispatch/execution.h"

#define COMMANDS_MAX      1024
#define COMMANDS_MIN      32 /* fewer are not worth waking anybody */
#define ARGUMENTS_MAX     (4 * COMMANDS_MAX)
#define HELPERS_MAX       7
#define SHARES_PER_WORKER 2 /* who is late finds less left */
#define SHARES_MAX        ((HELPERS_MAX + 1) * SHARES_PER_WORKER)
#define COUNT_BYTES       ((size_t)4 * 1024) /* whole units are counted about so much at a time */
#define COUNTS_MAX        (APPLY_MAX_BYTES / COUNT_BYTES + 1)
#define ERROR_MAX         512
#define SPINS             2000 /* until a share is waited for by giving way */

enum share_state { SHARE_DONE, SHARE_FREE, SHARE_CLAIMED };

struct share {
    _Alignas(64) _Atomic int state; /* enum share_state; FREE: worker 0, the others: who runs it */
    /* Worker 0, while it is not FREE or CLAIMED: commands in `order`. */
    unsigned first, count;
    /* Who runs it; worker 0 when it is DONE. */
    struct key_numbers counted;
    unsigned failed; /* the first that failed; UINT_MAX: none */
    char error[ERROR_MAX];
};

struct helper {
    struct message message; /* first */
    _Atomic bool posted;    /* set by worker 0, cleared by the helper */
    struct apply *apply;
    struct loop *loop;
};

/* All else is written by worker 0 while no share is FREE or CLAIMED. */
struct apply {
    struct server *server;
    struct execution *execution; /* of worker 0 */
    struct helper helpers[HELPERS_MAX];
    unsigned helper_count;
    struct share shares[SHARES_MAX];
    unsigned share_count, shares_in_use;
    unsigned count;
    unsigned transactions;
    const struct command *multi, *exec, *move;
    unsigned database;
    struct call calls[COMMANDS_MAX];
    uint16_t order[COMMANDS_MAX]; /* by share, in the order of the stream */
    uint16_t slots[COMMANDS_MAX]; /* ascending, without duplicates */
    size_t slot_count;
    uint64_t wanted[SLOT_COUNT / 64]; /* a bit per slot; all zero between pieces */
    size_t argument_count;
    struct argument arguments[ARGUMENTS_MAX];
    size_t ends[COUNTS_MAX]; /* of what is counted together */
    unsigned end_count;
};

/* --- Shares ----------------------------------------------------------------------------------- */

static void note_error(struct share *share, unsigned i, const struct reply *reply) {
    if (share->failed != UINT_MAX)
        return;
    const struct output_block *block = reply->first;
    size_t length =
        block ? (size_t)((block == reply->last ? reply->cursor : block->data + block->length) -
                         block->data)
              : 0;
    const char *from = block ? memchr(block->data, '-', length) : NULL;
    size_t left = from ? length - (size_t)(from + 1 - block->data) : 0;
    const char *end = from ? memchr(from + 1, '\r', left) : NULL;
    share->failed = i;
    snprintf(share->error, sizeof share->error, "%.*s",
             (int)(end ? end - from - 1 : (ptrdiff_t)left), from ? from + 1 : "");
}

static void run_one(const struct apply *apply, struct share *share, struct execution *execution,
                    unsigned i, struct call *call, struct reply *reply) {
    struct reply_mark mark = reply_mark(reply);
    call->reply = reply;
    call->change = &execution->applying;
    call->database = apply->database;
    change_begin(call->change);
    enum call_result result = execution_call(execution, call);
    ASSERT(result == CALL_DONE && !call->change->ready);
    execution_commit(call);
    if (UNLIKELY(reply->errors != mark.errors))
        note_error(share, i, reply);
    reply_rewind(reply, mark);
}

/* On the thread of execution. */
static void run_share(struct apply *apply, struct share *share, struct execution *execution) {
    struct key keys[BATCH_KEYS_TOGETHER];
    struct reply reply;
    reply_init(&reply);
    share->failed = UINT_MAX;
    keyspace_counts_hold(execution->keyspace);
    execution->last_ticks = clock_ticks();
    for (unsigned at = 0, n; at < share->count; at += n) {
        const uint16_t *order = &apply->order[share->first + at];
        n = share->count - at < BATCH_KEYS_TOGETHER ? share->count - at : BATCH_KEYS_TOGETHER;
        for (unsigned i = 0; i < n; i++)
            keys[i] = apply->calls[order[i]].key;
        batch_prefetch_keys(execution->keyspace, apply->database, keys, n);
        for (unsigned i = 0; i < n; i++)
            run_one(apply, share, execution, order[i], &apply->calls[order[i]], &reply);
    }
    keyspace_counts_take(execution->keyspace, apply->database, &share->counted);
    atomic_store_explicit(&execution->running, NULL, memory_order_relaxed);
    reply_clear(&reply);
}

/* Runs what nobody has claimed. */
static void run_free_shares(struct apply *apply, struct execution *execution) {
    for (unsigned i = 0; i < SHARES_MAX; i++) {
        struct share *share = &apply->shares[i];
        int state = SHARE_FREE;
        if (atomic_load_explicit(&share->state, memory_order_relaxed) != SHARE_FREE ||
            !atomic_compare_exchange_strong_explicit(&share->state, &state, SHARE_CLAIMED,
                                                     memory_order_acquire, memory_order_relaxed))
            continue;
        run_share(apply, share, execution);
        atomic_store_explicit(&share->state, SHARE_DONE, memory_order_release);
    }
}

static void help(struct message *message) {
    struct helper *helper = (struct helper *)(void *)message;
    atomic_store_explicit(&helper->posted, false, memory_order_release);
    run_free_shares(helper->apply, &helper->loop->execution);
}

static void call_helpers(struct apply *apply) {
    for (unsigned i = 0; i < apply->helper_count && i + 1 < apply->shares_in_use; i++) {
        struct helper *helper = &apply->helpers[i];
        if (atomic_load_explicit(&helper->posted, memory_order_acquire))
            continue;
        atomic_store_explicit(&helper->posted, true, memory_order_relaxed);
        mailbox_post(&helper->loop->mailbox, &helper->message);
    }
}

static void await(const struct share *share) {
    for (unsigned spins = 0;
         atomic_load_explicit(&share->state, memory_order_acquire) != SHARE_DONE; spins++) {
        if (spins < SPINS)
            cpu_relax();
        else
            sched_yield();
    }
}

/* Deals the commands out. */
static void deal(struct apply *apply) {
    unsigned counts[SHARES_MAX] = {0}, at = 0;
    for (unsigned i = 0; i < apply->count; i++)
        counts[apply->calls[i].key.slot % apply->share_count]++;
    apply->shares_in_use = 0;
    for (unsigned i = 0; i < apply->share_count; i++) {
        apply->shares[i].first = at;
        apply->shares[i].count = 0;
        at += counts[i];
        apply->shares_in_use += counts[i] > 0;
    }
    for (unsigned i = 0; i < apply->count; i++) {
        struct share *share = &apply->shares[apply->calls[i].key.slot % apply->share_count];
        apply->order[share->first + share->count++] = (uint16_t)i;
    }
}

/* --- What is in a piece ----------------------------------------------------------------------- */

/* Whether it touches the one key that it begins with, and nothing else. In a transaction it is
 * always done at once. */
static bool is_plain(const struct call *call) {
    const struct command *command = call->command;
    if (command->access != ACCESS_WRITE || !command->handler ||
        !command_arity_fits(command, call->argc) || command->key_spec_count != 1 ||
        (command->flags & (COMMAND_TOUCHES_ARBITRARY_KEYS | COMMAND_MAY_STOP_ALL |
                           COMMAND_MOVABLE_KEYS | COMMAND_BLOCKING)))
        return false;
    const struct key_spec *spec = &command->key_specs[0];
    int last = spec->last < 0 ? call->argc + spec->last : spec->last;
    return spec->first > 0 && !spec->counted && spec->first < call->argc && last == spec->first;
}

enum kind {
    KIND_PLAIN,
    KIND_MULTI,
    KIND_EXEC,
    KIND_ALONE, /* for no piece */
    KIND_FULL,  /* the piece has no room for it */
    KIND_NONE,  /* it has not come whole, or is none */
};

/* The command at data, as the next of the piece. */
static enum kind read_command(struct apply *apply, struct conn *conn, const char *data,
                              size_t length, size_t *consumed) {
    const struct parse_limits limits = {config_current()->proto_max_bulk_len, true};
    struct call *call = &apply->calls[apply->count];
    struct parse_output parsed;
    *consumed = 0;
    if (apply->count == COMMANDS_MAX)
        return KIND_FULL;
    if (*data != '*')
        return KIND_NONE;
    call->argv = apply->arguments + apply->argument_count;
    resp_parse(data, length, &limits, call->argv, (int)(ARGUMENTS_MAX - apply->argument_count),
               NULL, &parsed);
    if (parsed.result != PARSE_COMMAND || parsed.argc == 0)
        return parsed.result == PARSE_ARGUMENTS ? KIND_FULL : KIND_NONE;
    *consumed = parsed.consumed;
    call->argc = parsed.argc;
    call->command = input_command(conn->loop, call->argv, call->argc);
    if (!call->command)
        return KIND_ALONE;
    if (call->argc == 1 && call->command == apply->multi)
        return KIND_MULTI;
    if (call->argc == 1 && call->command == apply->exec)
        return KIND_EXEC;
    if (!is_plain(call) || call->command == apply->move) /* it changes two databases */
        return KIND_ALONE;
    call->first_key = call->command->key_specs[0].first;
    call->key = key_make(call->argv[call->first_key].data, call->argv[call->first_key].length);
    __builtin_prefetch(&apply->execution->keyspace->slots[call->key.slot], 1);
    call->keys = NULL;
    call->key_count = call->key_step = 0;
    call->session = &conn->session;
    call->server = apply->server;
    call->keyspace = apply->execution->keyspace;
    call->tokens = call->in_exec = true; /* it is not left unfinished, and waits for nobody */
    call->exclusive = false;
    apply->argument_count += (size_t)call->argc;
    apply->count++;
    return KIND_PLAIN;
}

static void end_unit(struct apply *apply, size_t end) {
    size_t begin = apply->end_count > 1 ? apply->ends[apply->end_count - 2] : 0;
    if (apply->end_count == 0 || (end - begin > COUNT_BYTES && apply->end_count < COUNTS_MAX))
        apply->end_count++;
    apply->ends[apply->end_count - 1] = end;
}

/* Whole units up to the first command that is not for a piece. */
static void read_units(struct apply *apply, struct conn *conn, const char *data, size_t length,
                       struct apply_result *result) {
    unsigned whole = 0;
    size_t at = 0, consumed = 0;
    bool in_multi = false;
    apply->count = apply->transactions = apply->end_count = 0;
    apply->argument_count = 0;
    *result = (struct apply_result){.alone = length};
    while (at < length) {
        enum kind kind = read_command(apply, conn, data + at, length - at, &consumed);
        if (kind == KIND_ALONE && !in_multi)
            result->alone = at + consumed;
        if (kind == KIND_FULL && result->used > 0)
            result->alone = result->used;
        if (kind >= KIND_ALONE || (kind == KIND_MULTI && in_multi) ||
            (kind == KIND_EXEC && !in_multi))
            break;
        at += consumed;
        in_multi = kind == KIND_MULTI || (in_multi && kind != KIND_EXEC);
        if (in_multi)
            continue;
        whole = apply->count;
        apply->transactions += kind == KIND_EXEC;
        result->used = at;
        end_unit(apply, at);
    }
    apply->count = whole;
    result->alone -= result->used;
}

/* --- Tokens ----------------------------------------------------------------------------------- */

static void collect_slots(struct apply *apply) {
    for (unsigned i = 0; i < apply->count; i++) {
        uint32_t slot = apply->calls[i].key.slot;
        apply->wanted[slot / 64] |= (uint64_t)1 << slot % 64;
    }
    apply->slot_count = 0;
    for (uint32_t word = 0; word < SLOT_COUNT / 64; word++) {
        for (uint64_t bits = apply->wanted[word]; bits; bits &= bits - 1)
            apply->slots[apply->slot_count++] =
                (uint16_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
        apply->wanted[word] = 0;
    }
}

static bool take_tokens(struct apply *apply) {
    struct slot *slots = apply->execution->keyspace->slots;
    uint32_t busy;
    collect_slots(apply);
    if (!slots_try_acquire(slots, apply->slots, apply->slot_count, &busy))
        return false;
    for (size_t i = 0; i < apply->slot_count; i++) {
        uint64_t word = atomic_load_explicit(&slots[apply->slots[i]].word, memory_order_relaxed);
        if ((word & (SLOT_SERVING | SLOT_BLOCKED)) != SLOT_SERVING) {
            slots_release(slots, apply->slots, apply->slot_count);
            return false;
        }
    }
    return true;
}

static void finish(struct apply *apply, struct apply_result *result) {
    struct keyspace *keyspace = apply->execution->keyspace;
    unsigned failed = UINT_MAX;
    keyspace_counts_hold(keyspace);
    for (unsigned i = 0; i < apply->share_count; i++) {
        struct share *share = &apply->shares[i];
        if (share->count == 0)
            continue;
        await(share);
        keyspace_counts_give(keyspace, apply->database, &share->counted);
        if (share->failed < failed) {
            failed = share->failed;
            result->error = share->error;
            result->failed = apply->calls[failed].command;
        }
    }
    keyspace_counts_publish(keyspace);
    slots_release(keyspace->slots, apply->slots, apply->slot_count);
}

/* MULTI and EXEC have been called too. */
static void count_transactions(const struct apply *apply) {
    struct execution *execution = apply->execution;
    COUNTER_ADD(execution->statistics[apply->multi->id].calls, apply->transactions);
    COUNTER_ADD(execution->statistics[apply->exec->id].calls, apply->transactions);
    COUNTER_ADD(execution->commands, 2 * apply->transactions);
}

/* --- A piece ---------------------------------------------------------------------------------- */

static bool may_run(const struct conn *conn, const struct door *door) {
    return !door->listener && !door->log && !conn->session.in_multi &&
           !conn->session.kill_requested;
}

struct apply_result apply_run(struct apply *apply, struct conn *conn, const char *data,
                              size_t length, void (*count)(const char *data, size_t length)) {
    struct apply_result result = {.alone = length};
    ASSERT(length > 0 && length <= 2 * APPLY_MAX_BYTES && !conn->in_batch);
    if (!may_run(conn, &apply->execution->keyspace->door))
        return result;
    read_units(apply, conn, data, length, &result);
    deal(apply);
    apply->database = conn->session.database;
    if (apply->count < COMMANDS_MIN || apply->shares_in_use < 2 || !take_tokens(apply)) {
        result.alone += result.used;
        result.used = 0;
        return result;
    }
    for (unsigned i = 0; i < apply->share_count; i++)
        if (apply->shares[i].count > 0)
            atomic_store_explicit(&apply->shares[i].state, SHARE_FREE, memory_order_release);
    call_helpers(apply);
    run_free_shares(apply, apply->execution);
    finish(apply, &result);
    count_transactions(apply);
    result.commands = apply->count + 2 * apply->transactions;
    for (unsigned i = 0, at = 0; i < apply->end_count; at = (unsigned)apply->ends[i++])
        count(data + at, apply->ends[i] - at);
    epoch_quiescent();
    return result;
}

struct apply *apply_create(struct server *server) {
    if (server->loop_count < 2)
        return NULL;
    struct apply *apply = memory_alloc_aligned(_Alignof(struct apply), sizeof *apply);
    memset(apply, 0, sizeof *apply);
    apply->server = server;
    apply->execution = &server->loops[0]->execution;
    apply->multi = command_by_name("multi", 5);
    apply->exec = command_by_name("exec", 4);
    apply->move = command_by_name("move", 4);
    unsigned helpers = server->loop_count - 1;
    apply->helper_count = helpers < HELPERS_MAX ? helpers : HELPERS_MAX;
    apply->share_count = (apply->helper_count + 1) * SHARES_PER_WORKER;
    for (unsigned i = 0; i < apply->helper_count; i++)
        apply->helpers[i] =
            (struct helper){.message = {.run = help}, .apply = apply, .loop = server->loops[i + 1]};
    return apply;
}

void apply_destroy(struct apply *apply) {
    memory_free(apply);
}
