/* See slot_map.h. */
#include "cluster/slot_map.h"

#include "engine/memory.h"

void slot_map_free(struct slot_map *map) {
    if (!map)
        return;
    memory_free(map->migrating_to);
    memory_free(map->importing_from);
    memory_free(map);
}
