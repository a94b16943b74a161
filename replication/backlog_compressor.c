/* The compressor of a backlog: one job that goes to and fro.
 *
 * Algorithm. `job` is where the one job lies that is out; `at` says whose it is:
 *
 *     OWNER --turn: a job was taken--> THREAD --it has run--> DONE --turn: given back--> OWNER
 *
 * Ordering. `at` is stored with release and loaded with acquire, so each side sees what the other
 * has written to the job. The thread sleeps on a condition under `lock`; the owner takes the lock
 * only to hand over.
 *
 * Progress. The owner never waits, but for destroy. Reclamation. A job refers to bytes that stay
 * while it is out (backlog_block.c); the owner frees it. */
#include "replication/backlog_compressor.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "engine/assert.h"
#include "engine/memory.h"

/* About a tenth of a processor where the workers want all of it: that is some 60 MB/s of stream. */
#define NICENESS 10

enum place { AT_OWNER, AT_THREAD, AT_DONE };

struct backlog_compressor {
    void (*wake)(void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t there_is_work;
    bool stop; /* by the owner, under the lock */
    /* AT_THREAD: by the owner, under the lock; AT_DONE: by the thread; AT_OWNER: by the owner. */
    _Atomic int at;
    struct backlog_job *job; /* of who `at` says */
    bool started, failed;    /* of the owner */
    pthread_t thread;
};

static bool wait_for_work(struct backlog_compressor *compressor) {
    pthread_mutex_lock(&compressor->lock);
    while (!compressor->stop && atomic_load(&compressor->at) != AT_THREAD)
        pthread_cond_wait(&compressor->there_is_work, &compressor->lock);
    bool work = !compressor->stop;
    pthread_mutex_unlock(&compressor->lock);
    return work;
}

static void *compressor_main(void *context) {
    struct backlog_compressor *compressor = context;
    setpriority(PRIO_PROCESS, 0, NICENESS); /* of this thread, on Linux */
    while (wait_for_work(compressor)) {
        backlog_job_run(compressor->job);
        memory_thread_cache_check();
        atomic_store_explicit(&compressor->at, AT_DONE, memory_order_release);
        compressor->wake(compressor->context);
    }
    return NULL;
}

static bool start(struct backlog_compressor *compressor) {
    if (compressor->started || compressor->failed)
        return compressor->started;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    compressor->started =
        pthread_create(&compressor->thread, NULL, compressor_main, compressor) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    compressor->failed = !compressor->started; /* blocks stay plain */
    if (compressor->started)
        pthread_setname_np(compressor->thread, "sw-backlog");
    return compressor->started;
}

struct backlog_compressor *backlog_compressor_create(void (*wake)(void *context), void *context) {
    struct backlog_compressor *compressor = memory_calloc(1, sizeof *compressor);
    compressor->wake = wake;
    compressor->context = context;
    pthread_mutex_init(&compressor->lock, NULL);
    pthread_cond_init(&compressor->there_is_work, NULL);
    return compressor;
}

void backlog_compressor_turn(struct backlog_compressor *compressor, struct backlog *backlog,
                             bool more) {
    int at = atomic_load_explicit(&compressor->at, memory_order_acquire);
    if (at == AT_THREAD)
        return;
    if (at == AT_DONE) {
        backlog_job_give(compressor->job);
        compressor->job = NULL;
        atomic_store_explicit(&compressor->at, AT_OWNER, memory_order_relaxed);
    }
    if (!more || compressor->failed)
        return;
    struct backlog_job *job = backlog_job_take(backlog);
    if (job == NULL)
        return;
    if (!start(compressor)) {
        backlog_job_give(job);
        return;
    }
    pthread_mutex_lock(&compressor->lock);
    compressor->job = job;
    atomic_store_explicit(&compressor->at, AT_THREAD, memory_order_release);
    pthread_cond_signal(&compressor->there_is_work);
    pthread_mutex_unlock(&compressor->lock);
}

void backlog_compressor_destroy(struct backlog_compressor *compressor) {
    if (compressor == NULL)
        return;
    if (compressor->started) {
        pthread_mutex_lock(&compressor->lock);
        compressor->stop = true;
        pthread_cond_signal(&compressor->there_is_work);
        pthread_mutex_unlock(&compressor->lock);
        pthread_join(compressor->thread, NULL);
    }
    if (compressor->job != NULL)
        backlog_job_give(compressor->job);
    pthread_mutex_destroy(&compressor->lock);
    pthread_cond_destroy(&compressor->there_is_work);
    memory_free(compressor);
}
