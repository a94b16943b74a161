/* Whole databases: FLUSHDB, FLUSHALL, SWAPDB.
 *
 * Run by: any worker, while all others are stopped. Tables are only taken out here; freeing them is
 * the background thread's work unless there are few keys, so that nobody stands still for it. */
#include "server/cmd_data.h"
#include "server/config.h"

/* Freeing so many takes about a millisecond. */
#define KEYS_FREED_AT_ONCE_MAX 10000

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

static uint64_t keys_in(const struct keyspace *keyspace, int database) {
    uint64_t keys = 0;
    for (unsigned i = 0; i < keyspace->databases; i++)
        if (database < 0 || (unsigned)database == i)
            keys += keyspace_count(keyspace, i);
    return keys;
}

static enum call_result flush(struct call *call, int database) {
    bool asynchronous;
    if (!flush_mode_parse(call, &asynchronous))
        return CALL_DONE;
    if (keys_in(call->keyspace, database) > KEYS_FREED_AT_ONCE_MAX)
        asynchronous = true;
    keyspace_garbage_free(keyspace_clear(call->keyspace, database), asynchronous);
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
    unsigned databases[2];
    if (data_single_database(call, "ERR SWAPDB is not allowed in cluster mode") ||
        !data_database_argument(call, 1, "ERR invalid first DB index", &databases[0]) ||
        !data_database_argument(call, 2, "ERR invalid second DB index", &databases[1]))
        return CALL_DONE;
    if (databases[0] != databases[1])
        keyspace_swap(call->keyspace, databases[0], databases[1]);
    reply_ok(call->reply);
    return CALL_DONE;
}
