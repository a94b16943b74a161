/* Pieces on their way to a sink: the pool that they come from and go back to, and the spool. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "engine/memory.h"
#include "replication/piece_queue.h"

static struct piece_queue queue;
static struct piece_pool pool;

static void setup(void) {
    pool = (struct piece_pool){0};
    piece_queue_init(&queue, "/tmp");
}

static void teardown(void) {
    piece_queue_destroy(&queue);
    piece_pool_destroy(&pool);
}

TestSuite(piece_queue, .init = setup, .fini = teardown, .timeout = 60);

static void push(char content) {
    struct piece *piece = piece_pool_get(&pool);
    memset(piece->data, content, PIECE_ROOM_BYTES);
    piece->length = PIECE_ROOM_BYTES;
    piece->copies = true;
    piece_queue_push(&queue, piece);
}

static void *consume(void *context) {
    unsigned *count = context;
    struct piece *piece;
    for (; piece_queue_pop(&queue, &piece) == 1; (*count)++)
        piece_free(piece);
    return NULL;
}

static unsigned consume_on_thread(void) {
    pthread_t thread;
    unsigned count = 0;
    cr_assert_eq(pthread_create(&thread, NULL, consume, &count), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    return count;
}

Test(piece_queue, who_takes_pieces_from_its_pool_does_not_allocate_in_the_steady_state) {
    for (int i = 0; i < 4; i++)
        push('a');
    uint64_t used = memory_used_bytes();
    cr_assert_eq(consume_on_thread(), 4);
    cr_assert_eq(memory_used_bytes(), used, "they went back to the pool");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            push('b');
        cr_assert_eq(memory_used_bytes(), used);
        cr_assert_eq(consume_on_thread(), 4);
    }
    struct piece *piece = piece_pool_get(&pool);
    cr_assert_eq(piece->length, 0);
    cr_assert_not(piece->copies);
    piece_free(piece);
}

Test(piece_queue, a_closed_pool_keeps_nothing) {
    uint64_t before = memory_used_bytes();
    for (int i = 0; i < 4; i++)
        push('a');
    piece_pool_close(&pool);
    cr_assert_eq(consume_on_thread(), 4);
    cr_assert_eq(memory_used_bytes(), before);
}

Test(piece_queue, spooled_pieces_come_back_with_what_they_were) {
    struct piece *piece;
    for (int i = 0; i < 3; i++)
        push((char)('a' + i));
    cr_assert_eq(piece_queue_spool(&queue, 0, NULL, NULL), 0);
    cr_assert_eq(piece_queue_memory_bytes(&queue), 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(piece_queue_pop(&queue, &piece), 1);
        cr_assert_eq(piece->length, PIECE_ROOM_BYTES);
        cr_assert(piece->copies);
        cr_assert_eq(piece->data[0], piece->data[PIECE_ROOM_BYTES - 1]);
        piece_free(piece);
    }
    cr_assert_eq(piece_queue_pop(&queue, &piece), 0);
}
