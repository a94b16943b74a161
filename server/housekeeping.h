/* Duties of the whole process that worker 0 does ten times a second: rates, peak memory, shutdown
 * requests. */
#ifndef SLOTWISE_SERVER_HOUSEKEEPING_H
#define SLOTWISE_SERVER_HOUSEKEEPING_H

#include "server/clients/server.h"

void housekeeping_tick(struct server *server);

#endif
