/* See latency_report.h. The graph looks as Redis's does: columns of four lines, each column a
 * sample, how long ago written below it from top to bottom. */
#include "server/commands/latency_report.h"

#include <stdio.h>
#include <string.h>

#define GRAPH_WIDTH  80
#define GRAPH_LINES  4
#define LABEL_LENGTH 8

struct column {
    unsigned height; /* 0 .. 3 * GRAPH_LINES - 1 */
    char label[LABEL_LENGTH];
};

static void write_label(char label[LABEL_LENGTH], int64_t seconds) {
    if (seconds < 0)
        seconds = 0;
    if (seconds < 60)
        snprintf(label, LABEL_LENGTH, "%ds", (int)seconds);
    else if (seconds < 3600)
        snprintf(label, LABEL_LENGTH, "%dm", (int)(seconds / 60));
    else if (seconds < 86400)
        snprintf(label, LABEL_LENGTH, "%dh", (int)(seconds / 3600));
    else
        snprintf(label, LABEL_LENGTH, "%dd", (int)(seconds / 86400 % 100000));
}

/* Each line has three fillings, from low to high; what reaches above the line is a bar. */
static char cell(unsigned height, unsigned line) {
    unsigned base = line * 3;
    if (height < base)
        return ' ';
    return height - base < 3 ? "_o#"[height - base] : '|';
}

static void write_columns(struct text *text, const struct column *columns, size_t count) {
    for (unsigned line = GRAPH_LINES; line-- > 0;) {
        for (size_t i = 0; i < count; i++) {
            char character = cell(columns[i].height, line);
            text_append(text, &character, 1);
        }
        text_append_string(text, "\n");
    }
    size_t longest = 0;
    for (size_t i = 0; i < count; i++)
        if (strlen(columns[i].label) > longest)
            longest = strlen(columns[i].label);
    text_append_format(text, "%*s\n", (int)count, "");
    for (size_t row = 0; row < longest; row++) {
        for (size_t i = 0; i < count; i++)
            text_append(text, row < strlen(columns[i].label) ? &columns[i].label[row] : " ", 1);
        text_append_string(text, "\n");
    }
}

void latency_write_graph(struct text *text, const char *name, const struct latency_series *series,
                         int64_t now_s) {
    struct latency_sample samples[LATENCY_SAMPLES];
    struct column columns[LATENCY_SAMPLES];
    size_t count = latency_series_in_order(series, samples);
    uint32_t low = UINT32_MAX, high = 0;
    for (size_t i = 0; i < count; i++) {
        low = samples[i].ms < low ? samples[i].ms : low;
        high = samples[i].ms > high ? samples[i].ms : high;
    }
    for (size_t i = 0; i < count; i++) {
        unsigned steps = GRAPH_LINES * 3, range = high > low ? high - low : 1;
        uint64_t height = (uint64_t)(samples[i].ms - low) * steps / range;
        columns[i].height = height < steps ? (unsigned)height : steps - 1;
        write_label(columns[i].label, now_s - samples[i].time_s);
    }
    text_append_format(text, "%s - high %u ms, low %u ms (all time high %u ms)\n", name, high, low,
                       series->worst_ms);
    for (unsigned i = 0; i < GRAPH_WIDTH; i++)
        text_append_string(text, "-");
    text_append_string(text, "\n");
    for (size_t first = 0; first < count; first += GRAPH_WIDTH) {
        size_t rest = count - first;
        if (first > 0)
            text_append_string(text, "\n");
        write_columns(text, columns + first, rest < GRAPH_WIDTH ? rest : GRAPH_WIDTH);
    }
}

/* --- Advice ----------------------------------------------------------------------------------- */

struct summary {
    size_t count;
    uint64_t mean_ms, deviation_ms;
    double period_s; /* from one to the next, on average since the first */
};

static struct summary summarise(const struct latency_series *series, int64_t now_s) {
    struct latency_sample samples[LATENCY_SAMPLES];
    struct summary summary = {.count = latency_series_in_order(series, samples)};
    uint64_t sum = 0, deviations = 0;
    for (size_t i = 0; i < summary.count; i++)
        sum += samples[i].ms;
    summary.mean_ms = sum / summary.count;
    for (size_t i = 0; i < summary.count; i++)
        deviations += samples[i].ms > summary.mean_ms ? samples[i].ms - summary.mean_ms
                                                      : summary.mean_ms - samples[i].ms;
    summary.deviation_ms = deviations / summary.count;
    summary.period_s = (double)(now_s - samples[0].time_s) / (double)summary.count;
    return summary;
}

static const char *const advice[LATENCY_EVENTS] = {
    [LATENCY_COMMAND] =
        "- Commands are slow by themselves: SLOWLOG GET names them. Those that look at many keys "
        "(KEYS, FLUSHALL SYNC, DEBUG, scripts) are the usual ones; SCAN and FLUSHALL ASYNC are "
        "their gentle forms.\n",
    [LATENCY_FAST_COMMAND] =
        "- Even commands that do little took long: values of many megabytes, or a machine that is "
        "short of processors or memory. Compare the number of workers with the processors in the "
        "start of the log, and look for swapping.\n",
    [LATENCY_EXPIRE_CYCLE] =
        "- A step of active expiry took long: the machine is short of processors, or "
        "active-expire-effort asks for more than it can give.\n",
    [LATENCY_EVICTION_CYCLE] =
        "- Commands wait for eviction: more is written than can be evicted in that time. Raise "
        "maxmemory, or lower maxmemory-samples.\n",
};

void latency_write_advice(struct text *text, struct latency_monitor *monitor, int64_t now_s) {
    struct latency_series series;
    unsigned reported = 0, seen = 0;
    for (unsigned event = 0; event < LATENCY_EVENTS; event++) {
        if (!latency_monitor_read(monitor, (enum latency_event)event, &series))
            continue;
        struct summary summary = summarise(&series, now_s);
        if (reported == 0)
            text_append_string(text, "Latency spikes were observed.\n\n");
        text_append_format(text,
                           "%u. %s: %zu latency spikes (average %llums, mean deviation %llums, "
                           "period %.2f sec). Worst all time event %ums.\n",
                           ++reported, latency_event_name((enum latency_event)event), summary.count,
                           (unsigned long long)summary.mean_ms,
                           (unsigned long long)summary.deviation_ms, summary.period_s,
                           series.worst_ms);
        seen |= 1u << event;
    }
    if (seen)
        text_append_string(text, "\nWhat to look at:\n\n");
    for (unsigned event = 0; event < LATENCY_EVENTS; event++)
        if (seen & 1u << event)
            text_append_string(text, advice[event]);
    if (!seen && atomic_load(&monitor->threshold_us) == UINT64_MAX)
        text_append_string(text, "Latency monitoring is disabled. CONFIG SET "
                                 "latency-monitor-threshold <milliseconds> enables it.\n");
    else if (!seen)
        text_append_string(text, "No latency spike was observed.\n");
}
