/* What LATENCY GRAPH and LATENCY DOCTOR write about the samples of the latency monitor. Any thread.
 */
#ifndef SLOTWISE_SERVER_LATENCY_REPORT_H
#define SLOTWISE_SERVER_LATENCY_REPORT_H

#include "server/base/text.h"
#include "server/dispatch/latency_monitor.h"

/* now_s: the wall clock. The series has a sample. */
void latency_write_graph(struct text *text, const char *name, const struct latency_series *series,
                         int64_t now_s);
/* Over all events. */
void latency_write_advice(struct text *text, struct latency_monitor *monitor, int64_t now_s);

#endif
