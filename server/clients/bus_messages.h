/* Messages that other nodes of the cluster have published, on their way to subscribers here. The
 * bus's thread hands them to worker 0, which publishes them as if they were its own. */
#ifndef SLOTWISE_SERVER_BUS_MESSAGES_H
#define SLOTWISE_SERVER_BUS_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>

/* cluster_bus_surroundings' message; context: struct server. Any thread, in order; the bytes are
 * copied. */
void bus_message_came(void *context, const void *channel, size_t channel_length,
                      const void *message, size_t message_length, bool sharded);

#endif
