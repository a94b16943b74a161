/* What slot.c, patience.c and exclusive.c share. */
#ifndef SLOTWISE_ENGINE_SLOT_PRIVATE_H
#define SLOTWISE_ENGINE_SLOT_PRIVATE_H

#include "engine/slot.h"

/* A doubly linked list of waiters; under its owner's lock. */
struct waiter_list {
    struct waiter *first;
    struct waiter *last;
};

static inline void waiter_list_append(struct waiter_list *list, struct waiter *waiter) {
    waiter->next = NULL;
    waiter->previous = list->last;
    if (list->last != NULL)
        list->last->next = waiter;
    else
        list->first = waiter;
    list->last = waiter;
    waiter->linked = 1;
}

static inline void waiter_list_remove(struct waiter_list *list, struct waiter *waiter) {
    if (waiter->previous != NULL)
        waiter->previous->next = waiter->next;
    else
        list->first = waiter->next;
    if (waiter->next != NULL)
        waiter->next->previous = waiter->previous;
    else
        list->last = waiter->previous;
    waiter->next = NULL;
    waiter->previous = NULL;
    waiter->linked = 0;
}

/* The part of waiter_cancel for WAITER_PATIENCE. */
bool patience_cancel(struct waiter *waiter);
/* Somebody owns patience (for assertions). */
bool patience_is_owned(void);

#endif
