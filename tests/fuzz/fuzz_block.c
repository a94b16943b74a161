/* The opening of RDB blocks on arbitrary bytes.
 *
 * The first bytes of the input choose how much of it is packed first, into blocks of which size and
 * with what effort, and where one of their bytes is damaged; the rest follows as it is, so that
 * hostile headers and payloads come as well. Checked: nothing outside of what it was given is
 * touched (payloads and plain bytes are copies of exactly their size), and undamaged blocks give
 * back the plain bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "replication/rdb_block.h"

#define HEAD_BYTES 6

/* Opens blocks until one is wrong, missing or the last. intact: plain bytes that must come out. */
static void open_all(const uint8_t *wire, size_t length, const uint8_t *plain, size_t intact) {
    struct rdb_block block;
    uint64_t offset = 0;
    while (length >= RDB_BLOCK_HEADER_BYTES) {
        if (rdb_block_read_header(wire, &block) < 0)
            break;
        ASSERT(block.plain_bytes <= RDB_BLOCK_PLAIN_MAX &&
               block.payload_bytes <= block.plain_bytes);
        wire += RDB_BLOCK_HEADER_BYTES;
        length -= RDB_BLOCK_HEADER_BYTES;
        if (length < block.payload_bytes)
            break;
        uint8_t *payload = malloc(block.payload_bytes), *opened = malloc(block.plain_bytes);
        memcpy(payload, wire, block.payload_bytes);
        int error = rdb_block_open(&block, payload, offset, opened);
        if (!error && offset + block.plain_bytes <= intact)
            ASSERT(memcmp(opened, plain + offset, block.plain_bytes) == 0);
        free(payload);
        free(opened);
        if (error || block.flags & RDB_BLOCK_LAST)
            break;
        offset += block.plain_bytes;
        wire += block.payload_bytes;
        length -= block.payload_bytes;
    }
    ASSERT(offset >= intact);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < HEAD_BYTES)
        return 0;
    const uint8_t *data = bytes + HEAD_BYTES;
    size -= HEAD_BYTES;
    size_t block_bytes = 1 + (size_t)bytes[0] * 64;
    enum rdb_block_effort effort = bytes[1] & 1 ? RDB_BLOCK_THOROUGH : RDB_BLOCK_FAST;
    size_t plain = bytes[2] < 128 ? size * bytes[2] / 127 : size, intact = 0, end = 0;
    size_t damaged = (size_t)bytes[3] | (size_t)bytes[4] << 8;
    uint8_t *wire = malloc(2 * size + (plain / block_bytes + 2) * RDB_BLOCK_HEADER_BYTES);
    struct rdb_block_packer *packer = rdb_block_packer_create();
    for (size_t from = 0, length; from < plain; from += length) {
        length = plain - from < block_bytes ? plain - from : block_bytes;
        end += rdb_block_pack(packer, data + from, length, effort, wire + end);
        if (bytes[5] == 0 || end <= damaged)
            intact = from + length;
    }
    if (bytes[1] & 2)
        end += rdb_block_pack_last(packer, wire + end);
    rdb_block_packer_destroy(packer);
    memcpy(wire + end, data + plain, size - plain);
    end += size - plain;
    if (damaged < end)
        wire[damaged] ^= bytes[5];
    open_all(wire, end, data, intact);
    free(wire);
    return 0;
}
