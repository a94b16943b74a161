"""Nodes of a cluster: built and looked at with the stock tools, alone and beside stock nodes; failures of primaries."""

import random
import re
import signal
import socket
import threading
import time

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

import harness
from clustering import (address, cli, cluster_port, create, flags_settle, information, is_ok, join, node_id, nodes, replicate, restart, sees,
                        start_node)
from harness import slot_of, wait_until
from resp import ReplyError

MODULE_SECONDS = 110
pytestmark = pytest.mark.slotwise


@pytest.fixture
def six(start):
    members = [start_node(start) for _ in range(6)]
    create(members)
    wait_until(lambda: all(is_ok(node, 6) for node in members), what="all to be ok")
    wait_until(lambda: all(node.info("replication").get("master_link_status") == "up" for node in members[3:]),
               what="the replicas to be synchronised")
    flags_settle(members, {node_id(node): ["slave" if node in members[3:] else "master"] for node in members})
    return members


def primary_of(replica):
    return nodes(replica)[node_id(replica)]["primary"]


def replica_of(members, primary):
    wanted = node_id(primary)
    return next(node for node in members if node.alive() and primary_of(node) == wanted)


# --- what it shows ---------------------------------------------------------------------------------------------------


def test_create_and_check(six):
    output = cli("--cluster", "check", address(six[3]))
    assert "[OK] All nodes agree about slots configuration." in output
    assert "[OK] All 16384 slots covered." in output
    assert output.count("1 additional replica(s)") == 3
    facts = information(six[0])
    assert {name: facts[name] for name in ("cluster_state", "cluster_slots_assigned", "cluster_slots_ok", "cluster_slots_pfail",
                                           "cluster_slots_fail", "cluster_known_nodes", "cluster_size")} == {
        "cluster_state": "ok", "cluster_slots_assigned": "16384", "cluster_slots_ok": "16384", "cluster_slots_pfail": "0",
        "cluster_slots_fail": "0", "cluster_known_nodes": "6", "cluster_size": "3"}
    assert int(facts["cluster_current_epoch"]) >= 6 and facts["cluster_my_epoch"] == "1"
    assert int(facts["cluster_stats_messages_ping_sent"]) > 0
    assert int(facts["cluster_stats_messages_pong_received"]) > 0
    assert facts["total_cluster_links_buffer_limit_exceeded"] == "0"
    assert six[0].info("cluster")["cluster_enabled"] == "1"
    assert six[0].info("server")["redis_mode"] == "cluster"
    assert "Running mode=cluster" in six[0].log()


def test_nodes(six):
    ids = [node_id(node) for node in six]
    for node in six:
        listed = nodes(node)
        assert set(listed) == set(ids)
        for other, one in zip(six, ids):
            fields = listed[one]
            assert fields["address"] == f"127.0.0.1:{other.port}@{other.port + 10000}"
            assert ("myself" in fields["flags"]) == (other is node)
            assert fields["link"] == "connected"
    listed = nodes(six[0])
    assert [listed[one]["slots"] for one in ids[:3]] == [["0-5460"], ["5461-10922"], ["10923-16383"]]
    assert [listed[one]["epoch"] for one in ids[:3]] == [1, 2, 3]
    for one in ids[3:]:
        assert "slave" in listed[one]["flags"] and listed[one]["primary"] in ids[:3] and not listed[one]["slots"]
    wait_until(lambda: all(fields["epoch"] == nodes(six[0])[fields["primary"]]["epoch"]
                           for fields in nodes(six[0]).values() if fields["primary"] != "-"),
               what="replicas to have the epochs of their primaries")
    replicas = six[0].call("CLUSTER", "REPLICAS", ids[0])
    assert len(replicas) == 1 and replicas[0].decode().split()[3] == ids[0]
    assert six[0].call("CLUSTER", "REPLICAS", ids[3]) == ReplyError("ERR The specified node is not a master")
    assert six[0].call("CLUSTER", "SLAVES", "x" * 40) == ReplyError("ERR Unknown node " + "x" * 40)


def test_slots_and_shards(six):
    ids = [node_id(node).encode() for node in six]
    wait_until(lambda: all(len(entry) == 4 for entry in six[0].call("CLUSTER", "SLOTS")), what="offsets of the replicas")
    slots = six[0].call("CLUSTER", "SLOTS")
    assert [entry[:2] for entry in slots] == [[0, 5460], [5461, 10922], [10923, 16383]]
    for entry, node, one in zip(slots, six, ids):
        assert entry[2] == [b"127.0.0.1", node.port, one, []]
        assert entry[3][2] in ids[3:]
    with six[0].raw(protocol=3) as client:
        shards = client.call("CLUSTER", "SHARDS")
    assert len(shards) == 3
    for shard in shards:
        facts = shard.dictionary()
        assert set(facts) == {b"slots", b"nodes"}
        assert len(facts[b"slots"]) == 2
        members = [one.dictionary() for one in facts[b"nodes"]]
        assert sorted(one[b"role"] for one in members) == [b"master", b"replica"]
        for one in members:
            assert list(one) == [b"id", b"port", b"ip", b"endpoint", b"role", b"replication-offset", b"health"]
            assert one[b"health"] == b"online" and one[b"ip"] == b"127.0.0.1"
    assert len({node.call("CLUSTER", "MYSHARDID") for node in six}) == 3
    links = six[0].call("CLUSTER", "LINKS")
    assert len(links) == 10
    assert {entry[1] for entry in links} == {b"to", b"from"}
    created = [(entry[3], entry[5]) for entry in links]
    with six[0].raw() as client:
        assert all([(entry[3], entry[5]) for entry in client.call("CLUSTER", "LINKS")] == created for _ in range(500))


def test_endpoints(start):
    node = start_node(start, options={"cluster-announce-hostname": "host-1.example", "cluster-announce-ip": "127.0.0.1"})
    other = start_node(start)
    join([node, other], [(0, 8191), (8192, 16383)])
    key = next(f"k{i}" for i in range(100) if slot_of(f"k{i}") < 8192)
    wait_until(lambda: b"hostname" in other.call("CLUSTER", "SLOTS")[0][2][3], what="the name to be known")
    assert other.call("CLUSTER", "SLOTS")[0][2] == [b"127.0.0.1", node.port, node_id(node).encode(),
                                                    [b"hostname", b"host-1.example"]]
    assert other.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname") == "OK"
    assert other.call("CLUSTER", "SLOTS")[0][2][0] == b"host-1.example"
    assert other.call("CLUSTER", "SLOTS")[1][2][0] == b"?"
    wait_until(lambda: other.call("GET", key) == ReplyError(f"MOVED {slot_of(key)} host-1.example:{node.port}"),
               what="the redirection to name the host")
    assert other.call("CONFIG", "SET", "cluster-preferred-endpoint-type", "unknown-endpoint") == "OK"
    assert other.call("CLUSTER", "SLOTS")[0][2][0] is None
    wait_until(lambda: other.call("GET", key) == ReplyError(f"MOVED {slot_of(key)} :{node.port}"),
               what="the redirection to name no host")
    assert f"127.0.0.1:{node.port}@{node.port + 10000},host-1.example" == nodes(other)[node_id(node)]["address"]


def test_clients_follow(six):
    port = six[0].port
    for key in ("a", "b", "c", "foo", "{x}1"):
        assert cli("-c", "-p", port, "SET", key, "v-" + key) == "OK\n"
        assert cli("-c", "-p", port, "GET", key) == f"v-{key}\n"
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], socket_timeout=harness.HANG_SECONDS)
    for number in range(300):
        client.set(f"key:{number}", number)
    assert [int(client.get(f"key:{number}")) for number in range(300)] == list(range(300))
    assert client.mset_nonatomic({f"m{i}": i for i in range(20)})
    client.close()
    reader = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], read_from_replicas=True,
                          socket_timeout=harness.HANG_SECONDS)
    wait_until(lambda: all(reader.get(f"key:{number}") == str(number).encode() for number in range(50)),
               what="the replicas to answer")
    reader.close()
    assert sum(node.call("DBSIZE") for node in six[:3]) == sum(node.call("DBSIZE") for node in six[3:]) == 325


def test_keys_of_slots(start):
    node = start_node(start)
    assert node.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383) == "OK"
    wait_until(lambda: is_ok(node), what="the cluster to be ok")
    keys = {f"{{t}}{i}".encode() for i in range(1000)}
    node.client().mset({key: b"v" for key in keys})
    slot = slot_of("t")
    assert node.call("CLUSTER", "KEYSLOT", "{t}1") == slot
    assert node.call("CLUSTER", "COUNTKEYSINSLOT", slot) == 1000
    assert node.call("CLUSTER", "COUNTKEYSINSLOT", slot + 1) == 0
    assert set(node.call("CLUSTER", "GETKEYSINSLOT", slot, 5000)) == keys
    few = node.call("CLUSTER", "GETKEYSINSLOT", slot, 10)
    assert len(few) == 10 and set(few) <= keys
    assert node.call("CLUSTER", "GETKEYSINSLOT", slot, 0) == []
    for wrong in (("COUNTKEYSINSLOT", 16384), ("COUNTKEYSINSLOT", -1)):
        assert node.call("CLUSTER", *wrong) == ReplyError("ERR Invalid slot")
    assert node.call("CLUSTER", "GETKEYSINSLOT", 0, -1) == ReplyError("ERR Invalid slot or number of keys")


def test_slot_stats(start):
    node, other = start_node(start), start_node(start)
    join([node, other], [(0, 8191), (8192, 16383)])
    tags = [f"t{i}" for i in range(100) if slot_of(f"t{i}") < 8192][:3]
    for number, tag in enumerate(tags, 1):
        node.client().mset({f"{{{tag}}}{i}": "v" for i in range(number)})
    slots = [slot_of(tag) for tag in tags]
    assert node.call("CLUSTER", "SLOT-STATS", "SLOTSRANGE", slots[0], slots[0]) == [[slots[0], [b"key-count", 1]]]
    assert len(node.call("CLUSTER", "SLOT-STATS", "SLOTSRANGE", 0, 16383)) == 8192
    assert node.call("CLUSTER", "SLOT-STATS", "SLOTSRANGE", 8192, 16383) == []
    assert node.call("CLUSTER", "SLOT-STATS", "ORDERBY", "key-count", "LIMIT", 3) == \
        [[slot, [b"key-count", count]] for slot, count in zip(reversed(slots), (3, 2, 1))]
    assert node.call("CLUSTER", "SLOT-STATS", "ORDERBY", "KEY-COUNT", "ASC", "LIMIT", 1)[0][1] == [b"key-count", 0]
    for arguments, error in ((("SLOTSRANGE", 5, 1), "Start slot number 5 is greater than end slot number 1"),
                             (("SLOTSRANGE", 0, 16384), "Invalid or out of range slot"),
                             (("ORDERBY", "cpu"), "Unrecognized sort metric for ORDERBY."),
                             (("ORDERBY", "key-count", "LIMIT", 0),
                              "Limit has to lie in between 1 and 16384 (maximum number of slots).")):
        assert node.call("CLUSTER", "SLOT-STATS", *arguments) == ReplyError("ERR " + error)


# --- failures --------------------------------------------------------------------------------------------------------


def take_over(members, primary, end):
    """The primary ends as told; its replica takes over. Returns the replica."""
    replica = replica_of(members, primary)
    old, new = node_id(primary), node_id(replica)
    slots = nodes(replica)[old]["slots"]
    end(primary)
    rest = [node for node in members if node is not primary and node.alive()]
    wait_until(lambda: all(nodes(node)[new]["slots"] == slots for node in rest), what="the replica to own the slots")
    flags_settle(rest, {old: ["master", "fail"], new: ["master"]})
    wait_until(lambda: all(is_ok(node) for node in rest), what="the cluster to be ok again")
    return replica


def kill(node):
    node.terminate(signal.SIGKILL)


@pytest.mark.parametrize("end", [kill, harness.Server.terminate], ids=["kill", "term"])
def test_failover(start, six, end):
    keys = [f"k{i}" for i in range(200)]
    for key in keys:
        cli_node = next(node for node in six[:3] if not isinstance(node.call("SET", key, key), ReplyError))
        assert cli_node.call("GET", key) == key.encode()
    primary = six[1]
    old = node_id(primary)
    wait_until(lambda: replica_of(six, primary).call("DBSIZE") == primary.call("DBSIZE"), what="the replica to be in step")
    replica = take_over(six, primary, end)
    assert nodes(replica)[node_id(replica)]["epoch"] == 7
    assert "Failover election won: I'm the new master." in replica.log()
    mine = [key for key in keys if 5461 <= slot_of(key) <= 10922]
    assert mine and all(replica.call("GET", key) == key.encode() for key in mine)
    assert replica.call("SET", mine[0], "new") == "OK"
    again = restart(start, primary)
    wait_until(lambda: primary_of(again) == node_id(replica), what="the old primary to come back as a replica")
    wait_until(lambda: again.info("replication").get("master_link_status") == "up", what="it to be synchronised")
    flags_settle([node for node in six if node is not primary] + [again], {old: ["slave"]})
    with again.raw() as client:
        assert client.call("READONLY") == "OK"
        wait_until(lambda: client.call("GET", mine[0]) == b"new", what="it to have the data")
    assert again.call("GET", mine[0]) == ReplyError(f"MOVED {slot_of(mine[0])} 127.0.0.1:{replica.port}")


def test_manual_failover_loses_nothing(six):
    primary, replica = six[0], replica_of(six, six[0])
    key = next(f"n{i}" for i in range(100) if slot_of(f"n{i}") <= 5460)
    acknowledged, stop = [], threading.Event()

    def write():
        client = redis.Redis(port=primary.port, socket_timeout=harness.HANG_SECONDS)
        while not stop.is_set():
            try:
                acknowledged.append(client.incr(key))
            except redis.ResponseError:
                break
        client.close()

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: len(acknowledged) > 200, what="some writes")
    assert replica.call("CLUSTER", "FAILOVER") == "OK"
    wait_until(lambda: sees(primary, node_id(replica), "master") and sees(primary, node_id(primary), "slave"),
               what="the roles to be exchanged")
    stop.set()
    for writer in writers:
        writer.join()
    wait_until(lambda: is_ok(replica), what="the new primary to be ok")
    assert int(replica.call("GET", key)) == max(acknowledged) == len(acknowledged)
    wait_until(lambda: primary.info("replication").get("master_link_status") == "up", what="the old primary to follow")


@pytest.mark.parametrize("mode", ["FORCE", "TAKEOVER"])
def test_forced_failover(six, mode):
    primary, replica = six[2], replica_of(six, six[2])
    assert primary.call("CLUSTER", "FAILOVER", mode) == ReplyError("ERR You should send CLUSTER FAILOVER to a replica")
    assert replica.call("CLUSTER", "FAILOVER", "NOW") == ReplyError("ERR syntax error")
    assert replica.call("CLUSTER", "FAILOVER", mode) == "OK"
    flags_settle(six, {node_id(replica): ["master"], node_id(primary): ["slave"]})
    wait_until(lambda: primary.info("replication").get("master_link_status") == "up", what="the old primary to follow")


def test_mixed_with_stock_nodes(start):
    """Primaries and replicas of both kinds: each takes over from the other, and hears of it from the other."""
    ours, stock = [start_node(start) for _ in range(3)], [start_node(start, stock=True) for _ in range(3)]
    primaries = [ours[0], stock[0], ours[1]]
    join(primaries, [(0, 5460), (5461, 10922), (10923, 16383)])
    replicate(stock[1], ours[0])
    replicate(ours[2], stock[0])
    replicate(stock[2], ours[1])
    members = ours + stock
    wait_until(lambda: all(is_ok(node, 6) for node in members), what="all to be ok")
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", ours[0].port)], socket_timeout=harness.HANG_SECONDS)
    for number in range(200):
        client.set(f"key:{number}", number)
    client.close()
    for replica, primary in ((stock[1], ours[0]), (ours[2], stock[0])):
        wait_until(lambda a=replica, b=primary: a.call("DBSIZE") == b.call("DBSIZE"), what="the replicas to be in step")
    assert take_over(members, stock[0], kill) is ours[2]
    again = restart(start, stock[0])
    wait_until(lambda: primary_of(again) == node_id(ours[2]), what="the stock node to follow ours")
    wait_until(lambda: again.info("replication").get("master_link_status") == "up", what="it to be synchronised")
    members = ours + [again] + stock[1:]
    wait_until(lambda: all(is_ok(node, 6) for node in members), what="all to be ok")
    assert take_over(members, ours[0], kill) is stock[1]
    back = restart(start, ours[0])
    wait_until(lambda: primary_of(back) == node_id(stock[1]), what="our node to follow the stock one")
    wait_until(lambda: back.info("replication").get("master_link_status") == "up", what="it to be synchronised")
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", ours[1].port)], socket_timeout=harness.HANG_SECONDS)
    assert [int(client.get(f"key:{number}")) for number in range(200)] == list(range(200))
    client.close()


# --- messages --------------------------------------------------------------------------------------------------------


def test_published_messages_reach_all_nodes(start):
    """Ours and stock ones; those of a shard its nodes only."""
    ours, stock = start_node(start), start_node(start, stock=True)
    join([ours, stock], [(0, 8191), (8192, 16383)])
    replica = start_node(start)
    replicate(replica, ours)
    everybody = (ours, stock, replica)
    wait_until(lambda: all(is_ok(node, 3) for node in everybody), what="all to know all")
    wait_until(lambda: all(entry["link"] == "connected" for node in everybody for entry in nodes(node).values()),
               what="all to be linked")
    wait_until(lambda: any(len(shard[3]) == 2 for shard in ours.call("CLUSTER", "SHARDS")), what="the shard to be known")
    shard_channel = next(f"c{i}" for i in range(100) if slot_of(f"c{i}") < 8192)
    subscribers = {node.port: node.raw() for node in (ours, stock, replica)}
    for node in (ours, stock, replica):
        assert subscribers[node.port].call("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
    for node in (ours, replica):
        assert subscribers[node.port].call("SSUBSCRIBE", shard_channel) == [b"ssubscribe", shard_channel.encode(), 1]
    for number, publisher in enumerate((ours, stock, replica)):
        assert publisher.call("PUBLISH", "news", f"n{number}") == 1
        for client in subscribers.values():
            assert client.read() == [b"message", b"news", b"n%d" % number]
    assert ours.call("SPUBLISH", shard_channel, "s") == 1
    for node in (ours, replica):
        assert subscribers[node.port].read() == [b"smessage", shard_channel.encode(), b"s"]
    assert ours.call("PUBLISH", "news", "last") == 1
    assert subscribers[stock.port].read() == [b"message", b"news", b"last"]


# --- slots that change hands -----------------------------------------------------------------------------------------


def test_no_write_is_left_behind_in_a_slot_that_was_given_away(start):
    """SETSLOT gives an empty slot away between two commands: a write that comes at the same time either makes it refuse or is
    sent to the new owner."""
    node, other = start_node(start, threads=2), start_node(start)
    assert node.call("DEBUG", "WORKERS-AWAKE", 2) == "OK"
    join([node, other], [(0, 16382), (16383, 16383)])
    target, given, kept = node_id(other), 0, 0
    admins, writers = [node.raw() for _ in range(4)], [node.raw() for _ in range(4)]
    tags = {slot_of(f"w{i}"): f"w{i}" for i in range(600)}
    for number, (slot, tag) in enumerate(tags.items()):
        admin, writer = admins[number % 4], writers[number // 4 % 4]  # of all pairs some have a worker each
        admin.send_command("CLUSTER", "SETSLOT", slot, "NODE", target)
        until = time.monotonic() + random.random() * 400e-6
        while time.monotonic() < until:
            pass
        writer.send_command("SET", tag, "v")
        written, moved = writer.read(), admin.read()
        given += moved == "OK"
        kept += written == "OK"
        assert (moved == "OK") == (written == ReplyError(f"MOVED {slot} 127.0.0.1:{other.port}")), (moved, written)
        assert node.call("CLUSTER", "COUNTKEYSINSLOT", slot) == (written == "OK")
    assert given and given + kept == len(tags)


def test_slots_are_moved_by_the_stock_tool(start):
    members = [start_node(start) for _ in range(3)]
    create(members, 0)
    wait_until(lambda: all(is_ok(node, 3) for node in members), what="all to be ok")
    keys = [f"k{i}" for i in range(2000)]

    def all_there():
        client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", members[0].port)], socket_timeout=harness.HANG_SECONDS)
        there = [client.get(key) == key.encode() for key in keys]
        client.close()
        return all(there)

    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", members[0].port)], socket_timeout=harness.HANG_SECONDS)
    for key in keys:
        client.set(key, key)
    client.close()
    cli("--cluster", "reshard", address(members[0]), "--cluster-from", node_id(members[0]), "--cluster-to", node_id(members[1]),
        "--cluster-slots", 100, "--cluster-yes")
    assert "[OK] All 16384 slots covered." in cli("--cluster", "check", address(members[2]))
    assert nodes(members[0])[node_id(members[1])]["slots"] == ["0-99", "5461-10922"]
    assert members[0].call("DBSIZE") == sum(100 <= slot_of(key) <= 5460 for key in keys)
    assert all_there()
    extra = start_node(start)
    assert "[OK] New node added correctly." in cli("--cluster", "add-node", address(extra), address(members[0]))
    wait_until(lambda: all(is_ok(node, 4) for node in [*members, extra]), what="the new node to be known")
    output = cli("--cluster", "rebalance", address(members[0]), "--cluster-use-empty-masters", "--cluster-threshold", 1,
                 "--cluster-weight", f"{node_id(extra)}=0.05")
    assert extra.call("DBSIZE") > 0, output
    assert all_there()
    cli("--cluster", "rebalance", address(members[0]), "--cluster-threshold", 1, "--cluster-weight", f"{node_id(extra)}=0")
    assert extra.call("DBSIZE") == 0 and all_there()
    wait_until(lambda: all(not nodes(node)[node_id(extra)]["slots"] for node in members), what="all to know it to be empty")
    cli("--cluster", "del-node", address(members[0]), node_id(extra))
    owned = int(nodes(members[1])[node_id(members[1])]["slots"][0].split("-")[0])
    assert members[1].call("CLUSTER", "SETSLOT", owned, "MIGRATING", node_id(members[0])) == "OK"
    assert "[OK] All 16384 slots covered." in cli("--cluster", "fix", address(members[0]))
    assert all_there()


def test_keys_of_a_lost_slot_go(start):
    node, other = start_node(start), start_node(start)
    replica = start_node(start)
    join([node, other], [(0, 16382), (16383, 16383)])
    replicate(replica, node)
    slot = slot_of("lost")
    node.client().mset({f"{{lost}}{i}": "v" for i in range(500)})
    assert node.call("SET", "{kept}1", "v") == "OK"
    wait_until(lambda: replica.call("DBSIZE") == 501, what="the replica to be in step")
    assert other.call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(node)) == "OK"
    assert other.call("CLUSTER", "SETSLOT", slot, "NODE", node_id(other)) == "OK"
    wait_until(lambda: node.call("DBSIZE") == 1, what="the keys to be deleted")
    assert node.call("GET", "{kept}1") == b"v"
    wait_until(lambda: replica.call("DBSIZE") == 1, what="the replica to delete them too")
    assert other.call("SET", "{lost}1", "w") == "OK"


def test_reset(start):
    node, other = start_node(start), start_node(start)
    join([node], [(0, 16383)])
    replicate(other, node)
    assert node.call("SET", "k", "v") == "OK"
    wait_until(lambda: other.call("DBSIZE") == 1, what="the replica to be in step")
    assert node.call("CLUSTER", "RESET") == ReplyError("ERR CLUSTER RESET can't be called with master nodes containing keys")
    before = node_id(other)
    assert other.call("CLUSTER", "RESET", "HARD") == "OK"
    wait_until(lambda: other.call("DBSIZE") == 0, what="the keys to go")
    assert node_id(other) != before
    wait_until(lambda: other.info("replication")["role"] == "master", what="it to be a primary")
    assert information(other)["cluster_known_nodes"] == "1"


# --- starting --------------------------------------------------------------------------------------------------------


def high_port():
    """A free one that leaves no room for the bus."""
    for port in range(55536, 65536):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free")


def test_start_up_refusals(start, tmp_path):
    with pytest.raises(harness.StartFailed, match="Redis port number too high"):
        start({"cluster-enabled": "yes", "port": high_port(), "dir": tmp_path})
    (tmp_path / "nodes.conf").write_text("this is no file of a cluster\n")
    with pytest.raises(harness.StartFailed, match="Unrecoverable error: corrupted cluster config file"):
        start_node(start, options={"dir": tmp_path})
    with pytest.raises(harness.StartFailed, match="replicaof directive not allowed in cluster mode"):
        start_node(start, options={"replicaof": ("127.0.0.1", "1")})
    node = start_node(start)
    with pytest.raises(harness.StartFailed, match="is already used by a different Redis Cluster node"):
        start_node(start, options={"dir": node.directory})
    with pytest.raises(harness.StartFailed, match=r"Failed listening on port \d+ \(cluster\), aborting"):
        start_node(start, options={"cluster-port": node.port})


def test_restart_keeps_the_configuration(start):
    node = start_node(start)
    assert node.call("CLUSTER", "ADDSLOTSRANGE", 0, 99, 200, 200) == "OK"
    assert node.call("CLUSTER", "SET-CONFIG-EPOCH", 5) == "OK"
    assert node.call("CLUSTER", "SAVECONFIG") == "OK"
    before = nodes(node)
    node.terminate(signal.SIGKILL)
    again = restart(start, node)
    after = nodes(again)
    assert set(after) == set(before)
    (fields,) = after.values()
    assert fields["slots"] == ["0-99", "200"] and fields["epoch"] == 5
    assert "Node configuration loaded, I'm " + next(iter(after)) in again.log()


def test_a_replica_restarts_with_its_configuration_rewritten(start, tmp_path):
    node, replica = start_node(start), start_node(start, defaults=False, options={
        "port": cluster_port(), "bind": "127.0.0.1", "dir": tmp_path, "enable-debug-command": "yes"},
        config=f"cluster-enabled yes\ndir {tmp_path}\nrepl-diskless-sync-delay 0\n")
    join([node], [(0, 16383)])
    replicate(replica, node)
    assert replica.config_get("replicaof") == f"127.0.0.1 {node.port}"
    assert replica.call("CONFIG", "REWRITE") == "OK"
    assert "replicaof" not in (replica.directory / "server.conf").read_text()
    assert node.call("SET", "k", "v") == "OK"
    wait_until(lambda: replica.call("DBSIZE") == 1, what="the replica to be in step")
    replica.terminate()
    again = start(dict(replica.options), directory=replica.directory, defaults=False,
                  config=(replica.directory / "server.conf").read_text())
    wait_until(lambda: again.info("replication").get("master_link_status") == "up", what="it to be synchronised again")
    assert again.call("DBSIZE") == 1


def test_keys_without_owner_are_taken_over(start, tmp_path):
    node = start({"dir": tmp_path})
    assert node.call("SET", "k", "v") == "OK"
    assert node.call("SAVE") == "OK"
    node.terminate()
    again = start_node(start, options={"dir": tmp_path, "cluster-require-full-coverage": "no"})
    slot = slot_of("k")
    wait_until(lambda: nodes(again)[node_id(again)]["slots"] == [str(slot)], what="the slot to be taken")
    assert f"I have keys for unassigned slot {slot}. Taking responsibility for it." in again.log()
    wait_until(lambda: again.call("GET", "k") == b"v", what="the key to be served")


def test_roles_belong_to_the_cluster(start):
    node = start_node(start)
    assert node.call("REPLICAOF", "127.0.0.1", 1) == ReplyError("ERR REPLICAOF not allowed in cluster mode.")
    assert node.call("FAILOVER") == ReplyError("ERR FAILOVER not allowed in cluster mode.")
    assert node.call("SELECT", 1) == ReplyError("ERR SELECT is not allowed in cluster mode")
    assert node.config_get("databases") == "1"
    with node.raw(protocol=3) as client:
        assert client.hello(3).dictionary()[b"mode"] == b"cluster"
    plain = start()
    for command in (("CLUSTER", "INFO"), ("CLUSTER", "HELP"), ("READONLY",), ("ASKING",), ("CLUSTER", "SETSLOT", 1, "STABLE")):
        assert plain.call(*command) == ReplyError("ERR This instance has cluster support disabled")


def test_packets_are_dropped_for_tests(start):
    """Type 0 is PING: who takes none answers none."""
    members = [start_node(start) for _ in range(2)]
    join(members, [(0, 8191), (8192, 16383)])
    assert members[1].call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", 0) == "OK"
    line = "Dropping packet that matches debug drop filter"
    wait_until(lambda: line in members[1].log(), what="a packet to be dropped")
    pongs = information(members[1])["cluster_stats_messages_pong_sent"]
    dropped = members[1].log().count(line)
    pings = int(information(members[1])["cluster_stats_messages_ping_sent"])
    wait_until(lambda: members[1].log().count(line) > dropped or
               int(information(members[1])["cluster_stats_messages_ping_sent"]) > pings + 3, what="more to be dropped")
    assert information(members[1])["cluster_stats_messages_pong_sent"] == pongs
    assert members[1].call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1) == "OK"
    wait_until(lambda: all(is_ok(node, 2) for node in members), what="both to be ok again")


def test_garbage_on_the_bus(start):
    node = start_node(start)
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"RCmb" + b"\xff" * 64, b"RCmb" + b"\0" * 64):
        with socket.create_connection(("127.0.0.1", node.port + 10000), timeout=harness.HANG_SECONDS) as bus:
            bus.sendall(garbage)
            assert bus.recv(1) == b""
    assert len(re.findall("Bad message length or signature received on the Cluster bus", node.log())) == 3
    assert node.call("PING") == "PONG"
    with socket.create_connection(("127.0.0.1", node.port + 10000), timeout=harness.HANG_SECONDS) as bus:
        bus.sendall(b"RCmb\0\0\x08")  # and no more of it
        assert node.call("PING") == "PONG"


def links_with(node, peer):
    """When the links with that peer were made, by their direction."""
    links = [dict(zip(link[::2], link[1::2])) for link in node.call("CLUSTER", "LINKS")]
    return {link[b"direction"].decode(): link[b"create-time"] for link in links if link[b"node"].decode() == peer}


def test_links_are_killed_for_tests(start):
    members = [start_node(start) for _ in range(2)]
    join(members, [(0, 8191), (8192, 16383)])
    node, peer = members[0], node_id(members[1])
    wait_until(lambda: len(links_with(node, peer)) == 2, what="both links")
    for way, killed in (("to", {"to"}), ("from", {"from"}), ("all", {"to", "from"})):
        before = links_with(node, peer)
        assert node.call("DEBUG", "CLUSTERLINK", "kill", way, peer) == "OK"
        wait_until(lambda: len(links_with(node, peer)) == 2, what="the links to be made again")
        after = links_with(node, peer)
        assert {one for one in before if before[one] != after[one]} == killed
    assert is_ok(node, 2)
    assert node.call("DEBUG", "CLUSTERLINK", "KILL", "up", peer) == ReplyError("ERR Unknown direction up")
    assert node.call("DEBUG", "CLUSTERLINK", "KILL", "all", "nobody") == ReplyError("ERR Unknown node nobody")
    assert str(node.call("DEBUG", "CLUSTERLINK", "BREAK", "all", peer)).startswith("ERR unknown subcommand or wrong number of arguments")
    disabled = ReplyError("ERR Debug option only available for cluster mode enabled setup!")
    assert start().call("DEBUG", "CLUSTERLINK", "KILL", "all", peer) == disabled


def test_a_replica_that_loads_is_no_place_to_read(start):
    """Its data have gone, and the next are not whole: it tells offset 0, is missing in CLUSTER SLOTS, and takes over from nobody."""
    primary, replica = [start_node(start) for _ in range(2)]
    join([primary], [(0, 16383)])
    assert replica.call("CLUSTER", "MEET", "127.0.0.1", primary.port) == "OK"
    wait_until(lambda: node_id(primary) in nodes(replica), what="them to meet")
    assert replica.call("CLUSTER", "REPLICATE", node_id(primary)) == "OK"
    name = node_id(replica).encode()

    def shown():
        with primary.raw() as client:
            facts = [dict(zip(node[::2], node[1::2])) for shard in client.call("CLUSTER", "SHARDS") for node in shard[3]]
            in_slots = any(node[2] == name for entry in client.call("CLUSTER", "SLOTS") for node in entry[2:])
        return next((node[b"health"] for node in facts if node[b"id"] == name), None), in_slots

    wait_until(lambda: shown() == (b"online", True), what="the replica to be online")
    with primary.raw() as client:
        for number in range(2000):
            client.call("SET", f"key:{number}", "v" * 1000)
    replica.call("CONFIG", "SET", "key-load-delay", 5000)
    primary.call("CONFIG", "SET", "repl-backlog-size", 16384)
    primary.call("DEBUG", "CHANGE-REPL-ID")
    primary.call("CLIENT", "KILL", "TYPE", "replica")
    wait_until(lambda: shown() == (b"loading", False), what="the replica to load")
    replica.call("CONFIG", "SET", "key-load-delay", 0)
    wait_until(lambda: shown() == (b"online", True), what="the replica to have loaded")
    assert replica.call("DBSIZE") == 2000
