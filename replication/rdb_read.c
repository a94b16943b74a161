/* RDB reader: the window, lengths, strings in their forms. The frame of a file: rdb_read_frame.c.
 *
 * Invariants: summed <= position <= end <= room; kept <= position or SIZE_MAX. */
#include "replication/rdb_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <lzf.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "replication/crc64.h"

#define WINDOW_BYTES          (256 * 1024)
#define WINDOW_MAX_KEPT_BYTES (4 * 1024 * 1024)
/* Three bytes of LZF stand for at most 264. */
#define LZF_GROWTH_MAX        88
#define SCRATCH_KEPT_BYTES    (256 * 1024)

void rdb_reader_init(struct rdb_reader *reader, const struct rdb_source *source,
                     const struct rdb_limits *limits, bool checksum) {
    *reader = (struct rdb_reader){
        .source = *source,
        .limits = *limits,
        .checksum = checksum,
        .owns_window = true,
        .room = limits->input_bytes < WINDOW_BYTES ? limits->input_bytes + 1 : WINDOW_BYTES,
        .kept = SIZE_MAX,
    };
    reader->window = memory_alloc(reader->room);
}

void rdb_reader_init_memory(struct rdb_reader *reader, const void *data, size_t length,
                            uint64_t string_bytes) {
    *reader = (struct rdb_reader){
        .limits = {.input_bytes = length, .string_bytes = string_bytes, .databases = UINT32_MAX},
        .window = (uint8_t *)data, /* read only */
        .end = length,
        .room = length,
        .kept = SIZE_MAX,
    };
}

void rdb_reader_free(struct rdb_reader *reader) {
    if (reader->owns_window)
        memory_free(reader->window);
    memory_free(reader->scratch);
    memory_free(reader->key);
    memory_free(reader->element);
    reader->window = reader->scratch = NULL;
    reader->key = reader->element = NULL;
}

/* --- Errors ----------------------------------------------------------------------------------- */

static int short_read(struct rdb_reader *reader) {
    snprintf(reader->message, sizeof reader->message,
             "Short read or OOM loading DB. Unrecoverable error, aborting now.");
    return RDB_ERROR_SHORT;
}

int rdb_corrupt(struct rdb_reader *reader, const char *reason) {
    snprintf(reader->message, sizeof reader->message,
             "Internal error in RDB reading offset %" PRIu64 " -> %s", rdb_read_offset(reader),
             reason);
    return RDB_ERROR_CORRUPT;
}

int rdb_refuse(struct rdb_reader *reader, const char *description, const char *key,
               size_t key_length) {
    int shown = key_length > 128 ? 128 : (int)key_length;
    snprintf(reader->message, sizeof reader->message,
             "The key '%.*s'%s in database %u is %s, which this version does not have.", shown, key,
             shown < (int)key_length ? "..." : "", reader->database, description);
    return RDB_ERROR_REFUSED;
}

int rdb_empty(struct rdb_reader *reader, const char *key, size_t key_length) {
    snprintf(reader->message, sizeof reader->message, "rdbLoadObject skipping empty key: %.*s",
             key_length > 400 ? 400 : (int)key_length, key);
    return RDB_ERROR_EMPTY;
}

/* --- The window ------------------------------------------------------------------------------- */

static void sum_consumed(struct rdb_reader *reader) {
    if (reader->checksum)
        reader->crc =
            crc64(reader->crc, reader->window + reader->summed, reader->position - reader->summed);
    reader->summed = reader->position;
}

static int read_source(struct rdb_reader *reader, void *data, size_t room, size_t *count) {
    ssize_t n = reader->source.read(reader->source.context, data, room);
    if (n > 0) {
        ASSERT((size_t)n <= room);
        *count = (size_t)n;
        return 0;
    }
    if (n == 0)
        return short_read(reader);
    snprintf(reader->message, sizeof reader->message, "Error reading the RDB: %s",
             strerror((int)-n));
    return RDB_ERROR_READ;
}

/* What was consumed and need not be kept makes room. */
static void move_window(struct rdb_reader *reader) {
    sum_consumed(reader);
    size_t gone = reader->kept < reader->position ? reader->kept : reader->position;
    memmove(reader->window, reader->window + gone, reader->end - gone);
    reader->window_start += gone;
    reader->position -= gone;
    reader->summed -= gone;
    reader->end -= gone;
    if (reader->kept != SIZE_MAX)
        reader->kept -= gone;
}

/* One large string must not leave a large window behind. */
static void shrink_window(struct rdb_reader *reader, size_t needed) {
    if (reader->room <= WINDOW_MAX_KEPT_BYTES || reader->end + needed > WINDOW_BYTES)
        return;
    reader->room = WINDOW_BYTES;
    reader->window = memory_realloc(reader->window, reader->room);
}

/* At least length bytes are in the window behind the position. It grows as they come, not as they
 * are announced. */
static int fill(struct rdb_reader *reader, size_t length) {
    if (!reader->source.read)
        return short_read(reader);
    move_window(reader);
    shrink_window(reader, length);
    while (reader->end - reader->position < length) {
        if (reader->end == reader->room) {
            reader->room *= 2;
            reader->window = memory_realloc(reader->window, reader->room);
        }
        size_t count;
        int error =
            read_source(reader, reader->window + reader->end, reader->room - reader->end, &count);
        if (error)
            return error;
        reader->end += count;
    }
    return 0;
}

int rdb_read_window(struct rdb_reader *reader, size_t length, const uint8_t **bytes) {
    if (UNLIKELY(reader->end - reader->position < length)) {
        int error = fill(reader, length);
        if (error)
            return error;
    }
    *bytes = reader->window + reader->position;
    reader->position += length;
    return 0;
}

int rdb_read_bytes(struct rdb_reader *reader, void *data, size_t length) {
    size_t there = reader->end - reader->position;
    if (there > length)
        there = length;
    memcpy(data, reader->window + reader->position, there);
    reader->position += there;
    if (there == length)
        return 0;
    if (!reader->source.read)
        return short_read(reader);
    ASSERT(reader->kept == SIZE_MAX); /* they do not pass through the window */
    move_window(reader);
    ASSERT(reader->end == 0);
    for (size_t done = there; done < length;) {
        size_t count;
        int error = read_source(reader, (char *)data + done, length - done, &count);
        if (error)
            return error;
        if (reader->checksum)
            reader->crc = crc64(reader->crc, (char *)data + done, count);
        reader->window_start += count;
        done += count;
    }
    return 0;
}

int rdb_skip(struct rdb_reader *reader, uint64_t length) {
    if (reader->kept != SIZE_MAX) {
        const uint8_t *bytes;
        return rdb_read_window(reader, length, &bytes);
    }
    while (length > 0) {
        size_t there = reader->end - reader->position;
        if (there == 0) {
            int error = fill(reader, 1);
            if (error)
                return error;
            there = reader->end - reader->position;
        }
        size_t count = length < there ? (size_t)length : there;
        reader->position += count;
        length -= count;
    }
    return 0;
}

void rdb_keep_begin(struct rdb_reader *reader) {
    ASSERT(reader->kept == SIZE_MAX);
    reader->kept = reader->position;
}

const uint8_t *rdb_keep_end(struct rdb_reader *reader, size_t *length) {
    ASSERT(reader->kept <= reader->position);
    const uint8_t *start = reader->window + reader->kept;
    *length = reader->position - reader->kept;
    reader->kept = SIZE_MAX;
    return start;
}

/* --- Lengths and strings ---------------------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* *form: the length is none, but this form of a string; -1: it is one. */
static int read_length_or_form(struct rdb_reader *reader, uint64_t *length, int *form) {
    const uint8_t *bytes;
    int error = rdb_read_window(reader, 1, &bytes);
    if (error)
        return error;
    uint8_t first = *bytes;
    *form = -1;
    if (first < RDB_LENGTH_14) {
        *length = first;
        return 0;
    }
    if ((first & RDB_STRING_FORM) == RDB_STRING_FORM) {
        *form = first & 0x3f;
        *length = (uint64_t)*form;
        return 0;
    }
    size_t more = first < RDB_LENGTH_32 ? 1 : first == RDB_LENGTH_32 ? 4 : 8;
    if (first > RDB_LENGTH_64)
        return rdb_corrupt(reader, "Unknown length encoding 2 in rdbLoadLen()");
    error = rdb_read_window(reader, more, &bytes);
    if (error == 0)
        *length = more == 1 ? (uint64_t)(first & 0x3f) << 8 | *bytes : big_endian(bytes, more);
    return error;
}

int rdb_read_length(struct rdb_reader *reader, uint64_t *length) {
    int form; /* as in Redis, what is asked for as a length is one */
    return read_length_or_form(reader, length, &form);
}

static int read_integer_form(struct rdb_reader *reader, int form, int64_t *value) {
    const uint8_t *bytes;
    size_t width = (size_t)1 << form;
    int error = rdb_read_window(reader, width, &bytes);
    if (error)
        return error;
    uint32_t bits = 0;
    for (size_t i = 0; i < width; i++)
        bits |= (uint32_t)bytes[i] << 8 * i;
    *value = width == 1 ? (int8_t)bits : width == 2 ? (int16_t)bits : (int32_t)bits;
    return 0;
}

/* Bytes that come: they must be there, as far as that is known. */
static int check_coming(struct rdb_reader *reader, uint64_t length) {
    if (reader->limits.input_bytes != RDB_SIZE_UNKNOWN &&
        length > reader->limits.input_bytes - rdb_read_offset(reader))
        return short_read(reader);
    if (length > reader->limits.string_bytes)
        return rdb_corrupt(reader, "A string is longer than what is allowed");
    return 0;
}

static int read_packed_head(struct rdb_reader *reader, struct rdb_string *string) {
    uint64_t packed, plain;
    int error = rdb_read_length(reader, &packed);
    if (error == 0)
        error = rdb_read_length(reader, &plain);
    if (error == 0)
        error = check_coming(reader, packed);
    if (error)
        return error;
    if (packed == 0 || plain == 0 || packed > UINT32_MAX || plain > UINT32_MAX ||
        plain > packed * LZF_GROWTH_MAX)
        return rdb_corrupt(reader, "Invalid LZF compressed string");
    if (plain > reader->limits.string_bytes)
        return rdb_corrupt(reader, "A string is longer than what is allowed");
    string->form = RDB_STRING_LZF;
    string->packed_length = packed;
    string->length = plain;
    return 0;
}

int rdb_read_string_head(struct rdb_reader *reader, struct rdb_string *string) {
    uint64_t length;
    int form;
    int error = read_length_or_form(reader, &length, &form);
    if (error)
        return error;
    if (form == -1) {
        string->form = RDB_STRING_PLAIN;
        string->length = length;
        return check_coming(reader, length);
    }
    if (form <= RDB_FORM_INT32) {
        string->form = RDB_STRING_INTEGER;
        return read_integer_form(reader, form, &string->integer);
    }
    if (form == RDB_FORM_LZF)
        return read_packed_head(reader, string);
    char reason[64];
    snprintf(reason, sizeof reason, "Unknown RDB string encoding type %d", form);
    return rdb_corrupt(reader, reason);
}

static int unpack(struct rdb_reader *reader, const struct rdb_string *string, const char **text) {
    const uint8_t *packed;
    int error = rdb_read_window(reader, string->packed_length, &packed);
    if (error)
        return error;
    if (reader->scratch_room < string->length || reader->scratch_room > SCRATCH_KEPT_BYTES) {
        memory_free(reader->scratch);
        reader->scratch_room = string->length;
        reader->scratch = memory_alloc(reader->scratch_room);
    }
    if (lzf_decompress(packed, (unsigned)string->packed_length, reader->scratch,
                       (unsigned)string->length) != string->length)
        return rdb_corrupt(reader, "Invalid LZF compressed string");
    *text = (const char *)reader->scratch;
    return 0;
}

int rdb_read_string(struct rdb_reader *reader, const char **text, size_t *length) {
    struct rdb_string string;
    int error = rdb_read_string_head(reader, &string);
    if (error)
        return error;
    if (string.form == RDB_STRING_INTEGER) {
        *length =
            (size_t)snprintf(reader->number, sizeof reader->number, "%" PRId64, string.integer);
        *text = reader->number;
        return 0;
    }
    *length = string.length;
    if (string.form == RDB_STRING_LZF)
        return unpack(reader, &string, text);
    const uint8_t *bytes;
    error = rdb_read_window(reader, string.length, &bytes);
    *text = (const char *)bytes;
    return error;
}

int rdb_read_kept_string(struct rdb_reader *reader, size_t *length) {
    const char *text;
    int error = rdb_read_string(reader, &text, length);
    if (error)
        return error;
    if (reader->element_room <= *length) {
        memory_free(reader->element);
        reader->element_room = *length + 1;
        reader->element = memory_alloc(reader->element_room);
    }
    memcpy(reader->element, text, *length);
    return 0;
}

int rdb_skip_string(struct rdb_reader *reader) {
    struct rdb_string string;
    int error = rdb_read_string_head(reader, &string);
    if (error || string.form == RDB_STRING_INTEGER)
        return error;
    return rdb_skip(reader, string.form == RDB_STRING_LZF ? string.packed_length : string.length);
}
