/* Table: hash table of one (database, slot). One writer (the token's holder), any number of RCU
 * readers.
 *
 * Buckets of 64 bytes in hash order: bucket = hash * n >> 64, n any number (it follows the
 * allocator's size classes). A bucket is eight entries: an object pointer with 16 hash bits in its
 * top bits and the VOLATILE tag (the object has a TTL, or fields of it have). A key whose bucket is
 * full goes to one of the next buckets, and only when several are full to an overflow bucket; that
 * is what makes 10 bytes a key possible. Because homes are in hash order, a bound in hash order
 * names a position that survives any rebuild: SCAN cursors, the walk of a snapshot and the
 * step-wise rebuild of a giant table all use it.
 *
 * Readers: any registered reader thread (epoch.h); what they return is valid until the reader's
 * next quiescent state, and a miss is only a miss if the slot's word validates (slot.h). Writers:
 * under the token, on a registered thread (they retire arrays). Large tables are rebuilt a few
 * buckets per write; no call moves more than TABLE_STEP_BUCKETS old buckets of a table of
 * TABLE_STEP_THRESHOLD_BUCKETS or more. See table.c for the essay.
 *
 * Pointers carry tags, so a leak checker does not see objects through a table: destroy tables
 * before exit. */
#ifndef SLOTWISE_ENGINE_TABLE_H
#define SLOTWISE_ENGINE_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/object.h"
#include "engine/table_hash.h"
#include "engine/table_root.h"

#define TABLE_SAMPLE_BUCKETS 1024 /* table_sample looks at no more */

/* The hash argument of all functions is table_hash of the key: rebuilds and walks compute it again
 * from the object. */

struct object *table_find(const table_root *root, uint64_t hash, const char *key, size_t length);

/* Batch prefetch in three stages: each stage touches only lines that the one before prefetched, and
 * never faults whatever the writer does meanwhile. Stage 1 the table header (reads the root
 * itself), 2 the bucket, 3 the objects whose hash bits match (their first line). */
void table_prefetch_header(const table_root *root);
void table_prefetch_bucket(const table_root *root, uint64_t hash);
bool table_prefetch_object(const table_root *root, uint64_t hash, bool value);
/* Stage 4, for those of which stage 3 returned true: the key may be in a neighbour of its home
 * bucket. */
void table_prefetch_further(const table_root *root, uint64_t hash);

/* Under the token. insert: the key must not be there. replace: old must be there; does not retire
 * it. remove: takes the object out and returns it (the caller retires it), NULL if absent. The
 * VOLATILE tag follows the object's expiry (not OBJECT_NO_EXPIRY) and object_has_field_times;
 * table_note_expiry re-reads it after an in-place change. */
void table_insert(table_root *root, uint64_t hash, struct object *object);
void table_replace(table_root *root, uint64_t hash, struct object *old, struct object *object);
struct object *table_remove(table_root *root, uint64_t hash, const char *key, size_t length);
void table_note_expiry(table_root *root, uint64_t hash, struct object *object);

/* A step-wise rebuild is under way. Readers may see it slightly early or late. */
bool table_is_rebuilding(const table_root *root);
/* Under the token: one step of it, as a write would do. true: there is more to do. */
bool table_rebuild_some(table_root *root);

size_t table_count(const table_root *root); /* keys; readers may see it slightly early or late */
size_t table_volatile_count(const table_root *root); /* keys with the VOLATILE tag */
size_t table_bytes(const table_root *root);          /* memory of the table itself */

/* Visits every object whose hash is in [from, *next), in no particular order within a bucket: *next
 * is set to the bound where the visit stopped (end of a bucket, rounded up to a multiple of 1 <<
 * granularity_bits), 0 when the end of the table was reached. Visits whole bucket ranges until at
 * least limit objects were visited or bucket_limit buckets were seen (always at least one bucket,
 * so it gets on). Each object present during the whole of a sequence of calls is visited exactly
 * once, whatever rebuilds happen between the calls. volatile_only skips objects without the tag,
 * without touching them. The callback must not change the table (collect, then change). Readers
 * under RCU (a piece counts only if the slot's word validates) or writer under the token. */
typedef void table_visit(struct object *object, uint64_t hash, void *context);
void table_walk(const table_root *root, uint64_t from, unsigned granularity_bits, size_t limit,
                size_t bucket_limit, bool volatile_only, table_visit *visit, void *context,
                uint64_t *next);

/* A random object, NULL if empty: uniform over the keys (random entries, rejection of the empty
 * ones). random: two random words. Readers under RCU: may return NULL although not empty if a
 * writer interferes; validate. */
struct object *table_random(const table_root *root, uint64_t random_a, uint64_t random_b);
/* Up to max objects from neighbouring buckets starting at a random place (eviction samples). Looks
 * at most at TABLE_SAMPLE_BUCKETS buckets, so with volatile_only it may find none of the few there
 * are in a large table. */
size_t table_sample(const table_root *root, uint64_t random, bool volatile_only, size_t max,
                    struct object **objects);

/* Takes everything away: the root becomes NULL; the old table is returned as a whole (NULL if there
 * was none), unpublished. Under the token. */
struct table *table_detach(table_root *root);
/* Frees it and all its objects. Only after a grace period (hand it to epoch_retire with
 * table_destroy as destructor, or to the background thread). */
void table_destroy(void *table);

/* Checks every invariant (tests, DEBUG): aborts on violation. Under the token. */
void table_check(const table_root *root);

#endif
