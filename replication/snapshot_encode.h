/* How a snapshot's objects become bytes: encoders, and copies of objects that are encoded later.
 *
 * Who holds an object's token copies the object, which takes a small part of the time that its
 * encoding (with LZF) takes; the copy is encoded when the token has been released, or by the thread
 * of a sink. Only objects whose value lies within them are copied.
 *
 * Encoders and copies belong to one thread at a time. */
#ifndef SLOTWISE_REPLICATION_SNAPSHOT_ENCODE_H
#define SLOTWISE_REPLICATION_SNAPSHOT_ENCODE_H

#include "replication/snapshot_sink.h"

#define SNAPSHOT_NO_DATABASE UINT32_MAX

/* Keys in the form of a sink. Before the first one no database is told, so that pieces can be
 * written in any order. */
struct snapshot_encoder {
    const struct snapshot_form *form;
    struct rdb_writer writer;
    uint32_t first_database, last_database; /* those of its first and last key; none at first */
};

void snapshot_encoder_init(struct snapshot_encoder *encoder, const struct snapshot_form *form,
                           bool compression);
void snapshot_encoder_free(struct snapshot_encoder *encoder);
/* Forgets the keys. */
static inline void snapshot_encoder_reset(struct snapshot_encoder *encoder) {
    encoder->writer.used = 0;
    encoder->first_database = encoder->last_database = SNAPSHOT_NO_DATABASE;
}
/* The bytes so far are the caller's, who gives an empty buffer for them; it goes on with that. */
static inline void snapshot_encoder_exchange(struct snapshot_encoder *encoder, uint8_t **data,
                                             size_t *room) {
    struct rdb_writer *writer = &encoder->writer;
    uint8_t *encoded = writer->buffer;
    size_t encoded_room = writer->room;
    writer->buffer = *data;
    writer->room = *room;
    *data = encoded;
    *room = encoded_room;
    snapshot_encoder_reset(encoder);
}
/* Forgets the keys, and gives memory back that only an unusually large one needs. */
void snapshot_encoder_trim(struct snapshot_encoder *encoder);
/* database: its number at the cut. */
void snapshot_encode(struct snapshot_encoder *encoder, uint32_t database,
                     const struct object *object, const struct rdb_key_attributes *attributes);

struct snapshot_copies {
    uint8_t *data; /* memory_alloc; NULL: no room yet */
    size_t used, room;
};

/* Whether such an object can be copied. */
static inline bool snapshot_is_copied(const struct object *object) {
    return !object_needs_token(object);
}
/* The same key with the same value, for another thread: what is behind a pointer is lent, and who
 * changes it copies it first (of a collection the parts that change). For what cannot be copied;
 * under the object's token. Freed by object_free. */
struct object *snapshot_lend(const struct object *object);
/* Under the object's token. */
void snapshot_copy(struct snapshot_copies *copies, uint32_t database, const struct object *object,
                   const struct rdb_key_attributes *attributes);
/* data: of copies, so many bytes. */
void snapshot_encode_copies(struct snapshot_encoder *encoder, const uint8_t *data, size_t length);

#endif
