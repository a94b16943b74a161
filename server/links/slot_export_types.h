/* What the parts of the export of slots share (slot_export.h). */
#ifndef SLOTWISE_SERVER_SLOT_EXPORT_TYPES_H
#define SLOTWISE_SERVER_SLOT_EXPORT_TYPES_H

#include "cluster/slot_request.h"
#include "server/dispatch/pause.h"
#include "server/dispatch/service.h"
#include "server/links/cluster_bus_types.h"
#include "server/links/migration_target.h"
#include "server/links/slot_dirty.h"
#include "server/links/slot_records.h"

struct slot_job {
    struct slot_job *next; /* in the queue, under the lock */
    struct slot_record *record;
    struct node_id target;
    uint8_t slots[WIRE_SLOT_BYTES];
    struct slot_move move; /* its state is read by others under the lock */
};

struct slot_exports_around {
    struct keyspace *keyspace;
    const struct service *service;
    const struct pause *pause;
    struct cluster_bus **bus;
    struct slot_records *records;
    unsigned thread_number; /* keyspace_thread_set */
};

struct slot_exports {
    struct slot_exports_around around;
    pthread_mutex_t lock;
    pthread_cond_t wanted;
    struct slot_job *first; /* under the lock; the one that is done now comes first */
    bool started;           /* under the lock */
    atomic_bool stopping;   /* the process ends */
    atomic_bool halted;     /* the job of now, or everything, is to end */
    pthread_t thread;
    struct slot_dirty dirty;
    struct change change;             /* the thread's; its dirty is read by others */
    struct migration_targets targets; /* the thread's */
};

#endif
