/* See snapshot_encode.h. */
#include "replication/snapshot_encode.h"

#include "engine/assert.h"
#include "engine/blob.h"
#include "engine/memory.h"
#include "engine/types/collection.h"

#define COPIES_ROOM_BYTES ((size_t)80 * 1024) /* at first */

#define ROOM_KEPT_BYTES ((size_t)1024 * 1024)

/* What stands before each copied object. The expiry is the object's own. */
struct copied {
    uint32_t bytes; /* to the next one */
    uint32_t database;
    int32_t frequency;
    int64_t idle_s;
};

void snapshot_encoder_init(struct snapshot_encoder *encoder, const struct snapshot_form *form,
                           bool compression) {
    encoder->form = form;
    rdb_writer_init(&encoder->writer, NULL, compression, false);
    snapshot_encoder_reset(encoder);
}

void snapshot_encoder_free(struct snapshot_encoder *encoder) {
    rdb_writer_free(&encoder->writer);
}

void snapshot_encoder_trim(struct snapshot_encoder *encoder) {
    size_t ignored;
    if (encoder->writer.room > ROOM_KEPT_BYTES)
        memory_free(rdb_writer_take(&encoder->writer, COPIES_ROOM_BYTES, &ignored));
    snapshot_encoder_reset(encoder);
}

void snapshot_encode(struct snapshot_encoder *encoder, uint32_t database,
                     const struct object *object, const struct rdb_key_attributes *attributes) {
    if (encoder->first_database == SNAPSHOT_NO_DATABASE)
        encoder->first_database = database;
    else if (encoder->last_database != database)
        encoder->form->database(&encoder->writer, database);
    encoder->last_database = database;
    encoder->form->object(&encoder->writer, object, attributes);
}

struct object *snapshot_lend(const struct object *object) {
    size_t length;
    const char *key = object_key(object, &length);
    if (object_type(object) == OBJECT_STRING)
        blob_lend(object_pointer(object));
    else
        collection_lend(collection_body(object));
    return object_remake(object, key, length, object_expiry(object));
}

void snapshot_copy(struct snapshot_copies *copies, uint32_t database, const struct object *object,
                   const struct rdb_key_attributes *attributes) {
    ASSERT(snapshot_is_copied(object));
    size_t bytes = sizeof(struct copied) + ((object_shell_bytes(object) + 7) & ~(size_t)7);
    if (UNLIKELY(copies->room - copies->used < bytes)) {
        if (copies->room == 0)
            copies->room = COPIES_ROOM_BYTES;
        while (copies->room - copies->used < bytes)
            copies->room *= 2;
        copies->data = memory_realloc(copies->data, copies->room);
    }
    struct copied *copied = (void *)(copies->data + copies->used);
    *copied = (struct copied){(uint32_t)bytes, database, attributes->frequency, attributes->idle_s};
    object_copy_to(copied + 1, object);
    copies->used += bytes;
}

void snapshot_encode_copies(struct snapshot_encoder *encoder, const uint8_t *data, size_t length) {
    for (size_t at = 0; at < length;) {
        const struct copied *copied = (const void *)(data + at);
        const struct object *object = (const void *)(copied + 1);
        const struct rdb_key_attributes attributes = {object_expiry(object), copied->idle_s,
                                                      copied->frequency};
        snapshot_encode(encoder, copied->database, object, &attributes);
        at += copied->bytes;
    }
}
