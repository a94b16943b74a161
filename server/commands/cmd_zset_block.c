/* Sorted sets: BZPOPMIN, BZPOPMAX, BZMPOP. Each takes what is there, or waits (blocked.h), and is
 * logged as the command without B. Run by: any worker, see command.h; for who waits the worker of
 * who adds. */
#include "server/commands/cmd_block.h"
#include "server/commands/cmd_zset.h"

command_handler cmd_bzpopmin, cmd_bzpopmax, cmd_bzmpop;

static void pop_one(struct call *call, int index, struct object *object, bool highest) {
    struct key key = call_key(call, index);
    reply_array(call->reply, 3);
    reply_bulk(call->reply, key.data, key.length);
    zset_pop(call->change, call->database, &key, object, highest, 1, call->reply, false);
    data_propagate_key(call, highest ? "ZPOPMAX" : "ZPOPMIN", &key);
}

static enum call_result pop_or_block(struct call *call, bool highest) {
    struct blocked_request request = {
        .type = OBJECT_ZSET, .first_key = 1, .key_count = call->argc - 2};
    struct object *object;
    if (!block_timeout_argument(call, call->argc - 1, &request.until_us))
        return CALL_DONE;
    for (int i = 1; i < call->argc - 1; i++) {
        enum collection_found found = collection_write(call, i, OBJECT_ZSET, &object);
        if (found == COLLECTION_ABSENT)
            continue;
        if (found == COLLECTION_THERE)
            pop_one(call, i, object, highest);
        return CALL_DONE;
    }
    return block_or_reply_null_array(call, &request);
}

enum call_result cmd_bzpopmin(struct call *call) {
    return pop_or_block(call, false);
}

enum call_result cmd_bzpopmax(struct call *call) {
    return pop_or_block(call, true);
}

enum call_result cmd_bzmpop(struct call *call) {
    struct zset_mpop arguments;
    struct blocked_request request = {.type = OBJECT_ZSET, .number_index = 2};
    struct object *object;
    if (!zset_mpop_arguments(call, 2, &arguments) ||
        !block_timeout_argument(call, 1, &request.until_us))
        return CALL_DONE;
    request.first_key = arguments.first_key;
    request.key_count = arguments.key_count;
    for (int i = 0; i < arguments.key_count; i++) {
        int index = arguments.first_key + i;
        enum collection_found found = collection_write(call, index, OBJECT_ZSET, &object);
        if (found == COLLECTION_ABSENT)
            continue;
        if (found == COLLECTION_THERE)
            zset_mpop_from(call, index, object, &arguments);
        return CALL_DONE;
    }
    return block_or_reply_null_array(call, &request);
}
