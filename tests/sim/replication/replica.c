/* The replica's side of a node; see node.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "tests/sim/replication/node.h"

#define TIMEOUT_US     5000000
#define RETRY_US       1000000
#define ACKNOWLEDGE_US 1000000

static void process_input(struct node *node, const char *data, size_t length);

void replica_check(const struct node *node, const char *when) {
    uint64_t chain, offset = atomic_load(&node->history.offset);
    if (!node->synced || !is_replica(node))
        return;
    if (!model_is_whole(&node->model))
        FAIL(node, "node %d has a torn transaction at %llu (%s)", node->index,
             (unsigned long long)offset, when);
    if (!truth_at(&node->world->truth, node->history.id, offset, &chain))
        FAIL(node, "node %d is at %llu of history %d, which has not come so far (%s)", node->index,
             (unsigned long long)offset, node_history(node), when);
    if (chain != node->model.chain)
        FAIL(node, "node %d has other data than history %d at %llu (%s)", node->index,
             node_history(node), (unsigned long long)offset, when);
}

static uint64_t pause_left_us(const struct node *node) {
    return node->paused_until_us > now_us(node) ? node->paused_until_us - now_us(node) : 0;
}

/* --- What is applied -------------------------------------------------------------------------- */

static void feed(struct node *node, const char *data, size_t length) {
    primary_feed(node, data, length);
    atomic_fetch_add(&node->history.offset, length);
}

static void apply(struct node *node, const struct command *command) {
    if (command_is(command, "SELECT"))
        node->database = command_database(command);
    else if (!command_is(command, "PING") && !command_is(command, "MULTI") &&
             !command_is(command, "EXEC") && !model_apply(&node->model, node->database, command))
        FAIL(node, "node %d applies %.*s, which nobody sends", node->index,
             (int)command->lengths[0], command->argv[0]);
}

static void apply_transaction(struct node *node) {
    struct command command;
    for (size_t at = 0; at < node->queued.length; at += command.length) {
        int parsed = command_parse(node->queued.data + at, node->queued.length - at, &command);
        ASSERT(parsed == 1);
        apply(node, &command);
    }
}

/* What is queued by MULTI counts when EXEC has run. */
static void run_command(struct node *node, const char *data, const struct command *command) {
    if (has(node, ABLATION_HALF_TRANSACTION)) {
        apply(node, command);
        feed(node, data, command->length);
    } else if (command_is(command, "MULTI") || node->in_multi) {
        bytes_add(&node->queued, data, command->length);
        node->in_multi = !command_is(command, "EXEC");
        if (has(node, ABLATION_RELAY_HALF))
            primary_feed(node, data, command->length);
        if (node->in_multi)
            return;
        apply_transaction(node);
        if (has(node, ABLATION_RELAY_HALF))
            atomic_fetch_add(&node->history.offset, node->queued.length);
        else
            feed(node, node->queued.data, node->queued.length);
        bytes_free(&node->queued);
    } else {
        apply(node, command);
        feed(node, data, command->length);
    }
    sim_trace_value(&node->world->run->trace, node->model.chain);
    replica_check(node, "it applied the stream");
}

/* It has half a transaction, unless another event came first. */
static void fall(void *context, uint64_t ambush) {
    struct node *node = context;
    if (!node->connection)
        return;
    if (ambush == AMBUSH_SAVE || ambush == AMBUSH_SAVE_KILL)
        node_save(node);
    if (ambush == AMBUSH_PROMOTE)
        node_promote(node);
    if (ambush == AMBUSH_KILL || ambush == AMBUSH_SAVE_KILL) {
        int primary = node->primary;
        node_kill(node);
        node_restart_after(node, 100000, true, primary);
    }
}

static void process_plain(struct node *node, const char *data, size_t length) {
    struct command command;
    size_t at = 0;
    int parsed;
    bytes_add(&node->input, data, length);
    while ((parsed = command_parse(node->input.data + at, node->input.length - at, &command)) > 0) {
        run_command(node, node->input.data + at, &command);
        at += command.length;
    }
    if (parsed < 0)
        FAIL(node, "node %d gets what is no stream of commands behind %llu of history %d",
             node->index, (unsigned long long)atomic_load(&node->history.offset),
             node_history(node));
    bytes_drop(&node->input, at);
    if (node->in_multi && node->ambush != AMBUSH_NONE && node->ambush != AMBUSH_LOSE) {
        sim_queue_after(&node->world->queue, 0, fall, node, node->ambush);
        node->ambush = AMBUSH_NONE;
    }
}

static void process_input(struct node *node, const char *data, size_t length) {
    if (!node->decoder) {
        process_plain(node, data, length);
        return;
    }
    while (length > 0) {
        struct frame frame;
        size_t consumed;
        int result = frame_decode(node->decoder, data, length, &consumed, &frame);
        if (result < 0)
            FAIL(node, "node %d gets no frame: %s", node->index, frame_error_text(result));
        data += consumed;
        length -= consumed;
        if (result > 0) {
            figure_add(node, FIGURE_FRAMES);
            process_plain(node, frame.plain, frame.length);
        }
    }
}

/* --- The connection --------------------------------------------------------------------------- */

static void forget_connection(struct node *node) {
    uint64_t half = node->queued.length;
    node->connection = NULL;
    frame_decoder_destroy(node->decoder);
    node->decoder = NULL;
    bytes_free(&node->input);
    bytes_free(&node->queued);
    node->in_multi = false;
    if (half > 0) {
        figure_add(node, FIGURE_CUT);
        if (has(node, ABLATION_PROMOTE_HALF))
            atomic_fetch_add(&node->history.offset, half);
    }
}

static void lost(struct node *node) {
    SAY(node, "node %d has lost node %d at %llu of history %d", node->index, node->primary,
        (unsigned long long)atomic_load(&node->history.offset), node_history(node));
    forget_connection(node);
    place_lost(&node->place, has(node, ABLATION_DATABASE_FORGOTTEN) ? 0 : node->database, true);
    replica_start_attempt(node);
}

void replica_drop_connection(struct node *node) {
    if (!node->connection)
        return;
    sim_link_close(node->connection, 0);
    forget_connection(node);
    place_lost(&node->place, has(node, ABLATION_DATABASE_FORGOTTEN) ? 0 : node->database, true);
}

static void acknowledge(struct node *node) {
    char text[64];
    node->acknowledged_us = now_us(node);
    int length =
        sprintf(text, "ACK %llu\n", (unsigned long long)atomic_load(&node->history.offset));
    sim_link_send(node->connection, 0, text, (size_t)length);
}

/* --- Attempts --------------------------------------------------------------------------------- */

static void free_attempt(struct node *node) {
    struct attempt *attempt = node->attempt;
    bytes_free(&attempt->input);
    bytes_free(&attempt->file);
    free(attempt);
    node->attempt = NULL;
}

void replica_cancel(struct node *node) {
    if (!node->attempt)
        return;
    if (node->attempt->link && !node->attempt->link_ended)
        sim_link_close(node->attempt->link, 0);
    free_attempt(node);
    node->loading = false;
}

/* Taken over after a while, in which orders may come. */
static void taken_over(void *context, uint64_t number);

static void end_attempt(struct node *node, enum attempt_phase phase) {
    node->attempt->phase = phase;
    sim_queue_after(&node->world->queue,
                    sim_random_between(&node->world->servers, 10,
                                       sim_random_chance(&node->world->servers, 10) ? 50000 : 500),
                    taken_over, node, node->attempt->number);
}

static void open_connection(struct node *node, struct attempt *attempt) {
    node->connection = attempt->link;
    node->database = attempt->database;
    node->heard_us = node->acknowledged_us = now_us(node);
    if (attempt->frames)
        node->decoder = frame_decoder_create(atomic_load(&node->history.offset));
    primary_feed(node, NULL, 0);
    SAY(node, "node %d is in step with node %d at %llu of history %d", node->index, node->primary,
        (unsigned long long)atomic_load(&node->history.offset), node_history(node));
    if (!attempt->link_ended)
        acknowledge(node);
    struct bytes input = attempt->input;
    bool ended = attempt->link_ended;
    attempt->input = (struct bytes){0};
    free_attempt(node);
    process_input(node, input.data, input.length);
    bytes_free(&input);
    if (ended)
        lost(node);
}

static void taken_over(void *context, uint64_t number) {
    struct node *node = context;
    struct attempt *attempt = node->attempt;
    if (!attempt || attempt->number != number || attempt->phase < ATTEMPT_CONTINUED)
        return;
    if (pause_left_us(node)) {
        sim_queue_after(&node->world->queue, pause_left_us(node), taken_over, node, number);
        return;
    }
    if (attempt->phase == ATTEMPT_CONTINUED || attempt->phase == ATTEMPT_LOADED) {
        place_connected(&node->place);
        open_connection(node, attempt);
        return;
    }
    bool again = attempt->phase == ATTEMPT_BROKEN;
    if (has(node, ABLATION_PLACE_LATE) && attempt->flushed)
        node->place.may_continue = false;
    if (attempt->link && !attempt->link_ended)
        sim_link_close(attempt->link, 0);
    free_attempt(node);
    if (again)
        replica_start_attempt(node);
}

/* --- Loading ---------------------------------------------------------------------------------- */

static void load_ends(void *context, uint64_t number) {
    struct node *node = context;
    struct attempt *attempt = node->attempt;
    char id[HISTORY_ID_LENGTH + 1];
    uint64_t offset;
    int database = -1;
    if (!attempt || attempt->number != number || attempt->phase != ATTEMPT_LOADING)
        return;
    bool loaded =
        !node->fail_load && node_read_file(&node->model, &attempt->file, id, &offset, &database);
    if (!loaded && !node->fail_load)
        FAIL(node, "node %d gets a snapshot that is no file", node->index);
    node->fail_load = node->loading = false;
    SAY(node, "node %d %s history %d at %llu", node->index, loaded ? "has loaded" : "cannot load",
        truth_find(&node->world->truth, attempt->id), (unsigned long long)attempt->offset);
    if (!loaded) {
        node->model = (struct model){0};
        if (!has(node, ABLATION_PLACE_LATE))
            place_emptied(&node->place, &node->history);
    } else {
        attempt->database = database >= 0 ? (unsigned)database : 0;
        bool keep = has(node, ABLATION_PLACE_LATE);
        struct place before = node->place;
        place_loaded(&node->place, &node->history, attempt->id, attempt->offset, attempt->database);
        if (keep)
            node->place = before;
        node->synced = true;
    }
    primary_role_changed(node);
    replica_check(node, "it loaded a snapshot");
    end_attempt(node, loaded ? ATTEMPT_LOADED : ATTEMPT_FAILED);
}

static void load_begins(struct node *node) {
    struct attempt *attempt = node->attempt;
    attempt->phase = ATTEMPT_LOADING;
    if (node->by_file) {
        bytes_free(&node->file);
        node->file_synced = true;
        bytes_add(&node->file, attempt->file.data, attempt->file.length);
    }
    struct place before = node->place;
    unsigned effects = place_flushed(&node->place);
    if (has(node, ABLATION_PLACE_LATE))
        node->place = before;
    if (has(node, ABLATION_BACKLOG_KEPT_LOADED))
        effects &= ~(unsigned)PLACE_DROP_BACKLOG;
    primary_act(node, effects);
    attempt->flushed = true;
    node->loading = true;
    node->synced = has(node, ABLATION_PLACE_LATE) && node->synced;
    node->model = (struct model){0};
    sim_queue_after(&node->world->queue, sim_random_between(&node->world->servers, 1000, 800000),
                    load_ends, node, attempt->number);
}

/* --- The attempt's input ---------------------------------------------------------------------- */

/* In one section. */
static void continued(struct node *node, const struct psync_reply *reply) {
    struct attempt *attempt = node->attempt;
    unsigned effects = 0;
    if (!has(node, ABLATION_ID_KEPT_CONTINUED))
        effects = place_continued(&node->place, &node->history, reply->id);
    node->synced = true;
    primary_act(node, effects);
    if (effects)
        primary_role_changed(node);
    replica_check(node, "its primary lets it go on");
    attempt->frames = reply->frames;
    attempt->database = node->place.database;
    end_attempt(node, ATTEMPT_CONTINUED);
}

/* What became of FAILOVER is noticed after a moment. */
static void taken_over_by(void *context, uint64_t generation) {
    struct node *node = context;
    if (node->generation == generation)
        primary_failover_answered(node, true);
}

static void refused(void *context, uint64_t generation) {
    struct node *node = context;
    if (node->generation == generation)
        primary_failover_answered(node, false);
}

static void on_reply(struct node *node, const char *line) {
    struct attempt *attempt = node->attempt;
    struct psync_reply reply;
    psync_read_reply(line, attempt->may_continue ? attempt->id : NULL, &reply);
    if (attempt->failover && reply.outcome != PSYNC_WAIT) {
        bool accepted = reply.outcome == PSYNC_CONTINUE || reply.outcome == PSYNC_FULL;
        sim_queue_after(&node->world->queue, 1, accepted ? taken_over_by : refused, node,
                        node->generation);
        if (!accepted) {
            end_attempt(node, ATTEMPT_FAILED);
            return;
        }
    }
    switch (reply.outcome) {
    case PSYNC_WAIT:
        break;
    case PSYNC_CONTINUE:
        continued(node, &reply);
        break;
    case PSYNC_FULL:
        if (reply.offset < 0)
            FAIL(node, "node %d cannot read the reply %s", node->index, line);
        memcpy(attempt->id, reply.id, sizeof attempt->id);
        attempt->offset = (uint64_t)reply.offset;
        attempt->frames = reply.frames;
        attempt->phase = ATTEMPT_TRANSFER;
        node->full_syncs++;
        break;
    case PSYNC_TRY_LATER:
        end_attempt(node, ATTEMPT_FAILED);
        break;
    case PSYNC_NOT_SUPPORTED:
        FAIL(node, "node %d gets the reply %s", node->index, line);
    }
}

static void on_transfer(struct node *node) {
    struct attempt *attempt = node->attempt;
    size_t left = attempt->size - attempt->file.length;
    if (left > attempt->input.length)
        left = attempt->input.length;
    bytes_add(&attempt->file, attempt->input.data, left);
    bytes_drop(&attempt->input, left);
    if (attempt->file.length == attempt->size)
        load_begins(node);
}

static void process_attempt(struct node *node) {
    struct attempt *attempt = node->attempt;
    char *end;
    while ((attempt->phase == ATTEMPT_ASKED ||
            (attempt->phase == ATTEMPT_TRANSFER && attempt->size == 0)) &&
           attempt->input.length > 0 &&
           (end = memchr(attempt->input.data, '\n', attempt->input.length))) {
        char line[256];
        size_t length = (size_t)(end - attempt->input.data);
        ASSERT(length < sizeof line);
        memcpy(line, attempt->input.data, length);
        if (length > 0 && line[length - 1] == '\r')
            length--;
        line[length] = '\0';
        bytes_drop(&attempt->input, (size_t)(end + 1 - attempt->input.data));
        if (attempt->phase == ATTEMPT_ASKED)
            on_reply(node, line);
        else if (line[0] == '$')
            attempt->size = strtoul(line + 1, NULL, 10);
    }
    if (attempt->phase == ATTEMPT_TRANSFER && attempt->size > 0)
        on_transfer(node);
}

static uint64_t on_receive(void *context, struct sim_link *link, const char *data, size_t length) {
    struct node *node = context;
    if (pause_left_us(node))
        return pause_left_us(node);
    if (link == node->connection) {
        node->heard_us = now_us(node);
        process_input(node, data, length);
    } else if (node->attempt && node->attempt->link == link) {
        node->attempt->heard_us = now_us(node);
        bytes_add(&node->attempt->input, data, length);
        process_attempt(node);
    }
    return 0;
}

static uint64_t on_ended(void *context, struct sim_link *link) {
    struct node *node = context;
    if (pause_left_us(node))
        return pause_left_us(node);
    if (link == node->connection) {
        lost(node);
    } else if (node->attempt && node->attempt->link == link) {
        node->attempt->link_ended = true;
        if (node->attempt->phase < ATTEMPT_LOADING)
            end_attempt(node,
                        node->attempt->phase == ATTEMPT_TRANSFER ? ATTEMPT_BROKEN : ATTEMPT_FAILED);
    }
    return 0;
}

/* --- Connecting ------------------------------------------------------------------------------- */

static bool is_reachable(const struct node *node, const struct node *other) {
    return other->alive && node->isolated_until_us <= now_us(node) &&
           other->isolated_until_us <= now_us(node);
}

static void ask(struct node *node) {
    struct attempt *attempt = node->attempt;
    const char *id;
    int64_t offset;
    struct psync_log log;
    char text[128];
    psync_ask(attempt->may_continue ? attempt->id : NULL, (int64_t)attempt->offset, &id, &offset,
              &log);
    unsigned capabilities = PSYNC_CAPABILITY_EOF | PSYNC_CAPABILITY_PSYNC2 |
                            (node->frames ? PSYNC_CAPABILITY_FRAMES : 0);
    attempt->failover = node->failover == FAILOVER_ASKS;
    int length = sprintf(text, "PSYNC %.40s %" PRId64 " %u %d%s\n", id, offset, capabilities,
                         node->index, attempt->failover ? " FAILOVER" : "");
    attempt->phase = ATTEMPT_ASKED;
    sim_link_send(attempt->link, 0, text, (size_t)length);
}

static void connect_ends(void *context, uint64_t number) {
    struct node *node = context;
    struct attempt *attempt = node->attempt;
    if (!attempt || attempt->number != number || attempt->phase != ATTEMPT_CONNECTING)
        return;
    struct node *other = &node->world->nodes[node->primary];
    if (!is_reachable(node, other)) {
        end_attempt(node, ATTEMPT_FAILED);
        return;
    }
    const struct sim_party ours = {on_receive, on_ended, node};
    const struct sim_party theirs = primary_party(other);
    attempt->link = sim_link_open(&node->world->network, &ours, &theirs);
    attempt->heard_us = now_us(node);
    primary_accept(other, attempt->link);
    ask(node);
}

void replica_start_attempt(struct node *node) {
    struct attempt *attempt = calloc(1, sizeof *attempt);
    ASSERT(attempt && !node->attempt && !node->connection);
    node->attempt = attempt;
    attempt->number = ++node->attempts;
    attempt->may_continue = node->place.may_continue;
    memcpy(attempt->id, node->history.id, sizeof attempt->id);
    attempt->offset = atomic_load(&node->history.offset);
    attempt->heard_us = node->tried_us = now_us(node);
    sim_queue_after(&node->world->queue, sim_random_between(&node->world->servers, 200, 3000),
                    connect_ends, node, attempt->number);
}

void replica_tick(struct node *node) {
    if (node->failover != FAILOVER_NONE)
        primary_failover_tick(node);
    if (!is_replica(node) || (node->connection && has(node, ABLATION_SILENCE_IGNORED)))
        return;
    if (node->connection && now_us(node) - node->heard_us > TIMEOUT_US) {
        SAY(node, "node %d hears nothing of node %d", node->index, node->primary);
        sim_link_close(node->connection, 0);
        lost(node);
    } else if (node->connection && now_us(node) - node->acknowledged_us >= ACKNOWLEDGE_US) {
        acknowledge(node);
    } else if (node->attempt && node->attempt->phase < ATTEMPT_LOADING &&
               now_us(node) - node->attempt->heard_us > TIMEOUT_US) {
        end_attempt(node,
                    node->attempt->phase == ATTEMPT_TRANSFER ? ATTEMPT_BROKEN : ATTEMPT_FAILED);
    } else if (node->attempt && node->attempt->phase == ATTEMPT_LOADING &&
               !node->attempt->link_ended) {
        sim_link_send(node->attempt->link, 0, "\n", 1); /* a sign of life */
    } else if (!node->connection && !node->attempt && now_us(node) - node->tried_us >= RETRY_US) {
        replica_start_attempt(node);
    }
}

void replica_die(struct node *node) {
    if (node->connection)
        sim_link_reset(node->connection, 0);
    forget_connection(node);
    if (node->attempt && node->attempt->link && !node->attempt->link_ended)
        sim_link_reset(node->attempt->link, 0);
    if (node->attempt)
        free_attempt(node);
    node->loading = false;
}
