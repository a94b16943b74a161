/* server/dispatch/latency_monitor.c and server/commands/latency_report.c: what is kept of single
 * slow events, and how it is shown. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/memory.h"
#include "server/commands/latency_report.h"
#include "server/commands/memory_report.h"

static struct latency_monitor monitor;
static struct latency_series series;
static struct latency_sample samples[LATENCY_SAMPLES];

static void start_monitor(void) {
    latency_monitor_init(&monitor);
}

static void stop_monitor(void) {
    latency_monitor_destroy(&monitor);
}

TestSuite(latency_monitor, .init = start_monitor, .fini = stop_monitor);

Test(latency_monitor, threshold) {
    latency_monitor_note(&monitor, LATENCY_COMMAND, UINT64_MAX - 1);
    cr_assert_not(latency_monitor_read(&monitor, LATENCY_COMMAND, &series), "it is off");
    latency_monitor_configure(&monitor, 10);
    latency_monitor_note(&monitor, LATENCY_COMMAND, 9999);
    cr_assert_not(latency_monitor_read(&monitor, LATENCY_COMMAND, &series));
    latency_monitor_note(&monitor, LATENCY_COMMAND, 10000);
    cr_assert(latency_monitor_read(&monitor, LATENCY_COMMAND, &series));
    cr_assert_not(latency_monitor_read(&monitor, LATENCY_FAST_COMMAND, &series));
    latency_monitor_configure(&monitor, 0);
    latency_monitor_note(&monitor, LATENCY_FAST_COMMAND, 1u << 30);
    cr_assert_not(latency_monitor_read(&monitor, LATENCY_FAST_COMMAND, &series));
    cr_assert(latency_monitor_read(&monitor, LATENCY_COMMAND, &series), "what there was is kept");
}

Test(latency_monitor, one_sample_a_second_the_worst) {
    latency_monitor_add(&monitor, LATENCY_COMMAND, 20000, 100);
    latency_monitor_add(&monitor, LATENCY_COMMAND, 50999, 100);
    latency_monitor_add(&monitor, LATENCY_COMMAND, 30000, 100);
    latency_monitor_add(&monitor, LATENCY_COMMAND, 40000, 101);
    cr_assert(latency_monitor_read(&monitor, LATENCY_COMMAND, &series));
    cr_assert_eq(latency_series_in_order(&series, samples), 2);
    cr_assert_eq(samples[0].time_s, 100);
    cr_assert_eq(samples[0].ms, 50);
    cr_assert_eq(samples[1].ms, 40);
    cr_assert_eq(series.worst_ms, 50);
    cr_assert_eq(latency_series_last(&series).time_s, 101);
}

Test(latency_monitor, old_samples_go_the_worst_is_remembered) {
    for (int64_t i = 1; i <= 1000; i++)
        latency_monitor_add(&monitor, LATENCY_EXPIRE_CYCLE, (uint64_t)(2000 - i) * 1000, i);
    cr_assert(latency_monitor_read(&monitor, LATENCY_EXPIRE_CYCLE, &series));
    cr_assert_eq(latency_series_in_order(&series, samples), LATENCY_SAMPLES);
    for (int64_t i = 0; i < LATENCY_SAMPLES; i++) {
        cr_assert_eq(samples[i].time_s, 1000 - LATENCY_SAMPLES + 1 + i);
        cr_assert_eq(samples[i].ms, 2000 - samples[i].time_s);
    }
    cr_assert_eq(series.worst_ms, 1999);
    cr_assert(latency_monitor_reset(&monitor, LATENCY_EXPIRE_CYCLE));
    cr_assert_not(latency_monitor_reset(&monitor, LATENCY_EXPIRE_CYCLE));
    cr_assert_not(latency_monitor_read(&monitor, LATENCY_EXPIRE_CYCLE, &series));
}

Test(latency_monitor, names) {
    for (unsigned i = 0; i < LATENCY_EVENTS; i++) {
        enum latency_event event;
        const char *name = latency_event_name((enum latency_event)i);
        cr_assert(latency_event_by_name(name, strlen(name), &event));
        cr_assert_eq(event, i);
        cr_assert_not(latency_event_by_name(name, strlen(name) - 1, &event));
    }
}

Test(latency_monitor, graph) {
    static const unsigned ms[] = {20, 50, 100, 30, 200};
    struct text text = {0};
    for (int64_t i = 0; i < 5; i++)
        latency_monitor_add(&monitor, LATENCY_COMMAND, ms[i] * 1000, 1000 + i);
    latency_monitor_read(&monitor, LATENCY_COMMAND, &series);
    latency_write_graph(&text, "command", &series, 1010);
    cr_assert_str_eq(text_string(&text),
                     "command - high 200 ms, low 20 ms (all time high 200 ms)\n"
                     "------------------------------------------------------------"
                     "--------------------\n"
                     "    #\n"
                     "    |\n"
                     "  # |\n"
                     "_#|_|\n"
                     "     \n"
                     "19876\n"
                     "0ssss\n"
                     "s    \n");
    text_clear(&text);
    latency_write_graph(&text, "command", &series, 1000000000);
    cr_assert_not_null(strstr(text_string(&text), "\n11111\n11111\n55555\n77777\n44444\nddddd\n"));
    text_free(&text);
}

Test(latency_monitor, a_long_graph_is_folded) {
    struct text text = {0};
    for (int64_t i = 1; i <= LATENCY_SAMPLES; i++)
        latency_monitor_add(&monitor, LATENCY_COMMAND, UINT64_MAX, i);
    latency_monitor_read(&monitor, LATENCY_COMMAND, &series);
    latency_write_graph(&text, "command", &series, LATENCY_SAMPLES);
    for (const char *line = text_string(&text), *end; (end = strchr(line, '\n')); line = end + 1)
        cr_assert_leq(end - line, 90);
    text_free(&text);
}

Test(latency_monitor, advice) {
    struct text text = {0};
    latency_write_advice(&text, &monitor, 10);
    cr_assert_not_null(strstr(text_string(&text), "latency-monitor-threshold"));
    text_clear(&text);
    latency_monitor_configure(&monitor, 1);
    latency_write_advice(&text, &monitor, 10);
    cr_assert_str_eq(text_string(&text), "No latency spike was observed.\n");
    text_clear(&text);
    latency_monitor_add(&monitor, LATENCY_EVICTION_CYCLE, 10000, 2);
    latency_monitor_add(&monitor, LATENCY_EVICTION_CYCLE, 30000, 4);
    latency_write_advice(&text, &monitor, 10);
    cr_assert_not_null(strstr(text_string(&text),
                              "1. eviction-cycle: 2 latency spikes (average 20ms, mean deviation "
                              "10ms, period 4.00 sec). Worst all time event 30ms.\n"));
    cr_assert_not_null(strstr(text_string(&text), "maxmemory"));
    text_free(&text);
}

#define MB ((uint64_t)1 << 20)

static const char *advice_for(struct memory_report report) {
    static char kept[2048];
    struct text text = {0};
    memory_write_advice(&text, &report);
    strcpy(kept, text_string(&text));
    text_free(&text);
    return kept;
}

Test(memory_report, advice) {
    struct memory_report fine = {.used = 100 * MB,
                                 .peak = 110 * MB,
                                 .allocated = 100 * MB,
                                 .active = 101 * MB,
                                 .allocator_resident = 105 * MB,
                                 .resident = 110 * MB,
                                 .clients = MB,
                                 .client_count = 50};
    cr_assert_str_eq(advice_for(fine), "No memory problem was found.\n");
    struct memory_report report = {.used = MB, .peak = 100 * MB};
    cr_assert_not_null(strstr(advice_for(report), "Too little memory"));
    report = fine;
    report.peak = 200 * MB;
    cr_assert_not_null(strstr(advice_for(report), "Peak memory"));
    report = fine;
    report.resident = 200 * MB;
    cr_assert_not_null(strstr(advice_for(report), "High total fragmentation"));
    cr_assert_not_null(strstr(advice_for(report), "High process RSS overhead"));
    report = fine;
    report.active = report.allocator_resident = 130 * MB;
    cr_assert_not_null(strstr(advice_for(report), "High allocator fragmentation"));
    report = fine;
    report.allocator_resident = 130 * MB;
    cr_assert_not_null(strstr(advice_for(report), "High allocator RSS overhead"));
    report = fine;
    report.clients = 50 * MB;
    cr_assert_not_null(strstr(advice_for(report), "Big client buffers"));
}
