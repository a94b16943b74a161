/* The socket of an attempt (sync.h): connecting, blocking reads and writes with a limit, and how a
 * cancellation ends them. On the attempt's thread. */
#ifndef SLOTWISE_SERVER_SYNC_SOCKET_H
#define SLOTWISE_SERVER_SYNC_SOCKET_H

#include <sys/types.h>

#include "server/links/sync_types.h"

bool sync_is_cancelled(struct sync *sync);
/* Says where the attempt is; nothing once it has been cancelled. */
void sync_set_link(struct sync *sync, enum replication_link link);
/* The same for what came of the request to take over. */
void sync_set_answer(struct sync *sync, enum sync_answer answer);
/* Something came. */
void sync_note_io(struct sync *sync);

/* false: it is in the log, or the attempt has been cancelled. */
bool sync_connect(struct sync *sync);
void sync_close(struct sync *sync);

/* Reads up to length bytes: how many, 0 at the end, -1 with sync->error. */
ssize_t sync_read(struct sync *sync, void *data, size_t length);
/* A line without its end, cut to size - 1 bytes. false: sync->error. */
bool sync_read_line(struct sync *sync, char *line, size_t size);
/* false: sync->error. */
bool sync_send(struct sync *sync, const char *data, size_t length);
/* A command: words up to a NULL. false: it is in the log. */
bool sync_send_command(struct sync *sync, const char *const *words);
/* AUTH as the request has it. */
bool sync_send_auth(struct sync *sync);

#endif
