/* Commit log: the effect log (engine/effect_log.h) of replication. Threads that change keys commit
 * units of effects; one consumer takes them out as one stream, in the one true order.
 *
 * Algorithm. Each thread that commits has a lane of its own: a chain of chunks that it alone
 * appends to and the consumer alone reads. A commit encodes the unit at the end of its lane, takes
 * the next number (one fetch-and-add for the whole process) and publishes the entry by the length
 * of its chunk. Since the number is taken last, nothing but a few stores lies between it and the
 * publication, however long the unit is. The consumer looks for the next number among the heads of
 * the lanes; numbers are dense, so it knows when one is still under way and waits for it.
 *
 * Ordering. Numbers are taken under the tokens of all that the unit changed, before the first is
 * released: a unit that saw the effects of another has the greater number. Publication is a release
 * store that the consumer acquires. number and asleep are sequentially consistent: either the
 * consumer, about to sleep, sees that a number was taken, or who took it sees that it sleeps.
 *
 * Progress. A commit never waits: a lane grows as far as there is memory. commit_log_is_full tells
 * admission, before tokens are taken, that the consumer is behind. The consumer's commit_log_next
 * never waits either.
 *
 * Reclamation. The consumer gives read chunks back to their lane, which reuses them (no page faults
 * in the steady state); those of single large entries, and more than a lane keeps, are freed. Lanes
 * live as long as the log. */
#ifndef SLOTWISE_REPLICATION_COMMIT_LOG_H
#define SLOTWISE_REPLICATION_COMMIT_LOG_H

#include <stdbool.h>

#include "engine/effect_log.h"

/* A lane with more than this unread is full. */
#define COMMIT_LOG_FULL_BYTES ((size_t)8 * 1024 * 1024)

struct commit_log;

/* One unit: RESP as Redis propagates it, several effects between MULTI and EXEC, SELECT inside
 * where the database changes. */
struct commit_entry {
    uint64_t number;
    unsigned first_database; /* that has to be selected before it; logical numbers */
    unsigned last_database;  /* that is selected after it */
    const char *data;
    size_t length;
};

/* wake: called by a thread that has committed while the consumer sleeps (commit_log_sleep), under
 * its tokens: must not wait. */
struct commit_log *commit_log_make(void (*wake)(void *context), void *context);
/* No thread uses it any more. */
void commit_log_free(struct commit_log *log);

/* For keyspace->door.log. */
struct effect_log *commit_log_effect_log(struct commit_log *log);

/* The number of the last commit, 0: none. Exact in an exclusive section. */
uint64_t commit_log_last_number(const struct commit_log *log);
/* The calling thread has committed more than the consumer keeps up with. Without tokens. */
bool commit_log_is_full(struct commit_log *log);

/* --- The consumer: one thread ------------------------------------------------------------------
 */

/* The next unit. false: it has not been committed, or is not visible yet. The entry is valid until
 * the next call. */
bool commit_log_next(struct commit_log *log, struct commit_entry *entry);
/* The number of the last unit that commit_log_next has given. */
uint64_t commit_log_read_number(const struct commit_log *log);
/* The consumer is about to sleep: true: it may, and wake will be called for what is committed from
 * now on, once. false: there is something to read. */
bool commit_log_sleep(struct commit_log *log);
/* It does not sleep any more, for whatever reason: nobody needs to wake it. */
void commit_log_awake(struct commit_log *log);

/* Memory of all lanes. Any thread; not exact while others commit. */
size_t commit_log_bytes(const struct commit_log *log);

#endif
