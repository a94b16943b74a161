/* See mailbox.h. This file is compiled without ThreadSanitizer instrumentation (ck's atomics are
 * assembly that it does not understand); the two annotations tell it what the stack orders.
 *
 * Ordering: the push is a compare-and-swap with a full fence before it (what the poster wrote is
 * visible to whoever pops). sleeping is stored seq_cst before the owner looks at the stack, and
 * loaded seq_cst after the push: one of the two sees the other. */
#include "server/net/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#ifdef SLOTWISE_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#else
#define __tsan_acquire(address) ((void)0)
#define __tsan_release(address) ((void)0)
#endif

int mailbox_init(struct mailbox *mailbox) {
    ck_stack_init(&mailbox->stack);
    atomic_init(&mailbox->sleeping, 0);
    mailbox->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return mailbox->wake_fd < 0 ? -errno : 0;
}

void mailbox_destroy(struct mailbox *mailbox) {
    close(mailbox->wake_fd);
}

void mailbox_post(struct mailbox *mailbox, struct message *message) {
    int wake_fd = mailbox->wake_fd;
    __tsan_release(mailbox);
    ck_stack_push_upmc(&mailbox->stack, &message->link);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&mailbox->sleeping, memory_order_seq_cst)) {
        uint64_t one = 1;
        ssize_t written = write(wake_fd, &one, sizeof one);
        (void)written; /* EAGAIN: it has been woken already */
    }
}

unsigned mailbox_drain(struct mailbox *mailbox) {
    if (!CK_STACK_FIRST(&mailbox->stack))
        return 0;
    struct ck_stack_entry *entry = ck_stack_batch_pop_upmc(&mailbox->stack), *oldest = NULL;
    __tsan_acquire(mailbox);
    while (entry) { /* newest first: turn it round */
        struct ck_stack_entry *next = entry->next;
        entry->next = oldest;
        oldest = entry;
        entry = next;
    }
    unsigned count = 0;
    while (oldest) {
        struct message *message = (struct message *)oldest;
        oldest = oldest->next; /* run may free or post the message again */
        message->run(message);
        count++;
    }
    return count;
}

bool mailbox_prepare_sleep(struct mailbox *mailbox) {
    atomic_store_explicit(&mailbox->sleeping, 1, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (!CK_STACK_FIRST(&mailbox->stack))
        return true;
    mailbox_awake(mailbox);
    return false;
}

void mailbox_awake(struct mailbox *mailbox) {
    atomic_store_explicit(&mailbox->sleeping, 0, memory_order_relaxed);
}
