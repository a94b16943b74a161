/* What is read alike of collections of all types: collection.h. */
#include "engine/assert.h"
#include "engine/types/hash.h"
#include "engine/types/list.h"
#include "engine/types/set.h"
#include "engine/types/zset.h"

void collection_visit_all(const struct object *object, collection_visit *visit, void *context) {
    switch (object_type(object)) {
    case OBJECT_LIST:
        list_visit(object, visit, context);
        return;
    case OBJECT_SET:
        set_visit(object, visit, context);
        return;
    case OBJECT_ZSET:
        zset_visit(object, visit, context);
        return;
    default:
        ASSERT(object_type(object) == OBJECT_HASH);
        hash_visit(object, visit, context);
    }
}
