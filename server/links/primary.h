/* Primary: the side of replication that gives. One stream of all changes, kept in a backlog, read
 * by any number of replicas.
 *
 * Threads. Worker 0 hosts it: in each of its turns it takes what all workers have committed
 * (replication/commit_log.h), appends it to the backlog and wakes the connections of replicas,
 * which live on worker 0 too. PSYNC is decided in an exclusive section, since it may be asked on
 * any worker. The list of links is also read by INFO, ROLE and WAIT on other threads, under the
 * lock.
 *
 * Nothing is logged until the first replica comes: then, in the section that decides its PSYNC, the
 * log is put behind the door and the backlog made; both go when there has been no replica for
 * repl-backlog-ttl.
 *
 *   OFF --the first PSYNC--> ON --no replica for repl-backlog-ttl--> OFF (another id)
 *
 * On a replica the stream is that of its own primary, byte for byte as it applies it: nothing is
 * logged, and nothing is added (no PING, no GETACK, no SELECT). Its backlog begins with the first
 * bytes and stays: when it is promoted, the other replicas of its primary go on from it.
 *
 * Snapshots. A round (sync_round.h) serves all that wait when it begins. It is begun by a thread of
 * its own, in an exclusive section; the offset at the cut is that of the stream when all that was
 * committed before is in it. */
#ifndef SLOTWISE_SERVER_PRIMARY_H
#define SLOTWISE_SERVER_PRIMARY_H

#include "server/links/primary_types.h"

struct config;

void primary_init(struct primary *primary, const struct primary_surroundings *around);
/* How many connections are those of replicas. Any thread. */
unsigned primary_link_count(const struct primary *primary);
/* The process is to end, and no client writes any more: how many replicas are to have the stream,
 * and how many of them have acknowledged all of it; asks them to. In turns of worker 0, or in a
 * section. */
void primary_last_words(struct primary *primary, unsigned *replicas, unsigned *in_step);
/* The process ends: logs who lags, and how many do not. In a section. */
void primary_tell_lag(struct primary *primary);
/* No worker runs any more: no round begins from here on. Before the walker ends. */
void primary_stop(struct primary *primary);
/* After primary_stop, when walks and their sinks have ended. */
void primary_destroy(struct primary *primary);

/* A part of each turn of worker 0, before replies are sent. */
void primary_turn(struct primary *primary);
/* When worker 0 has to take a turn for it (monotonic): 0: at once. Called before it sleeps; if it
 * may sleep for longer, commits wake it. */
uint64_t primary_due_us(struct primary *primary);

/* PSYNC (or SYNC: id NULL) of a session with a link, in an exclusive section. offset: as PSYNC
 * counts, -1: none. The reply comes from the link, once its connection is on worker 0. */
void primary_sync(struct primary *primary, struct replica_link *link, const char *id,
                  int64_t offset);
/* The connection of an attached link is on worker 0 now. */
void primary_welcome(struct primary *primary, struct replica_link *link);
/* The session of the link ends. Any thread. */
void primary_forget(struct primary *primary, struct replica_link *link);

/* Counts the replicas that lag less than min-replicas-max-lag, and says whether they are enough to
 * write: some times a second, and when the configuration changes. Any thread. */
void primary_count_good(struct primary *primary, const struct config *config);
/* repl-backlog-size has changed. In an exclusive section. */
void primary_resize_backlog(struct primary *primary, uint64_t size_bytes);

/* How many replicas have acknowledged the stream up to the offset. Any thread. */
unsigned primary_acknowledged(struct primary *primary, uint64_t offset);
/* The same for what the commit log has given this number. */
unsigned primary_acknowledged_number(struct primary *primary, uint64_t number);
/* WAIT for what has this number, until due_us (monotonic; 0: no limit). NULL: *count replicas have
 * it already, that is enough. */
struct replica_wait *primary_wait(struct primary *primary, uint64_t number, unsigned replicas,
                                  uint64_t due_us, unsigned *count);

/* What the backlog and its compression do, some 100 ms old; zeros without a backlog. Any
 * thread. */
void primary_figures(const struct primary *primary, struct backlog_statistics *figures);
/* Lines of INFO replication and of ROLE: visit is called for each link under the lock. Any thread.
 */
void primary_visit(const struct primary *primary,
                   void (*visit)(void *context, const struct replica_link *link), void *context);

#endif
