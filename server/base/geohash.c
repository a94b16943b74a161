/* See geohash.h. */
#include "server/base/geohash.h"

#include <math.h>

#define EVEN_BITS        0x5555555555555555u
#define ODD_BITS         0xaaaaaaaaaaaaaaaau
#define EARTH_RADIUS     6372797.560856 /* quadratic mean of WGS-84 */
#define MERCATOR_MAX     20037726.37
#define RADIAN           (M_PI / 180.0)
#define TWO_TO_63        9223372036854775808.0
#define SCORE_BITS       (2 * GEO_STEP_MAX)
#define POLE_LATITUDE    90.0
#define FAR_LATITUDE     66 /* from here on cells are made larger, and once more */
#define FARTHER_LATITUDE 80

/* A part of the world: a cell, named by its bits. */
struct cell {
    uint64_t bits;
    unsigned step;
};

struct area {
    double longitude_min, longitude_max, latitude_min, latitude_max;
};

/* --- Bits ------------------------------------------------------------------------------------- */

/* Each bit at twice its place. */
static uint64_t spread(uint32_t value) {
    uint64_t x = value;
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    x = (x | x << 2) & 0x3333333333333333u;
    return (x | x << 1) & EVEN_BITS;
}

/* The even bits, each at half its place. */
static uint32_t gather(uint64_t x) {
    x &= EVEN_BITS;
    x = (x | x >> 1) & 0x3333333333333333u;
    x = (x | x >> 2) & 0x0f0f0f0f0f0f0f0fu;
    x = (x | x >> 4) & 0x00ff00ff00ff00ffu;
    x = (x | x >> 8) & 0x0000ffff0000ffffu;
    return (uint32_t)(x | x >> 16);
}

static uint64_t encode(const struct geo_place *place, double latitude_max, unsigned step) {
    double parts = (double)((uint64_t)1 << step);
    double latitude = (place->latitude + latitude_max) / (latitude_max + latitude_max);
    double longitude =
        (place->longitude + GEO_LONGITUDE_MAX) / (GEO_LONGITUDE_MAX + GEO_LONGITUDE_MAX);
    return spread((uint32_t)(latitude * parts)) | spread((uint32_t)(longitude * parts)) << 1;
}

static struct area area_of(struct cell cell) {
    double parts = (double)((uint64_t)1 << cell.step);
    double latitudes = GEO_LATITUDE_MAX + GEO_LATITUDE_MAX;
    double longitudes = GEO_LONGITUDE_MAX + GEO_LONGITUDE_MAX;
    uint32_t latitude = gather(cell.bits), longitude = gather(cell.bits >> 1);
    return (struct area){
        .latitude_min = -GEO_LATITUDE_MAX + latitude / parts * latitudes,
        .latitude_max = -GEO_LATITUDE_MAX + (latitude + 1u) / parts * latitudes,
        .longitude_min = -GEO_LONGITUDE_MAX + longitude / parts * longitudes,
        .longitude_max = -GEO_LONGITUDE_MAX + (longitude + 1u) / parts * longitudes,
    };
}

/* The cell beside it, round the world: one part up or down in the bits of mask, which are every
 * other one. */
static uint64_t move(struct cell cell, uint64_t mask, int by) {
    unsigned unused = 64 - 2 * cell.step;
    uint64_t between = ~mask >> unused, part = cell.bits & mask;
    if (by > 0)
        part += between + 1;
    else if (by < 0)
        part = (part | between) - (between + 1);
    else
        return cell.bits;
    return (part & mask >> unused) | (cell.bits & ~mask);
}

static struct cell neighbour(struct cell cell, int east, int north) {
    cell.bits = move(cell, ODD_BITS, east);
    cell.bits = move(cell, EVEN_BITS, north);
    return cell;
}

/* --- Places and scores ------------------------------------------------------------------------ */

bool geo_place_is_valid(const struct geo_place *place) {
    return place->longitude >= -GEO_LONGITUDE_MAX && place->longitude <= GEO_LONGITUDE_MAX &&
           place->latitude >= -GEO_LATITUDE_MAX && place->latitude <= GEO_LATITUDE_MAX;
}

uint64_t geo_score(const struct geo_place *place) {
    return encode(place, GEO_LATITUDE_MAX, GEO_STEP_MAX);
}

uint64_t geo_standard_hash(const struct geo_place *place) {
    return encode(place, POLE_LATITUDE, GEO_STEP_MAX);
}

/* As the processor converts it: what is no 64-bit number too, since any score can be asked for. */
static uint64_t bits_of_score(double score) {
    if (!(score >= -TWO_TO_63))
        return (uint64_t)1 << 63;
    if (score < TWO_TO_63)
        return (uint64_t)(int64_t)score;
    return score < 2 * TWO_TO_63 ? (uint64_t)score : 0;
}

static double middle(double min, double max, double limit) {
    double value = (min + max) / 2;
    return value > limit ? limit : value < -limit ? -limit : value;
}

struct geo_place geo_place_of(double score) {
    struct area area = area_of((struct cell){bits_of_score(score), GEO_STEP_MAX});
    return (struct geo_place){
        middle(area.longitude_min, area.longitude_max, GEO_LONGITUDE_MAX),
        middle(area.latitude_min, area.latitude_max, GEO_LATITUDE_MAX),
    };
}

/* --- Distances -------------------------------------------------------------------------------- */

static double radians(double degrees) {
    return degrees * RADIAN;
}

static double degrees(double radians) {
    return radians / RADIAN;
}

static double latitude_distance(double a, double b) {
    return EARTH_RADIUS * fabs(radians(b) - radians(a));
}

/* The haversine formula. */
double geo_distance(const struct geo_place *a, const struct geo_place *b) {
    double v = sin((radians(b->longitude) - radians(a->longitude)) / 2);
    if (v == 0)
        return latitude_distance(a->latitude, b->latitude);
    double a_latitude = radians(a->latitude), b_latitude = radians(b->latitude);
    double u = sin((b_latitude - a_latitude) / 2);
    double square = u * u + cos(a_latitude) * cos(b_latitude) * v * v;
    return 2.0 * EARTH_RADIUS * asin(sqrt(square));
}

/* --- Shapes ----------------------------------------------------------------------------------- */

/* In a box: not farther north or south, nor east or west on its own latitude. */
static bool is_in_box(const struct geo_shape *shape, const struct geo_place *place) {
    struct geo_place beside = {shape->center.longitude, place->latitude};
    return latitude_distance(place->latitude, shape->center.latitude) <=
               shape->height * shape->unit / 2 &&
           geo_distance(place, &beside) <= shape->width * shape->unit / 2;
}

bool geo_shape_contains(const struct geo_shape *shape, const struct geo_place *place,
                        double *distance) {
    if (shape->is_box && !is_in_box(shape, place))
        return false;
    *distance = geo_distance(&shape->center, place);
    return shape->is_box || *distance <= shape->radius * shape->unit;
}

/* The degrees between which the shape lies. Meridians come closer towards the poles: its broadest
 * side decides. */
static struct area bounds_of(const struct geo_shape *shape) {
    const struct geo_place *center = &shape->center;
    double height = shape->unit * (shape->is_box ? shape->height / 2 : shape->radius);
    double width = shape->unit * (shape->is_box ? shape->width / 2 : shape->radius);
    double north = degrees(height / EARTH_RADIUS);
    double edge = center->latitude < 0 ? center->latitude - north : center->latitude + north;
    double east = degrees(width / EARTH_RADIUS / cos(radians(edge)));
    return (struct area){center->longitude - east, center->longitude + east,
                         center->latitude - north, center->latitude + north};
}

/* How fine cells may be so that one and those around it cover so many metres. */
static unsigned step_for(double metres, double latitude) {
    int step = 1;
    if (metres == 0)
        return GEO_STEP_MAX;
    for (; metres < MERCATOR_MAX; metres *= 2)
        step++;
    step -= 2;
    if (latitude > FAR_LATITUDE || latitude < -FAR_LATITUDE)
        step--;
    if (latitude > FARTHER_LATITUDE || latitude < -FARTHER_LATITUDE)
        step--;
    return step < 1 ? 1 : step > GEO_STEP_MAX ? GEO_STEP_MAX : (unsigned)step;
}

/* The cells beside this one do not reach as far as the bounds. */
static bool falls_short(struct cell cell, const struct area *bounds) {
    return area_of(neighbour(cell, 0, 1)).latitude_max < bounds->latitude_max ||
           area_of(neighbour(cell, 0, -1)).latitude_min > bounds->latitude_min ||
           area_of(neighbour(cell, 1, 0)).longitude_max < bounds->longitude_max ||
           area_of(neighbour(cell, -1, 0)).longitude_min > bounds->longitude_min;
}

/* A cell in this direction has nothing of what lies between the bounds, since the middle one
 * reaches farther than they do. */
static bool is_useless(const struct area *area, const struct area *bounds, int east, int north) {
    return (north < 0 && area->latitude_min < bounds->latitude_min) ||
           (north > 0 && area->latitude_max > bounds->latitude_max) ||
           (east < 0 && area->longitude_min < bounds->longitude_min) ||
           (east > 0 && area->longitude_max > bounds->longitude_max);
}

static struct cell cell_around(const struct geo_place *place, unsigned step) {
    return (struct cell){encode(place, GEO_LATITUDE_MAX, step), step};
}

unsigned geo_shape_cells(const struct geo_shape *shape, struct geo_cell cells[GEO_CELLS]) {
    static const int8_t directions[GEO_CELLS][2] = {{0, 0}, {0, 1},  {0, -1}, {1, 0},  {-1, 0},
                                                    {1, 1}, {-1, 1}, {1, -1}, {-1, -1}};
    struct area bounds = bounds_of(shape);
    double half_width = shape->width / 2, half_height = shape->height / 2;
    double metres =
        shape->unit *
        (shape->is_box ? sqrt(half_width * half_width + half_height * half_height) : shape->radius);
    unsigned step = step_for(metres, shape->center.latitude);
    struct cell middle_cell = cell_around(&shape->center, step);
    if (step > 1 && falls_short(middle_cell, &bounds))
        middle_cell = cell_around(&shape->center, --step);
    struct area area = area_of(middle_cell);
    unsigned count = 0, shift = SCORE_BITS - 2 * step;
    uint64_t previous = UINT64_MAX; /* of those around */
    for (unsigned i = 0; i < GEO_CELLS; i++) {
        int east = directions[i][0], north = directions[i][1];
        if (i > 0 && step >= 2 && is_useless(&area, &bounds, east, north))
            continue;
        uint64_t bits = neighbour(middle_cell, east, north).bits;
        /* Round a world of few cells several directions lead to the same one. */
        if (bits == previous)
            continue;
        cells[count++] = (struct geo_cell){bits << shift, (bits + 1) << shift};
        if (i > 0)
            previous = bits;
    }
    return count;
}
