/*
 * What all bake-offs share. See common.h.
 */
#include "bench/bakeoff/common.h"

#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/common/clock.h"
#include "bench/common/net.h"

#define CHILD_LIMIT_S 120 /* no measurement takes longer; a hang must not stop the run */

void bakeoff_parse(int argc, char **argv, struct bakeoff_options *options) {
    static const struct option known[] = {
        {"quick", no_argument, NULL, 'q'},
        {"rounds", required_argument, NULL, 'r'},
        {"keys", required_argument, NULL, 'k'},
        {"seconds", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    double rounds = 0;
    double keys = 0;
    int option = 0;
    *options = (struct bakeoff_options){0};
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'q':
            options->quick = true;
            break;
        case 'r':
            rounds = atof(optarg);
            break;
        case 'k':
            keys = atof(optarg);
            break;
        case 's':
            options->seconds = atof(optarg);
            break;
        default:
            die("options: --quick --rounds N --keys N --seconds S");
        }
    }
    if (rounds < 0 || rounds > BAKEOFF_MAX_ROUNDS || keys < 0 || keys > 1e8 ||
        options->seconds < 0 || options->seconds > 60) {
        die("rounds up to %d, keys up to 1e8, seconds up to 60", BAKEOFF_MAX_ROUNDS);
    }
    options->rounds = rounds >= 1 ? (unsigned)rounds : options->quick ? 1 : 5;
    options->keys = keys >= 1 ? (uint64_t)keys : options->quick ? 200000 : 1000000;
    if (options->seconds == 0) {
        options->seconds = options->quick ? 0.3 : 1.0;
    }
}

uint64_t bakeoff_thread_cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

uint64_t bakeoff_process_cpu_ns(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * NS_PER_SECOND + (uint64_t)used.tv_nsec;
}

uint64_t bakeoff_resident_bytes(void) {
    unsigned long total = 0;
    unsigned long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%lu %lu", &total, &resident) != 2) {
        die("/proc/self/statm cannot be read");
    }
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void measure_in_child(const struct bakeoff_options *options,
                             const struct bakeoff_contender *contender, double *values) {
    int ends[2];
    const size_t bytes = BAKEOFF_MAX_METRICS * sizeof(double);
    if (pipe(ends) < 0) {
        die("pipe");
    }
    pid_t child = fork();
    if (child < 0) {
        die("fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(CHILD_LIMIT_S);
        contender->measure(options, contender->context, values);
        _exit(write(ends[1], values, bytes) == (ssize_t)bytes ? 0 : 1);
    }
    close(ends[1]);
    ssize_t length = read(ends[0], values, bytes);
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (length != (ssize_t)bytes || status != 0) {
        die("%s: the measurement failed (status %#x)", contender->name, (unsigned)status);
    }
}

static int compare_doubles(const void *a, const void *b) {
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

/* The median of what is known. */
static double median(double *values, unsigned count) {
    unsigned known = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!isnan(values[i])) {
            values[known++] = values[i];
        }
    }
    if (known == 0) {
        return NAN;
    }
    qsort(values, known, sizeof(*values), compare_doubles);
    return known % 2 == 1 ? values[known / 2] : (values[known / 2 - 1] + values[known / 2]) / 2;
}

typedef double samples[BAKEOFF_MAX_METRICS][BAKEOFF_MAX_ROUNDS];

static void print_row(const struct bakeoff_contender *contender,
                      const struct bakeoff_metric *metrics, unsigned metric_count, samples measured,
                      unsigned rounds) {
    printf("{\"name\": \"%s\", \"values\": {", contender->name);
    bool first = true;
    for (unsigned m = 0; m < metric_count; m++) {
        double value = median(measured[m], rounds);
        if (!isnan(value)) {
            printf("%s\"%s\": %.6g", first ? "" : ", ", metrics[m].key, value);
            first = false;
        }
    }
    printf("}}");
}

int bakeoff_run(const struct bakeoff_options *options, const char *title,
                const struct bakeoff_metric *metrics, unsigned metric_count,
                const struct bakeoff_contender *contenders, unsigned contender_count) {
    static samples measured[BAKEOFF_MAX_CONTENDERS];
    for (unsigned round = 0; round < options->rounds; round++) {
        for (unsigned c = 0; c < contender_count; c++) {
            double values[BAKEOFF_MAX_METRICS];
            for (unsigned m = 0; m < BAKEOFF_MAX_METRICS; m++) {
                values[m] = NAN;
            }
            measure_in_child(options, &contenders[c], values);
            for (unsigned m = 0; m < metric_count; m++) {
                measured[c][m][round] = values[m];
            }
        }
    }
    printf("{\"title\": \"%s\", \"metrics\": [", title);
    for (unsigned m = 0; m < metric_count; m++) {
        printf("%s{\"key\": \"%s\", \"label\": \"%s\", \"unit\": \"%s\", \"less\": %s, \"digits\": "
               "%d}",
               m == 0 ? "" : ", ", metrics[m].key, metrics[m].label, metrics[m].unit,
               metrics[m].more ? "false" : "true", metrics[m].digits);
    }
    printf("],\n \"groups\": [");
    for (unsigned c = 0; c < contender_count; c++) {
        bool new_group = c == 0 || strcmp(contenders[c].group, contenders[c - 1].group) != 0;
        if (new_group) {
            printf("%s{\"name\": \"%s\", \"rows\": [\n  ", c == 0 ? "" : "]},\n  ",
                   contenders[c].group);
        } else {
            printf(",\n  ");
        }
        print_row(&contenders[c], metrics, metric_count, measured[c], options->rounds);
    }
    printf("]}]}\n");
    return 0;
}
