/* See piece_queue.h. */
#include "replication/piece_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <lz4.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/value.h"

#define LARGE_BYTES     ((size_t)256 * 1024)
#define ROOM_KEPT_BYTES ((size_t)256 * 1024) /* of a piece that has grown */

/* What stands before a piece in the file, which nobody else reads. */
struct spooled {
    uint32_t first_database, last_database;
    uint64_t length, stored; /* equal: as it is; else LZ4 */
    bool copies;
};

/* --- Pieces ----------------------------------------------------------------------------------- */

struct piece *piece_make(uint32_t first_database, uint32_t last_database, uint8_t *data,
                         size_t length) {
    struct piece *piece = memory_alloc(sizeof *piece);
    *piece = (struct piece){.first_database = first_database,
                            .last_database = last_database,
                            .data = data,
                            .length = length};
    return piece;
}

struct piece *piece_make_object(uint32_t database, struct object *object,
                                const struct rdb_key_attributes *attributes) {
    struct piece *piece = piece_make(database, database, NULL, 0);
    piece->object = object;
    piece->attributes = *attributes;
    return piece;
}

static void release(struct piece *piece) {
    memory_free(piece->data);
    memory_free(piece);
}

void piece_free(struct piece *piece) {
    struct piece_pool *home = piece->home;
    if (piece->object)
        object_free(piece->object);
    if (!home || piece->room > ROOM_KEPT_BYTES ||
        atomic_load_explicit(&home->closed, memory_order_relaxed)) {
        release(piece);
        return;
    }
    piece->next = atomic_load_explicit(&home->given_back, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&home->given_back, &piece->next, piece,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

struct piece *piece_pool_get(struct piece_pool *pool) {
    if (!pool->empty)
        pool->empty = atomic_exchange_explicit(&pool->given_back, NULL, memory_order_acquire);
    struct piece *piece = pool->empty;
    if (piece) {
        pool->empty = piece->next;
        *piece = (struct piece){.data = piece->data, .room = piece->room, .home = pool};
        return piece;
    }
    piece = piece_make(0, 0, memory_alloc(PIECE_ROOM_BYTES), 0);
    piece->room = PIECE_ROOM_BYTES;
    piece->home = pool;
    return piece;
}

void piece_pool_close(struct piece_pool *pool) {
    atomic_store_explicit(&pool->closed, true, memory_order_relaxed);
}

static void release_chain(struct piece *piece) {
    while (piece) {
        struct piece *next = piece->next;
        release(piece);
        piece = next;
    }
}

void piece_pool_destroy(struct piece_pool *pool) {
    release_chain(pool->empty);
    release_chain(atomic_load_explicit(&pool->given_back, memory_order_acquire));
}

bool piece_is_large(const struct piece *piece) {
    const struct object *object = piece->object;
    return object && object_type(object) != OBJECT_STRING &&
           object_total_bytes(object) > LARGE_BYTES;
}

/* What spooling it would save. */
static uint64_t piece_bytes(const struct piece *piece) {
    if (!piece->object || piece_is_large(piece))
        return piece->length;
    return piece->length + object_total_bytes(piece->object);
}

/* --- In memory -------------------------------------------------------------------------------- */

void piece_queue_init(struct piece_queue *queue, const char *directory) {
    *queue = (struct piece_queue){.directory = directory, .spool_fd = -1};
    pthread_mutex_init(&queue->lock, NULL);
    pthread_mutex_init(&queue->spool_lock, NULL);
}

static void free_chain(struct piece *piece) {
    while (piece) {
        struct piece *next = piece->next;
        piece_free(piece);
        piece = next;
    }
}

void piece_queue_destroy(struct piece_queue *queue) {
    free_chain(atomic_load_explicit(&queue->pushed, memory_order_acquire));
    free_chain(queue->first);
    if (queue->spool_fd >= 0)
        close(queue->spool_fd);
    memory_free(queue->scratch.bytes);
    pthread_mutex_destroy(&queue->lock);
    pthread_mutex_destroy(&queue->spool_lock);
}

void piece_queue_push(struct piece_queue *queue, struct piece *piece) {
    atomic_fetch_add_explicit(&queue->memory_bytes, piece_bytes(piece), memory_order_relaxed);
    piece->next = atomic_load_explicit(&queue->pushed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&queue->pushed, &piece->next, piece,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

static struct piece *take_from_memory(struct piece_queue *queue) {
    pthread_mutex_lock(&queue->lock);
    if (!queue->first)
        queue->first = atomic_exchange_explicit(&queue->pushed, NULL, memory_order_acquire);
    struct piece *piece = queue->first;
    if (piece)
        queue->first = piece->next;
    pthread_mutex_unlock(&queue->lock);
    if (piece)
        atomic_fetch_sub_explicit(&queue->memory_bytes, piece_bytes(piece), memory_order_relaxed);
    return piece;
}

/* --- In the file ------------------------------------------------------------------------------ */

/* 0 or a negative errno. */
static int spool_open(struct piece_queue *queue) {
    if (queue->spool_fd >= 0)
        return 0;
    queue->spool_fd = open(queue->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (queue->spool_fd >= 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
        return -errno;
    char path[4096]; /* a file system without files that have no name */
    snprintf(path, sizeof path, "%s/slotwise-spool-XXXXXX", queue->directory);
    queue->spool_fd = mkostemp(path, O_CLOEXEC);
    if (queue->spool_fd < 0)
        return -errno;
    unlink(path);
    return 0;
}

static int write_all(int fd, const void *data, size_t length, uint64_t offset) {
    for (size_t done = 0; done < length;) {
        ssize_t n = pwrite(fd, (const char *)data + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int read_all(int fd, void *data, size_t length, uint64_t offset) {
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, (char *)data + done, length - done, (off_t)(offset + done));
        if (n == 0)
            return -EIO;
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static char *scratch_of(struct piece_queue *queue, size_t room) {
    if (queue->scratch.room < room) {
        memory_free(queue->scratch.bytes);
        queue->scratch.bytes = memory_alloc(room);
        queue->scratch.room = room;
    }
    return queue->scratch.bytes;
}

/* Under spool_lock. */
static int spool_write(struct piece_queue *queue, const struct piece *piece) {
    int error = spool_open(queue);
    if (error)
        return error;
    struct spooled head = {piece->first_database, piece->last_database, piece->length,
                           piece->length, piece->copies};
    const void *stored = piece->data;
    if (piece->length <= LZ4_MAX_INPUT_SIZE) {
        char *packed = scratch_of(queue, piece->length);
        int length =
            LZ4_compress_default((const char *)piece->data, packed, (int)piece->length,
                                 (int)piece->length - 1); /* 0: it would not become smaller */
        if (length > 0) {
            head.stored = (uint64_t)length;
            stored = packed;
        }
    }
    error = write_all(queue->spool_fd, &head, sizeof head, queue->write_offset);
    if (!error)
        error = write_all(queue->spool_fd, stored, head.stored, queue->write_offset + sizeof head);
    if (error)
        return error;
    queue->write_offset += sizeof head + head.stored;
    atomic_store_explicit(&queue->spooled_bytes, queue->write_offset - queue->read_offset,
                          memory_order_relaxed);
    return 0;
}

/* Under spool_lock. */
static int spool_read(struct piece_queue *queue, struct piece **piece) {
    struct spooled head;
    if (queue->read_offset == queue->write_offset)
        return 0;
    int error = read_all(queue->spool_fd, &head, sizeof head, queue->read_offset);
    if (error)
        return error;
    uint64_t offset = queue->read_offset + sizeof head;
    uint8_t *data = memory_alloc(head.length ? head.length : 1);
    *piece = piece_make(head.first_database, head.last_database, data, head.length);
    (*piece)->copies = head.copies;
    if (head.stored == head.length) {
        error = read_all(queue->spool_fd, data, head.length, offset);
    } else {
        char *packed = scratch_of(queue, head.stored);
        error = read_all(queue->spool_fd, packed, head.stored, offset);
        if (!error && LZ4_decompress_safe(packed, (char *)data, (int)head.stored,
                                          (int)head.length) != (int)head.length)
            error = -EIO;
    }
    if (error) {
        piece_free(*piece);
        return error;
    }
    queue->read_offset = offset + head.stored;
    if (queue->read_offset == queue->write_offset) {
        queue->read_offset = queue->write_offset = 0;
        int ignored = ftruncate(queue->spool_fd, 0); /* if not: its place is used again */
        (void)ignored;
    }
    atomic_store_explicit(&queue->spooled_bytes, queue->write_offset - queue->read_offset,
                          memory_order_relaxed);
    return 1;
}

/* --- Both ------------------------------------------------------------------------------------- */

int piece_queue_pop(struct piece_queue *queue, struct piece **piece) {
    *piece = take_from_memory(queue);
    if (*piece)
        return 1;
    pthread_mutex_lock(&queue->spool_lock);
    int result = spool_read(queue, piece);
    pthread_mutex_unlock(&queue->spool_lock);
    return result;
}

int piece_queue_spool(struct piece_queue *queue, uint64_t limit_bytes, piece_encode *encode,
                      void *context) {
    int error = 0;
    struct piece *kept = NULL;
    while (!error && piece_queue_memory_bytes(queue) > limit_bytes) {
        struct piece *piece = take_from_memory(queue);
        if (!piece)
            break;
        if (piece_is_large(piece)) {
            piece->next = kept;
            kept = piece;
            continue;
        }
        if (piece->object)
            encode(context, piece);
        ASSERT(!piece->object);
        pthread_mutex_lock(&queue->spool_lock);
        error = spool_write(queue, piece);
        pthread_mutex_unlock(&queue->spool_lock);
        piece_free(piece);
    }
    while (kept) {
        struct piece *piece = kept;
        kept = piece->next;
        piece_queue_push(queue, piece);
    }
    return error;
}
