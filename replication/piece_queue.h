/* Piece queue: encoded parts of a snapshot on their way from those who take objects to the one who
 * owns a sink. In memory up to a bound, beyond it in an unlinked file, so that no sink is too slow.
 *
 * Algorithm. Anybody pushes onto a stack of one word; the consumer, or who spools, takes the whole
 * stack away and puts it into a list under a lock. What has been spooled is read when the list is
 * empty: the order of pieces is free, since that of keys in a snapshot is. The file is written at
 * its end and read from its beginning, and cut to nothing whenever all of it has been read.
 * Ordering: a push releases what the piece holds, the exchange that takes the stack acquires it.
 * Nobody takes single pieces from the stack, so its addresses may be used again. Progress: a push
 * waits for nobody (under a token it is allowed to), the consumer waits for the disk only.
 * Reclamation: a piece belongs to whoever has got it out. */
#ifndef SLOTWISE_REPLICATION_PIECE_QUEUE_H
#define SLOTWISE_REPLICATION_PIECE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/rdb_write.h"

/* Keys of one or more databases, encoded or still to be; or one key that shares its value. */
struct piece {
    struct piece *next;
    uint32_t first_database, last_database; /* those of its first and last key; not of copies */
    bool copies;                            /* data are copies of objects (snapshot_encode.h) */
    uint8_t *data;                          /* memory_alloc */
    size_t length, room;                    /* room: of data, only with a home */
    struct piece_pool *home;                /* where it goes when it is freed; NULL: nowhere */
    struct object *object; /* not NULL: the key, a copy that shares the value; data is NULL */
    struct rdb_key_attributes attributes; /* of object */
};

struct piece *piece_make(uint32_t first_database, uint32_t last_database, uint8_t *data,
                         size_t length);
struct piece *piece_make_object(uint32_t database, struct object *object,
                                const struct rdb_key_attributes *attributes);
void piece_free(struct piece *piece);

/* Pieces of one thread, which come back to it empty. A worker that took them from the allocator
 * would wait there for the sink's thread, which gives them back: that one may have lost its
 * processor while it holds one of the allocator's locks, and does not get it back before those who
 * have more right to it have had enough. The pool outlives its pieces. */
struct piece_pool {
    struct piece *empty;              /* of the thread */
    struct piece *_Atomic given_back; /* pushed to by anybody, taken all at once by the thread */
    _Atomic bool closed;              /* the thread takes no more: nothing is kept any longer */
};
#define PIECE_ROOM_BYTES ((size_t)80 * 1024) /* of an empty piece at least */

/* The pool's thread. */
struct piece *piece_pool_get(struct piece_pool *pool);
/* From now on pieces are freed. In an exclusive section. */
void piece_pool_close(struct piece_pool *pool);
void piece_pool_destroy(struct piece_pool *pool);

/* The piece's object is a collection with more behind its pointer than should be in memory as bytes
 * at once. What a lent one consists of is the key's as well until that changes, so nothing would be
 * won by spooling it. */
bool piece_is_large(const struct piece *piece);

/* Puts the piece's object into bytes: data and length instead of object. */
typedef void piece_encode(void *context, struct piece *piece);

struct piece_queue {
    struct piece *_Atomic pushed;   /* anybody */
    _Atomic uint64_t memory_bytes;  /* of pieces that are in memory; anybody */
    _Atomic uint64_t spooled_bytes; /* that are in the file; under spool_lock */
    const char *directory;          /* of the file */
    pthread_mutex_t lock;
    struct piece *first; /* under lock */
    /* One piece is written or read under it. */
    pthread_mutex_t spool_lock;
    int spool_fd; /* -1: there is no file yet */
    uint64_t write_offset, read_offset;
    struct {
        char *bytes;
        size_t room;
    } scratch;
};

/* directory lives as long as the queue. */
void piece_queue_init(struct piece_queue *queue, const char *directory);
void piece_queue_destroy(struct piece_queue *queue); /* with what is in it */

/* Any thread, also under tokens. */
void piece_queue_push(struct piece_queue *queue, struct piece *piece);

/* The consumer. 1 and a piece, 0: there is none now, or the file's negative errno. */
int piece_queue_pop(struct piece_queue *queue, struct piece **piece);

/* Writes pieces, but no large ones, to the file until at most limit_bytes are left in memory. One
 * thread at a time, beside the consumer; while it runs, pieces may be in neither place. 0, or a
 * negative errno: the piece is lost. */
int piece_queue_spool(struct piece_queue *queue, uint64_t limit_bytes, piece_encode *encode,
                      void *context);

static inline uint64_t piece_queue_memory_bytes(const struct piece_queue *queue) {
    return atomic_load_explicit(&queue->memory_bytes, memory_order_relaxed);
}

#endif
