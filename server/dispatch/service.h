/* Service: what the state of the process keeps from clients at the moment: commands that need the
 * data while it is being loaded, writes to a read-only replica.
 *
 * One for the process. Each limit has one writer at a time, who sets and clears it by atomic or and
 * and; those that must hold from one moment on for everybody change in exclusive sections. Every
 * command looks at them, so they lie on a line that is hardly ever written. */
#ifndef SLOTWISE_SERVER_SERVICE_H
#define SLOTWISE_SERVER_SERVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum service_limit {
    SERVICE_LOADING = 1 << 0,   /* -LOADING unless COMMAND_LOADING; whoever loads, in exclusive
                                   sections */
    SERVICE_STALE = 1 << 1,     /* -MASTERDOWN unless COMMAND_STALE; a replica whose link is down */
    SERVICE_READ_ONLY = 1 << 2, /* -READONLY for COMMAND_WRITE; in exclusive sections */
    SERVICE_NO_LIMIT = 1 << 3,  /* a replica to which maxmemory does not apply; in exclusive
                                   sections. No command is refused for it */
    SERVICE_FEW_REPLICAS = 1 << 4,  /* -NOREPLICAS for COMMAND_WRITE; the primary's side */
    SERVICE_DISK_ERROR = 1 << 5,    /* -MISCONF for COMMAND_WRITE if the configuration wants it: the
                                       last save has failed; the saver, under its lock */
    SERVICE_ASYNC_LOADING = 1 << 6, /* -LOADING for COMMAND_NO_ASYNC_LOADING: the next data are
                                       being loaded beside those that are served; whoever loads,
                                       in exclusive sections */
};
#define SERVICE_REFUSING                                                                           \
    (SERVICE_LOADING | SERVICE_STALE | SERVICE_READ_ONLY | SERVICE_FEW_REPLICAS |                  \
     SERVICE_DISK_ERROR | SERVICE_ASYNC_LOADING)

/* A load that is over in a moment refuses nobody: Redis looks at no client before it has read so
 * many bytes (loading-process-events-interval-bytes). Until then, but not for longer than this,
 * clients wait who would be told -LOADING. */
#define SERVICE_LOADING_WAIT_US 1000000

struct service {
    _Alignas(64) _Atomic unsigned limits;   /* of enum service_limit */
    _Atomic uint64_t loading_wait_until_us; /* monotonic; whoever loads, before it sets a limit */
    const _Atomic uint64_t *loaded_bytes;   /* by the load that is on; set before threads exist */
    char rest_of_line[64 - 2 * sizeof(uint64_t) - sizeof(void *)];
};

static inline unsigned service_limits(const struct service *service) {
    return atomic_load_explicit(&service->limits, memory_order_relaxed);
}

static inline void service_set(struct service *service, unsigned limits, bool on) {
    if (on)
        atomic_fetch_or(&service->limits, limits);
    else
        atomic_fetch_and(&service->limits, ~limits);
}

/* A load begins, of which loaded_bytes is 0 by now. */
static inline void service_set_loading(struct service *service, unsigned limit, uint64_t now_us) {
    atomic_store(&service->loading_wait_until_us, now_us + SERVICE_LOADING_WAIT_US);
    service_set(service, limit, true);
}
/* Whether who would be refused because of a load is to wait: it has just begun. */
static inline bool service_loads_briefly(const struct service *service, uint64_t interval_bytes,
                                         uint64_t now_us) {
    return now_us < atomic_load(&service->loading_wait_until_us) &&
           atomic_load(service->loaded_bytes) < interval_bytes;
}

#endif
