/* The loading of an attempt (sync.h). On its thread. */
#ifndef SLOTWISE_SERVER_SYNC_LOAD_H
#define SLOTWISE_SERVER_SYNC_LOAD_H

#include "server/links/sync_transfer.h"

/* Flush the data, load the file or what comes, adopt id and offset: SYNC_LOADED, SYNC_FAILED or
 * SYNC_BROKEN. */
enum sync_result sync_load_file(struct sync *sync, const char *path);
enum sync_result sync_load_transfer(struct sync *sync, struct transfer *transfer);

#endif
