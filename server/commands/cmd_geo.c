/* Places in sorted sets: GEOADD, GEOPOS, GEODIST, GEOHASH.
 *
 * Run by: any worker, under the key's token; those that read also without, as long as the set is
 * packed. */
#include "server/commands/cmd_geo.h"

#include <math.h>
#include <stdio.h>

#include "engine/memory.h"
#include "server/base/numbers.h"

/* --- Arguments and replies -------------------------------------------------------------------- */

bool geo_place_argument(struct call *call, int index, struct geo_place *place) {
    if (!zset_double_argument(call, index, ERROR_NOT_FLOAT, &place->longitude) ||
        !zset_double_argument(call, index + 1, ERROR_NOT_FLOAT, &place->latitude))
        return false;
    if (geo_place_is_valid(place))
        return true;
    reply_error_format(call->reply, "ERR invalid longitude,latitude pair %f,%f", place->longitude,
                       place->latitude);
    return false;
}

bool geo_unit_argument(struct call *call, int index, double *metres) {
    static const struct {
        const char *name;
        double metres;
    } units[] = {{"m", 1}, {"km", 1000}, {"ft", 0.3048}, {"mi", 1609.34}};
    for (unsigned i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (!argument_is(&call->argv[index], units[i].name))
            continue;
        *metres = units[i].metres;
        return true;
    }
    reply_error(call->reply, "ERR unsupported unit provided. please use M, KM, FT, MI");
    return false;
}

bool geo_member_place(const struct object *object, const struct argument *member,
                      struct geo_place *place) {
    double score;
    if (!object || !zset_score(object, member->data, member->length, &score))
        return false;
    *place = geo_place_of(score);
    return true;
}

/* With four decimals. */
void geo_reply_distance(struct call *call, double distance) {
    char text[64];
    long long scaled = llrint(distance * 10000);
    int length = snprintf(text, sizeof text, "%lld.%04lld", scaled / 10000, scaled % 10000);
    reply_bulk(call->reply, text, (size_t)length);
}

static void reply_coordinate(struct reply *reply, double degrees) {
    char text[NUMBER_LONG_DOUBLE_SIZE];
    size_t length = number_write_long_double(text, (long double)degrees);
    if (reply->resp == 2) {
        reply_bulk(reply, text, length);
        return;
    }
    reply_literal(reply, ",");
    reply_raw(reply, text, length);
    reply_literal(reply, "\r\n");
}

void geo_reply_place(struct call *call, const struct geo_place *place) {
    reply_array(call->reply, 2);
    reply_coordinate(call->reply, place->longitude);
    reply_coordinate(call->reply, place->latitude);
}

/* --- GEOADD ----------------------------------------------------------------------------------- */

/* As ZADD with the scores: what others understand who know no places. options: argv[2] up to
 * argv[first]. */
static void propagate_as_zadd(struct call *call, int first, const struct zset_add *add) {
    size_t count = 0, room = (size_t)first + 2 * add->count;
    struct effect_argument *arguments = memory_alloc(room * sizeof *arguments);
    char(*texts)[NUMBER_INT64_SIZE] = memory_alloc(add->count * sizeof *texts);
    arguments[count++] = (struct effect_argument){"ZADD", 4};
    for (int i = 1; i < first; i++)
        arguments[count++] = (struct effect_argument){call->argv[i].data, call->argv[i].length};
    for (uint64_t i = 0; i < add->count; i++) {
        const struct argument *member = &call->argv[add->first + (int)i * add->step];
        size_t length = number_write_uint64(texts[i], (uint64_t)add->scores[i]);
        arguments[count++] = (struct effect_argument){texts[i], length};
        arguments[count++] = (struct effect_argument){member->data, member->length};
    }
    call_propagate(call, arguments, count);
    memory_free(texts);
    memory_free(arguments);
}

/* Behind the options. */
static int read_add_options(struct call *call, struct zset_add *add) {
    int at = 2;
    for (; at < call->argc; at++) {
        if (argument_is(&call->argv[at], "nx"))
            add->nx = true;
        else if (argument_is(&call->argv[at], "xx"))
            add->xx = true;
        else if (argument_is(&call->argv[at], "ch"))
            add->changed = true;
        else
            break;
    }
    return at;
}

enum call_result cmd_geoadd(struct call *call) {
    struct zset_add add = {.step = 3};
    int first = read_add_options(call, &add);
    if (first == call->argc || (call->argc - first) % 3 != 0 || (add.nx && add.xx)) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    add.first = first + 2;
    add.count = (uint64_t)(call->argc - first) / 3;
    double *scores = memory_alloc(add.count * sizeof *scores);
    bool valid = true;
    for (uint64_t i = 0; i < add.count && valid; i++) {
        struct geo_place place;
        valid = geo_place_argument(call, first + 3 * (int)i, &place);
        if (valid)
            scores[i] = (double)geo_score(&place);
    }
    add.scores = scores;
    if (valid) {
        uint64_t dirty = atomic_load_explicit(&call->change->dirty, memory_order_relaxed);
        zset_add_reply(call, &add);
        if (call_is_logged(call) &&
            dirty != atomic_load_explicit(&call->change->dirty, memory_order_relaxed))
            propagate_as_zadd(call, first, &add);
    }
    memory_free(scores);
    return CALL_DONE;
}

/* --- Looking at places ------------------------------------------------------------------------ */

static void reply_place(struct call *call, const struct object *object,
                        const struct argument *member) {
    struct geo_place place;
    if (geo_member_place(object, member, &place))
        geo_reply_place(call, &place);
    else
        reply_null_array(call->reply);
}

enum call_result cmd_geopos(struct call *call) {
    return collection_ask_each(call, OBJECT_ZSET, reply_place);
}

enum call_result cmd_geodist(struct call *call) {
    struct object *object;
    double unit = 1;
    if (call->argc > 5) {
        reply_error(call->reply, ERROR_SYNTAX);
        return CALL_DONE;
    }
    if (call->argc == 5 && !geo_unit_argument(call, 4, &unit))
        return CALL_DONE;
    enum collection_found found = collection_read(call, 1, OBJECT_ZSET, &object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE)
        return CALL_DONE;
    struct geo_place a, b;
    if (geo_member_place(object, &call->argv[2], &a) &&
        geo_member_place(object, &call->argv[3], &b))
        geo_reply_distance(call, geo_distance(&a, &b) / unit);
    else
        reply_null(call->reply);
    return CALL_DONE;
}

/* Five bits a character; the eleventh would have but two of them and is always the first one. */
#define HASH_CHARACTERS 11
#define HASH_BITS       52

static void reply_hash(struct call *call, const struct object *object,
                       const struct argument *member) {
    static const char alphabet[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    struct geo_place place;
    if (!geo_member_place(object, member, &place)) {
        reply_null(call->reply);
        return;
    }
    uint64_t hash = geo_standard_hash(&place);
    char text[HASH_CHARACTERS];
    for (unsigned i = 0; i < HASH_CHARACTERS - 1; i++)
        text[i] = alphabet[hash >> (HASH_BITS - 5 * (i + 1)) & 31];
    text[HASH_CHARACTERS - 1] = alphabet[0];
    reply_bulk(call->reply, text, sizeof text);
}

enum call_result cmd_geohash(struct call *call) {
    return collection_ask_each(call, OBJECT_ZSET, reply_hash);
}
