/* The table of directives. Private to the config_*.c files. Constant data; any thread. */
#ifndef SLOTWISE_SERVER_CONFIG_TABLE_H
#define SLOTWISE_SERVER_CONFIG_TABLE_H

#include "server/config/config_option.h"

extern const struct config_option config_options[];
extern const size_t config_option_count;

/* By name or alias, any case; *by_alias may be NULL. NULL when there is none. */
const struct config_option *config_find(const char *name, bool *by_alias);

#endif
