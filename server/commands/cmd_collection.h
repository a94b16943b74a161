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

/* --- Commands of one collection, argv[1] ------------------------------------------------------
 *
 * Inline, so that each command calls its type's function directly. */

/* Replies what a command has found out about an argument; object is NULL if there is nothing. */
typedef void collection_answer(struct call *call, const struct object *object,
                               const struct argument *argument);

/* One that asks about argv[2], or about no argument; found: as the lookup says. */
static inline enum call_result collection_answer_one(struct call *call, enum collection_found found,
                                                     const struct object *object,
                                                     collection_answer *answer) {
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found != COLLECTION_WRONG_TYPE)
        answer(call, object, &call->argv[2]);
    return CALL_DONE;
}

/* One that asks about each of argv[2..]: an array of answers. */
static inline enum call_result collection_answer_each(struct call *call,
                                                      enum collection_found found,
                                                      const struct object *object,
                                                      collection_answer *answer) {
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    reply_array(call->reply, (size_t)call->argc - 2);
    for (int i = 2; i < call->argc; i++)
        answer(call, object, &call->argv[i]);
    return CALL_DONE;
}

/* The same with the lookup. */
static inline enum call_result collection_ask(struct call *call, enum object_type type,
                                              collection_answer *answer) {
    struct object *object;
    enum collection_found found = collection_read(call, 1, type, &object);
    return collection_answer_one(call, found, object, answer);
}

static inline enum call_result collection_ask_each(struct call *call, enum object_type type,
                                                   collection_answer *answer) {
    struct object *object;
    enum collection_found found = collection_read(call, 1, type, &object);
    return collection_answer_each(call, found, object, answer);
}

/* HDEL, SREM, ZREM: takes argv[2..] out, and replies how many of these there were. */
static inline enum call_result
collection_remove(struct call *call, enum object_type type, enum change_event event,
                  bool (*remove)(struct collection_edit *edit, const char *data, size_t length)) {
    struct collection_edit edit;
    struct object *object;
    int64_t removed = 0;
    enum collection_found found = collection_write(call, 1, type, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_THERE) {
        collection_edit_begin(&edit, call->change, call->database, &call->key, object, type,
                              object_encoding(object));
        for (int i = 2; i < call->argc && (removed == 0 || edit.count > 0); i++)
            removed += remove(&edit, call->argv[i].data, call->argv[i].length);
        collection_edit_end(&edit, event);
    }
    reply_integer(call->reply, removed);
    return CALL_DONE;
}

/* An element as a bulk string. A large one is lent, not copied: under the token, as everything that
 * lies in a body. */
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

/* HSCAN and SSCAN: all of it. scan: hash_scan and its kind. is_hidden is asked about members of an
 * object with object_has_field_times: such are passed over. */
enum call_result scan_collection(struct call *call, enum object_type type,
                                 uint64_t (*scan)(const struct object *object, uint64_t cursor,
                                                  uint64_t count, collection_visit *visit,
                                                  void *context),
                                 bool (*is_hidden)(struct call *call, const struct object *object,
                                                   const char *member, size_t length));

#endif
