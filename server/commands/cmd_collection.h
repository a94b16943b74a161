/* What the handlers of lists, sets, hashes and sorted sets share. Called from handlers only, with
 * the tokens that call->tokens speaks of. */
#ifndef SLOTWISE_SERVER_CMD_COLLECTION_H
#define SLOTWISE_SERVER_CMD_COLLECTION_H

#include "engine/types/collection.h"
#include "server/commands/cmd_data.h"

/* What a lookup for one type has found. */
enum collection_found {
    COLLECTION_ABSENT,
    COLLECTION_THERE,
    COLLECTION_WRONG_TYPE,  /* the error is replied: return CALL_DONE */
    COLLECTION_NEEDS_TOKEN, /* return CALL_NEED_TOKENS */
};

/* For a command that reads argv[index]. */
enum collection_found collection_read(struct call *call, int index, enum object_type type,
                                      struct object **object);
/* For one that writes: an expired one is deleted first. Never NEEDS_TOKEN. */
enum collection_found collection_write(struct call *call, int index, enum object_type type,
                                       struct object **object);

/* An element as a bulk string. */
void reply_element(struct reply *reply, const struct element *element);

/* The rest of SCAN's options for HSCAN, SSCAN and ZSCAN: argv[2] is the cursor. */
struct scan_options {
    uint64_t cursor;
    uint64_t count;
    const char *pattern; /* NULL: all */
    size_t pattern_length;
};
/* false: the error is replied. */
bool scan_options_read(struct call *call, struct scan_options *options);
bool scan_matches(const struct scan_options *options, const struct element *element);

/* HSCAN and SSCAN: all of it. scan: hash_scan and its kind. */
enum call_result scan_collection(struct call *call, enum object_type type,
                                 uint64_t (*scan)(const struct object *object, uint64_t cursor,
                                                  uint64_t count, collection_visit *visit,
                                                  void *context));

#endif
