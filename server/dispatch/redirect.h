/* Redirect: which commands this node of a cluster answers, and where it sends the others.
 *
 * The slot map (cluster/slot_map.h) says who owns each slot. Without a cluster there is none, and a
 * command pays one test for that.
 *
 * Algorithm. Before tokens a command is looked up in the map of the moment: all of its keys in one
 * slot, which is ours, or -CROSSSLOT, -MOVED, -CLUSTERDOWN. What passed for a slot that is being
 * moved (open) takes the token and looks for its keys: -ASK and -TRYAGAIN are exact. Who has taken
 * tokens looks once more whether the map is still that by which it passed, and else begins anew: so
 * a write never begins in a slot after this node has published that it is another's. A map that is
 * published in an exclusive section holds from that section on for everybody.
 *
 * Ordering: the map is published by release and read by acquire. Progress: nothing waits.
 * Reclamation: who publishes frees the one before after a grace period; a worker uses it until its
 * next command boundary. */
#ifndef SLOTWISE_SERVER_REDIRECT_H
#define SLOTWISE_SERVER_REDIRECT_H

#include <stdatomic.h>

#include "server/dispatch/execution.h"

/* Written by redirect_publish only. */
struct redirect_state {
    _Alignas(64) struct slot_map *_Atomic map;
};
extern struct redirect_state redirect_state;

/* NULL: no cluster. */
static inline const struct slot_map *redirect_map(void) {
    return atomic_load_explicit(&redirect_state.map, memory_order_acquire);
}
/* Any thread, one at a time. Returns the one before, to be freed after a grace period. */
struct slot_map *redirect_publish(struct slot_map *map);

/* There is a map. false: the error is replied. flags: of all that will run. Sets execution->map and
 * execution->open_slot, and the mark of lease_gate.h for what writes keys. first: the command has
 * not been looked at before (it has not waited). */
bool redirect_check(struct execution *execution, const struct slot_map *map, struct call *call,
                    uint32_t flags, bool first);
/* With the token of execution->open_slot, or all stopped: false: the error is replied. */
bool redirect_check_open(struct execution *execution, struct call *call);

/* Whether subscribers to a shard's channels of this slot may stay here. At a command boundary. */
bool redirect_keeps_channels(uint32_t slot);

/* Whether commands that wait for keys of this slot may go on. At a command boundary. */
bool redirect_keeps_blocked(uint32_t slot);

/* Under tokens: whether the map by which the command has passed has been replaced. */
static inline bool redirect_is_stale(const struct execution *execution) {
    return UNLIKELY(execution->map != NULL) && execution->map != redirect_map();
}

#endif
