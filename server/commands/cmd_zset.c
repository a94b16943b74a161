/* Sorted sets, elements by their members: ZADD, ZINCRBY, ZREM, ZCARD, ZSCORE, ZMSCORE, ZRANK,
 * ZREVRANK, ZSCAN.
 *
 * Run by: any worker, under the key's token; those that read also without, as long as the set is
 * packed. */
#include "server/commands/cmd_zset.h"

#include <math.h>
#include <stdio.h>

#include "engine/memory.h"
#include "server/base/numbers.h"

#define SCORES_ON_STACK 64

/* --- Arguments and replies -------------------------------------------------------------------- */

bool zset_integer_argument(struct call *call, int index, int64_t min, const char *message,
                           int64_t *value) {
    const struct argument *argument = &call->argv[index];
    if (number_parse_int64(argument->data, argument->length, value) && *value >= min)
        return true;
    reply_error(call->reply, message);
    return false;
}

bool zset_double_argument(struct call *call, int index, const char *message, double *value) {
    if (number_parse_double(call->argv[index].data, call->argv[index].length, value))
        return true;
    reply_error(call->reply, message);
    return false;
}

struct zset_reply zset_reply_begin(struct reply *reply, uint64_t count, bool scores) {
    struct zset_reply zset = {reply, scores, scores && reply->resp > 2};
    reply_array(reply, scores && !zset.pairs ? count * 2 : count);
    return zset;
}

void zset_reply_element(const struct zset_reply *zset, const struct element *member, double score) {
    if (zset->pairs)
        reply_array(zset->reply, 2);
    reply_element(zset->reply, member);
    if (zset->scores)
        reply_double(zset->reply, score);
}

bool zset_reply_visit(void *context, const struct element *member, const struct element *value,
                      double score) {
    (void)value;
    zset_reply_element(context, member, score);
    return true;
}

/* --- ZADD, ZINCRBY ---------------------------------------------------------------------------- */

/* What became of one element. */
struct added {
    bool new, updated, skipped;
    double score; /* of an increment: the result */
};

/* false: the sum is no number. */
static bool add_element(struct collection_edit *edit, const struct zset_add *add,
                        const char *member, size_t length, double score, struct added *added) {
    double old;
    bool there = zset_edit_score(edit, member, length, &old);
    *added = (struct added){.score = score};
    if (!there) {
        added->new = !add->xx;
        added->skipped = add->xx;
    } else if (add->nx) {
        added->skipped = true;
    } else {
        if (add->increment)
            added->score = score += old;
        if (isnan(score))
            return false;
        added->skipped = (add->lt && score >= old) || (add->gt && score <= old);
        added->updated = !added->skipped && score != old;
    }
    if (added->new || added->updated) {
        /* Before the first change, so that a set is not converted for nothing. */
        if (edit->changed == 0)
            zset_expect(edit, add->count);
        zset_set(edit, member, length, there ? &old : NULL, score);
    }
    return true;
}

enum call_result zset_add_reply(struct call *call, const struct zset_add *add) {
    struct object *object;
    struct collection_edit edit;
    uint64_t new = 0, updated = 0;
    struct added added = {.skipped = true};
    enum collection_found found = collection_write(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    bool is_number = true;
    if (found == COLLECTION_THERE || !add->xx) {
        collection_edit_begin(&edit, call->change, call->database, &call->key, object, OBJECT_ZSET,
                              zset_encoding_for(add->count, call->argv[add->first].length));
        for (uint64_t i = 0; i < add->count && is_number; i++) {
            const struct argument *member = &call->argv[add->first + (int)i * add->step];
            is_number =
                add_element(&edit, add, member->data, member->length, add->scores[i], &added);
            new += added.new;
            updated += added.updated;
        }
        collection_edit_end(&edit, add->increment ? CHANGE_ZINCR : CHANGE_ZADD);
    }
    if (!is_number)
        reply_error(call->reply, "ERR resulting score is not a number (NaN)");
    else if (!add->increment)
        reply_integer(call->reply, (int64_t)(add->changed ? new + updated : new));
    else if (added.skipped)
        reply_null(call->reply);
    else
        reply_double(call->reply, added.score);
    return CALL_DONE;
}

static bool read_add_option(struct zset_add *add, const struct argument *argument) {
    if (argument_is(argument, "nx"))
        add->nx = true;
    else if (argument_is(argument, "xx"))
        add->xx = true;
    else if (argument_is(argument, "ch"))
        add->changed = true;
    else if (argument_is(argument, "incr"))
        add->increment = true;
    else if (argument_is(argument, "gt"))
        add->gt = true;
    else if (argument_is(argument, "lt"))
        add->lt = true;
    else
        return false;
    return true;
}

/* What is wrong with the options; NULL: nothing. */
static const char *add_options_error(const struct zset_add *add) {
    if (add->nx && add->xx)
        return "ERR XX and NX options at the same time are not compatible";
    if ((add->gt && add->nx) || (add->lt && add->nx) || (add->gt && add->lt))
        return "ERR GT, LT, and/or NX options at the same time are not compatible";
    if (add->increment && add->count > 1)
        return "ERR INCR option supports a single increment-element pair";
    return NULL;
}

static enum call_result add_command(struct call *call, bool increment) {
    struct zset_add add = {.increment = increment, .step = 2};
    int first = 2;
    while (first < call->argc && read_add_option(&add, &call->argv[first]))
        first++;
    int rest = call->argc - first;
    if (rest == 0 || rest % 2 != 0) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    add.first = first + 1;
    add.count = (uint64_t)rest / 2;
    const char *error = add_options_error(&add);
    if (error) {
        reply_error(call->reply, error);
        return CALL_DONE;
    }
    double on_stack[SCORES_ON_STACK];
    double *scores =
        add.count > SCORES_ON_STACK ? memory_alloc(add.count * sizeof *scores) : on_stack;
    bool valid = true;
    for (uint64_t i = 0; i < add.count && valid; i++)
        valid = zset_double_argument(call, first + 2 * (int)i, ERROR_NOT_FLOAT, &scores[i]);
    add.scores = scores;
    enum call_result result = valid ? zset_add_reply(call, &add) : CALL_DONE;
    if (scores != on_stack)
        memory_free(scores);
    return result;
}

enum call_result cmd_zadd(struct call *call) {
    return add_command(call, false);
}

enum call_result cmd_zincrby(struct call *call) {
    return add_command(call, true);
}

/* --- ZREM ------------------------------------------------------------------------------------- */

enum call_result cmd_zrem(struct call *call) {
    return collection_remove(call, OBJECT_ZSET, CHANGE_ZREM, zset_remove);
}

/* --- Looking at elements ---------------------------------------------------------------------- */

static void reply_count(struct call *call, const struct object *object,
                        const struct argument *none) {
    (void)none;
    reply_integer(call->reply, object ? (int64_t)zset_count(object) : 0);
}

enum call_result cmd_zcard(struct call *call) {
    return collection_ask(call, OBJECT_ZSET, reply_count);
}

static void reply_score(struct call *call, const struct object *object,
                        const struct argument *member) {
    double score;
    if (object && zset_score(object, member->data, member->length, &score))
        reply_double(call->reply, score);
    else
        reply_null(call->reply);
}

enum call_result cmd_zscore(struct call *call) {
    return collection_ask(call, OBJECT_ZSET, reply_score);
}

enum call_result cmd_zmscore(struct call *call) {
    return collection_ask_each(call, OBJECT_ZSET, reply_score);
}

static enum call_result rank_command(struct call *call, bool backwards) {
    struct object *object;
    bool with_score = call->argc == 4;
    if (call->argc > 4) {
        command_reply_wrong_arity(call->reply, call->command);
        return CALL_DONE;
    }
    if (with_score && !argument_is(&call->argv[3], "withscore")) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    enum collection_found found = collection_read(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    const struct argument *member = &call->argv[2];
    uint64_t position;
    double score;
    if (object && zset_rank(object, member->data, member->length, &position, &score)) {
        if (backwards)
            position = zset_count(object) - 1 - position;
        if (with_score)
            reply_array(call->reply, 2);
        reply_integer(call->reply, (int64_t)position);
        if (with_score)
            reply_double(call->reply, score);
    } else if (with_score) {
        reply_null_array(call->reply);
    } else {
        reply_null(call->reply);
    }
    return CALL_DONE;
}

enum call_result cmd_zrank(struct call *call) {
    return rank_command(call, false);
}

enum call_result cmd_zrevrank(struct call *call) {
    return rank_command(call, true);
}

/* --- ZSCAN ------------------------------------------------------------------------------------ */

struct scanning {
    struct reply *reply;
    const struct scan_options *options;
    bool packed; /* by its name: the scores are written another way, as in Redis */
    size_t replied;
};

static bool scan_visit(void *context, const struct element *member, const struct element *value,
                       double score) {
    (void)value;
    struct scanning *scanning = context;
    if (!scan_matches(scanning->options, member))
        return true;
    char text[64];
    size_t length = scanning->packed || isinf(score)
                        ? number_write_double(text, score)
                        : (size_t)snprintf(text, sizeof text, "%.17g", score);
    reply_element(scanning->reply, member);
    reply_bulk(scanning->reply, text, length);
    scanning->replied += 2;
    return true;
}

static bool skip_visit(void *context, const struct element *member, const struct element *value,
                       double score) {
    (void)context, (void)member, (void)value, (void)score;
    return true;
}

enum call_result cmd_zscan(struct call *call) {
    struct object *object;
    struct scan_options options;
    uint64_t cursor;
    if (!data_cursor_argument(call, 2, &cursor))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT) {
        reply_array(call->reply, 2);
        reply_bulk_text(call->reply, "0");
        reply_empty_array(call->reply);
    }
    if (found != COLLECTION_THERE || !scan_options_read(call, &options))
        return CALL_DONE;
    /* The next cursor comes before the elements: it is found by a walk that replies nothing. */
    uint64_t next = zset_scan(object, options.cursor, options.count, skip_visit, NULL);
    struct scanning scanning = {call->reply, &options, object_encoding(object) == ENCODING_LISTPACK,
                                0};
    reply_array(call->reply, 2);
    reply_bulk_integer(call->reply, (int64_t)next);
    struct reply_deferred elements = reply_deferred_begin(call->reply);
    zset_scan(object, options.cursor, options.count, scan_visit, &scanning);
    reply_deferred_array(call->reply, elements, scanning.replied);
    return CALL_DONE;
}
