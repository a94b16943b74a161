/* Mailbox: messages to a worker from any thread. Unbounded and without allocation: messages are
 * intrusive nodes (ck_stack), so that a post cannot fail and a resume cannot be lost.
 *
 * Sleeping: the owner sets its flag, full fence, looks again, waits; a poster pushes, full fence,
 * tests the flag and then wakes it through the descriptor. */
#ifndef SLOTWISE_SERVER_MAILBOX_H
#define SLOTWISE_SERVER_MAILBOX_H

#include <ck_stack.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct message {
    struct ck_stack_entry link;           /* first: a message is cast from its link */
    void (*run)(struct message *message); /* on the owner's thread */
};

struct mailbox {
    _Alignas(64) struct ck_stack stack;
    _Alignas(64) _Atomic uint32_t sleeping; /* written by the owner */
    int wake_fd;                            /* eventfd in the owner's poll set */
};

int mailbox_init(struct mailbox *mailbox);
void mailbox_destroy(struct mailbox *mailbox);
/* Any thread. The message belongs to the receiver until its run is called. */
void mailbox_post(struct mailbox *mailbox, struct message *message);
/* Owner: runs all that has arrived, oldest first; returns how many. */
unsigned mailbox_drain(struct mailbox *mailbox);
/* Owner: true if it may block now; then call mailbox_awake after the wait. */
bool mailbox_prepare_sleep(struct mailbox *mailbox);
void mailbox_awake(struct mailbox *mailbox);

#endif
