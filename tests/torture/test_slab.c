/* Slabs under contention: threads allocate, fill, hand pieces to each other and free what they were
 * handed, give their stacks back, end and start anew, while another gives memory back to the system
 * all the time. A piece that two have at once is seen by its content, and by ThreadSanitizer. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/slab.h"

#define THREADS 4
#define LIVES   6 /* of each thread, one after the other */
#define STEPS   20000
#define PLACES  2048
#define SIZES   4

static const size_t sizes[SIZES] = {24, 88, 104, 1056};
/* Pieces that belong to nobody: the first eight bytes tell the size, the others its number again.
 */
static _Atomic(uint64_t *) places[PLACES];
static atomic_bool over;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t *make(uint64_t random) {
    unsigned size = random % SIZES;
    uint64_t *piece = slab_alloc(sizes[size]);
    for (size_t i = 0; i < sizes[size] / 8; i++)
        piece[i] = random;
    return piece;
}

static void check_and_free(uint64_t *piece) {
    uint64_t random = piece[0];
    unsigned size = random % SIZES;
    for (size_t i = 0; i < sizes[size] / 8; i++)
        cr_assert_eq(piece[i], random);
    slab_free(piece, sizes[size]);
}

static void *change_pieces(void *seed) {
    uint64_t random = 0x9e3779b97f4a7c15 * ((uint64_t)(uintptr_t)seed + 1);
    for (size_t i = 0; i < STEPS; i++) {
        uint64_t *fresh = next_random(&random) % 8 < 4 ? make(random) : NULL;
        size_t place = next_random(&random) % PLACES;
        uint64_t *old = atomic_exchange_explicit(&places[place], fresh, memory_order_acq_rel);
        if (old)
            check_and_free(old);
        if (next_random(&random) % 4096 == 0)
            slab_thread_flush();
    }
    return NULL;
}

static void *live_again_and_again(void *seed) {
    for (size_t life = 0; life < LIVES; life++) {
        pthread_t thread;
        pthread_create(&thread, NULL, change_pieces, (void *)((uintptr_t)seed * LIVES + life));
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void *give_back_all_the_time(void *unused) {
    (void)unused;
    while (!atomic_load(&over))
        slab_give_back();
    return NULL;
}

TestSuite(torture_slab, .timeout = 120);

Test(torture_slab, pieces_belong_to_one_at_a_time) {
    pthread_t threads[THREADS], giver;
    pthread_create(&giver, NULL, give_back_all_the_time, NULL);
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, live_again_and_again, (void *)i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&over, true);
    pthread_join(giver, NULL);
    for (size_t i = 0; i < PLACES; i++)
        if (places[i])
            check_and_free(places[i]);
    slab_thread_flush();
    slab_give_back(); /* a leak checker sees pages that are left */
}
