/* See wait.h for the states.
 *
 * Run by: the thread of whoever waits; post_resume by the thread that releases a slot or patience.
 * Ordering: what the releasing thread touches is the message and the pointer to the mailbox. Both
 * are settled before the waiter is linked (under the lock of its list) and stay so until the
 * message has arrived. The state belongs to the owner's thread alone. */
#include "server/dispatch/wait.h"

#include "engine/assert.h"
#include "engine/clock.h"

static struct wait *wait_of_message(struct message *message) {
    return (struct wait *)(void *)((char *)message - offsetof(struct wait, message));
}

/* However long it took: the command has not been kept waiting for a token. */
static void work_is_over(struct wait *wait) {
    wait->state = WAIT_RETRY;
    wait->started_us = clock_monotonic_us();
}

static void resume_arrived(struct message *message) {
    struct wait *wait = wait_of_message(message);
    switch (wait->state) {
    case WAIT_WORK:
        work_is_over(wait);
        break;
    case WAIT_SLOT:
        wait->state = WAIT_RETRY;
        break;
    case WAIT_PATIENCE:
        wait->state = WAIT_OWNER;
        break;
    case WAIT_DROPPED:
        wait->state = WAIT_NONE;
        break;
    case WAIT_DROPPED_PATIENCE:
        wait->state = WAIT_NONE;
        patience_leave(&wait->waiter);
        break;
    default:
        ASSERT(!"a resume for who does not wait");
    }
    wait->resumed(wait);
}

static void post_resume(struct waiter *waiter) {
    struct wait *wait = (struct wait *)(void *)((char *)waiter - offsetof(struct wait, waiter));
    wait->message.run = resume_arrived;
    mailbox_post(wait->mailbox, &wait->message);
}

void wait_init(struct wait *wait, struct mailbox *mailbox, void (*resumed)(struct wait *wait)) {
    *wait =
        (struct wait){.waiter = {.resume = post_resume}, .mailbox = mailbox, .resumed = resumed};
}

uint64_t wait_elapsed_us(const struct wait *wait) {
    return wait->state == WAIT_NONE ? 0 : clock_monotonic_us() - wait->started_us;
}

static void begin(struct wait *wait) {
    ASSERT(!wait_is_waiting(wait));
    if (wait->state == WAIT_NONE)
        wait->started_us = clock_monotonic_us();
    wait->for_room = false;
}

bool wait_for_slot(struct wait *wait, struct slot *slots, uint32_t slot_number) {
    ASSERT(wait->state != WAIT_OWNER); /* who owns patience waits while holding */
    begin(wait);
    wait->state = WAIT_SLOT;
    if (slot_park(slots, slot_number, &wait->waiter))
        return true;
    wait->state = WAIT_RETRY;
    return false;
}

bool wait_for_patience(struct wait *wait) {
    if (wait->state == WAIT_OWNER)
        return true;
    begin(wait);
    wait->state = WAIT_PATIENCE;
    if (!patience_enter(&wait->waiter))
        return false;
    wait->state = WAIT_OWNER;
    return true;
}

bool wait_for_work(struct wait *wait, struct waiter_queue *queue, const bool *done) {
    begin(wait);
    if (wait->state == WAIT_OWNER)
        patience_leave(&wait->waiter);
    wait->state = WAIT_WORK;
    if (waiter_enqueue(queue, &wait->waiter, done))
        return true;
    work_is_over(wait);
    return false;
}

void wait_end(struct wait *wait) {
    ASSERT(!wait_is_waiting(wait));
    bool owner = wait->state == WAIT_OWNER;
    wait->state = WAIT_NONE;
    wait->no_room_since_us = 0;
    if (owner)
        patience_leave(&wait->waiter);
}

static void list_remove(struct wait *wait) {
    struct wait_list *list = wait->list;
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        list->first = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    else
        list->last = wait->previous;
    list->count--;
    wait->next = wait->previous = NULL;
    wait->list = NULL;
}

void wait_by_time(struct wait *wait, struct wait_list *list, uint64_t due_us) {
    begin(wait);
    bool owner = wait->state == WAIT_OWNER;
    wait->state = WAIT_TIME;
    wait->due_us = due_us;
    wait->list = list;
    wait->next = NULL;
    wait->previous = list->last;
    if (list->last)
        list->last->next = wait;
    else
        list->first = wait;
    list->last = wait;
    list->count++;
    if (owner)
        patience_leave(&wait->waiter);
}

bool wait_cancel(struct wait *wait) {
    switch (wait->state) {
    case WAIT_TIME:
        list_remove(wait);
        wait->state = WAIT_NONE;
        wait->no_room_since_us = 0;
        break;
    case WAIT_SLOT:
    case WAIT_WORK:
    case WAIT_PATIENCE:
        if (waiter_cancel(&wait->waiter))
            wait->state = WAIT_NONE;
        else
            wait->state = wait->state == WAIT_PATIENCE ? WAIT_DROPPED_PATIENCE : WAIT_DROPPED;
        break;
    case WAIT_RETRY:
    case WAIT_OWNER:
        wait_end(wait);
        break;
    case WAIT_NONE:
    case WAIT_DROPPED:
    case WAIT_DROPPED_PATIENCE:
        break;
    }
    return wait->state == WAIT_NONE;
}

void wait_list_run(struct wait_list *list, uint64_t now_us) {
    /* Only those that are there now: who waits again may be due at once. */
    for (unsigned left = list->count; left > 0 && list->first && list->first->due_us <= now_us;
         left--) {
        struct wait *wait = list->first;
        list_remove(wait);
        wait->state = WAIT_RETRY;
        wait->resumed(wait);
    }
}

void wait_list_hurry(struct wait_list *list) {
    for (struct wait *wait = list->first; wait; wait = wait->next)
        wait->due_us = 0;
}
