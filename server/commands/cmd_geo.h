/* What the GEO handlers share. Called from handlers only. */
#ifndef SLOTWISE_SERVER_CMD_GEO_H
#define SLOTWISE_SERVER_CMD_GEO_H

#include "server/base/geohash.h"
#include "server/commands/cmd_zset.h"

/* Longitude and latitude in argv[index] and the next one. false: error replied. */
bool geo_place_argument(struct call *call, int index, struct geo_place *place);
/* A unit in metres. false: error replied. */
bool geo_unit_argument(struct call *call, int index, double *metres);
/* false: it is not there. object may be NULL. */
bool geo_member_place(const struct object *object, const struct argument *member,
                      struct geo_place *place);
void geo_reply_distance(struct call *call, double distance);
void geo_reply_place(struct call *call, const struct geo_place *place);

#endif
