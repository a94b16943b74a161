/* maxmemory-clients: when the connections together take more memory than that, the biggest are
 * closed, until they do not. CLIENT NO-EVICT protects a connection; it is counted all the same. */
#ifndef SLOTWISE_SERVER_CLIENT_EVICTION_H
#define SLOTWISE_SERVER_CLIENT_EVICTION_H

#include <stdint.h>

struct config;
struct loop;

/* In bytes; UINT64_MAX: no limit. */
uint64_t client_eviction_limit_bytes(const struct config *config);
/* From the loop's timers, outside of batches. Next to nothing without a limit; with one it looks at
 * all connections of the loop, a hundred times a second or as soon as they may have reached it, but
 * at most for a twentieth of the time. */
void client_eviction_tick(struct loop *loop);
/* The configuration has changed: a lower limit holds at once. In an exclusive section, or before
 * there are loops. */
struct server;
void client_eviction_apply(struct server *server, const struct config *config);

#endif
