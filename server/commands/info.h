/* INFO: the sections as text. */
#ifndef SLOTWISE_SERVER_INFO_H
#define SLOTWISE_SERVER_INFO_H

#include <stdint.h>

#include "server/base/text.h"
#include "server/clients/server.h"

/* The set of sections (bit 1 << section) that an argument of INFO names: one, "default", "all",
 * "everything"; 0 for what Redis does not know either. */
uint32_t info_sections_by_name(const char *name, size_t length);
#define INFO_SECTIONS_DEFAULT info_sections_by_name("default", 7)

/* Appends them. On a worker, while the others go on; what it counted itself is in the figures. */
void info_write(struct text *text, const struct server *server, uint32_t sections);

#endif
