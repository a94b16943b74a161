/* See memory_report.h. */
#include "server/commands/memory_report.h"

#include "engine/memory.h"
#include "server/commands/keyspace_sample.h"
#include "server/commands/statistics.h"

/* What is worth a word of MEMORY DOCTOR: Redis's limits. */
#define LITTLE_BYTES        (5 << 20)
#define NOTEWORTHY_BYTES    (10 << 20)
#define PEAK_RATIO          1.5
#define FRAGMENTATION_RATIO 1.4
#define ALLOCATOR_RATIO     1.1
#define CLIENT_BYTES        (200 << 10)

double memory_ratio(uint64_t a, uint64_t b) {
    return b ? (double)a / (double)b : 0;
}

static uint64_t difference(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

void memory_report_collect(const struct server *server, const struct statistics *sum,
                           struct memory_report *report) {
    uint64_t used = memory_counted_bytes(), peak = memory_peak_bytes();
    *report = (struct memory_report){
        .used = used,
        .peak = peak > used ? peak : used, /* it is sampled, and now is a sample */
        .startup = atomic_load(&server->startup_bytes),
        .clients = sum->connection_bytes,
        .client_count = atomic_load(&server->client_count),
        .resident = atomic_load(&server->resident_bytes),
        .allocated = atomic_load(&server->allocator_allocated),
        .active = atomic_load(&server->allocator_active),
        .allocator_resident = atomic_load(&server->allocator_resident),
    };
    for (unsigned i = 0; i < server->keyspace->databases; i++) {
        report->tables += keyspace_sample_table_bytes(server->keyspace, i);
        report->keys += keyspace_count(server->keyspace, i);
    }
    report->overhead = report->startup + report->clients + report->tables;
    report->dataset = difference(used, report->overhead);
    report->net = difference(used, report->startup);
}

static bool is_noteworthy(uint64_t whole, uint64_t part, double ratio) {
    return memory_ratio(whole, part) > ratio && difference(whole, part) > NOTEWORTHY_BYTES;
}

void memory_write_advice(struct text *text, const struct memory_report *report) {
    size_t before = text->length;
    if (report->used < LITTLE_BYTES) {
        text_append_string(text, "Too little memory is used to say anything about it.\n");
        return;
    }
    if (memory_ratio(report->peak, report->used) > PEAK_RATIO)
        text_append_string(
            text, " * Peak memory: in the past more than 150% of what is used now was used. The "
                  "resident set may still be larger than needed; MEMORY PURGE gives unused pages "
                  "back.\n\n");
    if (is_noteworthy(report->resident, report->used, FRAGMENTATION_RATIO))
        text_append_string(text,
                           " * High total fragmentation: the resident set is more than 1.4 times "
                           "what is used. What follows may say why.\n\n");
    if (is_noteworthy(report->active, report->allocated, ALLOCATOR_RATIO))
        text_append_string(text, " * High allocator fragmentation: pages are partly filled, as "
                                 "after many deletions among values of one size.\n\n");
    if (is_noteworthy(report->allocator_resident, report->active, ALLOCATOR_RATIO))
        text_append_string(text, " * High allocator RSS overhead: the allocator keeps pages that "
                                 "it does not use; MEMORY PURGE gives them back.\n\n");
    if (is_noteworthy(report->resident, report->allocator_resident, ALLOCATOR_RATIO))
        text_append_string(text, " * High process RSS overhead: memory beside the allocator's, "
                                 "such as stacks and buffers of the kernel's I/O.\n\n");
    if (report->client_count > 0 && report->clients / report->client_count > CLIENT_BYTES)
        text_append_string(text,
                           " * Big client buffers: the connections take more than 200K each on "
                           "average. CLIENT LIST shows which (tot-mem); maxmemory-clients limits "
                           "them.\n\n");
    if (text->length == before)
        text_append_string(text, "No memory problem was found.\n");
}
