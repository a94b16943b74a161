/* The thread that compresses a backlog beside its owner: what it makes possible, and that its job
 * always comes back. */

#include "replication/backlog_compressor.h"

#include <semaphore.h>

#include "tests/unit/replication/backlog_model.h"

#define KB ((size_t)1024)
#define MB (KB * KB)

static void post(void *context) {
    sem_post(context);
}

/* Turns until nothing is left to do. */
static void turn_until_done(struct backlog_compressor *compressor, struct model *model,
                            sem_t *woken) {
    size_t jobs = model->backlog->plain_blocks;
    backlog_compressor_turn(compressor, model->backlog, true);
    for (size_t i = 0; i < jobs; i++) {
        sem_wait(woken);
        backlog_compressor_turn(compressor, model->backlog, true);
        model_check(model);
    }
    cr_assert_eq(model->backlog->plain_blocks, 0);
}

Test(backlog_compressor, twice_the_size_is_bridged_that_nobody_has_read_meanwhile) {
    struct model model;
    struct reader readers[2];
    sem_t woken;
    uint64_t state = 1;
    sem_init(&woken, 0, 0);
    struct backlog_compressor *compressor = backlog_compressor_create(post, &woken);
    model_begin(&model, 4 * MB, 16 * MB);
    while (model.length < 7 * MB) {
        model_append_json(&model, MB, &state);
        turn_until_done(compressor, &model, &woken);
    }
    cr_assert_leq(model.backlog->retained_bytes, 4 * MB + 256 * KB);
    for (int kind = BACKLOG_PLAIN; kind <= BACKLOG_FRAMES; kind++)
        cr_assert(
            reader_begin(&readers[kind], &model, (enum backlog_kind)kind, FIRST_OFFSET + kind));
    backlog_flush(model.backlog);
    for (int kind = BACKLOG_PLAIN; kind <= BACKLOG_FRAMES; kind++) {
        reader_drain(&readers[kind]);
        cr_assert_eq(readers[kind].offset, FIRST_OFFSET + model.length);
        reader_end(&readers[kind]);
    }
    model_check(&model);
    backlog_compressor_destroy(compressor);
    model_end(&model);
}

Test(backlog_compressor, what_is_out_is_given_back_also_when_no_more_is_wanted) {
    struct model model;
    sem_t woken;
    uint64_t state = 2;
    sem_init(&woken, 0, 0);
    struct backlog_compressor *compressor = backlog_compressor_create(post, &woken);
    model_begin(&model, 256 * KB, 4 * MB);
    model_append_json(&model, 50 * KB, &state);
    backlog_compressor_turn(compressor, model.backlog, false);
    cr_assert_eq(model.backlog->plain_blocks, 3);
    backlog_compressor_turn(compressor, model.backlog, true);
    sem_wait(&woken);
    backlog_compressor_turn(compressor, model.backlog, false);
    cr_assert_eq(model.backlog->plain_blocks, 2);
    for (const struct backlog_block *block = model.backlog->first; block; block = block->next)
        cr_assert(block->job == NULL);
    model_check(&model);
    backlog_compressor_turn(compressor, model.backlog, true); /* out when both end */
    model_end(&model);
    backlog_compressor_destroy(compressor);
}
