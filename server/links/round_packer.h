/* Round packer: the bytes of a snapshot into LZ4 blocks (replication/rdb_block.h), once for all
 * replicas that read them, into the file of their round (sync_round.h).
 *
 * How hard it tries is decided for each block. While the fastest reader takes blocks as soon as
 * they are there, or somebody else wants the processor, blocks are packed fast; while blocks pile
 * up, because the link is what holds up the sync, the time until the link takes them is used to
 * make them smaller.
 *
 * On the thread of the sink. */
#ifndef SLOTWISE_SERVER_ROUND_PACKER_H
#define SLOTWISE_SERVER_ROUND_PACKER_H

#include <stddef.h>

#include "server/links/sync_round.h"

struct round_packer;

/* The round lives as long. */
struct round_packer *round_packer_make(struct sync_round *round);
void round_packer_free(struct round_packer *packer); /* NULL is fine */

/* The next bytes of the RDB. 0 or a negative errno. */
int round_packer_write(struct round_packer *packer, const void *data, size_t length);
/* That was all of it. 0 or a negative errno. */
int round_packer_end(struct round_packer *packer);

#endif
