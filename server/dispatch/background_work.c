/* See background_work.h.
 *
 * Ordering: what run has written is seen by the command when it goes on, since the end of the work
 * passes through the queue's lock. Reclamation: a client may go while its work runs, so the last of
 * the two users destroys it. */
#include "server/dispatch/background_work.h"

#include "engine/background.h"

/* Works that have threads of their own. */
static pthread_mutex_t own_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t own_ended = PTHREAD_COND_INITIALIZER;
static unsigned own_count; /* under own_lock */

static void leave(struct background_work *work) {
    if (atomic_fetch_sub(&work->users, 1) > 1)
        return;
    pthread_mutex_destroy(&work->queue.lock);
    work->destroy(work);
}

static void drop(struct unfinished *unfinished) {
    leave((struct background_work *)(void *)unfinished);
}

void background_work_run(struct background_work *work) {
    if (work->run)
        work->run(work);
    waiter_queue_end(&work->queue, &work->done);
    leave(work);
}

static void run(void *context) {
    background_work_run(context);
}

static void *own_main(void *context) {
    pthread_setname_np(pthread_self(), "work");
    run(context);
    pthread_mutex_lock(&own_lock);
    own_count--;
    pthread_cond_signal(&own_ended);
    pthread_mutex_unlock(&own_lock);
    return NULL;
}

/* false: there is no thread for it. */
static bool run_apart(struct background_work *work) {
    pthread_t thread;
    pthread_mutex_lock(&own_lock);
    bool started = pthread_create(&thread, NULL, own_main, work) == 0;
    own_count += started;
    pthread_mutex_unlock(&own_lock);
    if (started)
        pthread_detach(thread);
    return started;
}

struct unfinished *background_work_prepare(struct background_work *work) {
    work->unfinished = (struct unfinished){drop, &work->queue, &work->done, false, NULL, NULL};
    work->queue = (struct waiter_queue){0};
    work->done = false;
    atomic_init(&work->users, 2);
    pthread_mutex_init(&work->queue.lock, NULL);
    return &work->unfinished;
}

struct unfinished *background_work_begin(struct background_work *work) {
    struct unfinished *unfinished = background_work_prepare(work);
    if (work->thread == BACKGROUND_SHARED || !run_apart(work))
        background_submit(run, work);
    return unfinished;
}

void background_work_finish(void) {
    pthread_mutex_lock(&own_lock);
    while (own_count > 0)
        pthread_cond_wait(&own_ended, &own_lock);
    pthread_mutex_unlock(&own_lock);
}
