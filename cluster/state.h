/* What the parts of the cluster share: its nodes, its slots and what is to be done. Private to
 * cluster/; the caller's side is cluster.h.
 *
 * Invariants: myself is in nodes; owners[s] == n if and only if n's bit s is set, and slot_count
 * counts these bits; n is in primary->replicas if and only if n->primary == primary; a link that
 * has a node is that node's link or inbound_link; nobody is its own primary. Whether a node is a
 * replica of a replica is not excluded (peers may tell so): whoever looks for a primary makes one
 * step, never a loop.
 *
 * One caller at a time (the bus's lock), so nothing here is atomic. */
#ifndef SLOTWISE_CLUSTER_STATE_H
#define SLOTWISE_CLUSTER_STATE_H

#include "cluster/cluster.h"
#include "cluster/wire.h"

#define CLUSTER_NAME_BYTES      256  /* of hostnames and human node names, with the zero */
#define CLUSTER_MAX_NODES       8192 /* that gossip, meetings and a file may bring */
#define CLUSTER_MAX_HANDSHAKES  1024
#define CLUSTER_MAX_FORGOTTEN   1024 /* ids that are not to come back for a while */
#define CLUSTER_FORGET_MS       60000
#define CLUSTER_MANUAL_MS       5000 /* within which a manual failover has to be done */
#define CLUSTER_MANUAL_PAUSE_MS 10000
#define CLUSTER_NEVER_MS        (UINT64_MAX / 4) /* the age of what has never happened */
#define CLUSTER_LEASE_VOTERS    9                /* no leases where there are more */
#define CLUSTER_LEASE_MS        400 /* from the sending of what a majority has answered */
#define CLUSTER_ANSWER_MS       450 /* for which who has answered is bound: more than a lease */
#define CLUSTER_LEASE_ROUNDS    16  /* that are remembered */

struct cluster_failure_report {
    struct cluster_node *reporter;
    uint64_t at_ms;
};

/* What the voter's side of a lease remembers of each primary (lease_voter.h). */
struct cluster_lease_grant {
    uint64_t incarnation;       /* of its process, whose lease it is */
    uint64_t closed;            /* rounds up to this are not answered any more */
    uint64_t answered_ms;       /* 0: never, or it has given its lease back */
    uint64_t asked_ms;          /* when it last asked, be it answered or not */
    uint64_t voters;            /* hash of its voters */
    uint64_t silent_until_ms;   /* not answered before: we have voted for another */
    uint64_t bound_until_ms;    /* not answered before: whose slots it took may have a lease */
    uint64_t durable_by_ticket; /* of the write by which its slots are durable here */
    bool on;                    /* it acknowledges by its lease only */
};

struct cluster_node {
    struct node_id id, shard;
    unsigned flags; /* of enum wire_node_flag */
    uint64_t created_ms;
    uint64_t config_epoch;
    char address[WIRE_ADDRESS_LENGTH]; /* "": not known */
    uint16_t port, tls_port, bus_port;
    char hostname[CLUSTER_NAME_BYTES], human_nodename[CLUSTER_NAME_BYTES];
    struct cluster_node *primary; /* of a replica; NULL: not known */
    struct cluster_node **replicas;
    unsigned replica_count;
    uint8_t slots[WIRE_SLOT_BYTES];
    unsigned slot_count;
    struct slot_range *ranges; /* the same as ranges, made when asked for; NULL: not made */
    unsigned range_count;
    uint64_t offset; /* of its data, as it last told */
    /* Times; 0: never. ping_sent_ms: of the oldest ping without an answer; 0: there is none. */
    uint64_t ping_sent_ms, pong_received_ms, data_received_ms;
    uint64_t failed_ms, voted_ms /* for one of its replicas */, orphaned_ms;
    bool has_ended;          /* it has failed by its own word, and its offset was its last */
    bool is_unmet;           /* we have met it, but it may not know us yet; in nodes.conf */
    uint64_t met_ms;         /* when it was last told to */
    bool is_plain;           /* it has sent no shard id, and so knows few extensions */
    uint64_t vote_epoch;     /* of our election for which it has voted */
    unsigned capabilities;   /* of enum capability, as it last told */
    uint64_t voters;         /* hash of the voters that it knows, likewise */
    uint64_t lease_answered; /* our round that it has answered */
    bool voted_early;        /* what voted_ms is about */
    uint64_t would_ms;       /* when it said that it would vote for us now */
    struct cluster_lease_grant grant;
    struct cluster_link *link, *inbound_link;
    struct cluster_failure_report *reports; /* by other nodes */
    unsigned report_count, report_capacity;
    uint64_t gossip_stamp;             /* the packet that has told of it last */
    unsigned index;                    /* in cluster->nodes */
    struct cluster_node *next_in_hash; /* the same bucket */
};

struct cluster_forgotten {
    struct node_id id;
    uint64_t until_ms;
};

/* What is put off until cluster_before_wait. */
enum cluster_later {
    LATER_ELECTION = 1,
    LATER_MANUAL = 2,
    LATER_HEALTH = 4,
    LATER_SAVE = 8,
    LATER_MAP = 16,
    LATER_TELL_ALL = 32, /* our configuration, by a PONG to everybody */
    LATER_SOON = 64,     /* another turn in some milliseconds */
};

enum cluster_obstacle {
    OBSTACLE_NONE,
    OBSTACLE_DATA_AGE,
    OBSTACLE_DELAY,
    OBSTACLE_EXPIRED,
    OBSTACLE_VOTES,
};

/* Of a replica that wants to take its primary's place. */
struct cluster_election {
    uint64_t at_ms; /* when it asks, or has asked, for votes; 0: never */
    uint64_t epoch; /* for which it asks */
    unsigned rank, votes;
    bool inherits; /* the primary has ended, and we have all that it had */
    bool early;    /* before FAIL: the primary's lease has run out */
    uint64_t sent_ms;
    bool asked; /* the epoch is chosen; the request goes out once that is durable */
    bool sent, repeated;
    uint64_t ticket; /* of that write */
    enum cluster_obstacle obstacle;
    uint64_t obstacle_logged_ms;
};

/* A manual failover, at either end. */
struct cluster_manual {
    uint64_t until_ms;            /* 0: there is none */
    struct cluster_node *replica; /* at the primary: who takes over */
    bool pausing;                 /* at the primary: the server has been asked to pause */
    bool paused;                  /* at the primary: nothing is written any more */
    bool offset_known;            /* at the replica: of the paused primary */
    uint64_t offset;
    uint64_t paused_ms; /* at the replica: when its primary last said that it is paused */
    bool may_start;
};

enum lease_mode {
    LEASE_OFF,      /* as with Redis: acknowledges while it seems to be with the majority */
    LEASE_STARTING, /* after a start: nothing is acknowledged before others have told the news */
    LEASE_JOINING,  /* a majority is to know of it first; fenced: nothing is acknowledged so far */
    LEASE_ON,
    LEASE_LEAVING, /* a majority is to know that it ends; till then as ON */
};

/* A primary's own lease (lease.h). */
struct cluster_lease {
    enum lease_mode mode;
    bool fenced; /* JOINING: from STARTING */
    bool given_back;
    uint64_t incarnation, round, sent_ms[CLUSTER_LEASE_ROUNDS];
    uint64_t until_ms;                           /* valid before that */
    uint64_t urgent_until_ms;                    /* rounds follow each other quickly */
    uint64_t voters;                             /* hash, of the last round */
    uint64_t since_round, from_round;            /* with these voters; in this mode */
    struct node_id before[CLUSTER_LEASE_VOTERS]; /* the set that has to agree too */
    unsigned before_count;
    uint64_t told_ms; /* to the server */
    bool told_end;    /* likewise: what was written before is not acknowledged */
};

/* A replica that looks whether an early election would be won (prevote.h). */
struct cluster_prevote {
    uint64_t round, asked_ms, not_before_ms;
};

/* A vote that is given, but not told before it is durable. */
struct cluster_vote {
    struct node_id candidate;
    uint64_t epoch, ticket;
    bool waiting;
};

struct cluster {
    struct cluster_config config;
    struct cluster_callbacks calls;
    void *context;
    struct cluster_node *myself;
    struct cluster_node **nodes;
    unsigned node_count, node_capacity, handshake_count;
    struct cluster_node **hash; /* a power of two of buckets */
    unsigned hash_size;
    uint64_t hash_seed;
    struct cluster_forgotten *forgotten;
    unsigned forgotten_count;
    uint64_t current_epoch, last_vote_epoch;

    struct cluster_node *owners[WIRE_SLOTS], *migrating_to[WIRE_SLOTS], *importing_from[WIRE_SLOTS];
    unsigned open_slots; /* that are migrating or importing */
    /* The owner does not claim the slot any more, but nobody else does yet: clients go on to be
     * sent there, other nodes are not told. */
    uint8_t not_claimed[WIRE_SLOT_BYTES];
    /* Of slots that we are handing over, and do not know whether they have arrived: claims of
     * others wait for that (slot_takeover.h). */
    uint8_t held[WIRE_SLOT_BYTES];
    /* A replica's: what its primary has taken by the stream and does not claim yet. That it does
     * not is no reason for us to give them back to whom they were. */
    uint8_t adopted[WIRE_SLOT_BYTES];

    bool state_ok, started;
    bool has_ended; /* we have told that we end */
    unsigned size;  /* voters: primaries with slots */
    uint64_t first_health_ms, minority_ms;
    uint64_t chained_ms; /* since when our primary is a replica; 0: it is none */
    unsigned later;      /* of enum cluster_later */
    uint64_t ticks, gossip_stamps;
    unsigned pfail_count;

    bool following; /* the server has been told of our primary */
    bool promoting; /* and has not yet said that it is a primary */
    struct cluster_election election;
    struct cluster_manual manual;
    struct cluster_vote vote;
    struct cluster_lease lease;
    struct cluster_prevote prevote;
    uint64_t started_ms;
    uint64_t claim_ticket; /* of the write after which all are told our epoch and slots; 0: none */
    bool takes_over;       /* that claim is of slots that were our primary's */
    uint64_t told_epoch;   /* until then this is told as our configuration epoch */

    uint64_t last_ticket, ended_ticket; /* of writes; equal: none is under way */
    uint64_t durable_ticket;            /* the last that succeeded */
    bool disk_failed;                   /* the last write could not be done */
    uint64_t disk_failed_ms;

    uint64_t sent[WIRE_TYPES], received[WIRE_TYPES];
    uint64_t links_over_limit;
    uint8_t *packet; /* in which packets are built */
    size_t packet_capacity;
    char error[512]; /* the last operator's error */
};

static inline bool node_is_primary(const struct cluster_node *node) {
    return node->flags & WIRE_NODE_PRIMARY;
}
static inline bool node_is_replica(const struct cluster_node *node) {
    return node->flags & WIRE_NODE_REPLICA;
}
static inline bool node_is_failed(const struct cluster_node *node) {
    return node->flags & WIRE_NODE_FAIL;
}
static inline bool node_is_suspected(const struct cluster_node *node) {
    return node->flags & WIRE_NODE_PFAIL;
}
static inline bool node_in_handshake(const struct cluster_node *node) {
    return node->flags & WIRE_NODE_HANDSHAKE;
}
static inline bool node_has_address(const struct cluster_node *node) {
    return !(node->flags & WIRE_NODE_NOADDR);
}

static inline void cluster_later(struct cluster *cluster, unsigned what) {
    cluster->later |= what;
}
static inline uint64_t cluster_now(const struct cluster *cluster) {
    return cluster->calls.now_ms(cluster->context);
}
static inline uint64_t cluster_random(const struct cluster *cluster) {
    return cluster->calls.random(cluster->context);
}
static inline unsigned cluster_quorum(const struct cluster *cluster) {
    return cluster->size / 2 + 1;
}
/* How long ago that was; for 0 (never) very long. A time that lies ahead is now. */
static inline uint64_t cluster_age(uint64_t now_ms, uint64_t at_ms) {
    if (at_ms == 0)
        return CLUSTER_NEVER_MS;
    return now_ms > at_ms ? now_ms - at_ms : 0;
}
static inline bool id_is_none(const struct node_id *id) {
    return id->hex[0] == 0;
}

void cluster_log(const struct cluster *cluster, enum cluster_log_level level, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));
/* Leaves the text in cluster->error and returns it. */
const char *cluster_error(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void cluster_random_id(const struct cluster *cluster, struct node_id *id);
/* Time of the machine's own clock as Unix time, and back; 0 stays 0. */
uint64_t cluster_to_unix_ms(const struct cluster *cluster, uint64_t at_ms);
uint64_t cluster_from_unix_ms(const struct cluster *cluster, uint64_t unix_ms);
int id_compare(const struct node_id *a, const struct node_id *b);
/* Digits and lower case letters, 40 of them. */
bool id_is_valid(const void *text, size_t length);
/* A text that a node calls itself by: no white space, nothing that ends a field of nodes.conf. */
bool name_is_valid(const void *text, size_t length);
bool address_is_valid(const char *text);
/* The offset of our own data. */
uint64_t cluster_offset(const struct cluster *cluster);

#endif
