/* DUMP payloads as RESTORE gets them: arbitrary bytes, behind which the right version and checksum
 * are put, since hardly anything else would get past them. What is restored is written again and
 * must be restored to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"

#define STRING_BYTES (1 << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    crc64_init();
    return 0;
}

static void check_same(const struct object *a, const struct object *b) {
    char buffer_a[OBJECT_INTEGER_BUFFER], buffer_b[OBJECT_INTEGER_BUFFER];
    size_t length_a, length_b;
    const char *text_a = object_string(a, buffer_a, &length_a);
    const char *text_b = object_string(b, buffer_b, &length_b);
    ASSERT(length_a == length_b && object_encoding(a) == object_encoding(b));
    ASSERT(length_a == 0 || memcmp(text_a, text_b, length_a) == 0);
}

static void check_again(const struct object *object, bool compression) {
    struct rdb_writer writer;
    struct object *again;
    rdb_writer_init(&writer, NULL, compression, true);
    rdb_write_payload(&writer, object);
    ASSERT(rdb_payload_is_whole(writer.buffer, writer.used));
    ASSERT(rdb_payload_read(writer.buffer, writer.used, STRING_BYTES, "key", 3, OBJECT_NO_EXPIRY,
                            &again) == 0);
    check_same(object, again);
    object_free(again);
    rdb_writer_free(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    uint64_t used = memory_used_bytes();
    (void)rdb_payload_is_whole(bytes, size);
    size_t length = size + RDB_PAYLOAD_FOOTER_BYTES;
    uint8_t *payload = malloc(length);
    if (size > 0)
        memcpy(payload, bytes, size);
    payload[size] = RDB_VERSION_READ_MAX;
    payload[size + 1] = 0;
    uint64_t crc = crc64(0, payload, size + 2);
    memcpy(payload + size + 2, &crc, 8);
    ASSERT(rdb_payload_is_whole(payload, length));
    struct object *object;
    int error =
        rdb_payload_read(payload, length, STRING_BYTES, "key", 3, OBJECT_NO_EXPIRY, &object);
    ASSERT(error <= 0 && error >= RDB_ERROR_REFUSED);
    free(payload);
    if (error == 0) {
        check_again(object, size % 2);
        object_free(object);
    }
    ASSERT(memory_used_bytes() == used);
    return 0;
}
