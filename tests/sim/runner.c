/* See runner.h. Each run is a child process whose struct sim_run lies in memory shared with the
 * parent: a failed assertion or a crash is a failure like any other, and what a run leaves behind
 * is gone with it. */
#include "tests/sim/runner.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"

#define HANG_SECONDS    120 /* of real time: no measure of speed */
#define JOBS_MAX        64
#define TWICE_EACH      16 /* so many seeds, one runs twice */
#define SHRINK_ATTEMPTS 150
#define SHOWN_LINES     80

static const struct sim_scenario *scenario;
static struct sim_run *current; /* of this child */

/* --- A run ------------------------------------------------------------------------------------ */

void sim_fail(struct sim_run *run, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(run->failure, sizeof run->failure, format, arguments);
    va_end(arguments);
    run->failed = true;
    fflush(stdout);
    _exit(1);
}

static void on_assert(const char *expression, const char *file, int line) {
    sim_fail(current, "assertion failed: %s (%s:%d)", expression, file, line);
}

static struct sim_run *make_run(void) {
    struct sim_run *run =
        mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(run != MAP_FAILED);
    return run;
}

static void prepare(struct sim_run *run, uint64_t seed, unsigned ablation) {
    *run = (struct sim_run){.seed = seed, .ablation = ablation};
    scenario->plan(run);
}

static pid_t start(struct sim_run *run) {
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid > 0)
        return pid;
    current = run;
    assert_failed_hook = on_assert;
    alarm(HANG_SECONDS);
    scenario->run(run);
    fflush(stdout);
    exit(0);
}

static void judge(struct sim_run *run, int status) {
    if (run->failed || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        return;
    run->failed = true;
    if (WIFSIGNALED(status))
        snprintf(run->failure, sizeof run->failure, "it ended by signal %d", WTERMSIG(status));
    else
        snprintf(run->failure, sizeof run->failure, "it ended with code %d", WEXITSTATUS(status));
}

static void run_one(struct sim_run *run) {
    int status = 0;
    pid_t pid = start(run);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    judge(run, status);
}

/* --- Showing a failure ------------------------------------------------------------------------ */

static bool fails_alike(void *context, const struct sim_plan *plan) {
    struct sim_run *run = context;
    *run = (struct sim_run){.seed = run->seed, .ablation = run->ablation, .plan = *plan};
    run_one(run);
    return run->failed;
}

static const char *ablation_name(unsigned ablation) {
    return ablation == 0 ? "" : scenario->ablations[ablation - 1].name;
}

static void show(struct sim_run *run) {
    struct sim_plan plan = run->plan;
    unsigned planned = plan.count;
    printf("  seed %llu: %s\n", (unsigned long long)run->seed, run->failure);
    printf("    again: tests/sim/soak %s %s%s%s--seed %llu\n", scenario->name,
           run->ablation ? "--ablation " : "", ablation_name(run->ablation),
           run->ablation ? " " : "", (unsigned long long)run->seed);
    sim_plan_shrink(&plan, fails_alike, run, SHRINK_ATTEMPTS);
    fails_alike(run, &plan);
    printf("    with %u of its %u faults: %s\n", sim_plan_kept(&plan), planned, run->failure);
    for (unsigned i = 0; i < plan.count; i++)
        if (!plan.faults[i].left_out)
            printf("      at %.3f s: %s\n", (double)plan.faults[i].at_us / 1e6,
                   scenario->describe(&plan.faults[i]));
    sim_trace_print(&run->trace, SHOWN_LINES);
}

/* --- Many runs -------------------------------------------------------------------------------- */

struct batch {
    unsigned jobs;
    uint64_t first, next, last; /* seeds */
    double until_s;             /* real time; 0: no limit */
    unsigned ablation;
    bool twice; /* some seeds, to compare */
    bool stop_at_first;
    uint64_t passed, failed, different;
    uint64_t first_failed; /* 0: none */
    uint64_t figures[SIM_FIGURES];
    struct {
        pid_t pid;
        struct sim_run *run;
    } slots[JOBS_MAX];
};

static double now_s(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void finish(struct batch *batch, struct sim_run *run) {
    if (run->failed) {
        batch->failed++;
        if (batch->first_failed == 0 || run->seed < batch->first_failed)
            batch->first_failed = run->seed;
        if (!batch->stop_at_first)
            show(run);
        return;
    }
    batch->passed++;
    for (unsigned i = 0; i < SIM_FIGURES; i++)
        batch->figures[i] += run->figures[i];
    if (!batch->twice || run->seed % TWICE_EACH != 0)
        return;
    uint64_t digest = run->trace.digest;
    prepare(run, run->seed, batch->ablation);
    run_one(run);
    if (run->trace.digest != digest) {
        printf("  seed %llu: two runs are not the same\n", (unsigned long long)run->seed);
        batch->failed++;
        batch->passed--;
    }
}

static bool wants_more(const struct batch *batch) {
    return batch->next <= batch->last && (batch->until_s == 0 || now_s() < batch->until_s) &&
           !(batch->stop_at_first && batch->failed > 0);
}

static void say_progress(const struct batch *batch) {
    unsigned long long done = batch->passed + batch->failed;
    if (batch->until_s > 0)
        printf("  %llu seeds, %.0f s left\n", done, batch->until_s - now_s());
    else
        printf("  [%llu/%llu] seeds\n", done, (unsigned long long)(batch->last - batch->first + 1));
    fflush(stdout);
}

static void run_batch(struct batch *batch) {
    unsigned running = 0;
    double said_s = now_s();
    for (unsigned i = 0; i < batch->jobs; i++)
        batch->slots[i].run = make_run();
    while (running > 0 || wants_more(batch)) {
        for (unsigned i = 0; i < batch->jobs && wants_more(batch); i++) {
            if (batch->slots[i].pid > 0)
                continue;
            prepare(batch->slots[i].run, batch->next++, batch->ablation);
            batch->slots[i].pid = start(batch->slots[i].run);
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        for (unsigned i = 0; i < batch->jobs; i++) {
            if (pid <= 0 || batch->slots[i].pid != pid)
                continue;
            batch->slots[i].pid = 0;
            running--;
            judge(batch->slots[i].run, status);
            finish(batch, batch->slots[i].run);
        }
        if (!batch->stop_at_first && now_s() - said_s >= 5) {
            said_s = now_s();
            say_progress(batch);
        }
    }
    for (unsigned i = 0; i < batch->jobs; i++)
        munmap(batch->slots[i].run, sizeof *batch->slots[i].run);
}

static void show_figures(const struct batch *batch) {
    printf("  over %llu seeds:", (unsigned long long)batch->passed);
    for (unsigned i = 0; i < SIM_FIGURES && scenario->figure_names[i]; i++)
        printf("%s %llu %s", i ? "," : "", (unsigned long long)batch->figures[i],
               scenario->figure_names[i]);
    printf("\n");
}

/* --- What is asked for ------------------------------------------------------------------------ */

struct options {
    uint64_t seed, first, seeds;
    double seconds;
    unsigned jobs, ablation;
    bool has_seed, ablations, no_ablations;
};

static int run_seed(const struct options *options) {
    struct sim_run *run = make_run();
    prepare(run, options->seed, options->ablation);
    run->trace.echo = true;
    run_one(run);
    if (run->failed) {
        run->trace.echo = false;
        show(run);
    }
    printf("%s: %d passed, %d failed\n", scenario->name, !run->failed, run->failed);
    return run->failed;
}

static uint64_t first_failed(const struct options *options, unsigned ablation, uint64_t first,
                             uint64_t last) {
    struct batch batch = {.jobs = options->jobs,
                          .next = first,
                          .last = last,
                          .ablation = ablation,
                          .stop_at_first = true};
    run_batch(&batch);
    return batch.first_failed;
}

/* The first seed that finds it, 0: none does. One that fails without it too has found something
 * else. */
static uint64_t find_ablation(const struct options *options, unsigned ablation) {
    uint64_t last = scenario->ablations[ablation - 1].seeds, seed = 0;
    do
        seed = first_failed(options, ablation, seed + 1, last);
    while (seed > 0 && first_failed(options, 0, seed, seed) > 0);
    return seed;
}

static void run_ablations(const struct options *options, uint64_t *passed, uint64_t *failed) {
    for (unsigned i = 1; i <= scenario->ablation_count; i++) {
        const struct sim_ablation *ablation = &scenario->ablations[i - 1];
        uint64_t seed = find_ablation(options, i);
        if (seed > 0)
            printf("  found by seed %-4llu  %-28s %s\n", (unsigned long long)seed, ablation->name,
                   ablation->what);
        else
            printf("  NOT FOUND in %-5u  %-28s %s\n", ablation->seeds, ablation->name,
                   ablation->what);
        fflush(stdout);
        *passed += seed > 0;
        *failed += seed == 0;
    }
}

static int run_ablation(const struct options *options) {
    uint64_t seed = find_ablation(options, options->ablation);
    if (seed > 0) {
        struct sim_run *run = make_run();
        prepare(run, seed, options->ablation);
        run_one(run);
        show(run);
    }
    printf("%s: %d passed, %d failed\n", scenario->name, seed > 0, seed == 0);
    return seed == 0;
}

static int run_seeds(const struct options *options) {
    uint64_t failed = 0, passed = 0;
    if (!options->ablations) {
        struct batch batch = {.jobs = options->jobs,
                              .first = options->first,
                              .next = options->first,
                              .last = options->first + options->seeds - 1,
                              .twice = true};
        if (options->seconds > 0) {
            batch.until_s = now_s() + options->seconds;
            batch.last = UINT64_MAX;
        }
        run_batch(&batch);
        show_figures(&batch);
        passed = batch.passed;
        failed = batch.failed;
    }
    if (options->seconds == 0 && !options->no_ablations)
        run_ablations(options, &passed, &failed);
    printf("%s: %llu passed, %llu failed\n", scenario->name, (unsigned long long)passed,
           (unsigned long long)failed);
    return failed > 0;
}

static unsigned ablation_of(const char *name) {
    for (unsigned i = 0; i < scenario->ablation_count; i++)
        if (strcmp(scenario->ablations[i].name, name) == 0)
            return i + 1;
    fprintf(stderr, "there is no ablation %s\n", name);
    exit(2);
}

static void read_options(struct options *options, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--ablations") == 0) {
            options->ablations = true;
            continue;
        }
        if (strcmp(argv[i], "--no-ablations") == 0) {
            options->no_ablations = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            options->seed = strtoull(value, NULL, 10);
            options->has_seed = true;
        } else if (strcmp(argv[i], "--first") == 0) {
            options->first = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0) {
            options->seeds = strtoull(value, NULL, 10);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            options->seconds = strtod(value, NULL);
            options->first = (uint64_t)time(NULL) * 1000;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            options->jobs = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(argv[i], "--ablation") == 0) {
            options->ablation = ablation_of(value);
        } else {
            fprintf(stderr, "unknown option %s: see tests/sim/README.md\n", argv[i]);
            exit(2);
        }
        i++;
    }
    if (options->jobs < 1 || options->jobs > JOBS_MAX)
        options->jobs = 1;
}

int sim_main(const struct sim_scenario *of, int argc, char **argv) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    scenario = of;
    struct options options = {.first = 1,
                              .seeds = scenario->seeds,
                              .jobs = processors > JOBS_MAX ? JOBS_MAX : (unsigned)processors};
    read_options(&options, argc, argv);
    if (options.has_seed)
        return run_seed(&options);
    if (options.ablation)
        return run_ablation(&options);
    return run_seeds(&options);
}
