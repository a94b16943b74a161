/*
 * What all bake-offs share: options, contenders in interleaved child processes, medians, and the
 * JSON that bench/run reads.
 *
 * Every measurement runs in a child process of its own, so that no contender inherits another's
 * heap, caches warmed in its favour, or threads.
 */
#ifndef BENCH_BAKEOFF_COMMON_H
#define BENCH_BAKEOFF_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BAKEOFF_MAX_METRICS    8
#define BAKEOFF_MAX_CONTENDERS 16
#define BAKEOFF_MAX_ROUNDS     15

struct bakeoff_options {
    bool quick;
    unsigned rounds;
    uint64_t keys;
    double seconds; /* of a measurement that runs for a time */
};

struct bakeoff_metric {
    const char *key;
    const char *label;
    const char *unit;
    int digits;
    bool more; /* is better */
};

/*
 * Measures once, in the child: fills values[0..metric count) with what it found; what it leaves as
 * it is (NAN) is shown as unknown. `context` is the contender's.
 */
typedef void bakeoff_measure(const struct bakeoff_options *options, void *context, double *values);

struct bakeoff_contender {
    const char *group;
    const char *name;
    bakeoff_measure *measure;
    void *context;
};

/* Parses --quick, --rounds N, --keys N, --seconds S; ends the program if they make no sense. */
void bakeoff_parse(int argc, char **argv, struct bakeoff_options *options);

/*
 * Runs all contenders `rounds` times, interleaved, and prints the medians. Contenders of one group
 * stand together in the array. Returns the exit status.
 */
int bakeoff_run(const struct bakeoff_options *options, const char *title,
                const struct bakeoff_metric *metrics, unsigned metric_count,
                const struct bakeoff_contender *contenders, unsigned contender_count);

/* CPU time of the calling thread and of the whole process, ns. */
uint64_t bakeoff_thread_cpu_ns(void);
uint64_t bakeoff_process_cpu_ns(void);

/* Resident bytes of this process. */
uint64_t bakeoff_resident_bytes(void);

/* Keeps the compiler from leaving out what computes `value`. */
static inline void bakeoff_use(uint64_t value) {
    __asm__ volatile("" : : "r"(value) : "memory");
}

#endif
