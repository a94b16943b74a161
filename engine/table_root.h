/* What a table is to those who only hold on to one, and what its parts share with its users. */
#ifndef SLOTWISE_ENGINE_TABLE_ROOT_H
#define SLOTWISE_ENGINE_TABLE_ROOT_H

/* A table of so many buckets before or after is rebuilt step by step, so many old buckets each. */
#define TABLE_STEP_THRESHOLD_BUCKETS 1024
#define TABLE_STEP_BUCKETS           8

struct table;

/* The published root is the slot's table pointer; the functions that may swap it take its address.
 * A NULL root is an empty table. */
typedef struct table *_Atomic table_root;

#endif
