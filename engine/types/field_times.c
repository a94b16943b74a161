/* See field_times.h.
 *
 * Invariants: body->field_times is NULL, or both trees have the same fields, at least one, with the
 * same times; each of them is among the members of the body. */
#include "engine/types/field_times.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/members.h"
#include "engine/types/score_order.h"

enum { BY_FIELD, BY_TIME };

bool field_times_get(const struct collection *body, const char *field, size_t length,
                     int64_t *time_ms) {
    struct element value;
    double time;
    if (!body->field_times || !members_find(&body->field_times[BY_FIELD], field, length, &value))
        return false;
    memcpy(&time, value.data, sizeof time);
    *time_ms = (int64_t)time;
    return true;
}

int64_t field_times_first(const struct collection *body, struct element *field) {
    struct score_cursor cursor;
    if (!body->field_times)
        return FIELD_TIME_NEVER;
    score_cursor_at(&cursor, &body->field_times[BY_TIME], 0);
    return (int64_t)score_cursor_get(&cursor, field);
}

uint64_t field_times_due(const struct collection *body, int64_t now_ms) {
    if (!body->field_times)
        return 0;
    return score_order_below(&body->field_times[BY_TIME], (double)now_ms, true);
}

void field_times_put(struct collection *body, const char *field, size_t length, int64_t time_ms) {
    double time = (double)time_ms;
    int64_t old_ms;
    ASSERT(time_ms >= 0 && time_ms <= FIELD_TIME_MAX);
    bool had = field_times_get(body, field, length, &old_ms);
    if (!body->field_times) {
        body->field_times = memory_alloc(FIELD_TIMES_TREES * sizeof *body->field_times);
        tree_init(&body->field_times[BY_FIELD], &members_with_scores);
        tree_init(&body->field_times[BY_TIME], &score_order);
    }
    members_put(&body->field_times[BY_FIELD], field, length, (const char *)&time, sizeof time);
    if (had)
        score_order_move(&body->field_times[BY_TIME], (double)old_ms, time, field, length);
    else
        score_order_add(&body->field_times[BY_TIME], time, field, length,
                        length > MEMBERS_INLINE_MAX
                            ? members_blob(&body->field_times[BY_FIELD], field, length)
                            : NULL);
}

bool field_times_remove(struct collection *body, const char *field, size_t length) {
    int64_t old_ms;
    if (!field_times_get(body, field, length, &old_ms))
        return false;
    members_remove(&body->field_times[BY_FIELD], field, length);
    /* Last, since the field may lie there; it is not looked at any more once it has been found. */
    score_order_remove(&body->field_times[BY_TIME], (double)old_ms, field, length);
    if (body->field_times[BY_TIME].count == 0) {
        memory_free(body->field_times);
        body->field_times = NULL;
    }
    return true;
}

static bool check_one(void *context, const struct element *field, const struct element *value,
                      double time) {
    const struct collection *body = context;
    (void)value;
    ASSERT(time >= 0 && time <= (double)FIELD_TIME_MAX);
    ASSERT(members_find(&body->members, field->data, field->length, NULL));
    ASSERT(score_order_rank(&body->field_times[BY_TIME], time, field->data, field->length) <
           body->field_times[BY_TIME].count);
    return true;
}

void field_times_check(const struct collection *body) {
    if (!body->field_times)
        return;
    for (unsigned i = 0; i < FIELD_TIMES_TREES; i++)
        tree_check(&body->field_times[i]);
    ASSERT(body->field_times[BY_FIELD].count > 0);
    ASSERT(body->field_times[BY_FIELD].count == body->field_times[BY_TIME].count);
    struct score_cursor cursor;
    score_cursor_at(&cursor, &body->field_times[BY_TIME], 0);
    do {
        struct element field;
        int64_t time_ms;
        double time = score_cursor_get(&cursor, &field);
        ASSERT(field_times_get(body, field.data, field.length, &time_ms) &&
               time_ms == (int64_t)time);
    } while (score_cursor_next(&cursor));
    members_visit(&body->field_times[BY_FIELD], check_one, (void *)(uintptr_t)body);
}
