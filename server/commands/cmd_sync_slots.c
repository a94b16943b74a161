/* CLUSTER SYNCSLOTS and SYNCSLOTS-DATA: what the source of a migration of slots says to its target,
 * and the target to its replicas (server/links/slot_import.h). Between Slotwise servers only.
 *
 *     SYNCSLOTS ESTABLISH SLOTWISE-1 name source-id "first-last ..."   +OK
 *     SYNCSLOTS-DATA name (key expiry payload)...                      +OK
 *         expiry: Unix time in ms, 0: none; an empty payload: the key is gone
 *     SYNCSLOTS PREPARE name source-epoch                              +PREPARED epoch
 *         -TRYAGAIN: the target hands slots over itself at the moment
 *     SYNCSLOTS COMMIT name commands                                   +COMMITTED epoch
 *         -TRYAGAIN: whoever is the primary now knows
 *     SYNCSLOTS RESOLVE name "first-last ..."             +COMMITTED, +PENDING, +UNKNOWN
 *     SYNCSLOTS ADOPT name commands epoch                 only in the stream
 *     SYNCSLOTS DROP name                                 only in the stream
 *
 * Run by: the worker of the source's connection; a replica's worker 0. */
#include <stdio.h>
#include <string.h>

#include "cluster/slot_request.h"
#include "cluster/slot_takeover.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_cluster.h"
#include "server/commands/cmd_data.h"
#include "server/dispatch/redirect.h"
#include "server/dispatch/session.h"
#include "server/links/slot_import.h"

#define VERSION "slotwise-1"

command_handler cmd_cluster_syncslots, cmd_cluster_syncslots_data;

/* --- Arguments and the stream ----------------------------------------------------------------- */

static struct slot_imports *imports_of(const struct call *call) {
    return &call->server->slot_imports;
}

static uint64_t session_of(const struct call *call) {
    return call->session->applies ? 0 : call->session->id;
}

/* false: error replied. */
static bool name_argument(struct call *call, int index, char name[SLOT_RECORD_NAME + 1]) {
    const struct argument *argument = &call->argv[index];
    if (argument->length != SLOT_RECORD_NAME) {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    memcpy(name, argument->data, SLOT_RECORD_NAME);
    name[SLOT_RECORD_NAME] = '\0';
    return true;
}

/* The import that the command is about, by its name in this argument. NULL: replied. A replica that
 * has come by a full synchronisation meanwhile does not know it; it hears so at ADOPT. */
static struct slot_import *import_of(struct call *call, int index) {
    char name[SLOT_RECORD_NAME + 1];
    if (!name_argument(call, index, name))
        return NULL;
    struct slot_import *import = slot_import_find(imports_of(call), name, session_of(call));
    if (!import && call->session->applies)
        reply_ok(call->reply);
    else if (!import)
        reply_error(call->reply, "ERR No such slot migration");
    return import;
}

/* As it is, into the stream of our replicas. */
static uint64_t pass_on(struct call *call) {
    _Static_assert(sizeof(struct argument) == sizeof(struct effect_argument),
                   "arguments are logged as they are");
    atomic_store(&call->server->primary.slots_told, true);
    if (call->session->applies)
        return 0;
    change_append(call->change, 0, (const struct effect_argument *)(const void *)call->argv,
                  (size_t)call->argc);
    uint64_t number = change_commit(call->change);
    return number;
}

/* --- Steps ------------------------------------------------------------------------------------ */

static enum call_result establish(struct call *call) {
    char name[SLOT_RECORD_NAME + 1];
    struct node_id source;
    uint8_t slots[WIRE_SLOT_BYTES];
    if (call->argc != 7 || !argument_is(&call->argv[3], VERSION)) {
        reply_error(call->reply, "ERR This node imports slots from Slotwise nodes of the same "
                                 "protocol only");
        return CALL_DONE;
    }
    if (!name_argument(call, 4, name))
        return CALL_DONE;
    if (call->argv[5].length != WIRE_ID_LENGTH ||
        !slot_set_parse(call->argv[6].data, call->argv[6].length, slots)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    memcpy(source.hex, call->argv[5].data, WIRE_ID_LENGTH);
    const char *error = slot_import_begin(imports_of(call), name, &source, slots, call->session->id,
                                          call->session->applies);
    if (error) {
        reply_error_format(call->reply, "ERR %s", error);
        return CALL_DONE;
    }
    call->session->imports_slots = !call->session->applies;
    pass_on(call);
    reply_ok(call->reply);
    return CALL_DONE;
}

static enum call_result reply_work(struct call *call, const char *word) {
    const struct slot_import_work *work =
        (const struct slot_import_work *)(const void *)call->session->unfinished;
    char text[64];
    if (work->error[0]) {
        reply_error_format(call->reply, "%s %s", work->try_again ? "TRYAGAIN" : "ERR", work->error);
        return CALL_DONE;
    }
    snprintf(text, sizeof text, "%s %llu", word, (unsigned long long)work->epoch);
    reply_status(call->reply, text);
    return CALL_DONE;
}

static enum call_result prepare(struct call *call) {
    if (call->session->unfinished)
        return reply_work(call, "PREPARED");
    int64_t source_epoch;
    struct slot_import *import = import_of(call, 3);
    if (!import || call->session->applies || !argument_integer(call, 4, &source_epoch))
        return CALL_DONE;
    import->source_epoch = (uint64_t)source_epoch;
    call->session->unfinished = slot_import_work_begin(import, false);
    return CALL_UNFINISHED;
}

/* ADOPT, in the same section in which the tables move. */
static void tell_adopted(struct call *call, struct slot_import *import) {
    char commands[NUMBER_INT64_SIZE], epoch[NUMBER_INT64_SIZE];
    const struct effect_argument effect[] = {
        {"CLUSTER", 7},
        {"SYNCSLOTS", 9},
        {"ADOPT", 5},
        {import->name, SLOT_RECORD_NAME},
        {commands, number_write_int64(commands, (int64_t)import->commands)},
        {epoch, number_write_int64(epoch, (int64_t)import->epoch)},
    };
    change_append(call->change, 0, effect, sizeof effect / sizeof effect[0]);
    import->number = change_commit(call->change);
}

static enum call_result commit(struct call *call) {
    int64_t commands;
    if (call->session->unfinished)
        return reply_work(call, "COMMITTED");
    struct slot_import *import = import_of(call, 3);
    if (!import || call->session->applies || !argument_integer(call, 4, &commands))
        return CALL_DONE;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    const char *refusal = slot_import_refusal(import, (uint64_t)commands);
    if (refusal) {
        reply_error_format(call->reply, "ERR %s", refusal);
        atomic_store(&import->source_gone, true); /* thrown away in a moment */
        return CALL_DONE;
    }
    change_count(call->change, slot_import_adopt(import));
    tell_adopted(call, import);
    call->session->unfinished = slot_import_work_begin(import, true);
    return CALL_UNFINISHED;
}

/* Whoever was started again since has no records, but knows which slots he had claimed. */
static bool are_mine(const uint8_t *slots) {
    const struct slot_map *map = redirect_map();
    bool all = true;
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        all = all && (!wire_slot_is(slots, slot) || map->owner[slot] == SLOT_MAP_MINE);
    return all;
}

static enum call_result resolve(struct call *call) {
    static const char *const words[] = {[SLOT_IMPORT_UNKNOWN] = "UNKNOWN",
                                        [SLOT_IMPORT_PENDING] = "PENDING",
                                        [SLOT_IMPORT_COMMITTED] = "COMMITTED"};
    char name[SLOT_RECORD_NAME + 1];
    uint8_t slots[WIRE_SLOT_BYTES];
    if (!name_argument(call, 3, name))
        return CALL_DONE;
    if (!slot_set_parse(call->argv[4].data, call->argv[4].length, slots)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (redirect_map()->is_replica) {
        reply_error(call->reply, "ERR Slot migration can only be used on primary nodes.");
        return CALL_DONE;
    }
    enum slot_import_outcome outcome = slot_import_resolve(imports_of(call), name);
    if (outcome == SLOT_IMPORT_UNKNOWN && are_mine(slots))
        outcome = SLOT_IMPORT_COMMITTED;
    reply_status(call->reply, words[outcome]);
    return CALL_DONE;
}

/* --- A replica -------------------------------------------------------------------------------- */

/* The primary has keys that we have not got: everything has to be asked for anew. */
static enum call_result lose_history(struct call *call) {
    log_write(LOG_LEVEL_WARNING, "The primary has taken slots whose keys have not all come here: "
                                 "a full synchronization is needed.");
    history_new_id(&call->server->replication.history);
    return CALL_CLOSE;
}

static enum call_result adopt(struct call *call) {
    int64_t commands, epoch;
    struct cluster_bus *bus = call->server->cluster;
    if (!call->exclusive)
        return CALL_NEED_EXCLUSIVE;
    if (!argument_integer(call, 4, &commands) || !argument_integer(call, 5, &epoch))
        return CALL_DONE;
    struct slot_import *import = import_of(call, 3);
    if (!import || import->commands != (uint64_t)commands)
        return lose_history(call);
    for (uint32_t slot = 0; slot < SLOT_COUNT; slot++)
        if (wire_slot_is(import->slots, slot) && keyspace_slot_count(call->keyspace, slot) > 0)
            return lose_history(call);
    change_count(call->change, slot_import_adopt(import));
    cluster_note_taken(cluster_bus_enter(bus), import->slots, (uint64_t)epoch);
    cluster_bus_leave(bus, true);
    slot_import_finish(import, true, "");
    reply_ok(call->reply);
    return CALL_DONE;
}

static enum call_result drop(struct call *call) {
    struct slot_import *import = import_of(call, 3);
    if (!import)
        return CALL_DONE;
    slot_import_drop(import, "The primary has given it up");
    reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_cluster_syncslots(struct call *call) {
    static const struct {
        const char *name;
        int argc;       /* 0: any */
        bool in_stream; /* only there */
        enum call_result (*run)(struct call *call);
    } steps[] = {{"establish", 0, false, establish}, {"prepare", 5, false, prepare},
                 {"commit", 5, false, commit},       {"resolve", 5, false, resolve},
                 {"adopt", 6, true, adopt},          {"drop", 4, true, drop}};
    if (!cluster_of_call(call))
        return CALL_DONE;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (argument_is(&call->argv[2], steps[i].name) &&
            (steps[i].argc == 0 || steps[i].argc == call->argc) &&
            (!steps[i].in_stream || call->session->applies))
            return steps[i].run(call);
    reply_error(call->reply, ERROR_SYNTAX);
    return CALL_DONE;
}

/* --- Data ------------------------------------------------------------------------------------- */

enum call_result cmd_cluster_syncslots_data(struct call *call) {
    if (!cluster_of_call(call))
        return CALL_DONE;
    struct slot_import *import = import_of(call, 2);
    if (!import)
        return CALL_DONE;
    if (call->argc % 3 != 0) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    keyspace_counts_hold(import->staging);
    const char *error = NULL;
    for (int i = 3; i < call->argc && !error; i += 3) {
        int64_t expiry_ms;
        if (!number_parse_int64(call->argv[i + 1].data, call->argv[i + 1].length, &expiry_ms))
            error = ERROR_NOT_INTEGER;
        else
            error =
                slot_import_put(import, &call->argv[i],
                                expiry_ms == 0 ? OBJECT_NO_EXPIRY : expiry_ms, &call->argv[i + 2]);
    }
    keyspace_counts_publish(import->staging);
    if (error) {
        reply_error(call->reply, error);
        return CALL_DONE;
    }
    import->commands++;
    import->number = pass_on(call);
    slot_record_count(&call->server->slot_records, import->record, import->keys, import->bytes);
    reply_ok(call->reply);
    return CALL_DONE;
}
