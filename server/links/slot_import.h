/* Slot import: the target's side of a migration of slots (cluster/slot_move.h), and that of the
 * target's replicas.
 *
 * What comes is gathered in a keyspace of its own, the staging keyspace, that no command sees: not
 * KEYS, SCAN, DBSIZE or RANDOMKEY, no snapshot, neither expiry nor eviction (its memory counts,
 * and a source is refused with -OOM when there is none). Whatever goes wrong before the commit, it
 * is thrown away. At the commit its tables become those of the slots, in one exclusive section.
 *
 * Replicas do the same: each step goes into the stream as it was said by the source, DATA and all,
 * so at the commit they have what the target has, and their own part of it is as short. A replica
 * that comes by a full synchronisation meanwhile has not got what came before: then the import is
 * refused at its commit. Servers other than Slotwise do not understand the stream's commands, so a
 * primary with such a replica takes no slots.
 *
 *   the source says                      target                                 its replicas
 *   ESTABLISH name, source, slots        RECEIVING, an empty staging keyspace   the same
 *   DATA keys                            into the staging keyspace              the same
 *   PREPARE name                         waits until its replicas have it all;  -
 *                                        raises its epoch, durably: PREPARED
 *   COMMIT name, number of DATA          exclusive: the tables move, the slots  -
 *                                        serve nobody yet, ADOPT into the stream
 *                                        waits until its replicas have that     ADOPT: tables move,
 *                                                                               the slots are their
 *                                                                               primary's
 *                                        claims them, durably, tells all; the slots serve; answers
 *   RESOLVE name                         whether it was committed; what was not is thrown away, and
 *                                        can never be committed any more
 *
 * Throws it away: the end of the source's connection (DROP into the stream), a change of the role.
 * A COMMIT that comes late is refused: who was stopped for so long does not know whether the source
 * has a successor by now. Once COMMIT is under way it goes to its end, whether or not the source is
 * still there; if its replicas do not answer or the claim cannot be made durable the keys are
 * deleted again, by commands in the stream.
 *
 * Threads. The steps run as commands on the worker of the source's connection (a replica's on
 * worker 0), what waits in them on threads of their own. The list is under the lock; an import is
 * used by the commands of its connection, and freed by worker 0 when that is gone, or in an
 * exclusive section. */
#ifndef SLOTWISE_SERVER_SLOT_IMPORT_H
#define SLOTWISE_SERVER_SLOT_IMPORT_H

#include "replication/snapshot_walk.h"
#include "server/dispatch/background_work.h"
#include "server/links/cluster_bus_types.h"
#include "server/links/slot_records.h"

struct slot_imports_around {
    struct keyspace *keyspace;
    struct primary *primary;
    struct replication *replication;
    struct snapshot_walker *walker;
    struct cluster_bus **bus;
    struct slot_records *records;
};

enum slot_import_state { SLOT_IMPORT_RECEIVING, SLOT_IMPORT_PREPARED, SLOT_IMPORT_COMMITTING };

struct slot_import {
    struct slot_import *next;
    struct slot_imports *imports;
    char name[SLOT_RECORD_NAME + 1];
    struct node_id source;
    uint8_t slots[WIRE_SLOT_BYTES];
    struct slot_record *record;
    uint64_t session_id;     /* of the source's connection; 0: it comes by the stream */
    atomic_bool source_gone; /* that has ended */
    atomic_bool refused;     /* the source was told so: no step finds it any more */
    struct keyspace *staging;
    struct change change; /* of the staging keyspace */
    _Atomic enum slot_import_state state;
    _Atomic bool working;                /* a thread does something with it */
    uint64_t commands;                   /* DATA so far */
    uint64_t keys, bytes;                /* that came with them */
    uint64_t number;                     /* in the effect log, of the last one */
    uint64_t source_epoch;               /* the source's, when it said PREPARE */
    uint64_t epoch;                      /* with which it will be claimed */
    uint64_t prepared_us;                /* monotonic */
    uint64_t full_syncs;                 /* of our replicas, when it began */
    char history[HISTORY_ID_LENGTH + 1]; /* ours, then */
};

struct slot_imports {
    struct slot_imports_around around;
    pthread_mutex_t lock;
    struct slot_import *first; /* under the lock */
};

void slot_imports_init(struct slot_imports *imports, const struct slot_imports_around *around);
/* No worker runs any more. */
void slot_imports_destroy(struct slot_imports *imports);
/* The connection of a source has ended. Any worker. */
void slot_imports_session_ended(struct slot_imports *imports, uint64_t session_id);
/* Some times a second on worker 0, whose change is between two units: throws away what is over. */
void slot_imports_tick(struct slot_imports *imports, struct change *change);
/* In an exclusive section, at the end of a change of the role or of the data: what goes on for
 * another history than that of now, or for another role, is thrown away. */
void slot_imports_role_changed(struct slot_imports *imports);

/* --- Steps, in commands ------------------------------------------------------------------------
 *
 * change: of the command. Errors are texts with their codes; NULL: done. */

/* applied: it comes by the stream. */
const char *slot_import_begin(struct slot_imports *imports, const char *name,
                              const struct node_id *source, const uint8_t *slots,
                              uint64_t session_id, bool applied);
/* The one of a session (0: of the stream), if it takes further steps; valid for the command. NULL:
 * there is none. */
struct slot_import *slot_import_find(struct slot_imports *imports, const char *name,
                                     uint64_t session_id);
enum slot_import_outcome {
    SLOT_IMPORT_UNKNOWN,   /* it is not committed, and will never be */
    SLOT_IMPORT_PENDING,   /* COMMIT is under way */
    SLOT_IMPORT_COMMITTED, /* here, or where our data come from */
};
/* Any worker. */
enum slot_import_outcome slot_import_resolve(struct slot_imports *imports, const char *name);
/* A key with a payload of DUMP; expiry_ms: OBJECT_NO_EXPIRY. payload_length 0: it is gone. */
const char *slot_import_put(struct slot_import *import, const struct argument *key,
                            int64_t expiry_ms, const struct argument *payload);
/* In an exclusive section: the tables move. On the target the slots serve nobody until the work of
 * the commit ends. The number of keys. */
uint64_t slot_import_adopt(struct slot_import *import);
/* Throws it away; the record says why. */
void slot_import_drop(struct slot_import *import, const char *why);
/* The same, and takes it out of the list, as done. */
void slot_import_finish(struct slot_import *import, bool committed, const char *message);

/* What PREPARE and COMMIT wait for. First in the structure: the command's unfinished. */
struct slot_import_work {
    struct background_work work; /* first */
    struct slot_import *import;
    bool commits;
    uint64_t number; /* of the effect log, that replicas are to have */
    uint64_t epoch;  /* the result, if there is no error */
    bool try_again;  /* -TRYAGAIN: a COMMIT, of which our successor knows how it ended; a PREPARE
                        that comes later */
    char error[192]; /* "": none */
};

/* Begins it; the result belongs into session->unfinished. COMMIT: after slot_import_adopt, in the
 * same section. */
struct unfinished *slot_import_work_begin(struct slot_import *import, bool commits);
/* Why COMMIT is refused, NULL. In the section. commands: the source's count. */
const char *slot_import_refusal(struct slot_import *import, uint64_t commands);

#endif
