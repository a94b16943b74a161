/* See rdb_field_times.h. */
#include "replication/rdb_field_times.h"

#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/types/field_times.h"
#include "engine/types/hash.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_error = (call);                                                                    \
        if (try_error)                                                                             \
            return try_error;                                                                      \
    } while (0)

#define BROKEN "Hash listpack integrity check failed."

bool rdb_has_field_times(unsigned type) {
    return type >= RDB_TYPE_HASH_TIMES_PRE_GA && type <= RDB_TYPE_HASH_LISTPACK_TIMES;
}

static bool is_listpack(unsigned type) {
    return type == RDB_TYPE_HASH_LISTPACK_TIMES || type == RDB_TYPE_HASH_LISTPACK_TIMES_PRE_GA;
}

static bool has_earliest(unsigned type) {
    return type == RDB_TYPE_HASH_TIMES || type == RDB_TYPE_HASH_LISTPACK_TIMES;
}

/* --- Writing ---------------------------------------------------------------------------------- */

struct writing {
    struct rdb_writer *writer;
    const struct collection *body;
    int64_t earliest_ms;
};

static bool write_field(void *context, const struct element *field, const struct element *value,
                        double score) {
    const struct writing *writing = context;
    int64_t time_ms;
    (void)score;
    bool has = field_times_get(writing->body, field->data, field->length, &time_ms);
    rdb_write_length(writing->writer, has ? (uint64_t)(time_ms - writing->earliest_ms) + 1 : 0);
    rdb_write_string(writing->writer, field->data, field->length);
    rdb_write_string(writing->writer, value->data, value->length);
    return true;
}

void rdb_field_times_write(struct rdb_writer *writer, const struct object *hash) {
    const struct collection *body = collection_body(hash);
    struct writing writing = {writer, body, field_times_first(body, NULL)};
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)((uint64_t)writing.earliest_ms >> 8 * i);
    rdb_write_bytes(writer, bytes, sizeof bytes);
    rdb_write_length(writer, body->members.count);
    hash_visit_body(body, write_field, &writing);
}

/* --- Reading ---------------------------------------------------------------------------------- */

static int read_earliest(struct rdb_reader *reader, unsigned type, uint64_t *earliest_ms) {
    const uint8_t *bytes;
    *earliest_ms = 0;
    if (!has_earliest(type))
        return 0;
    TRY(rdb_read_window(reader, 8, &bytes));
    for (unsigned i = 0; i < 8; i++)
        *earliest_ms |= (uint64_t)bytes[i] << 8 * i;
    if (*earliest_ms > (uint64_t)FIELD_TIME_MAX + 1) /* Redis's mark for none is allowed */
        return rdb_corrupt(reader, "Hash read invalid minExpire value");
    return 0;
}

/* 0: none. */
static int put_field(struct rdb_reader *reader, struct collection_edit *draft, const char *field,
                     size_t field_length, const char *value, size_t value_length,
                     uint64_t time_ms) {
    if (time_ms > (uint64_t)FIELD_TIME_MAX)
        return rdb_corrupt(reader, "invalid expireAt time");
    if (!hash_put(draft, field, field_length, value, value_length))
        return rdb_corrupt(reader, "Hash with dup elements");
    if (time_ms != 0)
        hash_set_time(draft, field, field_length, (int64_t)time_ms);
    return 0;
}

static int read_fields(struct rdb_reader *reader, unsigned type, uint64_t earliest_ms,
                       struct collection_edit *draft) {
    uint64_t count, time_ms;
    TRY(rdb_read_length(reader, &count));
    for (; count > 0; count--) {
        size_t field_length, length;
        const char *value;
        TRY(rdb_read_length(reader, &time_ms));
        if (time_ms > (uint64_t)FIELD_TIME_MAX + 1)
            return rdb_corrupt(reader, "invalid expireAt time");
        if (time_ms != 0 && has_earliest(type))
            time_ms += earliest_ms - 1;
        TRY(rdb_read_kept_string(reader, &field_length));
        TRY(rdb_read_string(reader, &value, &length));
        TRY(put_field(reader, draft, reader->element, field_length, value, length, time_ms));
    }
    return 0;
}

static int read_listpack(struct rdb_reader *reader, struct collection_edit *draft) {
    const char *text;
    size_t length, n[2];
    TRY(rdb_read_string(reader, &text, &length));
    const uint8_t *listpack = (const uint8_t *)text;
    if (!listpack_is_sound(listpack, length, true) || listpack_count(listpack) % 3 != 0)
        return rdb_corrupt(reader, BROKEN);
    const uint8_t *entry = listpack_first(listpack);
    while (entry) {
        struct element element[3];
        char room[2][LISTPACK_INTEGER_ROOM];
        for (unsigned i = 0; i < 3; i++, entry = listpack_next(listpack, entry))
            listpack_get(entry, &element[i]);
        if (element[2].data || element[2].integer < 0)
            return rdb_corrupt(reader, BROKEN);
        const char *field = element_text(&element[0], room[0], &n[0]);
        const char *value = element_text(&element[1], room[1], &n[1]);
        TRY(put_field(reader, draft, field, n[0], value, n[1], (uint64_t)element[2].integer));
    }
    /* As in Redis it is a listpack by name if only its number of fields is within the limits. */
    if (draft->body && draft->count <= collection_limits.hash_listpack_entries)
        draft->encoding =
            draft->body->field_times ? ENCODING_LISTPACK_EX_TIMED : ENCODING_LISTPACK_EX;
    return 0;
}

int rdb_field_times_read(struct rdb_reader *reader, unsigned type, const char *key,
                         size_t key_length, int64_t expiry_ms, struct object **object) {
    struct collection_edit draft;
    uint64_t earliest_ms;
    ASSERT(rdb_has_field_times(type));
    TRY(read_earliest(reader, type, &earliest_ms));
    collection_draft_begin(&draft, OBJECT_HASH, ENCODING_LISTPACK);
    int error = is_listpack(type) ? read_listpack(reader, &draft)
                                  : read_fields(reader, type, earliest_ms, &draft);
    if (error) {
        collection_draft_drop(&draft);
        return error;
    }
    *object = collection_draft_end(&draft, key, key_length, expiry_ms);
    return *object ? 0 : rdb_empty(reader, key, key_length);
}

int rdb_field_times_skip(struct rdb_reader *reader, unsigned type) {
    uint64_t ignored, count;
    TRY(read_earliest(reader, type, &ignored));
    if (is_listpack(type))
        return rdb_skip_string(reader);
    TRY(rdb_read_length(reader, &count));
    for (; count > 0; count--) {
        TRY(rdb_read_length(reader, &ignored));
        TRY(rdb_skip_string(reader));
        TRY(rdb_skip_string(reader));
    }
    return 0;
}
