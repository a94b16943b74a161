/* RDB writer: the frame of a file (rdb.h draws it), keys, and DUMP payloads. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/assert.h"
#include "replication/crc64.h"
#include "replication/rdb_value.h"
#include "replication/rdb_write.h"

void rdb_write_aux(struct rdb_writer *writer, const char *name, const char *value) {
    rdb_write_byte(writer, RDB_AUX);
    rdb_write_string(writer, name, strlen(name));
    rdb_write_string(writer, value, strlen(value));
}

static void write_aux_number(struct rdb_writer *writer, const char *name, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    rdb_write_aux(writer, name, text);
}

void rdb_write_header(struct rdb_writer *writer, unsigned version, const struct rdb_info *info) {
    char magic[16];
    ASSERT(version <= RDB_VERSION_READ_MAX);
    int length = snprintf(magic, sizeof magic, "REDIS%04u", version);
    rdb_write_bytes(writer, magic, (size_t)length);
    rdb_write_aux(writer, "redis-ver", info->server_version);
    write_aux_number(writer, "redis-bits", 8 * (int)sizeof(void *));
    write_aux_number(writer, "ctime", info->created_s);
    write_aux_number(writer, "used-mem", (int64_t)info->used_memory_bytes);
    if (info->replication_id) {
        write_aux_number(writer, "repl-stream-db", info->stream_database);
        rdb_write_aux(writer, "repl-id", info->replication_id);
        write_aux_number(writer, "repl-offset", info->replication_offset);
    }
    write_aux_number(writer, "aof-base", info->aof_base);
}

void rdb_write_database(struct rdb_writer *writer, unsigned database, uint64_t keys,
                        uint64_t expiring) {
    rdb_write_byte(writer, RDB_SELECTDB);
    rdb_write_length(writer, database);
    rdb_write_byte(writer, RDB_RESIZEDB);
    rdb_write_length(writer, keys);
    rdb_write_length(writer, expiring);
}

void rdb_key_attributes_of(const struct access_policy *policy, const struct object *object,
                           struct rdb_key_attributes *attributes) {
    *attributes = (struct rdb_key_attributes){object_expiry(object), -1, -1};
    if (UNLIKELY(policy->lfu))
        attributes->frequency = (int)access_lfu_counter(policy, object);
    else if (UNLIKELY(policy->tracked))
        attributes->idle_s = (int64_t)(access_idle_ms(object) / 1000);
}

void rdb_write_key(struct rdb_writer *writer, const struct object *object,
                   const struct rdb_key_attributes *attributes) {
    if (attributes->expiry_ms != OBJECT_NO_EXPIRY) {
        uint8_t bytes[9] = {RDB_EXPIRETIME_MS};
        for (unsigned i = 0; i < 8; i++)
            bytes[1 + i] = (uint8_t)((uint64_t)attributes->expiry_ms >> 8 * i);
        rdb_write_bytes(writer, bytes, sizeof bytes);
    }
    if (attributes->idle_s >= 0) {
        rdb_write_byte(writer, RDB_IDLE);
        rdb_write_length(writer, (uint64_t)attributes->idle_s);
    }
    if (attributes->frequency >= 0) {
        rdb_write_byte(writer, RDB_FREQ);
        rdb_write_byte(writer, (uint8_t)attributes->frequency);
    }
    size_t length;
    const char *key = object_key(object, &length);
    rdb_write_byte(writer, (uint8_t)rdb_value_type(object));
    rdb_write_string(writer, key, length);
    rdb_value_write(writer, object);
}

static void write_crc(struct rdb_writer *writer, uint64_t crc) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(crc >> 8 * i);
    rdb_write_bytes(writer, bytes, sizeof bytes);
}

int rdb_write_end(struct rdb_writer *writer) {
    rdb_write_byte(writer, RDB_EOF);
    if (writer->sink.write)
        rdb_write_flush(writer);
    else if (writer->checksum)
        writer->crc = crc64(0, writer->buffer, writer->used);
    write_crc(writer, writer->crc);
    rdb_write_flush(writer);
    return writer->error;
}

void rdb_write_payload(struct rdb_writer *writer, const struct object *object) {
    ASSERT(!writer->sink.write && writer->used == 0);
    rdb_write_byte(writer, (uint8_t)rdb_value_type(object));
    rdb_value_write(writer, object);
    unsigned version = rdb_version_for(object_has_field_times(object));
    rdb_write_byte(writer, version & 0xff);
    rdb_write_byte(writer, (uint8_t)(version >> 8));
    write_crc(writer, crc64(0, writer->buffer, writer->used));
}
