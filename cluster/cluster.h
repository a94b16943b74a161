/* The cluster: who its nodes are, which slots each serves, who has failed and who takes over.
 *
 * A pure state machine: packets, ends of links, time and commands in; packets, connections, files
 * to write, roles to take and slot maps out, through callbacks. It never blocks and never reads a
 * clock, a file or a socket. server/links/cluster_bus.c runs it on sockets, tests/sim on modelled
 * ones.
 *
 * One caller at a time: whoever calls holds the lock of the bus, and callbacks are called under it.
 * So a callback must not wait for anything that needs this lock, nor call back into the cluster;
 * what takes time is begun there, and its end told by cluster_on_*, with the same ticket.
 *
 * Times are milliseconds of one clock that counts suspends (CLOCK_BOOTTIME) unless a name says
 * "unix". Ids are 40 hexadecimal digits. */
#ifndef SLOTWISE_CLUSTER_CLUSTER_H
#define SLOTWISE_CLUSTER_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cluster/wire.h"

#define CLUSTER_SLOTS         WIRE_SLOTS
#define CLUSTER_BUS_PORT_STEP 10000 /* from a port to its bus port, unless cluster-port says */

struct cluster;
struct cluster_node; /* state.h */
struct slot_map;     /* slot_map.h */

#define CLUSTER_LEASE_FREE UINT64_MAX

struct slot_range {
    uint16_t first, last;
};

/* A connection of the bus, made by the caller; the cluster keeps its own data with it. */
struct cluster_link {
    /* The cluster's: all zero when it is made. */
    struct cluster_node *node; /* NULL: not known yet (accepted), or none any more */
    bool inbound;
    bool open; /* connected; false while it is being made */
    uint64_t created_ms;
    uint64_t created_unix_ms; /* kept as it was read: the two clocks do not tick together */
    /* The caller's. */
    size_t unsent_bytes; /* in its queue */
    void *owner;
};

enum cluster_log_level {
    CLUSTER_LOG_DEBUG,
    CLUSTER_LOG_VERBOSE,
    CLUSTER_LOG_NOTICE,
    CLUSTER_LOG_WARNING
};

/* By what clients are told to reach a node. */
enum cluster_endpoint {
    CLUSTER_ENDPOINT_IP,
    CLUSTER_ENDPOINT_HOSTNAME, /* "?" of a node that has none */
    CLUSTER_ENDPOINT_UNKNOWN,  /* "": where they are connected to now */
};

/* What the configuration says; may be given anew at any time (cluster_configure). Texts: NULL or
 * empty: not set; they live until the next configuration. */
struct cluster_config {
    uint64_t node_timeout_ms;
    uint64_t ping_interval_ms; /* DEBUG and tests; 0: as usual */
    unsigned replica_validity_factor;
    unsigned migration_barrier;
    bool allow_replica_migration, require_full_coverage, replica_no_failover;
    bool fast_failover; /* a primary that ends tells everybody; leases (lease.h) */
    bool allow_reads_when_down, allow_pubsubshard_when_down;
    uint64_t replica_ping_period_ms;   /* repl-ping-replica-period, for the age of data */
    uint64_t link_sendbuf_limit_bytes; /* 0: none */
    enum cluster_endpoint preferred_endpoint;
    uint16_t port, bus_port;  /* on which we listen */
    const char *bind_address; /* the first of `bind`, for outgoing links */
    const char *announce_ip, *announce_hostname, *announce_human_nodename;
    uint16_t announce_port, announce_bus_port, announce_tls_port; /* 0: not set */
    bool drop_incoming;                                           /* DEBUG CLUSTERLINK and tests */
    uint32_t drop_packet_types; /* DEBUG DROP-CLUSTER-PACKET-FILTER: a bit each */
    bool close_link_on_packet_drop;
};

/* Our data, for offsets in packets, ranks and elections. */
struct cluster_data_position {
    uint64_t offset;    /* a primary's own, or how much of its primary's a replica has applied */
    bool link_is_up;    /* of a replica to its primary */
    bool is_connecting; /* down, and an attempt to get it up again is under way */
    bool knows_primary_data; /* it has been synchronised with its primary at least once */
    uint64_t link_down_ms;   /* for how long it has been down; age of the data */
};

enum cluster_persist_result { CLUSTER_PERSISTED, CLUSTER_PERSIST_FAILED };

struct cluster_callbacks {
    uint64_t (*now_ms)(void *context);
    uint64_t (*unix_ms)(void *context);
    uint64_t (*random)(void *context); /* 64 random bits */
    /* Begins to connect to a node's bus port; the answer is cluster_on_connected or
     * cluster_on_link_end. NULL: could not even begin (the reason is logged by the caller). */
    struct cluster_link *(*connect)(void *context, const char *address, uint16_t bus_port);
    /* In order. The bytes are copied, or shared by the caller; no answer: what cannot be sent ends
     * the link, which cluster_on_link_end tells later, not from here. */
    void (*send)(void *context, struct cluster_link *link, const void *bytes, size_t length);
    /* The link is gone for the cluster when this returns; no cluster_on_link_end follows. */
    void (*close)(void *context, struct cluster_link *link);
    /* Our own address on this accepted link (getsockname), the peer's; false: unknown. */
    bool (*local_address)(void *context, const struct cluster_link *link, char *text, size_t size);
    bool (*peer_address)(void *context, const struct cluster_link *link, char *text, size_t size);
    /* Writes nodes.conf: temporary file, fsync, rename, fsync of the folder; the text is copied.
     * Ends with cluster_on_persisted(ticket). Later ones include earlier ones: an end tells that
     * all up to that ticket are durable. */
    void (*persist)(void *context, const char *text, size_t length, uint64_t ticket);
    /* A new map: publish it for readers (RCU); the one before is freed by slot_map_free after a
     * grace period. */
    void (*publish)(void *context, struct slot_map *map);
    /* Become a primary: -> cluster_on_promoted. Become a replica of an address. Both end whatever
     * role there was; the data of a primary are kept until its new primary's come. */
    void (*promote)(void *context);
    void (*follow)(void *context, const char *address, uint16_t port);
    void (*position)(void *context, struct cluster_data_position *position);
    /* Stops writes, for at most this long, for a manual failover; 0: goes on. After the call
     * position() tells an offset that does not grow any more once `paused` is told by
     * cluster_on_paused. */
    void (*pause)(void *context, uint64_t for_ms);
    /* Replies to writes may be sent until then, by now_ms, read after the write.
     * CLUSTER_LEASE_FREE: at any time. ends: those to writes before this are not to be sent at all;
     * no map that was published last admits any. */
    void (*lease)(void *context, uint64_t until_ms, bool ends);
    /* Deletes all keys of a slot, which has another owner now. */
    void (*drop_slot_keys)(void *context, unsigned slot);
    bool (*slot_has_keys)(void *context, unsigned slot);
    /* Deletes all keys of all databases (CLUSTER RESET). */
    void (*drop_all_keys)(void *context);
    /* PUBLISH and SPUBLISH of another node. */
    void (*message)(void *context, const void *channel, size_t channel_length, const void *message,
                    size_t message_length, bool sharded);
    void (*log)(void *context, enum cluster_log_level level, const char *text);
};

/* Both are copied. The node has a random id and knows nobody until cluster_load. NULL: no memory.
 */
struct cluster *cluster_create(const struct cluster_config *config,
                               const struct cluster_callbacks *callbacks, void *context);
void cluster_destroy(struct cluster *cluster);
void cluster_configure(struct cluster *cluster, const struct cluster_config *config);

/* Takes the text of nodes.conf. 0, or -1 with *error (a text for the log, static or the cluster's):
 * the process must not start with it. Without a file do not call it; cluster_start writes the
 * first. */
int cluster_load(struct cluster *cluster, const char *text, size_t length, const char **error);
/* Once, after cluster_load: persists, publishes the first map, follows its primary if it has one.
 * Slots that have keys but, by the configuration, another owner, are dealt with as Redis does.
 * is_new: there was no file. */
void cluster_start(struct cluster *cluster, bool is_new);

/* Ten times a second: pings, timeouts, elections; and after anything else was called, before the
 * caller waits: what was put off until then (state, persisting, elections). */
void cluster_tick(struct cluster *cluster);
void cluster_before_wait(struct cluster *cluster);
/* For how long the caller may wait until it calls cluster_before_wait again, whether or not
 * anything has happened: short while a manual failover waits for data to arrive, of which nobody
 * tells. */
unsigned cluster_max_wait_ms(const struct cluster *cluster);

void cluster_on_accepted(struct cluster *cluster, struct cluster_link *link);
void cluster_on_connected(struct cluster *cluster, struct cluster_link *link);
/* One whole packet (wire_length). false: the link has been closed by it, and is gone. */
bool cluster_on_packet(struct cluster *cluster, struct cluster_link *link, const uint8_t *bytes,
                       size_t length);
/* The peer has closed, refused, reset; the caller frees the link afterwards. */
void cluster_on_link_end(struct cluster *cluster, struct cluster_link *link);
void cluster_on_persisted(struct cluster *cluster, uint64_t ticket,
                          enum cluster_persist_result result);
void cluster_on_promoted(struct cluster *cluster);
void cluster_on_paused(struct cluster *cluster);
/* The process ends in order (SIGTERM): what has not been written yet is, by one more persist. If
 * nothing is written to its data any more (data_is_final), a primary that a replica can replace
 * tells all others that it ends, so that they need not miss it first; from then on it is deaf and
 * dumb, and the process has to end. */
void cluster_on_shutdown(struct cluster *cluster, bool data_is_final);

/* PUBLISH, SPUBLISH to the other nodes (of the shard). */
void cluster_publish(struct cluster *cluster, const void *channel, size_t channel_length,
                     const void *message, size_t message_length, bool sharded);

#endif
