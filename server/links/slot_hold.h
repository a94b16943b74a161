/* Slot hold: DEBUG SLOT-MIGRATION-HOLD stops a migration of slots at a point, so that tests can do
 * there what they want to. */
#ifndef SLOTWISE_SERVER_SLOT_HOLD_H
#define SLOTWISE_SERVER_SLOT_HOLD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "server/links/slot_records.h"

enum slot_hold_point {
    SLOT_HOLD_NOWHERE,
    /* The source. */
    SLOT_HOLD_COPYING, /* half of the slots are walked */
    SLOT_HOLD_CAUGHT_UP,
    SLOT_HOLD_FENCED,  /* nothing of COMMIT is sent */
    SLOT_HOLD_GRANTED, /* COMMIT is sent, its answer not read */
    SLOT_HOLD_ANSWERED,
    /* The target. */
    SLOT_HOLD_PREPARED,
    SLOT_HOLD_ADOPTED, /* before its replicas have it */
    SLOT_HOLD_CLAIMED, /* before it is answered */
    SLOT_HOLD_POINTS
};

/* false: there is none of this name ("off" is). Any thread. */
bool slot_hold_set(const char *name, size_t length);
/* While it is to be held here, and *ends is not set. Not on a worker, and not as a reader. */
void slot_hold(enum slot_hold_point point, struct slot_records *records, struct slot_record *record,
               const atomic_bool *ends);

#endif
