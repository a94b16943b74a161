/* Waiting: how whoever runs commands (a connection; later a script, a link) waits for a slot's
 * token, for patience, for work that another thread does for it, or for a moment, and how it goes
 * on.
 *
 * One state for all kinds of waiting, and one function on every arrow (wait.c):
 *
 *          wait_for_slot                     the release (message)
 *   NONE ----------------> SLOT ------------------------------------> RETRY
 *   RETRY                                                               |
 *     |    wait_for_patience                 handed on (message)        | runs again, then
 * wait_end,
 *     +------------------> PATIENCE --------------------------> OWNER   | or waits for something
 * else |  (or OWNER at once)                                       |     | |    wait_by_time
 * wait_list_run        +-----+----------------> NONE
 *     +------------------> TIME ------------------------------> RETRY          wait_end
 *
 *   WORK is as SLOT, with wait_for_work and the end of the work.
 *   SLOT, PATIENCE --wait_cancel, and the message is under way already--> DROPPED, DROPPED_PATIENCE
 *   DROPPED, DROPPED_PATIENCE --the message--> NONE (patience goes on to the next)
 *
 * All functions on the owner's thread; only the message comes from others. `resumed` is called on
 * the owner's thread once for each wait that ended other than by a successful wait_cancel. */
#ifndef SLOTWISE_SERVER_WAIT_H
#define SLOTWISE_SERVER_WAIT_H

#include "engine/patience.h"
#include "engine/slot.h"
#include "engine/waiter.h"
#include "server/net/mailbox.h"

enum wait_state {
    WAIT_NONE,             /* waits for nothing and holds nothing */
    WAIT_SLOT,             /* in a slot's wait list, or its message is under way */
    WAIT_WORK,             /* in the queue of the work, or its message is under way */
    WAIT_PATIENCE,         /* in patience's queue, or its message is under way */
    WAIT_TIME,             /* in a wait_list */
    WAIT_RETRY,            /* has come back: the command runs again from its start */
    WAIT_OWNER,            /* owns patience: the command runs (again) */
    WAIT_DROPPED,          /* wait_cancel came too late for a slot or work: its message will come */
    WAIT_DROPPED_PATIENCE, /* the same for patience, which has to be passed on when it comes */
};

struct wait_list;

struct wait {
    struct waiter waiter;               /* engine/slot.h */
    struct message message;             /* the resume; belongs to who posts it until it arrives */
    struct mailbox *mailbox;            /* of the owner's thread; changes only in WAIT_NONE */
    void (*resumed)(struct wait *wait); /* set once, before the first wait */
    struct wait_list *list;             /* WAIT_TIME: where it is */
    struct wait *next, *previous;       /* in the list */
    uint64_t due_us;                    /* WAIT_TIME: when it is to be tried again */
    uint64_t started_us;                /* of this command's first wait since there was work */
    uint64_t no_room_since_us; /* when it first found no room under maxmemory; 0: it has not */
    bool for_room;             /* WAIT_TIME: it waits for that */
    enum wait_state state;
};

/* Those of one thread that wait for a moment, in the order in which they came. Zero: empty. */
struct wait_list {
    struct wait *first, *last;
    unsigned count;
};

void wait_init(struct wait *wait, struct mailbox *mailbox, void (*resumed)(struct wait *wait));

/* true: it waits. false: the token is free now, try again. No token is held. */
bool wait_for_slot(struct wait *wait, struct slot *slots, uint32_t slot_number);
/* true: it owns patience. false: it waits. No token is held. */
bool wait_for_patience(struct wait *wait);
/* Waits until the queue is resumed (waiter_queue_end); gives patience away if it owned it.
 * false: *done, which is written under the queue's lock, is set: it is over. */
bool wait_for_work(struct wait *wait, struct waiter_queue *queue, const bool *done);
/* Waits until due_us (monotonic); gives patience away if it owned it. */
void wait_by_time(struct wait *wait, struct wait_list *list, uint64_t due_us);
/* The command has run, or will not: it waits no more and gives patience away. From NONE, RETRY and
 * OWNER. */
void wait_end(struct wait *wait);
/* Whatever it waits for: no more. true: WAIT_NONE. false: a message is under way, `resumed` will be
 * called once more. */
bool wait_cancel(struct wait *wait);

/* It waits: the command must not run. */
static inline bool wait_is_waiting(const struct wait *wait) {
    return wait->state != WAIT_NONE && wait->state != WAIT_RETRY && wait->state != WAIT_OWNER;
}
/* How long the command has waited so far, 0 if it has not; without the work that was done for it.
 */
uint64_t wait_elapsed_us(const struct wait *wait);

/* Resumes those that are due. */
void wait_list_run(struct wait_list *list, uint64_t now_us);
/* All are due at once. */
void wait_list_hurry(struct wait_list *list);
/* When the first is due; UINT64_MAX: nobody waits. */
static inline uint64_t wait_list_due_us(const struct wait_list *list) {
    return list->first ? list->first->due_us : UINT64_MAX;
}

#endif
