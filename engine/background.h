/* Work that nobody waits for: freeing large values and flushed databases.
 *
 * One thread. It is not the one that runs grace periods: a job may take seconds, and reclamation
 * must not stand still meanwhile.
 */
#ifndef SLOTWISE_ENGINE_BACKGROUND_H
#define SLOTWISE_ENGINE_BACKGROUND_H

#include <stdint.h>

/* Queues function(argument); jobs run one at a time in the order of submission, on a thread that is
 * no RCU reader (a job must not call epoch_retire; it may call epoch_synchronize). Any thread.
 * While the thread is not running (before background_start, after background_stop) the job runs at
 * once on the caller. */
void background_submit(void (*function)(void *argument), void *argument);

/* Waits until every job submitted before the call is done. A registered reader is taken offline
 * meanwhile, so it must hold no published pointer. Not from inside a job. */
void background_drain(void);

/* Jobs queued or running. */
uint64_t background_pending(void);

/* From a timer of one thread: about a second after a megabyte or more has been freed, gives unused
 * memory back to the system, on the background thread. Costs nothing otherwise. */
void background_give_back_memory(void);

/* After daemonizing; may be started again after a stop. Returns 0 or a negative errno. The stop
 * runs what is queued first (before epoch_stop: a job may wait for a grace period). */
int background_start(void);
void background_stop(void);

#endif
