/* Where the memory of the process goes: one set of figures for INFO memory, MEMORY STATS and MEMORY
 * DOCTOR. On any worker. */
#ifndef SLOTWISE_SERVER_MEMORY_REPORT_H
#define SLOTWISE_SERVER_MEMORY_REPORT_H

#include "server/base/text.h"
#include "server/clients/server.h"

/* Bytes. Figures of the allocator and the system are as of the last sample. */
struct memory_report {
    uint64_t used, peak, startup;
    uint64_t clients, tables; /* estimated from a sample of them */
    uint64_t overhead;        /* startup, clients and tables */
    uint64_t dataset;         /* used without overhead */
    uint64_t net;             /* used without startup */
    uint64_t keys;
    uint64_t client_count;
    uint64_t resident, allocated, active, allocator_resident;
};

struct statistics;
void memory_report_collect(const struct server *server, const struct statistics *sum,
                           struct memory_report *report);
/* a / b; 0 when b is 0. */
double memory_ratio(uint64_t a, uint64_t b);
/* What MEMORY DOCTOR says. Pure. */
void memory_write_advice(struct text *text, const struct memory_report *report);

#endif
