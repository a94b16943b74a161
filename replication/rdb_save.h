/* An RDB file on its way to disk: begun under a temporary name, and in its place only when it is
 * whole. Who walks over the keys is somebody else's business: keys are handed in, all of one
 * database before those of another.
 *
 *     rdb_save_begin, for each database: rdb_save_database, for each key: rdb_save_key,
 *     rdb_save_finish or rdb_save_abort
 *
 * A save belongs to one thread at a time. Errors are kept until rdb_save_finish: keys may be handed
 * in to a save that has failed, and go nowhere. */
#ifndef SLOTWISE_REPLICATION_RDB_SAVE_H
#define SLOTWISE_REPLICATION_RDB_SAVE_H

#include "engine/keyspace.h"
#include "replication/rdb_write.h"

struct rdb_save_options {
    const char *path;           /* what it shall be called; in the working directory or elsewhere */
    bool compression, checksum; /* rdbcompression, rdbchecksum */
    bool incremental_sync;      /* rdb-save-incremental-fsync: to disk as it grows */
    unsigned version;           /* RDB_VERSION_WRITTEN unless something needs more */
    struct rdb_info info;
};

struct rdb_save {
    struct rdb_writer writer;
    const struct keyspace *keyspace; /* says whether access clocks are written */
    int fd;
    int replaced_fd; /* from the rename until rdb_save_settle; -1: none */
    bool incremental_sync;
    uint64_t written_bytes,
        syncing_bytes; /* of the file; from there on nothing is on disk for sure */
    char path[4096], temporary_path[4096];
    uint64_t keys;
    char message[512]; /* what failed, for the log */
};

/* 0, or a negative errno and message. */
int rdb_save_begin(struct rdb_save *save, const struct keyspace *keyspace,
                   const struct rdb_save_options *options);
void rdb_save_database(struct rdb_save *save, unsigned database, uint64_t keys, uint64_t expiring);
/* Under the token of its slot, in an exclusive section, or as a snapshot was handed it. */
void rdb_save_key(struct rdb_save *save, const struct object *object);
/* 0: the file has its name and is on disk, its name too. Else a negative errno and message; a file
 * that was there before is untouched. */
int rdb_save_finish(struct rdb_save *save);
/* The same in three steps, for who must not be held up by the disk between two of them: all of it
 * is on disk; it has its name; its name is on disk. Each as rdb_save_finish. What the file replaced
 * is freed in the last step, which takes the longer the larger that was. */
int rdb_save_close(struct rdb_save *save);
int rdb_save_rename(struct rdb_save *save);
int rdb_save_settle(struct rdb_save *save);
/* It is not to be; not after rdb_save_rename. */
void rdb_save_abort(struct rdb_save *save);

/* All keys of all databases; in an exclusive section. */
void rdb_save_walk(struct rdb_save *save);

#endif
