/* LATENCY: the single events of the latency monitor, and the histograms of how long commands took.
 *
 * Any worker. */
#include "engine/clock.h"
#include "engine/memory.h"
#include "server/clients/server.h"
#include "server/commands/cmd_data.h"
#include "server/commands/cmd_session.h"
#include "server/commands/latency_report.h"
#include "server/commands/statistics.h"
#include "server/config/config.h"
#include "server/dispatch/latency.h"
#include "server/dispatch/latency_monitor.h"

command_handler cmd_latency_doctor, cmd_latency_graph, cmd_latency_help, cmd_latency_histogram,
    cmd_latency_history, cmd_latency_latest, cmd_latency_reset;

enum call_result cmd_latency_latest(struct call *call) {
    struct latency_monitor *monitor = &call->server->latency_monitor;
    struct reply_deferred list = reply_deferred_begin(call->reply);
    size_t n = 0;
    for (unsigned i = 0; i < LATENCY_EVENTS; i++) {
        enum latency_event event = (enum latency_event)i;
        struct latency_series series;
        if (!latency_monitor_read(monitor, event, &series))
            continue;
        struct latency_sample last = latency_series_last(&series);
        reply_array(call->reply, 4);
        reply_bulk_text(call->reply, latency_event_name(event));
        reply_integer(call->reply, last.time_s);
        reply_integer(call->reply, last.ms);
        reply_integer(call->reply, series.worst_ms);
        n++;
    }
    reply_deferred_array(call->reply, list, n);
    return CALL_DONE;
}

/* The samples of the event that the command names; false: there are none. */
static bool read_named(struct call *call, enum latency_event *event,
                       struct latency_series *series) {
    return latency_event_by_name(call->argv[2].data, call->argv[2].length, event) &&
           latency_monitor_read(&call->server->latency_monitor, *event, series);
}

enum call_result cmd_latency_history(struct call *call) {
    struct latency_series series;
    struct latency_sample samples[LATENCY_SAMPLES];
    enum latency_event event;
    size_t n = read_named(call, &event, &series) ? latency_series_in_order(&series, samples) : 0;
    reply_array(call->reply, n);
    for (size_t i = 0; i < n; i++) {
        reply_array(call->reply, 2);
        reply_integer(call->reply, samples[i].time_s);
        reply_integer(call->reply, samples[i].ms);
    }
    return CALL_DONE;
}

enum call_result cmd_latency_reset(struct call *call) {
    struct latency_monitor *monitor = &call->server->latency_monitor;
    int64_t n = 0;
    for (unsigned i = 0; call->argc == 2 && i < LATENCY_EVENTS; i++)
        n += latency_monitor_reset(monitor, (enum latency_event)i);
    for (int i = 2; i < call->argc; i++) {
        enum latency_event event;
        if (latency_event_by_name(call->argv[i].data, call->argv[i].length, &event))
            n += latency_monitor_reset(monitor, event);
    }
    reply_integer(call->reply, n);
    return CALL_DONE;
}

static void reply_text(struct call *call, struct text *text) {
    reply_verbatim(call->reply, "txt", text_string(text), text->length);
    text_free(text);
}

enum call_result cmd_latency_graph(struct call *call) {
    struct latency_series series;
    struct text text = {0};
    enum latency_event event;
    if (!read_named(call, &event, &series)) {
        reply_error_format(call->reply, "ERR No samples available for event '%.*s'",
                           (int)call->argv[2].length, call->argv[2].data);
        return CALL_DONE;
    }
    latency_write_graph(&text, latency_event_name(event), &series, clock_now_us() / 1000000);
    reply_text(call, &text);
    return CALL_DONE;
}

enum call_result cmd_latency_doctor(struct call *call) {
    struct text text = {0};
    latency_write_advice(&text, &call->server->latency_monitor, clock_now_us() / 1000000);
    reply_text(call, &text);
    return CALL_DONE;
}

/* --- LATENCY HISTOGRAM ------------------------------------------------------------------------ */

#define FIRST_BOUND_NS 1024 /* about one microsecond; then each twice the one before */
#define BOUNDS         31

/* Redis's histogram has 128 buckets to a power of two and names a bound by the end of its bucket.
 */
static uint64_t bound_top_ns(uint64_t bound_ns) {
    return bound_ns + bound_ns / 128 - 1;
}

static void reply_histogram(struct reply *reply, const struct command *command,
                            const struct latency_histogram *histogram) {
    uint64_t total = latency_count(histogram), before = 0;
    reply_bulk_text(reply, command->name);
    reply_map(reply, 2);
    reply_bulk_text(reply, "calls");
    reply_integer(reply, (int64_t)total);
    reply_bulk_text(reply, "histogram_usec");
    struct reply_deferred map = reply_deferred_begin(reply);
    size_t n = 0;
    uint64_t bound_ns = FIRST_BOUND_NS;
    for (unsigned i = 0; i < BOUNDS && before < total; i++, bound_ns *= 2) {
        uint64_t top_ns = bound_top_ns(bound_ns);
        uint64_t count = i == BOUNDS - 1 ? total : latency_count_up_to(histogram, top_ns);
        if (count == before)
            continue;
        reply_integer(reply, (int64_t)(top_ns / 1000));
        reply_integer(reply, (int64_t)count);
        before = count;
        n++;
    }
    reply_deferred_map(reply, map, n);
}

/* The command and its subcommands; returns how many had something to show. */
static size_t reply_histograms(struct call *call, const struct command *command,
                               struct latency_histogram *scratch) {
    size_t n = 0;
    if (statistics_sum_latency(call->server, command, scratch)) {
        reply_histogram(call->reply, command, scratch);
        n++;
    }
    for (const struct command *const *sub = command->subcommands; sub && *sub; sub++)
        n += reply_histograms(call, *sub, scratch);
    return n;
}

enum call_result cmd_latency_histogram(struct call *call) {
    struct latency_histogram *scratch = memory_alloc(sizeof *scratch);
    struct reply_deferred map = reply_deferred_begin(call->reply);
    size_t n = 0;
    for (unsigned id = 0; call->argc == 2 && id < command_count(); id++)
        if (!command_by_id(id)->parent)
            n += reply_histograms(call, command_by_id(id), scratch);
    for (int i = 2; i < call->argc; i++) {
        const struct command *command = command_by_name(call->argv[i].data, call->argv[i].length);
        if (command)
            n += reply_histograms(call, command, scratch);
    }
    reply_deferred_map(call->reply, map, n);
    memory_free(scratch);
    return CALL_DONE;
}

enum call_result cmd_latency_help(struct call *call) {
    static const char *const lines[] = {
        "DOCTOR",
        "    Return a human readable latency analysis report.",
        "GRAPH <event>",
        "    Return an ASCII latency graph for the <event> class.",
        "HISTORY <event>",
        "    Return time-latency samples for the <event> class.",
        "LATEST",
        "    Return the latest latency samples for all events.",
        "RESET [<event> ...]",
        "    Reset latency data of one or more <event> classes.",
        "    (default: reset all data for all event classes)",
        "HISTOGRAM [COMMAND ...]",
        "    Return a cumulative distribution of latencies in the format of a histogram for the "
        "specified command names.",
        "    If no commands are specified then all histograms are replied.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
