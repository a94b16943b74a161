/* INFO: the sections as text. */
#ifndef SLOTWISE_SERVER_INFO_H
#define SLOTWISE_SERVER_INFO_H

#include <stdint.h>

#include "server/base/text.h"
#include "server/clients/server.h"

/* In the order in which INFO shows them. */
#define INFO_SECTIONS(X)                                                                           \
    X(SERVER, server, "Server", true)                                                              \
    X(CLIENTS, clients, "Clients", true)                                                           \
    X(MEMORY, memory, "Memory", true)                                                              \
    X(PERSISTENCE, persistence, "Persistence", true)                                               \
    X(STATS, stats, "Stats", true)                                                                 \
    X(REPLICATION, replication, "Replication", true)                                               \
    X(CPU, cpu, "CPU", true)                                                                       \
    X(MODULES, modules, "Modules", true)                                                           \
    X(COMMANDSTATS, commandstats, "Commandstats", false)                                           \
    X(ERRORSTATS, errorstats, "Errorstats", true)                                                  \
    X(LATENCYSTATS, latencystats, "Latencystats", false)                                           \
    X(CLUSTER, cluster, "Cluster", true)                                                           \
    X(KEYSPACE, keyspace, "Keyspace", true)                                                        \
    X(DEBUG, debug, "Debug", false)

enum info_section {
#define INFO_ENUM(upper, lower, heading, is_default) INFO_##upper,
    INFO_SECTIONS(INFO_ENUM)
#undef INFO_ENUM
        INFO_SECTION_COUNT
};

/* The set of sections (bit 1 << section) that an argument of INFO names: one, "default", "all",
 * "everything"; 0 for what Redis does not know either. */
uint32_t info_sections_by_name(const char *name, size_t length);
#define INFO_SECTIONS_DEFAULT info_sections_by_name("default", 7)

/* Appends them. On a worker, while the others go on; what it counted itself is in the figures. */
void info_write(struct text *text, const struct server *server, uint32_t sections);

/* "512B", "1.50K", "2.00M" as Redis writes sizes for people; size is at least 64. */
void info_human_bytes(char *out, size_t size, uint64_t bytes);

#endif
