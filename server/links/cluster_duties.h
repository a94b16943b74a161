/* Duties: what the cluster wants of the server that takes an exclusive section: another role, a
 * pause, the end of keys.
 *
 * The cluster asks under the lock of the bus, where nothing may wait; so the duty is queued and
 * worker 0 does it at its next command boundary: it queues for patience as commands do, stops all
 * workers, acts, and tells the cluster what has happened. One after the other, in order.
 *
 *   asked (lock of the bus) --> posted --> waits for patience --> exclusive section --> told */
#ifndef SLOTWISE_SERVER_CLUSTER_DUTIES_H
#define SLOTWISE_SERVER_CLUSTER_DUTIES_H

#include "server/links/cluster_bus_types.h"

/* bus->around.mailbox is known. Before the workers start. */
void cluster_duties_start(struct cluster_bus *bus);
/* Worker 0, when it leaves its loop: nothing is done any more. */
void cluster_duties_end(struct cluster_bus *bus);
/* No worker runs any more. */
void cluster_duties_destroy(struct cluster_bus *bus);

/* Under the lock of the bus. Before cluster_duties_start a role is taken at once (no worker runs
 * yet), and nothing else is asked. */
void cluster_duty_promote(struct cluster_bus *bus);
void cluster_duty_follow(struct cluster_bus *bus, const char *address, uint16_t port);
void cluster_duty_pause(struct cluster_bus *bus, uint64_t for_ms);
void cluster_duty_drop_slot(struct cluster_bus *bus, unsigned slot);
void cluster_duty_drop_all(struct cluster_bus *bus);
/* Slots that have keys and, by the configuration, no owner become ours; those of others are set to
 * importing. When the data set has been loaded, under the lock of the bus, in an exclusive
 * section. */
void cluster_duties_verify(struct cluster_bus *bus);

#endif
