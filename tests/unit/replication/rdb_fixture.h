/* Writing into memory and reading from there, in pieces of any size, with a record of what the
 * reader told. Each test program that includes it names rdb_begin and rdb_finish as the init and
 * fini of its suites. */
#ifndef SLOTWISE_TESTS_RDB_FIXTURE_H
#define SLOTWISE_TESTS_RDB_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
#include "engine/types/collection.h"
#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_value.h"
#include "replication/rdb_write.h"

#define NEVER        OBJECT_NO_EXPIRY
#define STRING_BYTES ((uint64_t)512 << 20)

static uint64_t used_before;

static void rdb_begin(void) {
    crc64_init();
    used_before = memory_used_bytes();
}

static void rdb_finish(void) {
    collection_thread_exit();
    cr_assert_eq(memory_used_bytes(), used_before, "something was not freed");
}

/* A sink that gathers; it fails when it has got fail_at bytes. */
struct gathered {
    uint8_t *data;
    size_t length, fail_at;
    unsigned calls;
};

static inline int gather(void *context, const void *data, size_t length) {
    struct gathered *gathered = context;
    gathered->calls++;
    if (gathered->fail_at && gathered->length + length >= gathered->fail_at)
        return -28; /* ENOSPC */
    gathered->data = realloc(gathered->data, gathered->length + length);
    memcpy(gathered->data + gathered->length, data, length);
    gathered->length += length;
    return 0;
}

/* A source that gives piece bytes at a time. */
struct given {
    const uint8_t *data;
    size_t length, position, piece;
};

static inline ssize_t give(void *context, void *data, size_t room) {
    struct given *given = context;
    size_t count = given->length - given->position;
    if (count > room)
        count = room;
    if (given->piece && count > given->piece)
        count = given->piece;
    memcpy(data, given->data + given->position, count);
    given->position += count;
    return (ssize_t)count;
}

/* What a handler was told, as text; values decoded. */
struct told {
    char text[16384];
    size_t length;
    unsigned keys;
    bool skip; /* go past the values */
};

static __attribute__((format(printf, 2, 3))) void tell(struct told *told, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (told->length < sizeof told->text)
        told->length += (size_t)vsnprintf(told->text + told->length,
                                          sizeof told->text - told->length, format, arguments);
    va_end(arguments);
}

static int tell_aux(void *context, const char *name, size_t name_length, const char *value,
                    size_t value_length) {
    tell(context, "aux %.*s=%.*s\n", (int)name_length, name, (int)value_length, value);
    return 0;
}

static int tell_resize(void *context, unsigned database, uint64_t keys, uint64_t expiring) {
    tell(context, "resize %u %llu %llu\n", database, (unsigned long long)keys,
         (unsigned long long)expiring);
    return 0;
}

static int tell_function(void *context, const char *code, size_t length) {
    tell(context, "function %.*s\n", (int)length, code);
    return 0;
}

static int tell_module(void *context, const char *module) {
    tell(context, "module %s\n", module);
    return 0;
}

static int tell_no_checksum(void *context) {
    tell(context, "no checksum\n");
    return 0;
}

static int tell_key(void *context, struct rdb_reader *reader, const struct rdb_entry *entry) {
    struct told *told = context;
    told->keys++;
    if (told->skip)
        return rdb_value_skip(reader, entry->type, entry->key, entry->key_length);
    struct object *object;
    int error = rdb_value_read(reader, entry->type, entry->key, entry->key_length, entry->expiry_ms,
                               &object);
    if (error)
        return error;
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *text = object_string(object, buffer, &length);
    cr_assert(object_key_equals(object, entry->key, entry->key_length));
    tell(told, "%u %.*s=", entry->database, (int)entry->key_length, entry->key);
    if (length > 60)
        tell(told, "(%zu) ", length);
    tell(told, "%.*s %s", length > 60 ? 20 : (int)length, text,
         type_of(object)->encoding_name(object));
    if (object_expiry(object) != NEVER)
        tell(told, " px %lld", (long long)object_expiry(object));
    if (entry->idle_s >= 0)
        tell(told, " idle %lld", (long long)entry->idle_s);
    if (entry->frequency >= 0)
        tell(told, " freq %d", entry->frequency);
    tell(told, "\n");
    object_free(object);
    return 0;
}

static const struct rdb_handler teller = {
    .aux = tell_aux,
    .resize = tell_resize,
    .function = tell_function,
    .module_aux = tell_module,
    .key = tell_key,
    .no_checksum = tell_no_checksum,
};

/* The bytes in pieces, of known length or not; the result of rdb_read, its message in *message. */
static inline int read_all(const void *data, size_t length, size_t piece, bool known,
                           struct told *told, char message[512]) {
    struct given given = {.data = data, .length = length, .piece = piece};
    struct rdb_source source = {.read = give, .context = &given};
    struct rdb_limits limits = {.input_bytes = known ? length : RDB_SIZE_UNKNOWN,
                                .string_bytes = STRING_BYTES,
                                .databases = 16};
    struct rdb_reader reader;
    rdb_reader_init(&reader, &source, &limits, true);
    told->length = told->keys = 0;
    told->text[0] = 0;
    int result = rdb_read(&reader, &teller, told);
    memcpy(message, reader.message, sizeof reader.message);
    rdb_reader_free(&reader);
    return result;
}

/* Bytes put together by hand; the checksum is that of a file without one. */
struct bytes {
    uint8_t data[4096];
    size_t length;
};

static inline void put_bytes(struct bytes *bytes, const void *data, size_t length) {
    cr_assert_leq(bytes->length + length, sizeof bytes->data);
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}
#define PUT(bytes, literal) put_bytes(bytes, literal, sizeof(literal) - 1)
#define FILE_END            "\xff\0\0\0\0\0\0\0\0"

#endif
