/* Connections as others see them: what CLIENT LIST and CLIENT KILL need. What is told of one is
 * noted on its own thread or in an exclusive section, and made into text by anybody afterwards. */
#ifndef SLOTWISE_SERVER_CONNECTIONS_H
#define SLOTWISE_SERVER_CONNECTIONS_H

#include "server/base/text.h"
#include "server/clients/client_list.h"
#include "server/clients/conn.h"

/* Of clients; TYPE of CLIENT LIST and CLIENT KILL. */
enum client_type { CLIENT_NORMAL, CLIENT_REPLICA, CLIENT_PUBSUB, CLIENT_MASTER };
/* false: Redis knows no type of this name. */
bool client_type_by_name(const struct argument *name, enum client_type *type);
/* On its thread, or in an exclusive section. */
enum client_type connections_type(const struct conn *conn);

/* One piece of a walk over all connections (client_list.h), without those that are ending. In an
 * exclusive section. connections: room for CONNECTIONS_PIECE; returns how many. */
#define CONNECTIONS_PIECE 32
size_t connections_next(struct server *server, struct client_walk *walk, struct conn **connections,
                        bool *more);
/* NULL: there is none, or it is ending. In an exclusive section. */
struct conn *connections_find(struct server *server, uint64_t id);

/* All that a line of CLIENT LIST shows, as it was at one moment. */
struct connection_facts {
    uint64_t id, now_ms, created_ms, active_ms;
    struct address peer, local;
    struct shared_text *name, *library_name, *library_version; /* used until dropped */
    const struct command *last_command;
    size_t queued, queued_bytes, argument_bytes, unparsed_bytes, spare_bytes, pending_bytes,
        output_blocks, output_bytes, memory_bytes;
    int fd;
    uint32_t database;
    uint8_t resp;
    size_t subscriptions[PUBSUB_KINDS];
    bool applies, replica, in_multi, blocked, dirty, closing, reads_replica, no_evict, no_touch,
        has_block, sending;
};
/* On its thread, or in an exclusive section. now_ms: monotonic. */
void connection_facts_note(struct connection_facts *facts, const struct conn *conn,
                           uint64_t now_ms);
/* Appends a line of CLIENT LIST, with its end of line. running: the command that the connection
 * runs at the moment, NULL if it is another one than the caller's. Any thread. */
void connection_facts_write(struct text *text, const struct connection_facts *facts,
                            const struct call *running);
void connection_facts_drop(struct connection_facts *facts);

/* The line of a connection of this thread. */
void connections_describe(struct text *text, const struct conn *conn, const struct call *running);

#endif
