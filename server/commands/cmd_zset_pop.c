/* Sorted sets, elements that are not named: ZPOPMIN, ZPOPMAX, ZMPOP, ZRANDMEMBER.
 *
 * Run by: any worker, under the keys' tokens; ZRANDMEMBER also without, as long as the set is
 * packed. */
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/commands/cmd_zset.h"

#define CHOICES_ON_STACK 64

/* --- Popping ---------------------------------------------------------------------------------- */

void zset_pop(struct change *change, unsigned database, const struct key *key,
              struct object *object, bool highest, uint64_t count, struct reply *reply,
              bool pairs) {
    struct collection_edit edit;
    uint64_t all = zset_count(object), first = highest ? all - count : 0;
    struct zset_reply zset = {reply, true, pairs};
    ASSERT(count > 0 && count <= all);
    zset_visit_range(object, highest ? all - 1 : 0, count, highest, zset_reply_visit, &zset);
    collection_edit_begin(&edit, change, database, key, object, OBJECT_ZSET, ENCODING_LISTPACK);
    zset_remove_range(&edit, first, count);
    collection_edit_end(&edit, highest ? CHANGE_ZPOPMAX : CHANGE_ZPOPMIN);
}

void zset_propagate_pop(struct call *call, const struct key *key, bool highest, uint64_t count) {
    data_propagate_key_integer(call, highest ? "ZPOPMAX" : "ZPOPMIN", key, (int64_t)count);
}

static enum call_result pop_command(struct call *call, bool highest) {
    struct object *object;
    int64_t count = 1;
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (call->argc == 3 &&
        !zset_integer_argument(call, 2, 0, "ERR value is out of range, must be positive", &count))
        return CALL_DONE;
    enum collection_found found = collection_write(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT || count == 0) {
        reply_empty_array(call->reply);
        return CALL_DONE;
    }
    uint64_t all = zset_count(object), n = (uint64_t)count < all ? (uint64_t)count : all;
    bool pairs = call->reply->resp > 2 && call->argc == 3;
    reply_array(call->reply, pairs ? n : 2 * n);
    zset_pop(call->change, call->database, &call->key, object, highest, n, call->reply, pairs);
    return CALL_DONE;
}

enum call_result cmd_zpopmin(struct call *call) {
    return pop_command(call, false);
}

enum call_result cmd_zpopmax(struct call *call) {
    return pop_command(call, true);
}

/* MIN or MAX behind the keys, and COUNT. false: error replied. */
static bool read_pop_options(struct call *call, int at, bool *highest, int64_t *count) {
    *count = 1;
    bool counted = false;
    if (at < call->argc && argument_is(&call->argv[at], "min"))
        *highest = false;
    else if (at < call->argc && argument_is(&call->argv[at], "max"))
        *highest = true;
    else
        goto error;
    for (int i = at + 1; i < call->argc; i += 2) {
        if (counted || !argument_is(&call->argv[i], "count") || i + 1 == call->argc)
            goto error;
        counted = true;
        if (!zset_integer_argument(call, i + 1, 1, "ERR count should be greater than 0", count))
            return false;
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

bool zset_mpop_arguments(struct call *call, int index, struct zset_mpop *arguments) {
    int64_t keys;
    if (!zset_integer_argument(call, index, 1, "ERR numkeys should be greater than 0", &keys))
        return false;
    if (keys >= call->argc - index - 1) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    arguments->first_key = index + 1;
    arguments->key_count = (int)keys;
    return read_pop_options(call, index + 1 + (int)keys, &arguments->highest, &arguments->count);
}

void zset_mpop_from(struct call *call, int index, struct object *object,
                    const struct zset_mpop *arguments) {
    struct key key = call_key(call, index);
    uint64_t all = zset_count(object), n = (uint64_t)arguments->count;
    if (n > all)
        n = all;
    reply_array(call->reply, 2);
    reply_bulk(call->reply, key.data, key.length);
    reply_array(call->reply, n);
    zset_pop(call->change, call->database, &key, object, arguments->highest, n, call->reply, true);
    zset_propagate_pop(call, &key, arguments->highest, n);
}

enum call_result cmd_zmpop(struct call *call) {
    struct zset_mpop arguments;
    if (!zset_mpop_arguments(call, 1, &arguments))
        return CALL_DONE;
    for (int i = 0; i < arguments.key_count; i++) {
        struct object *object;
        enum collection_found found =
            collection_write(call, arguments.first_key + i, OBJECT_ZSET, &object);
        if (found == COLLECTION_ABSENT)
            continue;
        if (found == COLLECTION_THERE)
            zset_mpop_from(call, arguments.first_key + i, object, &arguments);
        return CALL_DONE;
    }
    reply_null_array(call->reply);
    return CALL_DONE;
}

/* --- ZRANDMEMBER ------------------------------------------------------------------------------ */

/* splitmix64, a state for each thread. */
static uint64_t random_below(uint64_t n) {
    static _Thread_local uint64_t state;
    if (state == 0)
        state = clock_ticks() ^ (uint64_t)(uintptr_t)&state;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint64_t)(((unsigned __int128)(z ^ (z >> 31)) * n) >> 64);
}

static void reply_position(const struct zset_reply *reply, const struct object *object,
                           uint64_t position) {
    struct element member;
    double score;
    zset_at(object, position, &member, &score);
    zset_reply_element(reply, &member, score);
}

static int compare_positions(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* So many different positions, all choices as likely: those that are drawn twice are drawn again.
 */
static void reply_few_distinct(const struct zset_reply *reply, const struct object *object,
                               uint64_t size, uint64_t count) {
    uint64_t on_stack[CHOICES_ON_STACK];
    uint64_t *chosen = count > CHOICES_ON_STACK ? memory_alloc(count * sizeof *chosen) : on_stack;
    for (uint64_t distinct = 0; distinct < count;) {
        for (uint64_t i = distinct; i < count; i++)
            chosen[i] = random_below(size);
        qsort(chosen, count, sizeof *chosen, compare_positions);
        distinct = 1;
        for (uint64_t i = 1; i < count; i++)
            if (chosen[i] != chosen[distinct - 1])
                chosen[distinct++] = chosen[i];
    }
    for (uint64_t i = 0; i < count; i++)
        reply_position(reply, object, chosen[i]);
    if (chosen != on_stack)
        memory_free(chosen);
}

/* Most of the elements: each is taken with the chance that is left. */
struct sampling {
    const struct zset_reply *reply;
    uint64_t left, wanted;
};

static bool sample_visit(void *context, const struct element *member, const struct element *value,
                         double score) {
    (void)value;
    struct sampling *sampling = context;
    if (random_below(sampling->left--) < sampling->wanted) {
        zset_reply_element(sampling->reply, member, score);
        sampling->wanted--;
    }
    return sampling->wanted > 0;
}

static void reply_random(struct call *call, const struct object *object, int64_t wanted,
                         bool scores) {
    uint64_t size = zset_count(object);
    if (wanted < 0) {
        uint64_t count = 0 - (uint64_t)wanted;
        struct zset_reply reply = zset_reply_begin(call->reply, count, scores);
        for (uint64_t i = 0; i < count; i++)
            reply_position(&reply, object, random_below(size));
        return;
    }
    uint64_t count = (uint64_t)wanted < size ? (uint64_t)wanted : size;
    struct zset_reply reply = zset_reply_begin(call->reply, count, scores);
    if (count == size) {
        zset_visit_range(object, size - 1, size, true, zset_reply_visit, &reply);
    } else if (count < size / 3) {
        reply_few_distinct(&reply, object, size, count);
    } else {
        struct sampling sampling = {&reply, size, count};
        zset_visit(object, sample_visit, &sampling);
    }
}

/* The count and WITHSCORES. false: error replied. */
static bool read_random_options(struct call *call, int64_t *count, bool *scores) {
    *scores = call->argc >= 4;
    if (!argument_integer(call, 2, count))
        return false;
    if (*count == INT64_MIN) {
        reply_error_format(call->reply, "ERR value is out of range, value must between %ld and %ld",
                           -INT64_MAX, INT64_MAX);
        return false;
    }
    if (call->argc > 4 || (call->argc == 4 && !argument_is(&call->argv[3], "withscores"))) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    if (*scores && (*count < -INT64_MAX / 2 || *count > INT64_MAX / 2)) {
        reply_error(call->reply, "ERR value is out of range");
        return false;
    }
    return true;
}

enum call_result cmd_zrandmember(struct call *call) {
    struct object *object;
    int64_t count = 0;
    bool scores, counted = call->argc > 2;
    if (counted && !read_random_options(call, &count, &scores))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (!counted && object) {
        struct zset_reply single = {call->reply, false, false};
        reply_position(&single, object, random_below(zset_count(object)));
    } else if (!counted) {
        reply_null(call->reply);
    } else if (!object || count == 0) {
        reply_empty_array(call->reply);
    } else {
        reply_random(call, object, count, scores);
    }
    return CALL_DONE;
}
