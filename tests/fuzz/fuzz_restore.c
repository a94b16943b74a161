/* DUMP payloads as RESTORE gets them: arbitrary bytes, behind which the right version and checksum
 * are put, since hardly anything else would get past them. What is restored is written again and
 * must be restored to the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/collection.h"
#include "engine/types/field_times.h"
#include "engine/value.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"

#define STRING_BYTES (1 << 20)

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    crc64_init();
    /* Small, so that conversions are frequent. */
    collection_limits = (struct collection_limits){3, 10, 5, 3, 10, 3, 10, -1, 0};
    return 0;
}

/* What a value consists of, in an order or, of sets and hashes, in none. */
struct content {
    bool ordered;
    uint64_t sum, elements;
    const struct collection *body; /* for add_time */
};

static bool add_element(void *context, const struct element *member, const struct element *value,
                        double score) {
    struct content *content = context;
    char room[LISTPACK_INTEGER_ROOM];
    size_t length;
    const char *text = element_text(member, room, &length);
    ASSERT(element_equals(member, text, length));
    uint64_t one = crc64(length, text, length);
    if (value) {
        text = element_text(value, room, &length);
        one = crc64(one, text, length);
    }
    one = crc64(one, &score, sizeof score);
    content->sum = content->ordered ? content->sum * 31 + one : content->sum + one;
    content->elements++;
    return true;
}

/* When the fields of a hash expire. */
static bool add_time(void *context, const struct element *field, const struct element *value,
                     double score) {
    struct content *content = context;
    int64_t time_ms = -1;
    (void)value, (void)score;
    field_times_get(content->body, field->data, field->length, &time_ms);
    uint64_t one = crc64(0, field->data, field->length);
    content->sum += crc64(one, &time_ms, sizeof time_ms);
    return true;
}

static struct content content_of(const struct object *object) {
    enum object_type type = object_type(object);
    struct content content = {.ordered = type == OBJECT_LIST || type == OBJECT_ZSET};
    ASSERT(type == OBJECT_LIST || type == OBJECT_SET || type == OBJECT_ZSET || type == OBJECT_HASH);
    collection_check(object);
    collection_visit_all(object, add_element, &content);
    if (object_has_field_times(object)) {
        content.body = collection_body(object);
        collection_visit_all(object, add_time, &content);
    }
    ASSERT(content.elements > 0);
    return content;
}

static void check_same(const struct object *a, const struct object *b) {
    ASSERT(object_type(a) == object_type(b));
    if (object_type(a) != OBJECT_STRING) {
        struct content content_a = content_of(a), content_b = content_of(b);
        ASSERT(content_a.elements == content_b.elements && content_a.sum == content_b.sum);
        return;
    }
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
    char message[RDB_MESSAGE_BYTES];
    rdb_writer_init(&writer, NULL, compression, true);
    rdb_write_payload(&writer, object);
    ASSERT(rdb_payload_is_whole(writer.buffer, writer.used));
    ASSERT(rdb_payload_read(writer.buffer, writer.used, STRING_BYTES, "key", 3, OBJECT_NO_EXPIRY,
                            &again, message) == 0);
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
    char message[RDB_MESSAGE_BYTES];
    int error = rdb_payload_read(payload, length, STRING_BYTES, "key", 3, OBJECT_NO_EXPIRY, &object,
                                 message);
    ASSERT((error <= 0 && error >= RDB_ERROR_REFUSED) || error == RDB_ERROR_EMPTY);
    free(payload);
    if (error == 0) {
        check_again(object, size % 2);
        object_free(object);
    }
    collection_thread_exit();
    ASSERT(memory_used_bytes() == used);
    return 0;
}
