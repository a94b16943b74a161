/* The packets of the cluster bus on arbitrary bytes.
 *
 * The input is taken as a packet twice: as it is, and with its beginning and its length put right,
 * so that what is behind is reached. Checked: no byte outside the input is touched (it is a copy of
 * exactly its size), all that a whole packet points to lies inside it, and texts end. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/wire.h"
#include "engine/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(const struct wire_packet *packet, const uint8_t *from, size_t length) {
    ASSERT(length == 0 ||
           (from >= packet->bytes && from + length <= packet->bytes + packet->length));
}

static void read_all(const struct wire_packet *packet) {
    struct wire_gossip gossip;
    for (unsigned i = 0; i < packet->gossip_count; i++) {
        wire_gossip_at(packet, i, &gossip);
        ASSERT(strnlen(gossip.address, sizeof gossip.address) < sizeof gossip.address);
    }
    struct wire_extension extension;
    size_t at = 0;
    unsigned extensions = 0;
    for (; wire_next_extension(packet, &at, &extension) && extensions < packet->extension_count;
         extensions++)
        check_inside(packet, extension.data, extension.length);
    ASSERT(extensions == packet->extension_count);
    ASSERT(strnlen(packet->header.address, WIRE_ADDRESS_LENGTH) < WIRE_ADDRESS_LENGTH);
    if (packet->header.type == WIRE_UPDATE)
        check_inside(packet, packet->update_slots, WIRE_SLOT_BYTES);
    check_inside(packet, packet->channel, packet->channel_length);
    check_inside(packet, packet->message, packet->message_length);
}

static void try_packet(const uint8_t *data, size_t size) {
    struct wire_packet packet;
    if (size >= WIRE_PREFIX_BYTES)
        (void)wire_length(data);
    if (wire_decode(data, size, &packet) == WIRE_OK)
        read_all(&packet);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    try_packet(copy, size);
    free(copy);
    if (size < 4)
        return 0;
    /* A header of zeros with the type, the counts and the flags that the input begins with. */
    size_t length = WIRE_HEADER_BYTES + size - 4;
    copy = calloc(1, length);
    memcpy(copy, "RCmb", 4);
    for (unsigned i = 0; i < 4; i++)
        copy[7 - i] = (uint8_t)(length >> (8 * i));
    copy[9] = WIRE_VERSION;
    copy[13] = data[0] % (WIRE_TYPES + 1);
    copy[15] = data[1];
    copy[2215] = data[2];
    copy[2253] = data[3];
    memcpy(copy + WIRE_HEADER_BYTES, data + 4, size - 4);
    try_packet(copy, length);
    free(copy);
    return 0;
}
