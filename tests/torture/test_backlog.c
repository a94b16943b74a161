/* Backlog jobs on other threads, handed over as the server does (a queue behind a lock), while the
 * owner appends, reads, lets blocks go and even replaces the backlog. ThreadSanitizer sees whether
 * a job touches anything that its owner writes. */
#include <pthread.h>

#include "replication/backlog_compressor.h"
#include "tests/unit/replication/backlog_model.h"

#define HELPERS 2
#define QUEUE   16

static struct {
    pthread_mutex_t lock;
    pthread_cond_t there_is_work;
    struct backlog_job *todo[QUEUE], *done[QUEUE];
    int todo_count, done_count;
    bool stop;
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .there_is_work = PTHREAD_COND_INITIALIZER};

static void *help(void *unused) {
    (void)unused;
    pthread_mutex_lock(&queue.lock);
    for (;;) {
        while (queue.todo_count == 0 && !queue.stop)
            pthread_cond_wait(&queue.there_is_work, &queue.lock);
        if (queue.todo_count == 0)
            break;
        struct backlog_job *job = queue.todo[--queue.todo_count];
        pthread_mutex_unlock(&queue.lock);
        backlog_job_run(job);
        pthread_mutex_lock(&queue.lock);
        queue.done[queue.done_count++] = job;
    }
    pthread_mutex_unlock(&queue.lock);
    return NULL;
}

/* Gives back what is done and hands out what there is; at most QUEUE jobs are out. */
static int exchange(struct backlog *backlog, int out) {
    struct backlog_job *done[QUEUE];
    pthread_mutex_lock(&queue.lock);
    int count = queue.done_count;
    memcpy(done, queue.done, sizeof done);
    queue.done_count = 0;
    pthread_mutex_unlock(&queue.lock);
    for (int i = 0; i < count; i++)
        backlog_job_give(done[i]);
    out -= count;
    struct backlog_job *job;
    for (; backlog && out < QUEUE && (job = backlog_job_take(backlog)) != NULL; out++) {
        pthread_mutex_lock(&queue.lock);
        queue.todo[queue.todo_count++] = job;
        pthread_cond_signal(&queue.there_is_work);
        pthread_mutex_unlock(&queue.lock);
    }
    return out;
}

static int one_backlog(uint64_t seed, int out) {
    struct model model;
    struct reader frames, plain;
    uint64_t state = seed;
    model_begin(&model, seed % 2 ? 64 * 1024 : 1024 * 1024, 8 * 1024 * 1024);
    cr_assert(reader_begin(&frames, &model, BACKLOG_FRAMES, FIRST_OFFSET));
    cr_assert(reader_begin(&plain, &model, BACKLOG_PLAIN, FIRST_OFFSET));
    for (int round = 0; round < 200; round++) {
        model_append_json(&model, random_below(&state, 20000), &state);
        out = exchange(model.backlog, out);
        if (round % 8 == 0)
            backlog_flush(model.backlog);
        struct reader *reader = round % 3 ? &frames : &plain;
        size_t bytes = reader_look(reader, PIECES);
        if (round % 5 != 0)
            reader_take(reader, bytes);
        if (round % 16 == 0)
            model_check(&model);
    }
    reader_end(&frames);
    reader_end(&plain);
    out = exchange(model.backlog, out);
    model_end(&model);
    return out;
}

Test(backlog_torture, jobs_run_beside_their_owner, .timeout = 300) {
    pthread_t helpers[HELPERS];
    int out = 0;
    for (int i = 0; i < HELPERS; i++)
        pthread_create(&helpers[i], NULL, help, NULL);
    for (uint64_t seed = 1; seed <= 20; seed++)
        out = one_backlog(seed, out);
    pthread_mutex_lock(&queue.lock);
    queue.stop = true;
    pthread_cond_broadcast(&queue.there_is_work);
    pthread_mutex_unlock(&queue.lock);
    for (int i = 0; i < HELPERS; i++)
        pthread_join(helpers[i], NULL);
    cr_assert_eq(exchange(NULL, out), 0);
}

static void wake_nobody(void *unused) {
    (void)unused;
}

/* The thread of the server: the owner appends, reads and replaces the backlog beside it. */
Test(backlog_torture, the_compressor_runs_beside_its_owner, .timeout = 300) {
    struct backlog_compressor *compressor = backlog_compressor_create(wake_nobody, NULL);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model model;
        struct reader frames, plain;
        uint64_t state = seed;
        model_begin(&model, seed % 2 ? 64 * 1024 : 1024 * 1024, 8 * 1024 * 1024);
        cr_assert(reader_begin(&frames, &model, BACKLOG_FRAMES, FIRST_OFFSET));
        cr_assert(reader_begin(&plain, &model, BACKLOG_PLAIN, FIRST_OFFSET));
        for (int round = 0; round < 200; round++) {
            model_append_json(&model, random_below(&state, 20000), &state);
            backlog_compressor_turn(compressor, model.backlog, round % 50 > 4);
            if (round % 8 == 0)
                backlog_flush(model.backlog);
            struct reader *reader = round % 3 ? &frames : &plain;
            size_t bytes = reader_look(reader, PIECES);
            if (round % 5 != 0)
                reader_take(reader, bytes);
            if (round % 16 == 0)
                model_check(&model);
        }
        reader_end(&frames);
        reader_end(&plain);
        model_end(&model);
    }
    backlog_compressor_destroy(compressor);
}
