/* See cluster_bus.h. */
#include "server/links/cluster_bus.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>

#include "cluster/operate.h"
#include "cluster/slot_map.h"
#include "cluster/view.h"
#include "engine/assert.h"
#include "engine/background.h"
#include "engine/clock.h"
#include "engine/epoch.h"
#include "engine/keyspace.h"
#include "engine/memory.h"
#include "server/base/log.h"
#include "server/config/config.h"
#include "server/dispatch/lease_gate.h"
#include "server/dispatch/redirect.h"
#include "server/links/cluster_duties.h"
#include "server/net/address.h"

#define TICK_MS        100
#define EVENTS_AT_ONCE 64
#define HIGHEST_PORT   65535

/* --- Callbacks of the machine: under the lock of the bus -------------------------------------- */

static uint64_t now_ms(void *context) {
    struct timespec now;
    (void)context;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t unix_ms(void *context) {
    (void)context;
    return (uint64_t)clock_now_ms();
}

static uint64_t random_bits(void *context) {
    uint64_t bits;
    (void)context;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        bits = (uint64_t)clock_monotonic_ns() * 0x9e3779b97f4a7c15u;
    return bits;
}

static struct cluster_link *connect_link(void *context, const char *address, uint16_t bus_port) {
    struct cluster_bus *bus = context;
    return cluster_sockets_connect(&bus->sockets, address, bus_port, bus->source_address,
                                   now_ms(bus));
}

static void send_bytes(void *context, struct cluster_link *link, const void *bytes, size_t length) {
    struct cluster_bus *bus = context;
    cluster_sockets_send(&bus->sockets, link, bytes, length);
}

static void close_link(void *context, struct cluster_link *link) {
    struct cluster_bus *bus = context;
    cluster_sockets_close(&bus->sockets, link);
}

static bool host_text(struct address address, char *text, size_t size) {
    address_host_text(&address, text, size);
    return address.family != 0 && text[0] != '?';
}

static bool local_address(void *context, const struct cluster_link *link, char *text, size_t size) {
    (void)context;
    return host_text(address_of_local(cluster_sockets_descriptor(link)), text, size);
}

static bool peer_address(void *context, const struct cluster_link *link, char *text, size_t size) {
    (void)context;
    return host_text(address_of_peer(cluster_sockets_descriptor(link)), text, size);
}

static void persist(void *context, const char *text, size_t length, uint64_t ticket) {
    struct cluster_bus *bus = context;
    cluster_store_submit(&bus->store, text, length, ticket);
}

static void free_map(void *map) {
    epoch_synchronize(); /* this is the background thread, no reader */
    slot_map_free(map);
}

static void publish(void *context, struct slot_map *map) {
    (void)context;
    struct slot_map *before = redirect_publish(map);
    if (before)
        background_submit(free_map, before);
}

static void promote(void *context) {
    cluster_duty_promote(context);
}

static void follow(void *context, const char *address, uint16_t port) {
    cluster_duty_follow(context, address, port);
}

static void pause_writes(void *context, uint64_t for_ms) {
    cluster_duty_pause(context, for_ms);
}

/* Those whose replies are held look again. */
static void set_lease(void *context, uint64_t until_ms, bool ends) {
    struct cluster_bus *bus = context;
    lease_gate_set(until_ms, ends);
    if (bus->around.mailbox && (ends || bus->lease_until_ms <= now_ms(bus)))
        bus->around.resume(bus->around.context);
    bus->lease_until_ms = until_ms;
}

static void position(void *context, struct cluster_data_position *position) {
    struct cluster_bus *bus = context;
    const struct replica *replica = bus->around.replica;
    enum replication_link link = replica_link(replica);
    uint64_t now = clock_monotonic_us() / 1000, heard_ms = atomic_load(&replica->last_io_ms);
    bool gone = atomic_load(&bus->around.replication->data_gone);
    *position = (struct cluster_data_position){
        .offset = gone ? 0 : atomic_load(&bus->around.replication->history.offset),
        .link_is_up = link == REPLICATION_LINK_CONNECTED,
        .is_connecting = link != REPLICATION_LINK_CONNECTED && link != REPLICATION_LINK_CONNECT};
    /* What it has from the primary before does not count. */
    position->knows_primary_data =
        !gone && bus->role_duties == 0 && atomic_load(&replica->has_primary_data);
    if (!position->link_is_up && now > heard_ms)
        position->link_down_ms = now - heard_ms;
}

static void drop_slot_keys(void *context, unsigned slot) {
    cluster_duty_drop_slot(context, slot);
}

/* Exact for CLUSTER commands, which ask in exclusive sections. The bus's own threads cannot look:
 * there may be some. */
static bool slot_has_keys(void *context, unsigned slot) {
    const struct cluster_bus *bus = context;
    if (!bus->around.mailbox)
        return false; /* nothing is loaded yet */
    return !epoch_is_online() || keyspace_slot_count(bus->around.keyspace, slot) > 0;
}

static void drop_all_keys(void *context) {
    cluster_duty_drop_all(context);
}

static void message(void *context, const void *channel, size_t channel_length, const void *text,
                    size_t text_length, bool sharded) {
    const struct cluster_bus *bus = context;
    if (bus->around.mailbox)
        bus->around.message(bus->around.context, channel, channel_length, text, text_length,
                            sharded);
}

static void write_log(void *context, enum cluster_log_level level, const char *text) {
    static const enum log_level levels[] = {
        [CLUSTER_LOG_DEBUG] = LOG_LEVEL_DEBUG,
        [CLUSTER_LOG_VERBOSE] = LOG_LEVEL_VERBOSE,
        [CLUSTER_LOG_NOTICE] = LOG_LEVEL_NOTICE,
        [CLUSTER_LOG_WARNING] = LOG_LEVEL_WARNING,
    };
    (void)context;
    log_write(levels[level], "%s", text);
}

static const struct cluster_callbacks callbacks = {
    .now_ms = now_ms,
    .unix_ms = unix_ms,
    .random = random_bits,
    .connect = connect_link,
    .send = send_bytes,
    .close = close_link,
    .local_address = local_address,
    .peer_address = peer_address,
    .persist = persist,
    .publish = publish,
    .promote = promote,
    .follow = follow,
    .position = position,
    .pause = pause_writes,
    .lease = set_lease,
    .drop_slot_keys = drop_slot_keys,
    .slot_has_keys = slot_has_keys,
    .drop_all_keys = drop_all_keys,
    .message = message,
    .log = write_log,
};

/* --- The configuration ------------------------------------------------------------------------ */

enum { TEXT_BIND, TEXT_IP, TEXT_HOSTNAME, TEXT_NODENAME, TEXTS };

/* The address from which it connects: the first of bind, if it is one. */
static const char *first_address(const struct config *config) {
    const char *address = config->bind.count > 0 ? config->bind.address[0] : NULL;
    if (!address || strcmp(address, "*") == 0 || address[0] == '-' || strcmp(address, "::*") == 0 ||
        strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0)
        return NULL;
    return address;
}

static enum cluster_endpoint endpoint_of(const struct config *config) {
    switch (config->cluster_preferred_endpoint_type) {
    case CONFIG_ENDPOINT_HOSTNAME:
        return CLUSTER_ENDPOINT_HOSTNAME;
    case CONFIG_ENDPOINT_UNKNOWN:
        return CLUSTER_ENDPOINT_UNKNOWN;
    default:
        return CLUSTER_ENDPOINT_IP;
    }
}

/* The texts are copied into texts. */
static struct cluster_config translate(const struct cluster_bus *bus, const struct config *config,
                                       char *texts[TEXTS]) {
    const char *sources[TEXTS] = {first_address(config), config->cluster_announce_ip,
                                  config->cluster_announce_hostname,
                                  config->cluster_announce_human_nodename};
    for (unsigned i = 0; i < TEXTS; i++)
        texts[i] = sources[i] ? memory_strdup(sources[i]) : NULL;
    return (struct cluster_config){
        .node_timeout_ms = (uint64_t)config->cluster_node_timeout,
        .ping_interval_ms = (uint64_t)config->cluster_ping_interval,
        .replica_validity_factor = (unsigned)config->cluster_replica_validity_factor,
        .migration_barrier = (unsigned)config->cluster_migration_barrier,
        .allow_replica_migration = config->cluster_allow_replica_migration,
        .require_full_coverage = config->cluster_require_full_coverage,
        .replica_no_failover = config->cluster_replica_no_failover,
        .fast_failover = config->cluster_fast_failover,
        .allow_reads_when_down = config->cluster_allow_reads_when_down,
        .allow_pubsubshard_when_down = config->cluster_allow_pubsubshard_when_down,
        .link_sendbuf_limit_bytes = config->cluster_link_sendbuf_limit,
        .preferred_endpoint = endpoint_of(config),
        .replica_ping_period_ms = (uint64_t)config->repl_ping_replica_period * 1000,
        .port = (uint16_t)config->port,
        .bus_port = bus->bus_port,
        .bind_address = texts[TEXT_BIND],
        .announce_ip = texts[TEXT_IP],
        .announce_hostname = texts[TEXT_HOSTNAME],
        .announce_human_nodename = texts[TEXT_NODENAME],
        .announce_port = (uint16_t)config->cluster_announce_port,
        .announce_bus_port = (uint16_t)config->cluster_announce_bus_port,
        .announce_tls_port = (uint16_t)config->cluster_announce_tls_port,
        .drop_packet_types = bus->drop_packet_types,
    };
}

static void keep_texts(struct cluster_bus *bus, char *texts[TEXTS]) {
    for (unsigned i = 0; i < TEXTS; i++) {
        memory_free(bus->texts[i]);
        bus->texts[i] = texts[i];
    }
    bus->source_address = texts[TEXT_BIND];
}

void cluster_bus_configure(struct cluster_bus *bus, const struct config *config) {
    char *texts[TEXTS];
    struct cluster_config translated = translate(bus, config, texts);
    struct cluster *cluster = cluster_bus_enter(bus);
    bus->sockets.keepalive_s = (int)(config->cluster_node_timeout * 2 / 1000);
    cluster_configure(cluster, &translated);
    keep_texts(bus, texts);
    cluster_bus_leave(bus, true);
}

void cluster_bus_drop_packets(struct cluster_bus *bus, int type) {
    bus->drop_packet_types = type >= 0 && type < 32 ? 1u << type : 0;
    cluster_bus_configure(bus, config_current());
}

/* --- Set-up ----------------------------------------------------------------------------------- */

/* false: refused, which has been logged. */
static bool choose_port(struct cluster_bus *bus, const struct config *config) {
    if (!config->cluster_port && config->port > HIGHEST_PORT - CLUSTER_BUS_PORT_STEP) {
        log_write(LOG_LEVEL_WARNING,
                  "Redis port number too high. Cluster communication port is 10,000 port numbers "
                  "higher than your Redis port. Your Redis port number must be 55535 or less.");
        return false;
    }
    if (config->bind.count == 0) {
        log_write(LOG_LEVEL_WARNING,
                  "No bind address is configured, but it is required for the Cluster bus.");
        return false;
    }
    bus->bus_port = (uint16_t)(config->cluster_port ? config->cluster_port
                                                    : config->port + CLUSTER_BUS_PORT_STEP);
    return true;
}

static int listen_everywhere(struct cluster_bus *bus, const struct config *config) {
    int error = 0;
    for (size_t i = 0; i < config->bind.count && !error; i++)
        error = cluster_sockets_listen(&bus->sockets, config->bind.address[i], bus->bus_port,
                                       (int)config->tcp_backlog);
    if (error || bus->sockets.listener_count == 0) {
        log_write(LOG_LEVEL_WARNING, "Failed listening on port %u (cluster), aborting.",
                  bus->bus_port);
        return -1;
    }
    return 0;
}

/* -1: the file is there and of no use. */
static int load(struct cluster_bus *bus, bool *found) {
    size_t length;
    bool failed;
    const char *error = NULL;
    char *text = cluster_store_read(&bus->store, &length, &failed);
    *found = text != NULL;
    if (!failed && text && cluster_load(bus->cluster, text, length, &error) != 0) {
        log_write(LOG_LEVEL_WARNING, "Unrecoverable error: corrupted cluster config file \"%s\".",
                  error ? error : bus->store.path);
        failed = true;
    }
    memory_free(text);
    return failed ? -1 : 0;
}

static void written(void *context, uint64_t ticket, bool durable) {
    struct cluster_bus *bus = context;
    struct cluster *cluster = cluster_bus_enter(bus);
    cluster_on_persisted(cluster, ticket, durable ? CLUSTER_PERSISTED : CLUSTER_PERSIST_FAILED);
    cluster_bus_leave(bus, true);
}

/* The first file is written before anything else happens: a node without one does not start. */
static int begin(struct cluster_bus *bus, bool is_new) {
    uint64_t ticket;
    cluster_start(bus->cluster, is_new);
    cluster_before_wait(bus->cluster);
    if (cluster_store_write_now(&bus->store, &ticket) != 0) {
        log_write(LOG_LEVEL_WARNING, "Fatal: can't update cluster config file.");
        return -1;
    }
    if (ticket)
        cluster_on_persisted(bus->cluster, ticket, CLUSTER_PERSISTED);
    return 0;
}

static int set_up(struct cluster_bus *bus, const struct config *config) {
    char *texts[TEXTS];
    bool found;
    int error = cluster_sockets_init(&bus->sockets);
    bus->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (error || bus->wake_fd < 0) {
        log_write(LOG_LEVEL_WARNING, "Cannot set up the Cluster bus: %s",
                  strerror(error ? -error : errno));
        return -1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(bus->sockets.epoll_fd, EPOLL_CTL_ADD, bus->wake_fd, &event);
    if (cluster_store_open(&bus->store, config->cluster_config_file) != 0 ||
        !choose_port(bus, config))
        return -1;
    struct cluster_config translated = translate(bus, config, texts);
    keep_texts(bus, texts);
    bus->sockets.keepalive_s = (int)(config->cluster_node_timeout * 2 / 1000);
    bus->cluster = bus->sockets.cluster = cluster_create(&translated, &callbacks, bus);
    if (!bus->cluster || load(bus, &found) != 0 || listen_everywhere(bus, config) != 0)
        return -1;
    bus->store.written = written;
    bus->store.context = bus;
    return begin(bus, !found);
}

int cluster_bus_create(const struct cluster_bus_surroundings *around, const struct config *config,
                       struct cluster_bus **created) {
    struct cluster_bus *bus = memory_calloc(1, sizeof *bus);
    pthread_mutex_init(&bus->lock, NULL);
    bus->around = *around;
    if (set_up(bus, config) != 0)
        return -1; /* the process ends */
    *created = bus;
    return 0;
}

/* --- The thread ------------------------------------------------------------------------------- */

static void handle(struct cluster_bus *bus, const struct epoll_event *event) {
    uint64_t count;
    if (!event->data.ptr) {
        ssize_t n = read(bus->wake_fd, &count, sizeof count);
        (void)n;
        return;
    }
    cluster_bus_enter(bus);
    cluster_sockets_event(&bus->sockets, event->data.ptr, event->events, now_ms(bus));
    pthread_mutex_unlock(&bus->lock);
}

static void tick(struct cluster_bus *bus, uint64_t *due_ms) {
    uint64_t now = now_ms(bus);
    if (now < *due_ms)
        return;
    *due_ms = now - *due_ms < TICK_MS ? *due_ms + TICK_MS : now + TICK_MS;
    if (!bus->open)
        return;
    cluster_sockets_tick(&bus->sockets);
    cluster_tick(bus->cluster);
}

static void *bus_main(void *context) {
    struct cluster_bus *bus = context;
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t due_ms = now_ms(bus);
    int longest_ms = TICK_MS;
    while (!atomic_load(&bus->stopping)) {
        uint64_t now = now_ms(bus);
        int timeout = now < due_ms ? (int)(due_ms - now) : 0;
        timeout = timeout < longest_ms ? timeout : longest_ms;
        int n = epoll_wait(bus->sockets.epoll_fd, events, EVENTS_AT_ONCE, timeout);
        for (int i = 0; i < n; i++)
            handle(bus, &events[i]);
        cluster_bus_enter(bus);
        tick(bus, &due_ms);
        cluster_before_wait(bus->cluster);
        longest_ms = (int)cluster_max_wait_ms(bus->cluster);
        cluster_sockets_flush(&bus->sockets);
        cluster_sockets_free_dead(&bus->sockets);
        pthread_mutex_unlock(&bus->lock);
    }
    return NULL;
}

void cluster_bus_attach(struct cluster_bus *bus, struct mailbox *mailbox) {
    bus->around.mailbox = mailbox;
    cluster_duties_start(bus);
}

int cluster_bus_start(struct cluster_bus *bus) {
    sigset_t all, before;
    int error = cluster_store_start(&bus->store);
    if (error)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    cluster_bus_enter(bus);
    error = -pthread_create(&bus->thread, NULL, bus_main, bus);
    bus->started = error == 0;
    pthread_mutex_unlock(&bus->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(bus->thread, "cluster-bus");
    return error;
}

void cluster_bus_open(struct cluster_bus *bus, bool loaded) {
    cluster_bus_enter(bus);
    if (loaded)
        cluster_duties_verify(bus);
    bus->open = true;
    cluster_sockets_accept(&bus->sockets, true);
    cluster_bus_leave(bus, true);
}

/* --- The end ---------------------------------------------------------------------------------- */

/* What is said is with the kernel before anything else of the process ends. */
void cluster_bus_shutdown(struct cluster_bus *bus, bool data_is_final) {
    cluster_on_shutdown(cluster_bus_enter(bus), data_is_final);
    cluster_sockets_flush(&bus->sockets);
    cluster_bus_leave(bus, true);
}

void cluster_bus_stop(struct cluster_bus *bus) {
    atomic_store(&bus->stopping, true);
    cluster_bus_wake(bus);
    if (bus->started)
        pthread_join(bus->thread, NULL);
    bus->started = false;
    cluster_store_close(&bus->store);
}

void cluster_bus_destroy(struct cluster_bus *bus) {
    cluster_destroy(bus->cluster);
    cluster_duties_destroy(bus);
    cluster_sockets_destroy(&bus->sockets);
    slot_map_free(redirect_publish(NULL));
    for (unsigned i = 0; i < TEXTS; i++)
        memory_free(bus->texts[i]);
    close(bus->wake_fd);
    pthread_mutex_destroy(&bus->lock);
    memory_free(bus);
}

/* --- Commands --------------------------------------------------------------------------------- */

bool cluster_bus_save(struct cluster_bus *bus) {
    uint64_t ticket = cluster_save_config(cluster_bus_enter(bus));
    cluster_bus_leave(bus, true);
    return cluster_store_wait(&bus->store, ticket);
}

void cluster_bus_publish(struct cluster_bus *bus, const struct cluster_bus_message *published) {
    cluster_publish(cluster_bus_enter(bus), published->channel, published->channel_length,
                    published->message, published->message_length, published->sharded);
    cluster_bus_leave(bus, false);
}

void cluster_bus_figures(struct cluster_bus *bus, struct cluster_bus_figures *figures) {
    cluster_bus_enter(bus);
    figures->links = bus->sockets.link_count;
    figures->buffer_bytes = bus->sockets.buffer_bytes;
    cluster_bus_leave(bus, false);
}
