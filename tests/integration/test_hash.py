"""Hashes: beside a stock server, scans under change, random fields, and what replicas are told."""

import os
from collections import Counter

import pytest

import collections_stream
import harness
from collections_stream import Maker, limited, same_members, same_pairs, scan_all
from resp import ReplyError

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
LIMITS = ["hash-max-listpack-entries", "8", "hash-max-listpack-value", "16"]


class HashMaker(Maker):
    def value(self):
        kind = self.random.random()
        if kind < 0.4:
            return self.random.choice(collections_stream.INTEGERS)
        if kind < 0.5:
            return self.random.choice(collections_stream.NOT_QUITE_INTEGERS)
        return self.pick(b"0.5", b"3.0e3", b"x" * 20000) if kind < 0.52 else self.random.choice(collections_stream.TEXTS)

    def amount(self):
        return self.random.choice(collections_stream.NOT_QUITE_INTEGERS) if self.chance(0.1) else self.pick(
            b"1", b"-1", b"100", b"9223372036854775807", b"-9223372036854775808")

    def pairs(self, key):
        return [part for word in self.words(key) for part in (word, self.value())]

    def command(self):
        key = self.key()
        word = self.word(key)
        kind = self.random.random()
        if kind < 0.3:
            command = [self.pick(b"HSET", b"HSET", b"HMSET"), key] + self.pairs(key)
        elif kind < 0.45:
            command = [b"HDEL", key] + self.words(key)
        elif kind < 0.5:
            command = [b"HSETNX", key, word, self.value()]
        elif kind < 0.57:
            command = [b"HINCRBY", key, word, self.amount()]
        elif kind < 0.62:
            command = [b"HINCRBYFLOAT", key, word, self.pick(b"0.1", b"-7.25", b"1e20", b"inf", b"nan", b"x", b"3")]
        elif kind < 0.67:
            command = [b"HMGET", key] + self.words(key)
        elif kind < 0.8:
            command = [self.pick(b"HGET", b"HGET", b"HSTRLEN", b"HEXISTS"), key, word]
        elif kind < 0.9:
            command = [self.pick(b"HGETALL", b"HKEYS", b"HVALS", b"HLEN"), key]
        elif kind < 0.93:
            command = [b"HSCAN", key, self.pick(b"0", b"0", b"x", b"-1", b""), *self.pick(
                [], [b"COUNT", b"0"], [b"COUNT", b"x"], [b"COUNT"], [b"MATCH", b"1*"], [b"TYPE", b"hash"], [b"NOVALUES"])]
        else:
            return self.general() if self.chance(0.8) else [b"OBJECT", b"ENCODING", key]
        return self.spoil(command)

    def agree(self, command, ours, theirs):
        name = command[0].upper()
        if name in (b"HKEYS", b"HVALS"):
            return same_members(ours, theirs)
        if name == b"HGETALL":
            return same_pairs(ours, theirs)
        if name == b"HSCAN":
            return len(ours) == len(theirs) == 2  # a part of it; whole ones are compared with the content
        return False

    def interlude(self, ours, theirs):
        key = self.key()
        if self.chance(0.2):
            count, values = self.pick(0, 1, 3, 8, 50, 1000, -1, -20, -300), self.pick([], ["WITHVALUES"])
            replies = [one.call("HRANDFIELD", key, count, *values) for one in (ours, theirs)]
            assert isinstance(replies[0], ReplyError) == isinstance(replies[1], ReplyError)
            if not isinstance(replies[0], ReplyError):
                self.check_random(theirs, key, count, bool(values), *replies)

    def check_random(self, theirs, key, count, with_values, ours, other):
        assert len(ours) == len(other)
        content = theirs.call("HGETALL", key)
        content = dict(zip(content[::2], content[1::2]))
        if with_values and ours and isinstance(ours[0], list):
            assert isinstance(other[0], list)
            pairs = [tuple(pair) for pair in ours]
        elif with_values:
            pairs = list(zip(ours[::2], ours[1::2]))
        else:
            pairs = [(field, content.get(field)) for field in ours]
        assert all(field in content and content[field] == value for field, value in pairs)
        assert count < 0 or len({field for field, _ in pairs}) == len(pairs)

    def compare_key(self, ours, theirs, key):
        assert ours.call("TYPE", key) == theirs.call("TYPE", key)
        if ours.call("TYPE", key) != "hash":
            return
        content = theirs.call("HGETALL", key)
        assert same_pairs(ours.call("HGETALL", key), content), key
        assert same_pairs(scan_all(ours, "HSCAN", key, "COUNT", self.pick(1, 5, 100)), list(content))
        assert ours.call("OBJECT", "ENCODING", key) == theirs.call("OBJECT", "ENCODING", key)


@pytest.mark.parametrize("protocol", [2, 3])
def test_stream(any_server, oracle, protocol):
    clients = limited(any_server, oracle, protocol, LIMITS)
    collections_stream.run_stream(*clients, HashMaker(BASE_SEED * 10 + protocol), harness.scaled(1500))


@pytest.mark.smoke
def test_short_stream(any_server, oracle):
    clients = limited(any_server, oracle, 2, LIMITS)
    collections_stream.run_stream(*clients, HashMaker(BASE_SEED * 10), harness.scaled(200))


def test_events(any_server, oracle):
    clients = limited(any_server, oracle, 2, LIMITS)
    collections_stream.compare_events((any_server, oracle), clients, HashMaker(BASE_SEED * 10 + 7), harness.scaled(1500))


# --- HSCAN ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["grows", "shrinks", "is converted", "is replaced"])
def test_scan_while_it_changes(any_server, change):
    """A field that is there all the time is returned at least once."""
    client = any_server.raw()
    client.call("CONFIG", "SET", *LIMITS)
    staying = [b"s%d" % i for i in range(5 if change == "is converted" else 1000)]
    leaving = [] if change == "is converted" else [b"l%d" % i for i in range(3000)]
    for field in staying + leaving:
        client.call("HSET", "h", field, "v")
    cursor, found, calls = b"0", Counter(), 0
    while True:
        cursor, part = client.call("HSCAN", "h", cursor, "COUNT", "20")
        found.update(part[::2])
        calls += 1
        if change in ("grows", "is converted"):
            client.call("HSET", "h", *[word for i in range(30) for word in (b"n%d.%d" % (calls, i), b"v")])
        elif change == "shrinks":
            client.call("HDEL", "h", *leaving[calls * 40:calls * 40 + 40], b"none")
        else:
            client.call("HSET", "h", *[word for field in staying[calls % 900:calls % 900 + 30] for word in (field, b"w" * calls)])
        assert calls < 10000
        if cursor == b"0":
            break
    assert all(found[field] >= 1 for field in staying)


def test_scan_options(client):
    client.call("HSET", "h", *[word for i in range(600) for word in (f"field:{i}", i)])
    assert client.call("OBJECT", "ENCODING", "h") == b"hashtable"
    found = scan_all(client, "HSCAN", "h", "MATCH", "field:1??", "COUNT", "7")
    assert sorted(found[::2]) == sorted(b"field:1%02d" % i for i in range(100))
    assert len(client.call("HSCAN", "h", 0, "COUNT", "1000000")[1]) == 1200
    cursor = int(client.call("HSCAN", "h", 0, "COUNT", "1")[0])
    assert 0 < cursor < 2 ** 53
    assert client.call("HSCAN", "h", 2 ** 53) == [b"0", []]
    assert client.call("HSCAN", "nokey", 0, "COUNT", "x") == [b"0", []], "as in Redis, which looks for the key first"


# --- HRANDFIELD -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [10, 400])
def test_random_fields_are_uniform(client, fields):
    """Chi-square of single choices, of choices with repetition and of sets of different ones."""
    client.call("HSET", "h", *[word for i in range(fields * 50) for word in (i, i)])
    client.call("HDEL", "h", *range(fields, fields * 50))
    for ask, rounds in ((["HRANDFIELD", "h"], fields * 50), (["HRANDFIELD", "h", -fields], 50),
                        (["HRANDFIELD", "h", fields // 2], 100)):
        seen = Counter()
        for reply in client.pipeline([ask] * rounds):
            seen.update([reply] if isinstance(reply, bytes) else reply)
        expected = sum(seen.values()) / fields
        chi_square = sum((seen[b"%d" % i] - expected) ** 2 / expected for i in range(fields))
        assert chi_square < fields + 6 * (2 * fields) ** 0.5 + 10, ask


# --- Edges ----------------------------------------------------------------------------------------------------------------


def test_values_of_all_sizes(client):
    """In the leaf, beside it, and as a reply that is more than one block."""
    client.call("HSET", "h", *[word for i in range(300) for word in (i, i)])
    for size in (0, 1, 126, 127, 128, 129, 136, 4096, 16384, 70000, 0, 5):
        value = os.urandom(size)
        field = b"f" * max(size, 1)
        assert client.call("HSET", "h", field, value, "7", value) in (0, 1)
        assert client.call("HGET", "h", field) == client.call("HGET", "h", "7") == value
        assert client.call("HSTRLEN", "h", field) == size
        assert client.call("HDEL", "h", field) == 1
        assert client.call("HGET", "h", field) is None
    assert client.call("HLEN", "h") == 300


def test_pipelines_on_a_large_hash(any_server, oracle):
    """Commands of one pipeline run under one token and look ahead: what they look at may change or go before their turn."""
    clients = [one.raw() for one in (any_server, oracle)]
    fields = [word for i in range(30_000) for word in (f"field:{i}", f"value {i}")]
    commands = []
    for turn in range(harness.scaled(6)):
        for i in range(200):
            commands += [("HGET", "{t}h", f"field:{i * 37 % 31_000}"), ("HSET", "{t}h", f"field:{turn}:{i}", i), ("HDEL", "{t}h", f"field:{i}"),
                         ("SADD", "{t}s", i), ("SISMEMBER", "{t}h", i), ("HINCRBY", "{t}h", f"n{i % 7}", i), ("HGET", "{t}none", "x"),
                         ("HSET", "{t}h", f"field:{i * 11}", "x" * (i % 300)), ("HEXISTS", "{t}h", f"field:{i * 5}")]
        commands += [("RENAME", "{t}h", "{t}i"), ("HGET", "{t}i", "field:5000"), ("HGET", "{t}h", "field:5000"), ("COPY", "{t}i", "{t}h"),
                     ("HLEN", "{t}h"), ("HSET", "{t}i", "new", turn), ("HGET", "{t}i", "new"), ("HGET", "{t}h", "new"), ("DEL", "{t}i")]
    replies = [client.pipeline([("HSET", "{t}h", *fields)] + commands) for client in clients]
    assert replies[0] == replies[1]
    assert same_pairs(*(client.call("HGETALL", "{t}h") for client in clients))


def test_limits_of_counts(client):
    client.call("HSET", "h", "a", "1")
    for count, error in (("-9223372036854775808", "ERR value is out of range, value must between -9223372036854775807 and "
                          "9223372036854775807"), ("x", "ERR value is not an integer or out of range")):
        assert client.call("HRANDFIELD", "h", count) == ReplyError(error)
    assert client.call("HRANDFIELD", "h", "-9223372036854770000", "WITHVALUES") == ReplyError("ERR value is out of range")
    assert client.call("HRANDFIELD", "h", "9223372036854775807") == [b"a"]
