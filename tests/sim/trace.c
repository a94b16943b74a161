/* See trace.h: a ring of lines. */
#include "tests/sim/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/random.h"

void sim_trace_value(struct sim_trace *trace, uint64_t value) {
    trace->digest = sim_random_mix(trace->digest * 31 + value + 1);
}

void sim_trace_line(struct sim_trace *trace, uint64_t now_us, const char *format, ...) {
    char *line = trace->lines[trace->count++ % SIM_TRACE_LINES];
    int length =
        snprintf(line, SIM_TRACE_LINE_BYTES, "%4llu.%06llu  ",
                 (unsigned long long)(now_us / 1000000), (unsigned long long)(now_us % 1000000));
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + length, SIM_TRACE_LINE_BYTES - (size_t)length, format, arguments);
    va_end(arguments);
    for (const char *c = line; *c; c++)
        sim_trace_value(trace, (unsigned char)*c);
    if (trace->echo)
        printf("    %s\n", line);
}

void sim_trace_print(const struct sim_trace *trace, unsigned max_lines) {
    unsigned shown = trace->count < SIM_TRACE_LINES ? trace->count : SIM_TRACE_LINES;
    if (shown > max_lines)
        shown = max_lines;
    if (shown < trace->count)
        printf("    ... %u lines before these\n", trace->count - shown);
    for (unsigned i = trace->count - shown; i < trace->count; i++)
        printf("    %s\n", trace->lines[i % SIM_TRACE_LINES]);
}
