/* See nodes_conf.h. The text may have been written by Redis 3 or later, or by somebody's editor:
 * whatever it says, reading ends with a state that keeps the invariants, or with an error. */
#include "cluster/nodes_conf.h"

#include <string.h>
#include <strings.h>

#include "cluster/node_text.h"
#include "cluster/nodes.h"
#include "cluster/ownership.h"

#define SHOWN_BYTES 200 /* of a line at fault */

/* A piece of the text, between white space or commas. */
struct piece {
    const char *at;
    size_t length;
};

enum node_field {
    FIELD_ID,
    FIELD_ADDRESS,
    FIELD_FLAGS,
    FIELD_PRIMARY,
    FIELD_PING,
    FIELD_PONG,
    FIELD_EPOCH,
    FIELD_LINK,
    NODE_FIELDS
};

void nodes_conf_write(const struct cluster *cluster, struct lines *lines) {
    for (unsigned i = 0; i < cluster->node_count; i++) {
        if (node_in_handshake(cluster->nodes[i]))
            continue;
        node_text_add(lines, cluster, cluster->nodes[i], true);
        lines_add(lines, "\n");
    }
    lines_add(lines, "vars currentEpoch %llu lastVoteEpoch %llu",
              (unsigned long long)cluster->current_epoch,
              (unsigned long long)cluster->last_vote_epoch);
    /* As a variable, which Redis skips if it does not know it; more in a line of a node it does
     * not read. */
    for (unsigned i = 0; i < cluster->node_count; i++)
        if (cluster->nodes[i]->is_unmet)
            lines_add(lines, " unmetNode %.40s", cluster->nodes[i]->id.hex);
    lines_add(lines, "\n");
}

/* --- Pieces ----------------------------------------------------------------------------------- */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

static bool next_word(struct piece *line, struct piece *word) {
    while (line->length > 0 && is_space(*line->at))
        line->at++, line->length--;
    word->at = line->at;
    while (line->length > 0 && !is_space(*line->at))
        line->at++, line->length--;
    word->length = (size_t)(line->at - word->at);
    return word->length > 0;
}

/* Up to the separator, which goes; false: there is nothing left. */
static bool next_part(struct piece *rest, char separator, struct piece *part) {
    if (!rest->at)
        return false;
    const char *end = memchr(rest->at, separator, rest->length);
    part->at = rest->at;
    part->length = end ? (size_t)(end - rest->at) : rest->length;
    if (end)
        *rest = (struct piece){.at = end + 1, .length = rest->length - part->length - 1};
    else
        rest->at = NULL;
    return true;
}

static bool piece_is(const struct piece *piece, const char *text) {
    return piece->length == strlen(text) && strncasecmp(piece->at, text, piece->length) == 0;
}

static bool read_number(const struct piece *piece, uint64_t max, uint64_t *number) {
    uint64_t value = 0;
    if (piece->length == 0 || piece->length > 20)
        return false;
    for (size_t i = 0; i < piece->length; i++) {
        unsigned digit = (unsigned)(piece->at[i] - '0');
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return value <= max;
}

static bool read_port(const struct piece *piece, uint16_t *port) {
    uint64_t number;
    if (!read_number(piece, UINT16_MAX, &number))
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool copy_text(char *to, size_t size, const struct piece *piece) {
    if (piece->length >= size || memchr(piece->at, 0, piece->length))
        return false;
    memcpy(to, piece->at, piece->length);
    to[piece->length] = 0;
    return true;
}

/* --- Fields of a node ------------------------------------------------------------------------- */

static struct cluster_node *find_or_add(struct cluster *cluster, const char *id, size_t length) {
    if (!id_is_valid(id, length))
        return NULL;
    struct cluster_node *node = nodes_find(cluster, id, length);
    if (node)
        return node;
    struct node_id added;
    memcpy(added.hex, id, WIRE_ID_LENGTH);
    node = nodes_add(cluster, &added, 0);
    if (node)
        node->shard = (struct node_id){{0}};
    return node;
}

static bool read_aux(struct cluster_node *node, const struct piece *aux, bool *has_port) {
    struct piece rest = *aux, name, value = {0};
    next_part(&rest, '=', &name);
    if (!rest.at)
        return false;
    value = rest;
    if (piece_is(&name, "shard-id")) {
        if (!id_is_valid(value.at, value.length))
            return false;
        memcpy(node->shard.hex, value.at, WIRE_ID_LENGTH);
        return true;
    }
    if (piece_is(&name, "nodename"))
        return name_is_valid(value.at, value.length) &&
               copy_text(node->human_nodename, sizeof node->human_nodename, &value);
    if (piece_is(&name, "tcp-port")) {
        *has_port = true;
        return read_port(&value, &node->port);
    }
    return piece_is(&name, "tls-port") && read_port(&value, &node->tls_port);
}

/* ip:port[@bus port][,hostname][,name=value]... */
static bool read_address(struct cluster_node *node, const struct piece *field) {
    struct piece rest = *field, first, part;
    bool has_port = false;
    next_part(&rest, ',', &first);
    if (next_part(&rest, ',', &part) && (!name_is_valid(part.at, part.length) ||
                                         !copy_text(node->hostname, sizeof node->hostname, &part)))
        return false;
    while (next_part(&rest, ',', &part))
        if (!read_aux(node, &part, &has_port))
            return false;
    size_t colon = first.length;
    while (colon > 0 && first.at[colon - 1] != ':')
        colon--;
    if (colon == 0)
        return false;
    struct piece host = {first.at, colon - 1};
    struct piece ports = {first.at + colon, first.length - colon}, port, bus;
    uint16_t shown;
    next_part(&ports, '@', &port);
    if (!copy_text(node->address, sizeof node->address, &host) ||
        !address_is_valid(node->address) || !read_port(&port, &shown))
        return false;
    if (!has_port)
        node->port = shown;
    if (ports.at)
        return next_part(&ports, '@', &bus) && read_port(&bus, &node->bus_port);
    node->bus_port = (uint16_t)(node->port + CLUSTER_BUS_PORT_STEP);
    return node->port <= UINT16_MAX - CLUSTER_BUS_PORT_STEP;
}

static bool read_flags(struct cluster *cluster, struct cluster_node *node,
                       const struct piece *field) {
    struct piece rest = *field, part;
    while (next_part(&rest, ',', &part)) {
        unsigned flag;
        if (!node_text_flag(part.at, part.length, &flag))
            return false;
        /* What has not been shaken hands with was not to be written. */
        if (flag != WIRE_NODE_HANDSHAKE)
            node->flags |= flag;
    }
    if (node_is_failed(node))
        node->failed_ms = cluster_now(cluster);
    if (node_is_primary(node) && node_is_replica(node))
        return false;
    if (!(node->flags & WIRE_NODE_MYSELF))
        return true;
    if (cluster->myself)
        return false;
    cluster->myself = node;
    return true;
}

static bool read_primary(struct cluster *cluster, struct cluster_node *node,
                         const struct piece *field) {
    if (field->at[0] == '-')
        return true;
    struct cluster_node *primary = find_or_add(cluster, field->at, field->length);
    if (!primary || primary == node || !node_is_replica(node))
        return false;
    nodes_set_primary(cluster, node, primary);
    return true;
}

static bool read_times(struct cluster *cluster, struct cluster_node *node,
                       const struct piece *fields) {
    uint64_t ping, pong, epoch;
    if (!read_number(&fields[FIELD_PING], UINT64_MAX, &ping) ||
        !read_number(&fields[FIELD_PONG], UINT64_MAX, &pong) ||
        !read_number(&fields[FIELD_EPOCH], UINT64_MAX, &epoch))
        return false;
    if (ping)
        node->ping_sent_ms = cluster_now(cluster);
    if (pong)
        node->pong_received_ms = cluster_now(cluster);
    node->config_epoch = node->primary ? 0 : epoch;
    return true;
}

/* "[slot->-id]" and "[slot-<-id]". */
static bool read_open_slot(struct cluster *cluster, const struct piece *word) {
    struct piece rest = {word->at + 1, word->length - 1}, number;
    uint64_t slot;
    next_part(&rest, '-', &number);
    if (!rest.at || rest.length != WIRE_ID_LENGTH + 3 || rest.at[1] != '-' ||
        rest.at[rest.length - 1] != ']' || !read_number(&number, WIRE_SLOTS - 1, &slot))
        return false;
    struct cluster_node *peer = find_or_add(cluster, rest.at + 2, WIRE_ID_LENGTH);
    if (!peer)
        return false;
    if (rest.at[0] == '>')
        ownership_migrate(cluster, (unsigned)slot, peer);
    else if (rest.at[0] == '<')
        ownership_import(cluster, (unsigned)slot, peer);
    else
        return false;
    return true;
}

static bool read_slots(struct cluster *cluster, struct cluster_node *node,
                       const struct piece *word) {
    if (word->at[0] == '[')
        return read_open_slot(cluster, word);
    struct piece rest = *word, first_text, last_text;
    uint64_t first, last;
    next_part(&rest, '-', &first_text);
    last_text = rest.at ? rest : first_text;
    if (!read_number(&first_text, WIRE_SLOTS - 1, &first) ||
        !read_number(&last_text, WIRE_SLOTS - 1, &last))
        return false;
    for (uint64_t slot = first; slot <= last; slot++)
        if (!cluster->owners[slot])
            ownership_set(cluster, (unsigned)slot, node);
    return true;
}

/* Variables come behind the nodes. Who was forgotten in the file need not be met. */
static void read_unmet(struct cluster *cluster, const struct piece *id) {
    struct cluster_node *node = nodes_find(cluster, id->at, id->length);
    if (node && node != cluster->myself)
        node->is_unmet = true;
}

static bool read_variables(struct cluster *cluster, struct piece line) {
    struct piece name, value;
    uint64_t number;
    while (next_word(&line, &name)) {
        if (!next_word(&line, &value))
            return false;
        if (piece_is(&name, "unmetNode")) {
            read_unmet(cluster, &value);
            continue;
        }
        bool is_current = piece_is(&name, "currentEpoch");
        if (!is_current && !piece_is(&name, "lastVoteEpoch")) {
            cluster_log(cluster, CLUSTER_LOG_NOTICE,
                        "Skipping unknown cluster config variable '%.*s'", (int)name.length,
                        name.at);
            continue;
        }
        if (!read_number(&value, UINT64_MAX, &number))
            return false;
        if (is_current)
            cluster->current_epoch = number;
        else
            cluster->last_vote_epoch = number;
    }
    return true;
}

static bool read_line(struct cluster *cluster, struct piece line) {
    struct piece fields[NODE_FIELDS], word;
    if (!next_word(&line, &fields[0]))
        return true; /* empty */
    if (piece_is(&fields[0], "vars"))
        return read_variables(cluster, line);
    for (unsigned i = 1; i < NODE_FIELDS; i++)
        if (!next_word(&line, &fields[i]))
            return false;
    struct cluster_node *node = find_or_add(cluster, fields[FIELD_ID].at, fields[FIELD_ID].length);
    if (!node || node->flags & (WIRE_NODE_PRIMARY | WIRE_NODE_REPLICA)) /* once each */
        return false;
    if (!read_address(node, &fields[FIELD_ADDRESS]) ||
        !read_flags(cluster, node, &fields[FIELD_FLAGS]) ||
        !read_primary(cluster, node, &fields[FIELD_PRIMARY]) || !read_times(cluster, node, fields))
        return false;
    while (next_word(&line, &word))
        if (!read_slots(cluster, node, &word))
            return false;
    return true;
}

/* What one line cannot know. A replica's shard is its primary's: files of Redis before 7.2 have
 * none, and one that was written between two packets may have an older one, for which nobody should
 * be unable to start. */
static bool complete(struct cluster *cluster) {
    if (!cluster->myself || !(cluster->myself->flags & (WIRE_NODE_PRIMARY | WIRE_NODE_REPLICA)))
        return false;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        /* Named by others, without a line of its own. */
        if (node->address[0] == 0 && node != cluster->myself)
            node->flags |= WIRE_NODE_NOADDR;
        if (id_is_none(&node->shard) && !node->primary)
            cluster_random_id(cluster, &node->shard);
        if (node->config_epoch > cluster->current_epoch)
            cluster->current_epoch = node->config_epoch;
        if (node_is_replica(node))
            ownership_drop_all_of(cluster, node);
    }
    for (unsigned i = 0; i < cluster->node_count; i++) {
        struct cluster_node *node = cluster->nodes[i];
        if (node->primary)
            node->shard = node->primary->shard;
        if (id_is_none(&node->shard))
            cluster_random_id(cluster, &node->shard);
    }
    if (node_is_replica(cluster->myself))
        ownership_close_all(cluster);
    return true;
}

const char *nodes_conf_read(struct cluster *cluster, const char *text, size_t length) {
    struct piece rest = {text, length}, line = {text, 0};
    bool good = true;
    while (good && next_part(&rest, '\n', &line))
        good = read_line(cluster, line);
    if (good && complete(cluster))
        return NULL;
    int shown = line.length > SHOWN_BYTES ? SHOWN_BYTES : (int)line.length;
    return cluster_error(cluster, "Unrecoverable error: corrupted cluster config file \"%.*s\".",
                         shown, line.at);
}
