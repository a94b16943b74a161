/* Whole databases: FLUSHDB, FLUSHALL, SWAPDB.
 *
 * Run by: any worker, while all others are stopped. Tables are only taken out here. They are freed
 * by the background thread (ASYNC), or by this worker after the section (SYNC): the reply then says
 * that the memory is back, and the other workers go on meanwhile. */
#include "server/cmd_data.h"
#include "server/config.h"
#include "server/execution.h"

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

static void free_after_section(void *garbage) {
    keyspace_garbage_free(garbage, false);
}

static enum call_result flush(struct call *call, int database) {
    bool asynchronous;
    if (!flush_mode_parse(call, &asynchronous))
        return CALL_DONE;
    struct keyspace_garbage *garbage = keyspace_clear(call->change, database);
    /* A transaction may flush more than once; only the first keeps its place after the section. */
    if (!asynchronous && call->after && !call->after->run)
        *call->after = (struct call_after){free_after_section, garbage};
    else
        keyspace_garbage_free(garbage, asynchronous || call->after);
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
    if (a != b)
        keyspace_swap(call->change, (unsigned)a, (unsigned)b);
    reply_ok(call->reply);
    return CALL_DONE;
}
