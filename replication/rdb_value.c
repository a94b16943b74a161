/* RDB values, by type: one function to write, one to read, one to skip. Strings are here,
 * collections in rdb_collection_read.c and rdb_collection_write.c. */
#include "replication/rdb_value.h"

#include <stdio.h>

#include <lzf.h>

#include "engine/assert.h"
#include "engine/value.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"

/* Longer ones are read into their object directly, shorter ones by way of the reader's window. */
#define DIRECT_BYTES (32 * 1024)

enum rdb_type rdb_value_type(const struct object *object) {
    return object_type(object) == OBJECT_STRING ? RDB_TYPE_STRING : rdb_collection_type(object);
}

/* --- Strings ---------------------------------------------------------------------------------- */

static void string_write(struct rdb_writer *writer, const struct object *object) {
    if (object_encoding(object) == ENCODING_INT) {
        rdb_write_integer(writer, object_integer(object));
        return;
    }
    char buffer[OBJECT_INTEGER_BUFFER];
    size_t length;
    const char *text = object_string(object, buffer, &length);
    rdb_write_string(writer, text, length);
}

/* A string of any form is stored as SET would: as an integer if it is one. */
static int string_read_packed(struct rdb_reader *reader, const struct rdb_string *string,
                              const char *key, size_t key_length, int64_t expiry_ms,
                              struct object **object) {
    const uint8_t *packed;
    int error = rdb_read_window(reader, string->packed_length, &packed);
    if (error)
        return error;
    char small[OBJECT_EMBSTR_MAX_BYTES], *content = small;
    struct object *made = NULL;
    if (string->length > sizeof small)
        made = object_make_buffer(key, key_length, string->length, expiry_ms, false, &content);
    if (lzf_decompress(packed, (unsigned)string->packed_length, content,
                       (unsigned)string->length) != string->length) {
        if (made)
            object_free(made);
        return rdb_corrupt(reader, "Invalid LZF compressed string");
    }
    *object =
        made ? made
             : object_make_string(key, key_length, small, string->length, expiry_ms, STRING_SET);
    return 0;
}

static int string_read(struct rdb_reader *reader, const char *key, size_t key_length,
                       int64_t expiry_ms, struct object **object) {
    struct rdb_string string;
    int error = rdb_read_string_head(reader, &string);
    if (error)
        return error;
    if (string.form == RDB_STRING_INTEGER) {
        *object = object_make_integer(key, key_length, string.integer, expiry_ms);
        return 0;
    }
    if (string.form == RDB_STRING_LZF)
        return string_read_packed(reader, &string, key, key_length, expiry_ms, object);
    if (string.length <= DIRECT_BYTES) {
        const uint8_t *text;
        error = rdb_read_window(reader, string.length, &text);
        if (error == 0)
            *object = object_make_string(key, key_length, (const char *)text, string.length,
                                         expiry_ms, STRING_SET);
        return error;
    }
    char *content;
    struct object *made =
        object_make_buffer(key, key_length, string.length, expiry_ms, false, &content);
    error = rdb_read_bytes(reader, content, string.length);
    if (error)
        object_free(made);
    else
        *object = made;
    return error;
}

/* --- All types -------------------------------------------------------------------------------- */

/* What a type that there is not yet is called; NULL: no such type. */
static const char *type_description(unsigned type) {
    switch (type) {
    case RDB_TYPE_STREAM_LISTPACKS:
    case RDB_TYPE_STREAM_LISTPACKS_2:
    case RDB_TYPE_STREAM_LISTPACKS_3:
        return "a stream";
    case RDB_TYPE_MODULE_PRE_GA:
    case RDB_TYPE_MODULE_2:
        return "a value of a module";
    default:
        return NULL;
    }
}

static int refuse_type(struct rdb_reader *reader, unsigned type, const char *key,
                       size_t key_length) {
    const char *description = type_description(type);
    if (!description) {
        char reason[64];
        snprintf(reason, sizeof reason, "Unknown RDB encoding type %u", type);
        return rdb_corrupt(reader, reason);
    }
    return rdb_refuse(reader, description, key, key_length);
}

void rdb_value_write(struct rdb_writer *writer, const struct object *object) {
    if (object_type(object) == OBJECT_STRING)
        string_write(writer, object);
    else
        rdb_collection_write(writer, object);
}

int rdb_value_read(struct rdb_reader *reader, unsigned type, const char *key, size_t key_length,
                   int64_t expiry_ms, struct object **object) {
    if (type == RDB_TYPE_STRING)
        return string_read(reader, key, key_length, expiry_ms, object);
    if (rdb_collection_has(type))
        return rdb_collection_read(reader, type, key, key_length, expiry_ms, object);
    return refuse_type(reader, type, key, key_length);
}

int rdb_value_skip(struct rdb_reader *reader, unsigned type, const char *key, size_t key_length) {
    if (type == RDB_TYPE_STRING)
        return rdb_skip_string(reader);
    if (rdb_collection_has(type))
        return rdb_collection_skip(reader, type);
    return refuse_type(reader, type, key, key_length);
}
