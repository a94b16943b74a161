/* LZF packer: the compression of strings in an RDB, in the format that every reader of RDB knows.
 *
 * Algorithm. One pass with a table of where each four bytes were seen last, 16 KB in all, so that
 * it stays in the processor's first cache and does not push out what a worker needs; bytes in which
 * nothing repeats are gone over in growing steps. The table is not cleared between strings: places
 * are counted on from one string to the next, so what is older than the string is known to be.
 *
 * A packer belongs to one thread at a time. */
#ifndef SLOTWISE_REPLICATION_LZF_PACK_H
#define SLOTWISE_REPLICATION_LZF_PACK_H

#include <stddef.h>
#include <stdint.h>

#define LZF_PACK_MAX_BYTES ((size_t)1 << 30) /* longer ones cannot be packed */
#define LZF_PLACES_BITS    12

struct lzf_packer {
    uint32_t base;                         /* place of the string's first byte */
    uint32_t places[1 << LZF_PLACES_BITS]; /* by hash; 0: none */
};

void lzf_packer_init(struct lzf_packer *packer);
/* The length of the result, at most room; 0: it would be larger. */
size_t lzf_pack(struct lzf_packer *packer, const void *data, size_t length, void *packed,
                size_t room);

#endif
