/* Whole databases: FLUSHDB, FLUSHALL, SWAPDB.
 *
 * Run by: any worker. Databases are emptied and exchanged while all others are stopped. What they
 * held is only taken out there; in its next turn the command gives it to the background thread,
 * which frees it. With SYNC the connection waits for that: the reply says that the memory is back,
 * and everybody else goes on meanwhile. Inside a transaction nothing can wait, and SYNC is as
 * ASYNC. */
#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/config/config.h"
#include "server/dispatch/background_work.h"

/* false: error replied. */
static bool flush_mode_parse(struct call *call, bool *asynchronous) {
    if (call->argc == 1)
        *asynchronous = config_current()->lazyfree_lazy_user_flush;
    else if (call->argc == 2 && argument_is(&call->argv[1], "sync"))
        *asynchronous = false;
    else if (call->argc == 2 && argument_is(&call->argv[1], "async"))
        *asynchronous = true;
    else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

/* What a client waits for. */
struct freeing {
    struct background_work work; /* first */
    struct keyspace_garbage *garbage;
};

static void freeing_run(struct background_work *work) {
    keyspace_garbage_free(((struct freeing *)(void *)work)->garbage, false);
}

static void freeing_destroy(struct background_work *work) {
    memory_free(work);
}

static struct unfinished *freeing_begin(struct keyspace_garbage *garbage) {
    struct freeing *freeing = memory_alloc_aligned(_Alignof(struct freeing), sizeof *freeing);
    freeing->work = (struct background_work){
        .thread = BACKGROUND_SHARED, .run = freeing_run, .destroy = freeing_destroy};
    freeing->garbage = garbage;
    return background_work_begin(&freeing->work);
}

/* Between the section and the next turn. */
struct taken_out {
    struct unfinished unfinished; /* first */
    struct keyspace_garbage *garbage;
};

static void taken_out_drop(struct unfinished *unfinished) {
    struct taken_out *taken_out = (struct taken_out *)(void *)unfinished;
    if (taken_out->garbage)
        keyspace_garbage_free(taken_out->garbage, true);
    memory_free(taken_out);
}

static struct unfinished *taken_out_begin(struct keyspace_garbage *garbage) {
    struct taken_out *taken_out = memory_alloc(sizeof *taken_out);
    *taken_out = (struct taken_out){{.drop = taken_out_drop}, garbage};
    return &taken_out->unfinished;
}

/* The others go on. */
static enum call_result give_away(struct call *call, bool asynchronous) {
    struct session *session = call->session;
    if (!asynchronous) {
        struct taken_out *taken_out = (struct taken_out *)(void *)session->unfinished;
        struct keyspace_garbage *garbage = taken_out->garbage;
        taken_out->garbage = NULL;
        session_drop_unfinished(session);
        keyspace_garbage_prepare(garbage);
        session->unfinished = freeing_begin(garbage);
        return CALL_UNFINISHED;
    }
    session_drop_unfinished(session);
    reply_ok(call->reply);
    return CALL_DONE;
}

static enum call_result flush(struct call *call, int database) {
    struct unfinished *unfinished = call->session->unfinished;
    bool asynchronous;
    if (!flush_mode_parse(call, &asynchronous))
        return CALL_DONE;
    if (unfinished && unfinished->drop == taken_out_drop)
        return give_away(call, asynchronous);
    if (unfinished) { /* it has been freed */
        reply_ok(call->reply);
        return CALL_DONE;
    }
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    struct keyspace_garbage *garbage = keyspace_clear(call->change, database);
    if (database < 0 && call->server) /* none where handlers run by themselves */
        saver_flushed(&call->server->saver, config_current());
    if (!call->in_exec) {
        call->session->unfinished = taken_out_begin(garbage);
        return CALL_UNFINISHED;
    }
    keyspace_garbage_free(garbage, true);
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_flushdb(struct call *call) {
    return flush(call, (int)call->database);
}

enum call_result cmd_flushall(struct call *call) {
    return flush(call, -1);
}

enum call_result cmd_swapdb(struct call *call) {
    int a, b;
    if (data_single_database(call, "ERR SWAPDB is not allowed in cluster mode") ||
        !data_int_argument(call, 1, "ERR invalid first DB index", &a) ||
        !data_int_argument(call, 2, "ERR invalid second DB index", &b) ||
        !data_database_exists(call, a) || !data_database_exists(call, b))
        return CALL_DONE;
    if (a != b) {
        keyspace_swap(call->change, (unsigned)a, (unsigned)b);
        blocked_look(call, (unsigned)a);
        blocked_look(call, (unsigned)b);
    } else {
        change_mark(call->change, 1); /* it is propagated as in Redis */
    }
    reply_ok(call->reply);
    return CALL_DONE;
}
