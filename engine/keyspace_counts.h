/* Numbers of keys that one thread has counted on behalf of another: a unit of work that several
 * threads run together is published by one of them. Run by: whoever holds the tokens of the unit,
 * or works for who does. */
#ifndef SLOTWISE_ENGINE_KEYSPACE_COUNTS_H
#define SLOTWISE_ENGINE_KEYSPACE_COUNTS_H

#include "engine/keyspace.h"

/* Ends what keyspace_counts_hold began on this thread, in place of keyspace_counts_publish: what it
 * has counted since, of this database alone, is as if it had not. */
void keyspace_counts_take(struct keyspace *keyspace, unsigned database, struct key_numbers *delta);
/* This thread, between keyspace_counts_hold and keyspace_counts_publish, has counted it. */
void keyspace_counts_give(struct keyspace *keyspace, unsigned database,
                          const struct key_numbers *delta);

#endif
