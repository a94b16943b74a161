/* Taking objects for a snapshot: the buffers of one thread, and the way of their content to the
 * sinks. A part of snapshot_walk.h.
 *
 * A taker belongs to one thread until its walk has ended. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_TAKE_H
#define SLOTWISE_REPLICATION_SNAPSHOT_TAKE_H

#include "replication/snapshot_transfer.h"

struct taker {
    struct transfer *transfers;
    unsigned sinks;
    struct piece_pool pool;
    struct piece *changing; /* whose data changed has; NULL: changed is empty */
    struct snapshot_encoder encoders[SNAPSHOT_SINKS_MAX];
    struct snapshot_copies changed; /* of what is about to change; to the sinks as they are */
    struct snapshot_copies walked;  /* encoded as soon as no token is held */
    _Atomic uint64_t keys;          /* taken so far; its thread writes */
    bool pushed;                    /* since its last turn */
    bool behind;  /* sinks have an eighth of what may be in memory before them, or more */
    bool crowded; /* sinks have so much before them that nothing is left to them to encode */
};

/* How an object is taken. */
enum taking {
    TAKE_TO_SINKS, /* copied, for the sinks' threads to encode if they can keep up with it */
    TAKE_TO_WALK,  /* copied, until taker_encode_walked */
    TAKE_ENCODED,  /* at once */
};

struct taker *taker_make(struct transfer *transfers, unsigned sinks);
void taker_free(struct taker *taker); /* NULL: nothing */
/* Under the object's token, or nobody else has it. number: of the database at the cut. */
void take_object(struct taker *taker, enum taking taking, unsigned number,
                 const struct object *object, const struct rdb_key_attributes *attributes);
/* No token is held. */
void taker_encode_walked(struct taker *taker);
/* What the thread has pushed is told to those who wait for it. */
void taker_tell(struct taker *taker);
/* All that it has goes to the sinks, and nothing is taken any more. NULL: nothing. */
void taker_push_rest(struct taker *taker);

#endif
