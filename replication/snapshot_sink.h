/* Where a snapshot goes, and in what form: what snapshot_walk.h is given. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_SINK_H
#define SLOTWISE_REPLICATION_SNAPSHOT_SINK_H

#include "replication/rdb_write.h"

#define SNAPSHOT_SINKS_MAX 2

/* How objects become bytes. Any thread that has taken an object, with a writer of its own. */
struct snapshot_form {
    /* What follows is of this database. */
    void (*database)(struct rdb_writer *writer, unsigned database);
    void (*object)(struct rdb_writer *writer, const struct object *object,
                   const struct rdb_key_attributes *attributes);
};

/* The moment of which the snapshot is. */
struct snapshot_cut {
    uint64_t log_number; /* of the last entry that is in the snapshot */
    int64_t time_ms;
    uint64_t keys;        /* of all databases */
    uint64_t field_timed; /* of those: hashes with times to live of fields */
    unsigned databases;
    struct {
        uint64_t keys, expiring;
    } * of; /* by number */
};

/* Where a snapshot goes. cut runs in the exclusive section and must be short; the others on the
 * sink's own thread, which may block: open, then write any number of times, then close if nothing
 * has failed; each returns 0 or a negative errno. done is called once at the very end, with the
 * first error, -ECANCELED if the walk was given up, or 0; it is the last that is heard of the
 * sink. */
struct snapshot_sink {
    const struct snapshot_form *form;
    bool compression; /* of the writers that form is given */
    void (*cut)(void *context, const struct snapshot_cut *cut);
    int (*open)(void *context, const struct snapshot_cut *cut);
    int (*write)(void *context, const void *data, size_t length);
    int (*close)(void *context);
    void (*done)(void *context, int error);
    void *context;
};

#endif
