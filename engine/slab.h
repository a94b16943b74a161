/* Slabs: small pieces of memory in finer size classes than the allocator has (8 bytes apart up to
 * 512, then 16, then 32 up to SLAB_MAX_BYTES). A key with its value is one piece, so what a class
 * rounds up is paid for each key. See slab.c for the essay.
 *
 * Any thread may call anything here; a piece may be freed on another thread than it came from.
 * Pieces are aligned to 8 bytes. Not accounted: that is memory.c's business. */
#ifndef SLOTWISE_ENGINE_SLAB_H
#define SLOTWISE_ENGINE_SLAB_H

#include <stddef.h>

#define SLAB_MAX_BYTES 2048

void *slab_alloc(size_t size_bytes);            /* 1..SLAB_MAX_BYTES; NULL: out of memory */
void slab_free(void *piece, size_t size_bytes); /* the size that was asked for */
size_t slab_class_bytes(size_t size_bytes);     /* what it takes */
/* Gives back what the calling thread keeps for its next allocations. */
void slab_thread_flush(void);
/* Gives memory in which every piece is free back to the system. May take milliseconds; delays
 * nobody else. */
void slab_give_back(void);

#endif
