/* Work that a command leaves to another thread and waits for, while everybody else is served.
 *
 *     first time     call->session->unfinished = background_work_begin(...); CALL_UNFINISHED
 *     second time    call->session->unfinished is it, done: reply
 *
 * Not inside a transaction, where nothing can wait. */
#ifndef SLOTWISE_SERVER_BACKGROUND_WORK_H
#define SLOTWISE_SERVER_BACKGROUND_WORK_H

#include "engine/waiter.h"
#include "server/dispatch/session.h"

enum background_thread {
    BACKGROUND_SHARED, /* the engine's: one job after the other, in the order of submission */
    BACKGROUND_OWN,    /* for what waits for something outside of the process (a disk, a name
                          server): it must not hold up what the shared thread frees */
};

/* First in the structure of the command, which needs its alignment. */
struct background_work {
    struct unfinished unfinished; /* first */
    struct waiter_queue queue;
    bool done; /* under the queue's lock */
    enum background_thread thread;
    /* On that thread, which is no RCU reader. */
    void (*run)(struct background_work *work);
    /* Frees it. On the thread that has finished last: the session's or the one that ran it. */
    void (*destroy)(struct background_work *work);
    _Atomic unsigned users; /* the session and the thread that runs it */
};

/* Begins it; thread, run and destroy are set. The result belongs into session->unfinished. On a
 * worker. */
struct unfinished *background_work_begin(struct background_work *work);
/* The two halves of it, for work that a thread of the caller's runs: prepare on a worker, then run
 * once on that thread. run may be NULL: it is over. */
struct unfinished *background_work_prepare(struct background_work *work);
void background_work_run(struct background_work *work);
/* Waits for those that have threads of their own. Main thread, after the workers have ended. */
void background_work_finish(void);

#endif
