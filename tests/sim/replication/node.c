/* Roles, restarts and files of a node; see node.h. */
#include "tests/sim/replication/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "replication/rdb_read.h"
#include "replication/rdb_write.h"

#define MODEL_FIELD "model"

/* --- Bytes ------------------------------------------------------------------------------------ */

void bytes_add(struct bytes *bytes, const void *data, size_t length) {
    if (length == 0)
        return;
    if (bytes->length + length > bytes->capacity) {
        bytes->capacity = 2 * (bytes->length + length);
        bytes->data = realloc(bytes->data, bytes->capacity);
        ASSERT(bytes->data);
    }
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

void bytes_drop(struct bytes *bytes, size_t length) {
    ASSERT(length <= bytes->length);
    if (length == 0)
        return;
    bytes->length -= length;
    memmove(bytes->data, bytes->data + length, bytes->length);
}

void bytes_free(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* --- Files ------------------------------------------------------------------------------------ */

static int write_bytes(void *context, const void *data, size_t length) {
    bytes_add(context, data, length);
    return 0;
}

void node_write_file(const struct node *node, const char *id, uint64_t offset, int database,
                     struct bytes *file) {
    const struct rdb_sink sink = {write_bytes, file};
    const struct rdb_info info = {.server_version = "7.2.4",
                                  .replication_id = id,
                                  .replication_offset = (int64_t)offset,
                                  .stream_database = database};
    struct rdb_writer writer;
    char text[MODEL_TEXT_BYTES];
    text[model_write(&node->model, text)] = '\0';
    rdb_writer_init(&writer, &sink, true, true);
    rdb_write_header(&writer, 10, &info);
    rdb_write_aux(&writer, MODEL_FIELD, text);
    int error = rdb_write_end(&writer);
    ASSERT(error == 0);
    rdb_writer_free(&writer);
}

struct reading {
    struct model *model;
    char *id;
    uint64_t *offset;
    int *database;
    bool has_model;
};

static int on_aux(void *context, const char *name, size_t name_length, const char *value,
                  size_t value_length) {
    struct reading *reading = context;
    char number[24] = "";
    if (value_length < sizeof number)
        memcpy(number, value, value_length);
    if (name_length == strlen(MODEL_FIELD) && memcmp(name, MODEL_FIELD, name_length) == 0)
        reading->has_model = model_read(reading->model, value, value_length);
    else if (name_length == 7 && memcmp(name, "repl-id", 7) == 0 &&
             value_length == HISTORY_ID_LENGTH)
        memcpy(reading->id, value, value_length);
    else if (name_length == 11 && memcmp(name, "repl-offset", 11) == 0)
        *reading->offset = strtoull(number, NULL, 10);
    else if (name_length == 14 && memcmp(name, "repl-stream-db", 14) == 0)
        *reading->database = atoi(number);
    return 0;
}

bool node_read_file(struct model *model, const struct bytes *file, char *id, uint64_t *offset,
                    int *database) {
    const struct rdb_handler handler = {.aux = on_aux};
    struct reading reading = {model, id, offset, database, false};
    struct rdb_reader reader;
    memset(id, 0, HISTORY_ID_LENGTH + 1);
    *offset = 0;
    *database = -1;
    rdb_reader_init_memory(&reader, file->data, file->length, 1 << 20);
    int error = rdb_read(&reader, &handler, &reading);
    rdb_reader_free(&reader);
    return error == 0 && reading.has_model;
}

/* As the server's saving state says: a replica's file has its place, and so has that of a primary
 * with a backlog. */
void node_save(struct node *node) {
    bool has_place = is_replica(node) ? node->connection || node->place.may_continue : node->on;
    int database = node->connection ? (int)node->database : (int)node->place.database;
    if (!node->alive || node->loading)
        return;
    if (!is_replica(node) && node->on) {
        primary_merge(node);
        database = node->stream_database < 0 ? 0 : node->stream_database;
    }
    uint64_t offset = atomic_load(&node->history.offset);
    if (has(node, ABLATION_SAVE_RECEIVED))
        offset += node->queued.length;
    bytes_free(&node->file);
    node->file_synced = is_replica(node) ? node->synced : node->on;
    node_write_file(node, has_place ? node->history.id : NULL, offset, database, &node->file);
    SAY(node, "node %d saves%s", node->index, has_place ? " with its place" : "");
}

/* --- Life ------------------------------------------------------------------------------------- */

int node_history(const struct node *node) {
    return truth_find(&node->world->truth, node->history.id);
}

/* A primary that was restarted goes on, under another id. */
static void resume(struct node *node, const char *id, uint64_t offset) {
    place_resumed(&node->history, id, offset);
    if (has(node, ABLATION_ID_KEPT_RESUMED))
        memcpy(node->history.id, id, HISTORY_ID_LENGTH);
    else
        truth_begin(&node->world->truth, node->history.id, node->file_synced ? id : NULL, offset,
                    node->model.chain);
    primary_turn_on(node);
    figure_add(node, FIGURE_RESUMED);
}

static void load_at_start(struct node *node) {
    char id[HISTORY_ID_LENGTH + 1];
    uint64_t offset;
    int database;
    if (!node_read_file(&node->model, &node->file, id, &offset, &database))
        FAIL(node, "node %d cannot read its file", node->index);
    if (!id[0] || database < 0)
        return;
    if (!is_replica(node)) {
        resume(node, id, offset);
        return;
    }
    place_restored(&node->place, &node->history, id, offset, (unsigned)database);
    node->synced = node->file_synced;
    replica_check(node, "it loaded its file");
}

void node_start(struct node *node, bool with_file, int primary) {
    ASSERT(!node->alive);
    node->alive = true;
    node->primary = primary;
    node->place = (struct place){0};
    node->model = (struct model){0};
    node->synced = node->loading = node->fail_load = false;
    node->paused_until_us = 0;
    node->tried_us = now_us(node);
    history_init(&node->history);
    with_file = with_file && node->file.length > 0;
    if (with_file)
        load_at_start(node);
    SAY(node, "node %d starts as %s%d %s at %llu of history %d", node->index,
        is_replica(node) ? "a replica of node " : "a primary, ", primary,
        with_file ? "with its file" : "with nothing",
        (unsigned long long)atomic_load(&node->history.offset), node_history(node));
}

void node_kill(struct node *node) {
    if (!node->alive)
        return;
    SAY(node, "node %d dies at %llu of history %d", node->index,
        (unsigned long long)atomic_load(&node->history.offset), node_history(node));
    node->alive = false;
    node->generation++;
    primary_die(node);
    replica_die(node);
}

/* argument: bit 0: with its file; the rest: its primary + 1. */
static void restart(void *context, uint64_t argument) {
    struct node *node = context;
    if (!node->alive)
        node_start(node, argument & 1, (int)(argument >> 1) - 1);
}

void node_restart_after(struct node *node, uint64_t delay_us, bool with_file, int primary) {
    figure_add(node, FIGURE_RESTARTS);
    sim_queue_after(&node->world->queue, delay_us, restart, node,
                    (uint64_t)(primary + 1) << 1 | with_file);
}

/* --- Roles ------------------------------------------------------------------------------------ */

void node_follow(struct node *node, int primary) {
    bool was_primary = !is_replica(node);
    if (!node->alive || node->loading || primary == node->index || primary == node->primary)
        return;
    SAY(node, "node %d is to follow node %d; it is at %llu of history %d", node->index, primary,
        (unsigned long long)atomic_load(&node->history.offset), node_history(node));
    replica_drop_connection(node);
    replica_cancel(node);
    node->primary = primary;
    if (was_primary)
        place_demoted(&node->place);
    primary_role_changed(node);
    if (was_primary && node->on && !has(node, ABLATION_DEMOTED_UNMERGED))
        node->synced = true;
    replica_check(node, "it gets a primary");
    replica_start_attempt(node);
}

/* With ABLATION_ID_KEPT_PROMOTED the id stays, so that two servers write under it. */
void node_promote(struct node *node) {
    char old_id[HISTORY_ID_LENGTH + 1];
    uint64_t offset = atomic_load(&node->history.offset);
    if (!node->alive || node->loading || !is_replica(node))
        return;
    replica_drop_connection(node);
    replica_cancel(node);
    node->primary = -1;
    offset = atomic_load(&node->history.offset);
    memcpy(old_id, node->history.id, sizeof old_id);
    struct history before = node->history;
    unsigned effects = place_promoted(&node->place, &node->history);
    if (has(node, ABLATION_ID_KEPT_PROMOTED)) {
        memcpy(node->history.id, before.id, sizeof before.id);
    } else if (node->synced && !truth_begin(&node->world->truth, node->history.id, old_id, offset,
                                            node->model.chain)) {
        FAIL(node, "node %d is promoted at %llu of history %d, which has not come so far",
             node->index, (unsigned long long)offset, truth_find(&node->world->truth, old_id));
    } else if (!node->synced) {
        truth_replace(&node->world->truth, node->history.id, offset, node->model.chain);
    }
    SAY(node, "node %d is promoted at %llu: history %d becomes %d", node->index,
        (unsigned long long)offset, truth_find(&node->world->truth, old_id), node_history(node));
    primary_act(node, effects);
    node->synced = false;
    primary_role_changed(node);
    node->world->target = node->index; /* clients are told */
    figure_add(node, FIGURE_PROMOTIONS);
}

void node_change_id(struct node *node) {
    char old_id[HISTORY_ID_LENGTH + 1];
    if (!node->alive || is_replica(node) || !node->on)
        return;
    memcpy(old_id, node->history.id, sizeof old_id);
    history_new_id(&node->history);
    truth_rename(&node->world->truth, node->history.id, old_id);
    SAY(node, "node %d changes the id of its history %d: %d", node->index,
        truth_find(&node->world->truth, old_id), node_history(node));
}
