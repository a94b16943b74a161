/* Keys whatever their type: DEL, UNLINK, EXISTS, TYPE, TOUCH, RENAME(NX), COPY, MOVE, OBJECT.
 *
 * Run by: any worker; EXISTS, TYPE, TOUCH and OBJECT also without tokens: they look at the object's
 * header, never at a value that only the token protects. */
#include "server/commands/cmd_data.h"
#include "server/config/config.h"

/* --- DEL, EXISTS, TYPE, TOUCH ----------------------------------------------------------------- */

/* DEL and UNLINK are the same here: what is large is always freed in the background. */
enum call_result cmd_del(struct call *call) {
    int64_t deleted = 0;
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        /* An expired key goes too, but as one that expired. */
        if (keyspace_find_write(call->change, call->database, &key))
            deleted += keyspace_delete(call->change, call->database, &key, CHANGE_DEL);
    }
    reply_integer(call->reply, deleted);
    return CALL_DONE;
}

enum call_result cmd_unlink(struct call *call) {
    return cmd_del(call);
}

enum call_result cmd_exists(struct call *call) {
    int64_t count = 0;
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        count += call_find_read_untouched(call, &key) != NULL;
    }
    reply_integer(call->reply, count);
    return CALL_DONE;
}

enum call_result cmd_type(struct call *call) {
    struct object *object = call_find_read_untouched(call, &call->key);
    reply_status(call->reply, object ? type_of(object)->name : "none");
    return CALL_DONE;
}

enum call_result cmd_touch(struct call *call) {
    int64_t count = 0;
    for (int i = 1; i < call->argc; i++) {
        struct key key = call_key(call, i);
        struct object *object = call_find_read(call, &key);
        if (!object)
            continue;
        count++;
        /* Without a policy that wants them accesses are not noted; this one is asked for. */
        if (!call->keyspace->access.tracked)
            atomic_store_explicit(&object->access, access_initial(&call->keyspace->access),
                                  memory_order_relaxed);
    }
    reply_integer(call->reply, count);
    return CALL_DONE;
}

/* --- RENAME, COPY, MOVE ----------------------------------------------------------------------- */

/* A key in a database: the source or target of a move. */
struct place {
    unsigned database;
    struct key key;
    struct object *object; /* what is there, NULL if nothing */
};

static struct place place_find(struct call *call, unsigned database, int index) {
    struct place place = {database, call_key(call, index), NULL};
    place.object = keyspace_find_write(call->change, database, &place.key);
    return place;
}

static void place_put(struct call *call, const struct place *target, struct object *object,
                      enum change_event event) {
    /* A key that appears starts a new life for LRU and LFU. */
    atomic_store_explicit(&object->access, 0, memory_order_relaxed);
    if (target->object)
        keyspace_replace(call->change, target->database, &target->key, target->object, object,
                         event);
    else
        keyspace_add(call->change, target->database, &target->key, object, event);
}

/* The object in source becomes the object in target, with its expiry. Published objects are never
 * changed, so it gets a new shell; a value behind a pointer moves over. */
static void place_move(struct call *call, const struct place *source, const struct place *target,
                       enum change_event from, enum change_event to) {
    const struct key *key = &target->key;
    struct object *moved =
        object_remake(source->object, key->data, key->length, object_expiry(source->object));
    /* In the order in which Redis tells it. */
    change_also(call->change, target->database, key, CHANGE_NEW);
    struct object *shell = keyspace_take(call->change, source->database, &source->key, from);
    place_put(call, target, moved, to);
    if (object_needs_token(shell))
        object_retire_shell(shell);
    else
        object_retire(shell);
}

static bool arguments_are_equal(const struct argument *a, const struct argument *b) {
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

static enum call_result rename_key(struct call *call, bool only_if_absent) {
    struct place source = place_find(call, call->database, 1);
    if (!source.object) {
        reply_error(call->reply, ERROR_NO_SUCH_KEY);
        return CALL_DONE;
    }
    bool same = arguments_are_equal(&call->argv[1], &call->argv[2]);
    bool refused = same && only_if_absent;
    if (!same) {
        struct place target = place_find(call, call->database, 2);
        refused = only_if_absent && target.object;
        if (!refused)
            place_move(call, &source, &target, CHANGE_RENAME_FROM, CHANGE_RENAME_TO);
    }
    if (only_if_absent)
        reply_integer(call->reply, !refused);
    else
        reply_ok(call->reply);
    return CALL_DONE;
}

enum call_result cmd_rename(struct call *call) {
    return rename_key(call, false);
}

enum call_result cmd_renamenx(struct call *call) {
    return rename_key(call, true);
}

enum call_result cmd_move(struct call *call) {
    int database;
    if (data_single_database(call, "ERR MOVE is not allowed in cluster mode") ||
        !data_int_argument(call, 2, NULL, &database) || !data_database_exists(call, database))
        return CALL_DONE;
    if ((unsigned)database == call->database) {
        reply_error(call->reply, ERROR_SAME_OBJECT);
        return CALL_DONE;
    }
    struct place source = place_find(call, call->database, 1);
    if (source.object) {
        struct place target = place_find(call, (unsigned)database, 1);
        if (!target.object) {
            place_move(call, &source, &target, CHANGE_MOVE_FROM, CHANGE_MOVE_TO);
            reply_integer(call->reply, 1);
            return CALL_DONE;
        }
    }
    reply_integer(call->reply, 0);
    return CALL_DONE;
}

static bool copy_options_parse(struct call *call, int *database, bool *replace) {
    *database = (int)call->database;
    *replace = false;
    for (int i = 3; i < call->argc; i++) {
        if (argument_is(&call->argv[i], "replace")) {
            *replace = true;
        } else if (argument_is(&call->argv[i], "db") && i + 1 < call->argc) {
            if (!data_int_argument(call, ++i, NULL, database) ||
                !data_database_exists(call, *database))
                return false;
        } else {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
    }
    return true;
}

enum call_result cmd_copy(struct call *call) {
    int database;
    bool replace;
    if (!copy_options_parse(call, &database, &replace) ||
        (database != 0 &&
         data_single_database(call,
                              "ERR Copying to another database is not allowed in cluster mode")))
        return CALL_DONE;
    if ((unsigned)database == call->database &&
        arguments_are_equal(&call->argv[1], &call->argv[2])) {
        reply_error(call->reply, ERROR_SAME_OBJECT);
        return CALL_DONE;
    }
    struct key key = call_key(call, 1);
    struct object *object = call_find_read(call, &key);
    struct place target = place_find(call, (unsigned)database, 2);
    bool copies = object && (!target.object || replace);
    if (copies) {
        change_also(call->change, target.database, &target.key, CHANGE_NEW);
        place_put(
            call, &target,
            object_duplicate(object, target.key.data, target.key.length, object_expiry(object)),
            CHANGE_COPY_TO);
    }
    reply_integer(call->reply, copies);
    return CALL_DONE;
}

/* --- OBJECT ----------------------------------------------------------------------------------- */

/* NULL: absent, and null is replied. */
static struct object *object_or_reply(struct call *call) {
    struct object *object = call_find_read_quietly(call, &call->key);
    if (!object)
        reply_null(call->reply);
    return object;
}

enum call_result cmd_object_encoding(struct call *call) {
    struct object *object = object_or_reply(call);
    if (object)
        reply_bulk_text(call->reply, type_of(object)->encoding_name(object));
    return CALL_DONE;
}

#define POLICY_HINT                                                                                \
    "Please note that when switching between policies at runtime LRU and LFU data will take some " \
    "time to adjust."

enum call_result cmd_object_freq(struct call *call) {
    struct object *object = object_or_reply(call);
    if (!object)
        return CALL_DONE;
    if (call->keyspace->access.lfu)
        reply_integer(call->reply, access_lfu_counter(&call->keyspace->access, object));
    else
        reply_error(call->reply, "ERR An LFU maxmemory policy is not selected, access frequency "
                                 "not tracked. " POLICY_HINT);
    return CALL_DONE;
}

enum call_result cmd_object_idletime(struct call *call) {
    struct object *object = object_or_reply(call);
    if (!object)
        return CALL_DONE;
    if (call->keyspace->access.lfu)
        reply_error(call->reply, "ERR An LFU maxmemory policy is selected, idle time not "
                                 "tracked. " POLICY_HINT);
    else
        reply_integer(call->reply, (int64_t)(access_idle_ms(object) / 1000));
    return CALL_DONE;
}

/* Redis shares the objects of small integers, unless its policy wants a clock for each; clients see
 * that as this reference count. Nothing is shared here. */
#define SHARED_INTEGERS        10000
#define SHARED_REFERENCE_COUNT 2147483647

enum call_result cmd_object_refcount(struct call *call) {
    struct object *object = object_or_reply(call);
    if (!object)
        return CALL_DONE;
    bool has_clock = call->keyspace->access.tracked && config_current()->maxmemory > 0;
    bool shared = object_encoding(object) == ENCODING_INT && object_integer(object) >= 0 &&
                  object_integer(object) < SHARED_INTEGERS && !has_clock;
    reply_integer(call->reply, shared ? SHARED_REFERENCE_COUNT : 1);
    return CALL_DONE;
}

enum call_result cmd_object_help(struct call *call) {
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
        NULL};
    call_reply_help(call, lines);
    return CALL_DONE;
}
