/* See plan.h. Shrinking: leave out large runs of faults first, then smaller ones, as long as
 * anything goes. */
#include "tests/sim/plan.h"

#include <stdlib.h>

#include "engine/assert.h"

static int by_time(const void *a, const void *b) {
    const struct sim_fault *one = a, *other = b;
    return one->at_us < other->at_us ? -1 : one->at_us > other->at_us;
}

static unsigned choose_kind(struct sim_random *random, const struct sim_fault_kind *kinds,
                            unsigned kind_count) {
    unsigned sum = 0;
    for (unsigned i = 0; i < kind_count; i++)
        sum += kinds[i].weight;
    unsigned at = (unsigned)sim_random_below(random, sum), kind = 0;
    while (at >= kinds[kind].weight)
        at -= kinds[kind++].weight;
    return kind;
}

void sim_plan_make(struct sim_plan *plan, struct sim_random *random,
                   const struct sim_fault_kind *kinds, unsigned kind_count, unsigned count,
                   uint64_t from_us, uint64_t to_us) {
    ASSERT(count <= SIM_PLAN_MAX);
    plan->count = count;
    for (unsigned i = 0; i < count; i++) {
        struct sim_fault *fault = &plan->faults[i];
        *fault = (struct sim_fault){.at_us = sim_random_between(random, from_us, to_us),
                                    .kind = choose_kind(random, kinds, kind_count)};
        for (unsigned j = 0; j < 3; j++)
            fault->values[j] = sim_random_next(random);
    }
    qsort(plan->faults, count, sizeof *plan->faults, by_time);
}

unsigned sim_plan_kept(const struct sim_plan *plan) {
    unsigned kept = 0;
    for (unsigned i = 0; i < plan->count; i++)
        kept += !plan->faults[i].left_out;
    return kept;
}

/* Leaves out up to `length` kept faults from the first-th kept one on; how many it were. */
static unsigned leave_out(struct sim_plan *plan, unsigned first, unsigned length) {
    unsigned seen = 0, left_out = 0;
    for (unsigned i = 0; i < plan->count && left_out < length; i++) {
        if (plan->faults[i].left_out)
            continue;
        if (seen++ >= first) {
            plan->faults[i].left_out = true;
            left_out++;
        }
    }
    return left_out;
}

void sim_plan_shrink(struct sim_plan *plan,
                     bool (*fails)(void *context, const struct sim_plan *plan), void *context,
                     unsigned attempts) {
    unsigned length = sim_plan_kept(plan);
    while (length > 0 && attempts > 0) {
        bool any = false;
        for (unsigned first = 0; first < sim_plan_kept(plan) && attempts > 0; attempts--) {
            struct sim_plan fewer = *plan;
            if (leave_out(&fewer, first, length) > 0 && fails(context, &fewer)) {
                *plan = fewer;
                any = true;
            } else {
                first += length;
            }
        }
        if (!any || length > 1)
            length /= 2;
    }
}
