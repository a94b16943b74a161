/* The limits of collections as configured: collection.h. */
#include "engine/types/collection.h"

struct collection_limits collection_limits;
