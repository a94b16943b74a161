/* Sorted sets, ranges of elements: ZRANGE and its kind, ZRANGESTORE, ZCOUNT, ZLEXCOUNT,
 * ZREMRANGEBYRANK, ZREMRANGEBYSCORE, ZREMRANGEBYLEX.
 *
 * Every range, whatever it is given by, is found as positions first, so that all commands end in
 * the same walk, and know how many elements there will be before they reply the first one.
 *
 * Run by: any worker, under the key's token; those that read also without, as long as the set is
 * packed. */
#include <math.h>
#include <stdlib.h>

#include "engine/memory.h"
#include "server/commands/cmd_zset.h"

/* --- Bounds ----------------------------------------------------------------------------------- */

/* As strtod reads it, all of it, with "(" in front: without the bound itself. Nothing at all is 0.
 */
static bool read_score_bound(const struct argument *argument, struct zset_bound *bound) {
    char on_stack[128];
    size_t length = argument->length;
    char *copy = length < sizeof on_stack ? on_stack : memory_alloc(length + 1), *end;
    memcpy(copy, argument->data, length);
    copy[length] = 0;
    *bound = (struct zset_bound){.open = copy[0] == '('};
    bound->score = strtod(copy + bound->open, &end);
    bool valid = *end == 0 && !isnan(bound->score);
    if (copy != on_stack)
        memory_free(copy);
    return valid;
}

static bool read_member_bound(const struct argument *argument, struct zset_bound *bound) {
    char first = argument->length > 0 ? argument->data[0] : 0;
    *bound = (struct zset_bound){.open = first != '[', .last = first == '+'};
    if (first == '+' || first == '-')
        return argument->length == 1;
    bound->member = argument->data + 1;
    bound->length = argument->length - 1;
    return first == '(' || first == '[';
}

bool zset_range_read(struct call *call, enum zset_order_by by, int min, int max,
                     struct zset_range *range) {
    const struct argument *argv = call->argv;
    range->by = by;
    switch (by) {
    case ZSET_BY_RANK:
        return argument_integer(call, min, &range->start) &&
               argument_integer(call, max, &range->end);
    case ZSET_BY_SCORE:
        if (read_score_bound(&argv[min], &range->min) && read_score_bound(&argv[max], &range->max))
            return true;
        reply_error(call->reply, ERROR_NOT_SCORE_RANGE);
        return false;
    case ZSET_BY_MEMBER:
        if (read_member_bound(&argv[min], &range->min) &&
            read_member_bound(&argv[max], &range->max))
            return true;
        reply_error(call->reply, ERROR_NOT_MEMBER_RANGE);
        return false;
    }
    return false;
}

/* How many elements are in front of the bound; upper: of those that it lets in none is counted as
 * behind it. */
static uint64_t score_position(const struct object *object, const struct zset_bound *bound,
                               bool upper) {
    if (isinf(bound->score) && !bound->open && (bound->score > 0) == upper)
        return upper ? zset_count(object) : 0;
    return zset_below(object, bound->score, upper != bound->open);
}

static uint64_t member_position(const struct object *object, const struct zset_bound *bound,
                                bool upper) {
    if (!bound->member)
        return bound->last ? zset_count(object) : 0;
    return zset_before(object, bound->member, bound->length, upper != bound->open);
}

static void find_ranks(const struct object *object, const struct zset_range *range, bool backwards,
                       uint64_t *first, uint64_t *end) {
    int64_t count = (int64_t)zset_count(object), from = range->start, to = range->end;
    if (from < 0)
        from += count;
    if (to < 0)
        to += count;
    if (from < 0)
        from = 0;
    if (to >= count)
        to = count - 1;
    *first = *end = 0;
    if (from > to)
        return;
    *first = (uint64_t)(backwards ? count - 1 - to : from);
    *end = *first + (uint64_t)(to - from) + 1;
}

void zset_range_find(const struct object *object, const struct zset_range *range, bool backwards,
                     uint64_t *first, uint64_t *end) {
    switch (range->by) {
    case ZSET_BY_RANK:
        find_ranks(object, range, backwards, first, end);
        return;
    case ZSET_BY_SCORE:
        *first = score_position(object, &range->min, false);
        *end = score_position(object, &range->max, true);
        break;
    case ZSET_BY_MEMBER:
        *first = member_position(object, &range->min, false);
        *end = member_position(object, &range->max, true);
        break;
    }
    if (*end < *first)
        *end = *first;
}

/* --- Storing ---------------------------------------------------------------------------------- */

uint64_t zset_store(struct call *call, int index, struct collection_edit *draft,
                    enum change_event event) {
    struct key key = call_key(call, index);
    uint64_t count = draft->count;
    struct object *old = keyspace_find_write(call->change, call->database, &key);
    struct object *object = collection_draft_end(draft, key.data, key.length, OBJECT_NO_EXPIRY);
    if (object)
        data_publish(call, &key, old, object, event);
    else if (old)
        keyspace_delete(call->change, call->database, &key, CHANGE_DEL);
    return count;
}

bool zset_store_visit(void *context, const struct element *member, const struct element *value,
                      double score) {
    (void)value;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    zset_put(context, text, length, score);
    return true;
}

/* --- ZRANGE and its kind ---------------------------------------------------------------------- */

struct range_command {
    struct zset_range range;
    int source; /* argv[source] is the key, min and max follow */
    bool by_is_given, backwards, direction_is_given;
    bool store, scores;
    int64_t offset, limit;
};

static bool read_range_options(struct call *call, struct range_command *command) {
    for (int i = command->source + 3; i < call->argc; i++) {
        const struct argument *option = &call->argv[i];
        if (!command->store && argument_is(option, "withscores")) {
            command->scores = true;
        } else if (argument_is(option, "limit") && i + 2 < call->argc) {
            if (!argument_integer(call, i + 1, &command->offset) ||
                !argument_integer(call, i + 2, &command->limit))
                return false;
            i += 2;
        } else if (!command->direction_is_given && argument_is(option, "rev")) {
            command->direction_is_given = command->backwards = true;
        } else if (!command->by_is_given && argument_is(option, "bylex")) {
            command->by_is_given = true;
            command->range.by = ZSET_BY_MEMBER;
        } else if (!command->by_is_given && argument_is(option, "byscore")) {
            command->by_is_given = true;
            command->range.by = ZSET_BY_SCORE;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static bool read_range_command(struct call *call, struct range_command *command) {
    command->limit = -1;
    if (!read_range_options(call, command))
        return false;
    enum zset_order_by by = command->range.by;
    if (command->limit != -1 && by == ZSET_BY_RANK) {
        reply_error(call->reply, "ERR syntax error, LIMIT is only supported in combination with "
                                 "either BYSCORE or BYLEX");
        return false;
    }
    if (command->scores && by == ZSET_BY_MEMBER) {
        reply_error(call->reply,
                    "ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        return false;
    }
    bool swapped = command->backwards && by != ZSET_BY_RANK; /* given as max, min */
    return zset_range_read(call, by, command->source + (swapped ? 2 : 1),
                           command->source + (swapped ? 1 : 2), &command->range);
}

/* LIMIT of the elements from first up to end. An offset below 0 skips all, a limit below 0 is none.
 */
static void apply_limit(const struct range_command *command, uint64_t *first, uint64_t *end) {
    uint64_t count = *end - *first;
    if (command->range.by == ZSET_BY_RANK)
        return;
    uint64_t skipped = command->offset < 0 || (uint64_t)command->offset > count
                           ? count
                           : (uint64_t)command->offset;
    uint64_t left = count - skipped;
    if (command->limit >= 0 && (uint64_t)command->limit < left)
        left = (uint64_t)command->limit;
    if (command->backwards) {
        *end -= skipped;
        *first = *end - left;
    } else {
        *first += skipped;
        *end = *first + left;
    }
}

/* object may be NULL. As in Redis the encoding of what is stored is chosen by the number of
 * elements where that is known before they are looked for. */
static void store_range(struct call *call, const struct range_command *command,
                        const struct object *object, uint64_t first, uint64_t end) {
    struct collection_edit draft;
    enum object_encoding encoding =
        command->range.by == ZSET_BY_RANK ? zset_encoding_for(end - first, 0) : ENCODING_SKIPLIST;
    collection_draft_begin(&draft, OBJECT_ZSET, encoding);
    if (object)
        zset_visit_range(object, first, end - first, false, zset_store_visit, &draft);
    uint64_t count = zset_store(call, 1, &draft, CHANGE_ZRANGESTORE);
    reply_integer(call->reply, (int64_t)count);
}

static enum call_result range_command(struct call *call, struct range_command command) {
    struct object *object;
    uint64_t first = 0, end = 0;
    if (!read_range_command(call, &command))
        return CALL_DONE;
    switch (collection_read(call, command.source, OBJECT_ZSET, &object)) {
    case COLLECTION_NEEDS_TOKEN:
        return CALL_NEED_TOKENS;
    case COLLECTION_WRONG_TYPE:
        return CALL_DONE;
    case COLLECTION_ABSENT:
        break;
    case COLLECTION_THERE:
        zset_range_find(object, &command.range, command.backwards, &first, &end);
        apply_limit(&command, &first, &end);
    }
    if (command.store) {
        store_range(call, &command, object, first, end);
        return CALL_DONE;
    }
    struct zset_reply reply = zset_reply_begin(call->reply, end - first, command.scores);
    if (end > first)
        zset_visit_range(object, command.backwards ? end - 1 : first, end - first,
                         command.backwards, zset_reply_visit, &reply);
    return CALL_DONE;
}

enum call_result cmd_zrange(struct call *call) {
    return range_command(call, (struct range_command){.source = 1});
}

enum call_result cmd_zrangestore(struct call *call) {
    return range_command(call, (struct range_command){.source = 2, .store = true});
}

static enum call_result range_by(struct call *call, enum zset_order_by by, bool backwards) {
    return range_command(call, (struct range_command){.source = 1,
                                                      .range = {.by = by},
                                                      .by_is_given = true,
                                                      .direction_is_given = true,
                                                      .backwards = backwards});
}

enum call_result cmd_zrevrange(struct call *call) {
    return range_by(call, ZSET_BY_RANK, true);
}

enum call_result cmd_zrangebyscore(struct call *call) {
    return range_by(call, ZSET_BY_SCORE, false);
}

enum call_result cmd_zrevrangebyscore(struct call *call) {
    return range_by(call, ZSET_BY_SCORE, true);
}

enum call_result cmd_zrangebylex(struct call *call) {
    return range_by(call, ZSET_BY_MEMBER, false);
}

enum call_result cmd_zrevrangebylex(struct call *call) {
    return range_by(call, ZSET_BY_MEMBER, true);
}

/* --- Counting --------------------------------------------------------------------------------- */

static enum call_result count_range(struct call *call, enum zset_order_by by) {
    struct zset_range range;
    struct object *object;
    uint64_t first = 0, end = 0;
    if (!zset_range_read(call, by, 2, 3, &range))
        return CALL_DONE;
    switch (collection_read(call, 1, OBJECT_ZSET, &object)) {
    case COLLECTION_NEEDS_TOKEN:
        return CALL_NEED_TOKENS;
    case COLLECTION_WRONG_TYPE:
        return CALL_DONE;
    case COLLECTION_ABSENT:
        break;
    case COLLECTION_THERE:
        zset_range_find(object, &range, false, &first, &end);
    }
    reply_integer(call->reply, (int64_t)(end - first));
    return CALL_DONE;
}

enum call_result cmd_zcount(struct call *call) {
    return count_range(call, ZSET_BY_SCORE);
}

enum call_result cmd_zlexcount(struct call *call) {
    return count_range(call, ZSET_BY_MEMBER);
}

/* --- Removing --------------------------------------------------------------------------------- */

static enum call_result remove_range(struct call *call, enum zset_order_by by,
                                     enum change_event event) {
    struct zset_range range;
    struct object *object;
    struct collection_edit edit;
    uint64_t first = 0, end = 0;
    if (!zset_range_read(call, by, 2, 3, &range))
        return CALL_DONE;
    enum collection_found found = collection_write(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_THERE)
        zset_range_find(object, &range, false, &first, &end);
    if (end > first) {
        collection_edit_begin(&edit, call->change, call->database, &call->key, object, OBJECT_ZSET,
                              ENCODING_LISTPACK);
        zset_remove_range(&edit, first, end - first);
        collection_edit_end(&edit, event);
    }
    reply_integer(call->reply, (int64_t)(end - first));
    return CALL_DONE;
}

enum call_result cmd_zremrangebyrank(struct call *call) {
    return remove_range(call, ZSET_BY_RANK, CHANGE_ZREMRANGEBYRANK);
}

enum call_result cmd_zremrangebyscore(struct call *call) {
    return remove_range(call, ZSET_BY_SCORE, CHANGE_ZREMRANGEBYSCORE);
}

enum call_result cmd_zremrangebylex(struct call *call) {
    return remove_range(call, ZSET_BY_MEMBER, CHANGE_ZREMRANGEBYLEX);
}
