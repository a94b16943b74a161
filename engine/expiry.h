/* Active expiry: each worker walks the slots that are its home (slot mod workers) in small steps
 * and deletes what has expired, so that memory comes back without anybody asking for the keys
 * (expiry.c). */
#ifndef SLOTWISE_ENGINE_EXPIRY_H
#define SLOTWISE_ENGINE_EXPIRY_H

#include "engine/keyspace.h"

/* Where one worker is in its walk. Zero-initialised; used by that worker only. */
struct expiry_cursor {
    uint32_t slot;
    uint32_t database; /* physical */
    uint64_t bound;    /* in the slot's hash order; 0: its beginning */
    bool thinned;      /* no more pieces spread over this slot; on with its beginning */
    uint64_t spread;   /* where the last of them was */
    unsigned busy;     /* times in a row that the slot's token was somebody else's */
    /* The last slot that was given up because it was busy all the time, and how far it had got. */
    uint32_t left_slot, left_database;
    uint64_t left_bound;
};

/* One step of about budget_us. Keys are looked at under RCU, without a token; the token of a slot
 * is taken, by trying only, for what has expired: at most EXPIRY_DELETIONS_MAX deletions and about
 * 50 us, so the step as a whole may pass budget_us by one such piece. effort 1..10 as
 * active-expire-effort. Returns true if there is more to delete (call again soon), false if there
 * is no hurry. Counts expired and expire_limit_reached, not the time. The caller holds no token and
 * is a registered reader, online. */
#define EXPIRY_DELETIONS_MAX 64
bool expiry_step(struct keyspace *keyspace, struct expiry_cursor *cursor, unsigned worker,
                 unsigned workers, unsigned effort, uint64_t budget_us);

#endif
