"""DEBUG's looks at structures: CHECK of all forms of values, HTSTATS and its kind, and REPLICATE."""

import re

import pytest

import harness
import replication
from debugging import require
from resp import ReplyError

# Of each type what is packed, what is larger and still goes by that name, and what has another one.
VALUES = {
    "text": [("SET", "text", "v")],
    "intset": [("SADD", "intset", *range(20))],
    "large intset": [("SADD", "large intset", *range(500))],
    "packed set": [("SADD", "packed set", *"abc")],
    "set": [("SADD", "set", *(f"member {i}" for i in range(3000)))],
    "packed hash": [("HSET", "packed hash", "f", "v", "7", "8")],
    "large packed hash": [("HSET", "large packed hash", *(f"{i:064}" for i in range(200)))],
    "hash": [("HSET", "hash", *(f"{i}" for i in range(6000))), ("HSET", "hash", "long", "x" * 100_000)],
    "packed zset": [("ZADD", "packed zset", "1", "a", "-0.5", "b")],
    "zset": [("ZADD", "zset", *(f"{i % 700}" for i in range(6000)))],
    "packed list": [("RPUSH", "packed list", "a", "1")],
    "list": [("RPUSH", "list", *(str(i) * 5 for i in range(5000)), "x" * 20_000)],
}


@pytest.fixture
def filled(client):
    for commands in VALUES.values():
        for command in commands:
            assert not isinstance(client.call(*command), ReplyError)
    return client


def test_check(server, filled):
    require(server, "CHECK")
    for key in VALUES:
        assert filled.call("DEBUG", "CHECK", key) == "OK", key
    assert filled.call("DEBUG", "CHECK") == "OK"
    assert filled.pipeline([("MULTI",), ("DEBUG", "CHECK", "hash"), ("DEBUG", "CHECK"), ("EXEC",)])[-1] == ["OK", "OK"]
    assert str(filled.call("DEBUG", "CHECK", "nothing")) == "ERR no such key"
    for key in VALUES:
        assert filled.call("DEL", key) == 1
    assert filled.call("DEBUG", "CHECK") == "OK"


def test_statistics_of_a_key(filled, oracle):
    """In the form of a stock server, where that has a hash table as well."""
    other = oracle.raw()
    for key in ("hash", "zset", "set"):
        for command in VALUES[key]:
            other.call(*command)
        ours, theirs = (re.sub(rb"[0-9.]+", b"0", client.call("DEBUG", "HTSTATS-KEY", key)).splitlines() for client in (filled, other))
        assert ours == theirs[:len(ours)], "it may be rehashing"
    size = filled.call("HLEN", "hash")
    told = filled.call("DEBUG", "HTSTATS-KEY", "hash", "full").decode()
    assert f"number of elements: {size}\n" in told
    lengths = re.findall(r"^   (\d+): (\d+) ", told, re.MULTILINE)
    assert sum(int(length) * int(count) for length, count in lengths) == size
    assert max(int(length) for length, _ in lengths) == int(re.search(r"max chain length: (\d+)", told)[1])
    other.call("ZADD", "packed zset", "1", "a")
    other.call("SET", "text", "v")
    for key, error in (("nothing", "ERR no such key"), ("text", "ERR The value stored at the specified key is not represented using an hash table"),
                       ("packed zset", "ERR The value stored at the specified key is not represented using an hash table")):
        assert str(filled.call("DEBUG", "HTSTATS-KEY", key)) == str(other.call("DEBUG", "HTSTATS-KEY", key)) == error


def test_statistics_of_a_database(filled):
    filled.call("EXPIRE", "hash", 100)
    told = filled.call("DEBUG", "HTSTATS", 0).decode()
    assert re.findall(r"number of elements: (\d+)", told) == [str(len(VALUES)), "1"]
    assert filled.call("DEBUG", "HTSTATS", 9).count(b"No stats available for empty dictionaries") == 2
    assert str(filled.call("DEBUG", "HTSTATS", 99)) == "ERR Out of range database"
    assert str(filled.call("DEBUG", "HTSTATS", "x")) == "ERR value is not an integer or out of range"


@pytest.mark.slotwise
def test_replicate(start):
    """What the replica cannot run it complains of, and goes on."""
    primary, replica = start({"repl-diskless-sync-delay": 0}, threads=2), start()
    replication.follow(replica, primary.port)
    replication.wait_link_up(replica)
    assert primary.call("DEBUG", "REPLICATE", "SET", "k", "v") == "OK"
    assert primary.call("DEBUG", "REPLICATE", "no-such-command") == "OK"
    primary.call("SET", "end", "1")
    harness.wait_until(lambda: replica.call("GET", "end") == b"1", what="the replica to get on")
    assert replica.call("GET", "k") == b"v" and primary.call("GET", "k") is None
    assert replica.log().count("== CRITICAL ==") == 1 and replica.log().count("no-such-command") == 1
