/* Slot takeover: how slots change hands in a migration of whole slots (slot_move.h), as the nodes
 * of the cluster know it: owners and epochs. What an operator asks of single slots is operate.h's.
 *
 * Each is called under the lock of the bus. Errors are texts for the other side of the migration
 * and for the log, without a code; NULL: done. A ticket tells of the write after which the change
 * is durable; 0: it is already. */
#ifndef SLOTWISE_CLUSTER_SLOT_TAKEOVER_H
#define SLOTWISE_CLUSTER_SLOT_TAKEOVER_H

#include "cluster/cluster.h"

/* --- The target ------------------------------------------------------------------------------- */

/* Whether the slots, all of them the source's in our view, may come here. */
const char *cluster_check_import(struct cluster *cluster, const struct node_id *source,
                                 const uint8_t *slots);
/* Has our epoch above all that are known and above the source's (source_epoch, which it has perhaps
 * not told everybody yet), so that a claim of ours holds; *epoch is it. cluster_import_later, the
 * pointer itself: we hand slots over at the moment, and our epoch has to stay. */
extern const char cluster_import_later[];
const char *cluster_prepare_import(struct cluster *cluster, const struct node_id *source,
                                   const uint8_t *slots, uint64_t source_epoch, uint64_t *epoch,
                                   uint64_t *ticket);
/* They are ours; all are told when that is durable. */
const char *cluster_take_slots(struct cluster *cluster, const struct node_id *source,
                               const uint8_t *slots, uint64_t *ticket);
/* The claim could not be made durable: they are the source's again in our view. */
void cluster_untake_slots(struct cluster *cluster, const struct node_id *source,
                          const uint8_t *slots);
/* A replica: our primary takes them, with this epoch. */
void cluster_note_taken(struct cluster *cluster, const uint8_t *slots, uint64_t epoch);

/* --- The source ------------------------------------------------------------------------------- */

/* While they are held no claim of another node changes whose these slots are, and our epoch stays.
 * epoch: the target's, with which it will claim them. */
enum cluster_hold {
    CLUSTER_HOLD_DONE,
    CLUSTER_HOLD_NOT_OURS,
    CLUSTER_HOLD_STALE, /* our epoch has been raised since: the target has to prepare once more */
};
enum cluster_hold cluster_hold_slots(struct cluster *cluster, const uint8_t *slots, uint64_t epoch);
void cluster_let_go(struct cluster *cluster, const uint8_t *slots);
/* They are this node's (that of the target's shard which is the primary now), by this epoch. */
void cluster_give_slots(struct cluster *cluster, const struct node_id *target, const uint8_t *slots,
                        uint64_t epoch);
/* They stay ours whatever has been told with epochs up to this one. */
const char *cluster_take_back(struct cluster *cluster, const uint8_t *slots, uint64_t epoch,
                              uint64_t *ticket);

/* How to reach a node, or the primary that has taken its place. */
struct cluster_peer {
    struct node_id id;
    char address[64];
    uint16_t port;
    bool failed;         /* it has, and no other primary of its shard is there */
    bool has_successors; /* somebody of its shard has not failed */
};
/* false: nobody knows it. */
bool cluster_find_peer(struct cluster *cluster, const struct node_id *id,
                       struct cluster_peer *peer);
/* Whether any slot is being moved by SETSLOT. */
bool cluster_has_open_slots(const struct cluster *cluster, bool *importing);

#endif
