/* The RDB reader on arbitrary bytes.
 *
 * The first byte of the input chooses the size of the pieces in which the source gives the rest,
 * whether its length is known, and whether the checksum is looked at (most inputs would end there).
 * Checked: every result is one of those that there are and has its message, the same input gives
 * the same keys whether their values are read or passed over, and all memory comes back. */
#include <stdint.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/collection.h"
#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_value.h"

struct input {
    const uint8_t *data;
    size_t length, piece;
};

static ssize_t give(void *context, void *data, size_t room) {
    struct input *input = context;
    size_t count = input->length < room ? input->length : room;
    if (count > input->piece)
        count = input->piece;
    memcpy(data, input->data, count);
    input->data += count;
    input->length -= count;
    return (ssize_t)count;
}

struct seen {
    bool skip;
    uint64_t keys, sum;
};

static int see_key(void *context, struct rdb_reader *reader, const struct rdb_entry *entry) {
    struct seen *seen = context;
    int error;
    ASSERT(entry->database < 16 && entry->frequency < 256);
    if (seen->skip) {
        rdb_keep_begin(reader);
        error = rdb_value_skip(reader, entry->type, entry->key, entry->key_length);
        size_t length;
        rdb_keep_end(reader, &length);
        ASSERT(error || length > 0);
    } else {
        struct object *object;
        error = rdb_value_read(reader, entry->type, entry->key, entry->key_length, entry->expiry_ms,
                               &object);
        if (error == RDB_ERROR_EMPTY) {
            reader->message[0] = 0; /* the file goes on */
            error = 0;
        } else if (error == 0) {
            ASSERT(object_type(object) <= OBJECT_HASH);
            ASSERT(object_key_equals(object, entry->key, entry->key_length));
            object_free(object);
        }
    }
    if (error == 0) {
        seen->keys++;
        seen->sum = crc64(seen->sum, entry->key, entry->key_length);
    }
    return error;
}

static int see_aux(void *context, const char *name, size_t name_length, const char *value,
                   size_t value_length) {
    struct seen *seen = context;
    seen->sum = crc64(seen->sum, name, name_length);
    seen->sum = crc64(seen->sum, value, value_length);
    return 0;
}

static int run(const uint8_t *data, size_t size, uint8_t choice, struct seen *seen) {
    static const struct rdb_handler handler = {.aux = see_aux, .key = see_key};
    struct input input = {.data = data, .length = size, .piece = choice & 4 ? 1 : 65536};
    struct rdb_source source = {.read = give, .context = &input};
    struct rdb_limits limits = {.input_bytes = choice & 1 ? size : RDB_SIZE_UNKNOWN,
                                .string_bytes = 1 << 20,
                                .databases = 16};
    struct rdb_reader reader;
    rdb_reader_init(&reader, &source, &limits, choice & 2);
    int result = rdb_read(&reader, &handler, seen);
    ASSERT(result <= 0 && result >= RDB_ERROR_DATABASE && result != RDB_ERROR_READ);
    ASSERT((result == 0) == (reader.message[0] == 0));
    rdb_reader_free(&reader);
    return result;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    crc64_init();
    collection_limits = (struct collection_limits){3, 10, 5, 3, 10, 3, 10, -1, 0};
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1)
        return 0;
    uint64_t used = memory_used_bytes();
    struct seen read = {.skip = false}, skipped = {.skip = true};
    int result = run(bytes + 1, size - 1, bytes[0], &read);
    int other = run(bytes + 1, size - 1, bytes[0], &skipped);
    /* What is packed wrongly is seen only by who unpacks it. */
    if (result == 0)
        ASSERT(other == 0 && read.keys == skipped.keys && read.sum == skipped.sum);
    collection_thread_exit();
    ASSERT(memory_used_bytes() == used);
    return 0;
}
