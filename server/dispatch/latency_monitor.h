/* The latency monitor: single events that took latency-monitor-threshold or longer, for LATENCY
 * LATEST, HISTORY, GRAPH and DOCTOR.
 *
 * Whoever has measured something anyway calls latency_monitor_note; below the threshold that is one
 * comparison. What is above it is rare and takes a lock. */
#ifndef SLOTWISE_SERVER_LATENCY_MONITOR_H
#define SLOTWISE_SERVER_LATENCY_MONITOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The names that clients see are Redis's. Nothing is forked here, and what expiry and eviction
 * delete is freed in the background, so that Redis's other events have no counterpart. */
enum latency_event {
    LATENCY_COMMAND,
    LATENCY_FAST_COMMAND,   /* one that is flagged fast: O(1) or O(log N) */
    LATENCY_EXPIRE_CYCLE,   /* one step of active expiry */
    LATENCY_EVICTION_CYCLE, /* one step of eviction, or a command's wait for it */
    LATENCY_EVENTS,
};

#define LATENCY_SAMPLES 160

struct latency_sample {
    int64_t time_s; /* wall clock; 0: none */
    uint32_t ms;
};

/* At most one sample a second, the worst of it; oldest first from `next` on, round the end. */
struct latency_series {
    struct latency_sample samples[LATENCY_SAMPLES];
    unsigned next;
    uint32_t worst_ms; /* ever */
};

struct latency_monitor {
    _Atomic uint64_t threshold_us; /* UINT64_MAX: off. Written by the configuration's writer */
    struct latency_monitor_data *data;
};

void latency_monitor_init(struct latency_monitor *monitor);
void latency_monitor_destroy(struct latency_monitor *monitor);
/* threshold_ms: 0 turns it off, and keeps what was collected. */
void latency_monitor_configure(struct latency_monitor *monitor, int64_t threshold_ms);

/* Any thread, with or without tokens. Below: time_s is the wall clock's. */
void latency_monitor_add(struct latency_monitor *monitor, enum latency_event event,
                         uint64_t duration_us, int64_t time_s);
void latency_monitor_add_now(struct latency_monitor *monitor, enum latency_event event,
                             uint64_t duration_us);
static inline void latency_monitor_note(struct latency_monitor *monitor, enum latency_event event,
                                        uint64_t duration_us) {
    uint64_t threshold_us = atomic_load_explicit(&monitor->threshold_us, memory_order_relaxed);
    if (__builtin_expect(duration_us >= threshold_us, 0))
        latency_monitor_add_now(monitor, event, duration_us);
}

const char *latency_event_name(enum latency_event event);
/* false: there is no such event. Case matters, as in Redis. */
bool latency_event_by_name(const char *name, size_t length, enum latency_event *event);

/* A copy of what was collected; false: nothing was. */
bool latency_monitor_read(struct latency_monitor *monitor, enum latency_event event,
                          struct latency_series *series);
/* The latest sample; series must have one. */
struct latency_sample latency_series_last(const struct latency_series *series);
/* The same in the order of time: fills samples, returns how many. */
size_t latency_series_in_order(const struct latency_series *series,
                               struct latency_sample samples[LATENCY_SAMPLES]);
/* Forgets an event; false: there was nothing to forget. */
bool latency_monitor_reset(struct latency_monitor *monitor, enum latency_event event);

#endif
