/* Saving the data set to the RDB file. */
#ifndef SLOTWISE_SERVER_SAVING_H
#define SLOTWISE_SERVER_SAVING_H

#include "server/persistence/persistence.h"

/* What the data set is the state of. */
struct saving_state {
    uint64_t dirty; /* how many changes there have been */
    /* The place in a stream of replication from which a replica may go on; id NULL: in none. */
    const char *replication_id;
    uint64_t replication_offset;
    unsigned database; /* that the stream has selected there */
};

/* In an exclusive section: the whole data set, to disk, before anybody goes on. 0, or a negative
 * errno, which has been logged: the file that was there is as it was. */
int saving_run(struct persistence *persistence, const struct saving_state *state);

#endif
