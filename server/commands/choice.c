/* See choice.h. What is packed is passed over as a whole, since the way to a position leads over
 * all before it; so is a body of which much is wanted. */
#include "server/commands/choice.h"

#include "engine/assert.h"
#include "engine/memory.h"
#include "server/base/sample.h"

#define FEW_ANY      4 /* so many are looked up one by one also where something is packed */
#define MUCH_DIVISOR 8 /* more than this part of a body is much */

void choice_one(const struct choice *choice, struct element *member, struct element *value) {
    choice->at(choice->object, sample_below(choice->count), member, value);
}

/* --- At positions ----------------------------------------------------------------------------- */

struct selection {
    const uint64_t *positions;
    size_t n, next;
    uint64_t index;
    collection_visit *visit;
    void *context;
};

static bool select_one(void *context, const struct element *member, const struct element *value,
                       double score) {
    struct selection *selection = context;
    if (selection->index++ != selection->positions[selection->next])
        return true;
    selection->next++;
    return selection->visit(selection->context, member, value, score) &&
           selection->next < selection->n;
}

void choice_visit_at(const struct choice *choice, const uint64_t *positions, size_t n,
                     collection_visit *visit, void *context) {
    struct selection selection = {positions, n, 0, 0, visit, context};
    if (n == 0)
        return;
    if (!object_needs_token(choice->object) || n > choice->count / MUCH_DIVISOR) {
        choice->visit(choice->object, select_one, &selection);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct element member, value = {.data = NULL};
        choice->at(choice->object, positions[i], &member, &value);
        if (!visit(context, &member, &value, 0))
            return;
    }
}

void choice_visit_different(const struct choice *choice, size_t n, collection_visit *visit,
                            void *context) {
    ASSERT(n <= choice->count);
    if (n == choice->count) {
        choice->visit(choice->object, visit, context);
        return;
    }
    uint64_t *positions = sample_positions(choice->count, n);
    choice_visit_at(choice, positions, n, visit, context);
    memory_free(positions);
}

/* --- With repetition -------------------------------------------------------------------------- */

struct pairs {
    struct element *pair; /* member, value, member, ... */
    uint64_t n;
};

static bool gather(void *context, const struct element *member, const struct element *value,
                   double score) {
    struct pairs *pairs = context;
    (void)score;
    pairs->pair[pairs->n++] = *member;
    pairs->pair[pairs->n++] = value ? *value : (struct element){.data = NULL};
    return true;
}

static void visit_any_packed(const struct choice *choice, uint64_t n, collection_visit *visit,
                             void *context) {
    struct pairs pairs = {memory_alloc(2 * choice->count * sizeof *pairs.pair), 0};
    choice->visit(choice->object, gather, &pairs);
    ASSERT(pairs.n == 2 * choice->count);
    for (uint64_t i = 0; i < n; i++) {
        const struct element *pair = &pairs.pair[2 * sample_below(choice->count)];
        if (!visit(context, &pair[0], &pair[1], 0))
            break;
    }
    memory_free(pairs.pair);
}

void choice_visit_any(const struct choice *choice, uint64_t n, collection_visit *visit,
                      void *context) {
    if (!object_needs_token(choice->object) && n > FEW_ANY) {
        visit_any_packed(choice, n, visit, context);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        struct element member, value = {.data = NULL};
        choice_one(choice, &member, &value);
        if (!visit(context, &member, &value, 0))
            return;
    }
}

bool choice_count_argument(struct call *call, int index, int64_t *count) {
    if (!argument_integer(call, index, count))
        return false;
    if (*count != INT64_MIN)
        return true;
    reply_error_format(call->reply, "ERR value is out of range, value must between %ld and %ld",
                       (long)-INT64_MAX, (long)INT64_MAX);
    return false;
}
