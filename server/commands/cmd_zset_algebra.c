/* Sorted sets and sets with each other: ZUNION, ZINTER, ZDIFF, ZINTERCARD, ZUNIONSTORE,
 * ZINTERSTORE, ZDIFFSTORE. The members of a set have the score 1.
 *
 * The result comes about in a draft, which is stored, or replied and dropped. As in Redis the
 * sources of unions and intersections are taken from the smallest to the largest; the sum of
 * several scores depends on it.
 *
 * Run by: any worker, under the keys' tokens; those that read also without, as long as all are
 * packed. */
#include <math.h>
#include <stdlib.h>

#include "engine/memory.h"
#include "engine/types/set.h"
#include "server/commands/cmd_zset.h"

#define SOURCES_ON_STACK 16

enum operation { UNION, INTERSECTION, DIFFERENCE };
enum aggregate { SUM, MINIMUM, MAXIMUM };

struct source {
    const struct object *object; /* NULL: absent */
    double weight;
    uint64_t count;
};

struct algebra {
    enum operation operation;
    bool store, cardinality; /* the result is stored; only its size is asked for */
    enum aggregate aggregate;
    bool scores;
    int64_t limit; /* of the cardinality; 0: none */
    struct source *sources;
    size_t source_count;
    struct collection_edit *result; /* NULL: it is only counted */
    uint64_t found;
};

/* --- Sources ---------------------------------------------------------------------------------- */

static bool source_is_set(const struct source *source) {
    return object_type(source->object) == OBJECT_SET;
}

static void source_visit(const struct source *source, collection_visit *visit, void *context) {
    if (!source->object)
        return;
    if (source_is_set(source))
        set_visit(source->object, visit, context);
    else
        zset_visit(source->object, visit, context);
}

static bool source_score(const struct source *source, const char *member, size_t length,
                         double *score) {
    if (!source->object)
        return false;
    if (!source_is_set(source))
        return zset_score(source->object, member, length, score);
    *score = 1;
    return set_has(source->object, member, length);
}

static int compare_sources(const void *a, const void *b) {
    const struct source *x = a, *y = b;
    return (x->count > y->count) - (x->count < y->count);
}

/* The keys from argv[first] on. false: *result is what the handler returns. */
static bool find_sources(struct call *call, struct algebra *algebra, int first,
                         enum call_result *result) {
    bool is_protected = false;
    *result = CALL_DONE;
    for (size_t i = 0; i < algebra->source_count; i++) {
        struct key key = call_key(call, first + (int)i);
        struct source *source = &algebra->sources[i];
        struct object *object = call_find_read(call, &key);
        *source = (struct source){object, 1, 0};
        if (!object)
            continue;
        if (object_type(object) != OBJECT_ZSET && object_type(object) != OBJECT_SET) {
            reply_error(call->reply, ERROR_WRONG_TYPE);
            return false;
        }
        if (data_is_protected(call, object))
            is_protected = true;
        else
            source->count = source_is_set(source) ? set_count(object) : zset_count(object);
    }
    if (is_protected)
        *result = CALL_NEED_TOKENS;
    return !is_protected;
}

/* --- Options ---------------------------------------------------------------------------------- */

static bool read_weights(struct call *call, struct algebra *algebra, int first) {
    for (size_t i = 0; i < algebra->source_count; i++)
        if (!zset_double_argument(call, first + (int)i, "ERR weight value is not a float",
                                  &algebra->sources[i].weight))
            return false;
    return true;
}

static bool read_aggregate(struct algebra *algebra, const struct argument *argument) {
    if (argument_is(argument, "sum"))
        algebra->aggregate = SUM;
    else if (argument_is(argument, "min"))
        algebra->aggregate = MINIMUM;
    else if (argument_is(argument, "max"))
        algebra->aggregate = MAXIMUM;
    else
        return false;
    return true;
}

/* What follows the keys, from argv[at] on. false: error replied. */
static bool read_options(struct call *call, struct algebra *algebra, int at) {
    bool combines = algebra->operation != DIFFERENCE && !algebra->cardinality;
    while (at < call->argc) {
        const struct argument *option = &call->argv[at];
        size_t left = (size_t)(call->argc - at);
        if (combines && left > algebra->source_count && argument_is(option, "weights")) {
            if (!read_weights(call, algebra, at + 1))
                return false;
            at += 1 + (int)algebra->source_count;
        } else if (combines && left >= 2 && argument_is(option, "aggregate") &&
                   read_aggregate(algebra, &call->argv[at + 1])) {
            at += 2;
        } else if (!algebra->store && !algebra->cardinality && argument_is(option, "withscores")) {
            algebra->scores = true;
            at++;
        } else if (algebra->cardinality && left >= 2 && argument_is(option, "limit")) {
            if (!zset_integer_argument(call, at + 1, 0, "ERR LIMIT can't be negative",
                                       &algebra->limit))
                return false;
            at += 2;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

/* --- The operations --------------------------------------------------------------------------- */

static double weighted(const struct source *source, double score) {
    double product = source->weight * score;
    return isnan(product) ? 0 : product;
}

static double combine(enum aggregate aggregate, double a, double b) {
    switch (aggregate) {
    case SUM:
        return isnan(a + b) ? 0 : a + b; /* of inf and -inf */
    case MINIMUM:
        return b < a ? b : a;
    case MAXIMUM:
        return b > a ? b : a;
    }
    return a;
}

/* A source that is walked through. */
struct walk {
    struct algebra *algebra;
    const struct source *source;
};

static double walked_score(const struct walk *walk, double score) {
    return source_is_set(walk->source) ? 1 : score;
}

static bool union_visit(void *context, const struct element *member, const struct element *value,
                        double score) {
    (void)value;
    struct walk *walk = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    double sum = weighted(walk->source, walked_score(walk, score)), before;
    bool there = zset_edit_score(walk->algebra->result, text, length, &before);
    if (there)
        sum = combine(walk->algebra->aggregate, before, sum);
    zset_set(walk->algebra->result, text, length, there ? &before : NULL, sum);
    return true;
}

/* In the result; false: enough. */
static bool take(struct algebra *algebra, const char *member, size_t length, double score) {
    algebra->found++;
    if (algebra->result)
        zset_put(algebra->result, member, length, score);
    return algebra->limit == 0 || algebra->found < (uint64_t)algebra->limit;
}

static bool intersection_visit(void *context, const struct element *member,
                               const struct element *value, double score) {
    (void)value;
    struct walk *walk = context;
    struct algebra *algebra = walk->algebra;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    double sum = weighted(walk->source, walked_score(walk, score));
    for (size_t i = 1; i < algebra->source_count; i++) {
        double other;
        if (!source_score(&algebra->sources[i], text, length, &other))
            return true;
        sum = combine(algebra->aggregate, sum, other * algebra->sources[i].weight);
    }
    return take(algebra, text, length, sum);
}

static bool difference_visit(void *context, const struct element *member,
                             const struct element *value, double score) {
    (void)value;
    struct walk *walk = context;
    struct algebra *algebra = walk->algebra;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    for (size_t i = 1; i < algebra->source_count; i++) {
        double other;
        if (source_score(&algebra->sources[i], text, length, &other))
            return true;
    }
    return take(algebra, text, length, walked_score(walk, score));
}

static void compute(struct algebra *algebra) {
    struct source *sources = algebra->sources;
    struct walk walk = {algebra, sources};
    if (algebra->operation != DIFFERENCE)
        qsort(sources, algebra->source_count, sizeof *sources, compare_sources);
    switch (algebra->operation) {
    case UNION:
        for (size_t i = 0; i < algebra->source_count; i++) {
            walk.source = &sources[i];
            source_visit(walk.source, union_visit, &walk);
        }
        break;
    case INTERSECTION:
        source_visit(walk.source, intersection_visit, &walk);
        break;
    case DIFFERENCE:
        source_visit(walk.source, difference_visit, &walk);
        break;
    }
}

/* --- Commands --------------------------------------------------------------------------------- */

static void reply_result(struct call *call, const struct algebra *algebra) {
    struct zset_reply reply =
        zset_reply_begin(call->reply, algebra->result->count, algebra->scores);
    zset_edit_visit(algebra->result, zset_reply_visit, &reply);
}

static bool longest_visit(void *context, const struct element *member, const struct element *value,
                          double score) {
    (void)value, (void)score;
    size_t *longest = context;
    if (member->length > *longest)
        *longest = member->length;
    return true;
}

/* Packed, if it is small enough as a whole. */
static uint64_t store_result(struct call *call, struct collection_edit *result,
                             enum change_event event) {
    size_t longest = 0;
    if (zset_encoding_for(result->count, 0) == ENCODING_LISTPACK)
        zset_edit_visit(result, longest_visit, &longest);
    if (result->count == 0 || zset_encoding_for(result->count, longest) == ENCODING_SKIPLIST)
        return zset_store(call, 1, result, event);
    struct collection_edit packed;
    collection_draft_begin(&packed, OBJECT_ZSET, ENCODING_LISTPACK);
    zset_edit_visit(result, zset_store_visit, &packed);
    uint64_t count = zset_store(call, 1, &packed, event);
    collection_draft_drop(result);
    return count;
}

static void compute_and_reply(struct call *call, struct algebra *algebra) {
    static const enum change_event events[] = {
        [UNION] = CHANGE_ZUNIONSTORE,
        [INTERSECTION] = CHANGE_ZINTERSTORE,
        [DIFFERENCE] = CHANGE_ZDIFFSTORE,
    };
    struct collection_edit result;
    if (algebra->cardinality) {
        compute(algebra);
        reply_integer(call->reply, (int64_t)algebra->found);
        return;
    }
    /* A score of -0 is kept in what is replied, and in what is stored if it is not packed. */
    collection_draft_begin(&result, OBJECT_ZSET, ENCODING_SKIPLIST);
    algebra->result = &result;
    compute(algebra);
    if (algebra->store) {
        uint64_t count = store_result(call, &result, events[algebra->operation]);
        reply_integer(call->reply, (int64_t)count);
    } else {
        reply_result(call, algebra);
        collection_draft_drop(&result);
    }
}

/* numkeys is argv[at]. */
static enum call_result algebra_command(struct call *call, int at, struct algebra algebra) {
    int64_t count;
    if (!argument_integer(call, at, &count))
        return CALL_DONE;
    if (count < 1) {
        reply_error_format(call->reply, "ERR at least 1 input key is needed for '%s' command",
                           call->command->name);
        return CALL_DONE;
    }
    if (count > call->argc - (at + 1)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    struct source on_stack[SOURCES_ON_STACK];
    algebra.source_count = (size_t)count;
    algebra.sources = algebra.source_count > SOURCES_ON_STACK
                          ? memory_alloc(algebra.source_count * sizeof *algebra.sources)
                          : on_stack;
    enum call_result result;
    if (find_sources(call, &algebra, at + 1, &result) &&
        read_options(call, &algebra, at + 1 + (int)count))
        compute_and_reply(call, &algebra);
    if (algebra.sources != on_stack)
        memory_free(algebra.sources);
    return result;
}

enum call_result cmd_zunion(struct call *call) {
    return algebra_command(call, 1, (struct algebra){.operation = UNION});
}

enum call_result cmd_zinter(struct call *call) {
    return algebra_command(call, 1, (struct algebra){.operation = INTERSECTION});
}

enum call_result cmd_zdiff(struct call *call) {
    return algebra_command(call, 1, (struct algebra){.operation = DIFFERENCE});
}

enum call_result cmd_zintercard(struct call *call) {
    return algebra_command(call, 1,
                           (struct algebra){.operation = INTERSECTION, .cardinality = true});
}

enum call_result cmd_zunionstore(struct call *call) {
    return algebra_command(call, 2, (struct algebra){.operation = UNION, .store = true});
}

enum call_result cmd_zinterstore(struct call *call) {
    return algebra_command(call, 2, (struct algebra){.operation = INTERSECTION, .store = true});
}

enum call_result cmd_zdiffstore(struct call *call) {
    return algebra_command(call, 2, (struct algebra){.operation = DIFFERENCE, .store = true});
}
