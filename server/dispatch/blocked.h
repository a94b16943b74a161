/* Blocked: commands that wait until a key appears (BLPOP and its kind), and how they are served.
 *
 * A command that finds nothing registers one record with a node for each of its keys, in the
 * blocked tables of their slots, and ends as unfinished (session.h). Its record goes
 *
 *                  blocked_serve        blocked_publish
 *     WAITING ------------> CLAIMED ------------------+
 *        |     its time is over (the owner)           v
 *        +----------------> TIMED_OUT -----------> done: the owner's connection is resumed, and the
 *        |     CLIENT UNBLOCK, another role           ^   command ends by dispatch/unblock.c
 *        +----------------> UNBLOCKED ----------------+
 *        |     its slot is another node's             |
 *        +----------------> AGAIN --------------------+   the command runs once more, from its
 * start |     its connection ends
 *        +----------------> GONE
 *
 * Algorithm. Each arrow out of WAITING is one compare-and-swap, so of all that want to end a wait
 * (pushers in several slots, the timer, CLIENT UNBLOCK, the connection) exactly one does, and an
 * element is popped for nobody who does not get it. Who changes a key that is there hears of it
 * (change.h: appeared) if the slot's BLOCKED bit is set; what it hears of is a list in its change.
 * After the command, or the last one of an EXEC, and before any of its tokens is released, it
 * serves these keys in that order: each first come, first served, as long as the key is there and
 * of the type that is waited for. To serve is to run the waiter's command, with that key only, for
 * its owner: what it replies is kept in the record, and what it changes is an entry of the log
 * behind that of the pusher. Nobody here sees the element in between. A waiter of several keys is
 * served with the first of them, in its own order, among those that are ready.
 *
 * A command that changes another key too (BLMOVE) names it as its target. Whoever takes the token
 * of a slot where such a waiter is takes those of all targets as well, and of what is waited for
 * there, before it begins (blocked_targets): the whole chain is served in one unit.
 *
 * Dead nodes (of records that do not wait any more) are skipped, and unlinked by the owner, who
 * takes the tokens for that, or by who serves the key before. The owner frees the record when no
 * node is linked.
 *
 * Ordering: tables and nodes under the token of the slot (or in an exclusive section). The reply
 * and the other results are written before `done`, which is set and read under the queue's lock.
 * linked: counted down by release, read by acquire. Progress: nothing waits; the owner parks for
 * tokens as any command. Reclamation: users counts the owner and who has claimed; the last frees.
 */
#ifndef SLOTWISE_SERVER_BLOCKED_H
#define SLOTWISE_SERVER_BLOCKED_H

#include "engine/waiter.h"
#include "server/dispatch/command.h"
#include "server/dispatch/timeouts.h"

struct blocked;
struct session;
struct unfinished;

/* Those of one thread that wait; by that thread, or in an exclusive section. */
struct blocked_list {
    struct blocked *first;
    struct timeouts timeouts; /* of those that do not wait for ever */
    _Atomic unsigned count;   /* read by others, relaxed */
};

/* What a command waits for; indexes into its arguments. */
struct blocked_request {
    enum object_type type;
    int first_key, key_count;
    int number_index;  /* of the number of keys; 0: none */
    int target_index;  /* of a further key that it changes; 0: none */
    uint64_t until_us; /* monotonic; UINT64_MAX: for ever */
};

/* How a wait has ended, when the command runs again. */
enum blocked_end { BLOCKED_SERVED, BLOCKED_TIMED_OUT, BLOCKED_BY_ERROR, BLOCKED_AGAIN };

/* Once, before threads exist. */
void blocked_init(struct door *door);

/* In a handler, with the tokens of all keys: the command waits. Never within EXEC. The handler
 * returns the result. */
enum call_result blocked_begin(struct call *call, const struct blocked_request *request);
/* The command has become unfinished: its record is in this list from now on. Other unfinished
 * commands: nothing happens. */
void blocked_enlist(struct blocked_list *list, struct unfinished *unfinished);
bool blocked_is(const struct unfinished *unfinished);

/* --- By who changes keys ---------------------------------------------------------------------- */

/* Something has appeared for which somebody waits: serves, commits and lets the owners know.
 * Instead of call_commit, before any token is released; the unit's commands are done (call_done).
 */
void blocked_serve(struct call *call);
/* A database has been exchanged as a whole (exclusive section): what is there now has appeared. */
void blocked_look(struct call *call, unsigned database);
/* The slots of the targets of all that wait in these slots, whose tokens are held; the same one
 * several times, perhaps. NULL: how many there are at most. Returns how many. */
size_t blocked_targets(const struct keyspace *keyspace, const uint16_t *slots, size_t n,
                       uint16_t *targets);

/* --- By the owner ----------------------------------------------------------------------------- */

/* Those whose time is over. */
void blocked_time(struct blocked_list *list, uint64_t now_us);
size_t blocked_key_count(const struct unfinished *unfinished);
/* Slots of its nodes that are still linked into slots, which has room for all its keys; returns how
 * many. 0: none is. */
size_t blocked_slots(const struct unfinished *unfinished, uint16_t *slots);
/* With their tokens: none is linked afterwards. */
void blocked_unlink(struct keyspace *keyspace, struct unfinished *unfinished);
/* The wait is over: how, and the reply (BLOCKED_SERVED, BLOCKED_BY_ERROR). */
enum blocked_end blocked_result(struct unfinished *unfinished, struct session *session,
                                struct reply *reply, bool *close);
/* Those that a node of a cluster does not answer any more run again, to be redirected. */
void blocked_check_slots(struct blocked_list *list, bool (*is_kept)(uint32_t slot));

/* --- By others, in an exclusive section ---------------------------------------------------------
 */

/* All of them, with this error; their connections close behind it. */
void blocked_end_all(struct blocked_list *list, const char *error);

void blocked_list_destroy(struct blocked_list *list);

#endif
