/* See nodes.h. */
#include "cluster/nodes.h"

#include <string.h>

#include "cluster/ownership.h"
#include "engine/assert.h"
#include "engine/memory.h"

/* --- The table -------------------------------------------------------------------------------- */

static unsigned bucket_of(const struct cluster *cluster, const struct node_id *id) {
    uint64_t hash = cluster->hash_seed;
    for (unsigned i = 0; i < WIRE_ID_LENGTH; i++)
        hash = (hash ^ (uint8_t)id->hex[i]) * 0x100000001b3u;
    return (unsigned)(hash ^ hash >> 32) & (cluster->hash_size - 1);
}

static void link_into_hash(struct cluster *cluster, struct cluster_node *node) {
    unsigned bucket = bucket_of(cluster, &node->id);
    node->next_in_hash = cluster->hash[bucket];
    cluster->hash[bucket] = node;
}

static void unlink_from_hash(struct cluster *cluster, struct cluster_node *node) {
    struct cluster_node **at = &cluster->hash[bucket_of(cluster, &node->id)];
    while (*at != node) {
        ASSERT(*at);
        at = &(*at)->next_in_hash;
    }
    *at = node->next_in_hash;
}

static void make_room(struct cluster *cluster) {
    if (cluster->node_count < cluster->node_capacity)
        return;
    unsigned capacity = cluster->node_capacity ? cluster->node_capacity * 2 : 16;
    cluster->nodes = memory_realloc(cluster->nodes, capacity * sizeof(struct cluster_node *));
    cluster->node_capacity = capacity;
    memory_free(cluster->hash);
    cluster->hash = memory_calloc(capacity, sizeof(struct cluster_node *));
    cluster->hash_size = capacity;
    for (unsigned i = 0; i < cluster->node_count; i++)
        link_into_hash(cluster, cluster->nodes[i]);
}

struct cluster_node *nodes_add(struct cluster *cluster, const struct node_id *id, unsigned flags) {
    if (cluster->node_count >= CLUSTER_MAX_NODES)
        return NULL;
    make_room(cluster);
    struct cluster_node *node = memory_calloc(1, sizeof *node);
    if (id)
        node->id = *id;
    else
        cluster_random_id(cluster, &node->id);
    cluster_random_id(cluster, &node->shard);
    node->flags = flags;
    node->created_ms = cluster_now(cluster);
    node->index = cluster->node_count;
    cluster->nodes[cluster->node_count++] = node;
    cluster->handshake_count += node_in_handshake(node);
    link_into_hash(cluster, node);
    cluster_later(cluster, LATER_MAP);
    return node;
}

struct cluster_node *nodes_find(const struct cluster *cluster, const void *id, size_t length) {
    if (!id_is_valid(id, length))
        return NULL;
    struct node_id wanted;
    memcpy(wanted.hex, id, WIRE_ID_LENGTH);
    struct cluster_node *node = cluster->hash[bucket_of(cluster, &wanted)];
    while (node && id_compare(&node->id, &wanted) != 0)
        node = node->next_in_hash;
    return node;
}

/* Nobody points to the node any more, apart from the table. */
static void cut_ties(struct cluster *cluster, struct cluster_node *node) {
    for (unsigned slot = 0; slot < WIRE_SLOTS && cluster->open_slots > 0; slot++) {
        if (cluster->importing_from[slot] == node)
            ownership_import(cluster, slot, NULL);
        if (cluster->migrating_to[slot] == node)
            ownership_migrate(cluster, slot, NULL);
    }
    ownership_drop_all_of(cluster, node);
    while (node->replica_count > 0)
        nodes_set_primary(cluster, node->replicas[0], NULL);
    nodes_set_primary(cluster, node, NULL);
    for (unsigned i = 0; i < cluster->node_count; i++)
        nodes_remove_report(cluster, cluster->nodes[i], node);
    if (cluster->manual.replica == node)
        cluster->manual.replica = NULL;
    nodes_close_link(cluster, node->link);
    nodes_close_link(cluster, node->inbound_link);
}

static void free_node(struct cluster_node *node) {
    memory_free(node->replicas);
    memory_free(node->reports);
    memory_free(node->ranges);
    memory_free(node);
}

void nodes_remove(struct cluster *cluster, struct cluster_node *node) {
    ASSERT(node != cluster->myself);
    cut_ties(cluster, node);
    unlink_from_hash(cluster, node);
    cluster->handshake_count -= node_in_handshake(node);
    struct cluster_node *last = cluster->nodes[--cluster->node_count];
    cluster->nodes[node->index] = last;
    last->index = node->index;
    free_node(node);
    cluster_later(cluster, LATER_MAP);
}

void nodes_rename(struct cluster *cluster, struct cluster_node *node, const struct node_id *id) {
    unlink_from_hash(cluster, node);
    node->id = *id;
    link_into_hash(cluster, node);
    cluster_later(cluster, LATER_MAP);
}

void nodes_end_handshake(struct cluster *cluster, struct cluster_node *node) {
    cluster->handshake_count -= node_in_handshake(node);
    node->is_unmet = node->flags & WIRE_NODE_MEET;
    node->met_ms = cluster_now(cluster);
    node->flags &= ~(unsigned)(WIRE_NODE_HANDSHAKE | WIRE_NODE_MEET);
}

void nodes_free(struct cluster *cluster) {
    for (unsigned i = 0; i < cluster->node_count; i++)
        free_node(cluster->nodes[i]);
    memory_free(cluster->nodes);
    memory_free(cluster->hash);
    memory_free(cluster->forgotten);
}

void nodes_note_met(struct cluster *cluster, struct cluster_node *node) {
    if (!node->is_unmet)
        return;
    node->is_unmet = false;
    cluster_later(cluster, LATER_SAVE);
}

/* --- Replicas, shards, names ------------------------------------------------------------------ */

static void remove_replica(struct cluster_node *primary, const struct cluster_node *replica) {
    for (unsigned i = 0; i < primary->replica_count; i++) {
        if (primary->replicas[i] != replica)
            continue;
        primary->replica_count--;
        memmove(primary->replicas + i, primary->replicas + i + 1,
                (primary->replica_count - i) * sizeof(struct cluster_node *));
        break;
    }
    if (primary->replica_count == 0)
        primary->flags &= ~(unsigned)WIRE_NODE_MIGRATE_TO;
}

void nodes_set_primary(struct cluster *cluster, struct cluster_node *replica,
                       struct cluster_node *primary) {
    ASSERT(replica != primary);
    if (replica->primary == primary)
        return;
    if (replica->primary)
        remove_replica(replica->primary, replica);
    replica->primary = primary;
    cluster_later(cluster, LATER_MAP);
    if (!primary)
        return;
    primary->replicas = memory_realloc(primary->replicas, (primary->replica_count + 1) *
                                                              sizeof(struct cluster_node *));
    primary->replicas[primary->replica_count++] = replica;
    primary->flags |= WIRE_NODE_MIGRATE_TO;
}

unsigned nodes_count_working_replicas(const struct cluster_node *node, unsigned failed_flags) {
    unsigned count = 0;
    for (unsigned i = 0; i < node->replica_count; i++)
        count += !(node->replicas[i]->flags & failed_flags);
    return count;
}

void nodes_set_shard(struct cluster *cluster, struct cluster_node *node,
                     const struct node_id *shard) {
    if (id_compare(&node->shard, shard) != 0) {
        node->shard = *shard;
        cluster_later(cluster, LATER_SAVE);
    }
    struct cluster_node *me = cluster->myself;
    if (me && me != node && me->primary == node && id_compare(&me->shard, shard) != 0) {
        me->shard = *shard;
        cluster_later(cluster, LATER_SAVE);
    }
}

bool nodes_set_name(struct cluster *cluster, char *field, const char *text) {
    if (strcmp(field, text) == 0 || !name_is_valid(text, strlen(text)))
        return false;
    memcpy(field, text, strlen(text) + 1);
    cluster_later(cluster, LATER_SAVE | LATER_MAP);
    return true;
}

/* --- Reports of failure ----------------------------------------------------------------------- */

bool nodes_add_report(struct cluster *cluster, struct cluster_node *node,
                      struct cluster_node *reporter) {
    uint64_t now_ms = cluster_now(cluster);
    for (unsigned i = 0; i < node->report_count; i++) {
        if (node->reports[i].reporter == reporter) {
            node->reports[i].at_ms = now_ms;
            return false;
        }
    }
    if (node->report_count == node->report_capacity) {
        node->report_capacity = node->report_capacity ? node->report_capacity * 2 : 4;
        node->reports =
            memory_realloc(node->reports, node->report_capacity * sizeof *node->reports);
    }
    node->reports[node->report_count++] =
        (struct cluster_failure_report){.reporter = reporter, .at_ms = now_ms};
    return true;
}

static void drop_report(struct cluster_node *node, unsigned i) {
    node->reports[i] = node->reports[--node->report_count];
}

bool nodes_remove_report(struct cluster *cluster, struct cluster_node *node,
                         const struct cluster_node *reporter) {
    for (unsigned i = 0; i < node->report_count; i++) {
        if (node->reports[i].reporter != reporter)
            continue;
        drop_report(node, i);
        nodes_count_reports(cluster, node);
        return true;
    }
    return false;
}

unsigned nodes_count_reports(struct cluster *cluster, struct cluster_node *node) {
    uint64_t now_ms = cluster_now(cluster);
    uint64_t valid_ms = cluster->config.node_timeout_ms * 2;
    for (unsigned i = node->report_count; i-- > 0;)
        if (cluster_age(now_ms, node->reports[i].at_ms) > valid_ms)
            drop_report(node, i);
    return node->report_count;
}

/* --- Forgotten ids ---------------------------------------------------------------------------- */

void nodes_clean_forgotten(struct cluster *cluster) {
    uint64_t now_ms = cluster_now(cluster);
    for (unsigned i = cluster->forgotten_count; i-- > 0;)
        if (cluster->forgotten[i].until_ms <= now_ms)
            cluster->forgotten[i] = cluster->forgotten[--cluster->forgotten_count];
}

static struct cluster_forgotten *find_forgotten(const struct cluster *cluster, const void *id) {
    for (unsigned i = 0; i < cluster->forgotten_count; i++)
        if (memcmp(cluster->forgotten[i].id.hex, id, WIRE_ID_LENGTH) == 0)
            return &cluster->forgotten[i];
    return NULL;
}

/* The entry that ends first makes room. */
static struct cluster_forgotten *first_to_end(const struct cluster *cluster) {
    struct cluster_forgotten *first = &cluster->forgotten[0];
    for (unsigned i = 1; i < cluster->forgotten_count; i++)
        if (cluster->forgotten[i].until_ms < first->until_ms)
            first = &cluster->forgotten[i];
    return first;
}

void nodes_forget(struct cluster *cluster, const struct node_id *id, uint64_t for_ms) {
    nodes_clean_forgotten(cluster);
    struct cluster_forgotten *entry = find_forgotten(cluster, id->hex);
    if (!entry && cluster->forgotten_count == CLUSTER_MAX_FORGOTTEN)
        entry = first_to_end(cluster);
    if (!entry) {
        cluster->forgotten = memory_realloc(cluster->forgotten, (cluster->forgotten_count + 1) *
                                                                    sizeof *cluster->forgotten);
        entry = &cluster->forgotten[cluster->forgotten_count++];
    }
    *entry = (struct cluster_forgotten){.id = *id, .until_ms = cluster_now(cluster) + for_ms};
}

bool nodes_is_forgotten(struct cluster *cluster, const void *id, size_t length) {
    nodes_clean_forgotten(cluster);
    return length == WIRE_ID_LENGTH && find_forgotten(cluster, id);
}

void nodes_forget_nothing(struct cluster *cluster) {
    cluster->forgotten_count = 0;
}

/* --- Links ------------------------------------------------------------------------------------ */

void nodes_close_link(struct cluster *cluster, struct cluster_link *link) {
    if (!link)
        return;
    struct cluster_node *node = link->node;
    if (node && node->link == link)
        node->link = NULL;
    if (node && node->inbound_link == link)
        node->inbound_link = NULL;
    link->node = NULL;
    cluster->calls.close(cluster->context, link);
}

void nodes_attach_inbound(struct cluster *cluster, struct cluster_node *node,
                          struct cluster_link *link) {
    nodes_close_link(cluster, node->inbound_link);
    node->inbound_link = link;
    link->node = node;
}
