/* See place.h. No state. */
#include "replication/place.h"

#include <string.h>

void place_lost(struct place *place, unsigned database, bool intact) {
    place->may_continue = intact;
    place->database = database;
}

void place_demoted(struct place *place) {
    place->may_continue = true;
    place->database = 0; /* the new primary's own stream begins with SELECT */
}

void place_connected(struct place *place) {
    place->may_continue = false;
}

unsigned place_continued(struct place *place, struct history *history, const char *id) {
    (void)place; /* is kept until the connection is taken over */
    if (strcmp(history->id, id) == 0)
        return 0;
    history_rename(history, id);
    return PLACE_DROP_REPLICAS;
}

unsigned place_flushed(struct place *place) {
    place->may_continue = false;
    return PLACE_DROP_REPLICAS | PLACE_DROP_BACKLOG;
}

void place_loaded(struct place *place, struct history *history, const char *id, uint64_t offset,
                  unsigned database) {
    history_adopt(history, id, offset);
    place->may_continue = true;
    place->database = database;
}

void place_emptied(struct place *place, struct history *history) {
    place->may_continue = false;
    history_new_id(history);
}

unsigned place_promoted(struct place *place, struct history *history) {
    place->may_continue = false;
    history_promote(history);
    return PLACE_DROP_REPLICAS;
}

void place_restored(struct place *place, struct history *history, const char *id, uint64_t offset,
                    unsigned database) {
    place_loaded(place, history, id, offset, database);
}

void place_resumed(struct history *history, const char *id, uint64_t offset) {
    history_adopt(history, id, offset);
    history_promote(history);
}

void place_unlogged(struct history *history) {
    history_new_id(history);
}
