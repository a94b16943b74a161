/* Full syncs of a primary: a snapshot for all replicas that wait for one. See primary.h. */
#ifndef SLOTWISE_SERVER_PRIMARY_ROUND_H
#define SLOTWISE_SERVER_PRIMARY_ROUND_H

#include "server/links/primary_types.h"

/* Begins a round if one is due; once a second and when one is over. Worker 0. */
void primary_round_tick(struct primary *primary, uint64_t now_ms);

#endif
