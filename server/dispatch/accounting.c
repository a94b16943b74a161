/* See accounting.h. Counters are written by their own thread and read by others while it goes on:
 * relaxed atomics. */
#include "server/dispatch/accounting.h"

#include "engine/clock.h"
#include "engine/memory.h"
#include "server/config/config.h"
#include "server/dispatch/latency.h"
#include "server/dispatch/latency_monitor.h"
#include "server/dispatch/slowlog.h"

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void clear(_Atomic uint64_t *counter) {
    atomic_store_explicit(counter, 0, memory_order_relaxed);
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

void accounting_start_latency(struct command_statistics *statistics, uint64_t ticks) {
    if (!config_current()->latency_tracking)
        return;
    struct latency_histogram *latency = memory_calloc(1, sizeof *latency);
    latency_record(latency, ticks);
    atomic_store_explicit(&statistics->latency, latency, memory_order_release);
}

static void set_slow_ticks(struct execution *execution) {
    const struct accounting *accounting = execution->accounting;
    execution->slow_ticks =
        smaller(load(&execution->slowest_ticks) + 1,
                smaller(accounting->slowlog_ticks, accounting->monitored_ticks));
}

void accounting_note_slow(struct execution *execution, const struct call *call, uint64_t ticks) {
    const struct accounting *accounting = execution->accounting;
    if (ticks > load(&execution->slowest_ticks)) {
        atomic_store_explicit(&execution->slowest_command, call->command, memory_order_relaxed);
        atomic_store_explicit(&execution->slowest_ticks, ticks, memory_order_relaxed);
    }
    uint64_t us = clock_ticks_to_ns(ticks) / 1000;
    if (ticks >= accounting->slowlog_ticks)
        slowlog_add(accounting->slowlog, call, (int64_t)us);
    bool fast = call->command->flags & COMMAND_FAST;
    latency_monitor_note(accounting->monitor, fast ? LATENCY_FAST_COMMAND : LATENCY_COMMAND, us);
    set_slow_ticks(execution);
}

void accounting_note_eviction(const struct execution *execution, uint64_t duration_us) {
    latency_monitor_note(execution->accounting->monitor, LATENCY_EVICTION_CYCLE, duration_us);
}

/* In an exclusive section: nobody is reading it. */
static void drop_latency(struct command_statistics *statistics) {
    memory_free(atomic_load_explicit(&statistics->latency, memory_order_relaxed));
    atomic_store_explicit(&statistics->latency, NULL, memory_order_relaxed);
    memory_free(statistics->kept_latency);
    statistics->kept_latency = NULL;
}

/* latency-tracking goes off or on: what was collected is kept, and goes on from there. In an
 * exclusive section. */
static void keep_latency(struct command_statistics *statistics, bool tracking) {
    struct latency_histogram *latency =
        atomic_load_explicit(&statistics->latency, memory_order_relaxed);
    struct latency_histogram *kept = statistics->kept_latency;
    if (tracking ? kept == NULL : latency == NULL)
        return;
    atomic_store_explicit(&statistics->latency, tracking ? kept : NULL, memory_order_relaxed);
    statistics->kept_latency = tracking ? NULL : latency;
}

void accounting_reset(struct execution *execution) {
    clear(&execution->commands);
    clear(&execution->slowest_ticks);
    execution->slow_ticks = 0;
    atomic_store_explicit(&execution->slowest_command, NULL, memory_order_relaxed);
    for (unsigned id = 0; id < command_count(); id++) {
        struct command_statistics *statistics = &execution->statistics[id];
        drop_latency(statistics);
        clear(&statistics->calls);
        clear(&statistics->ticks);
        clear(&statistics->rejected);
        clear(&statistics->failed);
    }
}

void accounting_configure(struct accounting *accounting, const struct config *config) {
    int64_t slower_than_us = config->slowlog_log_slower_than;
    bool off = slower_than_us < 0 || config->slowlog_max_len == 0;
    accounting->slowlog_ticks = off ? UINT64_MAX : clock_us_to_ticks((uint64_t)slower_than_us);
    slowlog_trim(accounting->slowlog, (size_t)config->slowlog_max_len);
    latency_monitor_configure(accounting->monitor, config->latency_monitor_threshold);
    accounting->monitored_ticks =
        clock_us_to_ticks(atomic_load(&accounting->monitor->threshold_us));
}

void accounting_apply(struct execution *execution, const struct config *config) {
    set_slow_ticks(execution);
    for (unsigned id = 0; id < command_count(); id++)
        keep_latency(&execution->statistics[id], config->latency_tracking);
}
