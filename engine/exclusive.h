/* Exclusive sections: a function that runs while every thread that runs commands has stopped at a
 * command boundary. See exclusive.c for the essay. */
#ifndef SLOTWISE_ENGINE_EXCLUSIVE_H
#define SLOTWISE_ENGINE_EXCLUSIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/assert.h"

/* Every thread that runs commands joins; it then counts as running until it sleeps. Both may block
 * until a running section is over (a registered reader is offline meanwhile). Leave before the
 * thread ends. */
void exclusive_join(void);
void exclusive_leave(void);

/* 1 while a section is wanted or running. Read-mostly, alone on its cache line; written only by
 * exclusive_run. Use exclusive_point. */
struct exclusive_gate {
    _Alignas(64) _Atomic uint32_t requested;
};
extern struct exclusive_gate exclusive_gate;

/* At every command boundary (no token held, no published pointer held). Cheap when nobody asks;
 * else blocks until the section is over, offline if the thread is a registered reader. */
void exclusive_stop(void);
static inline void exclusive_point(void) {
    if (UNLIKELY(atomic_load_explicit(&exclusive_gate.requested, memory_order_acquire)))
        exclusive_stop();
}
/* Around a blocking wait: a sleeping thread counts as stopped. exclusive_sleep_end may block until
 * a running section is over. Both contain the full fence that pairs with exclusive_run. */
void exclusive_sleep_begin(void);
void exclusive_sleep_end(void);

/* Stops every joined thread at a command boundary, runs function(context) on the calling thread,
 * lets them go on. The caller owns patience (patience_enter) and holds no token; joined or not.
 * Nothing in function may wait for another joined thread or start a section. */
void exclusive_run(void (*function)(void *context), void *context);

/* Sections so far. */
uint64_t exclusive_count(void);

/* For threads that serve nobody and may block: takes patience by waiting (a registered reader is
 * offline meanwhile), then exclusive_run, then leaves patience. Not for a joined thread: one of the
 * waiters before it could be its own, which nobody would resume. */
void exclusive_run_blocking(void (*function)(void *context), void *context);

#endif
