/* See pause_watch.h.
 *
 * Why that is soon enough. A packet that says "paused" was sent after the failover had begun, so
 * the first of them has been on its way for FIRST_MS at most. The primary says so ten times a
 * second; whoever hears nothing for SILENCE_MS gives up, also when what was sent comes later, all
 * at once. A primary that was killed serves nobody for 2 s after its start, which is longer than
 * the two together. */
#include "cluster/pause_watch.h"

#include "cluster/handover.h"

#define FIRST_MS   1000
#define SILENCE_MS 800

static void give_up(struct cluster *cluster, const char *why) {
    cluster_log(cluster, CLUSTER_LOG_WARNING, "Manual failover given up: %s.", why);
    handover_reset(cluster);
}

static bool is_silent(const struct cluster *cluster) {
    const struct cluster_manual *manual = &cluster->manual;
    return manual->paused_ms != 0 &&
           cluster_age(cluster_now(cluster), manual->paused_ms) > SILENCE_MS;
}

static void take_first(struct cluster *cluster, uint64_t offset) {
    struct cluster_manual *manual = &cluster->manual;
    uint64_t now_ms = cluster_now(cluster);
    if (cluster_age(now_ms, manual->until_ms - CLUSTER_MANUAL_MS) > FIRST_MS) {
        give_up(cluster, "the master has told too late that it is paused");
        return;
    }
    manual->paused_ms = now_ms;
    handover_take_offset(cluster, offset);
}

void pause_watch_packet(struct cluster *cluster, const struct cluster_link *link,
                        const struct wire_header *header) {
    struct cluster_manual *manual = &cluster->manual;
    bool paused = header->message_flags[0] & WIRE_FLAG_PAUSED;
    bool forced = manual->may_start && manual->paused_ms == 0; /* whatever the primary does */
    if (manual->until_ms == 0 || forced)
        return;
    if (is_silent(cluster))
        give_up(cluster, "the master has not told for too long that it is paused");
    else if (paused && manual->paused_ms == 0)
        take_first(cluster, header->offset);
    else if (paused)
        manual->paused_ms = cluster_now(cluster);
    else if (manual->paused_ms != 0 && link->created_ms > manual->paused_ms)
        give_up(cluster, "the master is not paused any more"); /* older links may be behind */
}

void pause_watch_turn(struct cluster *cluster) {
    if (is_silent(cluster))
        give_up(cluster, "the master has not told for too long that it is paused");
}
