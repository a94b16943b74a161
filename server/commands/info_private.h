/* Between info.c and info_data.c: the writers of the sections. */
#ifndef SLOTWISE_SERVER_INFO_PRIVATE_H
#define SLOTWISE_SERVER_INFO_PRIVATE_H

#include "server/commands/info.h"
#include "server/commands/statistics.h"

/* What all sections may need, gathered once. */
struct info {
    const struct server *server;
    struct statistics sum;
};

#define INFO_WRITER(upper, lower, heading, is_default)                                             \
    void info_write_##lower(struct text *text, const struct info *info);
INFO_SECTIONS(INFO_WRITER)
#undef INFO_WRITER

void info_number(struct text *text, const char *name, uint64_t value);
void info_word(struct text *text, const char *name, const char *value);

/* A name and 0, for each of what does not exist here (yet). */
#define INFO_ZEROS(text, ...) info_zeros((text), (const char *const[]){__VA_ARGS__, NULL})
void info_zeros(struct text *text, const char *const *names);

#endif
