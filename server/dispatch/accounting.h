/* What a command leaves in the statistics besides its numbers: latency histograms, the slowest one,
 * the slow log, the latency monitor. On the thread of the execution unless noted. */
#ifndef SLOTWISE_SERVER_ACCOUNTING_H
#define SLOTWISE_SERVER_ACCOUNTING_H

#include "server/dispatch/execution.h"

struct config;
struct latency_monitor;

/* One for the process; changes in exclusive sections. */
struct accounting {
    struct slowlog *slowlog;
    struct latency_monitor *monitor;
    uint64_t slowlog_ticks;   /* what takes so long is logged */
    uint64_t monitored_ticks; /* what takes so long is an event for the monitor */
};

/* Takes over the configuration. In an exclusive section, or before the workers start; then
 * accounting_apply for each execution. */
void accounting_configure(struct accounting *accounting, const struct config *config);
void accounting_apply(struct execution *execution, const struct config *config);
/* Forgets what was collected. In an exclusive section. */
void accounting_reset(struct execution *execution);

/* The first call of a command while latency-tracking is on. */
void accounting_start_latency(struct command_statistics *statistics, uint64_t ticks);
/* A command took slow_ticks or more. */
void accounting_note_slow(struct execution *execution, const struct call *call, uint64_t ticks);
/* A command has had to see to room under maxmemory before it ran, or has not got it. */
void accounting_note_eviction(const struct execution *execution, uint64_t duration_us);

#endif
