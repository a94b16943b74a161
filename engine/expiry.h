/* Active expiry: each worker looks after blocks of slots of its own (the slot / 64, mod workers) in
 * small steps and deletes what has expired, so that memory comes back without anybody asking for
 * the keys (expiry.c). */
#ifndef SLOTWISE_ENGINE_EXPIRY_H
#define SLOTWISE_ENGINE_EXPIRY_H

#include "engine/keyspace.h"

/* Where one worker is in its round. Zero-initialised; used by that worker only. */
struct expiry_cursor {
    uint32_t database; /* physical */
    uint32_t slot;
    uint64_t group; /* how many of the slot's groups this round has been at */
};

/* One step of about budget_us. Keys are looked at under RCU, without a token; the token of a slot
 * is taken, by trying only, for what has expired: at most EXPIRY_DELETIONS_MAX deletions and about
 * 50 us, so the step as a whole may pass budget_us by a few such pieces. effort 1..10 as
 * active-expire-effort: how soon a place where keys expire all the time is looked at again. Returns
 * true if there is more to delete (call again soon), false if there is no hurry. Counts expired and
 * expire_limit_reached, not the time. Nothing is deleted where the view forbids it (a replica,
 * CLIENT PAUSE). The caller holds no token and is a registered reader, online; its change is
 * between two units. */
#define EXPIRY_DELETIONS_MAX 64
bool expiry_step(struct keyspace *keyspace, struct change *change, struct expiry_cursor *cursor,
                 unsigned worker, unsigned workers, unsigned effort, uint64_t budget_us);

#endif
