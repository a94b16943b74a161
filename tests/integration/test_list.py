"""Lists: the same seeded stream of list commands to the server under test and to a stock server, with limits so small that the
lists change their form often; then what only one of them has: encodings, propagation, notifications."""

import os
import random

import pytest

import debugging
import harness
from resp import encode_command

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
KEYS = [b"l%d" % i for i in range(8)]


class Lists:
    """Makes list commands from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        return b"string" if self.chance(0.02) else self.random.choice(KEYS)

    def value(self):
        kind = self.random.random()
        if kind < 0.3:
            return b"%d" % self.random.choice([0, 1, -1, 127, 128, -4096, 40000, -(1 << 20), 1 << 40, -(1 << 63), (1 << 63) - 1])
        if kind < 0.6:
            return self.random.choice([b"a", b"b", b"c", b"", b"01", b"-0", b" 1", b"9223372036854775808"])
        if kind < 0.9:
            return bytes([97 + self.random.randrange(3)]) * self.random.choice([5, 63, 64, 100, 130])
        return b"x" * self.random.choice([1000, 1024, 1025, 4095, 4096, 9000, 20000])

    def index(self):
        if self.chance(0.03):
            return self.random.choice([b"x", b"", b"1.5", b"9223372036854775808", b"9223372036854775807", b"-9223372036854775808"])
        return b"%d" % (self.random.randrange(-12, 12) if self.chance(0.7) else self.random.randrange(-300, 300))

    def end(self):
        return self.random.choice([b"LEFT", b"RIGHT", b"left", b"Right"]) if self.chance(0.97) else b"MIDDLE"

    def option(self, name, *values):
        return [name if self.chance(0.7) else name.lower(), self.random.choice(values)]

    def push(self):
        name = self.random.choice([b"LPUSH", b"RPUSH", b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"])
        return [name, self.key()] + [self.value() for _ in range(self.random.choice([1, 1, 2, 3, 20]))]

    def pop(self):
        name = self.random.choice([b"LPOP", b"RPOP"])
        return [name, self.key()] + ([] if self.chance(0.6) else [self.random.choice([self.index(), b"0", b"3", b"50"])])

    def change(self):
        return self.random.choice([
            lambda: [b"LSET", self.key(), self.index(), self.value()],
            lambda: [b"LINSERT", self.key(), self.random.choice([b"BEFORE", b"after", b"NEAR"]), self.value(), self.value()],
            lambda: [b"LREM", self.key(), self.index(), self.value()],
            lambda: [b"LTRIM", self.key(), self.index(), self.index()],
        ])()

    def move(self):
        if self.chance(0.3):
            return [b"RPOPLPUSH", self.key(), self.key()]
        return [b"LMOVE", self.key(), self.key(), self.end(), self.end()]

    def mpop(self):
        count = self.random.randrange(1, 4)
        keys = [self.key() for _ in range(count)]
        number = b"%d" % count if self.chance(0.9) else self.random.choice([b"0", b"-1", b"x", b"5", b"9223372036854775807"])
        command = [b"LMPOP", number, *keys, self.end()]
        while self.chance(0.3):
            command += self.option(b"COUNT", b"1", b"2", b"50", b"0", b"-1", b"x") if self.chance(0.9) else [b"COUNT"]
        return command

    def position(self):
        command = [b"LPOS", self.key(), self.value()]
        while self.chance(0.4):
            command += self.random.choice([
                self.option(b"RANK", b"1", b"2", b"-1", b"-2", b"0", b"x", b"-9223372036854775807"),
                self.option(b"COUNT", b"0", b"1", b"2", b"100", b"-1", b"x"),
                self.option(b"MAXLEN", b"0", b"1", b"3", b"100", b"-1", b"x"), [b"RANK"], [b"BOGUS", b"1"]])
        return command

    def read(self):
        return self.random.choice([
            lambda: [b"LLEN", self.key()], lambda: [b"LINDEX", self.key(), self.index()],
            lambda: [b"LRANGE", self.key(), self.index(), self.index()], lambda: [b"LRANGE", self.key(), b"0", b"-1"],
            self.position])()

    def key_command(self):
        return self.random.choice([
            lambda: [b"DEL", self.key()], lambda: [b"RENAME", self.key(), self.key()],
            lambda: [b"COPY", self.key(), self.key(), b"REPLACE"], lambda: [b"TYPE", self.key()], lambda: [b"GET", self.key()],
            lambda: [b"EXPIRE", self.key(), b"100000"], lambda: [b"PEXPIRE", self.key(), b"-1"], lambda: [b"EXISTS", self.key()],
            lambda: [b"SET", b"string", b"value"], lambda: [b"DUMP", b"nothing"]])()

    def command(self):
        maker = self.random.choices([self.push, self.pop, self.change, self.move, self.mpop, self.read, self.key_command],
                                    [30, 16, 16, 8, 4, 22, 4])[0]
        command = maker()
        if self.chance(0.01):
            command = command[:-1]
        elif self.chance(0.01):
            command.append(self.value())
        return command


def content(client):
    return {key: client.call("LRANGE", key, "0", "-1") for key in sorted(client.call("KEYS", "*")) if key != b"string"}


def run_stream(server, oracle, seed, batches):
    lists = Lists(seed)
    pairs = [(server.raw(), oracle.raw()) for _ in range(2)]
    for one in pairs[1]:
        one.call("HELLO", "3")
    for batch in range(batches):
        if batch % 100 == 0:
            size = lists.random.choice(["-2", "-1", "-5", "3", "20", "0", "128"])
            for one in pairs[0]:
                assert one.call("CONFIG", "SET", "list-max-listpack-size", size) == "OK"
            debugging.check_structures(pairs[0][0])
        ours, theirs = lists.random.choice(pairs)
        commands = [lists.command() for _ in range(lists.random.choice([1, 2, 5, 20]))]
        if lists.chance(0.1):
            commands = [[b"MULTI"], *commands, [b"EXEC"]]
        for one in (ours, theirs):
            one.send(b"".join(encode_command(*command) for command in commands))
        for command in commands:
            replies = [one.read_both()[1] for one in (ours, theirs)]
            assert replies[0] == replies[1], f"seed {seed}, batch {batch}: {command!r:.300}\n{replies[0]!r:.600}\n{replies[1]!r:.600}"
    assert content(pairs[0][0]) == content(pairs[0][1])
    digests = [one.call("DEBUG", "DIGEST") for one in (server, oracle)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("number", range(2))
def test_stream(threaded_server, oracle, number):
    run_stream(threaded_server, oracle, BASE_SEED * 1000 + number, harness.scaled(700))


@pytest.mark.smoke
def test_short_stream(server, oracle):
    run_stream(server, oracle, BASE_SEED * 1000 + 999, harness.scaled(600))


def test_large_list(server, oracle):
    """Many leaves: what is found, inserted, trimmed and moved in the middle of them."""
    generator = random.Random(BASE_SEED)
    clients = [server.raw(), oracle.raw()]
    values = [b"%d:%s" % (i, b"v" * (i % 40)) for i in range(harness.scaled(20000))]
    count = len(values)

    def both(*command):
        replies = [client.call_raw(*command) for client in clients]
        assert replies[0] == replies[1], f"{command!r:.200}\n{replies[0]!r:.300}\n{replies[1]!r:.300}"

    for at in range(0, count, 500):
        both("RPUSH" if at % 1000 else "LPUSH", "large", *values[at:at + 500])
    for _ in range(80):
        at, value = generator.randrange(-count, count), generator.choice(values)
        both("LINDEX", "large", at)
        both("LRANGE", "large", at, at + generator.randrange(300))
        both("LINSERT", "large", generator.choice(["BEFORE", "AFTER"]), value, b"y" * generator.choice([1, 50, 3000]))
        both("LSET", "large", at, generator.choice([b"", b"z" * 2000, b"12"]))
        both("LREM", "large", generator.choice([0, 1, -1]), generator.choice(values))
        both("LMOVE", "large", "other", "LEFT", "RIGHT")
        both("LPOS", "large", value, "RANK", generator.choice([1, -1]))
    both("LTRIM", "large", count // 3, -count // 4)
    both("LREM", "large", 0, b"")
    both("LRANGE", "large", 0, -1)
    both("LTRIM", "large", 1, 0)
    both("EXISTS", "large")


def test_encodings(server):
    """The names and the points of conversion of 7.2, which the stock server here has not."""
    client = server.raw()

    def encoding():
        return client.call("OBJECT", "ENCODING", "k")

    assert client.call("RPUSH", "k", *[b"x" * 98] * 81) == 81  # 7 + 81 * 101 is 8188, and each 98 was looked at before
    assert encoding() == b"listpack"
    client.call("RPUSH", "k", b"x" * 98)
    assert encoding() == b"quicklist"
    client.call("LPOP", "k", 42)
    assert encoding() == b"listpack"
    client.call("CONFIG", "SET", "list-max-listpack-size", "3")
    client.call("DEL", "k")
    client.call("RPUSH", "k", "a", "b", "c")
    assert encoding() == b"listpack"
    client.call("LINSERT", "k", "BEFORE", "b", "x")
    assert encoding() == b"quicklist"
    client.call("COPY", "k", "k2")
    assert client.call("OBJECT", "ENCODING", "k2") == b"quicklist"
    client.call("LREM", "k", "0", "x")
    assert encoding() == b"quicklist"
    client.call("LTRIM", "k", "0", "0")
    assert encoding() == b"listpack"
    client.call("RPUSH", "k", b"x" * 9000)
    assert encoding() == b"quicklist"


def test_rank_that_has_no_opposite(server):
    reply = server.raw().call_raw("LPOS", "k", "x", "RANK", "-9223372036854775808")
    assert reply == b"-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n"


def test_memory_and_deletion(server):
    client = server.raw()
    before = int(server.info("memory")["used_memory"])
    for key in range(5):
        for _ in range(20):
            client.call("RPUSH", f"k{key}", *[b"v" * 100] * 500)
        client.call("RPUSH", f"k{key}", b"y" * 5000)
    usage = client.call("MEMORY", "USAGE", "k0")
    assert 10_000 * 100 < usage < 10_000 * 115
    client.call("COPY", "k0", "copy")
    client.call("UNLINK", "k0", "copy", "k1")
    client.call("SET", "k2", "x")
    client.call("LTRIM", "k3", "1", "0")
    client.call("FLUSHALL")
    harness.wait_until(lambda: int(server.info("memory")["used_memory"]) < before + 300_000, what="the memory coming back")


def notifications(one, commands):
    listener, client = one.raw(), one.raw()
    one.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
    listener.call("PSUBSCRIBE", "__key*__:*")
    for command in commands:
        client.call_raw(*command)
    client.call("PUBLISH", "__keyend__:", "end")
    told = []
    while not told or told[-1][2] != b"__keyend__:":
        told.append(listener.read())
    return told


def test_notifications(server, oracle):
    commands = [("RPUSH", "a", "1", "2", "3"), ("LPUSHX", "none", "1"), ("LPUSHX", "a", "0"), ("LMOVE", "a", "b", "LEFT", "RIGHT"),
                ("LMOVE", "a", "a", "LEFT", "RIGHT"), ("RPOPLPUSH", "b", "a"), ("LTRIM", "a", "0", "-1"), ("LTRIM", "a", "0", "1"),
                ("LTRIM", "none", "0", "1"), ("LSET", "a", "0", "x"), ("LINSERT", "a", "BEFORE", "x", "y"),
                ("LINSERT", "a", "BEFORE", "none", "y"), ("LREM", "a", "0", "none"), ("LREM", "a", "0", "x"), ("LPOP", "a", "0"),
                ("LPOP", "a", "10"), ("LPUSH", "c", "1", "2"), ("LMPOP", "2", "none", "c", "LEFT", "COUNT", "2"), ("LPUSH", "d", "1"),
                ("LREM", "d", "1", "1"), ("LPUSH", "d", "1"), ("LTRIM", "d", "1", "0"), ("LPUSH", "d", "1"), ("RPOP", "d")]
    assert notifications(server, commands) == notifications(oracle, commands)


def test_counted(server, oracle):
    """How many changes each command is."""
    for command in (("RPUSH", "k", "1", "2", "3", "4", "5", "6"), ("LMOVE", "k", "t", "LEFT", "LEFT"), ("LMOVE", "k", "k", "LEFT", "RIGHT"),
                    ("RPOPLPUSH", "k", "t"), ("BLMOVE", "k", "t", "LEFT", "LEFT", "0"), ("LTRIM", "k", "1", "1"), ("LTRIM", "k", "0", "-1"),
                    ("LREM", "t", "0", "none"), ("LINSERT", "t", "AFTER", "1", "x"), ("LSET", "t", "0", "y"), ("LPOP", "t", "2"), ("LPOP", "k")):
        counts = []
        for one in (server, oracle):
            before = int(one.info("persistence")["rdb_changes_since_last_save"])
            one.call(*command)
            counts.append(int(one.info("persistence")["rdb_changes_since_last_save"]) - before)
        assert counts[0] == counts[1], command


def test_watched(server, oracle):
    """What makes the transaction of who watches a list fail, and what does not."""
    for command in (("LTRIM", "k", "0", "-1"), ("LREM", "k", "0", "none"), ("LPOP", "k", "0"), ("LSET", "k", "0", "a"),
                    ("LMOVE", "k", "k", "LEFT", "RIGHT"), ("LPUSHX", "none", "x"), ("LMPOP", "1", "k", "LEFT")):
        replies = []
        for one in (server, oracle):
            watcher, client = one.raw(), one.raw()
            client.call("DEL", "k")
            client.call("RPUSH", "k", *["a"] * 300)
            watcher.call("WATCH", "k")
            client.call_raw(*command)
            watcher.call("MULTI")
            replies.append(watcher.call_raw("EXEC"))
        assert replies[0] == replies[1], command
