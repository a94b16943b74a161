"""Sets: beside a stock server, encodings, scans under change, random members, and what replicas are told."""

import os
from collections import Counter

import pytest

import collections_stream
import harness
from collections_stream import Maker, limited, same_members, scan_all
from resp import ReplyError

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
LIMITS = ["set-max-intset-entries", "8"]
OUR_LIMITS = ["set-max-listpack-entries", "6", "set-max-listpack-value", "12"]


class SetMaker(Maker):
    def some_keys(self, most):
        return [self.key() for _ in range(self.random.choice([1, 2, 2, 3, most]))]

    def command(self):
        key = self.key()
        kind = self.random.random()
        if kind < 0.3:
            words = self.words(key) if self.chance(0.7) else [b"%d" % self.random.randrange(-300, 300)
                                                              for _ in range(self.random.randrange(1, 12))]
            command = [b"SADD", key] + words
        elif kind < 0.45:
            command = [b"SREM", key] + self.words(key)
        elif kind < 0.55:
            command = [b"SMOVE", key, self.key(), self.word(key)]
        elif kind < 0.62:
            command = [b"SISMEMBER", key, self.word(key)]
        elif kind < 0.66:
            command = [b"SMISMEMBER", key] + self.words(key)
        elif kind < 0.72:
            command = [self.pick(b"SCARD", b"SMEMBERS"), key]
        elif kind < 0.8:
            command = [self.pick(b"SINTER", b"SUNION", b"SDIFF")] + self.some_keys(8)
        elif kind < 0.87:
            command = [self.pick(b"SINTERSTORE", b"SUNIONSTORE", b"SDIFFSTORE"),
                       self.random.choice(self.keys + [b"text"])] + self.some_keys(8)
        elif kind < 0.92:
            keys = self.some_keys(4)
            count = b"%d" % len(keys) if self.chance(0.9) else self.pick(b"0", b"-1", b"x", b"99", b"1")
            command = [b"SINTERCARD", count] + keys + self.pick(
                [], [], [b"LIMIT", b"0"], [b"LIMIT", b"3"], [b"limit", b"-1"], [b"LIMIT", b"x"], [b"LIMIT"], [b"BOGUS", b"1"])
        elif kind < 0.94:
            command = [b"SSCAN", key, self.pick(b"0", b"x", b"-1", b""), *self.pick(
                [], [b"COUNT", b"0"], [b"COUNT", b"x"], [b"COUNT"], [b"MATCH", b"1*"], [b"TYPE", b"set"])]
        else:
            return self.general()
        return self.spoil(command)

    def agree(self, command, ours, theirs):
        name = command[0].upper()
        if name in (b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF"):
            return same_members(ours, theirs)
        if name == b"SSCAN":
            return len(ours) == len(theirs) == 2  # a part of it; whole ones are compared with the content
        return False

    def interlude(self, ours, theirs):
        key = self.key()
        if self.chance(0.25):
            self.pop(ours, theirs, key, self.pick([], [], [0], [1], [2], [5], [40], [600], [1000000], [-1], ["x"], [1, 2]))
        if self.chance(0.2):
            self.random_members(ours, theirs, key, self.pick([], [0], [1], [5], [100], [1000], [-1], [-5], [-300], ["x"], [1, 2]))

    def pop(self, ours, theirs, key, count):
        """What is popped here is removed there."""
        before = theirs.call("SCARD", key)
        popped = ours.call("SPOP", key, *count)
        if isinstance(before, ReplyError) or isinstance(popped, ReplyError):
            assert popped == theirs.call("SPOP", key, *count)
            return
        if not count:
            assert popped is not None if before else popped is None
            popped = [] if popped is None else [popped]
        else:
            assert type(popped) is type(theirs.call("SPOP", key, 0))
        assert len(popped) == min(count[0] if count else 1, before)
        if popped:
            assert theirs.call("SREM", key, *popped) == len(popped), popped

    def random_members(self, ours, theirs, key, count):
        replies = [one.call("SRANDMEMBER", key, *count) for one in (ours, theirs)]
        assert type(replies[0]) is type(replies[1])
        if not isinstance(replies[0], list):
            assert isinstance(replies[0], bytes) or replies[0] == replies[1]
            replies = [[reply] for reply in replies] if isinstance(replies[0], bytes) else [[], []]
        assert len(replies[0]) == len(replies[1])
        if replies[0]:
            content = theirs.call("SMEMBERS", key)
            assert set(replies[0]) <= set(content)
            assert not count or count[0] < 0 or len(set(replies[0])) == len(replies[0])

    def compare_key(self, ours, theirs, key):
        assert ours.call("TYPE", key) == theirs.call("TYPE", key)
        if ours.call("TYPE", key) != "set":
            return
        content = theirs.call("SMEMBERS", key)
        assert same_members(ours.call("SMEMBERS", key), content), key
        assert same_members(scan_all(ours, "SSCAN", key, "COUNT", self.pick(1, 5, 100)), list(content))
        encodings = [one.call("OBJECT", "ENCODING", key) for one in (ours, theirs)]
        assert encodings[0] == encodings[1] or encodings == [b"listpack", b"hashtable"], (key, encodings)
        if encodings[0] == b"listpack":
            assert len(content) <= int(OUR_LIMITS[1]) and max(map(len, content)) <= int(OUR_LIMITS[3])


@pytest.mark.parametrize("protocol", [2, 3])
def test_stream(any_server, oracle, protocol):
    clients = limited(any_server, oracle, protocol, LIMITS, OUR_LIMITS)
    collections_stream.run_stream(*clients, SetMaker(BASE_SEED * 10 + protocol), harness.scaled(1500))


@pytest.mark.smoke
def test_short_stream(any_server, oracle):
    clients = limited(any_server, oracle, 2, LIMITS, OUR_LIMITS)
    collections_stream.run_stream(*clients, SetMaker(BASE_SEED * 10), harness.scaled(200))


def test_events(any_server, oracle):
    clients = limited(any_server, oracle, 2, LIMITS, OUR_LIMITS)
    collections_stream.compare_events((any_server, oracle), clients, SetMaker(BASE_SEED * 10 + 7), harness.scaled(1500), [
        # What is popped is chosen: the key goes with it, or a set of one stays.
        ("SADD", "p", "1", "2"), ("SPOP", "p"), ("SPOP", "p"), ("SADD", "p", "1", "2"), ("SPOP", "p", "0"), ("SPOP", "p", "1"),
        ("SADD", "p", "1", "2"), ("SPOP", "p", "2"), ("SPOP", "p", "2")])


# --- Encodings of 7.2, which 7.0 does not have ----------------------------------------------------------------------------


def encoding(client, key="s"):
    return client.call("OBJECT", "ENCODING", key).decode()


def test_encodings(client):
    def is_after(wanted, *commands):
        client.call("DEL", "s")
        client.pipeline(commands)
        assert encoding(client) == wanted, commands

    for limit, value in (("set-max-intset-entries", 512), ("set-max-listpack-entries", 128), ("set-max-listpack-value", 64)):
        assert client.call("CONFIG", "SET", limit, value) == "OK"
    is_after("intset", ("SADD", "s", *range(512)))
    is_after("hashtable", ("SADD", "s", *range(512)), ("SADD", "s", "x"))
    is_after("hashtable", ("SADD", "s", *range(512)), ("SADD", "s", 512))
    is_after("hashtable", ("SADD", "s", *range(513)))
    is_after("listpack", ("SADD", "s", *range(127)), ("SADD", "s", "x"))
    is_after("hashtable", ("SADD", "s", *range(128)), ("SADD", "s", "x"))
    is_after("listpack", ("SADD", "s", "x" * 64))
    is_after("hashtable", ("SADD", "s", "x" * 65))
    is_after("listpack", ("SADD", "s", "x", *range(127)))
    is_after("hashtable", ("SADD", "s", "x", *range(128)))
    is_after("hashtable", ("SADD", "s", "x", *([1] * 128)))
    is_after("listpack", ("SADD", "s", "x"), ("SREM", "s", "x"), ("SADD", "s", "1"), ("SADD", "s", "y"))
    is_after("intset", ("SADD", "s", "x"), ("SREM", "s", "x"), ("SADD", "s", "1"))
    is_after("listpack", ("SADD", "s", *(f"member {i}" for i in range(128))))
    # A set that loses most of its members by SPOP is made anew; one that loses them by SREM stays.
    is_after("listpack", ("SADD", "s", *range(1000)), ("SPOP", "s", 990))
    is_after("hashtable", ("SADD", "s", *range(1000)), ("SREM", "s", *range(990)))
    is_after("intset", ("SADD", "s", *range(500)), ("SPOP", "s", 490))


def test_encodings_of_results(client):
    client.call("SADD", "integers", *range(1000))
    client.call("SADD", "words", *range(20), "a")
    assert encoding(client, "integers") == "hashtable"
    for command, wanted in ((("SINTERSTORE", "s", "integers", "words"), "intset"), (("SUNIONSTORE", "s", "words"), "listpack"),
                            (("SDIFFSTORE", "s", "words", "integers"), "listpack"), (("SDIFFSTORE", "s", "integers", "words"), "hashtable"),
                            (("SUNIONSTORE", "s", "integers"), "hashtable")):
        assert client.call(*command) > 0
        assert encoding(client) == wanted, command


# --- SSCAN ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["grows", "shrinks", "is converted"])
def test_scan_while_it_changes(any_server, change):
    """A member that is there all the time is returned at least once."""
    client = any_server.raw()
    client.call("CONFIG", "SET", *LIMITS, *OUR_LIMITS)
    staying = list(range(5)) if change == "is converted" else [f"s{i}" for i in range(1000)]
    leaving = [] if change == "is converted" else [f"l{i}" for i in range(3000)]
    client.call("SADD", "s", *staying, *leaving)
    cursor, found, calls = b"0", Counter(), 0
    while True:
        cursor, part = client.call("SSCAN", "s", cursor, "COUNT", "20")
        found.update(part)
        calls += 1
        if change == "shrinks":
            client.call("SREM", "s", *leaving[calls * 40:calls * 40 + 40], "none")
        else:
            client.call("SADD", "s", *(f"n{calls}.{i}" for i in range(30)))
        assert calls < 10000
        if cursor == b"0":
            break
    assert all(found[str(member).encode()] >= 1 for member in staying)


# --- Random members -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [10, 400])
def test_random_members_are_uniform(client, members):
    """Chi-square of single choices, of choices with repetition, of sets of different ones, and of what is popped."""
    client.call("SADD", "s", *range(members * 50))
    client.call("SREM", "s", *range(members, members * 50))
    client.call("SUNIONSTORE", "whole", "s")
    for ask, rounds in ((["SRANDMEMBER", "s"], members * 50), (["SRANDMEMBER", "s", -members], 50),
                        (["SRANDMEMBER", "s", members // 2], 100), (["SPOP", "s", members // 5], 200),
                        (["SPOP", "s", members - members // 10], 60)):
        seen = Counter()
        for _ in range(rounds if ask[0] == "SPOP" else 1):
            for reply in client.pipeline([ask] * (1 if ask[0] == "SPOP" else rounds)):
                seen.update([reply] if isinstance(reply, bytes) else reply)
            if ask[0] == "SPOP":
                client.call("SUNIONSTORE", "s", "whole")
        expected = sum(seen.values()) / members
        chi_square = sum((seen[b"%d" % i] - expected) ** 2 / expected for i in range(members))
        assert chi_square < members + 6 * (2 * members) ** 0.5 + 10, ask


def test_pop_until_nothing_is_left(client):
    """Each member comes once, whatever the set's form on the way down."""
    members = [b"%d" % i for i in range(400)] + [b"word %d" % i for i in range(400)]
    client.call("SADD", "s", *members)
    popped = []
    for count in (1, 700, 50, 3, 20, 10, 100):
        popped += client.call("SPOP", "s", count)
    assert sorted(popped) == sorted(members)
    assert client.call("EXISTS", "s") == 0


def test_limits_of_counts(client):
    client.call("SADD", "s", "a")
    out_of_range = ReplyError("ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807")
    assert client.call("SRANDMEMBER", "s", "-9223372036854775808") == out_of_range
    assert client.call("SRANDMEMBER", "s", "9223372036854775807") == [b"a"]
    assert client.call("SPOP", "s", "-1") == ReplyError("ERR value is out of range, must be positive")
    assert client.call("SPOP", "s", "9223372036854775807") == [b"a"]
    assert client.call("EXISTS", "s") == 0


# --- What replicas are told -----------------------------------------------------------------------------------------------


@pytest.mark.slotwise
def test_what_is_logged(any_server, start):
    """Effects in the form in which they are the same everywhere, seen by a stock replica's MONITOR."""
    replica = start({"replicaof": ("127.0.0.1", any_server.port)}, binary=harness.ORACLE, backend=None)
    harness.wait_until(lambda: replica.info("replication").get("master_link_status") == "up", what="the link to be up")
    client, monitor = any_server.raw(), replica.raw()
    assert monitor.call("MONITOR") == "OK"
    popped = client.pipeline([("SADD", "s", "1"), ("SPOP", "s"), ("SADD", "s", *range(3000)), ("SPOP", "s", 5), ("SPOP", "s", 1500),
                              ("SPOP", "s", 0), ("SPOP", "s", 5000), ("SPOP", "s", 5), ("SADD", "t", "1", "2"), ("SADD", "t", "1"),
                              ("SREM", "t", "3"), ("SMOVE", "t", "u", "1"), ("SUNIONSTORE", "w", "t", "u"), ("SDIFFSTORE", "w", "t", "t"),
                              ("HINCRBYFLOAT", "h", "f", "1.5"), ("HINCRBY", "h", "i", "5"), ("HDEL", "h", "none"),
                              ("CONFIG", "SET", "lazyfree-lazy-server-del", "yes"), ("SPOP", "t", 2), ("SET", "end", "1")])
    told = []
    while not told or told[-1][0] != b"SET":
        words = [word.strip(b'"') for word in monitor.read().encode().split(b'" "')]
        words[0] = words[0].rpartition(b'"')[2].upper()
        words[-1] = words[-1].rstrip(b'"')
        if words[0] not in (b"PING", b"SELECT") and not words[0].endswith(b"OK"):
            told.append(words)
    removed = [words[2:] for words in told if words[0] == b"SREM"]
    assert removed[0] == [b"1"] and sorted(removed[1]) == sorted(popped[3])
    assert [len(words) for words in removed[2:]] == [1024, 476] and sorted(removed[2] + removed[3]) == sorted(popped[4])
    rest = [words for words in told if words[0] not in (b"SREM", b"MULTI", b"EXEC")]
    assert [words[:2] for words in rest[:4]] == [[b"SADD", b"s"], [b"SADD", b"s"], [b"DEL", b"s"], [b"SADD", b"t"]]
    assert rest[4:] == [[b"SMOVE", b"t", b"u", b"1"], [b"SUNIONSTORE", b"w", b"t", b"u"], [b"SDIFFSTORE", b"w", b"t", b"t"],
                        [b"HSET", b"h", b"f", b"1.5"], [b"HINCRBY", b"h", b"i", b"5"], [b"UNLINK", b"t"], [b"SET", b"end", b"1"]]
