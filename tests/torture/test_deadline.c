/* Deadlines of a block of slots under several writers and the thread that looks after it: whatever
 * was noted is known at the end. A slot's keys are one number here, the earliest expiry. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include <criterion/criterion.h>

#include "engine/deadline.h"
#include "engine/epoch.h"
#include "engine/slot.h"

#define WRITERS     3
#define DURATION_MS 700
#define SLOTS       40 /* of the block: some more than may be without deadlines of their own */
#define LATEST_MS   (1 << 20)

static struct slot slots[SLOT_COUNT];
static _Atomic uint64_t expiring[DEADLINE_BLOCKS];
static _Atomic int64_t
    earliest_ms[SLOTS]; /* written under the slot's token; DEADLINE_NEVER: none */
static struct deadlines *deadlines;
static _Atomic bool stop;

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A key with a TTL comes, or the last one goes. */
static void write_slot(uint32_t slot, uint64_t random) {
    uint64_t bit = (uint64_t)1 << slot;
    int64_t known_ms = atomic_load_explicit(&earliest_ms[slot], memory_order_relaxed);
    if (known_ms != DEADLINE_NEVER && random % 4 == 0) {
        atomic_store_explicit(&earliest_ms[slot], DEADLINE_NEVER, memory_order_relaxed);
        atomic_fetch_and(&expiring[0], ~bit);
        deadline_forget(deadlines, slot);
        return;
    }
    int64_t expiry_ms = (int64_t)(random / 4 % LATEST_MS);
    if (expiry_ms < known_ms)
        atomic_store_explicit(&earliest_ms[slot], expiry_ms, memory_order_relaxed);
    if (known_ms == DEADLINE_NEVER)
        atomic_fetch_or(&expiring[0], bit);
    deadline_note(deadlines, expiring, slot, random, expiry_ms, 1);
}

static void *writer(void *number) {
    uint64_t random = 0x9e3779b97f4a7c15 * ((uint64_t)(uintptr_t)number + 1);
    epoch_reader_enter();
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint32_t slot = (uint32_t)(next_random(&random) % SLOTS);
        if (slot_try_acquire(&slots[slot])) {
            write_slot(slot, next_random(&random) >> 8);
            slot_release(&slots[slot]);
        }
        epoch_quiescent();
    }
    epoch_reader_leave();
    return NULL;
}

/* As active expiry does it. 0: it stays due. */
static int64_t look_at_slot(uint32_t slot) {
    uint64_t word;
    if (!slot_read_begin(&slots[slot], &word))
        return 0;
    int64_t due_ms = deadline_of_slot(deadlines, slot);
    if (due_ms > LATEST_MS / 2)
        return due_ms;
    due_ms = atomic_load_explicit(&earliest_ms[slot], memory_order_relaxed);
    if (!slot_read_validate(&slots[slot], word) || !slot_try_acquire(&slots[slot]))
        return 0;
    uint64_t now = atomic_load_explicit(&slots[slot].word, memory_order_relaxed);
    bool settled = now / SLOT_VERSION_ONE == word / SLOT_VERSION_ONE;
    if (settled)
        deadline_set_group(deadlines, slot, 0, 0, due_ms);
    slot_release(&slots[slot]);
    return settled ? due_ms : 0;
}

static void look_at_block(void) {
    int64_t block_ms = DEADLINE_NEVER;
    deadline_take_block(deadlines, 0);
    for (uint64_t bits = atomic_load(&expiring[0]); bits; bits &= bits - 1) {
        int64_t due_ms = look_at_slot((uint32_t)__builtin_ctzll(bits));
        block_ms = due_ms < block_ms ? due_ms : block_ms;
    }
    deadline_lower_block(deadlines, 0, block_ms);
}

/* Held: no slot has a writer. */
static void check_and_clear(void) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        int64_t known_ms = atomic_load(&earliest_ms[slot]);
        cr_assert_leq(deadline_of_slot(deadlines, slot), known_ms, "slot %u", slot);
        cr_assert_leq(deadline_of_block(deadlines, 0), known_ms, "block, for slot %u", slot);
        atomic_store(&earliest_ms[slot], DEADLINE_NEVER);
    }
    atomic_store(&expiring[0], 0);
    deadlines_destroy(deadlines);
    deadlines = deadlines_make();
}

static uint64_t hold_all_and_check(void) {
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        while (!slot_try_acquire(&slots[slot]))
            epoch_quiescent();
    check_and_clear();
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        slot_release(&slots[slot]);
    return 1;
}

Test(torture_deadline, nothing_that_was_noted_is_lost, .timeout = 60) {
    pthread_t threads[WRITERS];
    for (uint32_t i = 0; i < SLOT_COUNT; i++)
        atomic_store(&slots[i].word, SLOT_SERVING);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        atomic_store(&earliest_ms[slot], DEADLINE_NEVER);
    epoch_reader_enter();
    deadlines = deadlines_make();
    for (size_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, writer, (void *)i);
    uint64_t checks = 0, random = 42;
    for (uint64_t end_ms = now_ms() + DURATION_MS; now_ms() < end_ms;) {
        for (uint64_t looks = next_random(&random) % 16; looks > 0; looks--)
            look_at_block();
        checks += hold_all_and_check();
        epoch_quiescent();
    }
    atomic_store(&stop, true);
    epoch_offline();
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    epoch_online();
    cr_assert_gt(checks, 0);
    deadlines_destroy(deadlines);
    epoch_reader_leave();
}
