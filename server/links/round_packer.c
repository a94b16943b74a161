/* See round_packer.h. */
#include "server/links/round_packer.h"

#include <string.h>
#include <time.h>

#include "engine/clock.h"
#include "engine/memory.h"
#include "replication/rdb_block.h"

#define PILED_UP_BYTES ((uint64_t)1024 * 1024) /* of blocks that nobody has taken yet */
#define SHARE_BLOCKS   8                       /* the share of the processor is about theirs */
#define SHARE_MIN      0.8

struct round_packer {
    struct sync_round *round;
    struct rdb_block_packer *blocks;
    double share; /* of the time that the last blocks took, it had a processor: 0..1 */
    size_t used;
    uint8_t plain[RDB_BLOCK_PLAIN_MAX];
    uint8_t wire[RDB_BLOCK_WIRE_MAX];
};

struct round_packer *round_packer_make(struct sync_round *round) {
    struct round_packer *packer = memory_alloc(sizeof *packer);
    packer->round = round;
    packer->blocks = rdb_block_packer_create();
    packer->share = 1;
    packer->used = 0;
    return packer;
}

void round_packer_free(struct round_packer *packer) {
    if (packer)
        rdb_block_packer_destroy(packer->blocks);
    memory_free(packer);
}

static uint64_t processor_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
}

static enum rdb_block_effort choose_effort(const struct round_packer *packer) {
    uint64_t piled_up = atomic_load_explicit(&packer->round->written, memory_order_relaxed) -
                        atomic_load_explicit(&packer->round->read, memory_order_relaxed);
    return piled_up > PILED_UP_BYTES && packer->share > SHARE_MIN ? RDB_BLOCK_THOROUGH
                                                                  : RDB_BLOCK_FAST;
}

static int pack(struct round_packer *packer) {
    uint64_t began_us = clock_monotonic_us(), began_processor_us = processor_us();
    size_t length = rdb_block_pack(packer->blocks, packer->plain, packer->used,
                                   choose_effort(packer), packer->wire);
    uint64_t took_us = clock_monotonic_us() - began_us,
             used_us = processor_us() - began_processor_us;
    if (took_us > 0)
        packer->share += ((double)used_us / (double)took_us - packer->share) / SHARE_BLOCKS;
    packer->used = 0;
    return sync_round_write(packer->round, packer->wire, length);
}

int round_packer_write(struct round_packer *packer, const void *data, size_t length) {
    for (const uint8_t *from = data; length > 0;) {
        size_t n = sizeof packer->plain - packer->used;
        n = n < length ? n : length;
        memcpy(packer->plain + packer->used, from, n);
        packer->used += n;
        from += n;
        length -= n;
        int error = packer->used == sizeof packer->plain ? pack(packer) : 0;
        if (error)
            return error;
    }
    return 0;
}

int round_packer_end(struct round_packer *packer) {
    int error = packer->used > 0 ? pack(packer) : 0;
    if (error)
        return error;
    size_t length = rdb_block_pack_last(packer->blocks, packer->wire);
    return sync_round_write(packer->round, packer->wire, length);
}
