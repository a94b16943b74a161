/* RDB writer: the bytes of a file, of a stream to a replica or of a DUMP payload, onto a sink.
 *
 * A writer belongs to one thread at a time. Calls have no result: after the sink has failed they do
 * nothing, and rdb_write_end (or rdb_writer.error) tells.
 *
 *     rdb_writer_init
 *     rdb_write_header                 once
 *       rdb_write_database             for each database with keys
 *         rdb_write_key                for each key
 *     rdb_write_end
 *     rdb_writer_free */
#ifndef SLOTWISE_REPLICATION_RDB_WRITE_H
#define SLOTWISE_REPLICATION_RDB_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/access.h"
#include "engine/object.h"
#include "replication/rdb.h"

/* Takes all of data before it returns. 0 or a negative errno. */
struct rdb_sink {
    int (*write)(void *context, const void *data, size_t length);
    void *context;
};

struct lzf_packer;

struct rdb_writer {
    struct rdb_sink sink; /* write NULL: all stays in buffer */
    bool compression;     /* rdbcompression: LZF where it saves four bytes or more */
    bool checksum;        /* rdbchecksum */
    int error;            /* the sink's, or 0 */
    uint64_t crc;         /* of what the sink got */
    uint64_t passed_on_bytes;
    uint8_t *buffer;
    size_t used, room;
    uint8_t *packed; /* LZF's output */
    size_t packed_room;
    struct lzf_packer *packer; /* NULL: nothing has been packed yet */
};

/* What the AUX fields tell. */
struct rdb_info {
    const char *server_version;
    int64_t created_s; /* unix time */
    uint64_t used_memory_bytes;
    bool aof_base;
    const char *replication_id; /* NULL: this and the next two are left out */
    int64_t replication_offset;
    int stream_database; /* of the last SELECT in the stream; -1: none */
};

/* What stands before a key. */
struct rdb_key_attributes {
    int64_t expiry_ms; /* unix time; OBJECT_NO_EXPIRY */
    int64_t idle_s;    /* -1: not written */
    int frequency;     /* 0..255; -1: not written */
};

/* Of the object, under its token: with the access clock as the eviction policy keeps it, so that it
 * outlasts a restart. */
void rdb_key_attributes_of(const struct access_policy *policy, const struct object *object,
                           struct rdb_key_attributes *attributes);

/* sink NULL: into memory; buffer and used are the result. */
void rdb_writer_init(struct rdb_writer *writer, const struct rdb_sink *sink, bool compression,
                     bool checksum);
void rdb_writer_free(struct rdb_writer *writer);
/* Of a writer into memory: the bytes so far are the caller's (memory_free), and it goes on with an
 * empty buffer of so much room. */
uint8_t *rdb_writer_take(struct rdb_writer *writer, size_t room, size_t *length);

/* Of a file or payload, by whether it has hashes with times to live of fields. */
static inline unsigned rdb_version_for(bool has_field_times) {
    return has_field_times ? RDB_VERSION_FIELD_TIMES : RDB_VERSION_WRITTEN;
}
void rdb_write_header(struct rdb_writer *writer, unsigned version, const struct rdb_info *info);
void rdb_write_aux(struct rdb_writer *writer, const char *name, const char *value);
/* expiring: how many of the keys have a time to live. Both are hints. */
void rdb_write_database(struct rdb_writer *writer, unsigned database, uint64_t keys,
                        uint64_t expiring);
/* The object with its key. Under the token of its slot, or as a snapshot was handed it. */
void rdb_write_key(struct rdb_writer *writer, const struct object *object,
                   const struct rdb_key_attributes *attributes);
/* The end of the file and the last bytes to the sink. 0 or the sink's negative errno. */
int rdb_write_end(struct rdb_writer *writer);
/* Hands what is buffered to the sink. */
void rdb_write_flush(struct rdb_writer *writer);
static inline uint64_t rdb_written_bytes(const struct rdb_writer *writer) {
    return writer->passed_on_bytes + writer->used;
}

/* A DUMP payload of the object, into a writer in memory. */
void rdb_write_payload(struct rdb_writer *writer, const struct object *object);

/* --- What values consist of (rdb_value.c) ----------------------------------------------------- */
void rdb_write_bytes(struct rdb_writer *writer, const void *data, size_t length);
void rdb_write_byte(struct rdb_writer *writer, uint8_t byte);
void rdb_write_length(struct rdb_writer *writer, uint64_t length);
/* In the shortest of its forms: integer, LZF, plain. */
void rdb_write_string(struct rdb_writer *writer, const char *data, size_t length);
void rdb_write_integer(struct rdb_writer *writer, int64_t value);

#endif
