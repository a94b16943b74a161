/* The transfer of an attempt (sync.h). On its thread. */
#ifndef SLOTWISE_SERVER_SYNC_TRANSFER_H
#define SLOTWISE_SERVER_SYNC_TRANSFER_H

#include "server/links/sync_types.h"

/* Receives the data set into the file of the request: SYNC_LOADED (it can be), SYNC_BROKEN or
 * SYNC_FAILED. */
enum sync_result sync_receive(struct sync *sync);

#endif
