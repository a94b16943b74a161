/* See config_option.h. */
#include "server/config/config_option.h"

#include <stdarg.h>
#include <stdio.h>

int config_refuse(struct config_parse *parse, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(parse->error, sizeof parse->error, format, arguments);
    va_end(arguments);
    return -1;
}
