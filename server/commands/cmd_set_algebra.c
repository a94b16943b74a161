/* Intersection, union and difference of sets: replied, counted, or stored in a key.
 *
 * What is replied is written while it is found; nothing is built for it, but for the union of many
 * sets, whose members are gathered first, and the difference of many, where what is to be taken
 * away is. What is stored is complete before the key changes, which may be one of the sources.
 *
 * Run by: any worker, see command.h. Those that only read also without tokens, as long as all sets
 * are packed. */
#include <stdlib.h>

#include "engine/memory.h"
#include "engine/types/set.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_collection.h"

#define FEW_SETS 4 /* so many are looked through for each member */

/* The sets of a command in the order of its keys. */
struct sources {
    const struct object **objects; /* NULL: absent */
    size_t n;
    size_t absent;
    const struct object *few[16];
};

/* argv[first..first+n-1]. false: *result is what the handler returns. */
static bool sources_find(struct call *call, int first, size_t n, struct sources *sources,
                         enum call_result *result) {
    sources->objects = sources->few;
    sources->n = n;
    sources->absent = 0;
    if (n > sizeof sources->few / sizeof *sources->few)
        sources->objects = memory_alloc(n * sizeof *sources->objects);
    for (size_t i = 0; i < n; i++) {
        struct object *object;
        enum collection_found found = collection_read(call, first + (int)i, OBJECT_SET, &object);
        if (found == COLLECTION_WRONG_TYPE || found == COLLECTION_NEEDS_TOKEN) {
            *result = found == COLLECTION_WRONG_TYPE ? CALL_DONE : CALL_NEED_TOKENS;
            if (sources->objects != sources->few)
                memory_free(sources->objects);
            return false;
        }
        sources->objects[i] = object;
        sources->absent += found == COLLECTION_ABSENT;
    }
    return true;
}

static void sources_end(struct sources *sources) {
    if (sources->objects != sources->few)
        memory_free(sources->objects);
}

/* Where results go: to a reply, into a draft, or nowhere: they are counted. */
struct results {
    struct reply *reply;
    struct collection_edit *draft;
    uint64_t count, limit;
};

/* false: no more are wanted. */
static bool result_add(struct results *results, const struct element *member) {
    if (results->draft)
        set_add_element(results->draft, member);
    else if (results->reply)
        reply_element(results->reply, member);
    return ++results->count != results->limit;
}

static bool result_visit(void *context, const struct element *member, const struct element *value,
                         double score) {
    (void)value, (void)score;
    return result_add(context, member);
}

/* --- The three operations --------------------------------------------------------------------- */

struct comparison {
    struct results *results;
    const struct object *const *others;
    size_t n;
    bool in_all;                    /* a result is in all others, else in none */
    struct collection_edit *beside; /* one more other; NULL: none */
};

static bool compare_one(void *context, const struct element *member, const struct element *value,
                        double score) {
    const struct comparison *comparison = context;
    (void)value, (void)score;
    for (size_t i = 0; i < comparison->n; i++)
        if (comparison->others[i] &&
            set_has_element(comparison->others[i], member) != comparison->in_all)
            return true;
    if (comparison->beside) {
        char room[LISTPACK_INTEGER_ROOM];
        size_t length;
        const char *text = element_text(member, room, &length);
        if (set_edit_has(comparison->beside, text, length))
            return true;
    }
    return result_add(comparison->results, member);
}

static int compare_counts(const void *a, const void *b) {
    uint64_t x = set_count(*(const struct object *const *)a);
    uint64_t y = set_count(*(const struct object *const *)b);
    return x < y ? -1 : x > y;
}

static void intersect(struct sources *sources, struct results *results) {
    if (sources->absent > 0)
        return;
    qsort(sources->objects, sources->n, sizeof *sources->objects, compare_counts);
    struct comparison comparison = {results, sources->objects + 1, sources->n - 1, true, NULL};
    set_visit(sources->objects[0], compare_one, &comparison);
}

static void gather(struct collection_edit *draft, const struct object *const *objects, size_t n) {
    struct results all = {.draft = draft};
    for (size_t i = 0; i < n; i++)
        if (objects[i])
            set_visit(objects[i], result_visit, &all);
}

static void unite(struct sources *sources, struct results *results) {
    if (results->draft) {
        gather(results->draft, sources->objects, sources->n);
        return;
    }
    if (sources->n > FEW_SETS) {
        struct collection_edit draft;
        collection_draft_begin(&draft, OBJECT_SET, ENCODING_INTSET);
        gather(&draft, sources->objects, sources->n);
        set_edit_visit(&draft, result_visit, results);
        collection_draft_drop(&draft);
        return;
    }
    for (size_t i = 0; i < sources->n; i++) {
        struct comparison comparison = {results, sources->objects, i, false, NULL};
        if (sources->objects[i])
            set_visit(sources->objects[i], compare_one, &comparison);
    }
}

static void subtract(struct sources *sources, struct results *results) {
    const struct object *first = sources->objects[0];
    struct comparison comparison = {results, sources->objects + 1, sources->n - 1, false, NULL};
    uint64_t others = 0;
    if (!first)
        return;
    for (size_t i = 1; i < sources->n; i++) {
        if (sources->objects[i] == first)
            return;
        others += sources->objects[i] ? set_count(sources->objects[i]) : 0;
    }
    if (comparison.n <= FEW_SETS || others > set_count(first)) {
        set_visit(first, compare_one, &comparison);
        return;
    }
    struct collection_edit draft;
    collection_draft_begin(&draft, OBJECT_SET, ENCODING_INTSET);
    gather(&draft, comparison.others, comparison.n);
    comparison.n = 0;
    comparison.beside = &draft;
    set_visit(first, compare_one, &comparison);
    collection_draft_drop(&draft);
}

typedef void set_operation(struct sources *sources, struct results *results);

/* --- Commands --------------------------------------------------------------------------------- */

static enum call_result reply_result(struct call *call, set_operation *operation) {
    struct sources sources;
    enum call_result result;
    if (!sources_find(call, 1, (size_t)call->argc - 1, &sources, &result))
        return result;
    struct results results = {.reply = call->reply};
    struct reply_deferred set = reply_deferred_begin(call->reply);
    operation(&sources, &results);
    reply_deferred_set(call->reply, set, results.count);
    sources_end(&sources);
    return CALL_DONE;
}

enum call_result cmd_sinter(struct call *call) {
    return reply_result(call, intersect);
}

enum call_result cmd_sunion(struct call *call) {
    return reply_result(call, unite);
}

enum call_result cmd_sdiff(struct call *call) {
    return reply_result(call, subtract);
}

/* argv[1] becomes the result; an empty one is no key. */
static enum call_result store_result(struct call *call, set_operation *operation,
                                     enum change_event event) {
    struct sources sources;
    struct collection_edit draft;
    struct results results = {.draft = &draft};
    struct key key = call_key(call, 1);
    enum call_result result;
    if (!sources_find(call, 2, (size_t)call->argc - 2, &sources, &result))
        return result;
    collection_draft_begin(&draft, OBJECT_SET, ENCODING_INTSET);
    operation(&sources, &results);
    sources_end(&sources);
    uint64_t count = draft.count;
    struct object *object = collection_draft_end(&draft, key.data, key.length, OBJECT_NO_EXPIRY);
    struct object *old = call_find_write(call, &key);
    if (object)
        data_publish(call, &key, old, object, event);
    else if (old)
        keyspace_delete(call->change, call->database, &key, CHANGE_DEL);
    reply_integer(call->reply, (int64_t)count);
    return CALL_DONE;
}

enum call_result cmd_sinterstore(struct call *call) {
    return store_result(call, intersect, CHANGE_SINTERSTORE);
}

enum call_result cmd_sunionstore(struct call *call) {
    return store_result(call, unite, CHANGE_SUNIONSTORE);
}

enum call_result cmd_sdiffstore(struct call *call) {
    return store_result(call, subtract, CHANGE_SDIFFSTORE);
}

/* SINTERCARD numkeys key ... [LIMIT n]. false: error replied. */
static bool sintercard_options(struct call *call, size_t *keys, uint64_t *limit) {
    int64_t n, most = 0;
    if (!number_parse_int64(call->argv[1].data, call->argv[1].length, &n) || n < 1) {
        reply_error(call->reply, "ERR numkeys should be greater than 0");
        return false;
    }
    if (n > call->argc - 2) {
        reply_error(call->reply, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    for (int i = 2 + (int)n; i < call->argc; i += 2) {
        if (!argument_is(&call->argv[i], "limit") || i + 1 == call->argc) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        if (!number_parse_int64(call->argv[i + 1].data, call->argv[i + 1].length, &most) ||
            most < 0) {
            reply_error(call->reply, "ERR LIMIT can't be negative");
            return false;
        }
    }
    *keys = (size_t)n;
    *limit = (uint64_t)most;
    return true;
}

enum call_result cmd_sintercard(struct call *call) {
    struct sources sources;
    struct results results = {.count = 0};
    enum call_result result;
    size_t keys;
    if (!sintercard_options(call, &keys, &results.limit))
        return CALL_DONE;
    if (!sources_find(call, 2, keys, &sources, &result))
        return result;
    intersect(&sources, &results);
    sources_end(&sources);
    reply_integer(call->reply, (int64_t)results.count);
    return CALL_DONE;
}
