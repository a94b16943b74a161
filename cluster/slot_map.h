/* The slot map: an immutable picture of the cluster for those that run commands: who owns each
 * slot, with the texts of redirections ready, and what this node may answer.
 *
 * Made by the cluster after each change, published by RCU, freed after a grace period. Readers are
 * in a read section (or at a command boundary of a worker) for as long as they use it. */
#ifndef SLOTWISE_CLUSTER_SLOT_MAP_H
#define SLOTWISE_CLUSTER_SLOT_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "cluster/wire.h"

#define SLOT_MAP_NOBODY 0 /* the slot has no owner */
#define SLOT_MAP_MINE   1 /* this node, as a primary */

struct slot_map_target {
    struct node_id id;
    char endpoint[280]; /* "host:port" as clients get it; "?:port" and ":port" as Redis has them */
    bool is_my_primary; /* READONLY connections read here */
    bool failed;
};

struct slot_map {
    bool state_ok;              /* cluster_state:ok */
    bool allow_reads_when_down; /* the configuration */
    bool allow_pubsubshard_when_down;
    bool is_replica;
    unsigned target_count;      /* with the two special ones */
    uint16_t owner[WIRE_SLOTS]; /* index into targets */
    /* 0: none; else index into targets. */
    uint16_t *migrating_to, *importing_from; /* NULL: no slot is open */
    struct slot_map_target targets[];
};

struct cluster;
/* Of the state as it is; by the cluster. */
struct slot_map *slot_map_make(const struct cluster *cluster);
void slot_map_free(struct slot_map *map);

#endif
