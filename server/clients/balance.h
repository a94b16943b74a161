/* How many workers are awake, and on which of them a connection sits (balance.c). */
#ifndef SLOTWISE_SERVER_BALANCE_H
#define SLOTWISE_SERVER_BALANCE_H

#include "server/clients/conn.h"

/* Ten times a second on each worker. */
void balance_tick(struct loop *loop);
/* Where a new connection goes. Worker 0. */
struct loop *balance_choose(struct server *server);

#endif
