/* Lists: LPUSH, RPUSH, LPUSHX, RPUSHX, LPOP, RPOP, LLEN, LRANGE, LINDEX, LSET, LINSERT, LREM,
 * LTRIM, LPOS. Those that take from one list and more than one key are in cmd_list_move.c.
 *
 * Run by: any worker, see command.h. Readers also without tokens, as long as the list is packed
 * (collection.h). */
#include "server/commands/cmd_list.h"

#include "server/base/numbers.h"

command_handler cmd_lpush, cmd_rpush, cmd_lpushx, cmd_rpushx, cmd_lpop, cmd_rpop, cmd_llen,
    cmd_lrange, cmd_lindex, cmd_lset, cmd_linsert, cmd_lrem, cmd_ltrim, cmd_lpos;

/* --- Arguments -------------------------------------------------------------------------------- */

bool list_end_argument(struct call *call, int index, bool *head) {
    *head = argument_is(&call->argv[index], "left");
    if (*head || argument_is(&call->argv[index], "right"))
        return true;
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

bool list_number_argument(struct call *call, int index, int64_t min, int64_t max,
                          const char *message, int64_t *value) {
    if (number_parse_int64(call->argv[index].data, call->argv[index].length, value) &&
        *value >= min && *value <= max)
        return true;
    reply_error(call->reply, message);
    return false;
}

/* Positions from start to stop of a list, both included, negative ones from its end. */
struct range {
    uint64_t first, count; /* count 0: none */
};

static struct range range_of(uint64_t length, int64_t start, int64_t stop) {
    int64_t n = (int64_t)length;
    if (start < 0)
        start += n;
    if (stop < 0)
        stop += n;
    if (start < 0)
        start = 0;
    if (start > stop || start >= n)
        return (struct range){0, 0};
    if (stop >= n)
        stop = n - 1;
    return (struct range){(uint64_t)start, (uint64_t)(stop - start) + 1};
}

/* Below the count: where that is; else false. */
static bool position_of(uint64_t length, int64_t index, uint64_t *position) {
    *position = (uint64_t)(index < 0 ? index + (int64_t)length : index);
    return *position < length;
}

/* --- LPUSH and its kind ----------------------------------------------------------------------- */

static inline enum call_result push(struct call *call, bool head, bool only_if_there) {
    struct object *object;
    struct collection_edit edit;
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT && only_if_there) {
        reply_integer(call->reply, 0);
        return CALL_DONE;
    }
    size_t bytes = 0;
    for (int i = 2; i < call->argc; i++)
        bytes += call->argv[i].length;
    list_edit_begin(&edit, call->change, call->database, &call->key, object);
    list_grows(&edit, bytes, (uint64_t)call->argc - 2);
    for (int i = 2; i < call->argc; i++)
        list_push(&edit, head, call->argv[i].data, call->argv[i].length);
    reply_integer(call->reply, (int64_t)edit.count);
    collection_edit_end(&edit, head ? CHANGE_LPUSH : CHANGE_RPUSH);
    return CALL_DONE;
}

enum call_result cmd_lpush(struct call *call) {
    return push(call, true, false);
}

enum call_result cmd_rpush(struct call *call) {
    return push(call, false, false);
}

enum call_result cmd_lpushx(struct call *call) {
    return push(call, true, true);
}

enum call_result cmd_rpushx(struct call *call) {
    return push(call, false, true);
}

/* --- LPOP and RPOP ---------------------------------------------------------------------------- */

static bool reply_visited(void *context, const struct element *element, const struct element *value,
                          double score) {
    (void)value, (void)score;
    reply_element(context, element);
    return true;
}

uint64_t list_pop_range(struct call *call, const struct key *key, struct object *object, bool head,
                        uint64_t count) {
    struct collection_edit edit;
    uint64_t length = list_count(object), n = count < length ? count : length;
    reply_array(call->reply, n);
    list_visit_range(object, head ? 0 : length - 1, n, !head, reply_visited, call->reply);
    list_edit_begin(&edit, call->change, call->database, key, object);
    list_remove_range(&edit, head ? 0 : length - n, n);
    list_shrank(&edit);
    collection_edit_end(&edit, head ? CHANGE_LPOP : CHANGE_RPOP);
    return n;
}

void list_pop_one(struct call *call, const struct key *key, struct object *object, bool head) {
    struct collection_edit edit;
    struct element element;
    list_edit_begin(&edit, call->change, call->database, key, object);
    uint64_t position = head ? 0 : edit.count - 1;
    list_edit_at(&edit, position, &element);
    reply_element(call->reply, &element);
    list_remove_range(&edit, position, 1);
    list_shrank(&edit);
    collection_edit_end(&edit, head ? CHANGE_LPOP : CHANGE_RPOP);
}

static enum call_result pop(struct call *call, bool head) {
    struct object *object;
    int64_t count = 0;
    bool has_count = call->argc == 3;
    if (call->argc > 3) {
        command_reply_wrong_arity(call->reply, call->command);
        return CALL_DONE;
    }
    if (has_count && !list_number_argument(call, 2, 0, INT64_MAX,
                                           "ERR value is out of range, must be positive", &count))
        return CALL_DONE;
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT && has_count)
        reply_null_array(call->reply);
    else if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    else if (!has_count)
        list_pop_one(call, &call->key, object, head);
    else if (count == 0)
        reply_empty_array(call->reply);
    else
        list_pop_range(call, &call->key, object, head, (uint64_t)count);
    return CALL_DONE;
}

enum call_result cmd_lpop(struct call *call) {
    return pop(call, true);
}

enum call_result cmd_rpop(struct call *call) {
    return pop(call, false);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static void reply_count(struct call *call, const struct object *object,
                        const struct argument *none) {
    (void)none;
    reply_integer(call->reply, object ? (int64_t)list_count(object) : 0);
}

enum call_result cmd_llen(struct call *call) {
    return collection_ask(call, OBJECT_LIST, reply_count);
}

enum call_result cmd_lrange(struct call *call) {
    struct object *object;
    int64_t start, stop;
    if (!argument_integer(call, 2, &start) || !argument_integer(call, 3, &stop))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    struct range range = {0, 0};
    if (found == COLLECTION_THERE)
        range = range_of(list_count(object), start, stop);
    reply_array(call->reply, range.count);
    if (range.count > 0)
        list_visit_range(object, range.first, range.count, false, reply_visited, call->reply);
    return CALL_DONE;
}

enum call_result cmd_lindex(struct call *call) {
    struct object *object;
    struct element element;
    int64_t index;
    uint64_t position;
    enum collection_found found = collection_read(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    if (found != COLLECTION_THERE || !argument_integer(call, 2, &index))
        return CALL_DONE;
    if (position_of(list_count(object), index, &position)) {
        list_at(object, position, &element);
        reply_element(call->reply, &element);
    } else {
        reply_null(call->reply);
    }
    return CALL_DONE;
}

/* --- LSET, LINSERT, LREM, LTRIM --------------------------------------------------------------- */

enum call_result cmd_lset(struct call *call) {
    struct object *object;
    struct collection_edit edit;
    int64_t index;
    uint64_t position;
    const struct argument *element = &call->argv[3];
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_ABSENT)
        reply_error(call->reply, ERROR_NO_SUCH_KEY);
    if (found != COLLECTION_THERE || !argument_integer(call, 2, &index))
        return CALL_DONE;
    if (!position_of(list_count(object), index, &position)) {
        reply_error(call->reply, ERROR_OUT_OF_RANGE);
        return CALL_DONE;
    }
    list_edit_begin(&edit, call->change, call->database, &call->key, object);
    list_grows(&edit, element->length, 1);
    list_replace(&edit, position, element->data, element->length);
    list_shrank(&edit);
    collection_edit_end(&edit, CHANGE_LSET);
    reply_ok(call->reply);
    return CALL_DONE;
}

struct search {
    const struct argument *sought;
    uint64_t position;
    bool found;
};

static bool is_sought(void *context, const struct element *element, const struct element *value,
                      double score) {
    (void)value, (void)score;
    struct search *search = context;
    search->found = element_equals(element, search->sought->data, search->sought->length);
    search->position += !search->found;
    return !search->found;
}

enum call_result cmd_linsert(struct call *call) {
    struct object *object;
    struct collection_edit edit;
    bool before = argument_is(&call->argv[2], "before");
    if (!before && !argument_is(&call->argv[2], "after")) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_ABSENT)
        reply_integer(call->reply, 0);
    if (found != COLLECTION_THERE)
        return CALL_DONE;
    struct search search = {&call->argv[3], 0, false};
    list_visit(object, is_sought, &search);
    if (!search.found) {
        reply_integer(call->reply, -1);
        return CALL_DONE;
    }
    const struct argument *element = &call->argv[4];
    list_edit_begin(&edit, call->change, call->database, &call->key, object);
    list_grows(&edit, element->length, 1);
    list_insert(&edit, search.position + !before, element->data, element->length);
    reply_integer(call->reply, (int64_t)edit.count);
    collection_edit_end(&edit, CHANGE_LINSERT);
    return CALL_DONE;
}

enum call_result cmd_lrem(struct call *call) {
    struct object *object;
    struct collection_edit edit;
    int64_t count;
    if (!argument_integer(call, 2, &count))
        return CALL_DONE;
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_ABSENT)
        reply_integer(call->reply, 0);
    if (found != COLLECTION_THERE)
        return CALL_DONE;
    uint64_t limit = count == 0 ? UINT64_MAX : count < 0 ? 0 - (uint64_t)count : (uint64_t)count;
    list_edit_begin(&edit, call->change, call->database, &call->key, object);
    uint64_t removed =
        list_remove_equal(&edit, call->argv[3].data, call->argv[3].length, limit, count < 0);
    if (removed > 0)
        list_shrank(&edit);
    collection_edit_end(&edit, CHANGE_LREM);
    reply_integer(call->reply, (int64_t)removed);
    return CALL_DONE;
}

/* Clients are told of an LTRIM that has removed nothing, and so is who watches the key. */
static void tell_trimmed(struct call *call) {
    const struct slot *slot = &call->keyspace->slots[call->key.slot];
    if (atomic_load_explicit(&slot->word, memory_order_relaxed) & SLOT_WATCHED)
        change_watched(call->change, call->database, &call->key, CHANGE_LTRIM);
    change_also(call->change, call->database, &call->key, CHANGE_LTRIM);
}

enum call_result cmd_ltrim(struct call *call) {
    struct object *object;
    struct collection_edit edit;
    int64_t start, stop;
    if (!argument_integer(call, 2, &start) || !argument_integer(call, 3, &stop))
        return CALL_DONE;
    enum collection_found found = collection_write(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_THERE) {
        struct range kept = range_of(list_count(object), start, stop);
        list_edit_begin(&edit, call->change, call->database, &call->key, object);
        list_remove_range(&edit, kept.first + kept.count, edit.count - kept.first - kept.count);
        list_remove_range(&edit, 0, kept.first);
        if (edit.changed == 0)
            tell_trimmed(call);
        else
            list_shrank(&edit);
        collection_edit_end(&edit, CHANGE_LTRIM);
    }
    reply_ok(call->reply);
    return CALL_DONE;
}

/* --- LPOS ------------------------------------------------------------------------------------- */

struct position_search {
    const struct argument *sought;
    struct reply *reply;
    uint64_t length;
    uint64_t seen, matches, replied;
    uint64_t rank;  /* the first match that is replied, from 1 */
    uint64_t count; /* how many are */
    bool backwards;
};

static bool position_visit(void *context, const struct element *element,
                           const struct element *value, double score) {
    (void)value, (void)score;
    struct position_search *search = context;
    uint64_t position = search->backwards ? search->length - 1 - search->seen : search->seen;
    search->seen++;
    if (!element_equals(element, search->sought->data, search->sought->length) ||
        ++search->matches < search->rank)
        return true;
    reply_integer(search->reply, (int64_t)position);
    return ++search->replied < search->count;
}

struct position_options {
    int64_t rank, count, maxlen; /* count -1: none given */
};

#define ERROR_RANK_RANGE                                                                           \
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"

static bool position_options_parse(struct call *call, struct position_options *options) {
    *options = (struct position_options){1, -1, 0};
    for (int i = 3; i < call->argc; i += 2) {
        const struct argument *option = &call->argv[i];
        bool has_value = i + 1 < call->argc;
        if (argument_is(option, "rank") && has_value) {
            if (!argument_integer(call, i + 1, &options->rank))
                return false;
            if (options->rank == INT64_MIN) {
                reply_error(call->reply, ERROR_RANK_RANGE);
                return false;
            }
            if (options->rank == 0) {
                reply_error(call->reply,
                            "ERR RANK can't be zero: use 1 to start from the first match, 2 from "
                            "the second ... or use negative to start from the end of the list");
                return false;
            }
        } else if (argument_is(option, "count") && has_value) {
            if (!list_number_argument(call, i + 1, 0, INT64_MAX, "ERR COUNT can't be negative",
                                      &options->count))
                return false;
        } else if (argument_is(option, "maxlen") && has_value) {
            if (!list_number_argument(call, i + 1, 0, INT64_MAX, "ERR MAXLEN can't be negative",
                                      &options->maxlen))
                return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

enum call_result cmd_lpos(struct call *call) {
    struct object *object;
    struct position_options options;
    if (!position_options_parse(call, &options))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_LIST, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    struct position_search search = {.sought = &call->argv[2], .reply = call->reply};
    struct reply_deferred array = {0};
    if (options.count >= 0)
        array = reply_deferred_begin(call->reply);
    if (found == COLLECTION_THERE) {
        search.length = list_count(object);
        search.backwards = options.rank < 0;
        search.rank = (uint64_t)(options.rank < 0 ? -options.rank : options.rank);
        search.count = options.count < 0    ? 1
                       : options.count == 0 ? UINT64_MAX
                                            : (uint64_t)options.count;
        list_visit_range(object, search.backwards ? search.length - 1 : 0,
                         options.maxlen ? (uint64_t)options.maxlen : UINT64_MAX, search.backwards,
                         position_visit, &search);
    }
    if (options.count >= 0)
        reply_deferred_array(call->reply, array, search.replied);
    else if (search.replied == 0)
        reply_null(call->reply);
    return CALL_DONE;
}
