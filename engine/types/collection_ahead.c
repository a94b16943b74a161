/* See collection_ahead.h. Members first; where one of a sorted set most likely is, its score tells
 * where to look by score. */
#include "engine/types/collection_ahead.h"

#include "engine/assert.h"
#include "engine/types/score_order.h"

/* Adds the places where members of sorted sets are, or will be, by score. */
static unsigned note_scores(const struct collection_ahead *ahead,
                            const struct members_sought *sought, unsigned n,
                            struct score_place *places) {
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct collection_ahead *one = &ahead[i];
        struct score_place place = {&one->body->order, one->new_score, one->member, one->length};
        if (one->by_new_score)
            places[count++] = place;
        if (!one->by_score || !sought[i].score)
            continue;
        memcpy(&place.score, sought[i].score, sizeof place.score);
        places[count++] = place;
    }
    return count;
}

void collection_ahead_fetch(const struct collection_ahead *ahead, unsigned n) {
    struct members_sought sought[COLLECTION_AHEAD_MAX];
    struct score_place places[2 * COLLECTION_AHEAD_MAX];
    ASSERT(n <= COLLECTION_AHEAD_MAX);
    for (unsigned i = 0; i < n; i++)
        sought[i] = (struct members_sought){.members = &ahead[i].body->members,
                                            .data = ahead[i].member,
                                            .length = ahead[i].length,
                                            .changes = ahead[i].changes};
    members_fetch(sought, n);
    unsigned count = note_scores(ahead, sought, n, places);
    for (unsigned i = 0; i < count; i += SCORE_PLACES_MAX)
        score_order_fetch(places + i, count - i < SCORE_PLACES_MAX ? count - i : SCORE_PLACES_MAX);
}
