/* What commands will look for in large collections is fetched together before the first of them
 * runs: their waits for memory overlap. Nothing depends on it.
 *
 * Under the token of the collections' slot. */
#ifndef SLOTWISE_ENGINE_TYPES_COLLECTION_AHEAD_H
#define SLOTWISE_ENGINE_TYPES_COLLECTION_AHEAD_H

#include "engine/types/collection.h"
#include "engine/types/members.h"

#define COLLECTION_AHEAD_MAX MEMBERS_AHEAD

struct collection_ahead {
    const struct collection *body; /* of a set, hash or sorted set */
    const char *member;
    size_t length;
    bool changes; /* the member may be put or taken out */
    /* Of a sorted set: the member is looked for by its score too, and by the one it is to get. */
    bool by_score, by_new_score;
    double new_score;
};

/* Worth the work for this body. */
static inline bool collection_ahead_is_worth(const struct collection *body) {
    return body->members.bytes >= MEMBERS_AHEAD_MIN;
}
/* n is at most COLLECTION_AHEAD_MAX. */
void collection_ahead_fetch(const struct collection_ahead *ahead, unsigned n);

#endif
