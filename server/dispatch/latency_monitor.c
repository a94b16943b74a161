/* See latency_monitor.h. */
#include "server/dispatch/latency_monitor.h"

#include <pthread.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/clock.h"
#include "engine/memory.h"

struct latency_monitor_data {
    pthread_mutex_t lock; /* of the series */
    struct latency_series series[LATENCY_EVENTS];
};

static const char *const names[LATENCY_EVENTS] = {
    [LATENCY_COMMAND] = "command",
    [LATENCY_FAST_COMMAND] = "fast-command",
    [LATENCY_EXPIRE_CYCLE] = "expire-cycle",
    [LATENCY_EVICTION_CYCLE] = "eviction-cycle",
};

void latency_monitor_init(struct latency_monitor *monitor) {
    monitor->data = memory_calloc(1, sizeof *monitor->data);
    pthread_mutex_init(&monitor->data->lock, NULL);
    atomic_store(&monitor->threshold_us, UINT64_MAX);
}

void latency_monitor_destroy(struct latency_monitor *monitor) {
    pthread_mutex_destroy(&monitor->data->lock);
    memory_free(monitor->data);
}

void latency_monitor_configure(struct latency_monitor *monitor, int64_t threshold_ms) {
    ASSERT(threshold_ms >= 0);
    bool off = threshold_ms == 0 || (uint64_t)threshold_ms > UINT64_MAX / 1000;
    atomic_store_explicit(&monitor->threshold_us, off ? UINT64_MAX : (uint64_t)threshold_ms * 1000,
                          memory_order_relaxed);
}

static struct latency_sample *last_of(struct latency_series *series) {
    return &series->samples[(series->next + LATENCY_SAMPLES - 1) % LATENCY_SAMPLES];
}

void latency_monitor_add(struct latency_monitor *monitor, enum latency_event event,
                         uint64_t duration_us, int64_t time_s) {
    struct latency_monitor_data *data = monitor->data;
    struct latency_series *series = &data->series[event];
    uint64_t duration_ms = duration_us / 1000;
    uint32_t ms = duration_ms < UINT32_MAX ? (uint32_t)duration_ms : UINT32_MAX;
    ASSERT(event < LATENCY_EVENTS && time_s > 0);
    pthread_mutex_lock(&data->lock);
    struct latency_sample *last = last_of(series);
    if (ms > series->worst_ms)
        series->worst_ms = ms;
    if (last->time_s != time_s) {
        last = &series->samples[series->next];
        *last = (struct latency_sample){time_s, ms};
        series->next = (series->next + 1) % LATENCY_SAMPLES;
    } else if (ms > last->ms) {
        last->ms = ms;
    }
    pthread_mutex_unlock(&data->lock);
}

void latency_monitor_add_now(struct latency_monitor *monitor, enum latency_event event,
                             uint64_t duration_us) {
    latency_monitor_add(monitor, event, duration_us, clock_now_us() / 1000000);
}

const char *latency_event_name(enum latency_event event) {
    ASSERT(event < LATENCY_EVENTS);
    return names[event];
}

bool latency_event_by_name(const char *name, size_t length, enum latency_event *event) {
    for (unsigned i = 0; i < LATENCY_EVENTS; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *event = (enum latency_event)i;
            return true;
        }
    return false;
}

static bool is_empty(struct latency_series *series) {
    return last_of(series)->time_s == 0;
}

bool latency_monitor_read(struct latency_monitor *monitor, enum latency_event event,
                          struct latency_series *series) {
    struct latency_monitor_data *data = monitor->data;
    ASSERT(event < LATENCY_EVENTS);
    pthread_mutex_lock(&data->lock);
    *series = data->series[event];
    pthread_mutex_unlock(&data->lock);
    return !is_empty(series);
}

struct latency_sample latency_series_last(const struct latency_series *series) {
    return series->samples[(series->next + LATENCY_SAMPLES - 1) % LATENCY_SAMPLES];
}

size_t latency_series_in_order(const struct latency_series *series,
                               struct latency_sample samples[LATENCY_SAMPLES]) {
    size_t n = 0;
    for (unsigned i = 0; i < LATENCY_SAMPLES; i++) {
        const struct latency_sample *sample =
            &series->samples[(series->next + i) % LATENCY_SAMPLES];
        if (sample->time_s != 0)
            samples[n++] = *sample;
    }
    return n;
}

bool latency_monitor_reset(struct latency_monitor *monitor, enum latency_event event) {
    struct latency_monitor_data *data = monitor->data;
    struct latency_series *series = &data->series[event];
    ASSERT(event < LATENCY_EVENTS);
    pthread_mutex_lock(&data->lock);
    bool any = !is_empty(series);
    *series = (struct latency_series){0};
    pthread_mutex_unlock(&data->lock);
    return any;
}
