/* Backlog compressor: a thread that compresses the sealed blocks of a backlog beside its owner.
 *
 * It is there so that the backlog bridges as much as it can whoever reads it: stock replicas, or
 * nobody while a link is cut. Readers of frames compress what they come to themselves. It runs with
 * less priority than the workers and takes about 0.4 ms for a block of 256 KB, so that commands do
 * not wait for it. Where it gets too little time, blocks stay plain for longer and the backlog
 * bridges less, but its size in any case.
 *
 * Threads. The owner of the backlog makes all calls. The thread has one job at a time: it is
 * started with the first. */
#ifndef SLOTWISE_REPLICATION_BACKLOG_COMPRESSOR_H
#define SLOTWISE_REPLICATION_BACKLOG_COMPRESSOR_H

#include "replication/backlog.h"

struct backlog_compressor;

/* No thread yet. wake: called by the thread when a job is done; the owner should then take a turn.
 */
struct backlog_compressor *backlog_compressor_create(void (*wake)(void *context), void *context);
/* Waits for the job that is out, a millisecond or so. Backlogs may be gone by then. NULL is fine.
 */
void backlog_compressor_destroy(struct backlog_compressor *compressor);
/* Gives back what is done; more: hands out what there is to do. In each turn of the owner: costs a
 * look at two flags where there is nothing to do. */
void backlog_compressor_turn(struct backlog_compressor *compressor, struct backlog *backlog,
                             bool more);

#endif
