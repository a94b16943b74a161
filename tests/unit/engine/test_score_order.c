/* The score order: a random stream of changes against a sorted array, with scores of all kinds and
 * members in and out of their leaves, and copies that share nodes. */
#include "engine/types/score_order.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"

#define UNIVERSE   700
#define STEPS      12000
#define TEXT_MAX   400
#define LONG_EVERY 25 /* one member in so many lies outside its leaf */
#define MANY       20000

static uint64_t used_before;

static void begin(void) {
    used_before = memory_used_bytes();
    srandom(1);
}

static void end(void) {
    cr_assert_eq(memory_used_bytes(), used_before, "memory was not given back");
}

TestSuite(score_order, .init = begin, .fini = end, .timeout = 120);

/* --- The model: entries in their order -------------------------------------------------------- */

struct entry {
    double score;
    size_t length;
    char member[TEXT_MAX];
};
struct model {
    size_t count;
    struct entry entries[UNIVERSE];
    bool present[UNIVERSE];
    double score[UNIVERSE];
};

/* Members of 0 to some hundred bytes, many with a common beginning, some with zeros in them. */
static size_t text_of(unsigned number, char text[TEXT_MAX]) {
    if (number == 0)
        return 0;
    size_t length =
        (size_t)snprintf(text, TEXT_MAX, number % 3 ? "member:%u" : "%u", number * 7919);
    size_t wanted = number % LONG_EVERY == 0 ? SCORE_INLINE_MAX - 1 + number % 4 : number % 30;
    while (length < wanted)
        text[length++] = number % 2 ? 'x' : 0;
    return length;
}

static int compare_entries(const struct entry *a, const struct entry *b) {
    if (a->score != b->score)
        return a->score < b->score ? -1 : 1;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->member, b->member, shorter);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* How many entries come before this one. */
static size_t place_of(const struct model *model, const struct entry *entry) {
    size_t place = 0;
    while (place < model->count && compare_entries(&model->entries[place], entry) < 0)
        place++;
    return place;
}

static struct entry entry_of(unsigned number, double score) {
    struct entry entry = {.score = score};
    entry.length = text_of(number, entry.member);
    return entry;
}

static void model_add(struct model *model, unsigned number, double score) {
    struct entry entry = entry_of(number, score);
    size_t place = place_of(model, &entry);
    memmove(&model->entries[place + 1], &model->entries[place],
            (model->count - place) * sizeof entry);
    model->entries[place] = entry;
    model->count++;
    model->present[number] = true;
    model->score[number] = score;
}

static void model_cut(struct model *model, size_t place, size_t count) {
    memmove(&model->entries[place], &model->entries[place + count],
            (model->count - place - count) * sizeof model->entries[0]);
    model->count -= count;
}

static void model_remove(struct model *model, unsigned number) {
    struct entry entry = entry_of(number, model->score[number]);
    model_cut(model, place_of(model, &entry), 1);
    model->present[number] = false;
}

static double random_score(unsigned kind) {
    static const double special[] = {0, -0.0, INFINITY, -INFINITY, 1e300, -1e300, 5e-324, 1, -1};
    switch (kind) {
    case 0:
        return (double)(random() % 50);
    case 1:
        return (double)random() * 1e-3 - 1e6;
    case 2:
        return special[random() % 9];
    case 3:
        return 7;
    case 4:
        return 1.7e9 + (double)(random() % 100000);
    default:
        return random_score((unsigned)(random() % 5));
    }
}

/* --- Comparison ------------------------------------------------------------------------------- */

static void check_cursor(const struct score_cursor *cursor, const struct entry *entry) {
    struct element member;
    double score = score_cursor_get(cursor, &member);
    cr_assert_eq(memcmp(&score, &entry->score, sizeof score), 0);
    cr_assert(element_equals(&member, entry->member, entry->length));
}

static void check_all(const struct tree *order, const struct model *model) {
    struct score_cursor cursor;
    tree_check(order);
    cr_assert_eq(order->count, model->count);
    if (model->count == 0)
        return;
    score_cursor_at(&cursor, order, 0);
    for (size_t i = 0; i < model->count; i++) {
        check_cursor(&cursor, &model->entries[i]);
        cr_assert_eq(score_cursor_next(&cursor), i + 1 < model->count);
    }
    for (size_t i = model->count; i-- > 0;) {
        check_cursor(&cursor, &model->entries[i]);
        cr_assert_eq(score_cursor_previous(&cursor), i > 0);
    }
}

static void check_some(const struct tree *order, const struct model *model) {
    unsigned number = (unsigned)random() % UNIVERSE;
    double score = model->present[number] && random() % 2 ? model->score[number] : random_score(5);
    struct entry entry = entry_of(number, score);
    cr_assert_eq(score_order_rank(order, score, entry.member, entry.length),
                 place_of(model, &entry));
    size_t below = 0, equal = 0;
    for (size_t i = 0; i < model->count; i++) {
        below += model->entries[i].score < score;
        equal += model->entries[i].score == score;
    }
    cr_assert_eq(score_order_below(order, score, false), below);
    cr_assert_eq(score_order_below(order, score, true), below + equal);
    if (model->count == 0)
        return;
    struct score_cursor cursor;
    size_t position = (size_t)random() % model->count;
    score_cursor_at(&cursor, order, position);
    check_cursor(&cursor, &model->entries[position]);
}

/* --- Changes ---------------------------------------------------------------------------------- */

static void remove_range(struct tree *order, struct model *model) {
    size_t place = (size_t)random() % model->count;
    size_t count = (size_t)random() % 60, there = model->count - place;
    if (count > there)
        count = there;
    for (unsigned number = 0; number < UNIVERSE; number++) {
        if (!model->present[number])
            continue;
        struct entry entry = entry_of(number, model->score[number]);
        size_t at = place_of(model, &entry);
        model->present[number] = at < place || at >= place + count;
    }
    model_cut(model, place, count);
    score_order_remove_range(order, place, count);
}

/* growth: of ten steps how many add. */
static void step(struct tree *order, struct model *model, unsigned kind, unsigned growth) {
    unsigned number = (unsigned)random() % UNIVERSE;
    struct entry entry = entry_of(number, random_score(kind));
    if (!model->present[number]) {
        if ((unsigned)random() % 10 >= growth)
            return;
        score_order_add(order, entry.score, entry.member, entry.length, NULL);
        model_add(model, number, entry.score);
    } else if ((unsigned)random() % 10 < growth) {
        score_order_move(order, model->score[number], entry.score, entry.member, entry.length);
        model_remove(model, number);
        model_add(model, number, entry.score);
    } else if (random() % 60 == 0) {
        remove_range(order, model);
    } else {
        score_order_remove(order, model->score[number], entry.member, entry.length);
        model_remove(model, number);
    }
}

static void run(unsigned kind) {
    struct model *model = calloc(1, sizeof *model), *copied = calloc(1, sizeof *copied);
    struct tree order, copy;
    tree_init(&order, &score_order);
    tree_init(&copy, &score_order);
    for (unsigned i = 0; i < STEPS; i++) {
        step(&order, model, kind, i / 1000 % 2 ? 3 : 8);
        if (i % 20 == 0)
            check_some(&order, model);
        if (i % 500 == 0)
            check_all(&order, model);
        if (i % 1700 == 0) {
            check_all(&copy, copied);
            tree_clear(&copy);
            tree_share(&copy, &order);
            *copied = *model;
        }
    }
    check_all(&order, model);
    check_all(&copy, copied);
    if (model->count > 0)
        score_order_remove_range(&order, 0, model->count);
    cr_assert_eq(order.count, 0);
    tree_check(&order);
    check_all(&copy, copied);
    tree_clear(&copy);
    free(model);
    free(copied);
}

Test(score_order, few_different_scores) {
    run(0);
}
Test(score_order, many_different_scores) {
    run(1);
}
Test(score_order, special_scores) {
    run(2);
}
Test(score_order, one_score) {
    run(3);
}
Test(score_order, large_whole_scores) {
    run(4);
}
Test(score_order, scores_of_all_kinds) {
    run(5);
}

/* --- Members by their bytes alone ------------------------------------------------------------- */

Test(score_order, before_a_member) {
    struct model *model = calloc(1, sizeof *model);
    struct tree order;
    tree_init(&order, &score_order);
    for (unsigned number = 0; number < UNIVERSE; number += 2) {
        struct entry entry = entry_of(number, 3);
        score_order_add(&order, 3, entry.member, entry.length, NULL);
        model_add(model, number, 3);
    }
    for (unsigned number = 0; number < UNIVERSE; number++) {
        struct entry entry = entry_of(number, 3);
        size_t place = place_of(model, &entry);
        cr_assert_eq(score_order_before(&order, entry.member, entry.length, false), place);
        cr_assert_eq(score_order_before(&order, entry.member, entry.length, true),
                     place + (number % 2 == 0));
    }
    tree_clear(&order);
    free(model);
}

/* --- Memory ----------------------------------------------------------------------------------- */

/* Bytes of an element beside those of its member, in a set of whole scores. */
static double overhead(bool ascending) {
    struct tree order;
    char text[32];
    tree_init(&order, &score_order);
    for (unsigned i = 0; i < MANY; i++) {
        unsigned number = ascending ? i : i * 7919 % MANY;
        int length = snprintf(text, sizeof text, "member:%09u", number);
        score_order_add(&order, 1.7e9 + number, text, (size_t)length, NULL);
    }
    tree_check(&order);
    double bytes = (double)order.bytes / MANY - 16;
    tree_clear(&order);
    return bytes;
}

Test(score_order, takes_little_beside_the_members) {
    double random_order = overhead(false), ascending = overhead(true);
    cr_log_info("bytes beside the member: %.1f in random order, %.1f ascending", random_order,
                ascending);
    cr_assert_lt(random_order, 10);
    cr_assert_lt(ascending, 10);
}
