/* What the source of a slot migration does next: every state with every event that its action can
 * end with. */
#include <string.h>

#include <criterion/criterion.h>

#include "cluster/slot_move.h"

static void expect(struct slot_move *move, enum slot_move_event event, enum slot_move_state state,
                   enum slot_move_action action) {
    enum slot_move_state before = move->state;
    enum slot_move_action next = slot_move_on(move, event);
    cr_assert_eq(next, action, "%s, event %d: action %d", slot_move_state_name(before), event,
                 next);
    cr_assert_eq(move->state, state, "%s, event %d: %s", slot_move_state_name(before), event,
                 slot_move_state_name(move->state));
}

/* As far as this state, without a fault. */
static struct slot_move at(enum slot_move_state state) {
    struct slot_move move = {.state = SLOT_MOVE_QUEUED};
    slot_move_on(&move, SLOT_MOVE_BEGUN);
    while (move.state != state)
        slot_move_on(&move, SLOT_MOVE_DONE);
    return move;
}

Test(slot_move, goes_through) {
    struct slot_move move = {.state = SLOT_MOVE_QUEUED};
    expect(&move, SLOT_MOVE_BEGUN, SLOT_MOVE_CONNECTING, SLOT_MOVE_CONNECT);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_COPYING, SLOT_MOVE_COPY);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_CATCHING_UP, SLOT_MOVE_CATCH_UP);
    expect(&move, SLOT_MOVE_AGAIN, SLOT_MOVE_CATCHING_UP, SLOT_MOVE_CATCH_UP);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_FENCED, SLOT_MOVE_FENCE);
    expect(&move, SLOT_MOVE_AGAIN, SLOT_MOVE_CATCHING_UP, SLOT_MOVE_CATCH_UP);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_FENCED, SLOT_MOVE_FENCE);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_GRANTED, SLOT_MOVE_COMMIT);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_SUCCESS, SLOT_MOVE_GIVE);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_SUCCESS, SLOT_MOVE_END);
}

Test(slot_move, gives_up_before_the_grant) {
    for (int state = SLOT_MOVE_CONNECTING; state < SLOT_MOVE_GRANTED; state++)
        for (int event = SLOT_MOVE_LOST; event <= SLOT_MOVE_DEMOTED; event++) {
            struct slot_move move = at((enum slot_move_state)state);
            cr_assert(slot_move_may_cancel(move.state));
            expect(&move, (enum slot_move_event)event, SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
            expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_FAILED, SLOT_MOVE_END);
            move = at((enum slot_move_state)state);
            move.cancelled = true;
            expect(&move, SLOT_MOVE_HALTED, SLOT_MOVE_CANCELLED, SLOT_MOVE_RELEASE);
        }
    struct slot_move queued = {.state = SLOT_MOVE_QUEUED, .cancelled = true};
    expect(&queued, SLOT_MOVE_HALTED, SLOT_MOVE_CANCELLED, SLOT_MOVE_RELEASE);
}

Test(slot_move, asks_until_it_knows) {
    struct slot_move move = at(SLOT_MOVE_GRANTED);
    cr_assert(!slot_move_may_cancel(move.state));
    for (int i = 0; i < 10; i++)
        expect(&move, SLOT_MOVE_LOST, SLOT_MOVE_GRANTED, SLOT_MOVE_RESOLVE);
    expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_SUCCESS, SLOT_MOVE_GIVE);
}

Test(slot_move, takes_back_before_it_serves_again) {
    for (int event = SLOT_MOVE_REFUSED; event <= SLOT_MOVE_GONE; event++) {
        struct slot_move move = at(SLOT_MOVE_GRANTED);
        expect(&move, (enum slot_move_event)event, SLOT_MOVE_TAKING_BACK, SLOT_MOVE_TAKE_BACK);
        expect(&move, SLOT_MOVE_LOST, SLOT_MOVE_TAKING_BACK, SLOT_MOVE_TAKE_BACK);
        expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
        expect(&move, SLOT_MOVE_DONE, SLOT_MOVE_FAILED, SLOT_MOVE_END);
    }
    struct slot_move move = at(SLOT_MOVE_GRANTED);
    expect(&move, SLOT_MOVE_DEMOTED, SLOT_MOVE_FAILED, SLOT_MOVE_RELEASE);
}

Test(slot_move, rounds_end) {
    struct slot_move move = at(SLOT_MOVE_CATCHING_UP);
    unsigned rounds = 0;
    while (slot_move_on(&move, SLOT_MOVE_AGAIN) == SLOT_MOVE_CATCH_UP)
        rounds++;
    cr_assert_eq(rounds, SLOT_MOVE_ROUNDS_MAX - 1);
    cr_assert_eq(move.state, SLOT_MOVE_FAILED);
}

Test(slot_move, patience_grows_with_the_rounds) {
    struct slot_move move = {.rounds = 1};
    cr_assert(slot_move_is_small(&move, SLOT_MOVE_LAST_KEYS, SLOT_MOVE_LAST_BYTES));
    cr_assert(!slot_move_is_small(&move, SLOT_MOVE_LAST_KEYS + 1, 0));
    cr_assert(!slot_move_is_small(&move, 0, SLOT_MOVE_LAST_BYTES + 1));
    move.rounds = SLOT_MOVE_PATIENT_ROUNDS;
    cr_assert(slot_move_is_small(&move, SLOT_MOVE_LAST_KEYS * 2, SLOT_MOVE_LAST_BYTES * 2));
    cr_assert(!slot_move_is_small(&move, SLOT_MOVE_LAST_KEYS * 2 + 1, 0));
    move.rounds = SLOT_MOVE_ROUNDS_MAX;
    cr_assert(!slot_move_is_small(&move, UINT64_MAX, 0));
}
