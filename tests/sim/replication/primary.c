/* The primary's side of a node; see node.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/replication/node.h"

#define UNSENT_MAX_BYTES ((size_t)16 * 1024)
#define TIMEOUT_US       5000000
#define PING_US          1000000
#define PIECES           8

/* --- Clients ---------------------------------------------------------------------------------- */

static void add_command(struct bytes *unit, unsigned argc, const char *const *argv) {
    char head[32];
    bytes_add(unit, head, (size_t)sprintf(head, "*%u\r\n", argc));
    for (unsigned i = 0; i < argc; i++) {
        bytes_add(unit, head, (size_t)sprintf(head, "$%zu\r\n", strlen(argv[i])));
        bytes_add(unit, argv[i], strlen(argv[i]));
        bytes_add(unit, "\r\n", 2);
    }
}

#define COMMAND(unit, ...)                                                                         \
    add_command(unit, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *),                 \
                (const char *const[]){__VA_ARGS__})

static void add_select(struct bytes *unit, unsigned database) {
    char number[12];
    sprintf(number, "%u", database);
    COMMAND(unit, "SELECT", number);
}

/* Sometimes what does not compress, rarely more than a frame has room for. */
static void add_set(struct world *world, struct bytes *unit) {
    struct sim_random *random = &world->clients;
    size_t length = sim_random_chance(random, 3)    ? sim_random_between(random, 5000, 40000)
                    : sim_random_chance(random, 30) ? sim_random_between(random, 300, 3000)
                                                    : sim_random_between(random, 8, 80);
    bool noise = sim_random_chance(random, 40);
    char *value = malloc(length + 24);
    ASSERT(value);
    size_t at = (size_t)sprintf(value, "%llu:", (unsigned long long)world->unique++);
    for (; at < length; at++)
        value[at] = noise ? (char)sim_random_between(random, 1, 255) : (char)('a' + at % 17);
    value[at] = '\0';
    COMMAND(unit, "SET", "s", value);
    free(value);
}

static void add_transaction(struct world *world, struct bytes *unit, unsigned *database) {
    struct sim_random *random = &world->clients;
    char amount[24], from[12], to[12];
    COMMAND(unit, "MULTI");
    for (uint64_t moves = sim_random_between(random, 1, 4); moves > 0; moves--) {
        if (sim_random_chance(random, 20))
            add_select(unit, *database = (unsigned)sim_random_below(random, MODEL_DATABASES));
        sprintf(amount, "%llu", (unsigned long long)sim_random_between(random, 1, 1000000));
        sprintf(from, "%u", (unsigned)sim_random_below(random, MODEL_ACCOUNTS));
        sprintf(to, "%u", (unsigned)sim_random_below(random, MODEL_ACCOUNTS));
        COMMAND(unit, "DECRBY", from, amount);
        COMMAND(unit, "INCRBY", to, amount);
    }
    COMMAND(unit, "EXEC");
}

static void apply_unit(struct model *model, unsigned database, const struct bytes *unit) {
    struct command command;
    for (size_t at = 0; at < unit->length; at += command.length) {
        int parsed = command_parse(unit->data + at, unit->length - at, &command);
        ASSERT(parsed == 1);
        if (command_is(&command, "SELECT"))
            database = command_database(&command);
        else if (!command_is(&command, "MULTI") && !command_is(&command, "EXEC"))
            model_apply(model, database, &command);
    }
}

static bool is_logging(const struct node *node) {
    return node->on && !is_replica(node);
}

void primary_write(struct node *node) {
    struct world *world = node->world;
    struct sim_random *random = &world->clients;
    struct commit commit = {0};
    if (!node->alive || is_replica(node) || node->loading || node->failover != FAILOVER_NONE)
        return;
    unsigned database = (unsigned)sim_random_below(random, MODEL_DATABASES);
    commit.first_database = database;
    if (sim_random_chance(random, 40))
        add_transaction(world, &commit.bytes, &database);
    else if (sim_random_chance(random, 50))
        COMMAND(&commit.bytes, "INCR", "c");
    else
        add_set(world, &commit.bytes);
    commit.last_database = database;
    apply_unit(&node->model, commit.first_database, &commit.bytes);
    commit.chain = node->model.chain;
    figure_add(node, FIGURE_UNITS);
    if (!is_logging(node)) {
        bytes_free(&commit.bytes);
        return;
    }
    if (node->commit_count == node->commit_capacity) {
        node->commit_capacity = node->commit_capacity ? 2 * node->commit_capacity : 64;
        node->commits = realloc(node->commits, node->commit_capacity * sizeof *node->commits);
        ASSERT(node->commits);
    }
    node->commits[node->commit_count++] = commit;
}

/* --- The stream ------------------------------------------------------------------------------- */

static void publish_offset(struct node *node) {
    atomic_store(&node->history.offset, backlog_end_offset(node->backlog));
}

static void append(struct node *node, const struct bytes *bytes, bool continued) {
    uint64_t from = backlog_end_offset(node->backlog);
    backlog_append(node->backlog, bytes->data, bytes->length, continued);
    if (!truth_append(&node->world->truth, node->history.id, from,
                      backlog_end_offset(node->backlog), node->merged_chain))
        FAIL(node, "node %d writes history %d at %llu, which is not its end", node->index,
             node_history(node), (unsigned long long)from);
}

static void append_command(struct node *node, struct bytes *command, bool continued) {
    append(node, command, continued);
    bytes_free(command);
}

void primary_merge(struct node *node) {
    for (size_t i = 0; i < node->commit_count; i++) {
        struct commit *commit = &node->commits[i];
        if ((int)commit->first_database != node->stream_database) {
            struct bytes select = {0};
            add_select(&select, commit->first_database);
            append_command(node, &select, true);
        }
        node->merged_chain = commit->chain;
        append_command(node, &commit->bytes, false);
        node->stream_database = (int)commit->last_database;
    }
    if (node->commit_count > 0)
        publish_offset(node);
    node->commit_count = 0;
}

static uint64_t stream_cut(struct node *node) {
    if (!is_replica(node))
        primary_merge(node);
    if (!has(node, ABLATION_SELECT_KEPT_CUT))
        node->stream_database = -1;
    return backlog_end_offset(node->backlog);
}

void primary_turn_on(struct node *node) {
    uint64_t offset = atomic_load(&node->history.offset);
    node->backlog = backlog_create(node->backlog_bytes, offset);
    node->stream_database = -1;
    node->on = true;
    node->no_replica_since_us = 0;
    node->last_ping_us = now_us(node);
    if (is_replica(node))
        return;
    node->merged_chain = node->model.chain;
    truth_replace(&node->world->truth, node->history.id, offset, node->model.chain);
    SAY(node, "node %d begins a backlog of history %d at %llu", node->index, node_history(node),
        (unsigned long long)offset);
}

static void drop_backlog(struct node *node) {
    for (size_t i = 0; i < node->commit_count; i++)
        bytes_free(&node->commits[i].bytes);
    node->commit_count = 0;
    node->on = false;
    backlog_destroy(node->backlog);
    node->backlog = NULL;
    node->no_replica_since_us = 0;
}

/* --- Subs ------------------------------------------------------------------------------------- */

static void sub_let_go(struct sub *sub) {
    backlog_cursor_close(sub->cursor);
    sub->cursor = NULL;
    bytes_free(&sub->snapshot);
    bytes_free(&sub->greeting);
}

static void sub_close(struct sub *sub) {
    sub_let_go(sub);
    bytes_free(&sub->line);
    if (sub->link)
        sim_link_close(sub->link, 1);
    sub->link = NULL;
}

static void remove_gone(struct node *node) {
    for (struct sub **at = &node->subs; *at;) {
        struct sub *sub = *at;
        if (sub->link) {
            at = &sub->next;
            continue;
        }
        *at = sub->next;
        free(sub);
    }
}

void primary_accept(struct node *node, struct sim_link *link) {
    struct sub *sub = calloc(1, sizeof *sub);
    ASSERT(sub);
    sub->link = link;
    sub->heard_us = sub->moved_us = now_us(node);
    sub->next = node->subs;
    node->subs = sub;
}

static struct sub *sub_of(struct node *node, const struct sim_link *link) {
    for (struct sub *sub = node->subs; sub; sub = sub->next)
        if (sub->link == link)
            return sub;
    return NULL;
}

static uint64_t pause_left_us(const struct node *node) {
    return node->paused_until_us > now_us(node) ? node->paused_until_us - now_us(node) : 0;
}

static uint64_t on_ended(void *context, struct sim_link *link) {
    struct node *node = context;
    struct sub *sub = sub_of(node, link);
    if (pause_left_us(node))
        return pause_left_us(node);
    if (sub)
        sub_close(sub);
    return 0;
}

/* --- PSYNC ------------------------------------------------------------------------------------ */

static void reply_line(struct sub *sub, const char *text) {
    bytes_add(&sub->greeting, text, strlen(text));
}

static void decide(struct node *node, const struct psync_request *request,
                   struct psync_decision *decision) {
    struct psync_backlog backlog = {0};
    struct history history = node->history;
    if (node->on) {
        backlog.first = (int64_t)backlog_first_offset(node->backlog) + 1;
        backlog.length = (int64_t)(backlog_end_offset(node->backlog) + 1) - backlog.first;
    }
    if (has(node, ABLATION_ANY_ID) && request->id[0] != '?')
        memcpy(history.id, request->id, HISTORY_ID_LENGTH);
    if (has(node, ABLATION_SECOND_UNBOUNDED) && history.second_offset >= 0)
        history.second_offset = INT64_MAX;
    psync_decide(&history, node->on ? &backlog : NULL, request, decision);
}

/* Whoever goes on has what this node's history has there. */
static void check_continuation(struct node *node, const struct sub *sub,
                               const struct psync_request *request) {
    const struct node *replica = &node->world->nodes[sub->replica];
    uint64_t chain;
    if (!replica->alive || !replica->attempt || replica->attempt->link != sub->link)
        return; /* who asked is dead, or asks somebody else by now */
    if (!truth_at(&node->world->truth, node->history.id, (uint64_t)request->offset - 1, &chain) ||
        chain != replica->model.chain)
        FAIL(node, "node %d lets node %d go on at %lld, where history %d has other data",
             node->index, sub->replica, (long long)request->offset, node_history(node));
}

static void go_on(struct node *node, struct sub *sub, const struct psync_request *request) {
    check_continuation(node, sub, request);
    sub->cursor = backlog_cursor_open(node->backlog, sub->frames ? BACKLOG_FRAMES : BACKLOG_PLAIN,
                                      (uint64_t)request->offset - 1);
    ASSERT(sub->cursor);
    sub->state = SUB_ONLINE;
    char line[PSYNC_REPLY_BYTES];
    bytes_add(&sub->greeting, line,
              psync_format_continue(node->history.id, sub->capabilities, sub->frames, line));
    figure_add(node, FIGURE_PARTIAL);
    if (strcmp(request->id, node->history.second_id) == 0)
        figure_add(node, FIGURE_SECOND);
}

/* Its primary cannot be reached until the snapshot is taken. */
static void lose_connection(struct node *node) {
    node->ambush = AMBUSH_NONE;
    node->world->nodes[node->primary].isolated_until_us = now_us(node) + 1000000;
    sim_link_break_after(node->connection, 0, 0, false);
}

static void refuse(struct sub *sub, const char *refusal) {
    reply_line(sub, refusal);
    reply_line(sub, "\r\n");
}

/* PSYNC ... FAILOVER: unless it is forced, or this is another process by now, it has everything. */
static bool take_over(struct node *node, struct sub *sub, const char *id) {
    const struct node *asking = &node->world->nodes[sub->replica];
    const char *refusal =
        node->loading ? "-LOADING" : psync_failover_refusal(is_replica(node), node->history.id, id);
    if (refusal) {
        refuse(sub, refusal);
        return false;
    }
    node_promote(node);
    figure_add(node, FIGURE_FAILOVERS);
    if (asking->alive && asking->failover == FAILOVER_ASKS && !asking->failover_force &&
        asking->failover_generation == node->generation && asking->model.chain != node->model.chain)
        FAIL(node, "node %d takes over from node %d and has not all that was written", node->index,
             sub->replica);
    return true;
}

static void on_psync(struct node *node, struct sub *sub, const char *id, int64_t offset) {
    const struct psync_obstacles obstacles = {.failing_over = node->failover != FAILOVER_NONE,
                                              .is_replica = is_replica(node),
                                              .is_connected = node->connection != NULL,
                                              .capabilities = sub->capabilities};
    const struct psync_request request = {
        .id = id, .offset = offset, .capabilities = sub->capabilities, .replica = "a node"};
    const char *refusal = node->loading ? "-LOADING" : psync_refusal(&obstacles);
    struct psync_decision decision;
    if (refusal && !has(node, ABLATION_REFUSAL_IGNORED)) {
        refuse(sub, refusal);
        return;
    }
    if (is_logging(node))
        primary_merge(node);
    decide(node, &request, &decision);
    if (!node->on) {
        if (!is_replica(node) && !has(node, ABLATION_ID_KEPT_BEGUN))
            place_unlogged(&node->history);
        primary_turn_on(node);
    }
    node->no_replica_since_us = 0;
    sub->frames = node->frames && (sub->capabilities & PSYNC_CAPABILITY_FRAMES);
    SAY(node,
        "node %d asked by node %d for history %d:%lld: %s (it has history %d, second %d:%lld)",
        node->index, sub->replica, truth_find(&node->world->truth, id), (long long)offset,
        decision.continues ? "goes on" : "in full", node_history(node),
        truth_find(&node->world->truth, node->history.second_id),
        (long long)node->history.second_offset);
    if (decision.continues)
        go_on(node, sub, &request);
    else
        sub->state = SUB_WAITING;
    if (!decision.continues && node->connection && node->ambush == AMBUSH_LOSE)
        lose_connection(node);
}

/* "PSYNC id offset capabilities node [FAILOVER]" or "ACK offset". */
static void on_line(struct node *node, struct sub *sub, char *line) {
    char id[64], failover[16] = "";
    long long offset;
    if (strncmp(line, "ACK ", 4) == 0)
        sub->acknowledged = strtoull(line + 4, NULL, 10);
    if (sub->state != SUB_HANDSHAKE || sscanf(line, "PSYNC %63s %lld %u %d %15s", id, &offset,
                                              &sub->capabilities, &sub->replica, failover) < 4)
        return;
    if (failover[0] && !take_over(node, sub, id))
        return;
    on_psync(node, sub, id, offset);
}

static uint64_t on_receive(void *context, struct sim_link *link, const char *data, size_t length) {
    struct node *node = context;
    struct sub *sub = sub_of(node, link);
    if (pause_left_us(node))
        return pause_left_us(node);
    if (!sub)
        return 0;
    sub->heard_us = now_us(node);
    bytes_add(&sub->line, data, length);
    char *end;
    while (sub->line.length > 0 && (end = memchr(sub->line.data, '\n', sub->line.length))) {
        *end = '\0';
        on_line(node, sub, sub->line.data);
        bytes_drop(&sub->line, (size_t)(end + 1 - sub->line.data));
    }
    return 0;
}

struct sim_party primary_party(struct node *node) {
    return (struct sim_party){on_receive, on_ended, node};
}

/* --- Rounds ----------------------------------------------------------------------------------- */

static void cut_for(struct node *node, struct sub *sub, uint64_t offset,
                    const struct bytes *snapshot) {
    char line[PSYNC_REPLY_BYTES];
    sub->snapshot_offset = offset;
    sub->snapshot_sent = 0;
    sub->snapshot_ready_us = now_us(node) + sim_random_below(&node->world->servers, 200000);
    bytes_add(&sub->snapshot, line, (size_t)sprintf(line, "$%zu\r\n", snapshot->length));
    bytes_add(&sub->snapshot, snapshot->data, snapshot->length);
    if (!has(node, ABLATION_CURSOR_LATE))
        sub->cursor = backlog_cursor_open(node->backlog,
                                          sub->frames ? BACKLOG_FRAMES : BACKLOG_PLAIN, offset);
    bytes_add(&sub->greeting, line,
              psync_format_full(node->history.id, (int64_t)offset, sub->frames, line));
    sub->state = SUB_SNAPSHOT;
    figure_add(node, FIGURE_FULL);
    SAY(node, "node %d cuts history %d at %llu for node %d", node->index, node_history(node),
        (unsigned long long)offset, sub->replica);
}

static void on_cut(void *context, uint64_t generation) {
    struct node *node = context;
    struct bytes snapshot = {0};
    if (node->generation != generation)
        return;
    node->round_wanted = false;
    if (!node->on)
        return;
    uint64_t offset = stream_cut(node);
    unsigned database = !is_replica(node)  ? 0
                        : node->connection ? node->database
                                           : node->place.database;
    if (has(node, ABLATION_DATABASE_UNTOLD) ||
        (has(node, ABLATION_DATABASE_UNTOLD_DOWN) && !node->connection))
        database = 0;
    node_write_file(node, node->history.id, offset, (int)database, &snapshot);
    for (struct sub *sub = node->subs; sub; sub = sub->next)
        if (sub->link && sub->state == SUB_WAITING)
            cut_for(node, sub, offset, &snapshot);
    bytes_free(&snapshot);
}

static void round_tick(struct node *node) {
    for (struct sub *sub = node->subs; sub && !node->round_wanted; sub = sub->next)
        if (sub->link && sub->state == SUB_WAITING) {
            node->round_wanted = true;
            sim_queue_after(&node->world->queue,
                            sim_random_between(&node->world->servers, 100,
                                               sim_random_chance(&node->world->servers, 20) &&
                                                       !node->world->faults_over
                                                   ? 3000000
                                                   : 300000),
                            on_cut, node, node->generation);
        }
}

/* --- Sending ---------------------------------------------------------------------------------- */

static void send_snapshot(struct node *node, struct sub *sub, size_t room) {
    size_t left = sub->snapshot.length - sub->snapshot_sent;
    if (now_us(node) < sub->snapshot_ready_us)
        return;
    if (left > room)
        left = room;
    sim_link_send(sub->link, 1, sub->snapshot.data + sub->snapshot_sent, left);
    sub->snapshot_sent += left;
    if (sub->snapshot_sent < sub->snapshot.length)
        return;
    bytes_free(&sub->snapshot);
    sub->state = SUB_ONLINE;
    if (!sub->cursor) /* opened where the stream is by now */
        sub->cursor =
            backlog_cursor_open(node->backlog, sub->frames ? BACKLOG_FRAMES : BACKLOG_PLAIN,
                                backlog_end_offset(node->backlog));
}

static void send_stream(struct sub *sub, size_t room) {
    struct iovec pieces[PIECES];
    int count;
    while (room > 0 && (count = backlog_cursor_peek(sub->cursor, pieces, PIECES)) > 0) {
        size_t taken = 0;
        for (int i = 0; i < count && taken < room; i++) {
            size_t length = pieces[i].iov_len < room - taken ? pieces[i].iov_len : room - taken;
            sim_link_send(sub->link, 1, pieces[i].iov_base, length);
            taken += length;
        }
        backlog_cursor_advance(sub->cursor, taken);
        room -= taken;
    }
}

static void fill(struct node *node, struct sub *sub) {
    size_t unsent = sim_link_unsent(sub->link, 1);
    if (unsent >= UNSENT_MAX_BYTES)
        return;
    sim_link_send(sub->link, 1, sub->greeting.data, sub->greeting.length);
    bytes_free(&sub->greeting);
    if (sub->state == SUB_SNAPSHOT)
        send_snapshot(node, sub, UNSENT_MAX_BYTES - unsent);
    if (sub->state == SUB_ONLINE)
        send_stream(sub, UNSENT_MAX_BYTES - unsent);
}

/* --- What the role brings --------------------------------------------------------------------- */

void primary_feed(struct node *node, const char *data, size_t length) {
    if (!node->on)
        primary_turn_on(node);
    if (length > 0)
        backlog_append(node->backlog, data, length, false);
}

void primary_drop_replicas(struct node *node, bool keep_backlog) {
    if (is_logging(node))
        primary_merge(node);
    for (struct sub *sub = node->subs; sub; sub = sub->next) {
        if (sub->state == SUB_HANDSHAKE)
            continue;
        sub_let_go(sub);
        sub->state = SUB_DROPPED;
    }
    if (node->on && !keep_backlog)
        drop_backlog(node);
}

void primary_act(struct node *node, unsigned effects) {
    if (effects & PLACE_DROP_REPLICAS)
        primary_drop_replicas(node, !(effects & PLACE_DROP_BACKLOG));
}

void primary_role_changed(struct node *node) {
    if (node->on && is_replica(node) && !has(node, ABLATION_DEMOTED_UNMERGED))
        primary_merge(node);
    if (node->on && backlog_end_offset(node->backlog) != atomic_load(&node->history.offset) &&
        !has(node, ABLATION_BACKLOG_KEPT_LOADED))
        primary_drop_replicas(node, false);
    if (!has(node, ABLATION_SELECT_KEPT_PROMOTED))
        node->stream_database = -1;
    if (!is_replica(node))
        node->merged_chain = node->model.chain;
}

void primary_die(struct node *node) {
    node->failover = FAILOVER_NONE;
    if (node->job)
        backlog_job_give(node->job);
    node->job = NULL;
    for (struct sub *sub = node->subs; sub; sub = sub->next) {
        sub_let_go(sub);
        bytes_free(&sub->line);
        if (sub->link)
            sim_link_reset(sub->link, 1);
        sub->link = NULL;
    }
    remove_gone(node);
    drop_backlog(node);
    node->round_wanted = false;
}

/* --- Turns ------------------------------------------------------------------------------------ */

/* Memory stays within what backlog.h promises, and within the output limit for the slow. */
static void check_memory(struct node *node) {
    struct backlog_statistics statistics;
    backlog_get_statistics(node->backlog, &statistics);
    uint64_t block = BACKLOG_BLOCK_MAX_BYTES;
    uint64_t limit =
        node->output_limit > statistics.size_bytes ? node->output_limit : statistics.size_bytes;
    if (statistics.retained_bytes > statistics.size_bytes + statistics.size_bytes / 8 + 2 * block)
        FAIL(node, "node %d retains %llu bytes of a backlog of %llu", node->index,
             (unsigned long long)statistics.retained_bytes,
             (unsigned long long)statistics.size_bytes);
    if (statistics.pinned_bytes > limit + 8 * block)
        FAIL(node, "node %d keeps %llu bytes for replicas, the limit is %llu", node->index,
             (unsigned long long)statistics.pinned_bytes, (unsigned long long)limit);
}

static bool is_too_slow(const struct node *node, const struct sub *sub) {
    if (has(node, ABLATION_STREAM_NOT_KEPT) && sub->cursor)
        return backlog_cursor_pinned_bytes(sub->cursor) > 0;
    uint64_t limit =
        node->output_limit > node->backlog_bytes ? node->output_limit : node->backlog_bytes;
    return sub->cursor && backlog_cursor_pinned_bytes(sub->cursor) >= limit;
}

/* Nothing is heard of it, or what it is sent does not move. */
static bool is_silent(const struct node *node, struct sub *sub) {
    size_t unsent = sim_link_unsent(sub->link, 1);
    if (unsent == 0 || unsent != sub->unsent_seen)
        sub->moved_us = now_us(node);
    sub->unsent_seen = unsent;
    return now_us(node) - sub->moved_us > TIMEOUT_US ||
           (sub->state == SUB_ONLINE && now_us(node) - sub->heard_us > TIMEOUT_US);
}

static void look_after_subs(struct node *node) {
    for (struct sub *sub = node->subs; sub; sub = sub->next) {
        if (!sub->link)
            continue;
        if (sub->state == SUB_DROPPED || is_too_slow(node, sub) || is_silent(node, sub)) {
            SAY(node, "node %d closes the link of node %d%s", node->index, sub->replica,
                sub->state == SUB_DROPPED ? ": its history has ended" : "");
            sub_close(sub);
        } else {
            fill(node, sub);
        }
    }
    remove_gone(node);
}

static void turn_off_when_unused(struct node *node) {
    bool used = is_replica(node);
    for (const struct sub *sub = node->subs; sub; sub = sub->next)
        used = used || sub->state != SUB_HANDSHAKE;
    if (used)
        node->no_replica_since_us = 0;
    else if (node->no_replica_since_us == 0)
        node->no_replica_since_us = now_us(node);
    else if (place_backlog_expired((now_us(node) - node->no_replica_since_us) / 1000,
                                   node->ttl_s)) {
        SAY(node, "node %d frees its unused backlog of history %d", node->index,
            node_history(node));
        drop_backlog(node);
        if (!has(node, ABLATION_ID_KEPT_UNUSED))
            place_unlogged(&node->history);
    }
}

static void every_second(struct node *node) {
    node->last_second_us = now_us(node);
    check_memory(node);
    bool online = false;
    for (const struct sub *sub = node->subs; sub; sub = sub->next)
        online = online || sub->state == SUB_ONLINE;
    if (online && !is_replica(node) && node->failover != FAILOVER_WAITS &&
        now_us(node) - node->last_ping_us >= PING_US) {
        struct bytes ping = {0};
        node->last_ping_us = now_us(node);
        COMMAND(&ping, "PING");
        append_command(node, &ping, false);
        publish_offset(node);
    }
    backlog_trim(node->backlog);
    turn_off_when_unused(node);
}

/* Another thread compresses blocks, and brings them back when the backlog may be another one. */
static void look_after_jobs(struct node *node) {
    struct sim_random *random = &node->world->servers;
    if (node->job && sim_random_chance(random, 20)) {
        if (!sim_random_chance(random, 10))
            backlog_job_run(node->job);
        backlog_job_give(node->job);
        node->job = NULL;
    } else if (!node->job && node->on && sim_random_chance(random, 5)) {
        node->job = backlog_job_take(node->backlog);
    }
}

void primary_turn(struct node *node) {
    look_after_jobs(node);
    if (node->on && !is_replica(node))
        primary_merge(node);
    if (node->on && now_us(node) - node->last_second_us >= 1000000)
        every_second(node);
    if (node->on) {
        backlog_flush(node->backlog);
        round_tick(node);
    }
    look_after_subs(node);
}
