/* Active expiry: each worker walks the slots that are its home (slot mod workers) in small steps and deletes what
 * has expired, so that memory comes back without anybody asking for the keys (expiry.c). */
#ifndef SLOTWISE_ENGINE_EXPIRY_H
#define SLOTWISE_ENGINE_EXPIRY_H

#include "engine/keyspace.h"

/* Where one worker is in its walk. Zero-initialised; used by that worker only. */
struct expiry_cursor {
    uint32_t slot;
    uint32_t database;
    uint64_t bound;
};

/* One step of at most budget_us (a check is made between tokens; no token is held longer than about 50 us). effort 1..10
 * as active-expire-effort. Takes tokens by trying only: a busy slot is left for later. Returns true if expired keys are left
 * over (call again soon), false if there is no hurry. The caller holds no token and is a registered reader. */
bool expiry_step(struct keyspace *keyspace, struct expiry_cursor *cursor, unsigned worker, unsigned workers,
                 unsigned effort, uint64_t budget_us);

#endif
