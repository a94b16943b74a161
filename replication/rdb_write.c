/* RDB writer: lengths, strings in their forms. The frame of a file: rdb_write_frame.c. Bytes gather
 * in a buffer, which goes to the sink when it is full; the checksum is taken there, over large
 * pieces. What is larger than the buffer goes to the sink directly. */
#include "replication/rdb_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "replication/crc64.h"
#include "replication/lzf_pack.h"

#define BUFFER_BYTES          (64 * 1024)
#define BUFFER_MEMORY_BYTES   256 /* at first, of a writer into memory */
#define PACKED_KEPT_BYTES     (256 * 1024)
#define INTEGER_MAX_BYTES     11 /* "-2147483648" */
#define COMPRESSION_MIN_BYTES 21 /* shorter ones never get smaller */

void rdb_writer_init(struct rdb_writer *writer, const struct rdb_sink *sink, bool compression,
                     bool checksum) {
    *writer = (struct rdb_writer){.compression = compression, .checksum = checksum};
    if (sink)
        writer->sink = *sink;
    writer->room = sink ? BUFFER_BYTES : BUFFER_MEMORY_BYTES;
    writer->buffer = memory_alloc(writer->room);
}

void rdb_writer_free(struct rdb_writer *writer) {
    memory_free(writer->buffer);
    memory_free(writer->packed);
    memory_free(writer->packer);
    writer->buffer = writer->packed = NULL;
    writer->packer = NULL;
}

uint8_t *rdb_writer_take(struct rdb_writer *writer, size_t room, size_t *length) {
    ASSERT(!writer->sink.write && room > 0);
    uint8_t *bytes = writer->buffer;
    *length = writer->used;
    writer->buffer = memory_alloc(room);
    writer->room = room;
    writer->used = 0;
    return bytes;
}

static void pass_on(struct rdb_writer *writer, const void *data, size_t length) {
    if (length == 0 || writer->error)
        return;
    if (writer->checksum)
        writer->crc = crc64(writer->crc, data, length);
    writer->error = writer->sink.write(writer->sink.context, data, length);
    ASSERT(writer->error <= 0);
    writer->passed_on_bytes += length;
}

void rdb_write_flush(struct rdb_writer *writer) {
    if (!writer->sink.write)
        return;
    pass_on(writer, writer->buffer, writer->used);
    writer->used = 0;
}

/* The buffer cannot take length bytes: it is made larger, or emptied. false: they went on their
 * way. */
static bool make_room(struct rdb_writer *writer, const void *data, size_t length) {
    if (!writer->sink.write) {
        while (writer->room - writer->used < length)
            writer->room *= 2;
        writer->buffer = memory_realloc(writer->buffer, writer->room);
        return true;
    }
    rdb_write_flush(writer);
    if (length < writer->room)
        return true;
    pass_on(writer, data, length);
    return false;
}

void rdb_write_bytes(struct rdb_writer *writer, const void *data, size_t length) {
    if (UNLIKELY(writer->room - writer->used < length) && !make_room(writer, data, length))
        return;
    memcpy(writer->buffer + writer->used, data, length);
    writer->used += length;
}

void rdb_write_byte(struct rdb_writer *writer, uint8_t byte) {
    rdb_write_bytes(writer, &byte, 1);
}

/* --- Lengths and strings ---------------------------------------------------------------------- */

void rdb_write_length(struct rdb_writer *writer, uint64_t length) {
    uint8_t bytes[9];
    size_t count;
    if (length < 1 << 6) {
        bytes[0] = (uint8_t)length;
        count = 1;
    } else if (length < 1 << 14) {
        bytes[0] = (uint8_t)(RDB_LENGTH_14 | length >> 8);
        bytes[1] = (uint8_t)length;
        count = 2;
    } else {
        unsigned width = length <= UINT32_MAX ? 4 : 8;
        bytes[0] = width == 4 ? RDB_LENGTH_32 : RDB_LENGTH_64;
        for (unsigned i = 0; i < width; i++)
            bytes[1 + i] = (uint8_t)(length >> 8 * (width - 1 - i));
        count = 1 + width;
    }
    rdb_write_bytes(writer, bytes, count);
}

static void write_plain(struct rdb_writer *writer, const char *data, size_t length) {
    rdb_write_length(writer, length);
    rdb_write_bytes(writer, data, length);
}

static bool write_in_bytes(struct rdb_writer *writer, int64_t value) {
    uint8_t bytes[5];
    unsigned width = value == (int8_t)value ? 1 : value == (int16_t)value ? 2 : 4;
    if (value != (int32_t)value)
        return false;
    bytes[0] = RDB_STRING_FORM | (width == 1   ? RDB_FORM_INT8
                                  : width == 2 ? RDB_FORM_INT16
                                               : RDB_FORM_INT32);
    for (unsigned i = 0; i < width; i++)
        bytes[1 + i] = (uint8_t)((uint64_t)value >> 8 * i);
    rdb_write_bytes(writer, bytes, 1 + width);
    return true;
}

void rdb_write_integer(struct rdb_writer *writer, int64_t value) {
    if (write_in_bytes(writer, value))
        return;
    char text[24];
    int length = snprintf(text, sizeof text, "%" PRId64, value);
    write_plain(writer, text, (size_t)length);
}

/* Whether the text is what a number of 32 bits is written as: no spaces, no leading zeros, no
 * "-0". */
static bool is_integer(const char *data, size_t length, int64_t *value) {
    if (length == 0 || length > INTEGER_MAX_BYTES)
        return false;
    size_t i = data[0] == '-';
    if (i == length || (data[i] == '0' && length > 1))
        return false;
    int64_t magnitude = 0;
    for (size_t k = i; k < length; k++) {
        if (data[k] < '0' || data[k] > '9')
            return false;
        magnitude = magnitude * 10 + (data[k] - '0');
    }
    *value = i ? -magnitude : magnitude;
    return *value == (int32_t)*value;
}

static bool write_compressed(struct rdb_writer *writer, const char *data, size_t length) {
    size_t room = length - 4;
    if (writer->packed_room < room) {
        memory_free(writer->packed);
        writer->packed = memory_alloc(room);
        writer->packed_room = room;
    }
    if (!writer->packer) {
        writer->packer = memory_alloc(sizeof *writer->packer);
        lzf_packer_init(writer->packer);
    }
    size_t packed = lzf_pack(writer->packer, data, length, writer->packed, room);
    if (packed > 0) {
        rdb_write_byte(writer, RDB_STRING_FORM | RDB_FORM_LZF);
        rdb_write_length(writer, packed);
        rdb_write_length(writer, length);
        rdb_write_bytes(writer, writer->packed, packed);
    }
    if (writer->packed_room > PACKED_KEPT_BYTES) {
        memory_free(writer->packed);
        writer->packed = NULL;
        writer->packed_room = 0;
    }
    return packed > 0;
}

void rdb_write_string(struct rdb_writer *writer, const char *data, size_t length) {
    int64_t value;
    if (is_integer(data, length, &value)) {
        write_in_bytes(writer, value);
        return;
    }
    if (writer->compression && length >= COMPRESSION_MIN_BYTES && length <= LZF_PACK_MAX_BYTES &&
        write_compressed(writer, data, length))
        return;
    write_plain(writer, data, length);
}
