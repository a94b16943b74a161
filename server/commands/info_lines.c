/* See info_lines.h. */
#include "server/commands/info_lines.h"

#include <stdio.h>

void info_human_bytes(char *out, size_t size, uint64_t bytes) {
    static const char units[] = "BKMGTP";
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024 && unit < sizeof units - 2) {
        value /= 1024;
        unit++;
    }
    if (unit == 0 || value >= 1024)
        snprintf(out, size, "%lluB", (unsigned long long)bytes);
    else
        snprintf(out, size, "%.2f%c", value, units[unit]);
}

void info_number(struct text *text, const char *name, uint64_t value) {
    text_append_format(text, "%s:%llu\r\n", name, (unsigned long long)value);
}

void info_signed(struct text *text, const char *name, int64_t value) {
    text_append_format(text, "%s:%lld\r\n", name, (long long)value);
}

void info_word(struct text *text, const char *name, const char *value) {
    text_append_format(text, "%s:%s\r\n", name, value);
}

void info_human(struct text *text, const char *name, uint64_t bytes) {
    char value[64];
    info_human_bytes(value, sizeof value, bytes);
    info_word(text, name, value);
}

void info_decimals(struct text *text, const char *name, double value) {
    text_append_format(text, "%s:%.2f\r\n", name, value);
}

void info_zeros(struct text *text, const char *const *names) {
    for (; *names; names++)
        info_number(text, *names, 0);
}
