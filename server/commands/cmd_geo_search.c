/* What lies near a place: GEOSEARCH, GEOSEARCHSTORE, GEORADIUS, GEORADIUSBYMEMBER and the forms of
 * these that only read.
 *
 * The shape is covered by up to nine cells, each of which is a range of scores; what is found there
 * is looked at one by one.
 *
 * Run by: any worker, under the keys' tokens; those that read also without, as long as the set is
 * packed. */
#include <stdlib.h>

#include "engine/memory.h"
#include "server/commands/cmd_geo.h"

/* How the arguments are written. */
enum form { RADIUS, RADIUS_BY_MEMBER, SEARCH };
enum sorting { UNSORTED, NEAREST_FIRST, FARTHEST_FIRST };

struct search {
    enum form form;
    int source;     /* argv[source] is the key that is searched */
    int options;    /* where the options begin */
    bool may_store; /* STORE and STOREDIST are options */
    bool is_store;  /* GEOSEARCHSTORE */
    int store;      /* argv[store] is the key where the result goes; 0: it is replied */
    bool store_distance;
    struct object *object; /* NULL: absent */
    struct geo_shape shape;
    bool from_member, from_place, by_radius, by_box;
    bool with_distance, with_hash, with_place;
    enum sorting sorting;
    int64_t count; /* 0: all */
    bool any;
};

/* --- Arguments -------------------------------------------------------------------------------- */

/* A length that is not negative. */
static bool read_length(struct call *call, int index, const char *not_numeric, const char *negative,
                        double *length) {
    if (!zset_double_argument(call, index, not_numeric, length))
        return false;
    if (*length >= 0)
        return true;
    reply_error(call->reply, negative);
    return false;
}

static bool read_radius(struct call *call, int index, struct geo_shape *shape) {
    shape->is_box = false;
    return read_length(call, index, "ERR need numeric radius", "ERR radius cannot be negative",
                       &shape->radius) &&
           geo_unit_argument(call, index + 1, &shape->unit);
}

static bool read_box(struct call *call, int index, struct geo_shape *shape) {
    shape->is_box = true;
    if (!zset_double_argument(call, index, "ERR need numeric width", &shape->width) ||
        !zset_double_argument(call, index + 1, "ERR need numeric height", &shape->height))
        return false;
    if (shape->width < 0 || shape->height < 0) {
        reply_error(call->reply, "ERR height or width cannot be negative");
        return false;
    }
    return geo_unit_argument(call, index + 2, &shape->unit);
}

/* Without a source there is nothing to be looked up, nor to be found later. */
static bool read_center_member(struct call *call, struct search *search, int index) {
    if (!search->object ||
        geo_member_place(search->object, &call->argv[index], &search->shape.center))
        return true;
    reply_error(call->reply, "ERR could not decode requested zset member");
    return false;
}

static bool read_count(struct call *call, struct search *search, int index) {
    if (!argument_integer(call, index, &search->count))
        return false;
    if (search->count > 0)
        return true;
    reply_error(call->reply, "ERR COUNT must be > 0");
    return false;
}

/* One that stands alone. */
static bool read_flag(struct search *search, const struct argument *option) {
    if (argument_is(option, "withdist"))
        search->with_distance = true;
    else if (argument_is(option, "withhash"))
        search->with_hash = true;
    else if (argument_is(option, "withcoord"))
        search->with_place = true;
    else if (argument_is(option, "any"))
        search->any = true;
    else if (argument_is(option, "asc"))
        search->sorting = NEAREST_FIRST;
    else if (argument_is(option, "desc"))
        search->sorting = FARTHEST_FIRST;
    else if (search->is_store && argument_is(option, "storedist"))
        search->store_distance = true;
    else
        return false;
    return true;
}

/* Where STORE or STOREDIST of GEORADIUS is to go; false: it is no such option. */
static bool read_store(struct call *call, struct search *search, int at) {
    bool distance = argument_is(&call->argv[at], "storedist");
    if (!search->may_store || at + 1 >= call->argc ||
        (!distance && !argument_is(&call->argv[at], "store")))
        return false;
    search->store = at + 1;
    search->store_distance = distance;
    return true;
}

/* An option of GEOSEARCH with arguments. Returns how many these are; 0: it is no such option; below
 * 0: error replied. */
static int read_search_option(struct call *call, struct search *search, int at) {
    const struct argument *option = &call->argv[at];
    int left = call->argc - at - 1;
    if (search->form != SEARCH)
        return 0;
    if (left >= 1 && !search->from_place && argument_is(option, "frommember")) {
        search->from_member = true;
        return read_center_member(call, search, at + 1) ? 1 : -1;
    }
    if (left >= 2 && !search->from_member && argument_is(option, "fromlonlat")) {
        search->from_place = true;
        return geo_place_argument(call, at + 1, &search->shape.center) ? 2 : -1;
    }
    if (left >= 2 && !search->by_box && argument_is(option, "byradius")) {
        search->by_radius = true;
        return read_radius(call, at + 1, &search->shape) ? 2 : -1;
    }
    if (left >= 3 && !search->by_radius && argument_is(option, "bybox")) {
        search->by_box = true;
        return read_box(call, at + 1, &search->shape) ? 3 : -1;
    }
    return 0;
}

static bool read_options(struct call *call, struct search *search) {
    for (int i = search->options; i < call->argc; i++) {
        if (read_flag(search, &call->argv[i]))
            continue;
        int arguments = 0;
        if (i + 1 < call->argc && argument_is(&call->argv[i], "count"))
            arguments = read_count(call, search, i + 1) ? 1 : -1;
        else if (read_store(call, search, i))
            arguments = 1;
        else
            arguments = read_search_option(call, search, i);
        if (arguments < 0)
            return false;
        if (arguments == 0) {
            reply_error(call->reply, ERROR_SYNTAX);
            return false;
        }
        i += arguments;
    }
    return true;
}

/* false: error replied. */
static bool options_agree(struct call *call, const struct search *search) {
    int name_length = (int)call->argv[0].length;
    if (search->store && (search->with_distance || search->with_hash || search->with_place)) {
        reply_error_format(call->reply,
                           "ERR %s is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
                           search->is_store ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS");
        return false;
    }
    if (search->form == SEARCH && !search->from_member && !search->from_place) {
        reply_error_format(call->reply,
                           "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %.*s",
                           name_length, call->argv[0].data);
        return false;
    }
    if (search->form == SEARCH && !search->by_radius && !search->by_box) {
        reply_error_format(call->reply,
                           "ERR exactly one of BYRADIUS and BYBOX can be specified for %.*s",
                           name_length, call->argv[0].data);
        return false;
    }
    if (search->any && search->count == 0) {
        reply_error(call->reply, "ERR the ANY argument requires COUNT argument");
        return false;
    }
    return true;
}

static bool read_arguments(struct call *call, struct search *search) {
    switch (search->form) {
    case RADIUS:
        search->options = 6;
        if (!geo_place_argument(call, 2, &search->shape.center) ||
            !read_radius(call, 4, &search->shape))
            return false;
        break;
    case RADIUS_BY_MEMBER:
        search->options = 5;
        if (search->object &&
            (!read_center_member(call, search, 2) || !read_radius(call, 3, &search->shape)))
            return false;
        break;
    case SEARCH:
        search->options = search->source + 1;
        search->store = search->is_store ? 1 : 0;
        break;
    }
    if (!read_options(call, search) || !options_agree(call, search))
        return false;
    if (search->count > 0 && search->sorting == UNSORTED && !search->any)
        search->sorting = NEAREST_FIRST;
    return true;
}

/* --- Searching -------------------------------------------------------------------------------- */

struct point {
    struct element member; /* in the set */
    struct geo_place place;
    double distance, score;
};

struct points {
    const struct search *search;
    struct point *points;
    size_t count, room;
};

static bool is_enough(const struct points *points) {
    return points->search->any && points->count >= (uint64_t)points->search->count;
}

static bool point_visit(void *context, const struct element *member, const struct element *value,
                        double score) {
    (void)value;
    struct points *points = context;
    struct point point = {.member = *member, .place = geo_place_of(score), .score = score};
    if (!geo_shape_contains(&points->search->shape, &point.place, &point.distance))
        return true;
    if (points->count == points->room) {
        points->room = points->room ? 2 * points->room : 16;
        points->points = memory_realloc(points->points, points->room * sizeof point);
    }
    points->points[points->count++] = point;
    return !is_enough(points);
}

static int compare_nearest(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

static int compare_farthest(const void *a, const void *b) {
    return compare_nearest(b, a);
}

static void find_points(struct points *points) {
    const struct search *search = points->search;
    const struct object *object = search->object;
    struct geo_cell cells[GEO_CELLS];
    unsigned count = geo_shape_cells(&search->shape, cells);
    for (unsigned i = 0; i < count && !is_enough(points); i++) {
        uint64_t first = zset_below(object, (double)cells[i].min, false);
        uint64_t end = zset_below(object, (double)cells[i].end, false);
        zset_visit_range(object, first, end - first, false, point_visit, points);
    }
    if (search->sorting != UNSORTED && points->count > 1)
        qsort(points->points, points->count, sizeof(struct point),
              search->sorting == NEAREST_FIRST ? compare_nearest : compare_farthest);
    if (search->count > 0 && points->count > (uint64_t)search->count)
        points->count = (size_t)search->count;
}

/* --- Results ---------------------------------------------------------------------------------- */

static void reply_points(struct call *call, const struct points *points) {
    const struct search *search = points->search;
    size_t extras = (size_t)search->with_distance + search->with_hash + search->with_place;
    reply_array(call->reply, points->count);
    for (size_t i = 0; i < points->count; i++) {
        const struct point *point = &points->points[i];
        if (extras > 0)
            reply_array(call->reply, extras + 1);
        reply_element(call->reply, &point->member);
        if (search->with_distance)
            geo_reply_distance(call, point->distance / search->shape.unit);
        if (search->with_hash)
            reply_integer(call->reply, (int64_t)point->score);
        if (search->with_place)
            geo_reply_place(call, &point->place);
    }
}

static void store_points(struct call *call, const struct points *points) {
    const struct search *search = points->search;
    struct collection_edit draft;
    collection_draft_begin(&draft, OBJECT_ZSET, ENCODING_LISTPACK);
    for (size_t i = 0; i < points->count; i++) {
        const struct point *point = &points->points[i];
        double score = search->store_distance ? point->distance / search->shape.unit : point->score;
        zset_store_visit(&draft, &point->member, NULL, score);
    }
    uint64_t count = zset_store(call, search->store, &draft,
                                search->is_store ? CHANGE_GEOSEARCHSTORE : CHANGE_GEORADIUSSTORE);
    if (count > 1)
        change_count(call->change, count - 1);
    reply_integer(call->reply, (int64_t)count);
}

static enum call_result search_command(struct call *call, struct search search) {
    enum collection_found found = collection_read(call, search.source, OBJECT_ZSET, &search.object);
    if (found == COLLECTION_NEEDS_TOKEN)
        return CALL_NEED_TOKENS;
    if (found == COLLECTION_WRONG_TYPE || !read_arguments(call, &search))
        return CALL_DONE;
    struct points points = {.search = &search};
    if (search.object)
        find_points(&points);
    if (search.store)
        store_points(call, &points);
    else
        reply_points(call, &points);
    memory_free(points.points);
    return CALL_DONE;
}

enum call_result cmd_georadius(struct call *call) {
    return search_command(call, (struct search){.form = RADIUS, .source = 1, .may_store = true});
}

enum call_result cmd_georadius_ro(struct call *call) {
    return search_command(call, (struct search){.form = RADIUS, .source = 1});
}

enum call_result cmd_georadiusbymember(struct call *call) {
    return search_command(
        call, (struct search){.form = RADIUS_BY_MEMBER, .source = 1, .may_store = true});
}

enum call_result cmd_georadiusbymember_ro(struct call *call) {
    return search_command(call, (struct search){.form = RADIUS_BY_MEMBER, .source = 1});
}

enum call_result cmd_geosearch(struct call *call) {
    return search_command(call, (struct search){.form = SEARCH, .source = 1});
}

enum call_result cmd_geosearchstore(struct call *call) {
    return search_command(call, (struct search){.form = SEARCH, .source = 2, .is_store = true});
}
