/* Tokens, optimistic reads and wait lists, one behaviour at a time and mostly on one thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/slot.h"

static struct slot slots[SLOT_COUNT];

static int resumed_count;
static struct waiter *resumed[64];

static void note_resumed(struct waiter *waiter) {
    resumed[resumed_count++] = waiter;
}

static uint64_t word_of(unsigned n) {
    return atomic_load(&slots[n].word);
}

static void serve_all(void) {
    memset(slots, 0, sizeof(slots));
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        atomic_store(&slots[i].word, SLOT_SERVING);
}

TestSuite(slot, .init = serve_all, .timeout = 30);

/* --- The token
 * ------------------------------------------------------------------------------------------ */

Test(slot, the_token_is_had_once) {
    cr_assert(slot_try_acquire(&slots[5]));
    cr_assert_not(slot_try_acquire(&slots[5]));
    cr_assert(slot_try_acquire(&slots[6]), "another slot's is free");
    slot_release(&slots[5]);
    cr_assert(slot_try_acquire(&slots[5]));
    slot_release(&slots[5]);
    slot_release(&slots[6]);
    cr_assert_eq(word_of(5), SLOT_SERVING + 2 * SLOT_VERSION_ONE);
    cr_assert_eq(word_of(6), SLOT_SERVING + SLOT_VERSION_ONE);
}

Test(slot, the_version_may_wrap) {
    atomic_store(&slots[1].word, ~(uint64_t)0xff | SLOT_SERVING);
    cr_assert(slot_try_acquire(&slots[1]));
    slot_release(&slots[1]);
    cr_assert_eq(word_of(1), SLOT_SERVING);
}

Test(slot, serving_is_changed_under_the_token) {
    cr_assert(slot_try_acquire(&slots[9]));
    cr_assert(slot_is_serving(&slots[9]));
    slot_clear_bits(&slots[9], SLOT_SERVING);
    cr_assert_not(slot_is_serving(&slots[9]));
    slot_set_bits(&slots[9], SLOT_WATCHED);
    slot_release(&slots[9]);
    cr_assert_eq(word_of(9), SLOT_WATCHED + SLOT_VERSION_ONE);
    uint64_t word;
    cr_assert_not(slot_read_begin(&slots[9], &word));
    cr_assert(slot_try_acquire(&slots[9]), "who has the token decides for itself");
    slot_set_bits(&slots[9], SLOT_SERVING);
    slot_release(&slots[9]);
    cr_assert(slot_read_begin(&slots[9], &word));
}

/* --- Reading without the token
 * -------------------------------------------------------------------------- */

Test(slot, a_read_is_valid_when_nothing_happened) {
    uint64_t word;
    cr_assert(slot_read_begin(&slots[0], &word));
    cr_assert(slot_read_validate(&slots[0], word));
    cr_assert(slot_read_validate(&slots[0], word));
}

Test(slot, a_write_in_between_makes_a_read_invalid) {
    uint64_t word;
    cr_assert(slot_read_begin(&slots[0], &word));
    cr_assert(slot_try_acquire(&slots[0]));
    cr_assert_not(slot_read_validate(&slots[0], word), "while it is held");
    slot_release(&slots[0]);
    cr_assert_not(slot_read_validate(&slots[0], word), "and after");
    cr_assert(slot_read_begin(&slots[0], &word));
    cr_assert(slot_read_validate(&slots[0], word));
}

Test(slot, a_read_does_not_start_while_it_is_held) {
    uint64_t word;
    cr_assert(slot_try_acquire(&slots[0]));
    cr_assert_not(slot_read_begin(&slots[0], &word));
    slot_release(&slots[0]);
}

/* --- Several slots
 * -------------------------------------------------------------------------------------- */

Test(slot, several_slots_are_all_or_nothing) {
    const uint16_t numbers[] = {3, 700, 701, 16383};
    uint32_t busy = 0;
    cr_assert(slots_try_acquire(slots, numbers, 4, &busy));
    for (int i = 0; i < 4; i++)
        cr_assert(word_of(numbers[i]) & SLOT_HELD);
    slots_release(slots, numbers, 4);

    cr_assert(slot_try_acquire(&slots[701]));
    cr_assert_not(slots_try_acquire(slots, numbers, 4, &busy));
    cr_assert_eq(busy, 701);
    cr_assert_not(word_of(3) & SLOT_HELD);
    cr_assert_not(word_of(700) & SLOT_HELD);
    cr_assert_not(word_of(16383) & SLOT_HELD);
    slot_release(&slots[701]);
    cr_assert(slots_try_acquire(slots, numbers, 4, &busy));
    slots_release(slots, numbers, 4);
    cr_assert(slots_try_acquire(slots, numbers, 0, &busy), "none at all is fine");
    slots_acquire_waiting(slots, numbers, 4);
    slots_release(slots, numbers, 4);
}

Test(slot, giving_back_wakes_who_parked_meanwhile) {
    const uint16_t numbers[] = {1, 2};
    struct waiter waiter = {.resume = note_resumed};
    uint32_t busy = 0;
    cr_assert(slot_try_acquire(&slots[1]));
    cr_assert(slot_park(slots, 1, &waiter));
    slot_release(&slots[1]);
    cr_assert_eq(resumed_count, 1);
    cr_assert(slot_try_acquire(&slots[2]));
    cr_assert_not(slots_try_acquire(slots, numbers, 2, &busy));
    cr_assert_eq(resumed_count, 1);
    slot_release(&slots[2]);
}

/* --- Waiting for a holder
 * ------------------------------------------------------------------------------- */

static void *acquire_and_release(void *slot) {
    slot_acquire_waiting(slot);
    slot_release(slot);
    return NULL;
}

Test(slot, who_waits_for_the_token_reserves_it) {
    cr_assert(slot_try_acquire(&slots[4]));
    pthread_t thread;
    pthread_create(&thread, NULL, acquire_and_release, &slots[4]);
    while (!(word_of(4) & SLOT_RESERVED))
        nanosleep(&(struct timespec){0, 100000}, NULL);
    struct waiter waiter = {.resume = note_resumed};
    cr_assert(slot_park(slots, 4, &waiter));
    slot_release(&slots[4]);
    cr_assert_eq(resumed_count, 1);
    pthread_join(thread, NULL);
    cr_assert_eq(word_of(4) & 0xff, SLOT_SERVING);
    cr_assert_eq(word_of(4) / SLOT_VERSION_ONE, 2);
}

/* The moment between the holder's release and the reserver's CAS, made by hand. */
Test(slot, a_reserved_slot_is_taken) {
    atomic_store(&slots[4].word, SLOT_SERVING | SLOT_RESERVED);
    cr_assert_not(slot_try_acquire(&slots[4]));
    uint64_t word;
    cr_assert(slot_read_begin(&slots[4], &word), "but nobody writes yet");
    struct waiter waiter = {.resume = note_resumed};
    cr_assert(slot_park(slots, 4, &waiter), "the reserver's release will wake it");
    slot_acquire_waiting(&slots[4]);
    cr_assert_not(word_of(4) & SLOT_RESERVED);
    cr_assert_eq(resumed_count, 0);
    slot_release(&slots[4]);
    cr_assert_eq(resumed_count, 1);
    cr_assert(slot_try_acquire(&slots[4]));
    slot_release(&slots[4]);
}

/* --- Wait lists
 * ----------------------------------------------------------------------------------------- */

Test(slot, a_free_slot_takes_no_waiters) {
    struct waiter waiter = {.resume = note_resumed};
    cr_assert_not(slot_park(slots, 7, &waiter));
    cr_assert_not(waiter_cancel(&waiter));
    cr_assert_eq(word_of(7), SLOT_SERVING);
}

Test(slot, a_release_wakes_all_of_its_slot_in_order) {
    struct waiter waiters[20] = {0};
    /* 7 and 263 share a stripe. */
    cr_assert(slot_try_acquire(&slots[7]));
    cr_assert(slot_try_acquire(&slots[263]));
    for (int i = 0; i < 20; i++) {
        waiters[i].resume = note_resumed;
        cr_assert(slot_park(slots, i % 2 ? 263 : 7, &waiters[i]));
    }
    cr_assert(word_of(7) & SLOT_WAITERS);
    slot_release(&slots[7]);
    cr_assert_eq(resumed_count, 10);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(resumed[i], &waiters[2 * i]);
    cr_assert_eq(word_of(7), SLOT_SERVING + SLOT_VERSION_ONE);
    slot_release(&slots[263]);
    cr_assert_eq(resumed_count, 20);
    cr_assert_eq(word_of(263), SLOT_SERVING + SLOT_VERSION_ONE);
}

static void park_again(struct waiter *waiter) {
    resumed[resumed_count++] = waiter;
    if (resumed_count < 5)
        slot_park(slots, 8, waiter);
}

Test(slot, a_resumed_node_may_park_again_at_once) {
    struct waiter first = {.resume = park_again};
    struct waiter second = {.resume = note_resumed};
    cr_assert(slot_try_acquire(&slots[7]));
    cr_assert(slot_try_acquire(&slots[8]));
    cr_assert(slot_park(slots, 7, &first));
    cr_assert(slot_park(slots, 7, &second));
    slot_release(&slots[7]);
    cr_assert_eq(resumed_count, 2);
    cr_assert_eq(resumed[1], &second);
    cr_assert(waiter_cancel(&first), "it waits for slot 8 now");
    slot_release(&slots[8]);
    cr_assert_eq(resumed_count, 2);
}

Test(slot, a_cancelled_waiter_is_not_resumed) {
    struct waiter waiters[3] = {0};
    cr_assert(slot_try_acquire(&slots[7]));
    for (int i = 0; i < 3; i++) {
        waiters[i].resume = note_resumed;
        cr_assert(slot_park(slots, 7, &waiters[i]));
    }
    cr_assert(waiter_cancel(&waiters[1]));
    cr_assert_not(waiter_cancel(&waiters[1]), "only once");
    slot_release(&slots[7]);
    cr_assert_eq(resumed_count, 2);
    cr_assert_eq(resumed[0], &waiters[0]);
    cr_assert_eq(resumed[1], &waiters[2]);
    cr_assert_not(waiter_cancel(&waiters[0]), "resumed already");
}

Test(slot, a_list_that_was_cancelled_empty_does_no_harm) {
    struct waiter waiter = {.resume = note_resumed};
    cr_assert(slot_try_acquire(&slots[7]));
    cr_assert(slot_park(slots, 7, &waiter));
    cr_assert(waiter_cancel(&waiter));
    slot_release(&slots[7]);
    cr_assert_eq(resumed_count, 0);
    cr_assert_eq(word_of(7), SLOT_SERVING + SLOT_VERSION_ONE);
}
