/* Place: what the data of a server are a state of, and whether a stream may go on from it. The
 * rules that the roles of a server follow when something happens to them, as a table of pure
 * functions: the links act on what they return. In exclusive sections, or before threads exist.
 *
 * The history (history.h) names the stream and the offset up to which the data have it. May the
 * stream of a primary go on from there? Only while nobody else has written, and nothing of it is
 * missing.
 *
 *   what happens                        history               may continue  own replicas, backlog
 *   place_lost       the connection     stays                 if intact     stay
 *   place_demoted    it gets a primary  stays                 yes           stay
 *   place_continued  +CONTINUE          stays, or the id      as it was     stay, or are
 *                                       becomes the second                  dropped, stays
 *   place_connected  the stream goes on stays                 no longer     stay
 *   place_flushed    the old data go    stays                 no            are dropped, goes
 *   place_loaded     and others come    the primary's         yes           are gone
 *   place_emptied    and none come      another id            no            are gone
 *   place_promoted   REPLICAOF NO ONE   the id becomes the    no            are dropped, stays
 *                                       second, another id
 *   place_restored   from a file        the file's            yes           there are none
 *   place_resumed    the same, but it is another id, the      no            there are none
 *                    a primary           file's is the second
 *   place_unlogged   a primary begins   another id, no        no            there are none
 *                    a backlog, or has  second
 *                    lost the last one
 *
 * place_unlogged: what a primary writes without a backlog is in no stream, so whoever has the id it
 * had then, or the second one, lacks it. */
#ifndef SLOTWISE_REPLICATION_PLACE_H
#define SLOTWISE_REPLICATION_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "replication/history.h"

struct place {
    bool may_continue; /* while no connection to a primary is up */
    unsigned database; /* that the stream has selected there */
};

/* What is to be done to a server's own replicas, who have to ask anew. */
enum place_effect {
    PLACE_DROP_REPLICAS = 1,
    PLACE_DROP_BACKLOG = 2, /* their history has ended as well */
};

/* intact: what was applied is what the primary sent. */
void place_lost(struct place *place, unsigned database, bool intact);
void place_demoted(struct place *place);
void place_connected(struct place *place);
/* The following return enum place_effect. id: as the primary has told it. */
unsigned place_continued(struct place *place, struct history *history, const char *id);
unsigned place_flushed(struct place *place);
unsigned place_promoted(struct place *place, struct history *history);

void place_loaded(struct place *place, struct history *history, const char *id, uint64_t offset,
                  unsigned database);
void place_emptied(struct place *place, struct history *history);
void place_restored(struct place *place, struct history *history, const char *id, uint64_t offset,
                    unsigned database);
void place_resumed(struct history *history, const char *id, uint64_t offset);
void place_unlogged(struct history *history);

/* Whether a backlog that nobody has read for so long is to go: repl-backlog-ttl, 0: never. */
static inline bool place_backlog_expired(uint64_t unused_ms, int64_t ttl_s) {
    return ttl_s > 0 && unused_ms > (uint64_t)ttl_s * 1000;
}

#endif
