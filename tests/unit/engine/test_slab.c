/* Slabs: sizes, no piece twice, pages that go back, pieces that change threads, wrong frees. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/slab.h"

TestSuite(slab, .timeout = 60);

Test(slab, classes_are_close) {
    size_t before = 0;
    for (size_t size = 1; size <= SLAB_MAX_BYTES; size++) {
        size_t bytes = slab_class_bytes(size);
        cr_assert_geq(bytes, size);
        cr_assert_lt(bytes, size + (size <= 512 ? 8 : size <= 1024 ? 16 : 32));
        cr_assert_geq(bytes, before);
        cr_assert_eq(slab_class_bytes(bytes), bytes);
        before = bytes;
    }
}

static uint64_t random_state = 7;
static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

#define PIECES 20000

/* Each piece is filled with its number: an overlap would be seen. */
static void fill(char *piece, size_t size, size_t number) {
    memset(piece, (int)(number * 31 + size), size);
}
static void check(const char *piece, size_t size, size_t number) {
    for (size_t i = 0; i < size; i++)
        cr_assert_eq(piece[i], (char)(number * 31 + size));
}

Test(slab, pieces_do_not_overlap) {
    static char *pieces[PIECES];
    static size_t sizes[PIECES];
    for (size_t step = 0; step < PIECES * 6; step++) {
        size_t i = random_next() % PIECES;
        if (pieces[i]) {
            check(pieces[i], sizes[i], i);
            slab_free(pieces[i], sizes[i]);
            pieces[i] = NULL;
        } else {
            sizes[i] = 1 + random_next() % (random_next() % 4 ? 200 : SLAB_MAX_BYTES);
            pieces[i] = slab_alloc(sizes[i]);
            cr_assert_eq((uintptr_t)pieces[i] % 8, 0);
            fill(pieces[i], sizes[i], i);
        }
    }
    for (size_t i = 0; i < PIECES; i++)
        if (pieces[i]) {
            check(pieces[i], sizes[i], i);
            slab_free(pieces[i], sizes[i]);
        }
    slab_thread_flush();
}

/* A ring of pieces that one thread makes and the next one frees. */
#define THREADS 3
#define ROUNDS  40000
static char *_Atomic handed[THREADS][64];

static void *hand_on(void *context) {
    size_t self = (size_t)context, next = (self + 1) % THREADS;
    for (size_t i = 0; i < ROUNDS; i++) {
        size_t size = 16 + i % 64 * 8;
        char *piece = slab_alloc(size);
        fill(piece, size, i % 64);
        char *old = __atomic_exchange_n((char **)&handed[next][i % 64], piece, __ATOMIC_ACQ_REL);
        if (old) {
            check(old, size, i % 64);
            slab_free(old, size);
        }
        old = __atomic_exchange_n((char **)&handed[self][i % 64], NULL, __ATOMIC_ACQ_REL);
        if (old) {
            check(old, size, i % 64);
            slab_free(old, size);
        }
    }
    return NULL;
}

Test(slab, pieces_change_threads) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, hand_on, (void *)i);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < THREADS; i++)
        for (size_t k = 0; k < 64; k++)
            if (handed[i][k])
                slab_free(handed[i][k], 16 + k * 8);
    slab_thread_flush(); /* a leak checker sees pages that are left */
}

Test(slab, a_piece_that_is_freed_as_another_size_is_noticed, .signal = SIGABRT) {
    char *piece = slab_alloc(64);
    slab_free(piece, 128);
    slab_thread_flush();
}

/* In its class, and not where a piece begins. */
Test(slab, the_middle_of_a_piece_is_no_piece, .signal = SIGABRT) {
    char *piece = slab_alloc(64);
    slab_free(piece + 8, 64);
    slab_thread_flush();
}
