/* The cluster as a whole (cluster.h): its beginning and end, its configuration, and what is done
 * ten times a second, before each wait, and at the ends of what the caller does for it. */
#include <string.h>

#include "cluster/claims.h"
#include "cluster/detector.h"
#include "cluster/election.h"
#include "cluster/handover.h"
#include "cluster/health.h"
#include "cluster/lease.h"
#include "cluster/links.h"
#include "cluster/nodes.h"
#include "cluster/nodes_conf.h"
#include "cluster/ownership.h"
#include "cluster/packets.h"
#include "cluster/pause_watch.h"
#include "cluster/persist.h"
#include "cluster/prevote.h"
#include "cluster/replica_migration.h"
#include "cluster/roles.h"
#include "cluster/slot_map.h"
#include "cluster/votes.h"
#include "engine/assert.h"
#include "engine/memory.h"

#define PERSIST_RETRY_MS   1000
#define MAX_ELECTION_TURNS 4
#define TICK_MS            100
#define SOON_MS            5

/* --- Beginning, end, configuration ------------------------------------------------------------ */

static uint16_t choose_port(unsigned announced, unsigned own) {
    return (uint16_t)(announced ? announced : own);
}

/* Ourselves as the configuration says. */
static void apply_config(struct cluster *cluster, bool announced_before) {
    const struct cluster_config *config = &cluster->config;
    struct cluster_node *me = cluster->myself;
    me->port = choose_port(config->announce_port, config->port);
    me->tls_port = config->announce_tls_port;
    me->bus_port =
        choose_port(config->announce_bus_port,
                    config->bus_port ? config->bus_port : config->port + CLUSTER_BUS_PORT_STEP);
    me->flags &= ~(unsigned)WIRE_NODE_NOFAILOVER;
    if (config->replica_no_failover)
        me->flags |= WIRE_NODE_NOFAILOVER;
    bool announces = config->announce_ip && config->announce_ip[0];
    if (announces || announced_before)
        memset(me->address, 0, sizeof me->address); /* found out, if it is not announced */
    if (announces && strlen(config->announce_ip) < sizeof me->address &&
        address_is_valid(config->announce_ip))
        memcpy(me->address, config->announce_ip, strlen(config->announce_ip));
    nodes_set_name(cluster, me->hostname,
                   config->announce_hostname ? config->announce_hostname : "");
    nodes_set_name(cluster, me->human_nodename,
                   config->announce_human_nodename ? config->announce_human_nodename : "");
}

struct cluster *cluster_create(const struct cluster_config *config,
                               const struct cluster_callbacks *callbacks, void *context) {
    struct cluster *cluster = memory_calloc(1, sizeof *cluster);
    cluster->config = *config;
    cluster->calls = *callbacks;
    cluster->context = context;
    cluster->hash_seed = cluster_random(cluster);
    cluster->size = 1;
    cluster->myself = nodes_add(cluster, NULL, WIRE_NODE_MYSELF | WIRE_NODE_PRIMARY);
    apply_config(cluster, false);
    return cluster;
}

void cluster_destroy(struct cluster *cluster) {
    if (!cluster)
        return;
    nodes_free(cluster);
    memory_free(cluster->packet);
    memory_free(cluster);
}

void cluster_configure(struct cluster *cluster, const struct cluster_config *config) {
    bool announced_before = cluster->config.announce_ip && cluster->config.announce_ip[0];
    cluster->config = *config;
    apply_config(cluster, announced_before);
    cluster_later(cluster, LATER_SAVE | LATER_HEALTH | LATER_MAP);
}

int cluster_load(struct cluster *cluster, const char *text, size_t length, const char **error) {
    ASSERT(!cluster->started && cluster->node_count == 1);
    struct cluster_node *fresh = cluster->myself;
    fresh->flags &= ~(unsigned)WIRE_NODE_MYSELF;
    cluster->myself = NULL;
    nodes_remove(cluster, fresh);
    *error = nodes_conf_read(cluster, text, length);
    if (*error)
        return -1;
    apply_config(cluster, false);
    cluster_log(cluster, CLUSTER_LOG_NOTICE, "Node configuration loaded, I'm %.40s",
                cluster->myself->id.hex);
    return 0;
}

/* Keys of slots that are nobody's make us their owner; those of others' slots look as if they were
 * being imported, for the operator to see. */
static void adopt_keys(struct cluster *cluster) {
    for (unsigned slot = 0; slot < WIRE_SLOTS; slot++) {
        if (cluster->owners[slot] == cluster->myself || cluster->importing_from[slot] ||
            !cluster->calls.slot_has_keys(cluster->context, slot))
            continue;
        if (!cluster->owners[slot]) {
            cluster_log(cluster, CLUSTER_LOG_NOTICE,
                        "I have keys for unassigned slot %u. Taking responsibility for it.", slot);
            ownership_set(cluster, slot, cluster->myself);
        } else {
            cluster_log(cluster, CLUSTER_LOG_NOTICE,
                        "I have keys for slot %u, but the slot is assigned to another node. "
                        "Setting it to importing state.",
                        slot);
            ownership_import(cluster, slot, cluster->owners[slot]);
        }
    }
}

void cluster_start(struct cluster *cluster, bool is_new) {
    ASSERT(!cluster->started);
    cluster->started = true;
    cluster->told_epoch = cluster->myself->config_epoch;
    if (is_new)
        cluster_log(cluster, CLUSTER_LOG_NOTICE, "No cluster configuration found, I'm %.40s",
                    cluster->myself->id.hex);
    if (node_is_primary(cluster->myself))
        adopt_keys(cluster);
    roles_connect(cluster);
    lease_start(cluster);
    cluster_later(cluster, LATER_SAVE | LATER_HEALTH | LATER_MAP);
    cluster_before_wait(cluster);
}

/* --- Turns ------------------------------------------------------------------------------------ */

void cluster_tick(struct cluster *cluster) {
    if (cluster->has_ended)
        return;
    cluster->ticks++;
    links_turn(cluster);
    detector_turn(cluster);
    if (node_is_replica(cluster->myself) && !cluster->following)
        roles_connect(cluster);
    handover_check_time(cluster);
    if (node_is_replica(cluster->myself)) {
        claims_turn(cluster);
        pause_watch_turn(cluster);
        handover_turn(cluster);
        election_turn(cluster);
        replica_migration_turn(cluster);
    }
    if (!cluster->state_ok)
        cluster_later(cluster, LATER_HEALTH);
    cluster_later(cluster, LATER_SOON);
    if (cluster->disk_failed &&
        cluster_age(cluster_now(cluster), cluster->disk_failed_ms) >= PERSIST_RETRY_MS)
        cluster_later(cluster, LATER_SAVE);
    cluster_before_wait(cluster);
}

/* What a new primary owns goes out when it is durable and the server has taken the role. */
static void tell_claim(struct cluster *cluster) {
    if (cluster->claim_ticket == 0 || cluster->promoting || persist_hides_epoch(cluster))
        return;
    cluster->claim_ticket = 0;
    cluster->takes_over = false;
    cluster_later(cluster, LATER_TELL_ALL | LATER_SOON);
}

static bool take_later(struct cluster *cluster, unsigned what) {
    bool is_due = cluster->later & what;
    cluster->later &= ~what;
    return is_due;
}

static bool may_save(const struct cluster *cluster) {
    return !persist_is_busy(cluster) &&
           (!cluster->disk_failed ||
            cluster_age(cluster_now(cluster), cluster->disk_failed_ms) >= PERSIST_RETRY_MS);
}

void cluster_before_wait(struct cluster *cluster) {
    if (!cluster->started || cluster->has_ended)
        return;
    if (node_is_replica(cluster->myself))
        pause_watch_turn(cluster);
    bool is_due = take_later(cluster, LATER_MANUAL);
    if (is_due && node_is_replica(cluster->myself))
        handover_turn(cluster);
    is_due = take_later(cluster, LATER_ELECTION) || is_due;
    /* A turn may ask for the next: an election of an operator's has no delay. */
    for (unsigned turns = 0; is_due && turns < MAX_ELECTION_TURNS; turns++) {
        if (node_is_replica(cluster->myself))
            election_turn(cluster);
        is_due = take_later(cluster, LATER_ELECTION);
    }
    if (cluster->later & LATER_HEALTH)
        health_update(cluster);
    tell_claim(cluster);
    if (take_later(cluster, LATER_TELL_ALL))
        packets_broadcast_pong(cluster, PACKETS_TO_ALL);
    if (cluster->later & LATER_SAVE && may_save(cluster))
        persist_begin(cluster);
    /* While the server is still a replica, the old map is the true one. */
    if (!cluster->promoting && take_later(cluster, LATER_MAP))
        cluster->calls.publish(cluster->context, slot_map_make(cluster));
    if (take_later(cluster, LATER_SOON)) {
        lease_turn(cluster);
        prevote_turn(cluster);
    }
}

unsigned cluster_max_wait_ms(const struct cluster *cluster) {
    if (cluster->later & (LATER_MANUAL | LATER_ELECTION))
        return 1;
    return cluster->later & LATER_SOON ? SOON_MS : TICK_MS;
}

/* --- Ends ------------------------------------------------------------------------------------- */

void cluster_on_persisted(struct cluster *cluster, uint64_t ticket,
                          enum cluster_persist_result result) {
    persist_ended(cluster, ticket, result);
    votes_persisted(cluster, result);
    election_persisted(cluster, result);
}

void cluster_on_promoted(struct cluster *cluster) {
    if (!cluster->promoting)
        return;
    cluster->promoting = false;
    cluster_later(cluster, LATER_MAP | LATER_HEALTH | LATER_SOON);
}

void cluster_on_paused(struct cluster *cluster) {
    handover_paused(cluster);
}

void cluster_on_shutdown(struct cluster *cluster, bool data_is_final) {
    if (cluster->later & LATER_SAVE)
        persist_begin(cluster);
    if (data_is_final)
        handover_announce_end(cluster);
}
