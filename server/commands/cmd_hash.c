/* Hashes; their fields' times to live are in cmd_hash_expire.c.
 *
 * Run by: any worker, see command.h. Those that only read also without tokens: what is packed is
 * never changed in place; a body is read under the token. */
#include <math.h>

#include "engine/memory.h"
#include "engine/types/hash.h"
#include "server/base/numbers.h"
#include "server/base/sample.h"
#include "server/commands/choice.h"
#include "server/commands/cmd_collection.h"
#include "server/commands/hash_fields.h"

/* --- Setting ---------------------------------------------------------------------------------- */

static void edit_begin(struct call *call, struct collection_edit *edit, struct object *object) {
    collection_edit_begin(edit, call->change, call->database, &call->key, object, OBJECT_HASH,
                          ENCODING_LISTPACK);
}

/* Puts argv[2..]; false: nothing has been done, and the error is replied. */
static bool put_pairs(struct call *call, int64_t *created) {
    struct collection_edit edit;
    struct object *object;
    size_t longest = 0;
    if (call->argc % 2 == 1) {
        command_reply_wrong_arity(call->reply, call->command);
        return false;
    }
    if (collection_write(call, 1, OBJECT_HASH, &object) == COLLECTION_WRONG_TYPE)
        return false;
    for (int i = 2; i < call->argc; i++)
        if (call->argv[i].length > longest)
            longest = call->argv[i].length;
    *created = 0;
    edit_begin(call, &edit, object);
    hash_expect(&edit, (uint64_t)call->argc / 2 - 1, longest);
    for (int i = 2; i < call->argc; i += 2) {
        const struct argument *pair = &call->argv[i];
        *created += hash_put(&edit, pair[0].data, pair[0].length, pair[1].data, pair[1].length);
    }
    collection_edit_end(&edit, CHANGE_HSET);
    return true;
}

enum call_result cmd_hset(struct call *call) {
    int64_t created;
    if (put_pairs(call, &created))
        reply_integer(call->reply, created);
    return CALL_DONE;
}

enum call_result cmd_hmset(struct call *call) {
    int64_t created;
    if (put_pairs(call, &created))
        reply_ok(call->reply);
    return CALL_DONE;
}

/* The value of one field, whose time to live is not over, becomes another one; the time stays. */
static struct object *put_one(struct call *call, struct object *object, const char *value,
                              size_t length, enum change_event event) {
    const struct argument *field = &call->argv[2];
    struct collection_edit edit;
    edit_begin(call, &edit, object);
    if (object && hash_field_is_hidden(call, object, field->data, field->length))
        hash_put(&edit, field->data, field->length, value, length); /* not removed on a replica */
    else
        hash_put_keeping_time(&edit, field->data, field->length, value, length);
    return collection_edit_end(&edit, event);
}

/* For a command that writes the field argv[2]: one that has expired is removed first. false: not a
 * hash, and the error is replied. */
static bool find_for_field(struct call *call, struct object **object) {
    if (collection_write(call, 1, OBJECT_HASH, object) == COLLECTION_WRONG_TYPE)
        return false;
    hash_fields_expire(call, &call->key, object, &call->argv[2], 1);
    return true;
}

enum call_result cmd_hsetnx(struct call *call) {
    const struct argument *field = &call->argv[2], *value = &call->argv[3];
    struct element old;
    struct object *object;
    if (!find_for_field(call, &object))
        return CALL_DONE;
    bool is_there = hash_field_get(call, object, field, &old);
    if (!is_there)
        put_one(call, object, value->data, value->length, CHANGE_HSET);
    reply_integer(call->reply, !is_there);
    return CALL_DONE;
}

static bool element_integer(const struct element *element, int64_t *value) {
    if (element->data)
        return number_parse_int64(element->data, element->length, value);
    *value = element->integer;
    return true;
}

enum call_result cmd_hincrby(struct call *call) {
    const struct argument *field = &call->argv[2];
    int64_t amount, value = 0;
    struct element old;
    struct object *object;
    if (!argument_integer(call, 3, &amount) || !find_for_field(call, &object))
        return CALL_DONE;
    if (hash_field_get(call, object, field, &old) && !element_integer(&old, &value)) {
        reply_error(call->reply, "ERR hash value is not an integer");
        return CALL_DONE;
    }
    if (__builtin_add_overflow(value, amount, &value)) {
        reply_error(call->reply, "ERR increment or decrement would overflow");
        return CALL_DONE;
    }
    char text[NUMBER_INT64_SIZE];
    size_t length = number_write_int64(text, value);
    put_one(call, object, text, length, CHANGE_HINCRBY);
    reply_integer(call->reply, value);
    return CALL_DONE;
}

static bool element_float(const struct element *element, long double *value) {
    if (element->data)
        return number_parse_long_double(element->data, element->length, value);
    *value = (long double)element->integer;
    return true;
}

/* Logged as its result: formatting and precision may differ between machines. Where the field has a
 * time to live, which HSET would take away, it is logged as it came. */
static void propagate_float(struct call *call, const struct object *object, const char *text,
                            size_t length) {
    const struct argument *field = &call->argv[2];
    int64_t time_ms;
    if (!call_is_logged(call) ||
        (object_has_field_times(object) &&
         field_times_get(collection_body(object), field->data, field->length, &time_ms)))
        return;
    struct effect_argument arguments[4] = {{"HSET", 4},
                                           {call->key.data, call->key.length},
                                           {field->data, field->length},
                                           {text, length}};
    call_propagate(call, arguments, 4);
}

enum call_result cmd_hincrbyfloat(struct call *call) {
    const struct argument *field = &call->argv[2], *argument = &call->argv[3];
    long double amount, value = 0;
    struct element old;
    struct object *object;
    if (!number_parse_long_double(argument->data, argument->length, &amount)) {
        reply_error(call->reply, ERROR_NOT_FLOAT);
        return CALL_DONE;
    }
    if (isnan(amount) || isinf(amount)) {
        reply_error(call->reply, "ERR value is NaN or Infinity");
        return CALL_DONE;
    }
    if (!find_for_field(call, &object))
        return CALL_DONE;
    if (hash_field_get(call, object, field, &old) && !element_float(&old, &value)) {
        reply_error(call->reply, "ERR hash value is not a float");
        return CALL_DONE;
    }
    value += amount;
    if (isnan(value) || isinf(value)) {
        reply_error(call->reply, "ERR increment would produce NaN or Infinity");
        return CALL_DONE;
    }
    char text[NUMBER_LONG_DOUBLE_SIZE];
    size_t length = number_write_long_double(text, value);
    object = put_one(call, object, text, length, CHANGE_HINCRBYFLOAT);
    propagate_float(call, object, text, length);
    reply_bulk(call->reply, text, length);
    return CALL_DONE;
}

enum call_result cmd_hdel(struct call *call) {
    return collection_remove(call, OBJECT_HASH, CHANGE_HDEL, hash_remove);
}

/* --- Single fields ---------------------------------------------------------------------------- */

static void reply_value(struct call *call, const struct object *object,
                        const struct argument *field) {
    struct element value;
    if (hash_field_get(call, object, field, &value))
        reply_element(call->reply, &value);
    else
        reply_null(call->reply);
}

/* As collection_ask; on a primary n fields from argv[2] on that have expired are removed first. */
static inline enum collection_found find_fields(struct call *call, int n, struct object **object) {
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, object);
    if (found == COLLECTION_THERE)
        hash_fields_expire(call, &call->key, object, &call->argv[2], (size_t)n);
    return found;
}

static inline enum call_result ask(struct call *call, collection_answer *answer) {
    struct object *object;
    enum collection_found found = find_fields(call, 1, &object);
    return collection_answer_one(call, found, object, answer);
}

enum call_result cmd_hget(struct call *call) {
    return ask(call, reply_value);
}

enum call_result cmd_hmget(struct call *call) {
    struct object *object;
    enum collection_found found = find_fields(call, call->argc - 2, &object);
    return collection_answer_each(call, found, object, reply_value);
}

static void reply_has(struct call *call, const struct object *object,
                      const struct argument *field) {
    struct element value;
    reply_integer(call->reply, hash_field_get(call, object, field, &value));
}

enum call_result cmd_hexists(struct call *call) {
    return ask(call, reply_has);
}

static void reply_value_length(struct call *call, const struct object *object,
                               const struct argument *field) {
    char room[LISTPACK_INTEGER_ROOM];
    struct element value;
    size_t length = 0;
    if (hash_field_get(call, object, field, &value))
        element_text(&value, room, &length);
    reply_integer(call->reply, (int64_t)length);
}

enum call_result cmd_hstrlen(struct call *call) {
    return ask(call, reply_value_length);
}

/* As in Redis those count that have expired and are still there. */
static void reply_count(struct call *call, const struct object *object,
                        const struct argument *none) {
    (void)none;
    reply_integer(call->reply, object ? (int64_t)hash_count(object) : 0);
}

enum call_result cmd_hlen(struct call *call) {
    return collection_ask(call, OBJECT_HASH, reply_count);
}

/* --- All fields ------------------------------------------------------------------------------- */

enum { WITH_FIELDS = 1 << 0, WITH_VALUES = 1 << 1 };

struct listing {
    struct reply *reply;
    unsigned what;
    bool nested; /* field and value are an array of two */
};

static bool list_one(void *context, const struct element *field, const struct element *value,
                     double score) {
    const struct listing *listing = context;
    (void)score;
    if (listing->nested)
        reply_array(listing->reply, 2);
    if (listing->what & WITH_FIELDS)
        reply_element(listing->reply, field);
    if (listing->what & WITH_VALUES)
        reply_element(listing->reply, value);
    return true;
}

static enum call_result reply_all(struct call *call, unsigned what) {
    struct listing listing = {call->reply, what, false};
    struct object *object;
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    size_t count = object ? hash_fields_count(call, object) : 0;
    if (what == (WITH_FIELDS | WITH_VALUES))
        reply_map(call->reply, count);
    else
        reply_array(call->reply, count);
    if (object)
        hash_fields_visit(call, object, list_one, &listing);
    return CALL_DONE;
}

enum call_result cmd_hgetall(struct call *call) {
    return reply_all(call, WITH_FIELDS | WITH_VALUES);
}

enum call_result cmd_hkeys(struct call *call) {
    return reply_all(call, WITH_FIELDS);
}

enum call_result cmd_hvals(struct call *call) {
    return reply_all(call, WITH_VALUES);
}

enum call_result cmd_hscan(struct call *call) {
    return scan_collection(call, OBJECT_HASH, hash_scan, hash_field_is_hidden);
}

/* --- HRANDFIELD ------------------------------------------------------------------------------- */

/* Fields that have expired are removed first; where they may not be (on a replica) the others are
 * gathered, and chosen from: *shown are pairs of field and value, NULL where nothing is hidden. */
static enum collection_found find_for_choice(struct call *call, struct object **object,
                                             struct element **shown, uint64_t *count) {
    enum collection_found found = collection_read(call, 1, OBJECT_HASH, object);
    *shown = NULL;
    if (found != COLLECTION_THERE)
        return found;
    hash_fields_expire_all(call, &call->key, object);
    if (!*object)
        return COLLECTION_ABSENT;
    *count = hash_fields_count(call, *object);
    if (UNLIKELY(*count < hash_count(*object)))
        *shown = hash_fields_gather(call, *object);
    return *count > 0 ? COLLECTION_THERE : COLLECTION_ABSENT;
}

static void list_chosen_of_shown(struct listing *listing, const struct element *shown,
                                 uint64_t count, uint64_t n, bool different) {
    uint64_t *positions = different ? sample_positions(count, n) : NULL;
    for (uint64_t i = 0; i < n; i++) {
        const struct element *pair = &shown[2 * (different ? positions[i] : sample_below(count))];
        list_one(listing, &pair[0], &pair[1], 0);
    }
    memory_free(positions);
}

static enum call_result reply_random(struct call *call, int64_t count, bool with_values) {
    struct object *object;
    struct element *shown;
    struct choice choice = {.visit = hash_visit, .at = hash_at};
    enum collection_found found = find_for_choice(call, &object, &shown, &choice.count);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT || (found == COLLECTION_THERE && count == 0))
        reply_empty_array(call->reply);
    if (found == COLLECTION_THERE && count != 0) {
        choice.object = object;
        struct listing listing = {.reply = call->reply,
                                  .what = WITH_FIELDS | (with_values ? WITH_VALUES : 0),
                                  .nested = with_values && call->reply->resp > 2};
        uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
        if (count > 0 && n > choice.count)
            n = choice.count;
        reply_array(call->reply, with_values && !listing.nested ? 2 * n : n);
        if (shown)
            list_chosen_of_shown(&listing, shown, choice.count, n, count > 0);
        else if (count < 0)
            choice_visit_any(&choice, n, list_one, &listing);
        else
            choice_visit_different(&choice, n, list_one, &listing);
    }
    memory_free(shown);
    return CALL_DONE;
}

static enum call_result reply_one_random(struct call *call) {
    struct object *object;
    struct element field, *shown;
    struct choice choice = {.visit = hash_visit, .at = hash_at};
    enum collection_found found = find_for_choice(call, &object, &shown, &choice.count);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    if (found == COLLECTION_THERE) {
        choice.object = object;
        if (shown)
            field = shown[2 * sample_below(choice.count)];
        else
            choice_one(&choice, &field, NULL);
        reply_element(call->reply, &field);
    }
    memory_free(shown);
    return CALL_DONE;
}

enum call_result cmd_hrandfield(struct call *call) {
    int64_t count;
    if (call->argc == 2)
        return reply_one_random(call);
    if (!choice_count_argument(call, 2, &count))
        return CALL_DONE;
    bool with_values = call->argc == 4 && argument_is(&call->argv[3], "withvalues");
    if (call->argc > 3 && !with_values) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (with_values && (count < -INT64_MAX / 2 || count > INT64_MAX / 2)) {
        reply_error(call->reply, "ERR value is out of range");
        return CALL_DONE;
    }
    return reply_random(call, count, with_values);
}
