/* Snapshot: what takes an image of the data set at one moment, the cut, while commands go on.
 *
 * At the cut the keyspace's snapshot id moves on. Every object carries the id of the time at which
 * it was last published or taken by a snapshot; one with another id than the keyspace's has not
 * been touched since the cut. Who changes such an object (change_before) has the snapshot take it
 * first; who walks over the keyspace to take the rest stamps what it took in the same way. Ids are
 * of two bits, so a snapshot that was given up can be followed by another at once, and that by a
 * third; then all objects must have been taken once before ids begin anew.
 *
 * Functions here run in exclusive sections unless they say otherwise. */
#ifndef SLOTWISE_ENGINE_SNAPSHOT_H
#define SLOTWISE_ENGINE_SNAPSHOT_H

#include "engine/door.h"
#include "engine/key.h"
#include "engine/object.h"
#include "engine/table_root.h"

/* What a snapshot in progress is told. */
struct snapshot {
    /* Under the object's token: it is as it was at the cut, and about to change or go. It has been
     * taken when this returns. database: the logical number of now (SWAPDB may have come between).
     */
    void (*take)(void *context, unsigned database, const struct key *key,
                 const struct object *object);
    /* In an exclusive section: tables are taken out (FLUSHDB), and with them objects that have not
     * been taken. Before they are freed they are shown to what this returns; NULL: no need. */
    struct snapshot_salvage *(*salvage)(void *context);
    void *context;
};

/* What is told of tables that were taken out, by whoever frees them: one thread, on which nothing
 * is stopped. The snapshot may have ended meanwhile, or been given up. */
struct snapshot_salvage {
    /* Nobody else sees the table. physical: the database that it was of. */
    void (*table)(struct snapshot_salvage *salvage, unsigned physical, const table_root *root);
    /* There are no more. */
    void (*end)(struct snapshot_salvage *salvage);
};

/* The cut. false: three were given up in a row, so ids would come round; a walk must stamp all
 * objects first (snapshot_stamp). snapshot stays until snapshot_end. */
bool snapshot_begin(struct door *door, const struct snapshot *snapshot);
/* whole: every object has the id of the cut, or was made since. */
void snapshot_end(struct door *door, bool whole);
/* No snapshot is being taken, and every object has the id of now: ids begin anew. */
void snapshot_all_stamped(struct door *door);

/* Under the object's token. */
static inline bool snapshot_is_due(const struct door *door, const struct object *object) {
    return object_snapshot_id(object) != door->snapshot_id;
}
/* Objects have come whose ids are those of older times: the next snapshot is to stamp all objects
 * first. No snapshot is being taken. */
void snapshot_forget_stamps(struct door *door);
/* It has been taken. Under the token, from the walk of a snapshot. */
void snapshot_stamp(const struct door *door, struct object *object);

#endif
