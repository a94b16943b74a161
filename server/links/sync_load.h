/* The loading of an attempt (sync.h). On its thread. */
#ifndef SLOTWISE_SERVER_SYNC_LOAD_H
#define SLOTWISE_SERVER_SYNC_LOAD_H

#include "server/links/sync_types.h"

/* Flushes the data, loads the file, adopts id and offset: SYNC_LOADED or SYNC_FAILED. */
enum sync_result sync_load_file(struct sync *sync, const char *path);

#endif
