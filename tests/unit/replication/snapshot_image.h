/* A sink that keeps a snapshot as an RDB in memory, and what is in it as lines to compare: one for
 * each key, with its database, its time to live and its value. */
#ifndef SLOTWISE_TESTS_SNAPSHOT_IMAGE_H
#define SLOTWISE_TESTS_SNAPSHOT_IMAGE_H

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_value.h"
#include "replication/snapshot_rdb.h"
#include "replication/snapshot_walk.h"

/* --- Lines ------------------------------------------------------------------------------------ */

struct lines {
    char (*of)[160];
    size_t count, room;
};

static inline void lines_add(struct lines *lines, unsigned database, const struct object *object) {
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t key_length, length;
    const char *key = object_key(object, &key_length);
    const char *value = object_string(object, buffer, &length);
    if (lines->count == lines->room) {
        lines->room = lines->room ? lines->room * 2 : 256;
        lines->of = realloc(lines->of, lines->room * sizeof *lines->of);
    }
    snprintf(lines->of[lines->count++], sizeof *lines->of, "%u %.*s %lld %zu %llx", database,
             (int)(key_length < 80 ? key_length : 80), key, (long long)object_expiry(object),
             length, (unsigned long long)crc64(0, value, length));
}

static inline void lines_free(struct lines *lines) {
    free(lines->of);
    *lines = (struct lines){0};
}

static inline int lines_compare(const void *a, const void *b) {
    return strcmp(a, b);
}

static inline void lines_sort(struct lines *lines) {
    if (lines->count > 0)
        qsort(lines->of, lines->count, sizeof *lines->of, lines_compare);
}

/* Both are sorted. */
static inline void lines_are_equal(const struct lines *actual, const struct lines *expected) {
    for (size_t i = 0; i < actual->count && i < expected->count; i++)
        cr_assert_str_eq(actual->of[i], expected->of[i]);
    cr_assert_eq(actual->count, expected->count, "%zu instead of %zu keys; %s", actual->count,
                 expected->count,
                 actual->count > expected->count ? actual->of[expected->count]
                                                 : expected->of[actual->count]);
}

struct lines_visit {
    struct lines *lines;
    unsigned database;
};

static void lines_visit_object(struct object *object, uint64_t hash, void *context) {
    const struct lines_visit *visit = context;
    (void)hash;
    lines_add(visit->lines, visit->database, object);
}

/* All keys of a keyspace that nobody changes. */
static inline void lines_of_keyspace(struct lines *lines, const struct keyspace *from) {
    for (unsigned i = 0; i < from->databases; i++)
        for (uint32_t slot = 0; slot < SLOT_COUNT; slot++) {
            const table_root *root = keyspace_root(from, i, slot);
            struct lines_visit visit = {lines, i};
            uint64_t next = 0;
            do
                if (root)
                    table_walk(root, next, 0, SIZE_MAX, SIZE_MAX, false, lines_visit_object, &visit,
                               &next);
            while (next != 0);
        }
    lines_sort(lines);
}

/* --- The sink --------------------------------------------------------------------------------- */

/* What it is to fail in; each with its own error. */
enum image_fault { IMAGE_NO_FAULT, IMAGE_OPEN = 2, IMAGE_WRITE = 5, IMAGE_CLOSE = 28 };

struct image {
    struct rdb_writer writer;
    struct snapshot_cut cut; /* the numbers; of is not kept */
    enum image_fault fault;
    sem_t *slow; /* not NULL: each write waits for a post */
    unsigned cuts, opens, writes, closes;
    bool has_writer;
    int error; /* when done is set */
    _Atomic bool done;
};

static void image_cut(void *context, const struct snapshot_cut *cut) {
    struct image *image = context;
    image->cut = *cut;
    image->cuts++;
}

static int image_open(void *context, const struct snapshot_cut *cut) {
    struct image *image = context;
    struct rdb_info info = {.server_version = "7.2.4", .stream_database = -1};
    image->opens++;
    if (image->fault == IMAGE_OPEN)
        return -IMAGE_OPEN;
    rdb_writer_init(&image->writer, NULL, false, true);
    image->has_writer = true;
    snapshot_rdb_begin(&image->writer, &info, cut);
    return 0;
}

static int image_write(void *context, const void *data, size_t length) {
    struct image *image = context;
    image->writes++;
    if (image->slow)
        sem_wait(image->slow);
    if (image->fault == IMAGE_WRITE)
        return -IMAGE_WRITE;
    rdb_write_bytes(&image->writer, data, length);
    return 0;
}

static int image_close(void *context) {
    struct image *image = context;
    image->closes++;
    if (image->fault == IMAGE_CLOSE)
        return -IMAGE_CLOSE;
    return rdb_write_end(&image->writer);
}

static void image_done(void *context, int error) {
    struct image *image = context;
    image->error = error;
    atomic_store(&image->done, true);
}

static inline struct snapshot_sink image_sink(struct image *image) {
    return (struct snapshot_sink){&snapshot_rdb_form, true,        image_cut,  image_open,
                                  image_write,        image_close, image_done, image};
}

static inline void image_free(struct image *image) {
    if (image->has_writer)
        rdb_writer_free(&image->writer);
    *image = (struct image){0};
}

static int image_key(void *context, struct rdb_reader *reader, const struct rdb_entry *entry) {
    struct object *object;
    int error = rdb_value_read(reader, entry->type, entry->key, entry->key_length, entry->expiry_ms,
                               &object);
    if (error)
        return error;
    lines_add(context, entry->database, object);
    object_free(object);
    return 0;
}

/* The keys of a snapshot that is whole. */
static inline void lines_of_image(struct lines *lines, const struct image *image) {
    const struct rdb_handler handler = {.key = image_key};
    struct rdb_reader reader;
    cr_assert_eq(image->error, 0);
    rdb_reader_init_memory(&reader, image->writer.buffer, image->writer.used, 512 << 20);
    int error = rdb_read(&reader, &handler, lines);
    cr_assert_eq(error, 0, "%s", reader.message);
    rdb_reader_free(&reader);
    lines_sort(lines);
}

#endif
