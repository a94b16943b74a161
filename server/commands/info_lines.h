/* Lines of INFO: a name, a colon and a value. Pure functions; any thread. */
#ifndef SLOTWISE_SERVER_INFO_LINES_H
#define SLOTWISE_SERVER_INFO_LINES_H

#include <stdint.h>

#include "server/base/text.h"

/* "512B", "1.50K", "2.00M" as Redis writes sizes for people; size is at least 64. */
void info_human_bytes(char *out, size_t size, uint64_t bytes);

void info_number(struct text *text, const char *name, uint64_t value);
void info_signed(struct text *text, const char *name, int64_t value);
void info_word(struct text *text, const char *name, const char *value);
/* The size as people read it. */
void info_human(struct text *text, const char *name, uint64_t bytes);
/* With two decimals. */
void info_decimals(struct text *text, const char *name, double value);

/* A name and 0, for each of what does not exist here (yet). */
#define INFO_ZEROS(text, ...) info_zeros((text), (const char *const[]){__VA_ARGS__, NULL})
void info_zeros(struct text *text, const char *const *names);

#endif
