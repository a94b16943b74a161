/* Kinds of values with a syntax of their own, for the table of directives. Private to it and to
 * config.c. Constants; any thread. */
#ifndef SLOTWISE_SERVER_CONFIG_SPECIAL_H
#define SLOTWISE_SERVER_CONFIG_SPECIAL_H

#include "server/config/config_option.h"

extern const struct config_kind config_kind_addresses, config_kind_directory, config_kind_endpoint,
    config_kind_notify_classes, config_kind_oom_values, config_kind_output_limits,
    config_kind_percentiles, config_kind_save_points;

#endif
