/* Blocked table: who waits for which key of a slot, each key's in the order of arrival, and which
 * of these keys a unit of work has made ready. The commands that wait are blocked.h's business;
 * here they are nodes.
 *
 *   slot ── table: key ── node ── node ── node       one for each key that a command waits for
 *                  key ── node
 *           targets: slots that commands change when they are served, each once
 *
 * Algorithm. A table is there, and its slot marked BLOCKED, while somebody waits. A key stays while
 * it has nodes or is in the list of a unit that has made it ready; who takes the last of these away
 * frees it (blocked_key_free_if_unused).
 *
 * Ordering: everything under the token of the slot, or in an exclusive section, but what says
 * otherwise. Progress: nothing waits. Reclamation: keys are retired, so that who has taken any
 * token of a command may ask whether another of its nodes is linked and ready
 * (blocked_node_is_ready) although it has not the token of that one's slot: it gets `true` for its
 * own unit alone, which has it. */
#ifndef SLOTWISE_SERVER_BLOCKED_TABLE_H
#define SLOTWISE_SERVER_BLOCKED_TABLE_H

#include "engine/change.h"

struct blocked;

/* All that wait for a key. */
struct blocked_key {
    struct blocked_key *next;       /* in the bucket */
    struct blocked_key *next_ready; /* in the list of the change */
    struct blocked_node *first, *last;
    uint64_t hash;
    size_t length;
    unsigned database;
    uint32_t slot;
    struct change *_Atomic ready_in; /* whose list it is in; NULL: none. Read without the token */
    char data[];
};

/* A command waits for a key. key and record do not change while the command waits; of not since the
 * node was linked for the first time. */
struct blocked_node {
    struct blocked *record;
    struct key key; /* its bytes are the record's */
    struct blocked_key *of;
    struct blocked_node *next, *previous;
    _Atomic bool linked; /* read without the token */
};

/* --- Nodes ------------------------------------------------------------------------------------ */

/* Behind all others of its key; false: the last one there is the same record's, which names the key
 * twice. target: the slot that the command changes besides; -1: none. */
bool blocked_node_link(struct slot *slot, struct blocked_node *node, unsigned database, int target);
/* The key stays. */
void blocked_node_unlink(struct slot *slot, struct blocked_node *node, int target);
static inline bool blocked_node_is_linked(const struct blocked_node *node) {
    return atomic_load_explicit(&node->linked, memory_order_acquire);
}

/* --- Keys ------------------------------------------------------------------------------------- */

/* NULL: nobody waits for it. */
struct blocked_key *blocked_key_find(const struct slot *slot, unsigned database,
                                     const struct key *key);
/* Nobody waits for it any more, and no unit is to look at it. */
void blocked_key_free_if_unused(struct slot *slot, struct blocked_key *key);
static inline struct key blocked_key_name(const struct blocked_key *key) {
    return (struct key){key->data, key->length, key->hash, key->slot};
}
/* All of the slot that somebody waits for; visit must not free any. */
void blocked_keys_visit(const struct slot *slot,
                        void (*visit)(void *context, struct blocked_key *key), void *context);
/* In all slots. Any thread. */
uint64_t blocked_keys(void);

/* --- Ready keys ------------------------------------------------------------------------------- */

/* The unit is to serve it, behind those that are to be served already; once. */
void blocked_key_make_ready(struct change *change, struct blocked_key *key);
/* Takes the first one from the list, which it may get into again. NULL: there is none. */
struct blocked_key *blocked_key_take_ready(struct change *change);
/* This unit has made the key of a linked node ready. Any thread that holds one of the record's
 * tokens. */
static inline bool blocked_node_is_ready(const struct blocked_node *node,
                                         const struct change *change) {
    return blocked_node_is_linked(node) &&
           atomic_load_explicit(&node->of->ready_in, memory_order_relaxed) == change;
}

/* --- Targets ---------------------------------------------------------------------------------- */

/* Slots that commands change which wait in this one; each once. targets may be NULL. Returns how
 * many. */
size_t blocked_table_targets(const struct slot *slot, uint16_t *targets);

#endif
