/* RDB blocks: see rdb_block.h for the format. Run by: whoever owns the packer; nothing is shared.
 *
 * A block that saves less than 1/32 is stored. After one the next is packed fast whatever is asked
 * for, since a thorough search of what does not compress is the slowest of all. */
#include "replication/rdb_block.h"

#include <string.h>

#include <lz4.h>
#include <lz4hc.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/assert.h"
#include "engine/memory.h"

#define SAVING_SHIFT   5 /* less than 1/32 saved: stored */
#define THOROUGH_LEVEL 2 /* of LZ4HC: the fastest */

struct rdb_block_packer {
    uint64_t offset; /* plain bytes so far */
    bool stored;     /* the last block was */
    union {
        LZ4_stream_t fast;
        LZ4_streamHC_t thorough;
    } state; /* scratch of LZ4's */
};

/* --- Header ----------------------------------------------------------------------------------- */

static void store(uint8_t *at, size_t bytes, uint64_t value) {
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t load(const uint8_t *at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static uint64_t hash_of(const void *plain, size_t length, uint64_t offset, unsigned flags) {
    return XXH3_64bits_withSeed(plain, length, offset ^ (uint64_t)flags << 60);
}

static void write_header(uint8_t *header, const struct rdb_block *block) {
    header[0] = (uint8_t)(RDB_BLOCK_MARK | block->flags);
    store(header + 1, 4, block->plain_bytes);
    store(header + 5, 4, block->payload_bytes);
    store(header + 9, 8, block->hash);
}

int rdb_block_read_header(const void *header, struct rdb_block *block) {
    const uint8_t *bytes = header;
    *block = (struct rdb_block){.plain_bytes = load(bytes + 1, 4),
                                .payload_bytes = load(bytes + 5, 4),
                                .hash = load(bytes + 9, 8),
                                .flags = bytes[0] & RDB_BLOCK_FLAGS};
    bool right;
    if ((bytes[0] & ~(unsigned)RDB_BLOCK_FLAGS) != RDB_BLOCK_MARK)
        right = false;
    else if (block->flags & RDB_BLOCK_LAST)
        right = block->flags == RDB_BLOCK_LAST && !block->plain_bytes && !block->payload_bytes;
    else if (block->flags & RDB_BLOCK_STORED)
        right = block->payload_bytes == block->plain_bytes;
    else
        right = block->payload_bytes > 0 && block->payload_bytes < block->plain_bytes;
    if (block->plain_bytes > RDB_BLOCK_PLAIN_MAX ||
        (block->plain_bytes == 0 && !(block->flags & RDB_BLOCK_LAST)))
        right = false;
    return right ? 0 : RDB_BLOCK_ERROR_HEADER;
}

const char *rdb_block_error_text(int error) {
    switch (error) {
    case RDB_BLOCK_ERROR_HEADER:
        return "no block where one should start";
    case RDB_BLOCK_ERROR_PAYLOAD:
        return "a block that cannot be decompressed";
    case RDB_BLOCK_ERROR_HASH:
        return "a block whose checksum is wrong";
    default:
        return "no error";
    }
}

/* --- Packing ---------------------------------------------------------------------------------- */

struct rdb_block_packer *rdb_block_packer_create(void) {
    return memory_calloc(1, sizeof(struct rdb_block_packer));
}

void rdb_block_packer_destroy(struct rdb_block_packer *packer) {
    memory_free(packer);
}

/* 0: it is to be stored. */
static size_t compress(struct rdb_block_packer *packer, const void *plain, size_t length,
                       enum rdb_block_effort effort, void *payload) {
    int room = (int)(length - (length >> SAVING_SHIFT) - 1), written;
    if (room <= 0)
        return 0;
    if (effort == RDB_BLOCK_THOROUGH && !packer->stored)
        written = LZ4_compress_HC_extStateHC(&packer->state.thorough, plain, payload, (int)length,
                                             room, THOROUGH_LEVEL);
    else
        written =
            LZ4_compress_fast_extState(&packer->state.fast, plain, payload, (int)length, room, 1);
    return written > 0 ? (size_t)written : 0;
}

size_t rdb_block_pack(struct rdb_block_packer *packer, const void *plain, size_t length,
                      enum rdb_block_effort effort, void *wire) {
    ASSERT(length > 0 && length <= RDB_BLOCK_PLAIN_MAX);
    uint8_t *payload = (uint8_t *)wire + RDB_BLOCK_HEADER_BYTES;
    struct rdb_block block = {.plain_bytes = length,
                              .payload_bytes = compress(packer, plain, length, effort, payload)};
    packer->stored = block.payload_bytes == 0;
    if (packer->stored) {
        memcpy(payload, plain, length);
        block.payload_bytes = length;
        block.flags = RDB_BLOCK_STORED;
    }
    block.hash = hash_of(plain, length, packer->offset, block.flags);
    packer->offset += length;
    write_header(wire, &block);
    return RDB_BLOCK_HEADER_BYTES + block.payload_bytes;
}

size_t rdb_block_pack_last(struct rdb_block_packer *packer, void *wire) {
    const struct rdb_block block = {.flags = RDB_BLOCK_LAST,
                                    .hash = hash_of("", 0, packer->offset, RDB_BLOCK_LAST)};
    write_header(wire, &block);
    return RDB_BLOCK_HEADER_BYTES;
}

/* --- Opening ---------------------------------------------------------------------------------- */

int rdb_block_open(const struct rdb_block *block, const void *payload, uint64_t offset,
                   void *plain) {
    if (block->flags & RDB_BLOCK_STORED)
        memcpy(plain, payload, block->plain_bytes);
    else if (block->plain_bytes > 0 &&
             LZ4_decompress_safe(payload, plain, (int)block->payload_bytes,
                                 (int)block->plain_bytes) != (int)block->plain_bytes)
        return RDB_BLOCK_ERROR_PAYLOAD;
    return hash_of(plain, block->plain_bytes, offset, block->flags) == block->hash
               ? 0
               : RDB_BLOCK_ERROR_HASH;
}
