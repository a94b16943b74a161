/* PSYNC: who may continue, who must start over, and what a reply to PSYNC means. Pure functions:
 * the links hold the state, act on the decisions and write the log. Any thread.
 *
 * Offsets are those of the protocol: a replica asks for the first byte that it has not got, so
 * "offset 51" means that it has 50 (a plain offset of 50 in backlog.h).
 *
 * A primary's decision:
 *
 *     the request's id is          and its offset is                       then
 *     our id                       within the backlog, or its end          continue
 *     our second id                so, and not beyond second_offset        continue
 *     our second id                beyond second_offset                    full: histories part
 * there ours or second               not in the backlog, or there is none    full: lack of backlog
 *     ?                            any                                     full: it was asked for
 *     another                      any                                     full: not our history
 *
 * Frames. A replica that reads frames says so (REPLCONF capa PSYNC_FRAMES_NAME); a primary that
 * then sends the stream as frames ends its +FULLRESYNC or +CONTINUE with that name, and with
 * nothing otherwise. Stock replicas never ask, and stock primaries never answer so.
 *
 * Blocks. Likewise a replica that reads RDB blocks (rdb_block.h) says PSYNC_BLOCKS_NAME. Its
 * snapshot may then begin with the line "$" PSYNC_BLOCKS_NAME where others get "$length" or
 * "$EOF:mark", and consists of blocks; what comes behind the last one is the stream. */
#ifndef SLOTWISE_REPLICATION_PSYNC_H
#define SLOTWISE_REPLICATION_PSYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/history.h"

#define PSYNC_FRAMES_NAME "slotwise-lz4-1"
#define PSYNC_BLOCKS_NAME "slotwise-blocks-1"

/* What a replica said with REPLCONF capa. */
enum psync_capability {
    PSYNC_CAPABILITY_EOF = 1,    /* reads a snapshot of unknown length from the socket */
    PSYNC_CAPABILITY_PSYNC2 = 2, /* understands an id behind +CONTINUE */
    PSYNC_CAPABILITY_FRAMES = 4, /* reads frames (frame.h) */
    PSYNC_CAPABILITY_BLOCKS = 8, /* reads a snapshot in blocks (rdb_block.h) */
};
/* 0: unknown, which is no error. In any case of letters, as stock servers compare it. */
unsigned psync_capability(const char *name);

/* Lines for the log, in the words of Redis 7.2, whose operators' tools look for them. */
enum psync_log_level {
    PSYNC_LOG_NOTICE,
    PSYNC_LOG_WARNING,
};
#define PSYNC_LOG_LINES  2
#define PSYNC_LINE_BYTES 512
struct psync_log {
    int count;
    struct {
        enum psync_log_level level;
        char text[PSYNC_LINE_BYTES]; /* cut off where a peer's words are longer */
    } lines[PSYNC_LOG_LINES];
};

/* --- Primary ---------------------------------------------------------------------------------- */

/* What stands in the way of SYNC and PSYNC, whatever they ask for. */
struct psync_obstacles {
    bool failing_over;     /* a FAILOVER is under way */
    bool is_replica;       /* of somebody ... */
    bool is_connected;     /* ... and the link with that primary is up and in sync */
    bool pending_output;   /* replies wait to be sent on this connection */
    bool filtered;         /* REPLCONF rdb-filter-only was given */
    unsigned capabilities; /* of the asking replica */
};
/* The error line (without line end) that refuses, or NULL: go on. */
const char *psync_refusal(const struct psync_obstacles *obstacles);
/* The same for PSYNC id offset FAILOVER, which promotes a replica; looked at first. */
const char *psync_failover_refusal(bool is_replica, const char *our_id, const char *requested_id);

/* What of the stream can still be sent. */
struct psync_backlog {
    int64_t first;  /* offset of its first byte, or of the next one while it is empty */
    int64_t length; /* bytes in it */
};

struct psync_request {
    const char *id;        /* as it came: "?", or anything */
    int64_t offset;        /* -1 with "?" */
    unsigned capabilities; /* enum psync_capability */
    const char *replica;   /* its name for the log: host and port */
};

struct psync_decision {
    bool continues; /* else a full resync */
    int64_t bytes;  /* of the backlog that the replica is behind, if it continues */
    /* A full resync that the replica had not asked for: sync_partial_err. */
    bool counts_as_refused;
    struct psync_log log;
};
/* backlog: NULL when there is none. */
void psync_decide(const struct history *history, const struct psync_backlog *backlog,
                  const struct psync_request *request, struct psync_decision *decision);

/* The replies, with line end; return their length (below PSYNC_REPLY_BYTES). frames: the stream
 * follows as frames (only if the replica reads them). */
#define PSYNC_REPLY_BYTES 128
size_t psync_format_continue(const char *id, unsigned capabilities, bool frames, char *to);
/* offset: master_repl_offset at the cut of the snapshot that follows. */
size_t psync_format_full(const char *id, int64_t offset, bool frames, char *to);

/* --- Replica ---------------------------------------------------------------------------------- */

/* What to ask for. cached_id: the id of the primary whose stream we have up to `offset`
 * (HISTORY_ID_LENGTH characters), NULL when there is none. Sets *id ("?" or cached_id) and
 * *request_offset. */
void psync_ask(const char *cached_id, int64_t offset, const char **id, int64_t *request_offset,
               struct psync_log *log);

enum psync_outcome {
    PSYNC_WAIT,          /* an empty line: the primary is alive, the reply is still to come */
    PSYNC_CONTINUE,      /* the stream goes on where it was */
    PSYNC_FULL,          /* a snapshot follows, then the stream */
    PSYNC_TRY_LATER,     /* close, connect again later */
    PSYNC_NOT_SUPPORTED, /* send SYNC on the same connection */
};

struct psync_reply {
    enum psync_outcome outcome;
    /* PSYNC_FULL: the primary's id and its offset at the snapshot. An empty id and -1: the reply
     * could not be read; the snapshot follows all the same, and the next PSYNC asks for everything.
     * PSYNC_CONTINUE: the id to go on with; id_changed: it is another one, so ours becomes the
     * second id up to our offset + 1, and our own replicas have to be told (disconnected). */
    char id[HISTORY_ID_LENGTH + 1];
    int64_t offset;
    bool id_changed;
    bool frames; /* the stream follows as frames */
    struct psync_log log;
};

/* A line of the primary without its line end, as a string; NULL: it did not reply. cached_id: what
 * psync_ask was given. */
void psync_read_reply(const char *line, const char *cached_id, struct psync_reply *reply);

#endif
