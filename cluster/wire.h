/* The cluster bus's packets: Redis 7's format (protocol version 1), to and from bytes.
 *
 *      0 "RCmb"    4 length       8 version      10 port         12 type        14 count
 *     16 current epoch           24 config epoch                 32 offset
 *     40 sender's id [40]        80 its slots, a bit each [2048]
 *   2128 id of its primary [40]  2168 its address as text [46]   2214 extensions
 *   2216 spare [30]              2246 secondary port  2248 bus port  2250 flags
 *   2252 its view of the cluster's state   2253 message flags [3]
 *   2256 what the type wants: gossip entries and extensions, FAIL, PUBLISH, UPDATE
 *
 * Numbers are big-endian. Pure: no clock, no socket, no allocation; safe from any thread. Every
 * length that a packet names is checked here, once, so that nobody behind has to. */
#ifndef SLOTWISE_CLUSTER_WIRE_H
#define SLOTWISE_CLUSTER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_ID_LENGTH      40
#define WIRE_SLOTS          16384
#define WIRE_SLOT_BYTES     (WIRE_SLOTS / 8)
#define WIRE_ADDRESS_LENGTH 46
#define WIRE_SPARE_LENGTH   30
#define WIRE_HEADER_BYTES   2256
#define WIRE_GOSSIP_BYTES   104
#define WIRE_PREFIX_BYTES   8 /* enough to know the length of a packet */
#define WIRE_MAX_BYTES      (64u * 1024 * 1024)
#define WIRE_VERSION        1

enum wire_type {
    WIRE_PING,
    WIRE_PONG,
    WIRE_MEET,
    WIRE_FAIL,
    WIRE_PUBLISH,
    WIRE_FAILOVER_AUTH_REQUEST,
    WIRE_FAILOVER_AUTH_ACK,
    WIRE_UPDATE,
    WIRE_MFSTART,
    WIRE_MODULE,
    WIRE_PUBLISHSHARD,
    WIRE_TYPES,
};

/* Of a node, as packets and gossip carry them. */
enum wire_node_flag {
    WIRE_NODE_PRIMARY = 1,
    WIRE_NODE_REPLICA = 2,
    WIRE_NODE_PFAIL = 4,
    WIRE_NODE_FAIL = 8,
    WIRE_NODE_MYSELF = 16,
    WIRE_NODE_HANDSHAKE = 32,
    WIRE_NODE_NOADDR = 64,
    WIRE_NODE_MEET = 128,
    WIRE_NODE_MIGRATE_TO = 256,
    WIRE_NODE_NOFAILOVER = 512,
};

/* message_flags[0] */
#define WIRE_FLAG_PAUSED    1   /* a primary that is paused for a manual failover */
#define WIRE_FLAG_FORCE_ACK 2   /* vote although the primary is up */
#define WIRE_FLAG_EXTENDED  4   /* understands, or has, extensions */
#define WIRE_FLAG_EARLY     128 /* vote before FAIL, for a primary whose lease has run out */

enum wire_extension_type {
    WIRE_EXTENSION_HOSTNAME,
    WIRE_EXTENSION_HUMAN_NODENAME,
    WIRE_EXTENSION_FORGOTTEN_NODE,
    WIRE_EXTENSION_SHARD_ID,
};

/* Between nodes that have the capability for it: as a message of a Redis module that nobody else
 * has, which other servers ignore. */
enum wire_private {
    WIRE_PRIVATE_NONE,
    WIRE_PRIVATE_LEASE,   /* a primary asks, or ends, its lease: lease.h */
    WIRE_PRIVATE_ANSWER,  /* the answer to it */
    WIRE_PRIVATE_PREVOTE, /* a replica asks whether it would be voted for: prevote.h */
    WIRE_PRIVATE_WOULD,   /* the answer, if it would */
};

struct node_id {
    char hex[WIRE_ID_LENGTH]; /* not terminated; all zero bytes: none */
};

struct wire_header {
    uint16_t type; /* of enum wire_type; others are valid packets that nobody knows */
    uint16_t port, secondary_port, bus_port;
    uint64_t current_epoch, config_epoch, offset;
    struct node_id sender, primary;
    char address[WIRE_ADDRESS_LENGTH]; /* terminated; empty: as the other side sees it */
    uint8_t slots[WIRE_SLOT_BYTES];
    uint8_t spare[WIRE_SPARE_LENGTH]; /* of capabilities (capability.h) */
    uint16_t flags;                   /* of enum wire_node_flag */
    bool state_ok;
    uint8_t message_flags[3];
};

struct wire_gossip {
    struct node_id id;
    uint32_t ping_sent_s, pong_received_s; /* Unix time */
    char address[WIRE_ADDRESS_LENGTH];     /* terminated */
    uint16_t port, bus_port, flags, secondary_port;
};

struct wire_extension {
    uint16_t type;
    const uint8_t *data; /* into the packet */
    size_t length;       /* with its padding */
};

/* --- From bytes ------------------------------------------------------------------------------- */

enum wire_result {
    WIRE_OK = 0,
    WIRE_BAD_SIGNATURE = -1, /* the link is to be closed */
    WIRE_BAD_LENGTH = -2,    /* too short, too long, or not what its parts add up to: closed */
    WIRE_BAD_VERSION = -3,   /* ignored */
};

/* A packet that has been checked; it points into the bytes. */
struct wire_packet {
    struct wire_header header;
    const uint8_t *bytes;
    size_t length;
    unsigned gossip_count, extension_count; /* PING, PONG, MEET */
    size_t extensions_at;                   /* offset of the first */
    struct node_id failed;                  /* FAIL */
    uint64_t update_epoch;                  /* UPDATE: of the owner */
    struct node_id update_id;               /* the same */
    const uint8_t *update_slots;            /* the same: WIRE_SLOT_BYTES */
    const uint8_t *channel, *message;       /* PUBLISH, PUBLISHSHARD */
    size_t channel_length, message_length;
    unsigned private_kind; /* MODULE: of enum wire_private, or one that nobody knows */
    const uint8_t *private_data;
    size_t private_length;
};

/* The length of the packet that begins with these WIRE_PREFIX_BYTES, or a negative result. */
int64_t wire_length(const uint8_t *prefix);
/* Checks and takes apart a whole packet. *packet is valid for WIRE_OK only, and as long as the
 * bytes are. A packet of a type that nobody knows is WIRE_OK if its header is. */
enum wire_result wire_decode(const uint8_t *bytes, size_t length, struct wire_packet *packet);
/* Entry i < gossip_count. */
void wire_gossip_at(const struct wire_packet *packet, unsigned i, struct wire_gossip *gossip);
/* The extensions in order: *at begins as 0; false: there is none left. */
bool wire_next_extension(const struct wire_packet *packet, size_t *at,
                         struct wire_extension *extension);

/* --- To bytes --------------------------------------------------------------------------------- */

/* Builds one packet in memory of the caller's. What does not fit any more is left out (gossip,
 * extensions) or asserted (the rest): the caller knows the sizes. */
struct wire_builder {
    uint8_t *bytes;
    size_t capacity, length;
    unsigned count, extensions;
};

/* WIRE_HEADER_BYTES are written. */
void wire_begin(struct wire_builder *builder, uint8_t *bytes, size_t capacity,
                const struct wire_header *header);
bool wire_add_gossip(struct wire_builder *builder, const struct wire_gossip *gossip);
/* After all gossip. The padding to eight bytes is added, for texts a zero at least. */
bool wire_add_extension(struct wire_builder *builder, enum wire_extension_type type,
                        const void *data, size_t length);
void wire_add_fail(struct wire_builder *builder, const struct node_id *failed);
void wire_add_update(struct wire_builder *builder, uint64_t config_epoch, const struct node_id *id,
                     const uint8_t *slots);
/* The bytes that PUBLISH needs behind the header. */
size_t wire_publish_bytes(size_t channel_length, size_t message_length);
void wire_add_publish(struct wire_builder *builder, const void *channel, size_t channel_length,
                      const void *message, size_t message_length);
/* The bytes that a private message needs behind the header. */
size_t wire_private_bytes(size_t length);
void wire_add_private(struct wire_builder *builder, enum wire_private kind, const void *data,
                      size_t length);
/* Writes length, count and extensions into the header; returns the packet's length. */
size_t wire_finish(struct wire_builder *builder);

static inline bool wire_slot_is(const uint8_t *slots, unsigned slot) {
    return slots[slot / 8] & (1u << (slot % 8));
}

#endif
