/* RDB blocks: the bytes of an RDB on their way between two servers that both know this form, as
 * LZ4 blocks that need nothing of each other.
 *
 * The RDB is cut wherever a block is full, so blocks know nothing of keys. On the wire, integers in
 * little endian:
 *
 *   byte   0      1..4    5..8      9..16   17..
 *        +------+-------+---------+-------+-----------------+
 *        | mark | plain | payload | hash  | payload         |
 *        +------+-------+---------+-------+-----------------+
 *
 *   mark     RDB_BLOCK_MARK in the upper six bits, enum rdb_block_flag in the lower two
 *   plain    plain bytes in the block, 1..RDB_BLOCK_PLAIN_MAX; 0 in the last one
 *   payload  bytes that follow the header; as many as plain if it is stored, else fewer
 *   hash     XXH3 of the plain bytes, seeded with where in the RDB they begin and the flags: a
 * block that is lost, sent twice or in another's place is found out as well
 *
 * The last block has no bytes and ends the RDB: what comes behind it is not part of it.
 *
 * A packer belongs to one thread at a time. Opening has no state. */
#ifndef SLOTWISE_REPLICATION_RDB_BLOCK_H
#define SLOTWISE_REPLICATION_RDB_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RDB_BLOCK_PLAIN_MAX    (256 * 1024)
#define RDB_BLOCK_HEADER_BYTES 17
#define RDB_BLOCK_WIRE_MAX     (RDB_BLOCK_HEADER_BYTES + RDB_BLOCK_PLAIN_MAX)
#define RDB_BLOCK_MARK         0xd0

enum rdb_block_flag { RDB_BLOCK_STORED = 1, RDB_BLOCK_LAST = 2, RDB_BLOCK_FLAGS = 3 };

enum rdb_block_error {
    RDB_BLOCK_ERROR_HEADER = -1,  /* no header that a packer writes */
    RDB_BLOCK_ERROR_PAYLOAD = -2, /* not LZ4, or not as many plain bytes as the header says */
    RDB_BLOCK_ERROR_HASH = -3,
};
/* What to log; static text. */
const char *rdb_block_error_text(int error);

/* --- Packing ---------------------------------------------------------------------------------- */

enum rdb_block_effort {
    RDB_BLOCK_FAST,     /* hundreds of MB/s */
    RDB_BLOCK_THOROUGH, /* a few times as long, for about a quarter fewer bytes */
};

struct rdb_block_packer;

struct rdb_block_packer *rdb_block_packer_create(void);
void rdb_block_packer_destroy(struct rdb_block_packer *packer); /* NULL is fine */

/* Packs the next length (1..RDB_BLOCK_PLAIN_MAX) bytes of the RDB into wire (RDB_BLOCK_WIRE_MAX
 * bytes). Returns the bytes written. What does not become smaller is stored. */
size_t rdb_block_pack(struct rdb_block_packer *packer, const void *plain, size_t length,
                      enum rdb_block_effort effort, void *wire);
/* The last block: RDB_BLOCK_HEADER_BYTES. */
size_t rdb_block_pack_last(struct rdb_block_packer *packer, void *wire);

/* --- Opening: bytes that may come from anybody ------------------------------------------------ */

struct rdb_block {
    size_t plain_bytes, payload_bytes; /* within the limits */
    uint64_t hash;
    unsigned flags; /* enum rdb_block_flag */
};

/* 0 or a negative enum rdb_block_error. header: RDB_BLOCK_HEADER_BYTES. */
int rdb_block_read_header(const void *header, struct rdb_block *block);
/* Opens the payload (block->payload_bytes) of a header that was read, into plain, which has room
 * for block->plain_bytes. offset: the plain bytes of all blocks before it. 0 or a negative enum
 * rdb_block_error; plain holds anything then. */
int rdb_block_open(const struct rdb_block *block, const void *payload, uint64_t offset,
                   void *plain);

#endif
