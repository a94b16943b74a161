"""Publish and subscribe in a cluster: over the bus to all nodes; channels of shards where their slots are."""

import pytest

from clustering import address, cli, is_ok, join, node_id, replicate, start_node
from harness import slot_of, wait_until
from resp import ReplyError

pytestmark = pytest.mark.slotwise


@pytest.fixture
def two(start):
    members = [start_node(start) for _ in range(2)]
    join(members, [(0, 8191), (8192, 16383)])
    wait_until(lambda: all(is_ok(node, 2) for node in members), what="the two to be ok")
    return members


def channel_of(low):
    return next(f"c{number}" for number in range(1000) if (slot_of(f"c{number}") < 8192) == low)


def test_messages_go_everywhere(two):
    subscribers = [node.raw() for node in two]
    for client in subscribers:
        client.call("SUBSCRIBE", "news")
        client.call("PSUBSCRIBE", "n*")
    for sender, other in ((two[0], two[1]), (two[1], two[0])):
        for number in range(50):
            assert sender.call("PUBLISH", "news", number) == 2, "those of this node"
        for client in subscribers:
            seen = [client.read() for _ in range(100)]
            assert [message[-1] for message in seen if message[0] == b"message"] == [b"%d" % n for n in range(50)]
            assert [message[-1] for message in seen if message[0] == b"pmessage"] == [b"%d" % n for n in range(50)]


def test_large_messages(two):
    client = two[1].raw(timeout=60)
    client.call("SUBSCRIBE", "large")
    assert two[0].call("PUBLISH", "large", "x" * 3_000_000) == 0
    assert client.read() == [b"message", b"large", b"x" * 3_000_000]


def test_channels_of_shards_are_redirected(two):
    low, high = channel_of(True), channel_of(False)
    client = two[0].raw()
    assert client.call("SSUBSCRIBE", high) == ReplyError(f"MOVED {slot_of(high)} {address(two[1])}")
    assert client.call("SPUBLISH", high, "x") == ReplyError(f"MOVED {slot_of(high)} {address(two[1])}")
    assert client.call("SSUBSCRIBE", low, high) == ReplyError("CROSSSLOT Keys in request don't hash to the same slot")
    assert client.call("SSUBSCRIBE", low) == [b"ssubscribe", low.encode(), 1]
    assert two[0].call("SPUBLISH", low, "x") == 1
    assert client.read() == [b"smessage", low.encode(), b"x"]
    assert client.call("SUNSUBSCRIBE") == [b"sunsubscribe", low.encode(), 0]


def test_replicas_have_the_channels_of_their_shard(start, two):
    replica = start_node(start)
    cli("--cluster", "add-node", address(replica), address(two[0]))
    wait_until(lambda: is_ok(replica, 3), what="the third to be ok")
    replicate(replica, two[0])
    low = channel_of(True)
    wait_until(lambda: replica.call("ROLE")[0] == b"slave" and
               not isinstance(replica.call("SPUBLISH", low, "early"), ReplyError), what="its role")
    client = replica.raw()
    assert client.call("SSUBSCRIBE", low) == [b"ssubscribe", low.encode(), 1]
    wait_until(lambda: any(len(shard[3]) == 2 for shard in two[0].call("CLUSTER", "SHARDS")), what="one shard of two")
    two[0].call("SPUBLISH", low, "from the primary")
    assert client.read() == [b"smessage", low.encode(), b"from the primary"]


def test_subscribers_leave_with_the_slot(two):
    low = channel_of(True)
    slot = slot_of(low)
    client, plain = two[0].raw(), two[0].raw()
    client.call("SSUBSCRIBE", low)
    plain.call("SUBSCRIBE", low)
    target = node_id(two[1])
    for node in (two[1], two[0]):
        assert node.call("CLUSTER", "SETSLOT", slot, "NODE", target) == "OK"
    assert client.read() == [b"sunsubscribe", low.encode(), 0]
    wait_until(lambda: two[0].call("PUBSUB", "SHARDCHANNELS") == [], what="nobody to be left")
    assert two[0].call("PUBLISH", low, "still") == 1
    assert plain.read() == [b"message", low.encode(), b"still"]
