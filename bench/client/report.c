/*
 * The report. See report.h.
 */
#include "bench/client/report.h"

#include <stdio.h>
#include <string.h>

static const double curve_points[] = {
    0,    10,    20,   30,     40,    50,     60,    70,     75,     80,
    85,   90,    92.5, 95,     96.5,  97.5,   98,    98.5,   99,     99.25,
    99.5, 99.75, 99.9, 99.925, 99.95, 99.975, 99.99, 99.995, 99.999, 100,
};

static double microseconds(uint64_t ns) {
    return (double)ns / 1000.0;
}

static void print_text(const char *name, const char *text) {
    printf(", \"%s\": \"", name);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            printf("\\%c", *text);
        } else if ((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e) {
            printf("\\u%04x", (unsigned char)*text);
        } else {
            putchar(*text);
        }
    }
    putchar('"');
}

static void print_histogram(const char *name, const struct histogram *histogram) {
    printf(",\n \"%s\": {\"count\": %llu, \"mean\": %.3f, \"min\": %.3f, \"max\": %.3f", name,
           (unsigned long long)histogram->count, histogram_mean(histogram) / 1000.0,
           histogram->count > 0 ? microseconds(histogram->min) : 0.0, microseconds(histogram->max));
    static const double points[] = {50, 90, 95, 99, 99.9, 99.99};
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        printf(", \"p%g\": %.3f", points[i],
               microseconds(histogram_percentile(histogram, points[i])));
    }
    printf(",\n  \"curve\": [");
    for (size_t i = 0; i < sizeof(curve_points) / sizeof(curve_points[0]); i++) {
        printf("%s[%g, %.3f]", i == 0 ? "" : ", ", curve_points[i],
               microseconds(histogram_percentile(histogram, curve_points[i])));
    }
    printf("]}");
}

static void print_timeline(const struct run *run, const struct client_thread *threads) {
    if (run->timeline_slots == 0) {
        return;
    }
    uint32_t used = 0;
    for (uint32_t slot = 0; slot < run->timeline_slots; slot++) {
        for (unsigned t = 0; t < run->options->threads; t++) {
            used = threads[t].timeline[slot].replies > 0 ? slot + 1 : used;
        }
    }
    printf(",\n \"timeline_ms\": %u,\n \"timeline\": [", run->options->timeline_ms);
    for (uint32_t slot = 0; slot < used; slot++) {
        struct timeline_slot sum = {0, 0};
        for (unsigned t = 0; t < run->options->threads; t++) {
            const struct timeline_slot *part = &threads[t].timeline[slot];
            sum.replies += part->replies;
            sum.worst_ns = part->worst_ns > sum.worst_ns ? part->worst_ns : sum.worst_ns;
        }
        printf("%s[%llu, %.1f]", slot == 0 ? "" : ", ", (unsigned long long)sum.replies,
               microseconds(sum.worst_ns));
    }
    putchar(']');
}

static void print_server_cpu(const struct measurement *measurement) {
    if (!measurement->server_known) {
        return;
    }
    const struct cpu_use *before = &measurement->server_before;
    const struct cpu_use *after = &measurement->server_after;
    double total_us = microseconds(after->total_ns - before->total_ns);
    double user = (double)(after->user_ns - before->user_ns);
    double system = (double)(after->system_ns - before->system_ns);
    printf(",\n \"server_cpu_seconds\": %.6f, \"server_cpu_us_per_request\": %.5f, "
           "\"server_user_share\": %.3f",
           total_us / 1e6,
           measurement->cpu_replies == 0 ? 0 : total_us / (double)measurement->cpu_replies,
           user + system > 0 ? user / (user + system) : 0);
}

static void print_options(const struct options *options) {
    static const char *const patterns[] = {"uniform", "zipf", "sequential"};
    printf("{\"threads\": %u, \"connections\": %u, \"pipeline\": %u, \"rate\": %.3f, \"keys\": "
           "\"%s\", "
           "\"keyspace\": %llu, \"key_bytes\": %u, \"value_bytes\": [%u, %u], \"operations\": {",
           options->threads, options->connections, options->pipeline, options->rate,
           patterns[options->keys], (unsigned long long)options->keyspace, options->key_bytes,
           options->value_bytes_min, options->value_bytes_max);
    for (unsigned i = 0; i < options->operation_count; i++) {
        printf("%s\"%s\": %u", i == 0 ? "" : ", ", options->operations[i].name,
               options->operations[i].weight);
    }
    printf("}");
}

void report_print(const struct run *run, const struct client_thread *threads,
                  const struct measurement *measurement) {
    static struct histogram latency;
    static struct histogram lag;
    struct reply_stats stats = {0};
    uint64_t measured = 0;
    uint64_t unanswered = 0;
    uint64_t disconnects = 0;
    uint64_t last_ns = 0;
    histogram_reset(&latency);
    histogram_reset(&lag);
    for (unsigned i = 0; i < run->options->threads; i++) {
        const struct client_thread *thread = &threads[i];
        histogram_merge(&latency, &thread->latency);
        histogram_merge(&lag, &thread->lag);
        measured += thread->measured;
        unanswered += thread->unanswered;
        disconnects += thread->disconnects;
        last_ns = thread->last_reply_ns > last_ns ? thread->last_reply_ns : last_ns;
        stats.replies += thread->stats.replies;
        stats.errors += thread->stats.errors;
        stats.nils += thread->stats.nils;
        stats.unexpected += thread->stats.unexpected;
        stats.values += thread->stats.values;
        stats.mismatches += thread->stats.mismatches;
        if (stats.first_error[0] == '\0') {
            memcpy(stats.first_error, thread->stats.first_error, sizeof(stats.first_error));
        }
    }
    uint64_t end_ns = last_ns < run->end_ns ? last_ns : run->end_ns;
    double seconds = end_ns > run->start_ns ? microseconds(end_ns - run->start_ns) / 1e6 : 0;
    print_options(run->options);
    printf(",\n \"seconds\": %.6f, \"requests\": %llu, \"requests_per_second\": %.1f", seconds,
           (unsigned long long)measured, seconds > 0 ? (double)measured / seconds : 0);
    printf(",\n \"replies\": %llu, \"errors\": %llu, \"nils\": %llu, \"unexpected\": %llu, "
           "\"values_checked\": %llu, \"mismatches\": %llu, \"unanswered\": %llu, \"disconnects\": "
           "%llu",
           (unsigned long long)stats.replies, (unsigned long long)stats.errors,
           (unsigned long long)stats.nils, (unsigned long long)stats.unexpected,
           (unsigned long long)stats.values, (unsigned long long)stats.mismatches,
           (unsigned long long)unanswered, (unsigned long long)disconnects);
    if (stats.first_error[0] != '\0') {
        print_text("first_error", stats.first_error);
    }
    print_server_cpu(measurement);
    printf(",\n \"client_cpu_seconds\": %.6f", measurement->client_cpu_seconds);
    print_histogram("latency_us", &latency);
    if (run->options->rate > 0) {
        print_histogram("send_lag_us", &lag);
    }
    print_timeline(run, threads);
    printf("}\n");
}
