/* Saving the data set to the RDB file. */
#ifndef SLOTWISE_SERVER_SAVING_H
#define SLOTWISE_SERVER_SAVING_H

#include "server/persistence/persistence.h"

/* In an exclusive section: the whole data set, to disk, before anybody goes on. dirty: how many
 * changes there have been. 0, or a negative errno, which has been logged: the file that was there
 * is as it was. */
int saving_run(struct persistence *persistence, uint64_t dirty);

#endif
