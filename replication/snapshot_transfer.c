/* The way of a snapshot to one sink: a thread that takes pieces out of the sink's queue and hands
 * their bytes to it, until the walk says that no more come.
 *
 * Run by: the transfer's own thread (transfer_main and what it calls), the walk's thread (start,
 * close, relieve). */
#include "replication/snapshot_transfer.h"

#include <errno.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/value.h"

void transfer_init(struct transfer *transfer, const struct transfer_surroundings *around,
                   const struct snapshot_sink *sink) {
    transfer->around = *around;
    transfer->sink = *sink;
    transfer->database = SNAPSHOT_NO_DATABASE;
    piece_queue_init(&transfer->queue, around->spool_directory);
    sem_init(&transfer->work, 0, 0);
    snapshot_encoder_init(&transfer->encoder, sink->form, sink->compression);
}

void transfer_destroy(struct transfer *transfer) {
    piece_queue_destroy(&transfer->queue);
    sem_destroy(&transfer->work);
    snapshot_encoder_free(&transfer->encoder);
}

void transfer_fail(struct transfer *transfer, int error) {
    int none = 0;
    ASSERT(error < 0);
    atomic_compare_exchange_strong(&transfer->error, &none, error);
    sem_post(transfer->around.look_again);
}

void transfer_close(struct transfer *transfer) {
    atomic_store_explicit(&transfer->closed, true, memory_order_release);
    sem_post(&transfer->work);
}

/* --- Pieces ----------------------------------------------------------------------------------- */

/* The bytes of a lent object, by an encoder of the calling thread. */
static void encode_object(void *context, struct piece *piece) {
    const struct transfer *transfer = context;
    struct snapshot_encoder encoder;
    snapshot_encoder_init(&encoder, transfer->sink.form, transfer->sink.compression);
    snapshot_encode(&encoder, piece->first_database, piece->object, &piece->attributes);
    object_free(piece->object);
    piece->object = NULL;
    piece->data = rdb_writer_take(&encoder.writer, 1, &piece->length);
    snapshot_encoder_free(&encoder);
}

static int write_database(const struct transfer *transfer, uint32_t database) {
    const struct snapshot_sink *sink = &transfer->sink;
    struct rdb_writer writer;
    rdb_writer_init(&writer, NULL, false, false);
    sink->form->database(&writer, database);
    int error = sink->write(sink->context, writer.buffer, writer.used);
    rdb_writer_free(&writer);
    return error;
}

static int write_bytes(struct transfer *transfer, uint32_t first_database, uint32_t last_database,
                       const uint8_t *data, size_t length) {
    const struct snapshot_sink *sink = &transfer->sink;
    int error = 0;
    if (first_database != transfer->database)
        error = write_database(transfer, first_database);
    transfer->database = last_database;
    return error ? error : sink->write(sink->context, data, length);
}

/* A large collection goes to the sink while it is encoded. */
static int write_large(struct transfer *transfer, const struct piece *piece) {
    const struct snapshot_sink *sink = &transfer->sink;
    const struct rdb_sink to = {.write = sink->write, .context = sink->context};
    struct rdb_writer writer;
    rdb_writer_init(&writer, &to, sink->compression, false);
    if (piece->first_database != transfer->database)
        sink->form->database(&writer, piece->first_database);
    transfer->database = piece->first_database;
    sink->form->object(&writer, piece->object, &piece->attributes);
    rdb_write_flush(&writer);
    int error = writer.error;
    rdb_writer_free(&writer);
    return error;
}

static int write_piece(struct transfer *transfer, const struct piece *piece) {
    struct snapshot_encoder *encoder = &transfer->encoder;
    if (piece_is_large(piece))
        return write_large(transfer, piece);
    if (!piece->object && !piece->copies)
        return write_bytes(transfer, piece->first_database, piece->last_database, piece->data,
                           piece->length);
    snapshot_encoder_reset(encoder);
    if (piece->object)
        snapshot_encode(encoder, piece->first_database, piece->object, &piece->attributes);
    else
        snapshot_encode_copies(encoder, piece->data, piece->length);
    int error = write_bytes(transfer, encoder->first_database, encoder->last_database,
                            encoder->writer.buffer, encoder->writer.used);
    snapshot_encoder_trim(encoder);
    return error;
}

void transfer_relieve(struct transfer *transfer) {
    uint64_t limit_bytes = transfer->around.memory_bytes;
    if (transfer_has_failed(transfer) || piece_queue_memory_bytes(&transfer->queue) <= limit_bytes)
        return;
    int error = piece_queue_spool(&transfer->queue, limit_bytes, encode_object, transfer);
    if (error)
        transfer_fail(transfer, error);
    sem_post(&transfer->work);
}

/* --- The thread ------------------------------------------------------------------------------- */

/* One piece, if there is one. false: there is none. */
static bool transfer_piece(struct transfer *transfer) {
    struct piece *piece;
    int result = piece_queue_pop(&transfer->queue, &piece);
    if (result < 0) {
        transfer_fail(transfer, result);
        return false;
    }
    if (result == 0)
        return false;
    int error = transfer_has_failed(transfer) ? 0 : write_piece(transfer, piece);
    piece_free(piece);
    if (error)
        transfer_fail(transfer, error);
    return true;
}

/* The first post says that the cut has been made, or that it never will be. */
static void transfer_wait(struct transfer *transfer) {
    while (sem_wait(&transfer->work) != 0)
        ;
    if (atomic_load(transfer->around.aborted))
        transfer_fail(transfer, -ECANCELED);
}

void transfer_end(struct transfer *transfer) {
    const struct snapshot_sink *sink = &transfer->sink;
    /* Set before the queue was closed. */
    if (atomic_load(transfer->around.aborted))
        transfer_fail(transfer, -ECANCELED);
    int error = atomic_load(&transfer->error);
    if (!error)
        error = sink->close(sink->context);
    ASSERT(error <= 0);
    sink->done(sink->context, error);
    transfer->around.ended(transfer->around.walk);
}

void transfer_run(struct transfer *transfer) {
    transfer_wait(transfer);
    int error = transfer_has_failed(transfer)
                    ? 0
                    : transfer->sink.open(transfer->sink.context, transfer->around.cut);
    if (error)
        transfer_fail(transfer, error);
    for (;;) {
        bool closed = atomic_load_explicit(&transfer->closed, memory_order_acquire);
        if (transfer_piece(transfer))
            continue;
        if (closed)
            break;
        transfer_wait(transfer);
    }
    transfer_end(transfer);
}
