/* Apply: runs a piece of a primary's stream on several workers at once, for a replica that is
 * behind.
 *
 * Algorithm. Worker 0 parses commands from the piece until one comes that has to run by itself. It
 * takes the tokens of all their slots, all or none, deals the commands out to shares by slot, and
 * lets the other workers know. Each share is claimed once, by whoever comes first, worker 0
 * included, and its commands run in the order of the stream. When all shares are done worker 0
 * releases the tokens and counts the bytes. So the commands of a slot run in order, those of
 * other slots beside them, and nobody sees anything before all of it has happened: a piece is one
 * step from a state of the primary to a later one. For MULTI and EXEC nothing is left to do, if the
 * whole of the transaction is in the piece.
 *
 * What has to run by itself: commands of several keys or of none, SELECT, MOVE, and all that stops
 * the workers. Nor does a piece begin while somebody listens to changes, who would hear of them in
 * another order, while a slot of it is held, serves nobody, or has somebody who waits for a key.
 *
 * Ordering. What worker 0 wrote about a share is published by its state (release, acquired by the
 * claim), and what was done by its end (release, acquired by worker 0). The numbers of keys that
 * the others have added are handed to worker 0, which publishes all of them at once.
 *
 * Progress. Worker 0 waits for shares that are being run only: one whose helper sleeps or is busy
 * it runs itself. A helper waits for nothing, and passes no command boundary within a share, so a
 * section that is wanted meanwhile begins behind the piece. Reclamation. A late helper finds shares
 * that are done, or those of a later piece, and both are fine: they live as long as the workers. */
#ifndef SLOTWISE_SERVER_APPLY_H
#define SLOTWISE_SERVER_APPLY_H

#include <stdbool.h>
#include <stddef.h>

struct apply;
struct conn;
struct server;

/* So much of the stream is worth a piece, and one is no longer than this. */
#define APPLY_MIN_BYTES ((size_t)8 * 1024)
#define APPLY_MAX_BYTES ((size_t)64 * 1024)

/* NULL: there is only one worker. Worker 0. It stays for as long as the workers run. */
struct apply *apply_create(struct server *server);
/* No worker runs. NULL is fine. */
void apply_destroy(struct apply *apply);

struct apply_result {
    size_t used; /* bytes from the beginning that were applied and counted */
    /* Bytes behind these up to where a piece may begin again: to be run one after the other. Both
     * together are all that there is, unless the piece had no room for more. */
    size_t alone;
    unsigned commands; /* in what was applied */
    const char *error; /* what the first command that failed replied; NULL: none did */
    const struct command *failed;
};

/* Worker 0 at a command boundary, behind exclusive_point: applies what it can of the plain stream
 * at data, whose database the session of conn has selected. count: called for whole units, in
 * order, before anything else can run. */
struct apply_result apply_run(struct apply *apply, struct conn *conn, const char *data,
                              size_t length, void (*count)(const char *data, size_t length));

#endif
