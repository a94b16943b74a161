/* RDB reader: the frame of a file (rdb.h draws it), and DUMP payloads. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "replication/crc64.h"
#include "replication/rdb_read.h"
#include "replication/rdb_value.h"

#define CHECKSUM_SINCE_VERSION 5
#define KEY_KEPT_BYTES         (64 * 1024)

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int error_ = (call);                                                                       \
        if (UNLIKELY(error_ != 0))                                                                 \
            return error_;                                                                         \
    } while (0)

_Atomic bool rdb_checksums_are_skipped;

static uint64_t little_endian(const uint8_t *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = count; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static int read_header(struct rdb_reader *reader) {
    const uint8_t *bytes;
    TRY(rdb_read_window(reader, 9, &bytes));
    if (memcmp(bytes, "REDIS", 5) != 0) {
        snprintf(reader->message, sizeof reader->message,
                 "Wrong signature trying to load DB from file");
        return RDB_ERROR_SIGNATURE;
    }
    unsigned version = 0;
    for (unsigned i = 5; i < 9 && bytes[i] >= '0' && bytes[i] <= '9'; i++)
        version = version * 10 + (bytes[i] - '0');
    if (version < 1 || version > RDB_VERSION_READ_MAX) {
        snprintf(reader->message, sizeof reader->message, "Can't handle RDB format version %u",
                 version);
        return RDB_ERROR_VERSION;
    }
    reader->version = version;
    return 0;
}

/* --- What is about the file ------------------------------------------------------------------- */

/* The string into reader->key, where the window cannot overwrite it. */
static int read_into_key(struct rdb_reader *reader, size_t *length) {
    const char *text;
    TRY(rdb_read_string(reader, &text, length));
    if (reader->key_room < *length || reader->key_room > KEY_KEPT_BYTES || !reader->key) {
        memory_free(reader->key);
        reader->key_room = *length < 256 ? 256 : *length;
        reader->key = memory_alloc(reader->key_room);
    }
    memcpy(reader->key, text, *length);
    return 0;
}

static int read_aux(struct rdb_reader *reader, const struct rdb_handler *handler, void *context) {
    size_t name_length, value_length;
    const char *value;
    TRY(read_into_key(reader, &name_length));
    TRY(rdb_read_string(reader, &value, &value_length));
    return handler->aux ? handler->aux(context, reader->key, name_length, value, value_length) : 0;
}

/* A module's id holds nine letters of its name, six bits each, above ten bits of its version. */
static void module_name(uint64_t id, char name[10]) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    id >>= 10;
    for (int i = 9; i-- > 0; id >>= 6)
        name[i] = letters[id & 63];
    name[9] = 0;
}

static int skip_module_values(struct rdb_reader *reader) {
    for (;;) {
        uint64_t opcode, ignored;
        struct rdb_string string;
        TRY(rdb_read_length(reader, &opcode));
        switch (opcode) {
        case RDB_MODULE_EOF:
            return 0;
        case RDB_MODULE_SINT:
        case RDB_MODULE_UINT:
            TRY(rdb_read_length(reader, &ignored));
            break;
        case RDB_MODULE_FLOAT:
            TRY(rdb_skip(reader, 4));
            break;
        case RDB_MODULE_DOUBLE:
            TRY(rdb_skip(reader, 8));
            break;
        case RDB_MODULE_STRING:
            TRY(rdb_read_string_head(reader, &string));
            if (string.form != RDB_STRING_INTEGER)
                TRY(rdb_skip(reader,
                             string.form == RDB_STRING_LZF ? string.packed_length : string.length));
            break;
        default:
            return rdb_corrupt(reader, "Unknown opcode in the value of a module");
        }
    }
}

static int read_module_aux(struct rdb_reader *reader, const struct rdb_handler *handler,
                           void *context) {
    uint64_t id, when_opcode, when;
    TRY(rdb_read_length(reader, &id));
    TRY(rdb_read_length(reader, &when_opcode));
    TRY(rdb_read_length(reader, &when));
    if (when_opcode != RDB_MODULE_UINT)
        return rdb_corrupt(reader, "bad when_opcode");
    TRY(skip_module_values(reader));
    char name[10];
    module_name(id, name);
    return handler->module_aux ? handler->module_aux(context, name) : 0;
}

static int read_function(struct rdb_reader *reader, const struct rdb_handler *handler,
                         void *context) {
    const char *code;
    size_t length;
    TRY(rdb_read_string(reader, &code, &length));
    return handler->function ? handler->function(context, code, length) : 0;
}

static int read_database(struct rdb_reader *reader) {
    uint64_t database;
    TRY(rdb_read_length(reader, &database));
    if (database >= reader->limits.databases) {
        snprintf(reader->message, sizeof reader->message,
                 "FATAL: Data file was created with a Redis server configured to handle more than "
                 "%u databases. Exiting",
                 reader->limits.databases);
        return RDB_ERROR_DATABASE;
    }
    reader->database = (unsigned)database;
    return 0;
}

static int read_resize(struct rdb_reader *reader, const struct rdb_handler *handler,
                       void *context) {
    uint64_t keys, expiring;
    TRY(rdb_read_length(reader, &keys));
    TRY(rdb_read_length(reader, &expiring));
    return handler->resize ? handler->resize(context, reader->database, keys, expiring) : 0;
}

/* How many keys of a slot follow: a hint, which is not needed. */
static int skip_slot_info(struct rdb_reader *reader) {
    uint64_t ignored;
    for (unsigned i = 0; i < 3; i++)
        TRY(rdb_read_length(reader, &ignored));
    return 0;
}

/* --- Keys ------------------------------------------------------------------------------------- */

static void entry_begin(struct rdb_entry *entry) {
    *entry = (struct rdb_entry){.expiry_ms = OBJECT_NO_EXPIRY, .idle_s = -1, .frequency = -1};
}

/* -1 in a file is what Redis takes for no expiry. */
static void entry_set_expiry(struct rdb_entry *entry, int64_t expiry_ms) {
    entry->expiry_ms = expiry_ms == -1 ? OBJECT_NO_EXPIRY : expiry_ms;
}

static int read_expiry(struct rdb_reader *reader, unsigned opcode, struct rdb_entry *entry) {
    const uint8_t *bytes;
    if (opcode == RDB_EXPIRETIME_MS) {
        TRY(rdb_read_window(reader, 8, &bytes));
        entry_set_expiry(entry, (int64_t)little_endian(bytes, 8));
    } else {
        TRY(rdb_read_window(reader, 4, &bytes));
        int32_t seconds = (int32_t)little_endian(bytes, 4);
        entry_set_expiry(entry, (int64_t)seconds * 1000);
    }
    return 0;
}

static int read_access(struct rdb_reader *reader, unsigned opcode, struct rdb_entry *entry) {
    if (opcode == RDB_FREQ) {
        const uint8_t *byte;
        TRY(rdb_read_window(reader, 1, &byte));
        entry->frequency = *byte;
        return 0;
    }
    uint64_t seconds;
    TRY(rdb_read_length(reader, &seconds));
    entry->idle_s = seconds > INT64_MAX ? INT64_MAX : (int64_t)seconds;
    return 0;
}

static int read_key(struct rdb_reader *reader, const struct rdb_handler *handler, void *context,
                    unsigned type, struct rdb_entry *entry) {
    entry->database = reader->database;
    entry->type = type;
    TRY(read_into_key(reader, &entry->key_length));
    entry->key = reader->key;
    TRY(handler->key(context, reader, entry));
    entry_begin(entry);
    return 0;
}

/* --- The end ---------------------------------------------------------------------------------- */

/* The consumed part of the window is summed when it moves; here the rest of it is. */
static uint64_t sum_of_consumed(const struct rdb_reader *reader) {
    return crc64(reader->crc, reader->window + reader->summed, reader->position - reader->summed);
}

static int read_checksum(struct rdb_reader *reader, const struct rdb_handler *handler,
                         void *context) {
    if (reader->version < CHECKSUM_SINCE_VERSION)
        return 0;
    uint64_t expected = reader->checksum ? sum_of_consumed(reader) : 0;
    const uint8_t *bytes;
    TRY(rdb_read_window(reader, 8, &bytes));
    uint64_t found = little_endian(bytes, 8);
    if (!reader->checksum)
        return 0;
    if (found == 0)
        return handler->no_checksum ? handler->no_checksum(context) : 0;
    if (found == expected || atomic_load_explicit(&rdb_checksums_are_skipped, memory_order_relaxed))
        return 0;
    snprintf(reader->message, sizeof reader->message,
             "Wrong RDB checksum expected: (%" PRIx64 ") but got (%" PRIx64 "). Aborting now.",
             expected, found);
    return RDB_ERROR_CHECKSUM;
}

static int read_part(struct rdb_reader *reader, const struct rdb_handler *handler, void *context,
                     unsigned opcode, struct rdb_entry *entry) {
    switch (opcode) {
    case RDB_EXPIRETIME:
    case RDB_EXPIRETIME_MS:
        return read_expiry(reader, opcode, entry);
    case RDB_FREQ:
    case RDB_IDLE:
        return read_access(reader, opcode, entry);
    case RDB_SELECTDB:
        return read_database(reader);
    case RDB_RESIZEDB:
        return read_resize(reader, handler, context);
    case RDB_SLOT_INFO:
        return skip_slot_info(reader);
    case RDB_AUX:
        return read_aux(reader, handler, context);
    case RDB_MODULE_AUX:
        return read_module_aux(reader, handler, context);
    case RDB_FUNCTION2:
        return read_function(reader, handler, context);
    case RDB_FUNCTION_PRE_GA:
        return rdb_corrupt(reader, "Pre-release function format not supported.");
    default:
        return read_key(reader, handler, context, opcode, entry);
    }
}

int rdb_read(struct rdb_reader *reader, const struct rdb_handler *handler, void *context) {
    struct rdb_entry entry;
    entry_begin(&entry);
    TRY(read_header(reader));
    for (;;) {
        const uint8_t *opcode;
        TRY(rdb_read_window(reader, 1, &opcode));
        if (*opcode == RDB_EOF)
            return read_checksum(reader, handler, context);
        TRY(read_part(reader, handler, context, *opcode, &entry));
    }
}

/* --- DUMP payloads ---------------------------------------------------------------------------- */

bool rdb_payload_is_whole(const void *payload, size_t length) {
    if (length < RDB_PAYLOAD_FOOTER_BYTES)
        return false;
    const uint8_t *footer = (const uint8_t *)payload + length - RDB_PAYLOAD_FOOTER_BYTES;
    return little_endian(footer, 2) <= RDB_VERSION_READ_MAX &&
           (atomic_load_explicit(&rdb_checksums_are_skipped, memory_order_relaxed) ||
            little_endian(footer + 2, 8) == crc64(0, payload, length - 8));
}

int rdb_payload_read(const void *payload, size_t length, uint64_t string_bytes, const char *key,
                     size_t key_length, int64_t expiry_ms, struct object **object,
                     char message[RDB_MESSAGE_BYTES]) {
    ASSERT(length >= RDB_PAYLOAD_FOOTER_BYTES);
    struct rdb_reader reader;
    rdb_reader_init_memory(&reader, payload, length - RDB_PAYLOAD_FOOTER_BYTES, string_bytes);
    const uint8_t *type;
    int error = rdb_read_window(&reader, 1, &type);
    if (error == 0)
        error = rdb_value_read(&reader, *type, key, key_length, expiry_ms, object);
    if (error)
        memcpy(message, reader.message, sizeof reader.message);
    rdb_reader_free(&reader);
    return error;
}
