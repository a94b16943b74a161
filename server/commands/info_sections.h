/* The list of the sections of INFO and who writes them: info.c those that describe the process,
 * info_data.c those about commands and keys. */
#ifndef SLOTWISE_SERVER_INFO_SECTIONS_H
#define SLOTWISE_SERVER_INFO_SECTIONS_H

#include "server/clients/server.h"
#include "server/commands/info_lines.h"
#include "server/commands/statistics.h"

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

/* What all sections may need, gathered once. */
struct info {
    const struct server *server;
    struct statistics sum;
};

#define INFO_WRITER(upper, lower, heading, is_default)                                             \
    void info_write_##lower(struct text *text, const struct info *info);
INFO_SECTIONS(INFO_WRITER)
#undef INFO_WRITER

#endif
