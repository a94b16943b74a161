/* See snapshot.h. */
#include "engine/snapshot.h"

#include "engine/assert.h"
#include "engine/object_private.h"

/* Of the ids besides the keyspace's own, those that older objects may carry: one after a whole
 * snapshot, one more for each that was given up. */
#define UNFINISHED_MAX (OBJECT_SNAPSHOT_IDS - 2)

bool snapshot_begin(struct door *door, const struct snapshot *snapshot) {
    ASSERT(!door->snapshot && snapshot);
    if (door->snapshots_unfinished > UNFINISHED_MAX)
        return false;
    door->snapshot_id = (uint8_t)((door->snapshot_id + 1) % OBJECT_SNAPSHOT_IDS);
    door->snapshot = snapshot;
    return true;
}

void snapshot_end(struct door *door, bool whole) {
    ASSERT(door->snapshot);
    door->snapshot = NULL;
    if (whole)
        door->snapshots_unfinished = 0;
    else
        door->snapshots_unfinished++;
}

void snapshot_all_stamped(struct door *door) {
    ASSERT(!door->snapshot);
    door->snapshots_unfinished = 0;
}

void snapshot_forget_stamps(struct door *door) {
    ASSERT(!door->snapshot);
    door->snapshots_unfinished = UNFINISHED_MAX + 1;
}

void snapshot_stamp(const struct door *door, struct object *object) {
    object_set_snapshot_id(object, door->snapshot_id);
}
