/* Slots, their tokens, and waiting for them.
 *
 * The slot is the unit of ownership and atomicity: 16384 of them, whatever the number of cores. A
 * writer holds the slot's token (the HELD bit of its word) for one command; readers of small values
 * take nothing and validate the word instead. See slot.c for the essay (Algorithm / Ordering /
 * Progress).
 *
 * Who may hold tokens: registered worker threads, only while a command runs; never across a
 * blocking wait or a loop turn. A command that cannot have all its tokens at once gives back those
 * it has and parks (slot_park); only the owner of patience waits while holding. */
#ifndef SLOTWISE_ENGINE_SLOT_H
#define SLOTWISE_ENGINE_SLOT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/assert.h"
#include "engine/waiter.h"

#define SLOT_COUNT 16384
#define SLOT_BITS  14

/* Bits of struct slot.word; the version fills the rest. */
#define SLOT_HELD ((uint64_t)1 << 0) /* somebody has the token */
#define SLOT_WAITERS                                                                               \
    ((uint64_t)1 << 1) /* set only on a taken word: the release must wake the list */
#define SLOT_SERVING                                                                               \
    ((uint64_t)1 << 2) /* this node serves the slot; changed only under the token */
#define SLOT_WATCHED                                                                               \
    ((uint64_t)1 << 3) /* some key of it is WATCHed; changed only under the token */
#define SLOT_RESERVED                                                                              \
    ((uint64_t)1 << 4) /* the next token is for a thread in slot_acquire_waiting */
#define SLOT_BLOCKED                                                                               \
    ((uint64_t)1 << 5) /* somebody waits for a key of it to appear; changed only under the token   \
                        */
#define SLOT_TAKEN       (SLOT_HELD | SLOT_RESERVED) /* slot_try_acquire fails */
#define SLOT_VERSION_ONE ((uint64_t)1 << 8)

struct table;
struct watch_table;   /* watch.c: watchers by key */
struct blocked_table; /* whoever blocks (change.h: appeared): who waits, by key */

/* One cache line. word: any thread by CAS; all else is written by the token's holder only. */
struct slot {
    _Alignas(64) _Atomic uint64_t word;
    /* Physical database 0: one of the two is in use (keyspace->side). NULL while empty; published
     * by release. The other one: only who empties it after a flush. */
    struct table *_Atomic table0[2];
    struct watch_table *watchers;  /* NULL while no key is watched; under the token */
    struct blocked_table *blocked; /* NULL while nobody waits for a key; under the token */
};

/* --- Reading without the token ---------------------------------------------------------------- */

/* false: held or not serving, do not start (take the token or refuse). */
static inline bool slot_read_begin(const struct slot *slot, uint64_t *word) {
    *word = atomic_load_explicit(&slot->word, memory_order_seq_cst);
    return (*word & (SLOT_HELD | SLOT_SERVING)) == SLOT_SERVING;
}

/* true: nothing changed since slot_read_begin; what was read (a miss as much as a hit) is valid.
 * What is read in between must be atomic (relaxed is enough) or immutable and reached through an
 * acquire load. Several slots: begin all, read, validate all. */
static inline bool slot_read_validate(const struct slot *slot, uint64_t word) {
    atomic_thread_fence(
        memory_order_acquire); /* pairs with the release fence in slot_try_acquire */
    /* Other bits may change without a change of data: a needless retry, never a wrong answer. */
    return atomic_load_explicit(&slot->word, memory_order_seq_cst) == word;
}

/* --- The token -------------------------------------------------------------------------------- */

enum slot_result {
    SLOT_ACQUIRED = 0,
    SLOT_BUSY = 1,        /* somebody else holds it (after a short spin) */
    SLOT_NOT_SERVING = 2, /* the node does not serve it; nothing is held */
};

/* One CAS when free. Otherwise spins at most SLOT_SPIN_LIMIT pauses (a few hundred ns). Does not
 * test SERVING: the caller decides under the token (slot_is_serving). */
#define SLOT_SPIN_LIMIT 40
bool slot_try_acquire_spinning(struct slot *slot); /* the rest of slot_try_acquire */
static inline bool slot_try_acquire(struct slot *slot) {
    uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
    if (LIKELY(!(word & SLOT_TAKEN) &&
               atomic_compare_exchange_strong(&slot->word, &word, word | SLOT_HELD))) {
        /* A reader that sees any later store of ours also sees HELD when it validates. */
        atomic_thread_fence(memory_order_release);
        return true;
    }
    return slot_try_acquire_spinning(slot);
}

/* Spins, then yields, until it is ours; reserves the slot, so that slot_try_acquire of others
 * cannot win for ever. Only for the owner of patience: nothing else on a worker waits for a slot.
 */
void slot_acquire_waiting(struct slot *slot);

/* Gives it back: bumps the version, wakes all that are parked on it. A sequentially consistent
 * read-modify-write: see the essay. */
void slot_wake_waiters(struct slot *slot); /* the rest of slot_release */
static inline void slot_release(struct slot *slot) {
    uint64_t word = atomic_fetch_add(&slot->word, SLOT_VERSION_ONE - SLOT_HELD);
    ASSERT(word & SLOT_HELD);
    if (UNLIKELY(word & SLOT_WAITERS))
        slot_wake_waiters(slot);
}

static inline bool slot_is_serving(const struct slot *slot) {
    return atomic_load_explicit(&slot->word, memory_order_relaxed) & SLOT_SERVING;
}
/* Under the token: whether somebody waits for a key of it to appear. */
static inline bool slot_is_waited_for(const struct slot *slot) {
    return atomic_load_explicit(&slot->word, memory_order_relaxed) & SLOT_BLOCKED;
}
/* Under the token, or in an exclusive section; SERVING, WATCHED and BLOCKED only. */
void slot_set_bits(struct slot *slot, uint64_t bits);
void slot_clear_bits(struct slot *slot, uint64_t bits);

/* --- Waiting ---------------------------------------------------------------------------------- */

/* Joins the slot's wait list. true: parked, resume will be called (perhaps before this returns).
 * false: the token is free now, try again; nothing is linked. The caller holds no token and must
 * not run the command until resumed. */
bool slot_park(struct slot *slots, uint32_t slot_number, struct waiter *waiter);

/* All of n slots (ascending, no duplicates), or none: on failure nothing is held and *busy names
 * the slot to park on. Gives back what it had before it returns, so other slots' waiters may be
 * woken. */
bool slots_try_acquire(struct slot *slots, const uint16_t *numbers, size_t n, uint32_t *busy);
void slots_acquire_waiting(struct slot *slots, const uint16_t *numbers,
                           size_t n); /* patience owner */
void slots_release(struct slot *slots, const uint16_t *numbers, size_t n);

#endif
