/* Between primary.c and primary_round.c. */
#ifndef SLOTWISE_SERVER_PRIMARY_PRIVATE_H
#define SLOTWISE_SERVER_PRIMARY_PRIVATE_H

#include "server/links/primary.h"

/* The offset of the stream with all that has been committed; the next entry selects its database
 * anew. In an exclusive section. */
uint64_t primary_stream_cut(struct primary *primary);
/* Out of the list, and freed with what it uses. Worker 0. */
void primary_link_remove(struct primary *primary, struct replica_link *link);
/* Runs function(primary) in an exclusive section, on a thread of its own. Worker 0; the one before
 * has ended. false: no thread. */
bool primary_start(struct primary *primary, void *(*function)(void *context));
/* Begins a round if one is due; once a second and when one is over. Worker 0. */
void primary_round_tick(struct primary *primary, uint64_t now_ms);

#endif
