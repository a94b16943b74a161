/* nodes.conf: what is written is read back; what somebody else wrote is read or refused. */
#include "cluster/nodes_conf.h"
#include "tests/unit/cluster/bus_fixture.h"

#define A    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C    "cccccccccccccccccccccccccccccccccccccccc"
#define ME   A " 10.0.0.1:7001@17001 myself,master - 0 0 1 connected"
#define VARS "vars currentEpoch 6 lastVoteEpoch 3\n"

static struct bus *bus;

static void begin(void) {
    bus = bus_new(1, 5, 1000);
}

static void end(void) {
    bus_free(bus);
}

static struct cluster *read_text(const char *text, size_t length, const char **error) {
    struct machine *machine = &bus->machines[0];
    struct cluster *cluster = cluster_create(&machine->config, &bus_callbacks, machine);
    *error = NULL;
    cluster_load(cluster, text, length, error);
    return cluster;
}

static struct cluster *accept_text(const char *text) {
    const char *error;
    struct cluster *cluster = read_text(text, strlen(text), &error);
    cr_assert_null(error, "%s", error);
    return cluster;
}

static void refuse_text(const char *text) {
    const char *error;
    struct cluster *cluster = read_text(text, strlen(text), &error);
    cr_assert_not_null(error, "%s", text);
    cr_assert(strncmp(error, "Unrecoverable error: corrupted cluster config file \"", 52) == 0);
    cluster_destroy(cluster);
}

static struct cluster_node_view view_of(struct cluster *cluster, const char *id) {
    struct cluster_node_view view = {0};
    cr_assert(cluster_view_node(cluster, id, WIRE_ID_LENGTH, &view));
    return view;
}

Test(nodes_conf, what_redis_7_2_writes, .init = begin, .fini = end) {
    struct cluster *cluster = accept_text(
        B " 10.0.0.2:7002@17002,host-b,tls-port=0,nodename=bee,shard-id=" C " slave " A
          " 0 1700000000000 0 connected\n" A " 10.0.0.1:7001@17001,,tls-port=0,shard-id=" C
          " myself,master - 0 0 4 connected 0-5 7 [3->-" B "] [9-<-" B "]\n" VARS);
    struct cluster_node_view me = view_of(cluster, A), other = view_of(cluster, B);
    cr_assert_eq(me.slot_count, 7);
    cr_assert_eq(me.slot_range_count, 2);
    cr_assert_eq(me.config_epoch, 4);
    cr_assert_str_eq(other.hostname, "host-b");
    cr_assert_str_eq(other.human_nodename, "bee");
    cr_assert_eq(other.config_epoch, 0);
    cr_assert(memcmp(other.primary.hex, A, WIRE_ID_LENGTH) == 0);
    cr_assert(memcmp(other.shard.hex, C, WIRE_ID_LENGTH) == 0);
    cr_assert_eq(cluster->open_slots, 2);
    cr_assert_eq(cluster->current_epoch, 6);
    cr_assert_eq(cluster->last_vote_epoch, 3);

    struct lines lines = {0};
    nodes_conf_write(cluster, &lines);
    struct cluster *again = accept_text(lines.text);
    struct lines second = {0};
    nodes_conf_write(again, &second);
    cr_assert_str_eq(lines.text, second.text);
    memory_free(lines.text);
    memory_free(second.text);
    cluster_destroy(cluster);
    cluster_destroy(again);
}

Test(nodes_conf, what_redis_7_0_and_older_ones_write, .init = begin, .fini = end) {
    struct cluster *cluster =
        accept_text(ME " 0-100\n" B " 10.0.0.2:7002@17002,host-b slave " A " 0 0 1 connected\n" C
                       " 10.0.0.3:7003 master,fail? - 5 5 9 disconnected 200\n\n" VARS);
    struct cluster_node_view me = view_of(cluster, A), b = view_of(cluster, B);
    cr_assert(memcmp(me.shard.hex, b.shard.hex, WIRE_ID_LENGTH) == 0);
    cr_assert_eq(view_of(cluster, C).bus_port, 17003);
    cr_assert(view_of(cluster, C).flags & WIRE_NODE_PFAIL);
    cr_assert_eq(cluster->current_epoch, 9); /* nobody's is greater than the cluster's */
    cluster_destroy(cluster);
}

Test(nodes_conf, what_is_refused, .init = begin, .fini = end) {
    refuse_text("");
    refuse_text(VARS);
    refuse_text("vars currentEpoch\n" ME "\n");
    refuse_text("vars currentEpoch x\n" ME "\n");
    refuse_text("short 10.0.0.1:7001@17001 myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:7001@17001 myself,master - 0 0 1\n");
    refuse_text(A " 10.0.0.1 myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:99999@1 myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:60000 myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:7001@x myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1,,what=1 myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1,,shard-id=zz myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1,,novalue myself,master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,king - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,master,slave - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,slave " A " 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,master " B " 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 master - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,noflags - 0 0 1 connected\n");
    refuse_text(A " 10.0.0.1:1@1 myself,master - 0 0 one connected\n");
    refuse_text(ME "\n" ME "\n");
    refuse_text(ME "\n" B " 10.0.0.2:1@1 myself,master - 0 0 1 connected\n");
    refuse_text(ME " 16384\n");
    refuse_text(ME " 5-16384\n");
    refuse_text(ME " x\n");
    refuse_text(ME " [\n");
    refuse_text(ME " [1\n");
    refuse_text(ME " [1->-" B "\n");
    refuse_text(ME " [1->-short]\n");
    refuse_text(ME " [99999->-" B "]\n");
    refuse_text(ME " [1-=-" B "]\n");
}

/* Every cut and many a changed byte of a good file: read or refused, and what is read keeps the
 * invariants. */
Test(nodes_conf, damage, .init = begin, .fini = end) {
    static const char good[] =
        ME " 0-5 7 [3->-" B "] [9-<-" C "]\n" B " 10.0.0.2:7002@17002,h,tls-port=0,shard-id=" C
           " slave " A " 0 1 0 connected\n" C
           " 10.0.0.3:7003@17003 master - 0 0 2 connected 8-20\n" VARS;
    char text[sizeof good];
    for (unsigned round = 0; round < 20000; round++) {
        const char *error;
        memcpy(text, good, sizeof good);
        size_t length = sizeof good - 1;
        if (round < sizeof good)
            length = round;
        else
            for (unsigned changes = 1 + round % 3; changes > 0; changes--)
                text[bus_random(bus) % length] =
                    round % 2 ? (char)bus_random(bus) : good[bus_random(bus) % length];
        struct cluster *cluster = read_text(text, length, &error);
        unsigned owned = 0, counted = 0;
        for (unsigned slot = 0; !error && slot < WIRE_SLOTS; slot++)
            owned += cluster->owners[slot] != NULL;
        for (unsigned i = 0; !error && i < cluster->node_count; i++) {
            counted += cluster->nodes[i]->slot_count;
            cr_assert(cluster->nodes[i]->primary != cluster->nodes[i]);
        }
        cr_assert_eq(owned, counted);
        cluster_destroy(cluster);
    }
}
