/* Random members of a collection for HRANDFIELD, SRANDMEMBER, SPOP and ZRANDMEMBER: uniform, each
 * choice independent of those before. Called from handlers only, while the object does not change.
 */
#ifndef SLOTWISE_SERVER_CHOICE_H
#define SLOTWISE_SERVER_CHOICE_H

#include "engine/types/collection.h"
#include "server/dispatch/call.h"

/* What a type gives: its members in some order, or the one at a position. value may be NULL. */
struct choice {
    const struct object *object;
    uint64_t count;
    void (*visit)(const struct object *object, collection_visit *visit, void *context);
    void (*at)(const struct object *object, uint64_t position, struct element *member,
               struct element *value);
};

/* One member. */
void choice_one(const struct choice *choice, struct element *member, struct element *value);
/* Calls visit for those at these positions, which are ascending. */
void choice_visit_at(const struct choice *choice, const uint64_t *positions, size_t n,
                     collection_visit *visit, void *context);
/* n different ones, n <= count. */
void choice_visit_different(const struct choice *choice, size_t n, collection_visit *visit,
                            void *context);
/* n times one of all. */
void choice_visit_any(const struct choice *choice, uint64_t n, collection_visit *visit,
                      void *context);

/* The argument that says how many: an integer that has a negative counterpart. false: error
 * replied. */
bool choice_count_argument(struct call *call, int index, int64_t *count);

#endif
