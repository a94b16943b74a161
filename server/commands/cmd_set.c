/* Sets, one at a time: SADD, SREM, SPOP, SRANDMEMBER, SMEMBERS, SSCAN and so on, and SMOVE. What
 * makes one set of several is in cmd_set_algebra.c.
 *
 * Run by: any worker, see command.h. Those that only read also without tokens: what is packed is
 * never changed in place; a body is read under the token. */
#include "engine/memory.h"
#include "engine/types/set.h"
#include "server/base/numbers.h"
#include "server/base/sample.h"
#include "server/commands/choice.h"
#include "server/commands/cmd_collection.h"
#include "server/config/config.h"

/* --- Changing --------------------------------------------------------------------------------- */

/* Some of argv[2..] is not in the set. */
static bool brings_some(const struct call *call, const struct collection_edit *edit) {
    for (int i = 2; i < call->argc; i++)
        if (!set_edit_has(edit, call->argv[i].data, call->argv[i].length))
            return true;
    return false;
}

enum call_result cmd_sadd(struct call *call) {
    const struct argument *first = &call->argv[2];
    uint64_t n = (uint64_t)call->argc - 2;
    struct collection_edit edit;
    struct object *object;
    int64_t added = 0;
    if (collection_write(call, 1, OBJECT_SET, &object) == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    enum object_encoding encoding = ENCODING_LISTPACK; /* of one that is there: not used */
    if (!object)
        encoding = set_encoding_for_many(first->data, first->length, n);
    collection_edit_begin(&edit, call->change, call->database, &call->key, object, OBJECT_SET,
                          encoding);
    if (UNLIKELY(set_expects_hashtable(&edit, n)) && brings_some(call, &edit))
        set_become_hashtable(&edit);
    for (int i = 2; i < call->argc; i++)
        added += set_add(&edit, call->argv[i].data, call->argv[i].length);
    collection_edit_end(&edit, CHANGE_SADD);
    reply_integer(call->reply, added);
    return CALL_DONE;
}

enum call_result cmd_srem(struct call *call) {
    return collection_remove(call, OBJECT_SET, CHANGE_SREM, set_remove);
}

/* Both are there or are to be; the two keys differ. */
static bool move_member(struct call *call, struct object *source, struct object *target) {
    const struct argument *member = &call->argv[3];
    struct key from_key = call_key(call, 1), to_key = call_key(call, 2);
    struct collection_edit from, to;
    if (!set_has(source, member->data, member->length))
        return false;
    collection_edit_begin(&to, call->change, call->database, &to_key, target, OBJECT_SET,
                          set_encoding_for(member->data, member->length));
    collection_edit_begin(&from, call->change, call->database, &from_key, source, OBJECT_SET,
                          ENCODING_LISTPACK);
    set_remove(&from, member->data, member->length);
    collection_edit_end(&from, CHANGE_SREM);
    set_add(&to, member->data, member->length);
    collection_edit_end(&to, CHANGE_SADD);
    return true;
}

enum call_result cmd_smove(struct call *call) {
    const struct argument *member = &call->argv[3];
    struct key from = call_key(call, 1), to = call_key(call, 2);
    struct object *source = call_find_write(call, &from), *target = call_find_write(call, &to);
    bool moved;
    if (!source) {
        reply_integer(call->reply, 0);
        return CALL_DONE;
    }
    if (object_type(source) != OBJECT_SET || (target && object_type(target) != OBJECT_SET)) {
        reply_error(call->reply, ERROR_WRONG_TYPE);
        return CALL_DONE;
    }
    if (source == target)
        moved = set_has(source, member->data, member->length);
    else
        moved = move_member(call, source, target);
    reply_integer(call->reply, moved);
    return CALL_DONE;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static void reply_count(struct call *call, const struct object *object,
                        const struct argument *none) {
    (void)none;
    reply_integer(call->reply, object ? (int64_t)set_count(object) : 0);
}

enum call_result cmd_scard(struct call *call) {
    return collection_ask(call, OBJECT_SET, reply_count);
}

static void reply_has(struct call *call, const struct object *object,
                      const struct argument *member) {
    reply_integer(call->reply, object && set_has(object, member->data, member->length));
}

enum call_result cmd_sismember(struct call *call) {
    return collection_ask(call, OBJECT_SET, reply_has);
}

enum call_result cmd_smismember(struct call *call) {
    return collection_ask_each(call, OBJECT_SET, reply_has);
}

static bool reply_member(void *context, const struct element *member, const struct element *value,
                         double score) {
    (void)value, (void)score;
    reply_element(context, member);
    return true;
}

enum call_result cmd_smembers(struct call *call) {
    struct object *object;
    enum collection_found found = collection_read(call, 1, OBJECT_SET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    reply_set(call->reply, object ? set_count(object) : 0);
    if (object)
        set_visit(object, reply_member, call->reply);
    return CALL_DONE;
}

enum call_result cmd_sscan(struct call *call) {
    return scan_collection(call, OBJECT_SET, set_scan, NULL);
}

/* --- Random members --------------------------------------------------------------------------- */

static void member_at(const struct object *object, uint64_t position, struct element *member,
                      struct element *value) {
    (void)value;
    set_at(object, position, member);
}

static struct choice choice_of(const struct object *object) {
    return (struct choice){object, set_count(object), set_visit, member_at};
}

/* A null if there is no set. */
static enum call_result reply_one_random(struct call *call) {
    struct object *object;
    struct element member;
    enum collection_found found = collection_read(call, 1, OBJECT_SET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    if (found != COLLECTION_THERE)
        return CALL_DONE;
    struct choice choice = choice_of(object);
    choice_one(&choice, &member, NULL);
    reply_element(call->reply, &member);
    return CALL_DONE;
}

enum call_result cmd_srandmember(struct call *call) {
    struct object *object;
    int64_t count;
    if (call->argc == 2)
        return reply_one_random(call);
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (!choice_count_argument(call, 2, &count))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_SET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT || count == 0) {
        reply_empty_array(call->reply);
        return CALL_DONE;
    }
    struct choice choice = choice_of(object);
    uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
    if (count > 0 && n > choice.count)
        n = choice.count;
    reply_array(call->reply, n);
    if (count < 0)
        choice_visit_any(&choice, n, reply_member, call->reply);
    else
        choice_visit_different(&choice, n, reply_member, call->reply);
    return CALL_DONE;
}

/* --- SPOP ------------------------------------------------------------------------------------- */

#define POPPED_LOGGED_MAX 1024 /* members of one SREM */

/* Members on their way out: they are replied, and logged as SREM, many in one. */
struct popped {
    struct call *call;
    struct effect_argument *arguments; /* NULL: nobody logs */
    char (*rooms)[LISTPACK_INTEGER_ROOM];
    size_t n; /* arguments */
};

static void popped_begin(struct popped *popped, struct call *call) {
    *popped = (struct popped){.call = call};
    if (!call_is_logged(call))
        return;
    popped->arguments = memory_alloc((2 + POPPED_LOGGED_MAX) * sizeof *popped->arguments);
    popped->rooms = memory_alloc(POPPED_LOGGED_MAX * sizeof *popped->rooms);
    popped->arguments[0] = (struct effect_argument){"SREM", 4};
    popped->arguments[1] = (struct effect_argument){call->key.data, call->key.length};
    popped->n = 2;
}

static void popped_log(struct popped *popped) {
    if (popped->n > 2)
        call_propagate(popped->call, popped->arguments, popped->n);
    popped->n = 2;
}

static bool popped_add(void *context, const struct element *member, const struct element *value,
                       double score) {
    struct popped *popped = context;
    (void)value, (void)score;
    reply_element(popped->call->reply, member);
    if (!popped->arguments)
        return true;
    size_t length;
    const char *text = element_text(member, popped->rooms[popped->n - 2], &length);
    popped->arguments[popped->n++] = (struct effect_argument){text, length};
    if (popped->n == 2 + POPPED_LOGGED_MAX)
        popped_log(popped);
    return true;
}

static void popped_end(struct popped *popped) {
    if (!popped->arguments)
        return;
    popped_log(popped);
    memory_free(popped->arguments);
    memory_free(popped->rooms);
}

/* All members are replied, and the key goes. */
static void pop_all(struct call *call, struct object *object) {
    uint64_t count = set_count(object);
    reply_set(call->reply, count);
    set_visit(object, reply_member, call->reply);
    change_also(call->change, call->database, &call->key, CHANGE_SPOP);
    keyspace_delete(call->change, call->database, &call->key, CHANGE_DEL);
    change_count(call->change, count - 1);
    data_propagate_key(call, config_current()->lazyfree_lazy_server_del ? "UNLINK" : "DEL",
                       &call->key);
}

/* Of one that is there. */
static void edit_begin(struct call *call, struct collection_edit *edit, struct object *object) {
    collection_edit_begin(edit, call->change, call->database, &call->key, object, OBJECT_SET,
                          ENCODING_LISTPACK);
}

/* Members that are replied are taken out of the set. */
static void pop_some(struct call *call, struct object *object, size_t n) {
    struct choice choice = choice_of(object);
    uint64_t *positions = sample_positions(choice.count, n);
    struct collection_edit edit;
    struct popped popped;
    popped_begin(&popped, call);
    choice_visit_at(&choice, positions, n, popped_add, &popped);
    popped_end(&popped);
    edit_begin(call, &edit, object);
    while (n > 0) { /* the last one first, so that the positions of the others stay */
        struct element member;
        set_edit_at(&edit, positions[--n], &member);
        set_remove_element(&edit, &member);
    }
    collection_edit_end(&edit, CHANGE_SPOP);
    memory_free(positions);
}

/* Members that stay. */
struct staying {
    const uint64_t *positions;
    size_t n, next;
    uint64_t index;
    struct popped *popped;
    struct collection_edit *draft;
};

static bool stay_or_go(void *context, const struct element *member, const struct element *value,
                       double score) {
    struct staying *staying = context;
    bool stays = staying->next < staying->n && staying->index == staying->positions[staying->next];
    staying->index++;
    staying->next += stays;
    if (!stays)
        return popped_add(staying->popped, member, value, score);
    set_add_element(staying->draft, member);
    return true;
}

/* So few are left that a set is made of these. As in Redis it may be a listpack again. */
static void pop_most(struct call *call, struct object *object, size_t left) {
    const struct key *key = &call->key;
    uint64_t count = set_count(object), *positions = sample_positions(count, left);
    struct collection_edit draft;
    struct popped popped;
    struct staying staying = {positions, left, 0, 0, &popped, &draft};
    popped_begin(&popped, call);
    collection_draft_begin(&draft, OBJECT_SET,
                           object_encoding(object) == ENCODING_INTSET ? ENCODING_INTSET
                                                                      : ENCODING_LISTPACK);
    set_visit(object, stay_or_go, &staying);
    popped_end(&popped);
    memory_free(positions);
    keyspace_replace(call->change, call->database, key, object,
                     collection_draft_end(&draft, key->data, key->length, object_expiry(object)),
                     CHANGE_SPOP);
    change_count(call->change, count - left - 1);
}

/* What stays is worth a new set if it is less than this part of what goes. */
#define POP_MOST_DIVISOR 5

static void pop(struct call *call, struct object *object, uint64_t n) {
    uint64_t count = set_count(object);
    if (n >= count) {
        pop_all(call, object);
        return;
    }
    reply_set(call->reply, n);
    if ((count - n) * POP_MOST_DIVISOR > n)
        pop_some(call, object, n);
    else
        pop_most(call, object, count - n);
}

static enum call_result pop_one(struct call *call) {
    struct collection_edit edit;
    struct object *object;
    enum collection_found found = collection_write(call, 1, OBJECT_SET, &object);
    if (found == COLLECTION_ABSENT)
        reply_null(call->reply);
    if (found != COLLECTION_THERE)
        return CALL_DONE;
    struct choice choice = choice_of(object);
    struct element member;
    struct popped popped;
    choice_one(&choice, &member, NULL);
    popped_begin(&popped, call);
    popped_add(&popped, &member, NULL, 0);
    popped_end(&popped);
    edit_begin(call, &edit, object);
    set_remove_element(&edit, &member);
    collection_edit_end(&edit, CHANGE_SPOP);
    return CALL_DONE;
}

enum call_result cmd_spop(struct call *call) {
    struct object *object;
    int64_t n;
    if (call->argc == 2)
        return pop_one(call);
    if (call->argc > 3) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (!number_parse_int64(call->argv[2].data, call->argv[2].length, &n) || n < 0) {
        reply_error(call->reply, "ERR value is out of range, must be positive");
        return CALL_DONE;
    }
    enum collection_found found = collection_write(call, 1, OBJECT_SET, &object);
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    if (found == COLLECTION_ABSENT || n == 0)
        reply_set(call->reply, 0);
    else
        pop(call, object, (uint64_t)n);
    return CALL_DONE;
}
