/* See snapshot_take.h. Run by whoever has the object. */
#include "replication/snapshot_take.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "engine/value.h"

/* A buffer goes to the queue when it is as full as this; it has room for a bit more. */
#define PIECE_BYTES (64 * 1024)

struct taker *taker_make(struct transfer *transfers, unsigned sinks) {
    struct taker *taker = memory_calloc(1, sizeof *taker);
    taker->transfers = transfers;
    taker->sinks = sinks;
    for (unsigned i = 0; i < taker->sinks; i++) {
        const struct snapshot_sink *sink = &taker->transfers[i].sink;
        snapshot_encoder_init(&taker->encoders[i], sink->form, sink->compression);
    }
    return taker;
}

void taker_free(struct taker *taker) {
    if (!taker)
        return;
    for (unsigned i = 0; i < taker->sinks; i++)
        snapshot_encoder_free(&taker->encoders[i]);
    if (taker->changing) {
        taker->changing->data = NULL; /* it may have moved */
        piece_free(taker->changing);
    }
    memory_free(taker->changed.data);
    memory_free(taker->walked.data);
    piece_pool_destroy(&taker->pool);
    memory_free(taker);
}

/* --- To the sinks ----------------------------------------------------------------------------- */

static void push(struct taker *taker, unsigned sink, struct piece *piece) {
    struct transfer *transfer = &taker->transfers[sink];
    piece_queue_push(&transfer->queue, piece);
    taker->pushed = true;
    taker->crowded |=
        piece_queue_memory_bytes(&transfer->queue) > transfer->around.memory_bytes / 2;
}

/* The encoder goes on with the buffer of an empty piece. */
static void push_encoded(struct taker *taker, unsigned sink) {
    struct snapshot_encoder *encoder = &taker->encoders[sink];
    if (encoder->writer.used == 0)
        return;
    struct piece *piece = piece_pool_get(&taker->pool);
    piece->first_database = encoder->first_database;
    piece->last_database = encoder->last_database;
    piece->length = encoder->writer.used;
    snapshot_encoder_exchange(encoder, &piece->data, &piece->room);
    push(taker, sink, piece);
}

/* A piece with so many bytes of room. */
static struct piece *piece_with_room(struct taker *taker, size_t bytes) {
    struct piece *piece = piece_pool_get(&taker->pool);
    if (piece->room < bytes) {
        piece->data = memory_realloc(piece->data, bytes);
        piece->room = bytes;
    }
    return piece;
}

static void push_copies(struct taker *taker, unsigned sink, struct piece *piece) {
    piece->copies = true;
    push(taker, sink, piece);
}

/* Each sink gets a copy of the copies, the last one these. */
static void push_changed(struct taker *taker) {
    struct snapshot_copies *changed = &taker->changed;
    struct piece *piece = taker->changing;
    if (!piece)
        return;
    piece->data = changed->data;
    piece->room = changed->room;
    piece->length = changed->used;
    for (unsigned i = 1; i < taker->sinks; i++) {
        struct piece *other = piece_with_room(taker, piece->length);
        memcpy(other->data, piece->data, piece->length);
        other->length = piece->length;
        push_copies(taker, i, other);
    }
    push_copies(taker, 0, piece);
    taker->changing = NULL;
    *changed = (struct snapshot_copies){0};
}

static void copy_changing(struct taker *taker, unsigned number, const struct object *object,
                          const struct rdb_key_attributes *attributes) {
    struct snapshot_copies *changed = &taker->changed;
    if (!taker->changing) {
        taker->changing = piece_pool_get(&taker->pool);
        changed->data = taker->changing->data;
        changed->room = taker->changing->room;
    }
    snapshot_copy(changed, number, object, attributes);
    if (changed->used >= PIECE_BYTES)
        push_changed(taker);
}

void taker_push_rest(struct taker *taker) {
    if (!taker)
        return;
    ASSERT(taker->walked.used == 0);
    push_changed(taker);
    for (unsigned i = 0; i < taker->sinks; i++)
        push_encoded(taker, i);
    piece_pool_close(&taker->pool);
}

void taker_tell(struct taker *taker) {
    bool crowded = false, behind = false;
    for (unsigned i = 0; i < taker->sinks; i++) {
        struct transfer *transfer = &taker->transfers[i];
        uint64_t bytes = piece_queue_memory_bytes(&transfer->queue),
                 bound = transfer->around.memory_bytes;
        crowded |= bytes > bound / 2;
        behind |= bytes > bound / 8;
        if (!taker->pushed)
            continue;
        sem_post(&transfer->work);
        if (bytes > bound)
            sem_post(transfer->around.look_again);
    }
    taker->pushed = false;
    taker->crowded = crowded;
    taker->behind = behind;
}

/* --- Objects ---------------------------------------------------------------------------------- */

static void lend(struct taker *taker, unsigned number, const struct object *object,
                 const struct rdb_key_attributes *attributes) {
    for (unsigned i = 0; i < taker->sinks; i++)
        if (!transfer_has_failed(&taker->transfers[i]))
            push(taker, i, piece_make_object(number, snapshot_lend(object), attributes));
}

static void encode(struct taker *taker, unsigned number, const struct object *object,
                   const struct rdb_key_attributes *attributes) {
    for (unsigned i = 0; i < taker->sinks; i++) {
        if (transfer_has_failed(&taker->transfers[i]))
            continue;
        snapshot_encode(&taker->encoders[i], number, object, attributes);
        if (taker->encoders[i].writer.used >= PIECE_BYTES)
            push_encoded(taker, i);
    }
}

void take_object(struct taker *taker, enum taking taking, unsigned number,
                 const struct object *object, const struct rdb_key_attributes *attributes) {
    COUNTER_ADD(taker->keys, 1);
    if (!snapshot_is_copied(object)) {
        lend(taker, number, object, attributes);
    } else if (taking == TAKE_ENCODED || (taking == TAKE_TO_SINKS && taker->crowded)) {
        encode(taker, number, object, attributes);
    } else if (taking == TAKE_TO_WALK) {
        snapshot_copy(&taker->walked, number, object, attributes);
    } else {
        copy_changing(taker, number, object, attributes);
    }
}

void taker_encode_walked(struct taker *taker) {
    struct snapshot_copies *walked = &taker->walked;
    for (unsigned i = 0; i < taker->sinks && walked->used > 0; i++) {
        if (transfer_has_failed(&taker->transfers[i]))
            continue;
        snapshot_encode_copies(&taker->encoders[i], walked->data, walked->used);
        if (taker->encoders[i].writer.used >= PIECE_BYTES)
            push_encoded(taker, i);
    }
    walked->used = 0;
}
