"""Slots with their keys move from one node to another at once (CLUSTER MIGRATESLOTS), while clients write: what was acknowledged is
at the owner afterwards, whatever ends in between, and who is redirected is redirected once."""

import signal
import socket
import threading
import time

import pytest
import redis

import harness
from clustering import is_ok, join, node_id, nodes, replicate, restart, start_node
from harness import scaled, slot_of, wait_until

MODULE_SECONDS = 90
pytestmark = pytest.mark.slotwise

FIRST, LAST = 0, 99  # the slots that move
TAGS = [tag for tag in (f"t{i}" for i in range(8000)) if FIRST <= slot_of(tag) <= LAST]
MOVING = [f"{{{tag}}}:{i}" for i in range(40) for tag in TAGS]
STAYING = [key for key in (f"key:{i}" for i in range(2000)) if LAST < slot_of(key) <= 5460]
EXPORT_FIELDS = [b"name", b"operation", b"slot_ranges", b"target_node", b"source_node", b"create_time", b"last_update_time",
                 b"last_ack_time", b"state", b"message", b"cow_size", b"keys_total", b"keys_sent", b"bytes_sent", b"pause_us"]


class Cluster:
    """Three primaries; `replicas` of the first two (source and target) have one each."""

    def __init__(self, start, replicas=False, options=None):
        self.start = start
        self.members = [start_node(start, options=options, threads=2) for _ in range(3)]
        self.source, self.target, self.third = self.members
        join(self.members, [(0, 5460), (5461, 10922), (10923, 16383)])
        self.replicas = []
        if replicas:
            for primary in self.members[:2]:
                replica = start_node(start, options=options, threads=2)
                replicate(replica, primary)
                self.replicas.append(replica)
            everybody = [*self.members, *self.replicas]
            wait_until(lambda: all(is_ok(node, 5) for node in everybody), what="all to be ok")
            for primary, replica in zip(self.members, self.replicas):
                wait_until(lambda primary=primary, replica=replica:
                           node_id(replica) in str(primary.call("CLUSTER", "REPLICAS", node_id(primary))), what="the replica")

    def fill(self, keys, value=b"x" * 50):
        with self.source.client() as client:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.set(key, value)
            pipe.execute()

    def migrate(self, first=FIRST, last=LAST):
        return self.source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", node_id(self.target))


def records(node, operation=b"EXPORT"):
    reply = node.call("CLUSTER", "GETSLOTMIGRATIONS")
    found = [dict(zip(one[::2], one[1::2])) for one in reply]
    return [one for one in found if one[b"operation"] == operation]


def state(node, operation=b"EXPORT"):
    return records(node, operation)[0][b"state"]


def ended(node, wanted=b"success"):
    wait_until(lambda: state(node) in (b"success", b"failed", b"cancelled"), what="the migration to end")
    assert state(node) == wanted, records(node)[0]


def hold(node, point):
    assert node.call("DEBUG", "SLOT-MIGRATION-HOLD", point) == "OK"


def held(node, point, operation=b"EXPORT"):
    wait_until(lambda: records(node, operation) and records(node, operation)[0][b"message"] == b"held: " + point.encode(),
               what=f"the migration to be held at {point}")


def owner_of(node, slot):
    for first, last, owner, *_ in node.call("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return owner[2].decode()
    return None


def all_say(members, slot, owner):
    wait_until(lambda: all(owner_of(node, slot) == owner for node in members), what="all to agree about the owner")


def promoted(replica, known):
    wait_until(lambda: "master" in nodes(replica)[node_id(replica)]["flags"] and is_ok(replica), what="the replica to be promoted")
    wait_until(lambda: all(is_ok(node) for node in known), what="all to be ok")


class Writer(threading.Thread):
    """SETs its keys to 1, 2, 3 ... over connections of its own, following MOVED; and counts what it was told otherwise."""

    def __init__(self, node, keys, pause=0.0):
        super().__init__(daemon=True)
        self.first, self.keys, self.pause = node.port, keys, pause
        self.connections, self.ports = {}, {}
        self.acknowledged, self.asked = {}, {}
        self.redirections, self.others, self.slowest = [], [], 0.0
        self.ending = threading.Event()

    def run(self):
        value = 0
        while not self.ending.is_set():
            value += 1
            for key in self.keys:
                self._write(key, value)
                time.sleep(self.pause)

    def _client(self, port):
        if port not in self.connections:
            self.connections[port] = redis.Redis(port=port, socket_timeout=harness.HANG_SECONDS)
        return self.connections[port]

    def _write(self, key, value):
        slot, began = slot_of(key), time.monotonic()
        self.asked[key] = value
        while not self.ending.is_set():
            port = self.ports.get(slot, self.first)
            try:
                self._client(port).set(key, value)
                self.acknowledged[key] = value
                self.slowest = max(self.slowest, time.monotonic() - began)
                return
            except redis.ResponseError as error:
                words = str(error).split()
                if words[0] == "MOVED":
                    self.ports[slot] = int(words[2].rsplit(":", 1)[1])
                    self.redirections.append((slot, self.ports[slot]))
                else:
                    self.others.append(str(error))
                    time.sleep(0.02)
            except redis.RedisError:  # the node has ended: another one knows more
                self.ports[slot] = next(p for p in self.fallbacks if p != port)
                time.sleep(0.02)

    fallbacks = ()

    def end(self):
        self.ending.set()
        self.join()


def written(cluster, keys, count=3, pause=0.0):
    writers = [Writer(cluster.source, keys[i::count], pause) for i in range(count)]
    for writer in writers:
        writer.fallbacks = [node.port for node in cluster.members]
        writer.start()
    wait_until(lambda: all(len(writer.acknowledged) == len(writer.keys) for writer in writers), what="each key to be written")
    return writers


def check_values(node, writers, keys):
    """Every acknowledged write is there: no older value than the last that was acknowledged, and none that nobody wrote."""
    with node.client() as client:
        pipe = client.pipeline(transaction=False)
        for key in keys:
            pipe.get(key)
        found = dict(zip(keys, pipe.execute()))
    for writer in writers:
        for key in set(writer.keys) & set(keys):
            value = int(found[key] or 0)
            assert writer.acknowledged[key] <= value <= writer.asked[key], (key, value, writer.acknowledged[key])


def test_arguments(start):
    node = start_node(start)
    other = "0" * 40

    def fails(error, *arguments):
        assert str(node.call("CLUSTER", "MIGRATESLOTS", *arguments)) == error

    assert node.call("CLUSTER", "ADDSLOTSRANGE", 0, 99) == "OK"
    fails("ERR wrong number of arguments for 'cluster|migrateslots' command", "SLOTSRANGE")
    fails("ERR syntax error", "SLOTS", 0, 1, "NODE", other)
    fails("ERR No slot ranges specified", "SLOTSRANGE", "a", 0)
    fails("ERR Invalid or out of range slot", "SLOTSRANGE", 0, 16384, "NODE", other)
    fails("ERR No end slot for final slot range", "SLOTSRANGE", 0, 1, 5)
    fails("ERR Start slot number 5 is greater than end slot number 1.", "SLOTSRANGE", 5, 1, "NODE", other)
    fails("ERR Slot 100 has no node served.", "SLOTSRANGE", 99, 100, "NODE", other)
    fails("ERR Slot range 3-4 overlaps with previous range 0-3.", "SLOTSRANGE", 0, 3, 3, 4, "NODE", other)
    fails("ERR syntax error", "SLOTSRANGE", 0, 3, "NODES", other)
    fails("ERR Invalid node name: xyz", "SLOTSRANGE", 0, 3, "NODE", "xyz")
    fails(f"ERR Unknown node name: {other}", "SLOTSRANGE", 0, 3, "NODE", other)
    fails("ERR Target node can not be this node.", "SLOTSRANGE", 0, 3, "NODE", node_id(node))
    assert str(node.call("CLUSTER", "CANCELSLOTMIGRATIONS")) == "ERR No migrations ongoing"
    assert node.call("CLUSTER", "GETSLOTMIGRATIONS") == []
    assert str(node.call("CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", other)).startswith("ERR This node imports slots from")


def test_moves_under_load(start):
    """Source and target with replicas; the slots move to and fro while clients write. One redirection each time, no other answer."""
    cluster = Cluster(start, replicas=True)
    cluster.fill(STAYING[:200])
    writers = written(cluster, MOVING[:600])
    assert cluster.migrate() == "OK"
    ended(cluster.source)
    all_say([*cluster.members, *cluster.replicas], 50, node_id(cluster.target))
    seen = {writer: dict(writer.acknowledged) for writer in writers}
    wait_until(lambda: all(writer.acknowledged[key] > seen[writer][key] for writer in writers for key in writer.keys),
               what="each key to be written again")
    for writer in writers:
        writer.end()
        assert not writer.others
        assert len(writer.redirections) == len(set(writer.redirections)) == len({slot_of(key) for key in writer.keys})
    check_values(cluster.target, writers, MOVING[:600])
    wait_until(lambda: cluster.source.call("DBSIZE") == 200, what="the copies to be deleted")
    wait_until(lambda: cluster.replicas[0].call("DBSIZE") == 200 and cluster.replicas[1].call("DBSIZE") == 600,
               what="the replicas to have followed")
    assert records(cluster.replicas[1], b"IMPORT")[0][b"state"] == b"success"
    digests = [node.call("DEBUG", "DIGEST") for node in (cluster.target, cluster.replicas[1])]
    assert digests[0] == digests[1]


def test_every_type_arrives(start):
    cluster = Cluster(start)
    tag = "{" + TAGS[0] + "}"
    with cluster.source.client() as client:
        client.set(tag + "string", "s")
        client.set(tag + "number", 12345)
        client.set(tag + "large", b"0123456789abcdef" * scaled(65536))
        client.set(tag + "expires", "s", px=10_000_000)
        client.hset(tag + "hash", mapping={f"f{i}": f"v{i}" for i in range(scaled(20000))})
        client.rpush(tag + "list", *range(3000))
        client.sadd(tag + "integers", *range(100))
        client.sadd(tag + "set", *(f"m{i}" for i in range(3000)))
        client.zadd(tag + "zset", {f"m{i}": i / 7 for i in range(3000)})
        client.set(tag + "gone", "s", px=1)
        keys = sorted(set(client.keys("*")) - {(tag + "gone").encode()})
        digests = client.execute_command("DEBUG", "DIGEST-VALUE", *keys)
        expiry = client.execute_command("PEXPIRETIME", tag + "expires")
    hold(cluster.source, "copying")
    assert cluster.migrate() == "OK"
    held(cluster.source, "copying")
    with cluster.source.client() as client:  # changed, and gone, behind the walk or before it
        client.hset(tag + "hash", "f1", "other")
        client.delete(tag + "integers")
        client.set(tag + "new", "n", ex=1000)
        digest = client.execute_command("DEBUG", "DIGEST-VALUE", tag + "hash")[0]
    hold(cluster.source, "off")
    ended(cluster.source)
    with cluster.target.client() as client:
        found = dict(zip(keys, client.execute_command("DEBUG", "DIGEST-VALUE", *keys)))
        for key, before in zip(keys, digests):
            wanted = digest if key == (tag + "hash").encode() else b"0" * 40 if key == (tag + "integers").encode() else before
            assert found[key] == wanted, key
        assert client.execute_command("PEXPIRETIME", tag + "expires") == expiry
        assert 0 < client.ttl(tag + "new") <= 1000
        assert client.get(tag + "gone") is None
        client.pexpire(tag + "expires", 1)  # and expire by themselves
        wait_until(lambda: client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot_of(TAGS[0])) == len(keys) - 1, what="expiry")


def test_unseen_before_the_end_and_cancelled(start):
    cluster = Cluster(start, replicas=True)
    cluster.fill(MOVING[:400])
    hold(cluster.source, "fenced")
    assert cluster.migrate() == "OK"
    held(cluster.source, "fenced")
    for node in (cluster.target, cluster.replicas[1]):
        assert node.call("DBSIZE") == 0 and node.call("KEYS", "*") == [] and node.call("RANDOMKEY") is None
        assert node.call("SCAN", 0) == [b"0", []]
        assert node.call("CLUSTER", "COUNTKEYSINSLOT", 50) == 0
    assert state(cluster.target, b"IMPORT") == b"receiving-snapshot"
    assert cluster.source.call("CLUSTER", "CANCELSLOTMIGRATIONS") == "OK"
    ended(cluster.source, b"cancelled")
    wait_until(lambda: state(cluster.target, b"IMPORT") == b"failed", what="the target to have given up")
    wait_until(lambda: state(cluster.replicas[1], b"IMPORT") == b"failed", what="its replica to have given up")
    assert cluster.source.call("DBSIZE") == 400
    assert cluster.source.call("SET", MOVING[0], "again") == "OK"
    hold(cluster.source, "granted")
    assert cluster.migrate() == "OK"  # nothing is in its way
    held(cluster.source, "granted")
    assert "cannot be cancelled" in str(cluster.source.call("CLUSTER", "CANCELSLOTMIGRATIONS"))
    hold(cluster.source, "off")
    ended(cluster.source)
    assert cluster.target.call("DBSIZE") == 400 and cluster.target.call("GET", MOVING[0]) == b"again"


def test_migrate_of_a_key_meanwhile(start):
    """MIGRATE stops the slot of its key too: its end does not let a slot serve that is being handed over."""
    cluster = Cluster(start)
    key = MOVING[0]
    cluster.fill([key])
    with socket.create_server(("127.0.0.1", 0)) as silent, cluster.source.client(socket_timeout=harness.HANG_SECONDS) as client:
        answers = []

        def migrate_key():
            try:
                client.execute_command("MIGRATE", "127.0.0.1", silent.getsockname()[1], key, 0, 2000)
            except redis.ResponseError as error:
                answers.append(str(error))

        thread = threading.Thread(target=migrate_key)
        thread.start()
        silent.accept()  # the key is on its way, and its slot serves nobody
        hold(cluster.source, "granted")
        assert cluster.migrate() == "OK"
        thread.join()
        assert answers[0].startswith("IOERR")
        held(cluster.source, "granted")
        with cluster.source.client(socket_timeout=0.5) as writer:
            with pytest.raises(redis.TimeoutError):
                writer.set(key, "lost")
        hold(cluster.source, "off")
    ended(cluster.source)
    assert cluster.target.call("GET", key) == b"x" * 50


def test_crossing(start):
    """Two nodes that hand slots to each other at the same moment raise their epochs against each other."""
    cluster = Cluster(start)
    there, back = (0, 9), (5461, 5470)
    keys = [key for key in (f"c{i}" for i in range(60000)) if slot_of(key) in (*range(0, 10), *range(5461, 5471))]
    nodes_ = [cluster.source, cluster.target]
    with redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.source.port) as client:
        for key in keys:
            client.set(key, key)
    for _ in range(6):
        before = [len(records(node)) for node in nodes_]
        for node, other, (first, last) in zip(nodes_, reversed(nodes_), (there, back)):
            assert node.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", node_id(other)) == "OK"
        for node, count in zip(nodes_, before):
            wait_until(lambda node=node, count=count: len(records(node)) > count, what="the record")
            ended(node)
        for (first, _), node in zip((there, back), reversed(nodes_)):
            all_say(cluster.members, first, node_id(node))
        nodes_.reverse()
        wait_until(lambda: sum(node.call("DBSIZE") for node in nodes_) == len(keys), what="the copies to be deleted")
    with redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.source.port) as client:
        assert [client.get(key) for key in keys] == [key.encode() for key in keys]


def test_flushed(start):
    cluster = Cluster(start)
    cluster.fill(MOVING[:100])
    hold(cluster.source, "copying")
    assert cluster.migrate() == "OK"
    held(cluster.source, "copying")
    assert cluster.source.call("FLUSHALL") == "OK"
    hold(cluster.source, "off")
    ended(cluster.source, b"failed")
    assert records(cluster.source)[0][b"message"] == b"Data was flushed"
    assert owner_of(cluster.source, 50) == node_id(cluster.source)
    assert cluster.source.call("SET", MOVING[0], "v") == "OK"


def test_no_memory_at_the_target(start):
    cluster = Cluster(start)
    cluster.fill(MOVING[:400], b"x" * 10_000)
    assert cluster.target.call("CONFIG", "SET", "maxmemory", int(cluster.target.info("memory")["used_memory"]) + 2_500_000) == "OK"
    assert cluster.migrate() == "OK"
    ended(cluster.source, b"failed")
    assert b"OOM" in records(cluster.source)[0][b"message"]
    wait_until(lambda: state(cluster.target, b"IMPORT") == b"failed", what="the target to have given up")
    assert cluster.source.call("DBSIZE") == 400 and cluster.target.call("DBSIZE") == 0
    assert cluster.target.call("CONFIG", "SET", "maxmemory", 0) == "OK"
    assert cluster.migrate() == "OK"
    ended(cluster.source)
    assert cluster.target.call("DBSIZE") == 400


def test_who_waits_is_redirected(start):
    cluster = Cluster(start)
    tag = TAGS[0]
    cluster.fill(MOVING[:100])
    moved = f"MOVED {slot_of(tag)} 127.0.0.1:{cluster.target.port}"
    with cluster.source.raw() as blocked, cluster.source.raw() as multi:
        blocked.send_command("BLPOP", f"{{{tag}}}:list", 0)
        assert multi.call("MULTI") == "OK" and multi.call("SET", f"{{{tag}}}:a", 1) == "QUEUED"
        assert cluster.migrate() == "OK"
        ended(cluster.source)
        assert str(blocked.read()) == moved
        assert moved in str(multi.call("EXEC"))


@pytest.mark.parametrize("point", ["copying", "fenced", "granted"])
def test_source_dies(start, point):
    """Killed with a replica: whoever owns the slots then has every write that was acknowledged under WAIT."""
    cluster = Cluster(start, replicas=True)
    keys = MOVING[:200]
    cluster.fill(keys, b"1")
    assert cluster.source.call("SET", STAYING[0], "1") == "OK"
    hold(cluster.source, point)
    assert cluster.migrate() == "OK"
    held(cluster.source, point)
    if point == "copying":
        with cluster.source.client() as client:
            client.set(keys[0], "2")
            assert client.execute_command("WAIT", 1, 5000) == 1
    if point == "granted":
        wait_until(lambda: state(cluster.target, b"IMPORT") == b"success", what="the target to have taken the slots")
    cluster.source.process.kill()
    cluster.source.wait_end()
    replica = cluster.replicas[0]
    promoted(replica, [cluster.target, cluster.third, *cluster.replicas])
    owner = cluster.target if point == "granted" else replica
    all_say([cluster.target, cluster.third, *cluster.replicas], 50, node_id(owner))
    with owner.client() as client:
        values = client.mget(*[key for key in keys if slot_of(key) == slot_of(keys[0])])
        assert values[0] == (b"2" if point == "copying" else b"1")
        assert all(client.get(key) for key in keys)
    if point != "granted":
        wait_until(lambda: state(cluster.target, b"IMPORT") == b"failed", what="the target to have given up")
        assert cluster.target.call("DBSIZE") == 0
    assert replica.call("GET", STAYING[0]) == b"1"
    back = restart(cluster.start, cluster.source)
    wait_until(lambda: is_ok(back) and "slave" in nodes(back)[node_id(back)]["flags"], what="the old primary to follow")
    assert owner_of(back, 50) == node_id(owner)


@pytest.mark.parametrize("point", ["prepared", "adopted", "claimed"])
def test_target_dies(start, point):
    cluster = Cluster(start, replicas=True)
    keys = MOVING[:200]
    cluster.fill(keys, b"1")
    hold(cluster.target, point)
    assert cluster.migrate() == "OK"
    held(cluster.target, point, b"IMPORT")
    replica = cluster.replicas[1]
    if point == "adopted":
        wait_until(lambda: state(replica, b"IMPORT") == b"success", what="its replica to have the slots")
    cluster.target.process.kill()
    cluster.target.wait_end()
    promoted(replica, [cluster.source, cluster.third, *cluster.replicas])
    ended(cluster.source, b"failed" if point == "prepared" else b"success")
    owner = cluster.source if point == "prepared" else replica
    all_say([cluster.source, cluster.third, *cluster.replicas], 50, node_id(owner))
    with owner.client() as client:
        assert all(client.get(key) == b"1" for key in keys)
        assert client.set(keys[0], "2")
    if point == "prepared":
        assert replica.call("DBSIZE") == 0


def test_target_without_a_replica_dies(start):
    """It has claimed the slots, but the source does not know: the source has the data, and takes the slots back."""
    cluster = Cluster(start)
    cluster.fill(MOVING[:200], b"1")
    hold(cluster.target, "claimed")
    assert cluster.migrate() == "OK"
    held(cluster.target, "claimed", b"IMPORT")
    cluster.target.process.kill()
    cluster.target.wait_end()
    ended(cluster.source, b"failed")
    assert cluster.source.call("DBSIZE") == 200
    back = restart(cluster.start, cluster.target)
    cluster.members[1] = back
    all_say(cluster.members, 50, node_id(cluster.source))
    wait_until(lambda: all(is_ok(node) for node in cluster.members), what="all to be ok")
    assert cluster.source.call("SET", MOVING[0], "2") == "OK"


def test_link_ends_after_the_commit(start):
    """The answer is lost: the source asks again over another connection."""
    cluster = Cluster(start)
    cluster.fill(MOVING[:200], b"1")
    hold(cluster.target, "claimed")
    assert cluster.migrate() == "OK"
    held(cluster.target, "claimed", b"IMPORT")
    with cluster.target.client() as client:
        source = [one for one in client.client_list() if one["cmd"] == "cluster|syncslots"]
        for one in source:
            client.client_kill_filter(_id=one["id"], skipme=True)
    time.sleep(0.2)
    assert state(cluster.source) == b"failover-granted"
    hold(cluster.target, "off")
    ended(cluster.source)
    assert cluster.target.call("DBSIZE") == 200


def test_manual_failovers_meanwhile(start):
    """The source's role changes while it copies: whole there, nothing left at the target. The target's likewise."""
    cluster = Cluster(start, replicas=True)
    cluster.fill(MOVING[:200], b"1")
    hold(cluster.source, "copying")
    assert cluster.migrate() == "OK"
    held(cluster.source, "copying")
    assert cluster.replicas[1].call("CLUSTER", "FAILOVER") == "OK"
    wait_until(lambda: "master" in nodes(cluster.replicas[1])[node_id(cluster.replicas[1])]["flags"], what="the target's replica to win")
    hold(cluster.source, "off")
    ended(cluster.source, b"failed")
    for node in (cluster.target, cluster.replicas[1]):
        wait_until(lambda node=node: state(node, b"IMPORT") == b"failed", what="the import to be given up")
        assert node.call("DBSIZE") == 0
    assert cluster.source.call("DBSIZE") == 200 and cluster.source.call("SET", MOVING[0], "2") == "OK"


def test_moves(start):
    cluster = Cluster(start)
    cluster.fill(MOVING[:500] + STAYING[:200])
    before = cluster.source.call("DBSIZE")
    assert cluster.migrate() == "OK"
    ended(cluster.source)
    record = records(cluster.source)[0]
    assert list(record) == EXPORT_FIELDS
    assert record[b"slot_ranges"] == b"0-99" and record[b"keys_total"] == 500
    assert record[b"target_node"].decode() == node_id(cluster.target)
    imported = records(cluster.target, b"IMPORT")[0]
    assert imported[b"state"] == b"success" and imported[b"name"] == record[b"name"]
    all_say(cluster.members, 50, node_id(cluster.target))
    wait_until(lambda: cluster.source.call("DBSIZE") == before - 500, what="the copies to be deleted")
    assert cluster.target.call("DBSIZE") == 500
    assert cluster.target.call("GET", MOVING[0]) == b"x" * 50
    assert str(cluster.source.call("GET", MOVING[0])).startswith(f"MOVED {slot_of(MOVING[0])} 127.0.0.1:{cluster.target.port}")


def test_stock_servers(start):
    """A stock node can be no target, and a target with a stock replica takes no slots; the source stays whole."""
    members = [start_node(start, threads=2), start_node(start, threads=2), start_node(start, stock=True)]
    join(members, [(0, 5460), (5461, 10922), (10923, 16383)])
    source, target, stock = members
    assert source.call("SET", MOVING[0], "v") == "OK"
    ask = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", FIRST, LAST, "NODE")
    assert source.call(*ask, node_id(stock)) == "OK"
    ended(source, b"failed")
    assert records(source)[0][b"message"].startswith(b"Received error during handshake to target: ")
    replica = start_node(start, stock=True)
    replicate(replica, target)
    assert source.call(*ask, node_id(target)) == "OK"
    ended(source, b"failed")
    assert b"no Slotwise servers" in records(source)[0][b"message"]
    assert source.call("GET", MOVING[0]) == b"v" and owner_of(source, FIRST) == node_id(source)


def test_stock_replica_that_was_away(start):
    """It does not understand what the stream has of the migration, so it starts anew instead of going on behind it."""
    cluster = Cluster(start)
    cluster.fill(MOVING[:100])
    replica = start_node(start, stock=True)
    replicate(replica, cluster.target)
    assert cluster.target.call("SET", next(key for key in map(str, range(100)) if 5461 <= slot_of(key) <= 10922), "v") == "OK"
    wait_until(lambda: replica.call("DBSIZE") == 1, what="the replica to follow")
    with cluster.target.client() as client:
        replica.process.send_signal(signal.SIGSTOP)
        try:
            client.client_kill_filter(_type="slave")
            wait_until(lambda: cluster.target.info("replication")["connected_slaves"] == "0", what="its link to end")
            assert cluster.migrate() == "OK"
            ended(cluster.source)
        finally:
            replica.process.send_signal(signal.SIGCONT)
    wait_until(lambda: replica.info("replication").get("master_link_status") == "up" and replica.call("DBSIZE") == 101,
               what="the replica to have everything")
    assert cluster.target.info("stats")["sync_partial_ok"] == "0"
