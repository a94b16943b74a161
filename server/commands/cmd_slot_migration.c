/* CLUSTER MIGRATESLOTS, GETSLOTMIGRATIONS, CANCELSLOTMIGRATIONS: arguments, errors and fields of
 * replies are Valkey's; behind its fields are our own. The work is server/links/slot_export.h's.
 *
 * Run by: any worker. */
#include <string.h>

#include "cluster/slot_map.h"
#include "cluster/slot_request.h"
#include "cluster/slot_takeover.h"
#include "engine/memory.h"
#include "server/commands/cmd_cluster.h"
#include "server/dispatch/redirect.h"

command_handler cmd_cluster_migrateslots, cmd_cluster_getslotmigrations,
    cmd_cluster_cancelslotmigrations;

/* Why none can begin now; NULL. */
static const char *refusal(struct cluster_bus *bus) {
    bool importing;
    if (redirect_map()->is_replica)
        return "ERR Slot migration can only be used on primary nodes.";
    bool open = cluster_has_open_slots(cluster_bus_enter(bus), &importing);
    cluster_bus_leave(bus, false);
    if (!open)
        return NULL;
    return importing ? "ERR Slots are being manually imported"
                     : "ERR Slots are being manually migrated";
}

enum call_result cmd_cluster_migrateslots(struct call *call) {
    struct cluster_bus *bus = cluster_of_call(call);
    struct slot_exports *exports = &call->server->slot_exports;
    if (!bus)
        return CALL_DONE;
    const char *error = refusal(bus);
    if (error) {
        reply_error(call->reply, error);
        return CALL_DONE;
    }
    size_t count = (size_t)call->argc - 2, requested;
    struct slot_word *words = memory_alloc(count * sizeof *words);
    for (size_t i = 0; i < count; i++)
        words[i] = (struct slot_word){call->argv[i + 2].data, call->argv[i + 2].length};
    uint8_t busy[WIRE_SLOT_BYTES];
    char text[SLOT_REQUEST_ERROR_BYTES];
    struct slot_request *requests;
    slot_exports_busy(exports, busy);
    const struct slot_request_facts facts = {redirect_map(), busy};
    error = slot_request_parse(words, count, &facts, &requests, &requested, text);
    memory_free(words);
    if (!error && !slot_exports_submit(exports, requests, requested))
        error = "ERR there is no thread for slot migrations";
    if (error)
        reply_error(call->reply, error);
    else
        reply_ok(call->reply);
    memory_free(requests);
    return CALL_DONE;
}

enum call_result cmd_cluster_cancelslotmigrations(struct call *call) {
    if (!cluster_of_call(call))
        return CALL_DONE;
    const char *error = slot_exports_cancel(&call->server->slot_exports);
    if (error)
        reply_error(call->reply, error);
    else
        reply_ok(call->reply);
    return CALL_DONE;
}

static void reply_text_field(struct reply *reply, const char *name, const char *value) {
    reply_bulk_text(reply, name);
    reply_bulk_text(reply, value);
}

static void reply_number_field(struct reply *reply, const char *name, int64_t value) {
    reply_bulk_text(reply, name);
    reply_integer(reply, value);
}

static void reply_record(struct reply *reply, const struct slot_record *record) {
    reply_map(reply, 15);
    reply_text_field(reply, "name", record->name);
    reply_text_field(reply, "operation", record->imports ? "IMPORT" : "EXPORT");
    reply_text_field(reply, "slot_ranges", record->ranges);
    reply_bulk_text(reply, "target_node");
    reply_bulk(reply, record->target.hex, WIRE_ID_LENGTH);
    reply_bulk_text(reply, "source_node");
    reply_bulk(reply, record->source.hex, WIRE_ID_LENGTH);
    reply_number_field(reply, "create_time", record->created_s);
    reply_number_field(reply, "last_update_time", record->updated_s);
    reply_number_field(reply, "last_ack_time", record->acknowledged_s);
    reply_text_field(reply, "state", record->state);
    reply_text_field(reply, "message", record->message);
    reply_number_field(reply, "cow_size", 0); /* nothing is forked */
    reply_number_field(reply, "keys_total", (int64_t)record->keys_total);
    reply_number_field(reply, "keys_sent", (int64_t)record->keys_sent);
    reply_number_field(reply, "bytes_sent", (int64_t)record->bytes_sent);
    reply_number_field(reply, "pause_us", (int64_t)record->pause_us);
}

enum call_result cmd_cluster_getslotmigrations(struct call *call) {
    struct slot_records *records = &call->server->slot_records;
    size_t count = 0;
    if (!cluster_of_call(call))
        return CALL_DONE;
    pthread_mutex_lock(&records->lock);
    for (const struct slot_record *record = records->first; record; record = record->next)
        count++;
    reply_array(call->reply, count);
    for (const struct slot_record *record = records->first; record; record = record->next)
        reply_record(call->reply, record);
    pthread_mutex_unlock(&records->lock);
    return CALL_DONE;
}
