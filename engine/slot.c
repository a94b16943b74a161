/* Tokens and wait lists. Run by: worker threads, and others that hold a token for a moment.
 *
 * Algorithm. A slot's word is a sequence lock whose writer side is a try-lock. A writer sets HELD
 * by CAS, changes the slot, and gives the token back by adding VERSION_ONE - HELD. A reader of
 * small values loads the word, reads, and accepts what it read if the word is the same again. Who
 * cannot have a token gives back what it has and parks a node in the slot's wait list (striped: 256
 * lists, each with a lock); the release that sees WAITERS wakes all of them, and they compete
 * again. Patience (patience.c) is for who has competed too long: its owner, one per process, may
 * wait for a token while it holds others (slot_acquire_waiting), and reserves it, so that it gets
 * it as soon as the holder is done.
 *
 * Ordering.
 * - Writer to writer: the release RMW and the next acquire CAS.
 * - Writer to optimistic reader: a reader that sees any store made under the token (store after the
 * release fence in slot_try_acquire, load before the acquire fence in slot_read_validate) also sees
 * HELD or a later word when it validates, and rejects what it read.
 * - Across slots: the acquiring CAS and the reader's first load of a word are seq_cst. So of "SET
 * x; GET y" and "SET y; GET x" one sees the other's slot HELD or released, never both as before.
 * The release is a read-modify-write because a plain store would wipe out a WAITERS bit set
 * meanwhile.
 * - Parking, the invariant: a parked waiter's slot is TAKEN with WAITERS set, or somebody who saw
 * WAITERS in its release is on the way to the stripe's lock. WAITERS is set and cleared only under
 * that lock, set only by a CAS on a word that is TAKEN, and cleared only when the slot's waiters
 * have all been unlinked. So a holder that released before the CAS makes it fail (park returns
 * false: try again), and one that releases after it sees the bit and comes for the node. A word
 * that is RESERVED but not HELD will be HELD by whoever reserved it, whose release sees the bit.
 * - Waking: a node is unlinked under the lock and resumed without it. From resume on it belongs to
 * its owner again, so the waker reads its link before.
 *
 * Progress. Nobody holds a token while waiting for another, except for the owner of patience, which
 * no holder of a token waits for: no cycle. Tokens are held for one command (or a short batch).
 * slot_try_acquire spins a few hundred nanoseconds. RESERVED is set only by a thread inside
 * slot_acquire_waiting and is cleared by the CAS with which any such thread leaves it, so it cannot
 * outlive the last of them; who loses its reservation to another sets it again. An optimistic
 * reader may be beaten by writers any number of times; its caller takes the token after a few.
 *
 * Reclamation. Nothing is allocated: waiters are intrusive (waiter.h). */
#include "engine/slot.h"

#include <pthread.h>
#include <sched.h>

#include "engine/assert.h"
#include "engine/futex.h"

_Static_assert(sizeof(struct slot) == 64, "a slot is one cache line");

#define STRIPES 256

/* Each has the waiters of all slots of its stripe. */
static struct waiter_queue stripes[STRIPES] = {[0 ... STRIPES - 1] = WAITER_QUEUE_INITIALIZER};

/* By address: a release knows its slot, not its number. Neighbours have different stripes. */
static struct waiter_queue *stripe_of(const struct slot *slot) {
    return &stripes[((uintptr_t)slot / sizeof(struct slot)) % STRIPES];
}

/* --- The token -------------------------------------------------------------------------------- */

bool slot_try_acquire_spinning(struct slot *slot) {
    for (int i = 0; i < SLOT_SPIN_LIMIT; i++) {
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
        if (!(word & SLOT_TAKEN) &&
            atomic_compare_exchange_weak(&slot->word, &word, word | SLOT_HELD)) {
            atomic_thread_fence(memory_order_release);
            return true;
        }
        cpu_relax();
    }
    return false;
}

void slot_acquire_waiting(struct slot *slot) {
    for (unsigned turn = 0;; turn++) {
        uint64_t word = atomic_load_explicit(&slot->word, memory_order_relaxed);
        if (!(word & SLOT_HELD)) {
            uint64_t mine = (word | SLOT_HELD) & ~SLOT_RESERVED;
            if (atomic_compare_exchange_weak(&slot->word, &word, mine))
                break;
            continue;
        }
        if (!(word & SLOT_RESERVED))
            atomic_compare_exchange_weak(&slot->word, &word, word | SLOT_RESERVED);
        /* The holder may have lost its core: do not stand in its way for long. */
        if (turn < SLOT_SPIN_LIMIT)
            cpu_relax();
        else
            sched_yield();
    }
    atomic_thread_fence(memory_order_release);
}

void slot_set_bits(struct slot *slot, uint64_t bits) {
    uint64_t word = atomic_fetch_or(&slot->word, bits);
    ASSERT((word & SLOT_HELD) || (bits & SLOT_BLOCKED));
    ASSERT(!(bits & ~(SLOT_SERVING | SLOT_WATCHED | SLOT_BLOCKED)));
}

void slot_clear_bits(struct slot *slot, uint64_t bits) {
    uint64_t word = atomic_fetch_and(&slot->word, ~bits);
    ASSERT((word & SLOT_HELD) || (bits & SLOT_BLOCKED));
    ASSERT(!(bits & ~(SLOT_SERVING | SLOT_WATCHED | SLOT_BLOCKED)));
}

bool slots_try_acquire(struct slot *slots, const uint16_t *numbers, size_t n, uint32_t *busy) {
    for (size_t i = 0; i < n; i++) {
        ASSERT(i == 0 || numbers[i - 1] < numbers[i]);
        if (LIKELY(slot_try_acquire(&slots[numbers[i]])))
            continue;
        slots_release(slots, numbers, i);
        *busy = numbers[i];
        return false;
    }
    return true;
}

void slots_acquire_waiting(struct slot *slots, const uint16_t *numbers, size_t n) {
    for (size_t i = 0; i < n; i++) {
        ASSERT(i == 0 || numbers[i - 1] < numbers[i]);
        slot_acquire_waiting(&slots[numbers[i]]);
    }
}

void slots_release(struct slot *slots, const uint16_t *numbers, size_t n) {
    for (size_t i = 0; i < n; i++)
        slot_release(&slots[numbers[i]]);
}

/* --- Wait lists ------------------------------------------------------------------------------- */

bool slot_park(struct slot *slots, uint32_t slot_number, struct waiter *waiter) {
    struct slot *slot = &slots[slot_number];
    struct waiter_queue *stripe = stripe_of(slot);
    pthread_mutex_lock(&stripe->lock);
    ASSERT(!waiter->linked);
    waiter->queue = stripe;
    waiter->slot = slot;
    uint64_t word = atomic_load(&slot->word);
    bool parked = false;
    while (word & SLOT_TAKEN) {
        if ((word & SLOT_WAITERS) ||
            atomic_compare_exchange_weak(&slot->word, &word, word | SLOT_WAITERS)) {
            waiter_append(stripe, waiter);
            parked = true;
            break;
        }
    }
    pthread_mutex_unlock(&stripe->lock);
    return parked;
}

void slot_wake_waiters(struct slot *slot) {
    struct waiter_queue *stripe = stripe_of(slot);
    struct waiter *first = NULL, **end = &first;
    pthread_mutex_lock(&stripe->lock);
    for (struct waiter *waiter = stripe->first, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (waiter->slot != slot)
            continue;
        waiter_remove(stripe, waiter);
        *end = waiter;
        end = &waiter->next;
    }
    atomic_fetch_and(&slot->word, ~SLOT_WAITERS);
    pthread_mutex_unlock(&stripe->lock);
    for (struct waiter *waiter = first, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        waiter->resume(waiter);
    }
}
