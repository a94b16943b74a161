/* CLUSTER SLOT-STATS, in the form of Redis 8.2: what the slots of this node hold. Of its metrics
 * there is key-count, as there by default: what the commands of a slot cost is not measured. */
#include <stdlib.h>

#include "cluster/slot_map.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_cluster.h"
#include "server/dispatch/redirect.h"

command_handler cmd_cluster_slot_stats;

struct slot_stats {
    unsigned slot;
    uint64_t keys;
};

static void reply_slots(struct call *call, const struct slot_stats *stats, size_t count) {
    reply_array(call->reply, count);
    for (size_t i = 0; i < count; i++) {
        reply_array(call->reply, 2);
        reply_integer(call->reply, stats[i].slot);
        reply_map(call->reply, 1);
        reply_bulk_text(call->reply, "key-count");
        reply_integer(call->reply, (int64_t)stats[i].keys);
    }
}

/* A replica tells of the slots of its primary. */
static bool is_mine(const struct slot_map *map, unsigned slot) {
    unsigned owner = map->owner[slot];
    return owner == SLOT_MAP_MINE || (map->is_replica && map->targets[owner].is_my_primary);
}

static size_t collect(const struct call *call, unsigned first, unsigned last,
                      struct slot_stats *stats) {
    const struct slot_map *map = redirect_map();
    size_t count = 0;
    for (unsigned slot = first; slot <= last; slot++)
        if (is_mine(map, slot))
            stats[count++] = (struct slot_stats){slot, keyspace_slot_count(call->keyspace, slot)};
    return count;
}

static int more_keys_first(const void *a, const void *b) {
    const struct slot_stats *one = a, *other = b;
    if (one->keys != other->keys)
        return one->keys > other->keys ? -1 : 1;
    return (int)one->slot - (int)other->slot;
}

static int fewer_keys_first(const void *a, const void *b) {
    const struct slot_stats *one = a, *other = b;
    if (one->keys != other->keys)
        return one->keys < other->keys ? -1 : 1;
    return (int)one->slot - (int)other->slot;
}

static void by_range(struct call *call, struct slot_stats *stats) {
    unsigned first, last;
    if (!cluster_slot_argument(call, 3, &first) || !cluster_slot_argument(call, 4, &last))
        return;
    if (first > last)
        reply_error_format(call->reply,
                           "ERR Start slot number %u is greater than end slot number %u", first,
                           last);
    else
        reply_slots(call, stats, collect(call, first, last, stats));
}

/* LIMIT and the direction, in any order. false: error replied. */
static bool order_options(struct call *call, int64_t *limit, bool *ascending) {
    *limit = CLUSTER_SLOTS;
    *ascending = false;
    for (int i = 4; i < call->argc; i++) {
        if (argument_is(&call->argv[i], "asc")) {
            *ascending = true;
        } else if (argument_is(&call->argv[i], "desc")) {
            *ascending = false;
        } else if (argument_is(&call->argv[i], "limit") && i + 1 < call->argc) {
            const struct argument *argument = &call->argv[++i];
            if (number_parse_int64(argument->data, argument->length, limit) && *limit >= 1 &&
                *limit <= CLUSTER_SLOTS)
                continue;
            reply_error(call->reply, "ERR Limit has to lie in between 1 and 16384 (maximum number "
                                     "of slots).");
            return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

static void by_order(struct call *call, struct slot_stats *stats) {
    int64_t limit;
    bool ascending;
    if (!argument_is(&call->argv[3], "key-count")) {
        reply_error(call->reply, "ERR Unrecognized sort metric for ORDERBY.");
        return;
    }
    if (!order_options(call, &limit, &ascending))
        return;
    size_t count = collect(call, 0, CLUSTER_SLOTS - 1, stats);
    qsort(stats, count, sizeof *stats, ascending ? fewer_keys_first : more_keys_first);
    reply_slots(call, stats, count < (size_t)limit ? count : (size_t)limit);
}

enum call_result cmd_cluster_slot_stats(struct call *call) {
    if (!cluster_of_call(call))
        return CALL_DONE;
    struct slot_stats *stats = memory_alloc(CLUSTER_SLOTS * sizeof *stats);
    if (call->argc == 5 && argument_is(&call->argv[2], "slotsrange"))
        by_range(call, stats);
    else if (argument_is(&call->argv[2], "orderby"))
        by_order(call, stats);
    else
        call_reply_bad_subcommand(call);
    memory_free(stats);
    return CALL_DONE;
}
