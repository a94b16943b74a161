/* RDB blocks: what is opened is what was packed, at either effort; what does not compress is
 * stored; damaged, lost and repeated blocks are found out. */
#include "replication/rdb_block.h"

#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "tests/unit/replication/streams.h"

#define PLAIN_BYTES ((size_t)1024 * 1024 + 12345)

/* JSON, then bytes that do not compress. */
static char *make_plain(void) {
    char *plain = malloc(PLAIN_BYTES);
    uint64_t seed = 7;
    size_t used = 0;
    while (used + JSON_SET_MAX < PLAIN_BYTES * 3 / 4)
        used += json_set(&seed, plain + used);
    random_fill(&seed, plain + used, PLAIN_BYTES - used);
    return plain;
}

/* In blocks of block_bytes, the last one included; *stored: how many were. */
static size_t pack_all(const char *plain, size_t block_bytes, enum rdb_block_effort effort,
                       char *wire, unsigned *stored) {
    struct rdb_block_packer *packer = rdb_block_packer_create();
    size_t used = 0;
    *stored = 0;
    for (size_t from = 0; from < PLAIN_BYTES; from += block_bytes) {
        size_t length = PLAIN_BYTES - from < block_bytes ? PLAIN_BYTES - from : block_bytes;
        size_t n = rdb_block_pack(packer, plain + from, length, effort, wire + used);
        cr_assert_leq(n, RDB_BLOCK_HEADER_BYTES + length);
        *stored += (wire[used] & RDB_BLOCK_STORED) != 0;
        used += n;
    }
    used += rdb_block_pack_last(packer, wire + used);
    rdb_block_packer_destroy(packer);
    return used;
}

/* The block at *at, opened exactly into its length. 1: it was the last; 0; or an error. */
static int open_next(const char *wire, size_t *at, uint64_t *offset, const char *plain) {
    struct rdb_block block;
    int error = rdb_block_read_header(wire + *at, &block);
    if (error)
        return error;
    char *opened = malloc(block.plain_bytes + 1);
    error = rdb_block_open(&block, wire + *at + RDB_BLOCK_HEADER_BYTES, *offset, opened);
    if (!error)
        cr_assert_arr_eq(opened, plain + *offset, block.plain_bytes);
    free(opened);
    *at += RDB_BLOCK_HEADER_BYTES + block.payload_bytes;
    *offset += block.plain_bytes;
    return error ? error : (block.flags & RDB_BLOCK_LAST) != 0;
}

static void goes_and_comes(size_t block_bytes, enum rdb_block_effort effort, size_t *wire_bytes) {
    char *plain = make_plain();
    char *wire = malloc(PLAIN_BYTES + (PLAIN_BYTES / block_bytes + 2) * RDB_BLOCK_HEADER_BYTES);
    unsigned stored;
    size_t length = pack_all(plain, block_bytes, effort, wire, &stored), at = 0;
    uint64_t offset = 0;
    int result;
    while ((result = open_next(wire, &at, &offset, plain)) == 0)
        continue;
    cr_assert_eq(result, 1, "%s", rdb_block_error_text(result));
    cr_assert_eq(at, length);
    cr_assert_eq(offset, PLAIN_BYTES);
    cr_assert_gt(stored, 0, "a quarter of it is random");
    *wire_bytes = length;
    free(wire);
    free(plain);
}

Test(rdb_block, what_goes_in_comes_out) {
    size_t fast, thorough, small;
    goes_and_comes(RDB_BLOCK_PLAIN_MAX, RDB_BLOCK_FAST, &fast);
    goes_and_comes(RDB_BLOCK_PLAIN_MAX, RDB_BLOCK_THOROUGH, &thorough);
    goes_and_comes(1000, RDB_BLOCK_THOROUGH, &small);
    cr_assert_lt(fast, PLAIN_BYTES * 3 / 4);
    cr_assert_lt(thorough, fast);
    cr_assert_lt(small, PLAIN_BYTES);
}

Test(rdb_block, blocks_of_a_few_bytes) {
    char plain[64], wire[RDB_BLOCK_WIRE_MAX];
    for (size_t length = 1; length <= sizeof plain; length++)
        for (int random = 0; random < 2; random++) {
            uint64_t seed = length, offset = 0;
            size_t at = 0;
            memset(plain, 'x', sizeof plain);
            if (random)
                random_fill(&seed, plain, sizeof plain);
            struct rdb_block_packer *packer = rdb_block_packer_create();
            size_t n = rdb_block_pack(packer, plain, length, RDB_BLOCK_FAST, wire);
            rdb_block_packer_destroy(packer);
            cr_assert_eq(open_next(wire, &at, &offset, plain), 0);
            cr_assert_eq(at, n);
            cr_assert_eq(offset, length);
        }
}

/* Any bit of a block that is another one, and a block in another's place. */
Test(rdb_block, damage_is_found) {
    static char wire[RDB_BLOCK_WIRE_MAX];
    char plain[1500], opened[RDB_BLOCK_PLAIN_MAX];
    for (int random = 0; random < 2; random++) {
        uint64_t seed = 3;
        struct rdb_block block;
        for (size_t used = 0; used + JSON_SET_MAX < sizeof plain;)
            used += json_set(&seed, plain + used);
        if (random)
            random_fill(&seed, plain, sizeof plain);
        struct rdb_block_packer *packer = rdb_block_packer_create();
        size_t length = rdb_block_pack(packer, plain, sizeof plain, RDB_BLOCK_FAST, wire);
        rdb_block_packer_destroy(packer);
        cr_assert_eq(rdb_block_read_header(wire, &block), 0);
        cr_assert_eq(rdb_block_open(&block, wire + RDB_BLOCK_HEADER_BYTES, 1, opened),
                     RDB_BLOCK_ERROR_HASH, "in another's place");
        for (size_t bit = 0; bit < length * 8; bit++) {
            wire[bit / 8] ^= (char)(1 << bit % 8);
            bool refused = rdb_block_read_header(wire, &block) < 0 ||
                           rdb_block_open(&block, wire + RDB_BLOCK_HEADER_BYTES, 0, opened) < 0;
            /* LZ4 may say the same in other words. */
            cr_assert(refused || (block.plain_bytes == sizeof plain &&
                                  memcmp(opened, plain, sizeof plain) == 0),
                      "bit %zu", bit);
            wire[bit / 8] ^= (char)(1 << bit % 8);
        }
    }
}

Test(rdb_block, headers_that_no_packer_writes) {
    struct rdb_block block;
    uint8_t wire[RDB_BLOCK_HEADER_BYTES];
    struct rdb_block_packer *packer = rdb_block_packer_create();
    cr_assert_eq(rdb_block_pack_last(packer, wire), sizeof wire);
    rdb_block_packer_destroy(packer);
    cr_assert_eq(rdb_block_read_header(wire, &block), 0);
    for (size_t byte = 1; byte < 9; byte++) { /* lengths */
        wire[byte] = 1;
        cr_assert_eq(rdb_block_read_header(wire, &block), RDB_BLOCK_ERROR_HEADER);
        wire[byte] = 0;
    }
    wire[0] = RDB_BLOCK_MARK; /* empty, and not the last */
    cr_assert_eq(rdb_block_read_header(wire, &block), RDB_BLOCK_ERROR_HEADER);
    wire[0] = RDB_BLOCK_MARK | RDB_BLOCK_STORED;
    cr_assert_eq(rdb_block_read_header(wire, &block), RDB_BLOCK_ERROR_HEADER);
    wire[1] = wire[5] = 9;
    cr_assert_eq(rdb_block_read_header(wire, &block), 0);
    wire[3] = wire[7] = 5; /* more than RDB_BLOCK_PLAIN_MAX */
    cr_assert_eq(rdb_block_read_header(wire, &block), RDB_BLOCK_ERROR_HEADER);
    for (int error = -3; error < 0; error++)
        cr_assert_str_neq(rdb_block_error_text(error), "no error");
}
