/* The history of a run: lines of text with their virtual time, of which the last ones are kept, and
 * a digest of all of them that tells whether two runs were the same. One thread; lies in memory
 * that a parent process reads. */
#ifndef SLOTWISE_TESTS_SIM_TRACE_H
#define SLOTWISE_TESTS_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#define SIM_TRACE_LINES      600
#define SIM_TRACE_LINE_BYTES 160

struct sim_trace {
    uint64_t digest;
    unsigned count; /* of all lines; the last SIM_TRACE_LINES are there */
    bool echo;      /* to standard output as they come */
    char lines[SIM_TRACE_LINES][SIM_TRACE_LINE_BYTES];
};

/* What goes into the digest alone: too much to be read. */
void sim_trace_value(struct sim_trace *trace, uint64_t value);
__attribute__((format(printf, 3, 4))) void sim_trace_line(struct sim_trace *trace, uint64_t now_us,
                                                          const char *format, ...);
void sim_trace_print(const struct sim_trace *trace, unsigned max_lines);

#endif
