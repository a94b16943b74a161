/* What every simulator does with its scenario: run seeds, each in a process of its own; show a
 * failure with its history, shortened to the faults that matter; run some seeds twice to see that
 * a seed is a run; see that each ablation (a rule left out or broken on purpose) is found; go on
 * with fresh seeds for a while.
 *
 *     program [--seeds N] [--first N]   N seeds (the scenario's number), then all ablations, unless
 *                                       --no-ablations
 *     program --seed N                  one seed with its whole history
 *     program --seconds N               fresh seeds for so long
 *     program --ablations               the ablations alone
 *     program --ablation NAME           one ablation: seeds until it is found, with its history;
 *                                       with --seed N that one
 *     --jobs N                          processes at a time (those of the machine)
 *
 * The last line is "NAME: N passed, N failed"; exit code 0 when nothing failed. */
#ifndef SLOTWISE_TESTS_SIM_RUNNER_H
#define SLOTWISE_TESTS_SIM_RUNNER_H

#include "tests/sim/plan.h"
#include "tests/sim/trace.h"

/* Sums of the runs, shown at the end. */
#define SIM_FIGURES 16

struct sim_run {
    /* Given. */
    uint64_t seed;
    unsigned ablation; /* index + 1 of the scenario's; 0: none */
    struct sim_plan plan;
    /* Made. */
    struct sim_trace trace;
    bool failed;
    char failure[256];
    uint64_t figures[SIM_FIGURES];
};

struct sim_ablation {
    const char *name;
    unsigned seeds; /* in which it must be found */
    const char *what;
};

struct sim_scenario {
    const char *name;
    unsigned seeds; /* of a plain run */
    const struct sim_ablation *ablations;
    unsigned ablation_count;
    const char *const *figure_names; /* SIM_FIGURES, NULL behind the last */
    void (*plan)(struct sim_run *run);
    void (*run)(struct sim_run *run);
    const char *(*describe)(const struct sim_fault *fault);
};

/* The run has failed: ends its process. What was wrong first counts. */
_Noreturn __attribute__((format(printf, 2, 3))) void sim_fail(struct sim_run *run,
                                                              const char *format, ...);

int sim_main(const struct sim_scenario *scenario, int argc, char **argv);

#endif
