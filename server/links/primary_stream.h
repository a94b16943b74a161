/* The stream of a primary: from the commit log into the backlog, its beginning and its end. See
 * primary.h. Worker 0, or in an exclusive section, unless noted. */
#ifndef SLOTWISE_SERVER_PRIMARY_STREAM_H
#define SLOTWISE_SERVER_PRIMARY_STREAM_H

#include "server/links/primary_types.h"

static inline struct history *primary_history(struct primary *primary) {
    return &primary->around.replication->history;
}
static inline bool primary_is_replica(const struct primary *primary) {
    return replication_is_replica(primary->around.replication);
}

/* The backlog; on a primary also the log behind the door, and then in a section. */
void primary_turn_on(struct primary *primary);
/* What was committed and not merged is lost: there is nobody to send it to. In a section. */
void primary_drop_backlog(struct primary *primary);
/* Once a second: the same when no replica has been there for repl-backlog-ttl. */
void primary_turn_off_when_unused(struct primary *primary, uint64_t now_ms);
/* Changes are logged while there is somebody to tell, and they are ours to tell. In a section. */
void primary_set_logging(struct primary *primary);

/* Takes what was committed into the backlog, up to about so many bytes. true: something came. */
bool primary_merge(struct primary *primary, size_t max_bytes);
/* A command of our own, between entries; continued: before one. Then the offset is to be
 * published. */
void primary_append_command(struct primary *primary, const char *text, bool continued);
void primary_publish_offset(struct primary *primary);
/* Under the lock: where the stream is; and how long ago it was beyond this offset for the first
 * time (0: it is not), as far as that was noted. */
void primary_note_offset(struct primary *primary, uint64_t now_ms);
uint64_t primary_lag_ms(const struct primary *primary, uint64_t offset, uint64_t now_ms);
/* The offset of the stream with all that has been committed; the next entry selects its database
 * anew. In a section. */
uint64_t primary_stream_cut(struct primary *primary);
/* The same, but who goes on from there knows the database. It is on, and a primary. */
uint64_t primary_stream_place(struct primary *primary, unsigned *database);

/* The process begins with what a file has, and the file has a place in a history. */
/* A key in it was over already: replicas that go on from it have to hear of that. On the thread
 * that loads, before primary_resume. */
void primary_load_expired(struct primary *primary, uint64_t offset, unsigned database,
                          const char *key, size_t length);
/* All has been loaded. On that thread, in a section. */
void primary_resume(struct primary *primary, const char *id, uint64_t offset);

/* Whether the replica understands all that the stream has from this offset (as PSYNC counts) on.
 * All that was committed is merged. In a section. */
bool primary_is_understood(struct primary *primary, const struct replica_link *link,
                           int64_t offset);

/* Runs function(primary) on a thread of its own, for what needs an exclusive section; the one
 * before has done its work. false: no thread. */
bool primary_start(struct primary *primary, void *(*function)(void *context));

#endif
