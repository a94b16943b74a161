/* Accounted memory: exact sums, over threads as well. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include <criterion/criterion.h>

#include "engine/memory.h"

TestSuite(memory, .timeout = 30);

Test(memory, what_is_freed_is_taken_back_exactly) {
    uint64_t before = memory_used_bytes();
    for (size_t size = 0; size < 70000; size = size * 5 / 4 + 1) {
        void *a = memory_alloc(size);
        cr_assert_geq(memory_used_bytes() - before, size);
        void *b = memory_calloc(1, size);
        a = memory_realloc(a, size * 2);
        memory_free(a);
        memory_free(b);
        cr_assert_eq(memory_used_bytes(), before, "size %zu", size);
        memory_free_sized(memory_alloc(size), size);
        cr_assert_eq(memory_used_bytes(), before, "size %zu", size);
        memory_free(memory_alloc(size));
        memory_free(memory_alloc_aligned(64, size));
        cr_assert_eq(memory_used_bytes(), before, "size %zu", size);
    }
    memory_free(NULL);
    memory_free_sized(NULL, 100);
    memory_free(memory_strdup("text"));
    memory_free(memory_realloc(NULL, 10));
    cr_assert_eq(memory_used_bytes(), before);
}

Test(memory, calloc_clears) {
    char *bytes = memory_calloc(3, 111);
    for (int i = 0; i < 333; i++)
        cr_assert_eq(bytes[i], 0);
    memory_free(bytes);
}

Test(memory, a_size_class_holds_what_was_asked_for_and_grows_with_it) {
    size_t last = 0;
    for (size_t size = 0; size <= 20000; size++) {
        size_t bytes = memory_class_bytes(size);
        cr_assert(bytes >= size && bytes > 0);
        cr_assert_eq(bytes, memory_class_bytes(size), "the same when asked again");
        cr_assert_geq(bytes, last);
        last = bytes;
    }
    for (size_t size = 1; size < 20000; size = size * 3 / 2 + 1) {
        uint64_t before = memory_used_bytes();
        void *p = memory_alloc(size);
        size_t usable = memory_usable_bytes(p);
        cr_assert_eq(memory_used_bytes() - before, usable);
#ifdef SLOTWISE_JEMALLOC
        cr_assert_eq(usable, memory_class_bytes(size));
#endif
        memory_free(p);
    }
}

Test(memory, retired_memory_leaves_the_admission_sum_at_once) {
    memory_set_limit(1 << 30, 1);
    int64_t before = memory_admission_bytes();
    uint64_t used = memory_used_bytes();
    void *p = memory_alloc(100000);
    int64_t with = memory_admission_bytes();
    cr_assert_geq(with - before, 100000, "the caller's own drift counts at once");
    memory_retired_add(with - before);
    cr_assert_eq(memory_admission_bytes(), before);
    cr_assert_eq(memory_retired_bytes(), (uint64_t)(with - before));
    cr_assert_eq(memory_used_bytes() - used, (uint64_t)(with - before), "it is still used");
    memory_free(p);
    memory_retired_add(before - with);
    cr_assert_eq(memory_admission_bytes(), before);
    cr_assert_eq(memory_retired_bytes(), 0);
}

Test(memory, small_allocations_are_counted_at_once_for_the_thread_itself) {
    int64_t before = memory_admission_bytes();
    void *p = memory_alloc(24);
    cr_assert_eq(memory_admission_bytes() - before, (int64_t)memory_usable_bytes(p));
    memory_free(p);
}

#define PIECES 1000
static void *pieces[PIECES];

static void *allocate_pieces(void *context) {
    (void)context;
    for (int i = 0; i < PIECES; i++)
        pieces[i] = memory_alloc((size_t)i);
    return NULL;
}

Test(memory, one_thread_frees_what_another_allocated) {
    memory_set_limit(1 << 30, 1);
    memory_free(memory_alloc(MEMORY_PUBLISH_STEP_BYTES));
    uint64_t before = memory_used_bytes();
    int64_t admission = memory_admission_bytes();
    for (int round = 0; round < 600; round++) { /* more rounds than counters: they are given back */
        pthread_t thread;
        pthread_create(&thread, NULL, allocate_pieces, NULL);
        pthread_join(thread, NULL);
        for (int i = 0; i < PIECES; i++)
            memory_free(pieces[i]);
        cr_assert_eq(memory_used_bytes(), before);
    }
    int64_t drift = memory_admission_bytes() - admission;
    cr_assert_lt(drift < 0 ? -drift : drift, 2 * MEMORY_PUBLISH_STEP_BYTES);
}

static pthread_barrier_t barrier;

static void *drift_apart(void *context) {
    void **piece = context;
    *piece = memory_alloc(10 * MEMORY_PUBLISH_STEP_BYTES);
    void *little = memory_alloc(64);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    memory_free(little);
    memory_free(*piece);
    return NULL;
}

Test(memory, the_admission_sum_is_wrong_by_less_than_a_step_per_thread) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    void *owned[THREADS];
    memory_set_limit(1 << 30, 1);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    int64_t before = memory_admission_bytes();
    uint64_t used = memory_used_bytes();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, drift_apart, &owned[i]);
    pthread_barrier_wait(&barrier);
    int64_t exact = (int64_t)(memory_used_bytes() - used);
    int64_t wrong = memory_admission_bytes() - before - exact;
    cr_assert_geq(exact, THREADS * 10 * MEMORY_PUBLISH_STEP_BYTES);
    cr_assert_lt(wrong < 0 ? -wrong : wrong, THREADS * MEMORY_PUBLISH_STEP_BYTES);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(memory_used_bytes(), used);
}

/* Reads the published total with what the calling thread itself has not published yet. */
static void *read_admission(void *bytes) {
    *(int64_t *)bytes = memory_admission_bytes();
    return NULL;
}

static int64_t admission_seen_by_another(void) {
    int64_t bytes;
    pthread_t thread;
    pthread_create(&thread, NULL, read_admission, &bytes);
    pthread_join(thread, NULL);
    return bytes;
}

Test(memory, nobody_publishes_without_a_limit) {
    int64_t before = admission_seen_by_another();
    void *p = memory_alloc(10 * MEMORY_PUBLISH_STEP_BYTES);
    cr_assert_eq(admission_seen_by_another(), before);
    memory_set_limit(1 << 30, 1);
    memory_free(memory_alloc(1)); /* the first operation catches up */
    cr_assert_geq(admission_seen_by_another(), before + 10 * MEMORY_PUBLISH_STEP_BYTES);
    memory_set_limit(0, 1);
    memory_free(p);
    cr_assert_geq(admission_seen_by_another(), before + 10 * MEMORY_PUBLISH_STEP_BYTES);
}

static void *allocate_and_wait(void *context) {
    void **piece = context;
    *piece = memory_alloc(10 << 20);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

Test(memory, a_limit_holds_for_what_idle_threads_had_before_it_was_set) {
    pthread_t thread;
    void *piece;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, allocate_and_wait, &piece);
    pthread_barrier_wait(&barrier);
    memory_set_limit(5 << 20, 1);
    for (int i = 0; i < 10; i++) {
        memory_free(memory_alloc(MEMORY_PUBLISH_STEP_BYTES));
        cr_assert(memory_is_over(5 << 20));
        cr_assert_not(memory_is_over(20 << 20));
    }
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    memory_free(piece);
    cr_assert_not(memory_is_over(5 << 20));
}

Test(memory, retired_memory_counts_above_its_bound) {
    memory_set_limit(640 << 20, 2); /* a bound of 10 MB, half of it for this thread */
    uint64_t before = memory_counted_bytes(), live = memory_live_bytes();
    void *p = memory_alloc(7 << 20);
    int64_t bytes = (int64_t)memory_usable_bytes(p);
    cr_assert_eq(memory_counted_bytes() - before, (uint64_t)bytes);
    memory_retired_add(bytes);
    cr_assert_eq(memory_counted_bytes() - before, (uint64_t)bytes - (5 << 20));
    cr_assert_eq(memory_live_bytes(), live);
    cr_assert_not(memory_retired_is_over());
    memory_free(p);
    memory_retired_add(-bytes);
    cr_assert_eq(memory_counted_bytes(), before);
    memory_set_limit(1 << 20, 2); /* at least a megabyte in all */
    p = memory_alloc(1 << 20);
    bytes = (int64_t)memory_usable_bytes(p);
    memory_retired_add(bytes);
    cr_assert_eq(memory_counted_bytes() - before, (uint64_t)bytes - (1 << 19));
    memory_free(p);
    memory_retired_add(-bytes);
    memory_set_limit(0, 1);
}

Test(memory, too_much_retired_memory_is_seen_by_the_thread_that_has_it) {
    memory_set_limit(0, 4);
    memory_retired_add((int64_t)MEMORY_RETIRED_MAX_BYTES / 4);
    cr_assert_not(memory_retired_is_over());
    memory_retired_add(1);
    cr_assert(memory_retired_is_over());
    memory_set_limit((uint64_t)1 << 40, 4);
    memory_retired_add(0);
    cr_assert_not(memory_retired_is_over(), "1/64 of the limit is more");
    memory_set_limit(0, 4);
    memory_retired_add(-(int64_t)MEMORY_RETIRED_MAX_BYTES / 4 - 1);
    cr_assert_not(memory_retired_is_over());
    cr_assert_eq(memory_retired_bytes(), 0);
}

Test(memory, what_is_being_freed_is_counted_but_not_live) {
    uint64_t counted = memory_counted_bytes(), live = memory_live_bytes();
    void *p = memory_alloc(1 << 20);
    int64_t bytes = (int64_t)memory_usable_bytes(p);
    memory_freeing_add(bytes);
    cr_assert_eq(memory_counted_bytes() - counted, (uint64_t)bytes);
    cr_assert_eq(memory_live_bytes(), live);
    memory_free(p);
    memory_freeing_add(-bytes);
    cr_assert_eq(memory_live_bytes(), live);
}

Test(memory, the_peak_is_never_below_what_is_used) {
    void *p = memory_alloc(1 << 20);
    uint64_t used = memory_used_bytes();
    cr_assert_geq(memory_peak_bytes(), used);
    memory_free(p);
    cr_assert_geq(memory_peak_bytes(), used, "and stays");
    cr_assert_lt(memory_used_bytes(), used);
}
