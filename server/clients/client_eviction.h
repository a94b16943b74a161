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
 * all connections of the loop, at most for a twentieth of the time. */
void client_eviction_tick(struct loop *loop);

#endif
