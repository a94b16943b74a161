/* Private to table*.c: rebuilds of a table into a larger or smaller array. Under the token, on a
 * registered thread. See table_rebuild.c. */
#ifndef SLOTWISE_ENGINE_TABLE_REBUILD_H
#define SLOTWISE_ENGINE_TABLE_REBUILD_H

#include "engine/table_bucket.h"

/* Moves up to TABLE_STEP_BUCKETS buckets of a step-wise rebuild; r is the state of t. */
void rebuild_step(struct table *t, struct table_rebuild *r);
/* Rebuilds into so many buckets, at once or by starting the steps. Returns the new table,
 * published. */
struct table *table_rebuild_to(table_root *root, struct table *t, uint64_t buckets);
/* Retires an unpublished table (and the old one of a rebuild) without its objects. */
void table_retire_shell(struct table *t);
/* Frees at once, without objects. */
void table_free_shell(void *table);

#endif
