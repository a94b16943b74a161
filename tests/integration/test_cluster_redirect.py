"""Which commands a node of a cluster answers: the same replies as stock nodes give in the same situation."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from clustering import address, information, is_ok, join, node_id, replicate, start_node
from harness import slot_of, wait_until
from resp import ReplyError

MODULE_SECONDS = 40
pytestmark = pytest.mark.slotwise

SPLIT = 8192


def key_in(half, number=0, tag=None):
    """A key of the first or the second half of the slots."""
    found = [name for name in (f"k{i}" for i in range(200)) if (slot_of(name) >= SPLIT) == bool(half)]
    return f"{{{found[number]}}}{tag}" if tag is not None else found[number]


A, A2, B = key_in(0), key_in(0, 1), key_in(1)
A_TAGGED = [f"{{{A}}}{i}" for i in range(4)]


class Pair:
    """Two nodes of one kind that have half of the slots each, and a replica of the first."""

    def __init__(self, start, stock, with_replica=False):
        self.first, self.second = start_node(start, stock), start_node(start, stock)
        join([self.first, self.second], [(0, SPLIT - 1), (SPLIT, 16383)])
        self.members = {"first": self.first, "second": self.second}
        self.replica = None
        if with_replica:
            self.replica = start_node(start, stock)
            replicate(self.replica, self.first)
            self.members["replica"] = self.replica
            wait_until(lambda: is_ok(self.replica, 3), what="the replica to know all slots")

    def shown(self, reply):
        """With names instead of addresses and ids."""
        if isinstance(reply, list):
            return [self.shown(one) for one in reply]
        if not isinstance(reply, ReplyError):
            return reply
        text = reply.text
        for name, node in self.members.items():
            text = text.replace(address(node), name).replace(node_id(node), name)
        return "-" + text

    def run(self, node, commands):
        with self.members[node].raw() as client:
            return [(command, self.shown(client.call(*command))) for command in commands]

    def open_slot(self, slot):
        """The slot is on its way from the first to the second."""
        assert self.second.call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(self.first)) == "OK"
        assert self.first.call("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(self.second)) == "OK"


def both_pairs(start, with_replica=False):
    """Ours and the stock one. Each waits until its nodes agree, and they do so at the same time."""
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(lambda stock: Pair(start, stock, with_replica), (False, True)))


@pytest.fixture
def pairs(start):
    return both_pairs(start)


def assert_same(pairs, node, commands):
    ours, stock = (pair.run(node, commands) for pair in pairs)
    for one, other in zip(ours, stock):
        assert one == other
    return [reply for _, reply in ours]


def test_plain(pairs):
    replies = assert_same(pairs, "first", [
        ("SET", A, "1"), ("GET", A), ("SET", B, "1"), ("GET", B), ("MGET", A, B), ("MGET", A_TAGGED[0], A_TAGGED[1]),
        ("MSET", A, "1", A2, "2"), ("DEL", B), ("DEL", A, B), ("EXISTS", B, B), ("RENAME", A, B), ("PING",), ("ECHO", "x"),
        ("DBSIZE",), ("KEYS", "*"), ("SCAN", "0"), ("RANDOMKEY",), ("OBJECT", "ENCODING", A), ("OBJECT", "ENCODING", B),
        ("WATCH", B), ("WATCH", A, B), ("TYPE", B), ("TOUCH", A, A), ("GETEX", B), ("EXPIRE", B, "1"),
        ("COPY", A, B), ("MOVE", A, "1"), ("SWAPDB", "0", "1"), ("SELECT", "0"),
        ("DUMP", B), ("APPEND", B, "x"), ("GET",), ("ASKING",), ("GET", B), ("ASKING",), ("PING",), ("GET", B), ("LCS", A, B),
        ("READONLY",), ("GET", B), ("READWRITE",)])
    assert pairs[0].first.call("COPY", A, A_TAGGED[2], "DB", "1") == ReplyError("ERR DB index is out of range")  # as 7.2
    assert f"-MOVED {slot_of(B)} second" in replies and "-CROSSSLOT Keys in request don't hash to the same slot" in replies


def test_transactions(pairs):
    assert_same(pairs, "first", [
        ("MULTI",), ("SET", A, "1"), ("GET", A_TAGGED[0]), ("EXEC",),
        ("MULTI",), ("SET", A, "1"), ("SET", B, "1"), ("GET", A), ("EXEC",),
        ("MULTI",), ("SET", A, "1"), ("SET", A2, "1"), ("EXEC",), ("GET", A2),
        ("MULTI",), ("PING",), ("EXEC",), ("MULTI",), ("EXEC",), ("MULTI",), ("MGET", A, B), ("DISCARD",),
        ("WATCH", A2), ("MULTI",), ("SET", A, "2"), ("EXEC",), ("EXEC",), ("GET", A)])


def test_open_slot(pairs):
    for pair in pairs:
        assert pair.first.call("MSET", A_TAGGED[0], "0", A_TAGGED[1], "1") == "OK"
        pair.open_slot(slot_of(A))
    replies = assert_same(pairs, "first", [
        ("GET", A_TAGGED[0]), ("GET", A_TAGGED[2]), ("SET", A_TAGGED[2], "x"), ("MGET", A_TAGGED[0], A_TAGGED[1]),
        ("MGET", A_TAGGED[0], A_TAGGED[2]), ("MGET", A_TAGGED[2], A_TAGGED[3]), ("SET", A_TAGGED[0], "y"), ("DEL", A_TAGGED[3]),
        ("ASKING",), ("GET", A_TAGGED[2]), ("GET", A2), ("GET", B), ("EXISTS", A_TAGGED[2]),
        ("MULTI",), ("GET", A_TAGGED[0]), ("GET", A_TAGGED[2]), ("EXEC",),
        ("MULTI",), ("GET", A_TAGGED[0]), ("MGET", A_TAGGED[0], A_TAGGED[3]), ("EXEC",),
        ("MULTI",), ("GET", A_TAGGED[0]), ("GET", A_TAGGED[1]), ("EXEC",),
        ("MULTI",), ("DEL", A_TAGGED[0]), ("GET", A_TAGGED[1]), ("EXEC",), ("GET", A_TAGGED[0])])
    assert f"-ASK {slot_of(A)} second" in replies
    assert "-TRYAGAIN Multiple keys request during rehashing of slot" in replies
    replies = assert_same(pairs, "second", [
        ("GET", A_TAGGED[0]), ("ASKING",), ("GET", A_TAGGED[0]), ("GET", A_TAGGED[0]), ("ASKING",), ("SET", A_TAGGED[2], "z"),
        ("ASKING",), ("MGET", A_TAGGED[2], A_TAGGED[3]), ("ASKING",), ("MGET", A_TAGGED[2], A_TAGGED[2]),
        ("ASKING",), ("MGET", A_TAGGED[3], A_TAGGED[3]), ("ASKING",), ("PING",), ("GET", A_TAGGED[2]),
        ("ASKING",), ("MULTI",), ("SET", A_TAGGED[3], "w"), ("GET", A_TAGGED[2]), ("EXEC",), ("GET", A_TAGGED[3]),
        ("MULTI",), ("ASKING",), ("GET", A_TAGGED[3]), ("EXEC",), ("GET", A_TAGGED[3]),
        ("ASKING",), ("MULTI",), ("GET", A_TAGGED[1]), ("MGET", A_TAGGED[0], A_TAGGED[2]), ("EXEC",)])
    assert "-TRYAGAIN Multiple keys request during rehashing of slot" in replies
    payload = pairs[0].first.call("DUMP", A_TAGGED[1])
    for pair in pairs:
        assert pair.second.call("RESTORE-ASKING", A_TAGGED[1], 0, pair.first.call("DUMP", A_TAGGED[1])) == "OK"
    assert payload
    assert_same(pairs, "second", [("ASKING",), ("GET", A_TAGGED[1]), ("RESTORE-ASKING", A_TAGGED[1], "0", payload)])


def test_a_transaction_whose_keys_have_gone_meanwhile(pairs):
    """EXEC looks again at all of its keys."""
    for pair in pairs:
        assert pair.first.call("MSET", A_TAGGED[0], "0", A_TAGGED[1], "1") == "OK"
        pair.open_slot(slot_of(A))
    replies = []
    for pair in pairs:
        with pair.first.raw() as client:
            for command in (("MULTI",), ("GET", A_TAGGED[0]), ("SET", A_TAGGED[1], "2")):
                client.call(*command)
            assert pair.first.call("DEL", A_TAGGED[0]) == 1
            some = pair.shown(client.call("EXEC"))
            client.call("MULTI")
            client.call("SET", A_TAGGED[1], "3")
            assert pair.first.call("DEL", A_TAGGED[1]) == 1
            replies.append((some, pair.shown(client.call("EXEC")), pair.shown(client.call("EXEC"))))
    assert replies[0] == replies[1] == ("-TRYAGAIN Multiple keys request during rehashing of slot",
                                        f"-ASK {slot_of(A)} second", "-ERR EXEC without MULTI")


def test_a_transaction_whose_slot_has_gone_meanwhile(pairs):
    replies = []
    for pair in pairs:
        with pair.first.raw() as client:
            for command in (("WATCH", A), ("MULTI",), ("SET", A, "2")):
                client.call(*command)
            assert pair.first.call("CLUSTER", "SETSLOT", slot_of(A), "NODE", node_id(pair.second)) == "OK"
            replies.append([pair.shown(client.call("EXEC")), pair.shown(client.call("EXEC")), pair.shown(client.call("GET", A))])
    assert replies[0] == replies[1]
    assert replies[0][0] == f"-MOVED {slot_of(A)} second"


def test_down(pairs):
    for pair in pairs:
        assert pair.first.call("SET", A, "1") == "OK"
        assert pair.first.call("CLUSTER", "DELSLOTS", slot_of(A2)) == "OK"
        wait_until(lambda p=pair: information(p.first)["cluster_state"] == "fail", what="the cluster to be down")
    commands = [("GET", A), ("GET", A2), ("GET", B), ("SET", A, "1"), ("MGET", A, A2), ("MGET", A2, A), ("PING",), ("DBSIZE",),
                ("MULTI",), ("GET", A), ("EXEC",), ("MULTI",), ("PING",), ("EXEC",)]
    replies = assert_same(pairs, "first", commands)
    assert "-CLUSTERDOWN The cluster is down" in replies and "-CLUSTERDOWN Hash slot not served" in replies
    for pair in pairs:
        assert pair.first.call("CONFIG", "SET", "cluster-allow-reads-when-down", "yes") == "OK"
        wait_until(lambda p=pair: p.first.call("GET", A) == b"1", what="reads to be allowed")
    replies = assert_same(pairs, "first", commands)
    assert "-CLUSTERDOWN The cluster is down and only accepts read commands" in replies
    for pair in pairs:
        assert pair.first.call("CONFIG", "SET", "cluster-require-full-coverage", "no") == "OK"
        wait_until(lambda p=pair: is_ok(p.first), what="the cluster to be ok without full coverage")
    assert_same(pairs, "first", commands)


def test_replica(start):
    pairs = both_pairs(start, with_replica=True)
    for pair in pairs:
        assert pair.first.call("SET", A, "1") == "OK"
        wait_until(lambda p=pair: p.replica.call("DBSIZE") == 1, what="the replica to be in step")
    replies = assert_same(pairs, "replica", [
        ("GET", A), ("SET", A, "2"), ("READONLY",), ("GET", A), ("MGET", A, A_TAGGED[0]), ("GET", B), ("SET", A, "2"),
        ("MULTI",), ("GET", A), ("EXEC",), ("MULTI",), ("GET", A), ("SET", A, "3"), ("EXEC",), ("WATCH", A), ("UNWATCH",),
        ("READWRITE",), ("GET", A), ("READONLY",), ("RESET",), ("GET", A), ("PING",), ("DBSIZE",)])
    assert replies[3] == b"1"
    with pairs[0].replica.raw() as client:
        client.call("READONLY")
        assert b"flags=r " in client.call("CLIENT", "INFO")


def test_shard_channels(start):
    pairs = both_pairs(start, with_replica=True)
    commands = [("SPUBLISH", A, "m"), ("SPUBLISH", B, "m"), ("SSUBSCRIBE", A), ("SSUBSCRIBE", B), ("SSUBSCRIBE", A, B),
                ("SUNSUBSCRIBE", A), ("SUNSUBSCRIBE", B), ("PUBLISH", B, "m")]
    for node in ("first", "replica"):
        replies = assert_same(pairs, node, commands)
        assert f"-MOVED {slot_of(B)} second" in replies
    for pair in pairs:
        pair.open_slot(slot_of(A))
    for node in ("first", "second"):
        assert_same(pairs, node, [*commands, ("ASKING",), ("SPUBLISH", A, "m")])
    for pair in pairs:
        assert pair.first.call("CLUSTER", "DELSLOTS", slot_of(A2)) == "OK"
        wait_until(lambda p=pair: information(p.first)["cluster_state"] == "fail", what="the cluster to be down")
    assert_same(pairs, "first", commands)
    for pair in pairs:
        assert pair.first.call("CONFIG", "SET", "cluster-allow-pubsubshard-when-down", "no") == "OK"
        wait_until(lambda p=pair: isinstance(p.first.call("SPUBLISH", A, "m"), ReplyError), what="messages to be refused")
    assert_same(pairs, "first", commands)


def test_errors_of_commands(pairs):
    assert_same(pairs, "first", [
        ("CLUSTER", "ADDSLOTS", "x"), ("CLUSTER", "ADDSLOTS", "16384"), ("CLUSTER", "ADDSLOTS", "-1"), ("CLUSTER", "ADDSLOTS", "1"),
        ("CLUSTER", "ADDSLOTS"), ("CLUSTER", "ADDSLOTSRANGE", "1"), ("CLUSTER", "ADDSLOTSRANGE", "5", "1"),
        ("CLUSTER", "ADDSLOTSRANGE", "1", "2", "3"), ("CLUSTER", "DELSLOTS", "1", "1"), ("CLUSTER", "DELSLOTSRANGE", "1", "3", "3", "4"),
        ("CLUSTER", "DELSLOTS", "16384"), ("CLUSTER", "SETSLOT", "1", "NODE", "x"), ("CLUSTER", "SETSLOT", "x", "STABLE"),
        ("CLUSTER", "SETSLOT", "1", "MIGRATING", "x"), ("CLUSTER", "SETSLOT", "16383", "MIGRATING", "x"),
        ("CLUSTER", "SETSLOT", "1", "IMPORTING", "x"), ("CLUSTER", "SETSLOT", "16383", "IMPORTING", "x"),
        ("CLUSTER", "SETSLOT", "1", "STABLE", "x"), ("CLUSTER", "SETSLOT", "1", "OTHER"), ("CLUSTER", "SETSLOT", "1"),
        ("CLUSTER", "FORGET", "x"), ("CLUSTER", "REPLICATE", "x"), 
        ("CLUSTER", "MEET", "no-address", "1"), ("CLUSTER", "MEET", "127.0.0.1", "0"), ("CLUSTER", "MEET", "127.0.0.1", "99999"),
        ("CLUSTER", "FAILOVER"), ("CLUSTER", "FAILOVER", "x"), ("CLUSTER", "RESET", "x"),
        ("CLUSTER", "SET-CONFIG-EPOCH", "x"), ("CLUSTER", "SET-CONFIG-EPOCH", "-1"), ("CLUSTER", "SET-CONFIG-EPOCH", "1"),
        ("CLUSTER", "COUNT-FAILURE-REPORTS", "x"), ("CLUSTER", "REPLICAS", "x"), ("CLUSTER", "COUNTKEYSINSLOT", "x"),
        ("CLUSTER", "COUNTKEYSINSLOT", "99999"), ("CLUSTER", "GETKEYSINSLOT", "1", "x"), ("CLUSTER", "GETKEYSINSLOT", "1", "-1"),
        ("CLUSTER", "KEYSLOT"), ("CLUSTER", "KEYSLOT", "{a}b"), ("CLUSTER", "NOSUCH"), ("CLUSTER",), ("CLUSTER", "SAVECONFIG"),
        ("CLUSTER", "FLUSHSLOTS", "x"), ("CLUSTER", "COUNTKEYSINSLOT", "1"), ("CLUSTER", "GETKEYSINSLOT", "1", "5"),
        ("SET", A, "1"), ("CLUSTER", "FLUSHSLOTS"), ("CLUSTER", "RESET")])
    for arguments, kind in (((1, "x"), "bus"), (("x",), "base")):  # the texts are 7.2's
        assert pairs[0].first.call("CLUSTER", "MEET", "127.0.0.1", *arguments) == ReplyError(f"ERR Invalid {kind} port specified: x")
    ours, stock = ([pair.shown(pair.first.call("CLUSTER", sub, node_id(pair.first))) for sub in ("FORGET", "REPLICATE")]
                   + [pair.shown(pair.first.call("CLUSTER", "REPLICATE", node_id(pair.second)))] for pair in pairs)
    assert ours == stock


def test_moved_counts_as_rejected(pairs):
    node = pairs[0].first
    for _ in range(5):
        node.call("GET", B)
    assert node.info("errorstats")["errorstat_MOVED"] == "count=5"
    assert "rejected_calls=5" in node.info("commandstats")["cmdstat_get"]
    assert harness.parse_info(node.call("CLUSTER", "INFO"))["cluster_state"] == "ok"
