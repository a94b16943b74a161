/* The packets of the cluster bus: one caught from a stock server, round trips, hostile lengths. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/wire.h"

/* A MEET of redis-server 7.0.15 on loopback, as it came over the socket: of a primary with slots 0
 * to 100 and 16383, two nodes in its gossip, its host's name as an extension. What is left out is
 * zero. */
#define CAUGHT_BYTES 2496
static const struct piece {
    size_t at, length;
    const char *bytes;
} caught_pieces[] = {
    {0, 16, "RCmb\x00\x00\x09\xc0\x00\x01g!\x00\x02\x00\x02"},
    {23, 1, "\x02"},
    {40, 53,
     "e378e692c4dfb7638cb4c29b737f87126b653116\xff\xff\xff\xff\xff\xff"
     "\xff\xff\xff\xff\xff\xff\x1f"},
    {2127, 1, "\x80"},
    {2215, 1, "\x01"},
    {2248, 6, "\x8e\x31\x00\x11\x01\x04"},
    {2256, 40, "85226139a46e0b013a4218efcf9b16f8cd55718f"},
    {2300, 13,
     "k\x09{\x8e"
     "127.0.0.1"},
    {2350, 6, "g\x22\x8e\x32\x00\x01"},
    {2360, 40, "578aa623d238fd44b4f2dab9a327994237854492"},
    {2404, 13,
     "k\x09{\x8d"
     "127.0.0.1"},
    {2454, 6, "g#\x8e\x33\x00\x01"},
    {2467, 1, " "},
    {2472, 18, "host-26401.example"},
};

static void make_caught(uint8_t *bytes) {
    memset(bytes, 0, CAUGHT_BYTES);
    for (size_t i = 0; i < sizeof caught_pieces / sizeof *caught_pieces; i++)
        memcpy(bytes + caught_pieces[i].at, caught_pieces[i].bytes, caught_pieces[i].length);
}

Test(wire, reads_what_a_stock_server_sends) {
    uint8_t bytes[CAUGHT_BYTES];
    make_caught(bytes);
    struct wire_packet packet;
    cr_assert_eq(wire_length(bytes), CAUGHT_BYTES);
    cr_assert_eq(wire_decode(bytes, sizeof bytes, &packet), WIRE_OK);
    const struct wire_header *header = &packet.header;
    cr_assert_eq(header->type, WIRE_MEET);
    cr_assert_eq(header->port, 26401);
    cr_assert_eq(header->bus_port, 36401);
    cr_assert_eq(header->secondary_port, 0);
    cr_assert_eq(header->current_epoch, 2);
    cr_assert_eq(header->config_epoch, 0);
    cr_assert_eq(header->flags, WIRE_NODE_PRIMARY | WIRE_NODE_MYSELF);
    cr_assert(!header->state_ok);
    cr_assert_eq(header->message_flags[0], WIRE_FLAG_EXTENDED);
    cr_assert_eq(memcmp(header->sender.hex, "e378e692c4dfb7638cb4c29b737f87126b653116", 40), 0);
    cr_assert_eq(header->primary.hex[0], 0);
    cr_assert_str_eq(header->address, "");
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++)
        cr_assert_eq(wire_slot_is(header->slots, slot), slot <= 100 || slot == 16383);
    cr_assert_eq(packet.gossip_count, 2);
    struct wire_gossip gossip;
    wire_gossip_at(&packet, 1, &gossip);
    cr_assert_eq(memcmp(gossip.id.hex, "578aa623d238fd44b4f2dab9a327994237854492", 40), 0);
    cr_assert_str_eq(gossip.address, "127.0.0.1");
    cr_assert_eq(gossip.port, 26403);
    cr_assert_eq(gossip.bus_port, 36403);
    cr_assert_eq(gossip.flags, WIRE_NODE_PRIMARY);
    cr_assert_eq(gossip.ping_sent_s, 0);
    cr_assert_eq(gossip.pong_received_s, 1795783565);
    size_t at = 0;
    struct wire_extension extension;
    cr_assert(wire_next_extension(&packet, &at, &extension));
    cr_assert_eq(extension.type, WIRE_EXTENSION_HOSTNAME);
    cr_assert_eq(extension.length, 24);
    cr_assert_str_eq((const char *)extension.data, "host-26401.example");
    cr_assert(!wire_next_extension(&packet, &at, &extension));
}

/* What is read and written again are the same bytes. */
static size_t write_again(const struct wire_packet *packet, uint8_t *bytes, size_t capacity) {
    struct wire_builder builder;
    struct wire_header header = packet->header;
    wire_begin(&builder, bytes, capacity, &header);
    for (unsigned i = 0; i < packet->gossip_count; i++) {
        struct wire_gossip gossip;
        wire_gossip_at(packet, i, &gossip);
        cr_assert(wire_add_gossip(&builder, &gossip));
    }
    size_t at = 0;
    struct wire_extension extension;
    while (wire_next_extension(packet, &at, &extension)) {
        bool text = extension.type <= WIRE_EXTENSION_HUMAN_NODENAME;
        size_t length = text ? strlen((const char *)extension.data) : extension.length;
        cr_assert(wire_add_extension(&builder, (enum wire_extension_type)extension.type,
                                     extension.data, length));
    }
    if (packet->header.type == WIRE_FAIL)
        wire_add_fail(&builder, &packet->failed);
    if (packet->header.type == WIRE_UPDATE)
        wire_add_update(&builder, packet->update_epoch, &packet->update_id, packet->update_slots);
    if (packet->header.type == WIRE_PUBLISH || packet->header.type == WIRE_PUBLISHSHARD)
        wire_add_publish(&builder, packet->channel, packet->channel_length, packet->message,
                         packet->message_length);
    return wire_finish(&builder);
}

static void check_same(const uint8_t *bytes, size_t length) {
    struct wire_packet packet;
    uint8_t again[8192];
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_OK);
    cr_assert_eq(write_again(&packet, again, sizeof again), length);
    cr_assert_eq(memcmp(bytes, again, length), 0);
}

Test(wire, writes_what_a_stock_server_sends) {
    uint8_t bytes[CAUGHT_BYTES];
    make_caught(bytes);
    check_same(bytes, sizeof bytes);
}

static void random_header(struct wire_header *header, enum wire_type type) {
    memset(header, 0, sizeof *header);
    header->type = (uint16_t)type;
    header->port = (uint16_t)rand();
    header->secondary_port = (uint16_t)rand();
    header->bus_port = (uint16_t)rand();
    header->current_epoch = (uint64_t)rand() << 31 | (uint64_t)rand();
    header->config_epoch = (uint64_t)rand() << 31;
    header->offset = UINT64_MAX - (uint64_t)rand();
    memset(header->sender.hex, 'a' + rand() % 6, WIRE_ID_LENGTH);
    memset(header->primary.hex, '0' + rand() % 10, WIRE_ID_LENGTH);
    strcpy(header->address, rand() % 2 ? "192.168.56.101" : "");
    for (size_t i = 0; i < WIRE_SLOT_BYTES; i++)
        header->slots[i] = (uint8_t)rand();
    header->spare[rand() % WIRE_SPARE_LENGTH] = (uint8_t)rand();
    header->flags = (uint16_t)rand();
    header->state_ok = rand() % 2;
    header->message_flags[0] = (uint8_t)(rand() % 4);
}

static size_t random_packet(uint8_t *bytes, size_t capacity, enum wire_type type) {
    struct wire_header header;
    struct wire_builder builder;
    struct node_id id;
    random_header(&header, type);
    memset(id.hex, 'f', sizeof id.hex);
    wire_begin(&builder, bytes, capacity, &header);
    if (type <= WIRE_MEET) {
        for (int i = rand() % 8; i > 0; i--) {
            struct wire_gossip gossip = {.id = id,
                                         .port = (uint16_t)rand(),
                                         .flags = (uint16_t)rand(),
                                         .bus_port = 1,
                                         .secondary_port = 2,
                                         .ping_sent_s = 3,
                                         .pong_received_s = (uint32_t)rand(),
                                         .address = "::1"};
            cr_assert(wire_add_gossip(&builder, &gossip));
        }
        if (rand() % 2)
            cr_assert(wire_add_extension(&builder, WIRE_EXTENSION_HOSTNAME, "12345678", 8));
        if (rand() % 2)
            cr_assert(wire_add_extension(&builder, WIRE_EXTENSION_SHARD_ID, id.hex, sizeof id.hex));
    } else if (type == WIRE_FAIL) {
        wire_add_fail(&builder, &id);
    } else if (type == WIRE_UPDATE) {
        wire_add_update(&builder, 77, &id, header.slots);
    } else if (type == WIRE_PUBLISH || type == WIRE_PUBLISHSHARD) {
        wire_add_publish(&builder, "channel", (size_t)(rand() % 8), "a message",
                         (size_t)(rand() % 10));
    }
    return wire_finish(&builder);
}

static const enum wire_type types[] = {WIRE_PING,
                                       WIRE_PONG,
                                       WIRE_MEET,
                                       WIRE_FAIL,
                                       WIRE_PUBLISH,
                                       WIRE_FAILOVER_AUTH_REQUEST,
                                       WIRE_FAILOVER_AUTH_ACK,
                                       WIRE_UPDATE,
                                       WIRE_MFSTART,
                                       WIRE_PUBLISHSHARD};

Test(wire, round_trips) {
    uint8_t bytes[8192];
    srand(7);
    for (unsigned i = 0; i < 5000; i++)
        check_same(bytes,
                   random_packet(bytes, sizeof bytes, types[i % (sizeof types / sizeof *types)]));
}

/* Cut short, or with another length in its header, no packet is whole. */
Test(wire, lengths_must_add_up) {
    uint8_t bytes[8192];
    struct wire_packet packet;
    srand(8);
    for (unsigned i = 0; i < 200; i++) {
        size_t length =
            random_packet(bytes, sizeof bytes, types[i % (sizeof types / sizeof *types)]);
        for (size_t cut = 1; cut <= length; cut += 1 + cut / 3) {
            uint8_t *exact = malloc(length - cut + 1);
            memcpy(exact, bytes, length - cut);
            cr_assert_eq(wire_decode(exact, length - cut, &packet), WIRE_BAD_LENGTH);
            if (length - cut >= WIRE_HEADER_BYTES) {
                size_t shorter = length - cut;
                for (unsigned byte = 0; byte < 4; byte++)
                    exact[7 - byte] = (uint8_t)(shorter >> (8 * byte));
                cr_assert_eq(wire_decode(exact, shorter, &packet), WIRE_BAD_LENGTH);
            }
            free(exact);
        }
    }
}

Test(wire, beginnings) {
    uint8_t bytes[CAUGHT_BYTES];
    make_caught(bytes);
    struct wire_packet packet;
    bytes[9] = 2;
    cr_assert_eq(wire_decode(bytes, sizeof bytes, &packet), WIRE_BAD_VERSION);
    bytes[0] = 'r';
    cr_assert_eq(wire_length(bytes), WIRE_BAD_SIGNATURE);
    cr_assert_eq(wire_length((const uint8_t *)"RCmb\0\0\x08\xcf"), WIRE_BAD_LENGTH,
                 "a header less one byte");
    cr_assert_eq(wire_length((const uint8_t *)"RCmb\0\0\x08\xd0"), WIRE_HEADER_BYTES);
    cr_assert_eq(wire_length((const uint8_t *)"RCmb\xff\xff\xff\xff"), WIRE_BAD_LENGTH,
                 "more than anybody sends");
}

/* Counts and lengths inside that point behind the end. */
Test(wire, hostile_numbers) {
    uint8_t bytes[CAUGHT_BYTES];
    struct wire_packet packet;
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{14, 0xff}, {15, 3},      {15, 0},   {2214, 1}, {2215, 0},
                   {2215, 2},  {2464, 0xff}, {2467, 7}, {2467, 0}, {2467, 28}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_caught(bytes);
        bytes[changes[i].at] = changes[i].value;
        cr_assert_eq(wire_decode(bytes, sizeof bytes, &packet), WIRE_BAD_LENGTH, "change %zu", i);
    }
    size_t length = random_packet(bytes, sizeof bytes, WIRE_PUBLISH);
    bytes[WIRE_HEADER_BYTES] = 0xff;
    cr_assert_eq(wire_decode(bytes, length, &packet), WIRE_BAD_LENGTH);
}

/* Texts of peers need not end. */
Test(wire, addresses_end) {
    uint8_t bytes[CAUGHT_BYTES];
    make_caught(bytes);
    memset(bytes + 2168, 'x', WIRE_ADDRESS_LENGTH);
    memset(bytes + WIRE_HEADER_BYTES + 48, 'y', WIRE_ADDRESS_LENGTH);
    struct wire_packet packet;
    struct wire_gossip gossip;
    cr_assert_eq(wire_decode(bytes, sizeof bytes, &packet), WIRE_OK);
    wire_gossip_at(&packet, 0, &gossip);
    cr_assert_eq(strlen(packet.header.address), WIRE_ADDRESS_LENGTH - 1);
    cr_assert_eq(strlen(gossip.address), WIRE_ADDRESS_LENGTH - 1);
}

Test(wire, a_builder_that_is_full_says_so) {
    uint8_t bytes[WIRE_HEADER_BYTES + WIRE_GOSSIP_BYTES + 24];
    struct wire_header header = {.type = WIRE_PING};
    struct wire_builder builder;
    wire_begin(&builder, bytes, sizeof bytes, &header);
    struct wire_gossip gossip = {.address = "127.0.0.1"};
    cr_assert(wire_add_gossip(&builder, &gossip));
    cr_assert(!wire_add_gossip(&builder, &gossip));
    cr_assert(!wire_add_extension(&builder, WIRE_EXTENSION_HOSTNAME, "0123456789abcdef", 16));
    cr_assert(wire_add_extension(&builder, WIRE_EXTENSION_HOSTNAME, "0123456789abcde", 15));
    struct wire_packet packet;
    cr_assert_eq(wire_decode(bytes, wire_finish(&builder), &packet), WIRE_OK);
    cr_assert_eq(packet.gossip_count, 1);
    cr_assert_eq(packet.extension_count, 1);
}

Test(wire, unknown_types_have_a_header) {
    uint8_t bytes[CAUGHT_BYTES];
    make_caught(bytes);
    bytes[13] = 99;
    struct wire_packet packet;
    cr_assert_eq(wire_decode(bytes, sizeof bytes, &packet), WIRE_OK);
    cr_assert_eq(packet.gossip_count, 0);
}
