/* Places on the earth as numbers, and what lies near a place: the arithmetic of the GEO commands,
 * with Redis's constants, so that scores and distances are the same to the last bit.
 *
 * The world between the latitudes GEO_LATITUDE_MAX north and south is divided into 2^step parts in
 * each direction; a cell is named by the numbers of its parts, bit by bit by turns (latitude in the
 * even bits). The score of a place is its cell of step 26, 52 bits, which a double holds exactly.
 *
 * Degrees and metres. Pure functions, any thread. */
#ifndef SLOTWISE_SERVER_GEOHASH_H
#define SLOTWISE_SERVER_GEOHASH_H

#include <stdbool.h>
#include <stdint.h>

#define GEO_STEP_MAX      26
#define GEO_LATITUDE_MAX  85.05112878
#define GEO_LONGITUDE_MAX 180.0
#define GEO_CELLS         9

struct geo_place {
    double longitude, latitude;
};

bool geo_place_is_valid(const struct geo_place *place);
/* The score of a valid place; the place of a score, of any number even if it is none's. */
uint64_t geo_score(const struct geo_place *place);
struct geo_place geo_place_of(double score);
/* The 52 bits of the usual geohash, which reaches to the poles. */
uint64_t geo_standard_hash(const struct geo_place *place);
double geo_distance(const struct geo_place *a, const struct geo_place *b);

/* A circle or a box around a place. */
struct geo_shape {
    struct geo_place center;
    bool is_box;
    double radius, width, height; /* in units */
    double unit;                  /* metres */
};
bool geo_shape_contains(const struct geo_shape *shape, const struct geo_place *place,
                        double *distance);

/* Scores from min up to, and without, end. */
struct geo_cell {
    uint64_t min, end;
};
/* The cells that together cover the shape, in the order in which they are to be searched. Returns
 * how many. */
unsigned geo_shape_cells(const struct geo_shape *shape, struct geo_cell cells[GEO_CELLS]);

#endif
