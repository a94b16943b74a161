/* Reading collections of all RDB types.
 *
 * Packed bytes of today's forms that are sound, without doubles, and within both what is embedded
 * and the configured limits become the object as they are. All else is put into a draft element by
 * element, and gets the encoding that it would have got by commands; but as in Redis, what comes as
 * a listpack or a ziplist is a listpack by name if only its number of elements is within the
 * limits.
 *
 * Everything is checked whatever sanitize-dump-payload says: nothing later looks again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/memory.h"
#include "engine/table.h"
#include "engine/types/hash.h"
#include "engine/types/intset.h"
#include "engine/types/list.h"
#include "engine/types/set.h"
#include "engine/types/zset.h"
#include "replication/rdb_collection.h"
#include "replication/rdb_field_times.h"
#include "replication/rdb_read.h"
#include "replication/rdb_ziplist.h"

#define SCORE_TEXT_MAX 256 /* with its end */
/* Of sorted sets of version 1, in place of the length of a text. */
#define SCORE_NAN      253
#define SCORE_PLUS     254
#define SCORE_MINUS    255

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_error = (call);                                                                    \
        if (try_error)                                                                             \
            return try_error;                                                                      \
    } while (0)

/* How the value of a type lies in the file. */
enum form {
    FORM_NONE,
    FORM_STRINGS, /* their number, then each by itself */
    FORM_LISTPACK,
    FORM_INTSET,
    FORM_ZIPLIST,
    FORM_ZIPMAP,
    FORM_NODES, /* of a quicklist: their number, then each by itself */
};

struct value_type {
    enum form form;
    enum object_type type;
    const char *broken; /* the message if the packed bytes are */
};

static const struct value_type value_types[RDB_TYPES] = {
    [RDB_TYPE_LIST] = {FORM_STRINGS, OBJECT_LIST, NULL},
    [RDB_TYPE_SET] = {FORM_STRINGS, OBJECT_SET, NULL},
    [RDB_TYPE_ZSET] = {FORM_STRINGS, OBJECT_ZSET, NULL},
    [RDB_TYPE_HASH] = {FORM_STRINGS, OBJECT_HASH, NULL},
    [RDB_TYPE_ZSET_2] = {FORM_STRINGS, OBJECT_ZSET, NULL},
    [RDB_TYPE_HASH_ZIPMAP] = {FORM_ZIPMAP, OBJECT_HASH, "Zipmap integrity check failed."},
    [RDB_TYPE_LIST_ZIPLIST] = {FORM_ZIPLIST, OBJECT_LIST, "List ziplist integrity check failed."},
    [RDB_TYPE_SET_INTSET] = {FORM_INTSET, OBJECT_SET, "Intset integrity check failed."},
    [RDB_TYPE_ZSET_ZIPLIST] = {FORM_ZIPLIST, OBJECT_ZSET, "Zset ziplist integrity check failed."},
    [RDB_TYPE_HASH_ZIPLIST] = {FORM_ZIPLIST, OBJECT_HASH, "Hash ziplist integrity check failed."},
    [RDB_TYPE_LIST_QUICKLIST] = {FORM_NODES, OBJECT_LIST, "Ziplist integrity check failed."},
    [RDB_TYPE_HASH_LISTPACK] = {FORM_LISTPACK, OBJECT_HASH,
                                "Hash listpack integrity check failed."},
    [RDB_TYPE_ZSET_LISTPACK] = {FORM_LISTPACK, OBJECT_ZSET,
                                "Zset listpack integrity check failed."},
    [RDB_TYPE_LIST_QUICKLIST_2] = {FORM_NODES, OBJECT_LIST, "Listpack integrity check failed."},
    [RDB_TYPE_SET_LISTPACK] = {FORM_LISTPACK, OBJECT_SET, "Set listpack integrity check failed."},
};

bool rdb_collection_has(unsigned type) {
    return type < RDB_TYPES && (value_types[type].form != FORM_NONE || rdb_has_field_times(type));
}

/* The key that the value gets. */
struct target {
    const char *key;
    size_t key_length;
    int64_t expiry_ms;
};

static bool has_pairs(enum object_type type) {
    return type == OBJECT_HASH || type == OBJECT_ZSET;
}

/* --- A draft that elements are put into ------------------------------------------------------- */

struct filling {
    struct collection_edit draft;
    struct element first; /* of a pair whose second half is to come */
    bool in_pair;
    const char *problem; /* that an element had */
};

static void fill_begin(struct filling *filling, const struct value_type *from) {
    enum object_encoding encoding = ENCODING_LISTPACK;
    if (from->type == OBJECT_LIST)
        encoding = ENCODING_QUICKLIST; /* until all of it has been seen */
    else if (from->type == OBJECT_SET && from->form != FORM_LISTPACK)
        encoding = ENCODING_INTSET;
    *filling = (struct filling){.in_pair = false};
    collection_draft_begin(&filling->draft, from->type, encoding);
}

/* The number at the beginning of the text, as strtod has it; 0: there is none. */
static double score_of(const struct element *element, bool *whole) {
    *whole = true;
    if (!element->data)
        return (double)element->integer;
    char text[SCORE_TEXT_MAX], *end;
    *whole = element->length > 0 && element->length < sizeof text;
    size_t length = element->length < sizeof text ? element->length : sizeof text - 1;
    memcpy(text, element->data, length);
    text[length] = 0;
    double score = strtod(text, &end);
    *whole &= end == text + length;
    return score;
}

static bool put_scored(struct filling *filling, const char *member, size_t length, double score) {
    if (isnan(score))
        filling->problem = "Zset with NAN score detected";
    else if (!zset_put(&filling->draft, member, length, score))
        filling->problem = "Duplicate zset fields detected";
    return !filling->problem;
}

static bool put_field(struct filling *filling, const char *field, size_t field_length,
                      const char *value, size_t value_length) {
    if (!hash_put(&filling->draft, field, field_length, value, value_length))
        filling->problem = "Duplicate hash fields detected";
    return !filling->problem;
}

static bool put_single(struct filling *filling, const char *data, size_t length) {
    if (filling->draft.type == OBJECT_LIST)
        list_push(&filling->draft, false, data, length);
    else if (!set_add(&filling->draft, data, length))
        filling->problem = "Duplicate set members detected";
    return !filling->problem;
}

/* The next element of packed bytes, which stay where they are. */
static bool put_element(void *context, const struct element *element) {
    struct filling *filling = context;
    char room[LISTPACK_INTEGER_ROOM], first_room[LISTPACK_INTEGER_ROOM];
    size_t length, first_length;
    if (has_pairs(filling->draft.type) && !filling->in_pair) {
        filling->first = *element;
        filling->in_pair = true;
        return true;
    }
    const char *text = element_text(element, room, &length);
    if (!filling->in_pair)
        return put_single(filling, text, length);
    filling->in_pair = false;
    const char *first = element_text(&filling->first, first_room, &first_length);
    bool whole;
    return filling->draft.type == OBJECT_HASH
               ? put_field(filling, first, first_length, text, length)
               : put_scored(filling, first, first_length, score_of(element, &whole));
}

static int fill_end(struct rdb_reader *reader, struct filling *filling, int error,
                    const struct target *target, struct object **object) {
    if (error == 0 && filling->problem)
        error = rdb_corrupt(reader, filling->problem);
    if (error) {
        collection_draft_drop(&filling->draft);
        return error;
    }
    if (filling->draft.type == OBJECT_LIST)
        list_was_made(&filling->draft);
    *object =
        collection_draft_end(&filling->draft, target->key, target->key_length, target->expiry_ms);
    return *object ? 0 : RDB_ERROR_EMPTY;
}

/* --- Packed bytes ----------------------------------------------------------------------------- */

/* Fits a listpack of COLLECTION_PACKED_MAX_BYTES with the shortest entries. */
#define DOUBLES_SLOTS 4096

/* Whether two members (every step-th entry) of a sound listpack of at most
 * COLLECTION_PACKED_MAX_BYTES are the same. A table of offsets by the members' hash. */
static bool has_doubles(const uint8_t *listpack, unsigned step, size_t members) {
    uint16_t offsets[DOUBLES_SLOTS];
    size_t slots = 8;
    while (slots < 2 * members)
        slots *= 2;
    ASSERT(slots <= DOUBLES_SLOTS);
    memset(offsets, 0, slots * sizeof *offsets);
    const uint8_t *entry = listpack_first(listpack);
    while (entry) {
        struct element element, other;
        char room[LISTPACK_INTEGER_ROOM];
        size_t length;
        listpack_get(entry, &element);
        const char *text = element_text(&element, room, &length);
        size_t slot = table_hash(text, length) & (slots - 1);
        for (; offsets[slot]; slot = (slot + 1) & (slots - 1)) {
            listpack_get(listpack + offsets[slot], &other);
            if (element_equals(&other, text, length))
                return true;
        }
        offsets[slot] = (uint16_t)(entry - listpack);
        for (unsigned i = 0; i < step && entry; i++)
            entry = listpack_next(listpack, entry);
    }
    return false;
}

static int compare_texts(const struct element *a, const struct element *b) {
    char room_a[LISTPACK_INTEGER_ROOM], room_b[LISTPACK_INTEGER_ROOM];
    size_t length_a, length_b;
    const char *text_a = element_text(a, room_a, &length_a);
    const char *text_b = element_text(b, room_b, &length_b);
    int order = memcmp(text_a, text_b, length_a < length_b ? length_a : length_b);
    return order ? order : (length_a > length_b) - (length_a < length_b);
}

/* All scores are numbers, and the members are in their order. */
static bool is_ordered(const uint8_t *listpack) {
    struct element member, before = {0}, score_element;
    double score_before = -INFINITY;
    bool whole, first = true;
    const uint8_t *entry = listpack_first(listpack);
    while (entry) {
        listpack_get(entry, &member);
        entry = listpack_next(listpack, entry);
        listpack_get(entry, &score_element);
        double score = score_of(&score_element, &whole);
        if (!whole || isnan(score) || score < score_before)
            return false;
        if (!first && score <= score_before && compare_texts(&before, &member) >= 0)
            return false;
        first = false;
        before = member;
        score_before = score;
        entry = listpack_next(listpack, entry);
    }
    return true;
}

/* Limits of list-max-listpack-size. */
static bool list_may_be_packed(size_t bytes, size_t count) {
    static const size_t by_level[] = {4096, 8192, 16384, 32768, 65536};
    int64_t limit = collection_limits.list_listpack_size;
    if (limit >= 0)
        return bytes <= 8192 && count <= (uint64_t)limit;
    return bytes <= by_level[limit < -5 ? 4 : -limit - 1];
}

/* Whether so many entries may be a listpack by their number. */
static bool may_be_listpack(enum object_type type, size_t bytes, size_t entries) {
    switch (type) {
    case OBJECT_HASH:
        return entries / 2 <= collection_limits.hash_listpack_entries;
    case OBJECT_ZSET:
        return entries / 2 <= collection_limits.zset_listpack_entries;
    case OBJECT_SET:
        return entries <= collection_limits.set_listpack_entries;
    default:
        return list_may_be_packed(bytes, entries);
    }
}

/* A sound listpack that is not empty. */
static bool is_taken_as_it_is(enum object_type type, const uint8_t *bytes, size_t length,
                              size_t entries) {
    if (length > COLLECTION_PACKED_MAX_BYTES || !may_be_listpack(type, length, entries))
        return false;
    if (type == OBJECT_LIST)
        return true;
    unsigned step = has_pairs(type) ? 2 : 1;
    return !has_doubles(bytes, step, entries / step) && (type != OBJECT_ZSET || is_ordered(bytes));
}

static bool visit_listpack(const uint8_t *listpack, struct filling *filling) {
    const uint8_t *entry = listpack_first(listpack);
    for (; entry; entry = listpack_next(listpack, entry)) {
        struct element element;
        listpack_get(entry, &element);
        if (!put_element(filling, &element))
            return false;
    }
    return true;
}

static int read_listpack(struct rdb_reader *reader, const struct value_type *from,
                         const uint8_t *bytes, size_t length, const struct target *target,
                         struct object **object) {
    if (!listpack_is_sound(bytes, length, true))
        return rdb_corrupt(reader, from->broken);
    size_t entries = listpack_count(bytes);
    if (has_pairs(from->type) && entries % 2)
        return rdb_corrupt(reader, from->broken);
    if (entries == 0)
        return RDB_ERROR_EMPTY;
    if (is_taken_as_it_is(from->type, bytes, length, entries)) {
        *object = object_make_packed(target->key, target->key_length, from->type, ENCODING_LISTPACK,
                                     bytes, length, target->expiry_ms);
        return 0;
    }
    struct filling filling;
    fill_begin(&filling, from);
    int error = visit_listpack(bytes, &filling) ? 0 : rdb_corrupt(reader, from->broken);
    if (filling.draft.body && may_be_listpack(from->type, length, entries))
        filling.draft.encoding = ENCODING_LISTPACK;
    return fill_end(reader, &filling, error, target, object);
}

static int read_intset(struct rdb_reader *reader, const struct value_type *from,
                       const uint8_t *bytes, size_t length, const struct target *target,
                       struct object **object) {
    if (!intset_is_sound(bytes, length, true))
        return rdb_corrupt(reader, from->broken);
    size_t count = intset_count(bytes);
    if (length <= COLLECTION_PACKED_MAX_BYTES && count <= collection_limits.set_intset_entries) {
        *object = object_make_packed(target->key, target->key_length, OBJECT_SET, ENCODING_INTSET,
                                     bytes, length, target->expiry_ms);
        return 0;
    }
    struct filling filling;
    fill_begin(&filling, from);
    for (size_t i = 0; i < count; i++) {
        struct element element = {.integer = intset_at(bytes, i)};
        put_element(&filling, &element);
    }
    return fill_end(reader, &filling, 0, target, object);
}

/* A ziplist or a zipmap. */
static int read_old(struct rdb_reader *reader, const struct value_type *from, const uint8_t *bytes,
                    size_t length, const struct target *target, struct object **object) {
    struct filling filling;
    fill_begin(&filling, from);
    bool whole = from->form == FORM_ZIPMAP
                     ? rdb_zipmap_visit(bytes, length, put_element, &filling)
                     : rdb_ziplist_visit(bytes, length, put_element, &filling);
    int error = whole && !filling.in_pair ? 0 : rdb_corrupt(reader, from->broken);
    if (filling.draft.body && from->form == FORM_ZIPLIST && from->type != OBJECT_LIST &&
        may_be_listpack(from->type, length, 2 * filling.draft.count))
        filling.draft.encoding = ENCODING_LISTPACK;
    return fill_end(reader, &filling, error, target, object);
}

static int read_packed(struct rdb_reader *reader, const struct value_type *from,
                       const struct target *target, struct object **object) {
    const char *text;
    size_t length;
    TRY(rdb_read_string(reader, &text, &length));
    const uint8_t *bytes = (const uint8_t *)text;
    switch (from->form) {
    case FORM_LISTPACK:
        return read_listpack(reader, from, bytes, length, target, object);
    case FORM_INTSET:
        return read_intset(reader, from, bytes, length, target, object);
    default:
        return read_old(reader, from, bytes, length, target, object);
    }
}

/* --- Elements by themselves ------------------------------------------------------------------- */

static int read_score_text(struct rdb_reader *reader, double *score) {
    const uint8_t *bytes;
    TRY(rdb_read_window(reader, 1, &bytes));
    size_t length = *bytes;
    if (length >= SCORE_NAN) {
        *score = length == SCORE_PLUS ? INFINITY : length == SCORE_MINUS ? -INFINITY : NAN;
        return 0;
    }
    TRY(rdb_read_window(reader, length, &bytes));
    char text[SCORE_TEXT_MAX], *end;
    memcpy(text, bytes, length);
    text[length] = 0;
    *score = strtod(text, &end);
    return end == text ? rdb_corrupt(reader, "A score is no number") : 0;
}

static int read_score(struct rdb_reader *reader, unsigned type, double *score) {
    if (type == RDB_TYPE_ZSET)
        return read_score_text(reader, score);
    const uint8_t *bytes;
    TRY(rdb_read_window(reader, sizeof *score, &bytes));
    memcpy(score, bytes, sizeof *score);
    return 0;
}

static int read_one(struct rdb_reader *reader, unsigned type, struct filling *filling) {
    const char *text;
    size_t length, first_length;
    if (!has_pairs(filling->draft.type)) {
        TRY(rdb_read_string(reader, &text, &length));
        put_single(filling, text, length);
        return 0;
    }
    TRY(rdb_read_kept_string(reader, &first_length));
    if (filling->draft.type == OBJECT_HASH) {
        TRY(rdb_read_string(reader, &text, &length));
        put_field(filling, reader->element, first_length, text, length);
    } else {
        double score;
        TRY(read_score(reader, type, &score));
        put_scored(filling, reader->element, first_length, score);
    }
    return 0;
}

static int read_strings(struct rdb_reader *reader, unsigned type, uint64_t count,
                        const struct target *target, struct object **object) {
    struct filling filling;
    fill_begin(&filling, &value_types[type]);
    int error = 0;
    for (; count > 0 && !error && !filling.problem; count--)
        error = read_one(reader, type, &filling);
    return fill_end(reader, &filling, error, target, object);
}

/* --- Nodes of quicklists ---------------------------------------------------------------------- */

/* What kind the next node is. */
static int read_node_kind(struct rdb_reader *reader, unsigned type, uint64_t *kind) {
    *kind = RDB_NODE_PACKED;
    if (type != RDB_TYPE_LIST_QUICKLIST_2)
        return 0;
    TRY(rdb_read_length(reader, kind));
    if (*kind != RDB_NODE_PACKED && *kind != RDB_NODE_PLAIN)
        return rdb_corrupt(reader, "Quicklist integrity check failed.");
    return 0;
}

static int read_node(struct rdb_reader *reader, unsigned type, struct filling *filling) {
    uint64_t kind;
    const char *text;
    size_t length;
    TRY(read_node_kind(reader, type, &kind));
    TRY(rdb_read_string(reader, &text, &length));
    const uint8_t *bytes = (const uint8_t *)text;
    if (length == 0)
        return rdb_corrupt(reader, value_types[type].broken);
    if (kind == RDB_NODE_PLAIN) {
        list_push(&filling->draft, false, text, length);
        return 0;
    }
    bool sound = type == RDB_TYPE_LIST_QUICKLIST
                     ? rdb_ziplist_visit(bytes, length, put_element, filling)
                     : listpack_is_sound(bytes, length, true) && visit_listpack(bytes, filling);
    return sound ? 0 : rdb_corrupt(reader, value_types[type].broken);
}

/* The only node, if it may be the object as it is; then *object is set. */
static int read_only_node(struct rdb_reader *reader, const struct target *target,
                          struct filling *filling, struct object **object) {
    uint64_t kind;
    const char *text;
    size_t length;
    TRY(read_node_kind(reader, RDB_TYPE_LIST_QUICKLIST_2, &kind));
    TRY(rdb_read_string(reader, &text, &length));
    const uint8_t *bytes = (const uint8_t *)text;
    const struct value_type *from = &value_types[RDB_TYPE_LIST_QUICKLIST_2];
    if (kind == RDB_NODE_PLAIN && length > 0) {
        list_push(&filling->draft, false, text, length);
        return 0;
    }
    if (!listpack_is_sound(bytes, length, true))
        return rdb_corrupt(reader, from->broken);
    size_t entries = listpack_count(bytes);
    if (entries > 0 && is_taken_as_it_is(OBJECT_LIST, bytes, length, entries))
        *object = object_make_packed(target->key, target->key_length, OBJECT_LIST,
                                     ENCODING_LISTPACK, bytes, length, target->expiry_ms);
    else
        visit_listpack(bytes, filling);
    return 0;
}

static int read_nodes(struct rdb_reader *reader, unsigned type, uint64_t count,
                      const struct target *target, struct object **object) {
    struct filling filling;
    fill_begin(&filling, &value_types[type]);
    int error = 0;
    *object = NULL;
    if (count == 1 && type == RDB_TYPE_LIST_QUICKLIST_2)
        error = read_only_node(reader, target, &filling, object);
    else
        for (; count > 0 && !error; count--)
            error = read_node(reader, type, &filling);
    if (*object) {
        collection_draft_drop(&filling.draft);
        return 0;
    }
    return fill_end(reader, &filling, error, target, object);
}

bool rdb_collection_is_counted(unsigned type) {
    return type < RDB_TYPES &&
           (value_types[type].form == FORM_STRINGS || value_types[type].form == FORM_NODES);
}

int rdb_collection_read_counted(struct rdb_reader *reader, unsigned type, uint64_t count,
                                const char *key, size_t key_length, int64_t expiry_ms,
                                struct object **object) {
    ASSERT(rdb_collection_is_counted(type));
    const struct target target = {key, key_length, expiry_ms};
    int error = value_types[type].form == FORM_STRINGS
                    ? read_strings(reader, type, count, &target, object)
                    : read_nodes(reader, type, count, &target, object);
    return error == RDB_ERROR_EMPTY ? rdb_empty(reader, key, key_length) : error;
}

int rdb_collection_read(struct rdb_reader *reader, unsigned type, const char *key,
                        size_t key_length, int64_t expiry_ms, struct object **object) {
    ASSERT(rdb_collection_has(type));
    if (rdb_has_field_times(type))
        return rdb_field_times_read(reader, type, key, key_length, expiry_ms, object);
    if (rdb_collection_is_counted(type)) {
        uint64_t count;
        TRY(rdb_read_length(reader, &count));
        return rdb_collection_read_counted(reader, type, count, key, key_length, expiry_ms, object);
    }
    const struct target target = {key, key_length, expiry_ms};
    int error = read_packed(reader, &value_types[type], &target, object);
    return error == RDB_ERROR_EMPTY ? rdb_empty(reader, key, key_length) : error;
}

/* --- Passing over ----------------------------------------------------------------------------- */

static int skip_score(struct rdb_reader *reader, unsigned type) {
    if (type == RDB_TYPE_ZSET_2)
        return rdb_skip(reader, sizeof(double));
    const uint8_t *length;
    TRY(rdb_read_window(reader, 1, &length));
    return *length < SCORE_NAN ? rdb_skip(reader, *length) : 0;
}

static int skip_one(struct rdb_reader *reader, unsigned type) {
    uint64_t kind;
    if (value_types[type].form == FORM_NODES)
        TRY(read_node_kind(reader, type, &kind));
    TRY(rdb_skip_string(reader));
    if (type == RDB_TYPE_HASH)
        return rdb_skip_string(reader);
    return type == RDB_TYPE_ZSET || type == RDB_TYPE_ZSET_2 ? skip_score(reader, type) : 0;
}

int rdb_collection_skip_counted(struct rdb_reader *reader, unsigned type, uint64_t count) {
    ASSERT(rdb_collection_is_counted(type));
    for (; count > 0; count--)
        TRY(skip_one(reader, type));
    return 0;
}

int rdb_collection_skip(struct rdb_reader *reader, unsigned type) {
    ASSERT(rdb_collection_has(type));
    if (rdb_has_field_times(type))
        return rdb_field_times_skip(reader, type);
    if (!rdb_collection_is_counted(type))
        return rdb_skip_string(reader);
    uint64_t count;
    TRY(rdb_read_length(reader, &count));
    return rdb_collection_skip_counted(reader, type, count);
}
