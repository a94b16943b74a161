/* SORT, SORT_RO: the elements of a list, a set or a sorted set in an order of their own, or in that
 * of other keys' values (BY), as they are or as other keys' values (GET), replied or stored.
 *
 * Which keys BY and GET name only the elements tell, so both run while all workers are stopped. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "engine/memory.h"
#include "engine/types/list.h"
#include "engine/types/set.h"
#include "engine/types/zset.h"
#include "server/commands/cmd_collection.h"
#include "server/commands/hash_fields.h"
#include "server/config/config.h"

#define NUMBER_ON_STACK 128

command_handler cmd_sort, cmd_sort_ro;

/* --- Options ---------------------------------------------------------------------------------- */

struct options {
    bool descending, alpha, unsorted;
    int64_t skip, count;         /* LIMIT; count below 0: all */
    const struct argument *by;   /* NULL: by the elements themselves */
    int store_index;             /* 0: replied */
    const struct argument **get; /* patterns */
    size_t get_count;
};

static bool is_denied(struct call *call, const char *option) {
    if (!config_current()->cluster_enabled)
        return false;
    reply_error_format(call->reply, "ERR %s option of SORT denied in Cluster mode.", option);
    return true;
}

static bool read_by(struct call *call, const struct argument *pattern, struct options *options) {
    options->by = pattern;
    if (memchr(pattern->data, '*', pattern->length))
        return !is_denied(call, "BY");
    options->unsorted = true;
    return true;
}

/* What follows the option at argv[*i]; moves *i to the last argument that is used. false: error
 * replied. */
static bool read_option(struct call *call, int *i, bool may_store, struct options *options) {
    const struct argument *option = &call->argv[*i], *next = option + 1;
    int left = call->argc - *i - 1;
    if (argument_is(option, "asc") || argument_is(option, "desc")) {
        options->descending = argument_is(option, "desc");
    } else if (argument_is(option, "alpha")) {
        options->alpha = true;
    } else if (argument_is(option, "limit") && left >= 2) {
        *i += 2;
        return argument_integer(call, *i - 1, &options->skip) &&
               argument_integer(call, *i, &options->count);
    } else if (may_store && argument_is(option, "store") && left >= 1) {
        options->store_index = ++*i;
    } else if (argument_is(option, "by") && left >= 1) {
        ++*i;
        return read_by(call, next, options);
    } else if (argument_is(option, "get") && left >= 1) {
        ++*i;
        options->get[options->get_count++] = next;
        return !is_denied(call, "GET");
    } else {
        reply_error(call->reply, ERROR_SYNTAX);
        return false;
    }
    return true;
}

/* --- Other keys ------------------------------------------------------------------------------- */

/* A value, valid as long as its key is not changed. */
struct value {
    const char *data; /* NULL: there is none */
    size_t length;
    bool is_integer;
    int64_t integer;
    char room[OBJECT_INTEGER_BUFFER];
};

static void value_of_object(struct value *value, const struct object *object) {
    value->is_integer = object_encoding(object) == ENCODING_INT;
    if (value->is_integer)
        value->integer = object_integer(object);
    value->data = object_string(object, value->room, &value->length);
}

static void value_of_field(struct call *call, struct value *value, const struct object *object,
                           const char *field, size_t length) {
    const struct argument argument = {field, length};
    struct element element;
    if (!hash_field_get(call, object, &argument, &element))
        return;
    value->data = element_text(&element, value->room, &value->length);
}

/* The pattern with the text in place of its first '*': the key of a string, or with "->" behind it
 * that of a hash and a field. */
static void look_up(struct call *call, const struct argument *pattern, const char *text,
                    size_t length, struct value *value) {
    const char *end = pattern->data + pattern->length, *field = NULL;
    const char *star = memchr(pattern->data, '*', pattern->length);
    *value = (struct value){.data = NULL};
    if (pattern->length == 1 && pattern->data[0] == '#') {
        value->data = text;
        value->length = length;
        return;
    }
    if (!star)
        return;
    const char *arrow = memmem(star + 1, (size_t)(end - star - 1), "->", 2), *key_end = end;
    if (arrow && arrow + 2 < end) {
        field = arrow + 2;
        key_end = arrow;
    }
    size_t prefix = (size_t)(star - pattern->data), postfix = (size_t)(key_end - star - 1);
    size_t key_length = prefix + length + postfix;
    char *data = memory_alloc(key_length + 1);
    memcpy(data, pattern->data, prefix);
    memcpy(data + prefix, text, length);
    memcpy(data + prefix + length, star + 1, postfix);
    struct key key = key_make(data, key_length);
    const struct object *object = call_find_read(call, &key);
    if (object && field && object_type(object) == OBJECT_HASH)
        value_of_field(call, value, object, field, (size_t)(end - field));
    else if (object && !field && object_type(object) == OBJECT_STRING)
        value_of_object(value, object);
    memory_free(data);
}

/* --- Elements --------------------------------------------------------------------------------- */

struct item {
    const char *text;
    size_t length;
    size_t number; /* in the order of the collection */
    double score;
    struct value by;
    char room[LISTPACK_INTEGER_ROOM];
};

struct sorting {
    struct options options;
    struct item *items;
    struct item **order;
    size_t count;
};

static bool add_item(void *context, const struct element *member, const struct element *value,
                     double score) {
    (void)value, (void)score;
    struct sorting *sorting = context;
    struct item *item = &sorting->items[sorting->count];
    item->text = element_text(member, item->room, &item->length);
    item->number = sorting->count;
    sorting->order[sorting->count++] = item;
    return true;
}

static uint64_t count_of(const struct object *object) {
    switch (object_type(object)) {
    case OBJECT_LIST:
        return list_count(object);
    case OBJECT_SET:
        return set_count(object);
    default:
        return zset_count(object);
    }
}

static void load(struct sorting *sorting, const struct object *object) {
    uint64_t count = count_of(object);
    sorting->items = memory_calloc(count, sizeof *sorting->items);
    sorting->order = memory_alloc(count * sizeof *sorting->order);
    bool backwards = sorting->options.unsorted && sorting->options.descending;
    switch (object_type(object)) {
    case OBJECT_LIST:
        list_visit_range(object, backwards ? count - 1 : 0, count, backwards, add_item, sorting);
        break;
    case OBJECT_SET:
        set_visit(object, add_item, sorting);
        break;
    default:
        zset_visit_range(object, backwards ? count - 1 : 0, count, backwards, add_item, sorting);
        break;
    }
}

static int compare_texts(const char *a, size_t a_length, const char *b, size_t b_length) {
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
    return order ? order : (a_length > b_length) - (a_length < b_length);
}

static int in_order_of_numbers(const struct item *a, const struct item *b) {
    return (a->number > b->number) - (a->number < b->number);
}

static int by_score(const void *a, const void *b) {
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    if (x->score != y->score)
        return x->score > y->score ? 1 : -1;
    int order = compare_texts(x->text, x->length, y->text, y->length);
    return order ? order : in_order_of_numbers(x, y);
}

static int by_text(const void *a, const void *b) {
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    int order = compare_texts(x->text, x->length, y->text, y->length);
    return order ? order : in_order_of_numbers(x, y);
}

/* Those that have no value come first. */
static int by_value(const void *a, const void *b) {
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    int order;
    if (x->by.data && y->by.data)
        order = compare_texts(x->by.data, x->by.length, y->by.data, y->by.length);
    else
        order = (x->by.data != NULL) - (y->by.data != NULL);
    return order ? order : in_order_of_numbers(x, y);
}

/* As strtod reads it, all of it; nothing at all is 0. */
static bool read_score(const char *text, size_t length, double *score) {
    char few[NUMBER_ON_STACK], *copy = few, *end;
    if (length >= sizeof few)
        copy = memory_alloc(length + 1);
    memcpy(copy, text, length);
    copy[length] = 0;
    errno = 0;
    *score = strtod(copy, &end);
    bool whole = *end == 0 && errno != ERANGE && !isnan(*score);
    if (copy != few)
        memory_free(copy);
    return whole;
}

/* What each element is sorted by. false: some score is no number. */
static bool weigh(struct call *call, struct sorting *sorting) {
    const struct options *options = &sorting->options;
    bool numbers = true;
    for (size_t i = 0; i < sorting->count; i++) {
        struct item *item = &sorting->items[i];
        if (options->by)
            look_up(call, options->by, item->text, item->length, &item->by);
        if (options->alpha || (options->by && !item->by.data))
            continue;
        if (!options->by)
            numbers &= read_score(item->text, item->length, &item->score);
        else if (item->by.is_integer)
            item->score = (double)item->by.integer;
        else
            numbers &= read_score(item->by.data, item->by.length, &item->score);
    }
    return numbers;
}

static void sort_items(struct sorting *sorting) {
    const struct options *options = &sorting->options;
    for (size_t i = 0; options->descending && i < sorting->count; i++)
        sorting->items[i].number = sorting->count - 1 - i; /* equal ones stay in their order */
    if (sorting->count > 1)
        qsort(sorting->order, sorting->count, sizeof *sorting->order,
              !options->alpha ? by_score
              : options->by   ? by_value
                              : by_text);
    for (size_t i = 0; options->descending && i < sorting->count / 2; i++) {
        struct item *swapped = sorting->order[i];
        sorting->order[i] = sorting->order[sorting->count - 1 - i];
        sorting->order[sorting->count - 1 - i] = swapped;
    }
}

/* --- Result ----------------------------------------------------------------------------------- */

/* The part of the order that LIMIT leaves. */
static void limit(const struct sorting *sorting, size_t *first, size_t *end) {
    const struct options *options = &sorting->options;
    *first = options->skip < 0                          ? 0
             : (uint64_t)options->skip > sorting->count ? sorting->count
                                                        : (size_t)options->skip;
    *end = sorting->count;
    if (options->count >= 0 && (uint64_t)options->count < *end - *first)
        *end = *first + (size_t)options->count;
}

static void reply_result(struct call *call, const struct sorting *sorting, size_t first,
                         size_t end) {
    const struct options *options = &sorting->options;
    struct value value;
    reply_array(call->reply, (end - first) * (options->get_count ? options->get_count : 1));
    for (size_t i = first; i < end; i++) {
        const struct item *item = sorting->order[i];
        if (options->get_count == 0)
            reply_bulk(call->reply, item->text, item->length);
        for (size_t g = 0; g < options->get_count; g++) {
            look_up(call, options->get[g], item->text, item->length, &value);
            if (value.data)
                reply_bulk(call->reply, value.data, value.length);
            else
                reply_null(call->reply);
        }
    }
}

static void fill(struct call *call, const struct sorting *sorting, size_t first, size_t end,
                 struct collection_edit *draft) {
    const struct options *options = &sorting->options;
    struct value value;
    for (size_t i = first; i < end; i++) {
        const struct item *item = sorting->order[i];
        if (options->get_count == 0)
            list_push(draft, false, item->text, item->length);
        for (size_t g = 0; g < options->get_count; g++) {
            look_up(call, options->get[g], item->text, item->length, &value);
            list_push(draft, false, value.data ? value.data : "", value.length);
        }
    }
    list_was_made(draft);
}

static void store(struct call *call, const struct sorting *sorting, size_t first, size_t end) {
    struct collection_edit draft;
    struct key key = call_key(call, sorting->options.store_index);
    collection_draft_begin(&draft, OBJECT_LIST, ENCODING_LISTPACK);
    fill(call, sorting, first, end, &draft);
    uint64_t count = draft.count;
    struct object *object = collection_draft_end(&draft, key.data, key.length, OBJECT_NO_EXPIRY);
    struct object *old = call_find_write(call, &key);
    if (object) {
        data_publish(call, &key, old, object, CHANGE_SORTSTORE);
        change_count(call->change, count - 1);
    } else if (old) {
        keyspace_delete(call->change, call->database, &key, CHANGE_DEL);
    }
    reply_integer(call->reply, (int64_t)count);
}

static void sort_object(struct call *call, struct sorting *sorting, const struct object *object) {
    struct options *options = &sorting->options;
    if (options->unsorted && object && object_type(object) == OBJECT_SET && options->store_index) {
        options->unsorted = false; /* what is stored must not depend on the set's own order */
        options->alpha = true;
        options->by = NULL;
    }
    if (object)
        load(sorting, object);
    size_t first, end;
    if (!options->unsorted) {
        if (!weigh(call, sorting)) {
            reply_error(call->reply, "ERR One or more scores can't be converted into double");
            return;
        }
        sort_items(sorting);
    }
    limit(sorting, &first, &end);
    if (options->store_index)
        store(call, sorting, first, end);
    else
        reply_result(call, sorting, first, end);
}

static enum call_result sort(struct call *call, bool may_store) {
    struct sorting sorting = {.options = {.count = -1}};
    struct options *options = &sorting.options;
    options->get = memory_alloc((size_t)call->argc * sizeof *options->get);
    bool is_right = true;
    for (int i = 2; is_right && i < call->argc; i++)
        is_right = read_option(call, &i, may_store, options);
    if (is_right) {
        struct key key = call_key(call, 1);
        const struct object *object = call_find_read(call, &key);
        if (object && object_type(object) != OBJECT_LIST && object_type(object) != OBJECT_SET &&
            object_type(object) != OBJECT_ZSET)
            reply_error(call->reply, ERROR_WRONG_TYPE);
        else
            sort_object(call, &sorting, object);
    }
    memory_free(sorting.items);
    memory_free(sorting.order);
    memory_free(options->get);
    return CALL_DONE;
}

enum call_result cmd_sort(struct call *call) {
    return sort(call, true);
}

enum call_result cmd_sort_ro(struct call *call) {
    return sort(call, false);
}
