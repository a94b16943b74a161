/* Lists: LMOVE, RPOPLPUSH, LMPOP. Run by: any worker, see command.h. */
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_list.h"

#define COPIED_BYTES 256 /* an element of more is copied into memory of its own */

command_handler cmd_lmove, cmd_rpoplpush, cmd_lmpop;

/* --- LMOVE ------------------------------------------------------------------------------------ */

/* Within one list; data is a copy. As Redis tells it: that it was pushed, then that it was popped.
 */
static void rotate(struct call *call, struct object *list, bool from_head, bool to_head,
                   const char *data, size_t length) {
    struct collection_edit edit;
    list_edit_begin(&edit, call->change, call->database, &call->key, list);
    list_remove_range(&edit, from_head ? 0 : edit.count - 1, 1);
    list_push(&edit, to_head, data, length);
    list_shrank(&edit);
    edit.changed = 1;
    change_also(call->change, call->database, &call->key, to_head ? CHANGE_LPUSH : CHANGE_RPUSH);
    collection_edit_end(&edit, from_head ? CHANGE_LPOP : CHANGE_RPOP);
}

static void rotate_copied(struct call *call, struct object *list, bool from_head, bool to_head,
                          const char *data, size_t length) {
    char few[COPIED_BYTES], *copy = few;
    if (length > sizeof few)
        copy = memory_alloc(length);
    memcpy(copy, data, length);
    rotate(call, list, from_head, to_head, copy, length);
    if (copy != few)
        memory_free(copy);
}

/* The element is pushed from where it lies, and popped then. */
static void move_between(struct call *call, struct object *source, struct object *target,
                         const struct key *target_key, bool from_head, bool to_head) {
    struct collection_edit from, to;
    struct element element;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    list_edit_begin(&from, call->change, call->database, &call->key, source);
    uint64_t position = from_head ? 0 : from.count - 1;
    list_edit_at(&from, position, &element);
    const char *data = element_text(&element, room, &length);
    reply_bulk(call->reply, data, length);
    list_edit_begin(&to, call->change, call->database, target_key, target);
    list_grows(&to, length, 1);
    list_push(&to, to_head, data, length);
    collection_edit_end(&to, to_head ? CHANGE_LPUSH : CHANGE_RPUSH);
    change_count(call->change, UINT64_MAX); /* takes one back: both together are one change */
    list_remove_range(&from, position, 1);
    list_shrank(&from);
    collection_edit_end(&from, from_head ? CHANGE_LPOP : CHANGE_RPOP);
}

bool list_move(struct call *call, struct object *source, bool from_head, bool to_head) {
    struct object *target;
    struct key target_key = call_key(call, 2);
    if (collection_write(call, 2, OBJECT_LIST, &target) == COLLECTION_WRONG_TYPE)
        return false;
    if (target != source) {
        move_between(call, source, target, &target_key, from_head, to_head);
        return true;
    }
    struct element element;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    list_at(source, from_head ? 0 : list_count(source) - 1, &element);
    const char *data = element_text(&element, room, &length);
    reply_bulk(call->reply, data, length);
    rotate_copied(call, source, from_head, to_head, data, length);
    return true;
}

static enum call_result move(struct call *call, bool from_head, bool to_head) {
    struct object *source;
    switch (collection_write(call, 1, OBJECT_LIST, &source)) {
    case COLLECTION_ABSENT:
        reply_null(call->reply);
        break;
    case COLLECTION_THERE:
        list_move(call, source, from_head, to_head);
        break;
    default:
        break;
    }
    return CALL_DONE;
}

enum call_result cmd_lmove(struct call *call) {
    bool from_head, to_head;
    if (!list_end_argument(call, 3, &from_head) || !list_end_argument(call, 4, &to_head))
        return CALL_DONE;
    return move(call, from_head, to_head);
}

enum call_result cmd_rpoplpush(struct call *call) {
    return move(call, false, true);
}

/* --- LMPOP ------------------------------------------------------------------------------------ */

bool list_mpop_arguments(struct call *call, int index, struct list_mpop *arguments) {
    int64_t keys;
    if (!list_number_argument(call, index, 1, INT64_MAX, "ERR numkeys should be greater than 0",
                              &keys))
        return false;
    if (keys >= call->argc - index - 1) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    *arguments = (struct list_mpop){index + 1, (int)keys, false, -1};
    int where = index + 1 + (int)keys;
    if (!list_end_argument(call, where, &arguments->head))
        return false;
    for (int i = where + 1; i < call->argc; i += 2) {
        if (arguments->count != -1 || !argument_is(&call->argv[i], "count") ||
            i + 1 >= call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!list_number_argument(call, i + 1, 1, INT64_MAX, "ERR count should be greater than 0",
                                  &arguments->count))
            return false;
    }
    if (arguments->count == -1)
        arguments->count = 1;
    return true;
}

void list_mpop_from(struct call *call, int index, struct object *object,
                    const struct list_mpop *arguments) {
    struct key key = call_key(call, index);
    reply_array(call->reply, 2);
    reply_bulk(call->reply, key.data, key.length);
    uint64_t n = list_pop_range(call, &key, object, arguments->head, (uint64_t)arguments->count);
    data_propagate_key_integer(call, arguments->head ? "LPOP" : "RPOP", &key, (int64_t)n);
}

enum call_result cmd_lmpop(struct call *call) {
    struct list_mpop arguments;
    struct object *object;
    if (!list_mpop_arguments(call, 1, &arguments))
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
    reply_null_array(call->reply);
    return CALL_DONE;
}
