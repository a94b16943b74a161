/* Sorted sets against a sorted array: packed ones, large ones and what turns the one into the
 * other, each as a draft that is changed and as an object that is read. */
#include "engine/types/zset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/table_hash.h"
#include "engine/value.h"

#define UNIVERSE 120
#define STEPS    400
#define TEXT_MAX 300

static uint64_t used_before;

static void begin(void) {
    table_set_seed(0x5eed);
    collection_limits.zset_listpack_entries = 128;
    collection_limits.zset_listpack_value_bytes = 64;
    used_before = memory_used_bytes();
    srandom(1);
}

static void end(void) {
    collection_thread_exit();
    cr_assert_eq(memory_used_bytes(), used_before, "memory was not given back");
}

TestSuite(zset, .init = begin, .fini = end, .timeout = 120);

/* --- The model -------------------------------------------------------------------------------- */

struct model {
    bool present[UNIVERSE];
    double score[UNIVERSE];
    unsigned sorted[UNIVERSE]; /* numbers, after sort_model */
    uint64_t count;
};

static unsigned long_every; /* one member in so many is longer than zset-max-listpack-value */

/* Integers and others, of up to 30 bytes; some long ones. */
static size_t text_of(unsigned number, char text[TEXT_MAX]) {
    size_t length = (size_t)snprintf(text, TEXT_MAX, number % 3 ? "m%u" : "%u", number * 37);
    size_t wanted = number % 5 == 0 ? number % 30 : 0;
    if (long_every && number % long_every == 0)
        wanted = 65 + number;
    while (length < wanted)
        text[length++] = 'x';
    return length;
}

static const struct model *sorting;

static int compare_numbers(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    if (sorting->score[x] != sorting->score[y])
        return sorting->score[x] < sorting->score[y] ? -1 : 1;
    char x_text[TEXT_MAX], y_text[TEXT_MAX];
    size_t x_length = text_of(x, x_text), y_length = text_of(y, y_text);
    int order = memcmp(x_text, y_text, x_length < y_length ? x_length : y_length);
    return order ? order : (x_length > y_length) - (x_length < y_length);
}

static void sort_model(struct model *model) {
    model->count = 0;
    for (unsigned number = 0; number < UNIVERSE; number++)
        if (model->present[number])
            model->sorted[model->count++] = number;
    sorting = model;
    qsort(model->sorted, model->count, sizeof model->sorted[0], compare_numbers);
}

static double random_score(void) {
    static const double special[] = {INFINITY, -INFINITY, 1e20, -2.5e-7, 0.1, 1e18};
    return random() % 8 == 0 ? special[random() % 6] : (double)(random() % 40) / 4 - 3;
}

/* --- Reading ---------------------------------------------------------------------------------- */

struct walk {
    const struct model *model;
    uint64_t position, met;
    bool backwards, ordered;
    bool seen[UNIVERSE];
};

static bool meet(void *context, const struct element *member, const struct element *value,
                 double score) {
    struct walk *walk = context;
    unsigned number = 0;
    char text[TEXT_MAX];
    cr_assert_null(value);
    if (walk->ordered) {
        uint64_t step = walk->met;
        number =
            walk->model->sorted[walk->backwards ? walk->position - step : walk->position + step];
        cr_assert(element_equals(member, text, text_of(number, text)));
    } else {
        while (!element_equals(member, text, text_of(number, text)))
            number++;
        cr_assert(walk->model->present[number] && !walk->seen[number]);
    }
    walk->seen[number] = true;
    cr_assert_eq(score, walk->model->score[number]);
    walk->met++;
    return true;
}

static void check_ranges(const struct object *object, const struct model *model) {
    for (unsigned i = 0; i < 5; i++) {
        uint64_t first = (uint64_t)random() % model->count;
        bool backwards = random() % 2;
        uint64_t most = backwards ? first + 1 : model->count - first;
        uint64_t count = (uint64_t)random() % (most + 1);
        struct walk walk = {model, first, 0, backwards, true, {0}};
        zset_visit_range(object, first, count, backwards, meet, &walk);
        cr_assert_eq(walk.met, count);
    }
    struct walk scan = {.model = model};
    uint64_t cursor = 0;
    do {
        cursor = zset_scan(object, cursor, 3, meet, &scan);
    } while (cursor != 0);
    cr_assert_eq(scan.met, model->count);
}

static void check_positions(const struct object *object, const struct model *model) {
    char text[TEXT_MAX];
    for (uint64_t i = 0; i < model->count; i++) {
        struct element member;
        uint64_t position;
        double score;
        size_t length = text_of(model->sorted[i], text);
        zset_at(object, i, &member, &score);
        cr_assert(element_equals(&member, text, length));
        cr_assert(zset_rank(object, text, length, &position, &score));
        cr_assert_eq(position, i);
        cr_assert_eq(score, model->score[model->sorted[i]]);
        uint64_t below = 0, equal = 0;
        for (uint64_t j = 0; j < model->count; j++) {
            below += model->score[model->sorted[j]] < score;
            equal += model->score[model->sorted[j]] == score;
        }
        cr_assert_eq(zset_below(object, score, false), below);
        cr_assert_eq(zset_below(object, score, true), below + equal);
    }
    double score;
    uint64_t position;
    cr_assert_not(zset_score(object, "no such", 7, &score));
    cr_assert_not(zset_rank(object, "no such", 7, &position, &score));
}

/* The draft as an object, which is read and freed. */
static void check_object(struct collection_edit *draft, struct model *model) {
    sort_model(model);
    cr_assert_eq(draft->count, model->count);
    struct walk walk = {model, 0, 0, false, true, {0}};
    zset_edit_visit(draft, meet, &walk);
    cr_assert_eq(walk.met, model->count);
    struct object *object = collection_draft_end(draft, "key", 3, OBJECT_NO_EXPIRY);
    cr_assert_eq(object == NULL, model->count == 0);
    if (!object)
        return;
    zset_check(object);
    cr_assert_eq(zset_count(object), model->count);
    check_positions(object, model);
    check_ranges(object, model);
    object_free(object);
}

/* --- Changing --------------------------------------------------------------------------------- */

static void remove_range(struct collection_edit *draft, struct model *model) {
    sort_model(model);
    if (model->count == 0)
        return;
    uint64_t first = (uint64_t)random() % model->count;
    uint64_t count = (uint64_t)random() % (model->count - first < 9 ? model->count - first + 1 : 9);
    zset_remove_range(draft, first, count);
    for (uint64_t i = first; i < first + count; i++)
        model->present[model->sorted[i]] = false;
}

static void step(struct collection_edit *draft, struct model *model, unsigned numbers) {
    unsigned number = (unsigned)random() % numbers;
    char text[TEXT_MAX];
    size_t length = text_of(number, text);
    double score = random_score(), old;
    bool there = zset_edit_score(draft, text, length, &old);
    cr_assert_eq(there, model->present[number]);
    cr_assert(!there || old == model->score[number]);
    switch (random() % 8) {
    case 0:
        cr_assert_eq(zset_remove(draft, text, length), there);
        model->present[number] = false;
        break;
    case 1:
        if (random() % 4 == 0)
            remove_range(draft, model);
        break;
    default:
        cr_assert_eq(zset_put(draft, text, length, score), !there);
        model->present[number] = true;
        model->score[number] = score;
    }
}

/* So many different members, by the limits of the configuration. */
static void run(unsigned numbers, uint64_t entries, enum object_encoding encoding) {
    collection_limits.zset_listpack_entries = entries;
    for (unsigned round = 0; round < 20; round++) {
        struct model model = {0};
        struct collection_edit draft;
        collection_draft_begin(&draft, OBJECT_ZSET, encoding);
        for (unsigned i = 0; i < STEPS * (round + 1) / 20; i++)
            step(&draft, &model, numbers);
        check_object(&draft, &model);
    }
}

Test(zset, packed) {
    run(30, 128, ENCODING_LISTPACK);
}
Test(zset, converted_by_count) {
    run(UNIVERSE, 40, ENCODING_LISTPACK);
}
Test(zset, converted_by_length) {
    long_every = 17;
    run(UNIVERSE, 128, ENCODING_LISTPACK);
}
Test(zset, large_from_the_beginning) {
    run(UNIVERSE, 128, ENCODING_SKIPLIST);
}
Test(zset, packed_by_name_only) {
    long_every = 3;
    collection_limits.zset_listpack_value_bytes = 1000;
    run(UNIVERSE, 1000, ENCODING_LISTPACK);
}

/* --- Encodings -------------------------------------------------------------------------------- */

static enum object_encoding encoding_after(unsigned elements, size_t length, bool *body) {
    struct collection_edit draft;
    char text[TEXT_MAX];
    collection_draft_begin(&draft, OBJECT_ZSET, ENCODING_LISTPACK);
    for (unsigned i = 0; i < elements; i++) {
        memset(text, 'x', sizeof text);
        snprintf(text, sizeof text, "%04u", i);
        zset_put(&draft, text, length, i);
    }
    struct object *object = collection_draft_end(&draft, "key", 3, OBJECT_NO_EXPIRY);
    enum object_encoding encoding = object_encoding(object);
    *body = object_needs_token(object);
    zset_check(object);
    object_free(object);
    return encoding;
}

Test(zset, encodings) {
    bool body;
    cr_assert_eq(encoding_after(128, 4, &body), ENCODING_LISTPACK);
    cr_assert_not(body);
    cr_assert_eq(encoding_after(129, 4, &body), ENCODING_SKIPLIST);
    cr_assert_eq(encoding_after(2, 64, &body), ENCODING_LISTPACK);
    cr_assert_not(body);
    cr_assert_eq(encoding_after(2, 65, &body), ENCODING_SKIPLIST);
    cr_assert_eq(encoding_after(128, 64, &body), ENCODING_LISTPACK);
    cr_assert(body); /* too much to be copied on each change */
    cr_assert_eq(zset_encoding_for(128, 64), ENCODING_LISTPACK);
    cr_assert_eq(zset_encoding_for(129, 64), ENCODING_SKIPLIST);
    cr_assert_eq(zset_encoding_for(1, 65), ENCODING_SKIPLIST);
}

/* -0 is 0 in a packed set, and what it was in a large one. */
Test(zset, minus_zero) {
    for (unsigned large = 0; large < 2; large++) {
        struct collection_edit draft;
        double score;
        collection_draft_begin(&draft, OBJECT_ZSET, large ? ENCODING_SKIPLIST : ENCODING_LISTPACK);
        zset_put(&draft, "b", 1, -0.0);
        zset_put(&draft, "a", 1, 0);
        cr_assert(zset_edit_score(&draft, "b", 1, &score));
        cr_assert_eq(signbit(score) != 0, large != 0);
        struct object *object = collection_draft_end(&draft, "key", 3, OBJECT_NO_EXPIRY);
        uint64_t position;
        cr_assert(zset_rank(object, "b", 1, &position, &score));
        cr_assert_eq(position, 1); /* equal scores, in the order of the members */
        zset_check(object);
        object_free(object);
    }
}
