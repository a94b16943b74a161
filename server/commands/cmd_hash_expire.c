/* Times to live of hash fields: HEXPIRE and its relatives, HTTL and its relatives, HPERSIST, in the
 * forms of Redis 7.4.
 *
 * Run by: any worker, see command.h. A field whose time is over is absent to all of them; those
 * that write remove it first. HEXPIRE and its like are logged as HPEXPIREAT with the fields that
 * got the time, and as HDEL of those whose new time is over already. */
#include "engine/memory.h"
#include "server/base/numbers.h"
#include "server/commands/cmd_collection.h"
#include "server/commands/hash_fields.h"

#define TIME_MAX (((int64_t)1 << 46) - 1) /* that commands may set, as in Redis */

enum { FIELD_ABSENT = -2, FIELD_WITHOUT_TIME = -1, FIELD_REFUSED = 0, FIELD_SET = 1, FIELD_GONE };

enum condition { ALWAYS, ONLY_WITHOUT, ONLY_WITH, ONLY_LATER, ONLY_EARLIER };

/* --- Arguments -------------------------------------------------------------------------------- */

/* argv[at..] is FIELDS n field...; false: error replied. */
static bool fields_argument(struct call *call, int at, const char *bad_number) {
    int64_t n;
    if (!argument_is(&call->argv[at], "fields")) {
        reply_error(call->reply,
                    "ERR Mandatory argument FIELDS is missing or not at the right position");
        return false;
    }
    if (!number_parse_int64(call->argv[at + 1].data, call->argv[at + 1].length, &n) || n < 1) {
        reply_error(call->reply, bad_number);
        return false;
    }
    if (n != call->argc - at - 2) {
        reply_error(call->reply,
                    "ERR The `numfields` parameter must match the number of arguments");
        return false;
    }
    return true;
}

static bool time_argument(struct call *call, int64_t base_ms, bool seconds, int64_t *time_ms) {
    if (!argument_integer(call, 2, time_ms))
        return false;
    if (*time_ms < 0) {
        reply_error(call->reply, "ERR invalid expire time, must be >= 0");
        return false;
    }
    if ((seconds && __builtin_mul_overflow(*time_ms, 1000, time_ms)) ||
        *time_ms > TIME_MAX - base_ms) {
        data_reply_bad_expiry(call);
        return false;
    }
    *time_ms += base_ms;
    return true;
}

static enum condition condition_argument(const struct argument *argument) {
    static const char *const words[] = {
        [ONLY_WITHOUT] = "nx", [ONLY_WITH] = "xx", [ONLY_LATER] = "gt", [ONLY_EARLIER] = "lt"};
    for (unsigned i = ONLY_WITHOUT; i <= ONLY_EARLIER; i++)
        if (argument_is(argument, words[i]))
            return (enum condition)i;
    return ALWAYS;
}

static void reply_all_absent(struct call *call, size_t n) {
    reply_array(call->reply, n);
    for (size_t i = 0; i < n; i++)
        reply_integer(call->reply, FIELD_ABSENT);
}

/* --- HEXPIRE and its relatives ---------------------------------------------------------------- */

struct setting {
    struct call *call;
    struct collection_edit edit;
    int64_t time_ms;
    enum condition condition;
    /* What is logged: the words before the fields, then those that got the time; NULL: no log. */
    struct effect_argument *logged;
    size_t logged_count;
    size_t set, gone;
};

/* No time is later than any. */
static bool condition_holds(enum condition condition, bool has, int64_t old_ms, int64_t new_ms) {
    switch (condition) {
    case ONLY_WITHOUT:
        return !has;
    case ONLY_WITH:
        return has;
    case ONLY_LATER:
        return has && new_ms > old_ms;
    case ONLY_EARLIER:
        return !has || new_ms < old_ms;
    default:
        return true;
    }
}

static void log_gone(struct call *call, const struct argument *field) {
    struct effect_argument arguments[3] = {
        {"HDEL", 4}, {call->key.data, call->key.length}, {field->data, field->length}};
    call_propagate(call, arguments, 3);
    COUNTER_ADD(keyspace_counters_mine(call->keyspace)->expired_fields, 1);
}

static int set_one(struct setting *setting, const struct argument *field) {
    struct call *call = setting->call;
    struct element value;
    int64_t old_ms = 0;
    if (!hash_edit_get(&setting->edit, field->data, field->length, &value))
        return FIELD_ABSENT;
    bool has = hash_edit_time(&setting->edit, field->data, field->length, &old_ms);
    if (has && view_is_over(&call->change->view, old_ms))
        return FIELD_ABSENT; /* not removed on a replica */
    if (!condition_holds(setting->condition, has, old_ms, setting->time_ms))
        return FIELD_REFUSED;
    if (view_is_over(&call->change->view, setting->time_ms)) {
        hash_remove(&setting->edit, field->data, field->length);
        log_gone(call, field);
        setting->gone++;
        return FIELD_GONE;
    }
    hash_set_time(&setting->edit, field->data, field->length, setting->time_ms);
    if (setting->logged)
        setting->logged[setting->logged_count++] =
            (struct effect_argument){field->data, field->length};
    setting->set++;
    return FIELD_SET;
}

/* HPEXPIREAT key ms [condition] FIELDS n, before the fields. at: where FIELDS is in argv. */
static void log_begin(struct setting *setting, int at, char *time_text) {
    const struct call *call = setting->call;
    setting->logged = memory_alloc((size_t)call->argc * sizeof *setting->logged);
    setting->logged[0] = (struct effect_argument){"HPEXPIREAT", 10};
    setting->logged[1] = (struct effect_argument){call->key.data, call->key.length};
    setting->logged[2] =
        (struct effect_argument){time_text, number_write_int64(time_text, setting->time_ms)};
    for (int i = 3; i <= at; i++)
        setting->logged[i] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    setting->logged_count = (size_t)at + 2;
}

static void log_end(struct setting *setting, int at) {
    char text[NUMBER_INT64_SIZE];
    size_t n = setting->logged_count - (size_t)at - 2;
    setting->logged[at + 1] = (struct effect_argument){text, number_write_int64(text, (int64_t)n)};
    if (n > 0)
        call_propagate(setting->call, setting->logged, setting->logged_count);
    memory_free(setting->logged);
}

/* All fields from argv[at + 2] on. */
static void set_all(struct setting *setting, struct object *object, int at) {
    struct call *call = setting->call;
    char time_text[NUMBER_INT64_SIZE];
    collection_edit_begin(&setting->edit, call->change, call->database, &call->key, object,
                          OBJECT_HASH, ENCODING_LISTPACK);
    if (call_is_logged(call))
        log_begin(setting, at, time_text);
    reply_array(call->reply, (size_t)(call->argc - at - 2));
    for (int i = at + 2; i < call->argc; i++)
        reply_integer(call->reply, set_one(setting, &call->argv[i]));
    object = collection_edit_end(&setting->edit, setting->gone ? CHANGE_HDEL : CHANGE_HEXPIRE);
    if (object && setting->set > 0)
        keyspace_note_field_times(call->change, call->database, &call->key, object);
    if (setting->logged)
        log_end(setting, at);
}

/* base_ms is added to the argument: now, or 0 for absolute times. */
static enum call_result expire(struct call *call, int64_t base_ms, bool seconds) {
    struct setting setting = {.call = call};
    struct object *object;
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE ||
        !time_argument(call, base_ms, seconds, &setting.time_ms))
        return CALL_DONE;
    setting.condition = condition_argument(&call->argv[3]);
    int at = setting.condition == ALWAYS ? 3 : 4;
    if (!fields_argument(call, at, "ERR Parameter `numFields` should be greater than 0"))
        return CALL_DONE;
    size_t n = (size_t)(call->argc - at - 2);
    hash_fields_expire(call, &call->key, &object, &call->argv[at + 2], n);
    if (object)
        set_all(&setting, object, at);
    else
        reply_all_absent(call, n);
    return CALL_DONE;
}

enum call_result cmd_hexpire(struct call *call) {
    return expire(call, data_now_ms(call), true);
}

enum call_result cmd_hpexpire(struct call *call) {
    return expire(call, data_now_ms(call), false);
}

enum call_result cmd_hexpireat(struct call *call) {
    return expire(call, 0, true);
}

enum call_result cmd_hpexpireat(struct call *call) {
    return expire(call, 0, false);
}

/* --- HTTL and its relatives ------------------------------------------------------------------- */

static const char bad_count[] = "ERR Number of fields must be a positive integer";

static int64_t time_of(struct call *call, const struct object *object,
                       const struct argument *field) {
    struct element value;
    int64_t time_ms;
    if (!hash_field_get(call, object, field, &value))
        return FIELD_ABSENT;
    if (!object_has_field_times(object) ||
        !field_times_get(collection_body(object), field->data, field->length, &time_ms))
        return FIELD_WITHOUT_TIME;
    return time_ms;
}

static enum call_result time_to_live(struct call *call, bool seconds, bool absolute) {
    struct object *object;
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE || !fields_argument(call, 2, bad_count))
        return CALL_DONE;
    int64_t base_ms = absolute ? 0 : data_now_ms(call);
    reply_array(call->reply, (size_t)call->argc - 4);
    for (int i = 4; i < call->argc; i++) {
        int64_t time_ms = time_of(call, object, &call->argv[i]);
        if (time_ms >= 0 && seconds)
            time_ms = (time_ms + 999 - base_ms) / 1000;
        else if (time_ms >= 0)
            time_ms -= base_ms;
        reply_integer(call->reply, time_ms);
    }
    return CALL_DONE;
}

enum call_result cmd_httl(struct call *call) {
    return time_to_live(call, true, false);
}

enum call_result cmd_hpttl(struct call *call) {
    return time_to_live(call, false, false);
}

enum call_result cmd_hexpiretime(struct call *call) {
    return time_to_live(call, true, true);
}

enum call_result cmd_hpexpiretime(struct call *call) {
    return time_to_live(call, false, true);
}

/* --- HPERSIST --------------------------------------------------------------------------------- */

static int persist_one(struct call *call, struct collection_edit *edit,
                       const struct argument *field) {
    struct element value;
    int64_t time_ms;
    if (!hash_edit_get(edit, field->data, field->length, &value))
        return FIELD_ABSENT;
    if (!hash_edit_time(edit, field->data, field->length, &time_ms))
        return FIELD_WITHOUT_TIME;
    if (view_is_over(&call->change->view, time_ms))
        return FIELD_ABSENT; /* not removed on a replica */
    hash_clear_time(edit, field->data, field->length);
    edit->changed = 1; /* of however many fields */
    return FIELD_SET;
}

enum call_result cmd_hpersist(struct call *call) {
    struct collection_edit edit;
    struct object *object;
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE ||
        !fields_argument(call, 2, bad_count))
        return CALL_DONE;
    size_t n = (size_t)call->argc - 4;
    hash_fields_expire(call, &call->key, &object, &call->argv[4], n);
    if (!object) {
        reply_all_absent(call, n);
        return CALL_DONE;
    }
    collection_edit_begin(&edit, call->change, call->database, &call->key, object, OBJECT_HASH,
                          ENCODING_LISTPACK);
    reply_array(call->reply, n);
    for (int i = 4; i < call->argc; i++)
        reply_integer(call->reply, persist_one(call, &edit, &call->argv[i]));
    collection_edit_end(&edit, CHANGE_HPERSIST);
    return CALL_DONE;
}
