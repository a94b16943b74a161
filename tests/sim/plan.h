/* The faults of a run: made from the seed before it begins, so that a run that fails can be tried
 * again without some of them, until only those are left that matter. */
#ifndef SLOTWISE_TESTS_SIM_PLAN_H
#define SLOTWISE_TESTS_SIM_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/random.h"

#define SIM_PLAN_MAX 256

struct sim_fault {
    uint64_t at_us;
    unsigned kind;      /* of the scenario's */
    uint64_t values[3]; /* what the kind makes of them */
    bool left_out;
};

struct sim_plan {
    unsigned count;
    struct sim_fault faults[SIM_PLAN_MAX]; /* by time */
};

/* A kind of fault and how often it happens beside the others. */
struct sim_fault_kind {
    const char *name;
    unsigned weight;
};

/* count faults between the two times. */
void sim_plan_make(struct sim_plan *plan, struct sim_random *random,
                   const struct sim_fault_kind *kinds, unsigned kind_count, unsigned count,
                   uint64_t from_us, uint64_t to_us);
unsigned sim_plan_kept(const struct sim_plan *plan);

/* Leaves out as many faults as possible such that fails() still says true; the plan fails as it is.
 * At most so many attempts. */
void sim_plan_shrink(struct sim_plan *plan,
                     bool (*fails)(void *context, const struct sim_plan *plan), void *context,
                     unsigned attempts);

#endif
