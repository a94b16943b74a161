/* Slot export: the source's side of a migration of slots (cluster/slot_move.h; the target's is
 * slot_import.h).
 *
 * One thread for the process, started with the first CLUSTER MIGRATESLOTS, does one job after the
 * other, over one connection to the target:
 *
 *     copy       walks the slots: under the token of each some keys are written down as DUMP does,
 *                what is large is lent and written down without the token
 *     catch up   what has changed since the walk came to its slot (slot_dirty.h), whole keys, in
 *                rounds, until few are left and the target is prepared
 *     fence      the slots serve nobody (SLOT_SERVING): who comes for them waits, as while a key is
 *                moved by MIGRATE. What has changed since goes out together with COMMIT
 *     give       the answer: the slots are the target's. The map is published before the slots
 * serve again, so who waited gets MOVED. Then the keys are deleted, some under a token
 *
 * Commands in other slots are never held up; those in the slots only by the tokens, and from fence
 * to give. A flush of the database meanwhile ends a job; a failover, a restart or a lost connection
 * too, unless COMMIT was sent: then the source asks until it knows. */
#ifndef SLOTWISE_SERVER_SLOT_EXPORT_H
#define SLOTWISE_SERVER_SLOT_EXPORT_H

#include "server/links/slot_export_types.h"

/* Before the workers start, and after they have ended. */
void slot_exports_init(struct slot_exports *exports, const struct slot_exports_around *around);
void slot_exports_stop(struct slot_exports *exports);
/* Queues the requests of one command. false: there is no thread. Any worker. */
bool slot_exports_submit(struct slot_exports *exports, const struct slot_request *requests,
                         size_t count);
/* Slots of jobs that are not over: a bit each. */
void slot_exports_busy(struct slot_exports *exports, uint8_t *slots);
/* CANCELSLOTMIGRATIONS. NULL, or the error's text. Any worker. */
const char *slot_exports_cancel(struct slot_exports *exports);

#endif
