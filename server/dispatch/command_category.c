/* See command_category.h. */
#include "server/dispatch/command_category.h"

#include <string.h>
#include <strings.h>

#include "engine/assert.h"

static const char *const category_names[CATEGORY_COUNT] = {
    "keyspace", "read",   "write",       "set",       "sortedset",  "list",        "hash",
    "string",   "bitmap", "hyperloglog", "geo",       "stream",     "pubsub",      "admin",
    "fast",     "slow",   "blocking",    "dangerous", "connection", "transaction", "scripting"};

const char *command_category_name(unsigned bit) {
    ASSERT(bit < CATEGORY_COUNT);
    return category_names[bit];
}

uint64_t command_category_by_name(const char *name, size_t length) {
    for (unsigned bit = 0; bit < CATEGORY_COUNT; bit++)
        if (strlen(category_names[bit]) == length &&
            strncasecmp(category_names[bit], name, length) == 0)
            return 1ull << bit;
    return 0;
}
