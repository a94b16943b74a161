/* See slot_hold.h. */
#include "server/links/slot_hold.h"

#include <string.h>
#include <strings.h>
#include <time.h>

static const char *const names[SLOT_HOLD_POINTS] = {
    [SLOT_HOLD_NOWHERE] = "off",         [SLOT_HOLD_COPYING] = "copying",
    [SLOT_HOLD_CAUGHT_UP] = "caught-up", [SLOT_HOLD_FENCED] = "fenced",
    [SLOT_HOLD_GRANTED] = "granted",     [SLOT_HOLD_ANSWERED] = "answered",
    [SLOT_HOLD_PREPARED] = "prepared",   [SLOT_HOLD_ADOPTED] = "adopted",
    [SLOT_HOLD_CLAIMED] = "claimed",
};

static _Atomic unsigned held; /* enum slot_hold_point; by DEBUG */

bool slot_hold_set(const char *name, size_t length) {
    for (unsigned i = 0; i < SLOT_HOLD_POINTS; i++)
        if (strlen(names[i]) == length && strncasecmp(names[i], name, length) == 0) {
            atomic_store(&held, i);
            return true;
        }
    return false;
}

void slot_hold(enum slot_hold_point point, struct slot_records *records, struct slot_record *record,
               const atomic_bool *ends) {
    if (atomic_load(&held) != point)
        return;
    slot_record_set(records, record, record->state, record->over, "held: %s", names[point]);
    while (atomic_load(&held) == point && !(ends && atomic_load(ends)))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    slot_record_set(records, record, record->state, record->over, "%s", "");
}
