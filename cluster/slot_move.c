/* See slot_move.h. */
#include "cluster/slot_move.h"

#include "engine/assert.h"

const char *slot_move_state_name(enum slot_move_state state) {
    static const char *const names[SLOT_MOVE_STATES] = {
        [SLOT_MOVE_QUEUED] = "waiting",          [SLOT_MOVE_CONNECTING] = "connecting",
        [SLOT_MOVE_COPYING] = "snapshotting",    [SLOT_MOVE_CATCHING_UP] = "replicating",
        [SLOT_MOVE_FENCED] = "failover-paused",  [SLOT_MOVE_GRANTED] = "failover-granted",
        [SLOT_MOVE_TAKING_BACK] = "taking-back", [SLOT_MOVE_SUCCESS] = "success",
        [SLOT_MOVE_CANCELLED] = "cancelled",     [SLOT_MOVE_FAILED] = "failed",
    };
    ASSERT(state < SLOT_MOVE_STATES);
    return names[state];
}

static enum slot_move_action enter(struct slot_move *move, enum slot_move_state state,
                                   enum slot_move_action action) {
    move->state = state;
    return action;
}

/* Before the grant the source has lost nothing. */
static enum slot_move_action give_up(struct slot_move *move, enum slot_move_event event) {
    bool cancelled = event == SLOT_MOVE_HALTED && move->cancelled;
    return enter(move, cancelled ? SLOT_MOVE_CANCELLED : SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
}

static enum slot_move_action catch_up(struct slot_move *move) {
    if (++move->rounds > SLOT_MOVE_ROUNDS_MAX) /* writes come faster than they can be sent */
        return give_up(move, SLOT_MOVE_LOST);
    return enter(move, SLOT_MOVE_CATCHING_UP, SLOT_MOVE_CATCH_UP);
}

static enum slot_move_action before_grant(struct slot_move *move, enum slot_move_event event) {
    if (event == SLOT_MOVE_AGAIN) {
        ASSERT(move->state == SLOT_MOVE_CATCHING_UP || move->state == SLOT_MOVE_FENCED);
        return catch_up(move);
    }
    if (event != SLOT_MOVE_DONE)
        return give_up(move, event);
    switch (move->state) {
    case SLOT_MOVE_CONNECTING:
        return enter(move, SLOT_MOVE_COPYING, SLOT_MOVE_COPY);
    case SLOT_MOVE_COPYING:
        return catch_up(move);
    case SLOT_MOVE_CATCHING_UP:
        return enter(move, SLOT_MOVE_FENCED, SLOT_MOVE_FENCE);
    default:
        ASSERT(move->state == SLOT_MOVE_FENCED);
        return enter(move, SLOT_MOVE_GRANTED, SLOT_MOVE_COMMIT);
    }
}

static enum slot_move_action after_grant(struct slot_move *move, enum slot_move_event event) {
    switch (event) {
    case SLOT_MOVE_DONE:
        return enter(move, SLOT_MOVE_SUCCESS, SLOT_MOVE_GIVE);
    case SLOT_MOVE_LOST:
        return SLOT_MOVE_RESOLVE;
    case SLOT_MOVE_REFUSED:
    case SLOT_MOVE_GONE:
        return enter(move, SLOT_MOVE_TAKING_BACK, SLOT_MOVE_TAKE_BACK);
    default:
        ASSERT(event == SLOT_MOVE_DEMOTED);
        return enter(move, SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
    }
}

enum slot_move_action slot_move_on(struct slot_move *move, enum slot_move_event event) {
    switch (move->state) {
    case SLOT_MOVE_QUEUED:
        if (event != SLOT_MOVE_BEGUN)
            return give_up(move, event);
        return enter(move, SLOT_MOVE_CONNECTING, SLOT_MOVE_CONNECT);
    case SLOT_MOVE_GRANTED:
        return after_grant(move, event);
    case SLOT_MOVE_TAKING_BACK:
        if (event == SLOT_MOVE_LOST) /* the disk is full: once more */
            return SLOT_MOVE_TAKE_BACK;
        return enter(move, SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
    case SLOT_MOVE_SUCCESS:
    case SLOT_MOVE_CANCELLED:
    case SLOT_MOVE_FAILED:
        return SLOT_MOVE_END;
    default:
        return before_grant(move, event);
    }
}

bool slot_move_is_small(const struct slot_move *move, uint64_t keys, uint64_t bytes) {
    unsigned doublings = move->rounds / SLOT_MOVE_PATIENT_ROUNDS;
    if (doublings > SLOT_MOVE_DOUBLINGS_MAX)
        doublings = SLOT_MOVE_DOUBLINGS_MAX;
    return keys <= (uint64_t)SLOT_MOVE_LAST_KEYS << doublings && bytes <= SLOT_MOVE_LAST_BYTES
                                                                              << doublings;
}
