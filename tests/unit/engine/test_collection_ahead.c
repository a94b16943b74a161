/* Fetching ahead: changes nothing, whatever is looked for in whatever collections. */
#include <math.h>
#include <stdio.h>

#include <criterion/criterion.h>

#include "engine/types/collection_ahead.h"
#include "engine/types/score_order.h"

TestSuite(collection_ahead, .timeout = 60);

#define MEMBERS   3000
#define TEXT_MAX  200
#define LONG_EACH 50

static size_t text_of(unsigned number, char text[TEXT_MAX]) {
    size_t length = (size_t)snprintf(text, TEXT_MAX, "member:%u", number);
    while (number % LONG_EACH == 0 && length < TEXT_MAX)
        text[length++] = 'x';
    return length;
}

static double score_of(unsigned number) {
    return (double)(number * 7919 % 1000) / 3;
}

static struct collection *make_sorted(unsigned count) {
    struct collection *body = collection_make(&members_with_scores, &score_order);
    for (unsigned i = 0; i < count; i++) {
        char text[TEXT_MAX];
        size_t length = text_of(i, text);
        double score = score_of(i);
        members_put(&body->members, text, length, (const char *)&score, sizeof score);
        struct blob *blob = NULL;
        if (length > MEMBERS_INLINE_MAX)
            blob = members_blob(&body->members, text, length);
        score_order_add(&body->order, score, text, length, blob);
    }
    return body;
}

Test(collection_ahead, is_harmless) {
    struct collection *bodies[] = {make_sorted(0), make_sorted(1), make_sorted(MEMBERS),
                                   collection_make(&members_without_values, NULL)};
    struct collection_ahead ahead[COLLECTION_AHEAD_MAX];
    static char text[COLLECTION_AHEAD_MAX][TEXT_MAX];
    const double scores[] = {0, -INFINITY, INFINITY, NAN, 100};
    for (unsigned first = 0; first < MEMBERS + 100; first++) {
        unsigned n = first % (COLLECTION_AHEAD_MAX + 1);
        for (unsigned i = 0; i < n; i++)
            ahead[i] = (struct collection_ahead){.body = bodies[(first + i) % 4],
                                                 .member = text[i],
                                                 .length = text_of(first + i, text[i]),
                                                 .changes = i % 2,
                                                 .by_score = (first + i) % 4 < 3 && i % 3,
                                                 .by_new_score = (first + i) % 4 < 3 && i % 5,
                                                 .new_score = scores[i % 5]};
        collection_ahead_fetch(ahead, n);
    }
    tree_check(&bodies[2]->members);
    tree_check(&bodies[2]->order);
    cr_assert_eq(bodies[2]->order.count, MEMBERS);
    for (unsigned i = 0; i < 4; i++)
        collection_return(bodies[i]);
}

/* The members' side tells the order's side where to look. */
Test(collection_ahead, finds_the_scores_of_members) {
    struct collection *body = make_sorted(MEMBERS);
    for (unsigned i = 0; i < MEMBERS; i++) {
        char text[TEXT_MAX];
        struct members_sought sought = {
            .members = &body->members, .data = text, .length = text_of(i, text)};
        members_fetch(&sought, 1);
        cr_assert_not_null(sought.score);
    }
    struct members_sought absent = {.members = &body->members, .data = "m", .length = 1};
    unsigned missed = 0;
    for (unsigned i = 0; i < 1000; i++) {
        char text[TEXT_MAX];
        absent.data = text;
        absent.length = (size_t)snprintf(text, sizeof text, "absent:%u", i);
        members_fetch(&absent, 1);
        missed += absent.score == NULL;
    }
    cr_assert_gt(missed, 800); /* others have the same fingerprint now and then */
    collection_return(body);
}
