/* The transfer of an attempt (sync.h): the data set that comes over the socket, as a source of
 * bytes or into a file. On the attempt's thread. */
#ifndef SLOTWISE_SERVER_SYNC_TRANSFER_H
#define SLOTWISE_SERVER_SYNC_TRANSFER_H

#include "replication/rdb_read.h"
#include "server/links/sync_types.h"

struct transfer;

/* Waits until the primary announces what comes. NULL: it is in the log. destination: for the log.
 */
struct transfer *transfer_begin(struct sync *sync, const char *destination);
void transfer_free(struct transfer *transfer);
/* How many come; RDB_SIZE_UNKNOWN. */
uint64_t transfer_bytes(const struct transfer *transfer);
/* Waits until some of it has come. false: it does not, which is in the log. */
bool transfer_await(struct transfer *transfer);
/* As rdb_source wants it; the context is the transfer. What goes wrong is in the log. */
ssize_t transfer_read(void *transfer, void *data, size_t room);
/* All that is wanted has been read: goes on to the end. false: that does not come. */
bool transfer_finish(struct transfer *transfer);
/* What an attempt comes to whose transfer failed: a primary that sends what it should not is not
 * asked again at once. */
enum sync_result transfer_failure(const struct transfer *transfer);
/* All of it into a file of this name: SYNC_LOADED (it can be), SYNC_BROKEN or SYNC_FAILED. */
enum sync_result transfer_to_file(struct transfer *transfer, const char *name);

#endif
