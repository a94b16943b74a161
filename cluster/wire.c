/* See wire.h. Nothing here allocates or remembers anything: any thread, any state. */
#include "cluster/wire.h"

#include <endian.h>
#include <string.h>

#include "engine/assert.h"

enum offset {
    AT_LENGTH = 4,
    AT_VERSION = 8,
    AT_PORT = 10,
    AT_TYPE = 12,
    AT_COUNT = 14,
    AT_CURRENT_EPOCH = 16,
    AT_CONFIG_EPOCH = 24,
    AT_OFFSET = 32,
    AT_SENDER = 40,
    AT_SLOTS = 80,
    AT_PRIMARY = 2128,
    AT_ADDRESS = 2168,
    AT_EXTENSIONS = 2214,
    AT_SPARE = 2216,
    AT_SECONDARY_PORT = 2246,
    AT_BUS_PORT = 2248,
    AT_FLAGS = 2250,
    AT_STATE = 2252,
    AT_MESSAGE_FLAGS = 2253,
};

/* Of a gossip entry. */
enum gossip_offset {
    GOSSIP_ID = 0,
    GOSSIP_PING_SENT = 40,
    GOSSIP_PONG_RECEIVED = 44,
    GOSSIP_ADDRESS = 48,
    GOSSIP_PORT = 94,
    GOSSIP_BUS_PORT = 96,
    GOSSIP_FLAGS = 98,
    GOSSIP_SECONDARY_PORT = 100,
};

#define EXTENSION_HEADER_BYTES 8 /* length, type, two that are unused */
#define PUBLISH_HEADER_BYTES   8 /* two lengths */
#define MODULE_HEADER_BYTES    13
#define UPDATE_BYTES           (8 + WIRE_ID_LENGTH + WIRE_SLOT_BYTES)

static const char signature[4] = {'R', 'C', 'm', 'b'};
static const uint8_t module_id[8] = {'s', 'l', 'o', 't', 'w', 'i', 's', 'e'};

/* --- Numbers ---------------------------------------------------------------------------------- */

static uint16_t get_16(const uint8_t *bytes) {
    uint16_t number;
    memcpy(&number, bytes, sizeof number);
    return be16toh(number);
}

static uint32_t get_32(const uint8_t *bytes) {
    uint32_t number;
    memcpy(&number, bytes, sizeof number);
    return be32toh(number);
}

static uint64_t get_64(const uint8_t *bytes) {
    uint64_t number;
    memcpy(&number, bytes, sizeof number);
    return be64toh(number);
}

static void put_16(uint8_t *bytes, uint16_t number) {
    number = htobe16(number);
    memcpy(bytes, &number, sizeof number);
}

static void put_32(uint8_t *bytes, uint32_t number) {
    number = htobe32(number);
    memcpy(bytes, &number, sizeof number);
}

static void put_64(uint8_t *bytes, uint64_t number) {
    number = htobe64(number);
    memcpy(bytes, &number, sizeof number);
}

/* A peer's text need not be terminated; ours always is, and what is behind its end is zero. */
static void get_address(char *address, const uint8_t *bytes) {
    size_t length = strnlen((const char *)bytes, WIRE_ADDRESS_LENGTH - 1);
    memset(address, 0, WIRE_ADDRESS_LENGTH);
    memcpy(address, bytes, length);
}

/* --- From bytes ------------------------------------------------------------------------------- */

int64_t wire_length(const uint8_t *prefix) {
    if (memcmp(prefix, signature, sizeof signature) != 0)
        return WIRE_BAD_SIGNATURE;
    uint32_t length = get_32(prefix + AT_LENGTH);
    return length < WIRE_HEADER_BYTES || length > WIRE_MAX_BYTES ? WIRE_BAD_LENGTH
                                                                 : (int64_t)length;
}

static void decode_header(const uint8_t *bytes, struct wire_header *header) {
    header->port = get_16(bytes + AT_PORT);
    header->type = get_16(bytes + AT_TYPE);
    header->current_epoch = get_64(bytes + AT_CURRENT_EPOCH);
    header->config_epoch = get_64(bytes + AT_CONFIG_EPOCH);
    header->offset = get_64(bytes + AT_OFFSET);
    memcpy(header->sender.hex, bytes + AT_SENDER, WIRE_ID_LENGTH);
    memcpy(header->slots, bytes + AT_SLOTS, WIRE_SLOT_BYTES);
    memcpy(header->primary.hex, bytes + AT_PRIMARY, WIRE_ID_LENGTH);
    get_address(header->address, bytes + AT_ADDRESS);
    memcpy(header->spare, bytes + AT_SPARE, WIRE_SPARE_LENGTH);
    header->secondary_port = get_16(bytes + AT_SECONDARY_PORT);
    header->bus_port = get_16(bytes + AT_BUS_PORT);
    header->flags = get_16(bytes + AT_FLAGS);
    header->state_ok = bytes[AT_STATE] == 0;
    memcpy(header->message_flags, bytes + AT_MESSAGE_FLAGS, sizeof header->message_flags);
}

static bool read_extension(const uint8_t *bytes, size_t left, struct wire_extension *extension) {
    if (left < EXTENSION_HEADER_BYTES)
        return false;
    uint32_t length = get_32(bytes);
    if (length < EXTENSION_HEADER_BYTES || length % 8 != 0 || length > left)
        return false;
    extension->type = get_16(bytes + 4);
    extension->data = bytes + EXTENSION_HEADER_BYTES;
    extension->length = length - EXTENSION_HEADER_BYTES;
    return true;
}

static bool decode_ping(struct wire_packet *packet) {
    packet->gossip_count = get_16(packet->bytes + AT_COUNT);
    size_t at = WIRE_HEADER_BYTES + (size_t)packet->gossip_count * WIRE_GOSSIP_BYTES;
    if (at > packet->length)
        return false;
    packet->extensions_at = at;
    if (packet->header.message_flags[0] & WIRE_FLAG_EXTENDED)
        packet->extension_count = get_16(packet->bytes + AT_EXTENSIONS);
    for (unsigned i = 0; i < packet->extension_count; i++) {
        struct wire_extension extension;
        if (!read_extension(packet->bytes + at, packet->length - at, &extension))
            return false;
        at += EXTENSION_HEADER_BYTES + extension.length;
    }
    return at == packet->length;
}

static bool decode_publish(struct wire_packet *packet) {
    const uint8_t *body = packet->bytes + WIRE_HEADER_BYTES;
    size_t length = packet->length - WIRE_HEADER_BYTES;
    if (length < PUBLISH_HEADER_BYTES)
        return false;
    packet->channel_length = get_32(body);
    packet->message_length = get_32(body + 4);
    packet->channel = body + PUBLISH_HEADER_BYTES;
    packet->message = packet->channel + packet->channel_length;
    return length == PUBLISH_HEADER_BYTES + packet->channel_length + packet->message_length;
}

/* Another module's is a valid packet without meaning for us. */
static bool decode_module(struct wire_packet *packet, const uint8_t *body, size_t length) {
    if (length < MODULE_HEADER_BYTES || length - MODULE_HEADER_BYTES != get_32(body + 8))
        return false;
    if (memcmp(body, module_id, sizeof module_id) != 0)
        return true;
    packet->private_kind = body[12];
    packet->private_data = body + MODULE_HEADER_BYTES;
    packet->private_length = length - MODULE_HEADER_BYTES;
    return true;
}

static bool decode_body(struct wire_packet *packet) {
    const uint8_t *body = packet->bytes + WIRE_HEADER_BYTES;
    size_t length = packet->length - WIRE_HEADER_BYTES;
    switch (packet->header.type) {
    case WIRE_PING:
    case WIRE_PONG:
    case WIRE_MEET:
        return decode_ping(packet);
    case WIRE_FAIL:
        if (length != WIRE_ID_LENGTH)
            return false;
        memcpy(packet->failed.hex, body, WIRE_ID_LENGTH);
        return true;
    case WIRE_PUBLISH:
    case WIRE_PUBLISHSHARD:
        return decode_publish(packet);
    case WIRE_FAILOVER_AUTH_REQUEST:
    case WIRE_FAILOVER_AUTH_ACK:
    case WIRE_MFSTART:
        return length == 0;
    case WIRE_UPDATE:
        if (length != UPDATE_BYTES)
            return false;
        packet->update_epoch = get_64(body);
        memcpy(packet->update_id.hex, body + 8, WIRE_ID_LENGTH);
        packet->update_slots = body + 8 + WIRE_ID_LENGTH;
        return true;
    case WIRE_MODULE:
        return decode_module(packet, body, length);
    default:
        return true;
    }
}

enum wire_result wire_decode(const uint8_t *bytes, size_t length, struct wire_packet *packet) {
    if (length < WIRE_HEADER_BYTES)
        return WIRE_BAD_LENGTH;
    int64_t said = wire_length(bytes);
    if (said < 0)
        return (enum wire_result)said;
    if ((size_t)said != length)
        return WIRE_BAD_LENGTH;
    if (get_16(bytes + AT_VERSION) != WIRE_VERSION)
        return WIRE_BAD_VERSION;
    *packet = (struct wire_packet){.bytes = bytes, .length = length};
    decode_header(bytes, &packet->header);
    return decode_body(packet) ? WIRE_OK : WIRE_BAD_LENGTH;
}

void wire_gossip_at(const struct wire_packet *packet, unsigned i, struct wire_gossip *gossip) {
    ASSERT(i < packet->gossip_count);
    const uint8_t *bytes = packet->bytes + WIRE_HEADER_BYTES + (size_t)i * WIRE_GOSSIP_BYTES;
    memcpy(gossip->id.hex, bytes + GOSSIP_ID, WIRE_ID_LENGTH);
    gossip->ping_sent_s = get_32(bytes + GOSSIP_PING_SENT);
    gossip->pong_received_s = get_32(bytes + GOSSIP_PONG_RECEIVED);
    get_address(gossip->address, bytes + GOSSIP_ADDRESS);
    gossip->port = get_16(bytes + GOSSIP_PORT);
    gossip->bus_port = get_16(bytes + GOSSIP_BUS_PORT);
    gossip->flags = get_16(bytes + GOSSIP_FLAGS);
    gossip->secondary_port = get_16(bytes + GOSSIP_SECONDARY_PORT);
}

bool wire_next_extension(const struct wire_packet *packet, size_t *at,
                         struct wire_extension *extension) {
    if (packet->extension_count == 0)
        return false;
    if (*at == 0)
        *at = packet->extensions_at;
    if (!read_extension(packet->bytes + *at, packet->length - *at, extension))
        return false;
    *at += EXTENSION_HEADER_BYTES + extension->length;
    return true;
}

/* --- To bytes --------------------------------------------------------------------------------- */

void wire_begin(struct wire_builder *builder, uint8_t *bytes, size_t capacity,
                const struct wire_header *header) {
    ASSERT(capacity >= WIRE_HEADER_BYTES && capacity <= WIRE_MAX_BYTES);
    *builder =
        (struct wire_builder){.bytes = bytes, .capacity = capacity, .length = WIRE_HEADER_BYTES};
    memset(bytes, 0, WIRE_HEADER_BYTES);
    memcpy(bytes, signature, sizeof signature);
    put_16(bytes + AT_VERSION, WIRE_VERSION);
    put_16(bytes + AT_PORT, header->port);
    put_16(bytes + AT_TYPE, header->type);
    put_64(bytes + AT_CURRENT_EPOCH, header->current_epoch);
    put_64(bytes + AT_CONFIG_EPOCH, header->config_epoch);
    put_64(bytes + AT_OFFSET, header->offset);
    memcpy(bytes + AT_SENDER, header->sender.hex, WIRE_ID_LENGTH);
    memcpy(bytes + AT_SLOTS, header->slots, WIRE_SLOT_BYTES);
    memcpy(bytes + AT_PRIMARY, header->primary.hex, WIRE_ID_LENGTH);
    memcpy(bytes + AT_ADDRESS, header->address, strnlen(header->address, WIRE_ADDRESS_LENGTH - 1));
    memcpy(bytes + AT_SPARE, header->spare, WIRE_SPARE_LENGTH);
    put_16(bytes + AT_SECONDARY_PORT, header->secondary_port);
    put_16(bytes + AT_BUS_PORT, header->bus_port);
    put_16(bytes + AT_FLAGS, header->flags);
    bytes[AT_STATE] = !header->state_ok;
    memcpy(bytes + AT_MESSAGE_FLAGS, header->message_flags, sizeof header->message_flags);
}

/* NULL: there is no room. */
static uint8_t *grow(struct wire_builder *builder, size_t bytes) {
    if (builder->capacity - builder->length < bytes)
        return NULL;
    uint8_t *place = builder->bytes + builder->length;
    memset(place, 0, bytes);
    builder->length += bytes;
    return place;
}

bool wire_add_gossip(struct wire_builder *builder, const struct wire_gossip *gossip) {
    ASSERT(builder->extensions == 0);
    uint8_t *bytes = builder->count < UINT16_MAX ? grow(builder, WIRE_GOSSIP_BYTES) : NULL;
    if (!bytes)
        return false;
    memcpy(bytes + GOSSIP_ID, gossip->id.hex, WIRE_ID_LENGTH);
    put_32(bytes + GOSSIP_PING_SENT, gossip->ping_sent_s);
    put_32(bytes + GOSSIP_PONG_RECEIVED, gossip->pong_received_s);
    memcpy(bytes + GOSSIP_ADDRESS, gossip->address,
           strnlen(gossip->address, WIRE_ADDRESS_LENGTH - 1));
    put_16(bytes + GOSSIP_PORT, gossip->port);
    put_16(bytes + GOSSIP_BUS_PORT, gossip->bus_port);
    put_16(bytes + GOSSIP_FLAGS, gossip->flags);
    put_16(bytes + GOSSIP_SECONDARY_PORT, gossip->secondary_port);
    builder->count++;
    return true;
}

bool wire_add_extension(struct wire_builder *builder, enum wire_extension_type type,
                        const void *data, size_t length) {
    bool text = type == WIRE_EXTENSION_HOSTNAME || type == WIRE_EXTENSION_HUMAN_NODENAME;
    size_t padded = (length + text + 7) / 8 * 8;
    uint8_t *bytes = grow(builder, EXTENSION_HEADER_BYTES + padded);
    if (!bytes)
        return false;
    put_32(bytes, (uint32_t)(EXTENSION_HEADER_BYTES + padded));
    put_16(bytes + 4, (uint16_t)type);
    memcpy(bytes + EXTENSION_HEADER_BYTES, data, length);
    builder->extensions++;
    return true;
}

void wire_add_fail(struct wire_builder *builder, const struct node_id *failed) {
    uint8_t *bytes = grow(builder, WIRE_ID_LENGTH);
    ASSERT(bytes);
    memcpy(bytes, failed->hex, WIRE_ID_LENGTH);
}

void wire_add_update(struct wire_builder *builder, uint64_t config_epoch, const struct node_id *id,
                     const uint8_t *slots) {
    uint8_t *bytes = grow(builder, UPDATE_BYTES);
    ASSERT(bytes);
    put_64(bytes, config_epoch);
    memcpy(bytes + 8, id->hex, WIRE_ID_LENGTH);
    memcpy(bytes + 8 + WIRE_ID_LENGTH, slots, WIRE_SLOT_BYTES);
}

size_t wire_publish_bytes(size_t channel_length, size_t message_length) {
    return PUBLISH_HEADER_BYTES + channel_length + message_length;
}

void wire_add_publish(struct wire_builder *builder, const void *channel, size_t channel_length,
                      const void *message, size_t message_length) {
    uint8_t *bytes = grow(builder, wire_publish_bytes(channel_length, message_length));
    ASSERT(bytes);
    put_32(bytes, (uint32_t)channel_length);
    put_32(bytes + 4, (uint32_t)message_length);
    memcpy(bytes + PUBLISH_HEADER_BYTES, channel, channel_length);
    memcpy(bytes + PUBLISH_HEADER_BYTES + channel_length, message, message_length);
}

size_t wire_private_bytes(size_t length) {
    return MODULE_HEADER_BYTES + length;
}

void wire_add_private(struct wire_builder *builder, enum wire_private kind, const void *data,
                      size_t length) {
    uint8_t *bytes = grow(builder, wire_private_bytes(length));
    ASSERT(bytes);
    memcpy(bytes, module_id, sizeof module_id);
    put_32(bytes + 8, (uint32_t)length);
    bytes[12] = (uint8_t)kind;
    if (length > 0)
        memcpy(bytes + MODULE_HEADER_BYTES, data, length);
}

size_t wire_finish(struct wire_builder *builder) {
    put_32(builder->bytes + AT_LENGTH, (uint32_t)builder->length);
    put_16(builder->bytes + AT_COUNT, (uint16_t)builder->count);
    put_16(builder->bytes + AT_EXTENSIONS, (uint16_t)builder->extensions);
    if (builder->extensions > 0)
        builder->bytes[AT_MESSAGE_FLAGS] |= WIRE_FLAG_EXTENDED;
    return builder->length;
}
