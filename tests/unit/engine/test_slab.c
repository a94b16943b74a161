/* Slabs: sizes, no piece twice, memory that goes back, which pages are filled, pieces that change
 * threads, wrong frees. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "engine/memory.h"
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
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++)
        wrong += piece[i] != (char)(number * 31 + size);
    cr_assert_eq(wrong, 0);
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

#define PAGE_BYTES ((size_t)64 * 1024)
static uintptr_t page_of(const void *piece) {
    return (uintptr_t)piece & ~(PAGE_BYTES - 1);
}

Test(slab, a_page_is_hardly_more_than_its_pieces) {
    size_t size = 1056, n = PAGE_BYTES / size;
    char *pieces[PAGE_BYTES / 1056];
    for (size_t i = 0; i < n; i++)
        pieces[i] = slab_alloc(size);
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(page_of(pieces[i]), page_of(pieces[0]), "%zu", i);
        slab_free(pieces[i], size);
    }
    slab_thread_flush();
}

Test(slab, a_size_that_fits_cache_lines_lies_in_few_of_them) {
    for (size_t size = 16; size <= 1024; size *= 2) {
        char *piece = slab_alloc(size);
        cr_assert_eq((uintptr_t)piece % (size < 64 ? size : 64), 0);
        slab_free(piece, size);
    }
    slab_thread_flush();
}

#define LARGE_BYTES 1024
#define LARGE_COUNT 16384
static char *large[LARGE_COUNT];

static void large_make(void) {
    for (size_t i = 0; i < LARGE_COUNT; i++)
        if (!large[i]) {
            large[i] = slab_alloc(LARGE_BYTES);
            fill(large[i], LARGE_BYTES, i);
        }
}

/* All but each n-th. */
static void large_free_but(size_t n) {
    for (size_t i = 0; i < LARGE_COUNT; i++) {
        if (!large[i] || i % n == 0)
            continue;
        check(large[i], LARGE_BYTES, i);
        slab_free(large[i], LARGE_BYTES);
        large[i] = NULL;
    }
    slab_thread_flush();
}

/* Of these places, how many have memory behind them. */
static size_t resident(char *const *places, size_t n) {
    size_t system_page = (size_t)sysconf(_SC_PAGESIZE), count = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char state = 0;
        void *start = (void *)((uintptr_t)places[i] & ~(system_page - 1));
        count += mincore(start, 1, &state) == 0 && (state & 1);
    }
    return count;
}

/* Empty chunks are the allocator's, so that it shall give its memory back, too. */
static void all_is_given_back(char *const places[LARGE_COUNT]) {
    memory_give_back();
#ifdef SLOTWISE_JEMALLOC
    cr_assert_eq(resident(places, LARGE_COUNT), 0);
#else
    (void)places;
#endif
}

Test(slab, memory_between_used_pieces_goes_back) {
    static char *places[LARGE_COUNT];
    large_make();
    memcpy(places, large, sizeof large);
    large_free_but(32);
    cr_assert_eq(resident(places, LARGE_COUNT), LARGE_COUNT);
    slab_give_back();
    size_t left = resident(places, LARGE_COUNT);
    cr_assert_lt(left, LARGE_COUNT / 3, "%zu", left); /* two system pages for each piece at most */
    slab_give_back();
    cr_assert_eq(resident(places, LARGE_COUNT), left);
    for (size_t i = 0; i < LARGE_COUNT; i += 32)
        check(large[i], LARGE_BYTES, i);
    large_make(); /* in the same places */
    cr_assert_eq(resident(large, LARGE_COUNT), LARGE_COUNT);
    large_free_but(SIZE_MAX);
    slab_free(large[0], LARGE_BYTES);
    slab_thread_flush();
    all_is_given_back(places);
}

static void *free_large(void *unused) {
    (void)unused;
    for (size_t i = 0; i < LARGE_COUNT; i++)
        slab_free(large[i], LARGE_BYTES);
    return NULL;
}

Test(slab, what_a_thread_had_that_has_ended_goes_back) {
    static char *places[LARGE_COUNT];
    large_make();
    memcpy(places, large, sizeof large);
    pthread_t thread;
    pthread_create(&thread, NULL, free_large, NULL);
    pthread_join(thread, NULL);
    slab_thread_flush();
    all_is_given_back(places);
}

/* Else pages that are nearly empty would never become so. */
Test(slab, pages_that_are_half_used_are_filled_first) {
    large_make();
    size_t half = 0, sparse = LARGE_COUNT / 2; /* in pages that are far from each other */
    uintptr_t half_page = page_of(large[half + 100]), sparse_page = page_of(large[sparse + 100]);
    for (size_t i = 0, in_half = 0, in_sparse = 0; i < LARGE_COUNT; i++) {
        bool free_it = page_of(large[i]) == half_page
                           ? in_half++ % 3 == 0
                           : page_of(large[i]) == sparse_page && in_sparse++ % 10 != 0;
        if (free_it) {
            slab_free(large[i], LARGE_BYTES);
            large[i] = NULL;
        }
    }
    slab_thread_flush();
    char *pieces[16];
    for (int i = 0; i < 16; i++) {
        pieces[i] = slab_alloc(LARGE_BYTES);
        cr_assert_eq(page_of(pieces[i]), half_page, "%d", i);
    }
    for (int i = 0; i < 16; i++)
        slab_free(pieces[i], LARGE_BYTES);
    for (size_t i = 0; i < LARGE_COUNT; i++)
        if (large[i])
            slab_free(large[i], LARGE_BYTES);
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
