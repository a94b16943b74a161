/* MEMORY: what keys and the process take.
 *
 * Run by: any worker. MEMORY USAGE also without the token, except for values that only the token
 * protects. */
#include <stdio.h>

#include "engine/memory.h"
#include "server/cmd_data.h"

#if defined(SLOTWISE_JEMALLOC)
#include <jemalloc/jemalloc.h>
#endif

/* A key's share of its table: an entry of a bucket that is 5 of 7 full. */
#define TABLE_SHARE_BYTES 13

static bool usage_options_parse(struct call *call) {
    for (int i = 3; i < call->argc; i += 2) {
        int64_t samples;
        if (!argument_is(&call->argv[i], "samples") || i + 1 == call->argc)
            goto error;
        if (!argument_integer(call, i + 1, &samples))
            return false;
        if (samples < 0)
            goto error;
    }
    return true;
error:
    reply_error(call->reply, ERROR_SYNTAX);
    return false;
}

enum call_result cmd_memory_usage(struct call *call) {
    if (!usage_options_parse(call))
        return CALL_DONE;
    /* An expired key takes memory as long as it is there. */
    struct object *object = keyspace_find_raw(call->keyspace, call->database, &call->key);
    if (!object) {
        reply_null(call->reply);
        return CALL_DONE;
    }
    if (data_is_protected(call, object))
        return CALL_NEED_TOKENS;
    reply_integer(call->reply, (int64_t)object_total_bytes(object) + TABLE_SHARE_BYTES);
    return CALL_DONE;
}

enum call_result cmd_memory_help(struct call *call) {
    static const char *const lines[] = {
        "DOCTOR",
        "    Return memory problems reports.",
        "MALLOC-STATS",
        "    Return internal statistics report from the memory allocator.",
        "PURGE",
        "    Attempt to purge dirty pages for reclamation by the allocator.",
        "STATS",
        "    Return information about the memory usage of the server.",
        "USAGE <key> [SAMPLES <count>]",
        "    Return memory in bytes used by <key> and its value. Nested values are",
        "    sampled up to <count> times (default: 5, 0 means sample all).",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}

enum call_result cmd_memory_purge(struct call *call) {
#if defined(SLOTWISE_JEMALLOC)
    char purge[32];
    snprintf(purge, sizeof purge, "arena.%d.purge", MALLCTL_ARENAS_ALL);
    if (mallctl(purge, NULL, NULL, NULL, 0) != 0) {
        reply_error(call->reply, "ERR Error purging dirty pages");
        return CALL_DONE;
    }
#endif
    reply_ok(call->reply);
    return CALL_DONE;
}
