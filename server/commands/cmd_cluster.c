/* CLUSTER, ASKING, READONLY, READWRITE: this instance is in no cluster, and says so as Redis does.
 */
#include "server/dispatch/call.h"

#define IN_NO_CLUSTER(id)                                                                          \
    command_handler cmd_##id;                                                                      \
    enum call_result cmd_##id(struct call *call) {                                                 \
        reply_error(call->reply, "ERR This instance has cluster support disabled");                \
        return CALL_DONE;                                                                          \
    }

IN_NO_CLUSTER(asking)
IN_NO_CLUSTER(readonly)
IN_NO_CLUSTER(readwrite)
IN_NO_CLUSTER(cluster_addslots)
IN_NO_CLUSTER(cluster_addslotsrange)
IN_NO_CLUSTER(cluster_bumpepoch)
IN_NO_CLUSTER(cluster_count_failure_reports)
IN_NO_CLUSTER(cluster_countkeysinslot)
IN_NO_CLUSTER(cluster_delslots)
IN_NO_CLUSTER(cluster_delslotsrange)
IN_NO_CLUSTER(cluster_failover)
IN_NO_CLUSTER(cluster_flushslots)
IN_NO_CLUSTER(cluster_forget)
IN_NO_CLUSTER(cluster_getkeysinslot)
IN_NO_CLUSTER(cluster_help)
IN_NO_CLUSTER(cluster_info)
IN_NO_CLUSTER(cluster_keyslot)
IN_NO_CLUSTER(cluster_links)
IN_NO_CLUSTER(cluster_meet)
IN_NO_CLUSTER(cluster_myid)
IN_NO_CLUSTER(cluster_myshardid)
IN_NO_CLUSTER(cluster_nodes)
IN_NO_CLUSTER(cluster_replicas)
IN_NO_CLUSTER(cluster_replicate)
IN_NO_CLUSTER(cluster_reset)
IN_NO_CLUSTER(cluster_saveconfig)
IN_NO_CLUSTER(cluster_set_config_epoch)
IN_NO_CLUSTER(cluster_setslot)
IN_NO_CLUSTER(cluster_shards)
IN_NO_CLUSTER(cluster_slaves)
IN_NO_CLUSTER(cluster_slots)
