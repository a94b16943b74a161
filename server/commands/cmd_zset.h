/* What the handlers of sorted sets and of GEO share, and blocking pops with them. Called from
 * handlers only, with the tokens that call->tokens speaks of. */
#ifndef SLOTWISE_SERVER_CMD_ZSET_H
#define SLOTWISE_SERVER_CMD_ZSET_H

#include "engine/types/zset.h"
#include "server/commands/cmd_collection.h"

#define ERROR_NOT_SCORE_RANGE  "ERR min or max is not a float"
#define ERROR_NOT_MEMBER_RANGE "ERR min or max not valid string range item"

/* An integer in argv[index] that is not below min; message is the error for anything else. false:
 * error replied. */
bool zset_integer_argument(struct call *call, int index, int64_t min, const char *message,
                           int64_t *value);
bool zset_double_argument(struct call *call, int index, const char *message, double *value);

/* --- Replies (cmd_zset.c) --------------------------------------------------------------------- */

/* Elements of a sorted set as an array. With scores: of twice as many elements in RESP2, of pairs
 * in RESP3. */
struct zset_reply {
    struct reply *reply;
    bool scores, pairs;
};
/* The head of an array of count elements. */
struct zset_reply zset_reply_begin(struct reply *reply, uint64_t count, bool scores);
void zset_reply_element(const struct zset_reply *zset, const struct element *member, double score);
/* A collection_visit that replies; context: struct zset_reply. */
bool zset_reply_visit(void *context, const struct element *member, const struct element *value,
                      double score);

/* --- Adding (cmd_zset.c) ---------------------------------------------------------------------- */

struct zset_add {
    bool nx, xx, gt, lt; /* which elements */
    bool changed;        /* reply how many were changed, not only how many are new */
    bool increment;      /* one element; reply its score */
    int first, step;     /* the members are argv[first], argv[first + step] ... */
    const double *scores;
    uint64_t count;
};
/* ZADD to argv[1], with its reply. */
enum call_result zset_add_reply(struct call *call, const struct zset_add *add);

/* --- Popping (cmd_zset_pop.c) ----------------------------------------------------------------- */

/* Takes count elements, at least one and as many as there are at most, from the end of a set, and
 * replies each: member and score, as an array of its own if pairs. The array around them is the
 * caller's to reply before, and the propagation his to do. Needs the key's token; the reply may be
 * another client's. */
void zset_pop(struct change *change, unsigned database, const struct key *key,
              struct object *object, bool highest, uint64_t count, struct reply *reply, bool pairs);
/* What is logged in place of a command that pops one of several keys: ZPOPMIN or ZPOPMAX. */
void zset_propagate_pop(struct call *call, const struct key *key, bool highest, uint64_t count);
/* ZMPOP and BZMPOP: numkeys at argv[index], keys, MIN or MAX, COUNT. */
struct zset_mpop {
    int first_key, key_count;
    bool highest;
    int64_t count;
};
/* false: error replied. */
bool zset_mpop_arguments(struct call *call, int index, struct zset_mpop *arguments);
/* Replies what is popped from the set in argv[index] with its key, and propagates that. */
void zset_mpop_from(struct call *call, int index, struct object *object,
                    const struct zset_mpop *arguments);

/* --- Ranges (cmd_zset_range.c) ---------------------------------------------------------------- */

enum zset_order_by { ZSET_BY_RANK, ZSET_BY_SCORE, ZSET_BY_MEMBER };

struct zset_bound {
    double score;       /* by score */
    const char *member; /* by member; NULL: before or behind all */
    size_t length;
    bool open, last; /* without the bound itself; behind all */
};

struct zset_range {
    enum zset_order_by by;
    int64_t start, end; /* by rank, as in the command */
    struct zset_bound min, max;
};
/* The bounds in argv[min] and argv[max]. false: error replied. */
bool zset_range_read(struct call *call, enum zset_order_by by, int min, int max,
                     struct zset_range *range);
/* The positions from *first up to *end that are in the range; *first == *end: none. backwards: by
 * rank from the highest. */
void zset_range_find(const struct object *object, const struct zset_range *range, bool backwards,
                     uint64_t *first, uint64_t *end);

/* --- Storing (cmd_zset_range.c) --------------------------------------------------------------- */

/* The draft, which ends here, becomes the value of argv[index]; without elements the key goes.
 * Returns how many elements. */
uint64_t zset_store(struct call *call, int index, struct collection_edit *draft,
                    enum change_event event);
/* A collection_visit that puts into a draft; context: struct collection_edit. */
bool zset_store_visit(void *context, const struct element *member, const struct element *value,
                      double score);

#endif
