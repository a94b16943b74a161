"""GEO commands: the same seeded stream to the server under test and to a stock server, and places whose numbers are known."""

import os
import random

import pytest

import harness
from resp import ReplyError, encode_command

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
KEYS = [b"g0", b"g1", b"g2"]


class Generator:
    """Makes commands from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.makers = [(10, self.add), (8, self.look), (10, self.search), (8, self.radius), (2, self.other)]

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        return self.random.choice(KEYS) if self.chance(0.95) else self.pick(b"string", b"absent")

    def member(self):
        return b"m%d" % self.random.randrange(60)

    def place(self):
        kind = self.random.random()
        if kind < 0.05:
            return self.pick([b"181", b"0"], [b"0", b"86"], [b"x", b"1"], [b"1", b""], [b"nan", b"0"], [b"-180.1", b"-85.06"])
        if kind < 0.15:
            return [self.pick(b"-180", b"180", b"0"), self.pick(b"85.05112878", b"-85.05112878", b"0")]
        if kind < 0.6:
            return [b"%.6f" % self.random.uniform(12, 16), b"%.6f" % self.random.uniform(36, 39)]
        return [b"%.9f" % self.random.uniform(-180, 180), b"%.9f" % self.random.uniform(-85, 85)]

    def unit(self):
        return self.pick(b"m", b"km", b"ft", b"mi", b"KM", b"M", b"x" if self.chance(0.1) else b"km")

    def length(self):
        return self.pick(b"0", b"1", b"10", b"200", b"555.5", b"5000", b"20000", b"100000", b"1e7", b"-1", b"x", b"300", b"900")

    def add(self):
        options = [self.pick(word, word.upper()) for word in (b"nx", b"xx", b"ch") if self.chance(0.15)]
        places = []
        for _ in range(self.pick(1, 2, 3, 3)):
            places += self.place() + [self.member()]
        return [b"GEOADD", self.key()] + options + places[self.chance(0.03):]

    def look(self):
        name = self.pick(b"GEOPOS", b"GEOHASH", b"GEODIST", b"GEODIST")
        if name == b"GEODIST":
            return [name, self.key(), self.member(), self.member()] + ([self.unit()] if self.chance(0.6) else [])
        return [name, self.key()] + [self.member() for _ in range(self.random.randrange(4))]

    def common(self):
        parts = [[word] for word in (b"WITHDIST", b"withhash", b"WITHCOORD") if self.chance(0.25)]
        parts += [[self.pick(b"asc", b"DESC")]] if self.chance(0.5) else []
        if self.chance(0.3):
            parts.append([b"COUNT", self.pick(b"1", b"2", b"5", b"100", b"0", b"x")] + ([b"ANY"] if self.chance(0.3) else []))
        return parts

    def target(self, words):
        """What is stored of a few is the servers' choice if several are at the same distance: it goes where nothing depends on it."""
        return b"stored" if b"COUNT" in words or self.chance(0.5) else self.key()

    def search(self):
        parts = self.common()
        parts.append([b"FROMMEMBER", self.member()] if self.chance(0.5) else [b"FROMLONLAT"] + self.place())
        parts.append([b"BYRADIUS", self.length(), self.unit()] if self.chance(0.5)
                     else [b"BYBOX", self.length(), self.length(), self.unit()])
        if self.chance(0.05):
            parts.pop(self.random.randrange(len(parts)))
        store = self.chance(0.3)
        if store and self.chance(0.5):
            parts.append([b"STOREDIST"])
        self.random.shuffle(parts)
        words = [word for part in parts for word in part]
        return ([b"GEOSEARCHSTORE", self.target(words)] if store else [b"GEOSEARCH"]) + [self.key()] + words

    def radius(self):
        parts = self.common()
        read_only = self.chance(0.3)
        if self.chance(0.3):
            parts.append([self.pick(b"STORE", b"storedist"), self.target([word for part in parts for word in part])])
        self.random.shuffle(parts)
        words = [word for part in parts for word in part]
        if self.chance(0.5):
            name, center = b"GEORADIUS", self.place()
        else:
            name, center = b"GEORADIUSBYMEMBER", [self.member()]
        return [name + (b"_RO" if read_only else b""), self.key()] + center + [self.length(), self.unit()] + words

    def other(self):
        return self.pick([b"ZADD", self.key(), b"%d" % self.random.randrange(1 << 53), self.member()],
                         [b"ZREM", self.key(), self.member()], [b"SET", b"string", b"x"], [b"DEL", self.pick(*KEYS)],
                         [b"OBJECT", b"ENCODING", b"stored"], [b"ZCARD", b"stored"])

    def command(self):
        return self.random.choices([maker for _, maker in self.makers], [weight for weight, _ in self.makers])[0]()


def takes_any(command):
    """Which of several at the same distance come first is nobody's promise."""
    return any(word.upper() == b"COUNT" for word in command)


def run_stream(server, oracle, seed, count, protocol):
    for one in (server, oracle):
        assert one.call("CONFIG", "SET", "zset-max-listpack-entries", 16, "zset-max-listpack-value", 16) == "OK"
    generator = Generator(seed)
    ours, theirs = server.raw(protocol=protocol), oracle.raw(protocol=protocol)
    for _ in range(count // 20):
        commands = [generator.command() for _ in range(20)]
        for one in (ours, theirs):
            one.send(b"".join(encode_command(*command) for command in commands))
        for command in commands:
            raw, other = ours.read_raw(), theirs.read_raw()
            assert raw == other or (takes_any(command) and len(raw) == len(other)), f"seed {seed}: {command}"
    for key in KEYS:
        assert contents(ours, key) == contents(theirs, key), f"seed {seed}: {key}"


def contents(client, key):
    """Members and scores; 7.0 writes distances with more digits."""
    reply = client.call("ZRANGE", key, "0", "-1")
    return reply if isinstance(reply, ReplyError) else [(member, float(client.call("ZSCORE", key, member))) for member in reply]


@pytest.mark.parametrize("protocol", [2, 3])
def test_stream(any_server, oracle, protocol):
    run_stream(any_server, oracle, BASE_SEED * 1000 + protocol, harness.scaled(10000), protocol)


@pytest.mark.smoke
def test_short_stream(server, oracle):
    run_stream(server, oracle, BASE_SEED * 1000 + 9, harness.scaled(3000), 2)


@pytest.mark.smoke
def test_keys_of_georadius(client):
    """The last STORE counts, as for the handler."""
    for words, keys in (((), [b"g"]), (("STORE", "a"), [b"g", b"a"]), (("STORE", "a", "STOREDIST", "b"), [b"g", b"b"]),
                        (("STORE",), [b"g"])):
        assert client.call("COMMAND", "GETKEYS", "GEORADIUS", "g", "1", "2", "3", "km", *words) == keys
