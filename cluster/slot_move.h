/* Slot move: what the source of a slot migration does next (CLUSTER MIGRATESLOTS). Pure decisions:
 * each action is done by the caller, who tells how it ended and gets the next one.
 *
 * What is at stake: at every moment exactly one node serves each of the slots, and it has all that
 * was acknowledged. The target gathers the data outside of its keyspace, so until it has taken the
 * slots it has nothing to undo, and the source loses nothing by giving up.
 *
 *   QUEUED
 *      |
 *   CONNECTING ----------------------------+
 *      | the target accepts the slots      |
 *   COPYING -------------------------------+
 *      | all keys once                     | lost, refused, cancelled, flushed, demoted:
 *   CATCHING_UP <------------+ ------------+
 *      | little is left, and | too much    |
 *      | the target prepared | has changed |
 *   FENCED ------------------+ ------------+---> FAILED, CANCELLED
 *      | COMMIT may have been read               (serve as if nothing had been)
 *   GRANTED <---+
 *      |   |    | no answer: ask it, or who has taken its place
 *      |   +----+
 *      |   |
 *      |   | refused, not known there (and so it never will be), or nobody left to ask
 *      |   +---> TAKING_BACK (an epoch above E, on the disk, told to all) ---> FAILED
 *      | committed
 *   SUCCESS (clients get MOVED, the copies are deleted)
 *
 * Prepared: the target's replicas have all that it has, and it has told the epoch E with which it
 * will claim the slots, which is on its disk. In GRANTED the target decides; it claims the slots
 * only when its replicas have taken them over as well and the claim is on its disk.
 *
 * From FENCED to its end nobody is served by the source. After COMMIT may have been read it never
 * serves the slots again under its old epoch: a target that was cut off and comes back with a claim
 * of epoch E finds a newer one. A change of the role ends it at once: whoever is the primary then
 * has the data, and the epoch of an election. */
#ifndef SLOTWISE_CLUSTER_SLOT_MOVE_H
#define SLOTWISE_CLUSTER_SLOT_MOVE_H

#include <stdbool.h>
#include <stdint.h>

enum slot_move_state {
    SLOT_MOVE_QUEUED,
    SLOT_MOVE_CONNECTING,
    SLOT_MOVE_COPYING,
    SLOT_MOVE_CATCHING_UP,
    SLOT_MOVE_FENCED,
    SLOT_MOVE_GRANTED,
    SLOT_MOVE_TAKING_BACK,
    SLOT_MOVE_SUCCESS,
    SLOT_MOVE_CANCELLED,
    SLOT_MOVE_FAILED,
    SLOT_MOVE_STATES
};

/* How the last action ended. */
enum slot_move_event {
    SLOT_MOVE_BEGUN,   /* its turn has come */
    SLOT_MOVE_DONE,    /* as it should */
    SLOT_MOVE_AGAIN,   /* CATCH_UP, FENCE: too much has changed for a short pause; nothing was
                          fenced */
    SLOT_MOVE_LOST,    /* the link is gone, or no answer came in time */
    SLOT_MOVE_REFUSED, /* the target says that it will not, or does not know of it */
    SLOT_MOVE_GONE,    /* RESOLVE: the target has failed, and nobody can take its place */
    SLOT_MOVE_HALTED,  /* CANCEL, or the data were flushed; only before the grant */
    SLOT_MOVE_DEMOTED, /* this node is no primary any more, or the process ends */
};

/* What to do next. */
enum slot_move_action {
    SLOT_MOVE_CONNECT,   /* and have the target accept the slots */
    SLOT_MOVE_COPY,      /* all keys once */
    SLOT_MOVE_CATCH_UP,  /* what has changed since, and have the target prepared */
    SLOT_MOVE_FENCE,     /* stop serving, send the rest; what is HALTED or REFUSED serves again */
    SLOT_MOVE_COMMIT,    /* send it; from its first byte on the outcome is the target's */
    SLOT_MOVE_RESOLVE,   /* ask how it ended, after a moment */
    SLOT_MOVE_GIVE,      /* the slots are the target's: tell clients, delete the copies */
    SLOT_MOVE_TAKE_BACK, /* raise the epoch, durably, then serve again */
    SLOT_MOVE_RELEASE,   /* serve again, if it was fenced, and close the link */
    SLOT_MOVE_END,       /* nothing: it is over */
};

struct slot_move {
    enum slot_move_state state;
    unsigned rounds; /* of catching up */
    bool cancelled;  /* HALTED by the operator */
};

/* The action after this event. state is what it is during that action. An event that the last
 * action cannot end with is a fault of the caller. */
enum slot_move_action slot_move_on(struct slot_move *move, enum slot_move_event event);

static inline bool slot_move_is_over(enum slot_move_state state) {
    return state >= SLOT_MOVE_SUCCESS;
}
/* Whether CANCEL can still end it. */
static inline bool slot_move_may_cancel(enum slot_move_state state) {
    return state < SLOT_MOVE_GRANTED;
}
/* As CLUSTER GETSLOTMIGRATIONS names it. */
const char *slot_move_state_name(enum slot_move_state state);

/* --- Rounds ----------------------------------------------------------------------------------- */

/* So much may be sent while the slots serve nobody: at first; twice of it after each so many rounds
 * in which there was more, up to a bound. Who writes without end gets a longer pause rather than a
 * migration that never ends. */
#define SLOT_MOVE_LAST_KEYS      256
#define SLOT_MOVE_LAST_BYTES     ((uint64_t)256 * 1024)
#define SLOT_MOVE_PATIENT_ROUNDS 32
#define SLOT_MOVE_DOUBLINGS_MAX  8
#define SLOT_MOVE_ROUNDS_MAX     400

/* Whether the rest may be sent in the pause. keys have changed; bytes: an estimate. */
bool slot_move_is_small(const struct slot_move *move, uint64_t keys, uint64_t bytes);

#endif
