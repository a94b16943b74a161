/* Sync: one attempt of a replica to get in step with its primary: connect, shake hands, ask for the
 * rest of the stream or for all the data, receive and load these. It ends with a socket whose next
 * byte is the next of the stream, or with nothing.
 *
 * A thread of its own, with blocking calls, that exists for the attempt only. Who starts it hears
 * of the end by a message, unless it cancels the attempt: then the thread ends by itself as soon as
 * it notices and nobody hears of it. sync.c has the thread and the handshake,
 * sync_socket.c its socket, sync_transfer.c the transfer, sync_load.c the loading. */
#ifndef SLOTWISE_SERVER_SYNC_H
#define SLOTWISE_SERVER_SYNC_H

#include "server/links/sync_types.h"

/* Starts the thread. NULL: it cannot be started, which is in the log. */
struct sync *sync_start(const struct sync_request *request,
                        const struct sync_environment *environment);
/* ended will not be called any more; the attempt changes nothing from here on. Not while it loads.
 * In an exclusive section, or on the thread of the mailbox. */
void sync_cancel(struct sync *sync);
/* Another time to wait for a byte, also for one that it waits for now. As sync_cancel. */
void sync_set_timeout(struct sync *sync, int64_t timeout_ms);
/* The process ends: as sync_cancel, and waits until the loading has stopped. No worker runs. */
void sync_stop(struct sync *sync);

/* In ended. */
enum sync_result sync_result(const struct sync *sync);
/* The socket, non-blocking, the caller's from here on; the database that the stream has selected;
 * whether the primary waits for an acknowledgement before it goes on. */
int sync_take_socket(struct sync *sync, unsigned *database, bool *wants_ack);
/* The stream comes in frames (replication/frame.h). */
bool sync_gets_frames(const struct sync *sync);
void sync_free(struct sync *sync); /* after ended */

#endif
