/* Lists: BLPOP, BRPOP, BLMPOP, BLMOVE, BRPOPLPUSH. Each takes what is there, as the command without
 * B, or waits (blocked.h). It is logged as that command. Run by: any worker, see command.h; for who
 * waits the worker of who pushes. */
#include "server/commands/cmd_block.h"
#include "server/commands/cmd_list.h"

command_handler cmd_blpop, cmd_brpop, cmd_blmpop, cmd_blmove, cmd_brpoplpush;

/* --- BLPOP, BRPOP ----------------------------------------------------------------------------- */

static enum call_result pop_or_block(struct call *call, bool head) {
    struct blocked_request request = {
        .type = OBJECT_LIST, .first_key = 1, .key_count = call->argc - 2};
    struct object *object;
    if (!block_timeout_argument(call, call->argc - 1, &request.until_us))
        return CALL_DONE;
    for (int i = 1; i < call->argc - 1; i++) {
        enum collection_found found = collection_write(call, i, OBJECT_LIST, &object);
        if (found == COLLECTION_ABSENT)
            continue;
        if (found == COLLECTION_THERE) {
            struct key key = call_key(call, i);
            reply_array(call->reply, 2);
            reply_bulk(call->reply, key.data, key.length);
            list_pop_one(call, &key, object, head);
            data_propagate_key(call, head ? "LPOP" : "RPOP", &key);
        }
        return CALL_DONE;
    }
    return block_or_reply_null_array(call, &request);
}

enum call_result cmd_blpop(struct call *call) {
    return pop_or_block(call, true);
}

enum call_result cmd_brpop(struct call *call) {
    return pop_or_block(call, false);
}

/* --- BLMPOP ----------------------------------------------------------------------------------- */

enum call_result cmd_blmpop(struct call *call) {
    struct list_mpop arguments;
    struct blocked_request request = {.type = OBJECT_LIST, .number_index = 2};
    struct object *object;
    if (!list_mpop_arguments(call, 2, &arguments) ||
        !block_timeout_argument(call, 1, &request.until_us))
        return CALL_DONE;
    for (int i = 0; i < arguments.key_count; i++) {
        switch (collection_write(call, arguments.first_key + i, OBJECT_LIST, &object)) {
        case COLLECTION_ABSENT:
            continue;
        case COLLECTION_THERE:
            list_mpop_from(call, arguments.first_key + i, object, &arguments);
            return CALL_DONE;
        default:
            return CALL_DONE;
        }
    }
    request.first_key = arguments.first_key;
    request.key_count = arguments.key_count;
    return block_or_reply_null_array(call, &request);
}

/* --- BLMOVE, BRPOPLPUSH ----------------------------------------------------------------------- */

/* As LMOVE (or RPOPLPUSH) with the same arguments but the last one. */
static void propagate_move(struct call *call, const char *name) {
    struct effect_argument arguments[5] = {{name, strlen(name)}};
    for (int i = 1; i < call->argc - 1; i++)
        arguments[i] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    call_propagate(call, arguments, (size_t)call->argc - 1);
}

static enum call_result move_or_block(struct call *call, bool from_head, bool to_head,
                                      const char *name) {
    struct blocked_request request = {
        .type = OBJECT_LIST, .first_key = 1, .key_count = 1, .target_index = 2};
    struct object *source;
    if (!block_timeout_argument(call, call->argc - 1, &request.until_us))
        return CALL_DONE;
    switch (collection_write(call, 1, OBJECT_LIST, &source)) {
    case COLLECTION_ABSENT:
        if (!call->in_exec)
            return blocked_begin(call, &request);
        reply_null(call->reply);
        break;
    case COLLECTION_THERE:
        if (list_move(call, source, from_head, to_head) && call_is_logged(call))
            propagate_move(call, name);
        break;
    default:
        break;
    }
    return CALL_DONE;
}

enum call_result cmd_blmove(struct call *call) {
    bool from_head, to_head;
    if (!list_end_argument(call, 3, &from_head) || !list_end_argument(call, 4, &to_head))
        return CALL_DONE;
    return move_or_block(call, from_head, to_head, "LMOVE");
}

enum call_result cmd_brpoplpush(struct call *call) {
    return move_or_block(call, false, true, "RPOPLPUSH");
}
