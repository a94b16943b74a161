/* See voters.h. */
#include "cluster/voters.h"

/* The sum does not depend on the order. Of too many it is 0: there are no leases. */
uint64_t voters_hash(const struct cluster *cluster) {
    uint64_t sum = 0;
    unsigned voters = 0;
    for (unsigned i = 0; i < cluster->node_count; i++) {
        uint64_t hash = 0xcbf29ce484222325u;
        if (!voters_include(cluster->nodes[i]))
            continue;
        if (++voters > CLUSTER_LEASE_VOTERS)
            return 0;
        for (unsigned at = 0; at < WIRE_ID_LENGTH; at++)
            hash = (hash ^ (uint8_t)cluster->nodes[i]->id.hex[at]) * 0x100000001b3u;
        sum += hash;
    }
    return sum;
}
