/* Finishes the step-wise rebuilds of large tables when writes do not: while one is under way, both
 * arrays take memory. A background duty of each worker, for its home slots. */
#ifndef SLOTWISE_ENGINE_REBUILD_H
#define SLOTWISE_ENGINE_REBUILD_H

#include "engine/keyspace.h"

/* Goes on with rebuilds in the slots whose number modulo workers is worker, for about budget_us,
 * all of it under the token of one slot; tries that token only. true: there is more to do. With
 * nothing to do it reads the keyspace's bitmap of such slots. Registered readers, holding nothing.
 */
bool rebuild_continue(struct keyspace *keyspace, unsigned worker, unsigned workers,
                      uint64_t budget_us);

#endif
