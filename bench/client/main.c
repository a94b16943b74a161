/*
 * bench_client: a multi-threaded load client for servers that speak RESP. See --help and
 * bench/README.md.
 *
 * The main thread sets the times, reads the server's CPU clock at both ends of the measured part,
 * and prints.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/client/idle.h"
#include "bench/client/loop.h"
#include "bench/client/options.h"
#include "bench/client/report.h"
#include "bench/client/workload.h"
#include "bench/common/clock.h"
#include "bench/common/net.h"

#define MAX_TIMELINE_SLOTS 1000000

static struct run run;

/* The end has come earlier than planned; the report is printed all the same. */
static void end_early(int signal_number) {
    (void)signal_number;
    atomic_store_explicit(&run.end_ns, clock_now_ns(), memory_order_relaxed);
}

static uint64_t seconds_to_ns(double seconds) {
    return (uint64_t)(seconds * (double)NS_PER_SECOND);
}

static uint64_t replies_so_far(struct client_thread *threads) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < run.options->threads; i++) {
        sum += atomic_load_explicit(&threads[i].replies_total, memory_order_relaxed);
    }
    return sum;
}

/* Waits until the time has come or all threads have ended. */
static void wait_until(uint64_t until_ns) {
    uint64_t bounded_ns = until_ns > (uint64_t)INT64_MAX ? (uint64_t)INT64_MAX : until_ns;
    struct timespec until = {
        .tv_sec = (time_t)(bounded_ns / NS_PER_SECOND),
        .tv_nsec = (long)(bounded_ns % NS_PER_SECOND),
    };
    pthread_mutex_lock(&run.lock);
    while (run.threads_running > 0) {
        if (pthread_cond_timedwait(&run.thread_ended, &run.lock, &until) == ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&run.lock);
}

static void init_run(const struct options *options, const struct workload *workload) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&run.thread_ended, &monotonic);
    pthread_mutex_init(&run.lock, NULL);
    pthread_barrier_init(&run.barrier, NULL, options->threads + 1);
    run.options = options;
    run.workload = workload;
    run.threads_running = options->threads;
    if (options->timeline_ms > 0) {
        double slots = options->seconds * 1000 / options->timeline_ms + 1;
        run.timeline_slots = options->seconds == 0 || slots > MAX_TIMELINE_SLOTS
                                 ? MAX_TIMELINE_SLOTS
                                 : (uint32_t)slots;
    }
}

static void start_threads(struct client_thread *threads) {
    const struct options *options = run.options;
    for (unsigned i = 0; i < options->threads; i++) {
        struct client_thread *thread = &threads[i];
        thread->run = &run;
        thread->index = i;
        thread->connection_count =
            options->connections / options->threads + (i < options->connections % options->threads);
        if (run.timeline_slots > 0) {
            thread->timeline = calloc(run.timeline_slots, sizeof(*thread->timeline));
        }
        if (pthread_create(&thread->thread, NULL, loop_thread, thread) != 0) {
            die("cannot start a thread");
        }
    }
}

static void measure(struct client_thread *threads, struct measurement *result) {
    const struct options *options = run.options;
    uint64_t replies_before = 0;
    pthread_barrier_wait(&run.barrier);
    /* An open loop gets a moment, so that nobody is late at the start. */
    uint64_t delay_ns = options->rate > 0 ? 1000000 : 0;
    run.warmup_start_ns = clock_now_ns() + delay_ns;
    run.start_ns = run.warmup_start_ns + seconds_to_ns(options->warmup_seconds);
    run.end_ns = options->seconds > 0 ? run.start_ns + seconds_to_ns(options->seconds) : UINT64_MAX;
    if (options->server_pid > 0 && run.start_ns <= clock_now_ns()) {
        result->server_known = clock_cpu_use(options->server_pid, &result->server_before) == 0;
        pthread_barrier_wait(&run.barrier); /* no warm-up: the first reply counts */
    } else {
        pthread_barrier_wait(&run.barrier);
        wait_until(run.start_ns);
        result->server_known = options->server_pid > 0 &&
                               clock_cpu_use(options->server_pid, &result->server_before) == 0;
        replies_before = replies_so_far(threads);
    }
    wait_until(run.end_ns);
    result->server_known =
        result->server_known && clock_cpu_use(options->server_pid, &result->server_after) == 0;
    result->cpu_replies = replies_so_far(threads) - replies_before;
    for (unsigned i = 0; i < options->threads; i++) {
        pthread_join(threads[i].thread, NULL);
    }
}

static double own_cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    static struct options options;
    static struct workload workload;
    static struct measurement measurement;
    options_parse(argc, argv, &options);
    if (options.idle > 0) {
        return idle_run(&options);
    }
    net_raise_file_limit(options.connections + 64UL);
    workload_create(&options, &workload);
    init_run(&options, &workload);
    struct client_thread *threads = calloc(options.threads, sizeof(*threads));
    if (threads == NULL) {
        die("out of memory");
    }
    signal(SIGINT, end_early);
    signal(SIGTERM, end_early);
    start_threads(threads);
    double cpu_before = own_cpu_seconds();
    measure(threads, &measurement);
    measurement.client_cpu_seconds = own_cpu_seconds() - cpu_before;
    report_print(&run, threads, &measurement);
    bool failed = false;
    for (unsigned i = 0; i < options.threads; i++) {
        failed = failed || threads[i].stats.mismatches > 0 || threads[i].stats.unexpected > 0;
        free(threads[i].timeline);
    }
    free(threads);
    workload_destroy(&workload);
    return failed ? 2 : 0;
}
