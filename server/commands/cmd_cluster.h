/* What the handlers of CLUSTER share (cmd_cluster.c, cmd_cluster_slots.c, cmd_cluster_show.c). */
#ifndef SLOTWISE_SERVER_CMD_CLUSTER_H
#define SLOTWISE_SERVER_CMD_CLUSTER_H

#include "server/clients/server.h"
#include "server/dispatch/call.h"
#include "server/links/cluster_bus.h"

/* The bus; NULL: this is no node of a cluster, and the error is replied. */
static inline struct cluster_bus *cluster_of_call(struct call *call) {
    struct cluster_bus *bus = call->server ? call->server->cluster : NULL;
    if (!bus)
        reply_error(call->reply, "ERR This instance has cluster support disabled");
    return bus;
}

/* A number of a slot; false: error replied. */
bool cluster_slot_argument(struct call *call, int index, unsigned *slot);

/* What was asked has been done, or the error is to be replied; gives the lock back. */
static inline enum call_result cluster_answer(struct call *call, struct cluster_bus *bus,
                                              const char *error) {
    if (error)
        reply_error(call->reply, error);
    else
        reply_ok(call->reply);
    cluster_bus_leave(bus, error == NULL);
    return CALL_DONE;
}

#endif
