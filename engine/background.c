/* The background job queue: a mutex, a list, one thread.
 *
 * Submissions are rare (a large value, a flushed database), so a lock is fine. The thread sleeps on
 * a condition while the list is empty and costs nothing then. Everything is under queue.lock; jobs
 * run without it. Tickets count submissions and completions, so that a drain waits for what was
 * there when it was called and not for what arrives later. */
#include "engine/background.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/memory.h"

struct job {
    struct job *next;
    void (*function)(void *argument);
    void *argument;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    pthread_cond_t done;
    struct job *first;
    struct job **last;
    uint64_t submitted;
    uint64_t completed;
    unsigned drainers;
    bool running;
    bool stopping;
    pthread_t thread;
} queue = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .work = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

static void *background_thread(void *unused) {
    (void)unused;
    pthread_mutex_lock(&queue.lock);
    for (;;) {
        while (queue.first == NULL && !queue.stopping)
            pthread_cond_wait(&queue.work, &queue.lock);
        if (queue.first == NULL)
            break;
        struct job *job = queue.first;
        queue.first = job->next;
        if (queue.first == NULL)
            queue.last = &queue.first;
        pthread_mutex_unlock(&queue.lock);
        job->function(job->argument);
        memory_free(job);
        pthread_mutex_lock(&queue.lock);
        queue.completed++;
        if (queue.drainers > 0)
            pthread_cond_broadcast(&queue.done);
    }
    pthread_mutex_unlock(&queue.lock);
    return NULL;
}

int background_start(void) {
    pthread_mutex_lock(&queue.lock);
    ASSERT(!queue.running);
    queue.first = NULL;
    queue.last = &queue.first;
    queue.stopping = false;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&queue.thread, NULL, background_thread, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        pthread_setname_np(queue.thread, "sw-background");
        queue.running = true;
    }
    pthread_mutex_unlock(&queue.lock);
    return -error;
}

void background_stop(void) {
    pthread_mutex_lock(&queue.lock);
    if (!queue.running) {
        pthread_mutex_unlock(&queue.lock);
        return;
    }
    /* From here on submissions run on their callers, so that the thread gets to an end. */
    queue.running = false;
    queue.stopping = true;
    pthread_cond_signal(&queue.work);
    pthread_mutex_unlock(&queue.lock);
    pthread_join(queue.thread, NULL);
}

void background_submit(void (*function)(void *argument), void *argument) {
    struct job *job = memory_alloc(sizeof(*job));
    *job = (struct job){NULL, function, argument};
    pthread_mutex_lock(&queue.lock);
    bool queued = queue.running;
    if (queued) {
        *queue.last = job;
        queue.last = &job->next;
        queue.submitted++;
        pthread_cond_signal(&queue.work);
    }
    pthread_mutex_unlock(&queue.lock);
    if (!queued) {
        memory_free(job);
        function(argument);
    }
}

void background_drain(void) {
    /* A job may wait for a grace period, and a reader that blocks here would never let it end. */
    bool online = epoch_is_online();
    if (online)
        epoch_offline();
    pthread_mutex_lock(&queue.lock);
    ASSERT(!queue.running || !pthread_equal(pthread_self(), queue.thread));
    uint64_t target = queue.submitted;
    queue.drainers++;
    while (queue.completed < target)
        pthread_cond_wait(&queue.done, &queue.lock);
    queue.drainers--;
    pthread_mutex_unlock(&queue.lock);
    if (online)
        epoch_online();
}

uint64_t background_pending(void) {
    pthread_mutex_lock(&queue.lock);
    uint64_t pending = queue.submitted - queue.completed;
    pthread_mutex_unlock(&queue.lock);
    return pending;
}

/* --- Giving memory back ----------------------------------------------------------------------- */

#define GIVE_BACK_BYTES    ((uint64_t)1 << 20)
#define GIVE_BACK_AFTER_US 1000000
#define GIVE_BACK_DROPS_US 200000 /* then for the threads' timers to drop their caches */

static void give_back_job(void *unused) {
    (void)unused;
    memory_thread_cache_check();
    memory_give_back();
}

void background_give_back_memory(void) {
    /* Of the one thread that calls. */
    static uint64_t highest_bytes; /* since the last time */
    static uint64_t due_us;        /* 0: not due */
    static bool dropping;
    uint64_t used_bytes = memory_used_bytes();
    if (used_bytes > highest_bytes)
        highest_bytes = used_bytes;
    if (due_us == 0 && highest_bytes - used_bytes >= GIVE_BACK_BYTES) {
        due_us = clock_monotonic_us() + GIVE_BACK_AFTER_US;
        highest_bytes = used_bytes;
    }
    if (due_us == 0 || clock_monotonic_us() < due_us)
        return;
    dropping = !dropping;
    due_us = dropping ? clock_monotonic_us() + GIVE_BACK_DROPS_US : 0;
    if (dropping)
        memory_thread_caches_drop();
    else
        background_submit(give_back_job, NULL);
}
