/* The batch of a loop: up to BATCH_MAX parsed commands of whatever connections were ready. On the
 * loop's thread. */
#ifndef SLOTWISE_SERVER_BATCH_H
#define SLOTWISE_SERVER_BATCH_H

#include "server/clients/conn.h"

/* Room for one more entry, running the batch if there is none. */
struct batch_entry *batch_next(struct loop *loop, struct conn *conn);
/* The entry of batch_next is complete; foreign_arguments: its arguments are not in the batch's
 * arena. Or it is not used. */
void batch_add(struct loop *loop, struct batch_entry *entry, bool foreign_arguments);
void batch_entry_drop(struct batch_entry *entry);
/* Prefetches slots' tables, buckets and objects of up to BATCH_KEYS_TOGETHER keys together; their
 * slots are here. */
#define BATCH_KEYS_TOGETHER 32
void batch_prefetch_keys(const struct keyspace *keyspace, unsigned database, const struct key *keys,
                         unsigned n);
/* Prefetches and runs what is in it. Nothing is held afterwards. */
void batch_run(struct loop *loop);

#endif
