/* The faults of the replication simulator, and what operators do at bad times. */
#ifndef SLOTWISE_TESTS_SIM_FAULTS_H
#define SLOTWISE_TESTS_SIM_FAULTS_H

#include "tests/sim/replication/node.h"

#define FAULTS_FROM_US 500000
#define FAULTS_TO_US   20000000

void faults_plan(struct sim_run *run);
const char *faults_describe(const struct sim_fault *fault);
/* All that are not left out become events. */
void faults_schedule(struct world *world);

#endif
