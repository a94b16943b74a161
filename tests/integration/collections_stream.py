"""A seeded stream of commands on collections for the server under test and a stock one.

A maker (below: of hashes, of sets) makes commands and knows when two replies agree. What the servers choose at random is
told to the other one (SPOP here is SREM there), so that both always hold the same.
"""

import random

import debugging
from resp import Map, ReplyError, encode_command

INTEGERS = [b"0", b"1", b"-1", b"7", b"42", b"127", b"128", b"-129", b"32767", b"32768", b"-32769", b"8388608",
            b"2147483648", b"-2147483649", b"9223372036854775807", b"-9223372036854775808"]
NOT_QUITE_INTEGERS = [b"01", b"+1", b"-0", b" 1", b"1 ", b"1.0", b"", b"9223372036854775808", b"0x1", b"1e3"]
TEXTS = [b"a", b"b", b"hello", b"x" * 10, b"x" * 11, b"x" * 16, b"x" * 17, b"\x00\xff", b"y" * 64, b"y" * 65, b"z" * 127,
         b"z" * 128, b"z" * 136, b"z" * 300]


class Maker:
    """What makers of commands have in common."""

    keys = [b"k%d" % i for i in range(6)]

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        if self.chance(0.02):
            return self.pick(b"text", b"absent")
        return b"big" if self.chance(0.25) else self.random.choice(self.keys)

    def word(self, key):
        """A member or field: of few for small keys, of many for the big one."""
        if key == b"big":
            number = self.random.randrange(700)
            return b"%d" % number if number % 3 == 0 else b"member:%d" % number + b"+" * (number % 150 if number % 40 == 0 else 0)
        kind = self.random.random()
        if kind < 0.5:
            return b"%d" % self.random.randrange(12)
        if kind < 0.6:
            return self.random.choice(INTEGERS)
        if kind < 0.65:
            return self.random.choice(NOT_QUITE_INTEGERS)
        return self.random.choice(TEXTS)

    def words(self, key):
        most = 40 if key == b"big" else 5
        return [self.word(key) for _ in range(self.random.randrange(1, most))]

    def general(self):
        """Commands on keys whatever their type; the big one seldom goes."""
        key = self.random.choice(self.keys)
        return self.pick([b"DEL", key], [b"EXISTS", key], [b"TYPE", key], [b"EXPIRE", self.key(), b"100000"],
                         [b"PERSIST", self.key()], [b"RENAME", key, self.random.choice(self.keys)],
                         [b"COPY", self.key(), self.random.choice(self.keys), b"REPLACE"], [b"SET", b"text", b"v"])

    def spoil(self, command):
        if self.chance(0.03) and len(command) > 1:
            if self.chance(0.5):
                command.pop(self.random.randrange(1, len(command)))
            else:
                command.insert(self.random.randrange(1, len(command) + 1), self.word(b"k0"))
        return command


def same_members(ours, theirs):
    return isinstance(ours, list) and isinstance(theirs, list) and sorted(ours) == sorted(theirs)


def same_pairs(ours, theirs):
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return False
    return isinstance(ours, Map) == isinstance(theirs, Map) and sorted(zip(ours[::2], ours[1::2])) == sorted(
        zip(theirs[::2], theirs[1::2]))


def scan_all(client, name, key, *options):
    """Everything that a whole scan returns, as it came."""
    cursor, found = b"0", []
    for _ in range(100_000):
        cursor, part = client.call(name, key, cursor, *options)
        found += part
        if cursor == b"0":
            return found
    raise AssertionError(f"{name} does not end")


def exchange(ours, theirs, maker, commands):
    """The same commands to both; their replies must agree."""
    data = b"".join(encode_command(*command) for command in commands)
    ours.send(data)
    theirs.send(data)
    for command in commands:
        our_value, our_raw = ours.read_both()
        their_value, their_raw = theirs.read_both()
        if our_raw == their_raw:
            continue
        agrees = not isinstance(our_value, ReplyError) and type(our_value) is type(their_value) and maker.agree(
            command, our_value, their_value)
        assert agrees, f"{command!r}:\n ours   {our_raw[:600]!r}\n theirs {their_raw[:600]!r}"


def run_stream(ours, theirs, maker, batches):
    for batch in range(batches):
        exchange(ours, theirs, maker, [maker.command() for _ in range(maker.random.choice([1, 3, 20]))])
        maker.interlude(ours, theirs)
        if batch % 40 == 0:
            compare_content(ours, theirs, maker)
            debugging.check_structures(ours)
    compare_content(ours, theirs, maker)
    debugging.check_structures(ours)


def compare_content(ours, theirs, maker):
    keys = theirs.call("KEYS", "*")
    assert sorted(ours.call("KEYS", "*")) == sorted(keys)
    for key in keys:
        maker.compare_key(ours, theirs, key)
        assert (ours.call("PTTL", key) < 0) == (theirs.call("PTTL", key) < 0), key


def limited(server, oracle, protocol, limits, our_limits=()):
    """A client of each, with low limits; ours are of what the stock server does not have."""
    ours, theirs = (one.raw(protocol=protocol) for one in (server, oracle))
    for client, words in ((ours, [*limits, *our_limits]), (theirs, limits)):
        assert client.call("CONFIG", "SET", *words) == "OK"
    return ours, theirs


def collect_events(client):
    """Listens to all keyspace events; returns a function that gives (event, key) in order, up to now."""
    client.call("PSUBSCRIBE", "__keyevent@0__:*")

    def events(marker_client):
        marker_client.call("SET", "end-of-events", "1")
        found = []
        while True:
            message = client.read()
            event, key = message[2].rpartition(b":")[2].decode(), message[3]
            if key == b"end-of-events":
                marker_client.call("DEL", "end-of-events")
                client.read()
                return found
            found.append((event, key))

    return events


def compare_events(servers, clients, maker, commands, further=()):
    """The same keyspace events in the same order, of a stream and of further commands."""
    for one in clients:
        assert one.call("CONFIG", "SET", "notify-keyspace-events", "EA") == "OK"
    listeners = [collect_events(one.raw()) for one in servers]
    exchange(*clients, maker, [maker.command() for _ in range(commands)])
    for one in clients:
        for reply in one.pipeline(further):
            assert not isinstance(reply, ReplyError)
    events = [listener(client) for listener, client in zip(listeners, clients)]
    assert len(events[0]) > 10
    assert events[0] == events[1]
