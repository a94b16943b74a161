"""Sorted sets: the same seeded stream of commands to the server under test and to a stock server, with limits so small that sets
are converted all the time; and what a stock server of another version cannot be asked."""

import os
import random

import pytest

import debugging
import harness
from resp import ReplyError, encode_command

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
ENTRIES, VALUE = 8, 16
KEYS = [f"z{i}".encode() for i in range(6)]
OTHER_KEYS = [b"string", b"absent"]
NOT_SCORES = [b"nan", b"abc", b"", b" 1", b"1x", b"1e5000"]
BOUNDS = [b"-inf", b"+inf", b"(-inf", b"(+inf", b"inf", b"(1", b"(2.5", b"0", b"", b"x", b"(", b"((1", b"nan", b" 3", b"3 "]
MEMBER_BOUNDS = [b"-", b"+", b"[", b"(", b"[m1", b"(m1", b"[m3", b"(m3x", b"[zz", b"x", b"", b"-x", b"+x", b"[m2\x00"]


class Generator:
    """Makes commands from a seed. Scores are quarters: sums are exact, and versions write them alike."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.makers = [(12, self.add), (15, self.big), (4, self.increment), (5, self.remove), (10, self.range), (6, self.count), (6, self.look),
                       (4, self.remove_range), (3, self.pop), (3, self.several), (5, self.algebra), (2, self.store),
                       (2, self.keys), (1, self.wrong)]

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        if self.chance(0.1):
            return b"big"
        return self.random.choice(KEYS) if self.chance(0.95) else self.random.choice(OTHER_KEYS)

    def member(self):
        kind = self.random.random()
        if kind < 0.75:
            return b"m%d" % self.random.randrange(14)
        if kind < 0.85:
            return b"%d" % self.random.randrange(-3, 3)
        if kind < 0.95:
            return b"x" * self.random.choice([15, 16, 17, 120, 127, 128, 129, 300]) + b"%d" % self.random.randrange(3)
        return self.random.choice([b"", b"\x00", b"m1\x00", b"\xff\xff", b"a" * 70, b"01"])

    def number(self):
        if self.chance(0.05):
            return self.random.choice(NOT_SCORES)
        return self.random.choice([b"0", b"1", b"1", b"2.5", b"-7.25", b"100", b"inf", b"-inf", b"1e20", b"3", b"0x10", b"4.75",
                                   b"%d" % self.random.randrange(-100, 100)])

    def integer(self):
        return self.random.choice([b"0", b"1", b"-1", b"2", b"3", b"-3", b"10", b"-100", b"100", b"x", b"9223372036854775807"])

    def cased(self, word):
        return word.upper().encode() if self.chance(0.5) else word.encode()

    def options(self, *words):
        return [self.cased(word) for word in words if self.chance(0.2)]

    def add(self):
        pairs = []
        for _ in range(self.random.choice([1, 1, 2, 3, ENTRIES])):  # 7.2 converts before more are added, 7.0 while
            pairs += [self.number(), self.member()]
        return [b"ZADD", self.key()] + self.options("nx", "xx", "ch", "gt", "lt", "incr") + pairs[self.chance(0.03):]

    def big(self):
        """A set of some hundred members."""
        members = [b"b%d" % self.random.randrange(900) for _ in range(self.random.choice([1, 1, 8]))]
        words = [word for member in members for word in (self.number(), member)]
        rank = self.random.randrange(500)
        return self.pick([b"ZADD", b"big"] + words, [b"ZADD", b"big"] + words, [b"ZADD", b"big"] + words,
                         [b"ZREM", b"big"] + members, [b"ZRANK", b"big", members[0]], [b"ZINCRBY", b"big", b"0.25", members[0]],
                         [b"ZREVRANGE", b"big", b"%d" % rank, b"%d" % (rank + 10), b"WITHSCORES"],
                         [b"ZREMRANGEBYRANK", b"big", b"%d" % rank, b"%d" % (rank + self.random.choice([1, 2, 40]))])

    def increment(self):
        return [b"ZINCRBY", self.key(), self.number(), self.member()]

    def remove(self):
        return [b"ZREM", self.key()] + [self.member() for _ in range(self.random.choice([1, 2, 5]))]

    def bounds(self, by):
        if by == "score":
            return [self.random.choice(BOUNDS) if self.chance(0.5) else self.number() for _ in range(2)]
        if by == "member":
            return [self.random.choice(MEMBER_BOUNDS) for _ in range(2)]
        return [self.integer(), self.integer()]

    def limit(self):
        return [self.cased("limit"), self.integer(), self.integer()] if self.chance(0.4) else []

    def range(self):
        by = self.pick("score", "score", "rank", "rank", "member")
        bounds = self.bounds(by)
        if self.chance(0.5):
            name = {"score": "RANGEBYSCORE", "rank": "RANGE", "member": "RANGEBYLEX"}[by]
            if self.chance(0.4):
                name = "REV" + name
            return ([b"Z" + name.encode(), self.key_for(by)] + bounds + (self.limit() if by != "rank" else [])
                    + self.options("withscores"))
        words = {"score": ["byscore"], "rank": [], "member": ["bylex"]}[by]
        rest = [[self.cased(word)] for word in words] + [self.limit()] + [[word] for word in self.options("rev", "withscores")]
        self.random.shuffle(rest)
        command = [b"ZRANGE", self.key_for(by)] + bounds + [word for part in rest for word in part]
        if self.chance(0.2):
            command = [b"ZRANGESTORE", b"stored"] + command[1:]
        return command

    def key_for(self, by):
        """Ranges by member mean something only where all have the same score."""
        return b"same" if by == "member" else self.key()

    def count(self):
        by = self.pick("score", "score", "member")
        return [{"score": b"ZCOUNT", "member": b"ZLEXCOUNT"}[by], self.key_for(by)] + self.bounds(by)

    def look(self):
        name = self.pick(b"ZSCORE", b"ZRANK", b"ZREVRANK", b"ZCARD", b"ZMSCORE")
        rest = {b"ZCARD": 0, b"ZMSCORE": 3}.get(name, 1)
        return [name, self.key()] + [self.member() for _ in range(rest)]

    def remove_range(self):
        by = self.pick("score", "rank", "member")
        name = {"score": b"ZREMRANGEBYSCORE", "rank": b"ZREMRANGEBYRANK", "member": b"ZREMRANGEBYLEX"}[by]
        return [name, self.key_for(by)] + self.bounds(by)

    def pop(self):
        if self.chance(0.5):
            return [self.pick(b"ZPOPMIN", b"ZPOPMAX"), self.key()] + ([self.integer()] if self.chance(0.5) else [])
        keys = [self.key() for _ in range(self.random.choice([1, 2, 3]))]
        count = [self.cased("count"), self.integer()] if self.chance(0.5) else []
        return [b"ZMPOP", b"%d" % (len(keys) + self.chance(0.05))] + keys + [self.pick(b"MIN", b"max", b"max", b"MED")] + count

    def several(self):
        same = []
        for _ in range(self.random.choice([1, 3])):
            same += [b"0", self.member()]
        return [b"ZADD", b"same"] + same

    def algebra(self):
        operation = self.pick("UNION", "INTER", "DIFF", "INTERCARD")
        keys = [self.key() if self.chance(0.8) else self.pick(b"set", b"set2") for _ in range(self.random.choice([1, 2, 2, 3]))]
        command = [b"%d" % (len(keys) + self.random.choice([0] * 30 + [-1, 1, 9]))] + keys
        if operation == "INTERCARD":
            return [b"ZINTERCARD"] + command + ([b"LIMIT", self.integer()] if self.chance(0.5) else [])
        if self.chance(0.3):
            command += [self.cased("weights")] + [self.pick(b"1", b"2", b"0.5", b"0", b"inf", b"x" if self.chance(0.1) else b"4")
                                                  for _ in keys]
        if self.chance(0.3):
            command += [self.cased("aggregate"), self.pick(b"sum", b"min", b"MAX", b"MAX", b"avg")]
        if self.chance(0.4):
            command += self.options("withscores") + [b"withscores"]
        if self.chance(0.3):
            return [b"Z%sSTORE" % operation.encode(), self.key()] + command
        return [b"Z" + operation.encode()] + command

    def store(self):
        return self.pick([b"COPY", self.key(), self.key(), b"REPLACE"], [b"RENAME", self.key(), self.key()],
                         [b"ZRANGE", b"stored", b"0", b"-1", b"WITHSCORES"])

    def keys(self):
        return self.pick([b"DEL", self.key()], [b"UNLINK", self.key()], [b"TYPE", self.key()], [b"EXISTS", self.key()],
                         [b"OBJECT", b"ENCODING", self.key()], [b"OBJECT", b"ENCODING", self.key()],
                         [b"SET", b"string", b"x"], [b"SADD", self.pick(b"set", b"set2")] + [self.member() for _ in range(4)],
                         [b"SREM", self.pick(b"set", b"set2"), self.member()], [b"EXPIRE", self.key(), b"1000"], [b"PERSIST", self.key()])

    def wrong(self):
        name = self.pick(b"ZADD", b"ZRANGE", b"ZSCORE", b"ZUNION", b"ZMPOP", b"ZCOUNT", b"ZPOPMIN", b"ZRANDMEMBER", b"ZSCAN")
        return [name] + [self.pick(self.key(), b"1", b"x", b"MIN") for _ in range(self.random.randrange(0, 6))]

    def command(self):
        maker = self.random.choices([maker for _, maker in self.makers], [weight for weight, _ in self.makers])[0]
        return maker()


def pick_at_random(command):
    return command[0] in (b"ZRANDMEMBER", b"ZSCAN")


def differs(command, ours, theirs, raw_ours, raw_theirs):
    if pick_at_random(command) and not isinstance(ours, ReplyError):
        return type(ours) is not type(theirs)
    if len(command) == 4 and command[0] in (b"ZRANK", b"ZREVRANK"):
        return False
    return raw_ours != raw_theirs


def contents(client, key):
    return client.call_raw("ZRANGE", key, "0", "-1", "WITHSCORES"), client.call_raw("OBJECT", "ENCODING", key)


def configure(*servers):
    for one in servers:
        assert one.call("CONFIG", "SET", "zset-max-listpack-entries", ENTRIES, "zset-max-listpack-value", VALUE) == "OK"


def run_stream(server, oracle, seed, count, protocol):
    configure(server, oracle)
    generator = Generator(seed)
    ours, theirs = server.raw(protocol=protocol), oracle.raw(protocol=protocol)
    story = []
    for _ in range(count // 20):
        commands = [generator.command() for _ in range(20)]
        for one in (ours, theirs):
            one.send(b"".join(encode_command(*command) for command in commands))
        for command in commands:
            value, raw = ours.read_both()
            other, other_raw = theirs.read_both()
            story = story[-30:] + [command]
            if differs(command, value, other, raw, other_raw):
                before = "\n".join(str(one) for one in story)
                raise AssertionError(f"seed {seed}: {command}\nours   {raw}\ntheirs {other_raw}\nbefore:\n{before}")
        if generator.random.random() < 0.02:
            debugging.check_structures(ours)
    debugging.check_structures(ours)
    for key in KEYS + [b"same", b"big"]:
        assert contents(ours, key) == contents(theirs, key), f"seed {seed}: {key}"
    for key in KEYS:
        assert scanned(ours, key, 3) == scanned(theirs, key, 3), f"seed {seed}: ZSCAN {key}"


def scanned(client, key, count):
    """All that ZSCAN brings, as pairs."""
    cursor, pairs = b"0", set()
    while True:
        reply = client.call("ZSCAN", key, cursor, "COUNT", count)
        if isinstance(reply, ReplyError):
            return reply
        cursor, found = reply
        pairs |= set(zip(found[::2], found[1::2]))
        if cursor == b"0":
            return pairs


@pytest.mark.parametrize("protocol", [2, 3])
def test_stream(any_server, oracle, protocol):
    run_stream(any_server, oracle, BASE_SEED * 1000 + protocol, harness.scaled(20000), protocol)


@pytest.mark.smoke
def test_short_stream(server, oracle):
    run_stream(server, oracle, BASE_SEED * 1000 + 9, harness.scaled(4000), 2)
