"""Times to live of hash fields, as Redis 7.4 has them: replies and errors, a random stream against a model, what is told and
logged, the expiry duty, RDB and DUMP, replicas."""

import os
import random
import time

import pytest

import harness
from collections_stream import collect_events, scan_all
from harness import wait_until
from rdbfile import sign
from replication import follow, in_step, stock_primary, wait_link_up
from resp import ReplyError

SMOKE = True
pytestmark = pytest.mark.slotwise

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
LATER = 4_000_000_000_000  # ms
LATEST = (1 << 46) - 1
KINDS = ["listpackex", "hashtable"]


def limit(client, kind):
    """Hashes are of this encoding from now on."""
    assert client.call("CONFIG", "SET", "hash-max-listpack-entries", 0 if kind == "hashtable" else 128) == "OK"


@pytest.fixture(name="lazy", params=KINDS)
def _lazy(client, request):
    """Nothing expires by itself; of each encoding."""
    limit(client, request.param)
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    client.kind = request.param
    yield client
    limit(client, "listpackex")
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def now_ms(client):
    seconds, microseconds = client.call("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def let_expire(client, key, *fields):
    """These fields get a time to live, and it is over."""
    assert client.call("HPEXPIRE", key, 1, "FIELDS", len(fields), *fields) == [1] * len(fields)
    over = client.call("HPEXPIRETIME", key, "FIELDS", 1, fields[0])[0]
    over = now_ms(client) + 1 if over < 0 else over
    wait_until(lambda: now_ms(client) > over, interval=0.001)


def times(client, key, *fields):
    return client.call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)


def stat(client, name):
    return int(harness.parse_info(client.call("INFO", "everything"))[name])


def subexpiry(client, database=0):
    line = harness.parse_info(client.call("INFO", "keyspace")).get(f"db{database}", "subexpiry=0")
    return int(line.rpartition("subexpiry=")[2])


# --- Replies --------------------------------------------------------------------------------------------------------------


def test_replies(lazy):
    call = lazy.call
    for name, when in ("HEXPIRE", 100), ("HPEXPIRE", 100_000), ("HEXPIREAT", LATER // 1000), ("HPEXPIREAT", LATER):
        assert call(name, "nothing", when, "FIELDS", 2, "a", "b") == [-2, -2]
        call("HSET", "h", "a", 1, "b", 2)
        assert call(name, "h", when, "FIELDS", 3, "a", "none", "a") == [1, -2, 1]
        assert call("HTTL", "h", "FIELDS", 3, "a", "b", "none")[1:] == [-1, -2]
        assert call("OBJECT", "ENCODING", "h").decode() == lazy.kind
        assert isinstance(call("DEBUG", "HTSTATS-KEY", "h"), ReplyError) == (lazy.kind == "listpackex")
        assert subexpiry(lazy) == 1
        assert call("DEL", "h") == 1
        assert subexpiry(lazy) == 0
    for name in "HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST":
        assert call(name, "nothing", "FIELDS", 2, "a", "b") == [-2, -2]
    call("HSET", "h", "a", 1, "b", 2)
    assert call("HPEXPIREAT", "h", LATER + 1, "fields", 1, "a") == [1]
    assert times(lazy, "h", "a", "b") == [LATER + 1, -1]
    assert call("HEXPIRETIME", "h", "FIELDS", 1, "a") == [LATER // 1000 + 1], "rounded up"
    left_ms, left_s = call("HPTTL", "h", "FIELDS", 1, "a")[0], call("HTTL", "h", "FIELDS", 1, "a")[0]
    assert 0 <= LATER - now_ms(lazy) - left_ms + 1 or left_ms <= left_s * 1000
    assert call("HPERSIST", "h", "FIELDS", 3, "a", "b", "none") == [1, -1, -2]
    assert times(lazy, "h", "a") == [-1]
    assert call("OBJECT", "ENCODING", "h").decode() == lazy.kind, "which it stays"


def test_conditions(lazy):
    call = lazy.call

    def expire(when, condition, *fields):
        return call("HPEXPIREAT", "h", when, condition, "FIELDS", len(fields), *fields)

    call("HSET", "h", *"a 1 b 2 c 3".split())
    assert expire(LATER, "XX", "a") == [0] and expire(LATER, "GT", "a") == [0]
    assert expire(LATER, "nx", "a", "b") == [1, 1] and expire(LATER, "NX", "a", "c") == [0, 1]
    assert expire(LATER, "GT", "a") == [0] and expire(LATER, "LT", "a") == [0]
    assert expire(LATER + 1, "gt", "a") == [1] and expire(LATER - 1, "lt", "a") == [1]
    call("HPERSIST", "h", "FIELDS", 1, "b")
    assert expire(LATER - 2, "LT", "a", "b") == [1, 1]
    assert expire(LATER, "xx", "a", "none") == [1, -2]
    # In the past: gone, if the condition holds.
    assert expire(1, "NX", "a", "b") == [0, 0] and expire(1, "XX", "a", "a", "none") == [2, -2, -2]
    assert call("HGETALL", "h") == [b"b", b"2", b"c", b"3"] or call("HKEYS", "h") == [b"c", b"b"]
    assert call("HEXPIREAT", "h", 0, "FIELDS", 2, "b", "c") == [2, 2] and call("EXISTS", "h") == 0


def test_errors(lazy):
    call = lazy.call
    call("HSET", "h", "a", 1)
    call("SET", "s", 1)
    missing = "ERR Mandatory argument FIELDS is missing or not at the right position"
    number = "ERR Parameter `numFields` should be greater than 0"
    count = "ERR The `numfields` parameter must match the number of arguments"
    positive = "ERR Number of fields must be a positive integer"
    bad = [
        (("HEXPIRE", "h", -1, "FIELDS", 1, "a"), "ERR invalid expire time, must be >= 0"),
        (("HEXPIRE", "h", "x", "FIELDS", 1, "a"), "ERR value is not an integer or out of range"),
        (("HEXPIRE", "h", (1 << 46) // 1000 + 1, "FIELDS", 1, "a"), "ERR invalid expire time in 'hexpire' command"),
        (("HEXPIRE", "h", (1 << 63) - 1, "FIELDS", 1, "a"), "ERR invalid expire time in 'hexpire' command"),
        (("HPEXPIRE", "h", LATEST, "FIELDS", 1, "a"), "ERR invalid expire time in 'hpexpire' command"),
        (("HPEXPIREAT", "h", LATEST + 1, "FIELDS", 1, "a"), "ERR invalid expire time in 'hpexpireat' command"),
        (("HEXPIRE", "h", 1, "FIELD", 1, "a"), missing), (("HEXPIRE", "h", 1, "ZZ", "FIELDS", 1, "a"), missing),
        (("HEXPIRE", "h", 1, "NX", "XX", "FIELDS", 1, "a"), missing),
        (("HEXPIRE", "h", 1, "FIELDS", 0, "a"), number), (("HEXPIRE", "h", 1, "FIELDS", "x", "a"), number),
        (("HEXPIRE", "h", 1, "FIELDS", 2, "a"), count), (("HEXPIRE", "nothing", 1, "NX", "FIELDS", 2, "a"), count),
        (("HEXPIRE", "h", 1, "FIELDS", 1), "ERR wrong number of arguments for 'hexpire' command"),
        (("HEXPIRE", "h", 1, "NX", "FIELDS", 1), count),
        (("HTTL", "h", "FIELDS", 0, "a"), positive), (("HPERSIST", "h", "FIELDS", "x", "a"), positive),
        (("HTTL", "h", "FIELDS", 2, "a"), count), (("HPERSIST", "h", "FIELDS", 1, "a", "b"), count),
        (("HPTTL", "nothing", "X", 1, "a"), missing), (("HPERSIST", "h", "FIELDS", 1), "ERR wrong number of arguments for 'hpersist' command"),
    ]
    for command, text in bad:
        assert call(*command) == ReplyError(text), command
    wrong_type = ReplyError("WRONGTYPE Operation against a key holding the wrong kind of value")
    for name in "HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT":
        assert call(name, "s", -1, "FIELDS", 0, "a") == wrong_type, "which comes first"
    for name in "HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST":
        assert call(name, "s", "FIELDS", 0, "a") == wrong_type
    assert call("HPEXPIREAT", "h", LATEST, "FIELDS", 1, "a") == [1] and times(lazy, "h", "a") == [LATEST]


def test_of_what_is_over(lazy):
    """Single fields that are asked for are removed; commands that go over many pass over them; HLEN, HDEL and HSET see them."""
    call = lazy.call

    def again(*over):
        call("DEL", "h")
        call("HSET", "h", *"a 1 b 2 c 3".split())
        let_expire(lazy, "h", *over)
        call("CONFIG", "RESETSTAT")

    again("a")
    assert call("HLEN", "h") == 3 and call("HTTL", "h", "FIELDS", 2, "a", "b") == [-2, -1]
    assert sorted(call("HKEYS", "h")) == [b"b", b"c"] and sorted(call("HVALS", "h")) == [b"2", b"3"]
    assert len(call("HGETALL", "h")) == 4 and sorted(scan_all(lazy, "HSCAN", "h")) == [b"2", b"3", b"b", b"c"]
    call("RPUSH", "l", "a", "b")
    assert call("SORT", "l", "BY", "nosort", "GET", "h->*") and call("SORT", "l", "ALPHA", "GET", "#", "GET", "h->*")[0] == b"a"
    call("HSET", "by", "x", 1)
    call("DEL", "l")
    call("RPUSH", "l", "h")
    assert call("SORT", "l", "GET", "*->a", "GET", "*->b", "BY", "nosort") == [None, b"2"]
    assert stat(lazy, "expired_subkeys") == 0 and call("HLEN", "h") == 3
    for read in ("HGET", "h", "a"), ("HEXISTS", "h", "a"), ("HSTRLEN", "h", "a"), ("HMGET", "h", "a", "a"), ("HRANDFIELD", "h"):
        again("a")
        assert call(*read) in (None, 0, [None, None], b"b", b"c"), read
        assert call("HLEN", "h") == 2 and stat(lazy, "expired_subkeys") == 1, read
    again("a", "b")
    assert call("HRANDFIELD", "h", 5) == [b"c"] and stat(lazy, "expired_subkeys") == 2
    again("a", "b", "c")
    assert call("HMGET", "h", "a", "b", "c") == [None] * 3 and call("EXISTS", "h") == 0
    again("a", "b", "c")
    assert call("HRANDFIELD", "h") is None and call("EXISTS", "h") == 0
    again("a", "b", "c")
    assert call("EXISTS", "h") == 1 and call("HDEL", "h", "a", "b", "c") == 3 and stat(lazy, "expired_subkeys") == 0
    again("a", "b", "c")
    assert call("HSET", "h", "a", "new") == 0 and call("HGET", "h", "a") == b"new" and times(lazy, "h", "a") == [-1]
    assert call("HSETNX", "h", "b", "new") == 1 and call("HINCRBY", "h", "c", 5) == 5 and times(lazy, "h", "b", "c") == [-1, -1]
    again("a", "b", "c")
    assert call("HINCRBYFLOAT", "h", "a", 2) == b"2" and call("HEXPIRE", "h", 10, "FIELDS", 2, "b", "a") == [-2, 1]
    assert call("HPERSIST", "h", "FIELDS", 2, "c", "a") == [-2, 1] and call("HGETALL", "h") == [b"a", b"2"]


def test_what_keeps_a_time_and_what_does_not(lazy):
    call = lazy.call
    call("HSET", "h", *"a 1 b 2 c 3 d 4".split())
    call("HPEXPIREAT", "h", LATER, "FIELDS", 4, *"abcd")
    call("HINCRBY", "h", "a", 1)
    call("HINCRBYFLOAT", "h", "b", 1)
    call("HSET", "h", "c", 9)
    assert call("HSETNX", "h", "d", 9) == 0
    assert times(lazy, "h", *"abcd") == [LATER, LATER, -1, LATER]
    call("HDEL", "h", "a")
    call("HSET", "h", "a", 5)
    assert times(lazy, "h", "a") == [-1]
    assert call("COPY", "h", "copy") == 1 and call("RENAME", "h", "i") == "OK"
    assert call("HPERSIST", "i", "FIELDS", 1, "b") == [1], "of which the copy sees nothing"
    assert times(lazy, "i", *"abcd") == [-1, -1, -1, LATER] and times(lazy, "copy", *"abcd") == [-1, LATER, -1, LATER]
    assert call("MOVE", "i", 5) == 1 and (subexpiry(lazy, 0), subexpiry(lazy, 5)) == (1, 1)
    call("SWAPDB", 5, 6)
    call("SELECT", 6)
    assert times(lazy, "i", "d") == [LATER] and (subexpiry(lazy, 5), subexpiry(lazy, 6)) == (0, 1)
    payload = call("DUMP", "i")
    assert int.from_bytes(payload[-10:-8], "little") == 12
    assert call("RESTORE", "j", 0, payload) == "OK" and times(lazy, "j", "a", "d") == [-1, LATER]
    assert call("PEXPIREAT", "j", LATER) == 1 and subexpiry(lazy, 6) == 2 and times(lazy, "j", "d") == [LATER]
    assert call("PERSIST", "j") == 1 and call("HPERSIST", "j", "FIELDS", 1, "d") == [1] and subexpiry(lazy, 6) == 1
    assert int.from_bytes(call("DUMP", "j")[-10:-8], "little") == 10
    call("FLUSHDB")
    assert subexpiry(lazy, 6) == 0
    call("SELECT", 0)


# --- A model --------------------------------------------------------------------------------------------------------------


class Model:
    """Hashes as they should be: key -> field -> [value, time in ms or None]; a time of 0 is over."""

    def __init__(self, client, seed):
        self.client = client
        self.random = random.Random(seed)
        self.keys = {}

    def remove_over(self, key, fields):
        table = self.keys.get(key, {})
        for field in fields:
            if table.get(field, ("", None))[1] == 0:
                del table[field]
        self.drop_empty(key)

    def drop_empty(self, key):
        if not self.keys.get(key, True):
            del self.keys[key]

    def shown(self, key):
        return {field: entry for field, entry in self.keys.get(key, {}).items() if entry[1] != 0}

    def ask(self, expected, *command):
        reply = self.client.call(*command)
        assert reply == expected, (command, reply, expected)

    def step(self):
        pick = self.random
        key = f"h{pick.randrange(4)}"
        fields = [f"f{pick.randrange(14)}" for _ in range(pick.choice([1, 1, 2, 4]))]
        pick.choice([self.read, self.read, self.put, self.put, self.count, self.delete, self.set_if_new, self.expire, self.expire, self.expire,
                     self.let_expire, self.persist, self.list_all, self.pick_random, self.move])(key, fields)

    def put(self, key, fields):
        table = self.keys.setdefault(key, {})
        new = len({field for field in fields if field not in table})
        values = [str(self.random.randrange(1000)) * self.random.choice([1, 1, 1, 30]) for _ in fields]
        table.update((field, [value.encode(), None]) for field, value in zip(fields, values))
        self.ask(new, "HSET", key, *[word for pair in zip(fields, values) for word in pair])

    def read(self, key, fields):
        self.remove_over(key, fields)
        table = self.keys.get(key, {})
        self.ask([table.get(field, [None])[0] for field in fields], "HMGET", key, *fields)
        self.ask(len(table), "HLEN", key)

    def count(self, key, fields):
        field = fields[0]
        self.remove_over(key, [field])
        entry = self.keys.get(key, {}).get(field, [b"0", None])
        if len(entry[0]) < 10:
            entry = [b"%d" % (int(entry[0]) + 7), entry[1]]
            self.keys.setdefault(key, {})[field] = entry
            self.ask(int(entry[0]), "HINCRBY", key, field, 7)

    def set_if_new(self, key, fields):
        self.remove_over(key, fields[:1])
        table = self.keys.setdefault(key, {})
        new = fields[0] not in table
        if new:
            table[fields[0]] = [b"5", None]
        self.ask(int(new), "HSETNX", key, fields[0], "5")

    def delete(self, key, fields):
        table = self.keys.get(key, {})
        gone = sum(table.pop(field, None) is not None for field in fields)
        self.drop_empty(key)
        self.ask(gone, "HDEL", key, *fields)

    def expire(self, key, fields):
        self.remove_over(key, fields)
        table, replies = self.keys.get(key, {}), []
        condition = self.random.choice([None, None, "NX", "XX", "GT", "LT"])
        when = self.random.choice([LATER, LATER + self.random.randrange(100), 1])
        for field in fields:
            if field not in table:
                replies.append(-2)
                continue
            old = table[field][1]
            holds = {None: True, "NX": old is None, "XX": old is not None, "GT": old is not None and when > old,
                     "LT": old is None or when < old}[condition]
            replies.append(0 if not holds else 2 if when == 1 else 1)
            if holds and when == 1:
                del table[field]
            elif holds:
                table[field][1] = when
        self.drop_empty(key)
        self.ask(replies, "HPEXPIREAT", key, when, *([condition] if condition else []), "FIELDS", len(fields), *fields)

    def let_expire(self, key, fields):
        fields = [field for field in dict.fromkeys(fields) if field in self.shown(key)]
        if fields and self.random.random() < 0.5:
            let_expire(self.client, key, *fields)
            for field in fields:
                self.keys[key][field][1] = 0

    def persist(self, key, fields):
        self.remove_over(key, fields)
        table, replies = self.keys.get(key, {}), []
        for field in fields:
            entry = table.get(field)
            replies.append(-2 if entry is None else -1 if entry[1] is None else 1)
            if entry:
                entry[1] = None
        self.ask(replies, "HPERSIST", key, "FIELDS", len(fields), *fields)

    def list_all(self, key, _fields):
        shown = self.shown(key)
        reply = self.client.call("HGETALL", key)
        assert dict(zip(reply[::2], reply[1::2])) == {field.encode(): entry[0] for field, entry in shown.items()}
        assert len(reply) == 2 * len(shown)
        assert sorted(scan_all(self.client, "HSCAN", key, "COUNT", "3")) == sorted(reply)

    def pick_random(self, key, _fields):
        self.remove_over(key, list(self.keys.get(key, {})))
        shown = self.shown(key)
        reply = self.client.call("HRANDFIELD", key, 5)
        assert len(set(reply)) == len(reply) == min(5, len(shown)) and {field.decode() for field in reply} <= shown.keys()

    def move(self, key, fields):
        other = f"h{self.random.randrange(4)}"
        if key not in self.keys or key == other:
            return
        kind = self.random.randrange(3)
        if kind == 0:
            self.ask("OK", "RENAME", key, other)
            self.keys[other] = self.keys.pop(key)
        else:
            self.keys[other] = {field: list(entry) for field, entry in self.keys[key].items()}
            if kind == 1:
                self.ask(1, "COPY", key, other, "REPLACE")
            else:
                self.ask("OK", "RESTORE", other, 0, self.client.call("DUMP", key), "REPLACE")

    def compare(self, client):
        assert sorted(client.call("KEYS", "*")) == sorted(key.encode() for key in self.keys)
        for key, table in self.keys.items():
            shown = self.shown(key)
            assert client.call("HLEN", key) == len(table)
            reply = client.call("HGETALL", key)
            assert dict(zip(reply[::2], reply[1::2])) == {field.encode(): entry[0] for field, entry in shown.items()}
            names = list(table)
            expected = [-2 if table[name][1] == 0 else -1 if table[name][1] is None else table[name][1] for name in names]
            assert times(client, key, *names) == expected
        assert client.call("DEBUG", "CHECK") == "OK"
        timed = sum(any(entry[1] is not None for entry in table.values()) for table in self.keys.values())
        assert subexpiry(client) == timed


@pytest.mark.parametrize("limit_entries", [0, 6, 128])
def test_model(start, limit_entries):
    """A random stream; a replica has the same at the end, and so has a server that has saved and loaded it."""
    server = start({"hash-max-listpack-entries": str(limit_entries), "hash-max-listpack-value": "40", "repl-diskless-sync-delay": "0"},
                   threads=2)
    replica = start({"replicaof": ("127.0.0.1", server.port), "hash-max-listpack-entries": str(limit_entries)})
    client, reader = server.raw(), replica.raw()
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    wait_link_up(replica)
    model = Model(client, BASE_SEED * 1000 + limit_entries)
    for number in range(harness.scaled(1500)):
        model.step()
        if number % 500 == 200:
            assert client.call("DEBUG", "RELOAD") == "OK"
        if number % 100 == 99:
            model.compare(client)
            wait_until(lambda: in_step(server, replica))
            model.compare(reader)
            assert reader.call("DEBUG", "DIGEST") == client.call("DEBUG", "DIGEST")
    # The duty removes what is over, here and there.
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    for key in list(model.keys):
        model.remove_over(key, list(model.keys[key]))
    wait_until(lambda: subexpiry(client) == sum(any(entry[1] for entry in table.values()) for table in model.keys.values()) and
               all(client.call("HLEN", key) == len(table) for key, table in model.keys.items()))
    model.compare(client)
    wait_until(lambda: in_step(server, replica))
    model.compare(reader)


# --- What is told and logged ----------------------------------------------------------------------------------------------


def test_events(lazy, shared):
    call = lazy.call
    call("CONFIG", "SET", "notify-keyspace-events", "EA")
    events = collect_events(shared.raw())
    call("HSET", "h", *"a 1 b 2 c 3 d 4".split())
    call("HEXPIRE", "h", 100, "FIELDS", 2, "a", "none")
    call("HEXPIRE", "h", 100, "NX", "FIELDS", 1, "a")
    call("HPERSIST", "h", "FIELDS", 2, "a", "b")
    call("HPERSIST", "h", "FIELDS", 1, "a")
    call("HEXPIREAT", "h", 1, "FIELDS", 1, "a")
    let_expire(lazy, "h", "b", "c")
    call("HMGET", "h", "b", "c")
    let_expire(lazy, "h", "d")
    call("HGET", "h", "d")
    call("HSET", "i", "a", 1)
    call("HEXPIREAT", "i", 1, "FIELDS", 1, "a")
    call("HSET", "j", "a", 1)
    let_expire(lazy, "j", "a")
    call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_until(lambda: call("EXISTS", "j") == 0)
    expected = ["hset h", "hexpire h", "hpersist h", "hdel h", "hexpire h", "hexpired h", "hexpire h", "hexpired h", "del h",
                "hset i", "hdel i", "del i", "hset j", "hexpire j", "hexpired j", "del j"]
    assert [f"{event} {key.decode()}" for event, key in events(lazy)] == expected
    call("CONFIG", "SET", "notify-keyspace-events", "")


def test_transactions_watch_fields_expire(lazy, shared):
    """A watched hash has changed when a field of it has gone; within a transaction time stands still."""
    other = shared.raw()
    lazy.call("HSET", "h", "a", 1, "b", 2)
    let_expire(lazy, "h", "a")
    other.call("WATCH", "h")
    assert lazy.call("HGET", "h", "a") is None
    other.call("MULTI")
    other.call("PING")
    assert other.call("EXEC") is None
    changes = stat(lazy, "rdb_changes_since_last_save")
    let_expire(lazy, "h", "b")
    assert lazy.call("HGET", "h", "b") is None and lazy.call("EXISTS", "h") == 0
    assert stat(lazy, "rdb_changes_since_last_save") == changes + 1, "HPEXPIRE is one, and what goes by itself is none"


def test_logged(start, oracle):
    """What a replica is told: absolute times, the fields that were changed alone, HDEL for those that are over. A stock replica knows
    no field times: it says so, goes on, and has the same fields once they are over."""
    primary = start({"repl-diskless-sync-delay": "0"}, threads=1)
    client = primary.raw()
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    follow(oracle, primary.port)
    wait_link_up(oracle)
    monitor = oracle.raw()
    monitor.call("MONITOR")
    client.call("HSET", "h", *"a 1 b 2 c 3 d 4 e 1".split())
    client.call("HEXPIRE", "h", 100, "FIELDS", 1, "none")
    client.call("HEXPIREAT", "h", LATER // 1000, "NX", "FIELDS", 3, "a", "none", "b")
    client.call("HPEXPIREAT", "h", LATER + 5, "FIELDS", 1, "b")
    client.call("HINCRBYFLOAT", "h", "b", "0.5")
    client.call("HEXPIREAT", "h", 1, "FIELDS", 2, "c", "none")
    let_expire(client, "h", "d")
    client.call("HINCRBY", "h", "d", 1)
    client.call("HPERSIST", "h", "FIELDS", 2, "a", "d")
    let_expire(client, "h", "e")
    client.call("HGET", "h", "e")
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    client.call("SET", "end", "1")
    told = []
    while not told or '"end"' not in told[-1]:
        line = str(monitor.read())
        if '"PING"' not in line.upper():
            told.append(line.partition("] ")[2].lower())
    told = [line.replace('"', "") for line in told]
    known = [line for line in told if line.split()[0] in ("hset", "hdel", "hincrby", "hincrbyfloat")]
    assert known == ["hset h a 1 b 2 c 3 d 4 e 1", "hincrbyfloat h b 0.5", "hdel h c", "hdel h d", "hincrby h d 1", "hdel h e"]
    wait_until(lambda: in_step(primary, oracle))
    assert oracle.call("HGETALL", "h") == [b"a", b"1", b"b", b"2.5", b"d", b"1"]
    assert oracle.info("replication")["master_link_status"] == "up"


def test_replica_hides_and_removes_nothing(start):
    primary = start({"repl-diskless-sync-delay": "0"}, threads=2)
    client = primary.raw()
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    client.call("HSET", "before", "a", 1, "b", 2)
    client.call("HPEXPIREAT", "before", LATER, "FIELDS", 1, "a")
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    reader = replica.raw()
    wait_link_up(replica)
    assert times(reader, "before", "a", "b") == [LATER, -1]
    client.call("HSET", "h", *"a 1 b 2 c 3".split())
    let_expire(client, "h", "a", "b")
    wait_until(lambda: in_step(primary, replica))
    wait_until(lambda: reader.call("HGET", "h", "a") is None)
    assert reader.call("HMGET", "h", "a", "b", "c") == [None, None, b"3"] and reader.call("HLEN", "h") == 3
    assert reader.call("HGETALL", "h") == [b"c", b"3"] and reader.call("HTTL", "h", "FIELDS", 1, "a") == [-2]
    assert reader.call("HRANDFIELD", "h") == b"c" and reader.call("HRANDFIELD", "h", 3) == [b"c"]
    assert reader.call("HRANDFIELD", "h", -3, "WITHVALUES") == [b"c", b"3"] * 3
    assert scan_all(reader, "HSCAN", "h") == [b"c", b"3"] and stat(reader, "expired_subkeys") == 0
    assert reader.call("DEBUG", "DIGEST") == client.call("DEBUG", "DIGEST")
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    wait_until(lambda: reader.call("HLEN", "h") == 1)
    wait_until(lambda: in_step(primary, replica))
    assert reader.call("DEBUG", "DIGEST") == client.call("DEBUG", "DIGEST")
    # It becomes a primary, and expires them itself.
    client.call("HSET", "h", "a", 1)
    client.call("HPEXPIRE", "h", 300, "FIELDS", 1, "a")
    wait_until(lambda: in_step(primary, replica))
    reader.call("REPLICAOF", "NO", "ONE")
    wait_until(lambda: reader.call("HLEN", "h") == 1)


# --- The duty -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_duty_finds_what_is_due(any_server, kind):
    """Few among many hashes, many among the fields of one, and all; the hash goes with its last field."""
    client = any_server.raw()
    limit(client, kind)
    for number in range(harness.scaled(1500)):
        client.call("HSET", f"later{number}", "a", 1)
        client.call("HPEXPIREAT", f"later{number}", LATER, "FIELDS", 1, "a")
    client.call("HSET", "large", *[word for i in range(3000) for word in (f"f{i}", i)])
    client.call("HPEXPIRE", "large", 100, "FIELDS", 2900, *[f"f{i}" for i in range(2900)])
    client.call("HPEXPIREAT", "large", LATER, "FIELDS", 1, "f2999")
    for number in range(40):
        client.call("HSET", f"soon{number}", "a", 1, "b", 2)
        client.call("HPEXPIRE", f"soon{number}", 1 + number * 5, "FIELDS", 2, "a", "b")
    wait_until(lambda: not any(client.call("EXISTS", f"soon{number}") for number in range(40)))
    wait_until(lambda: client.call("HLEN", "large") == 100)
    assert stat(client, "expired_subkeys") == 2900 + 80 and stat(client, "expired_keys") == 0
    assert client.call("DBSIZE") == harness.scaled(1500) + 1 == subexpiry(client)
    client.call("HPEXPIRE", "later7", 1, "FIELDS", 1, "a")
    wait_until(lambda: client.call("EXISTS", "later7") == 0)
    # A key's own time is beside those of its fields.
    client.call("PEXPIRE", "later8", 1)
    client.call("HPEXPIRE", "later9", 1, "FIELDS", 1, "a")
    client.call("PEXPIREAT", "later9", LATER)
    wait_until(lambda: client.call("EXISTS", "later8", "later9") == 0)
    assert client.call("FLUSHALL") == "OK" and subexpiry(client) == 0


def test_eviction_of_what_has_a_time(any_server):
    """volatile-* takes keys with a time of their own, and no hash for the sake of its fields."""
    client = any_server.raw()
    for number in range(200):
        client.call("HSET", f"h{number}", "a", "x" * 1000)
        client.call("HPEXPIREAT", f"h{number}", LATER, "FIELDS", 1, "a")
        client.call("SET", f"k{number}", "x" * 1000, "PXAT", LATER)
    client.call("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    used = stat(client, "used_memory")
    client.call("CONFIG", "SET", "maxmemory", used - 60_000)
    wait_until(lambda: stat(client, "evicted_keys") >= 20)
    assert client.call("EXISTS", *[f"h{number}" for number in range(200)]) == 200


# --- RDB ------------------------------------------------------------------------------------------------------------------


def version_of_file(server):
    name = os.path.join(server.config_get("dir"), server.config_get("dbfilename"))
    with open(name, "rb") as file:
        return file.read(9)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(start, tmp_path, kind):
    options = {"dir": str(tmp_path), "save": ("3600", "100000"), "hash-max-listpack-entries": "0" if kind == "hashtable" else "128"}
    server = start(options, threads=2)
    client = server.raw()
    client.call("HSET", "h", *[word for i in range(100) for word in (f"f{i}", i)])
    assert client.call("SAVE") == "OK" and version_of_file(server) == b"REDIS0010"
    for number in range(0, 100, 3):
        client.call("HPEXPIREAT", "h", LATER + number, "FIELDS", 1, f"f{number}")
    client.call("SELECT", 3)
    client.call("HSET", "i", "only", "x" * 3000)
    client.call("HPEXPIREAT", "i", LATER, "FIELDS", 1, "only")
    assert client.call("SAVE") == "OK" and version_of_file(server) == b"REDIS0012"
    before = client.call("LASTSAVE")
    wait_until(lambda: int(time.time()) > before)
    client.call("BGSAVE")
    wait_until(lambda: client.call("LASTSAVE") > before)
    assert version_of_file(server) == b"REDIS0012"
    digest = client.call("DEBUG", "DIGEST")
    server.stop()
    client = start(options, threads=2).raw()
    assert client.call("DEBUG", "DIGEST") == digest and (subexpiry(client, 0), subexpiry(client, 3)) == (1, 1)
    assert client.call("OBJECT", "ENCODING", "h").decode() == kind
    assert times(client, "h", *[f"f{i}" for i in range(100)]) == [LATER + i if i % 3 == 0 else -1 for i in range(100)]
    client.call("HPEXPIRE", "h", 1, "FIELDS", 1, "f0")
    wait_until(lambda: client.call("HLEN", "h") == 99)


def listpack(*entries):
    body = b""
    for entry in entries:
        data = entry.to_bytes(9, "little", signed=True) if isinstance(entry, int) else bytes([0x80 + len(entry)]) + entry.encode()
        data = b"\xf4" + data[:8] if isinstance(entry, int) else data
        body += data + bytes([len(data)])
    return (len(body) + 7).to_bytes(4, "little") + len(entries).to_bytes(2, "little") + body + b"\xff"


def text(data):
    data = data.encode() if isinstance(data, str) else data
    return (bytes([len(data)]) if len(data) < 64 else bytes([0x40 | len(data) >> 8, len(data) & 255])) + data


def length(number):
    return bytes([number]) if number < 64 else b"\x81" + number.to_bytes(8, "big")


def ms(number):
    return number.to_bytes(8, "little", signed=True)


def test_all_types_are_read(client):
    """Redis 7.4's four ways to write such a hash."""
    packed = listpack("a", "1", LATER, "b", "2", LATER + 1, "c", "3", 0)
    payloads = [
        b"\x18" + ms(LATER) + length(3) + length(1) + text("a") + text("1") + length(2) + text("b") + text("2") + length(0) + text("c") + text("3"),
        b"\x19" + ms(LATER) + text(packed),
        b"\x16" + length(3) + length(LATER) + text("a") + text("1") + length(LATER + 1) + text("b") + text("2") + length(0) + text("c") + text("3"),
        b"\x17" + text(packed),
    ]
    for payload in payloads:
        assert client.call("RESTORE", "h", 0, sign(payload, version=12), "REPLACE") == "OK", payload
        assert times(client, "h", *"abcd") == [LATER, LATER + 1, -1, -2]
        assert client.call("HMGET", "h", *"abc") == [b"1", b"2", b"3"]
        assert client.call("OBJECT", "ENCODING", "h") == b"listpackex"
        limit(client, "hashtable")
        assert client.call("RESTORE", "h", 0, sign(payload, version=12), "REPLACE") == "OK", payload
        assert times(client, "h", *"abcd") == [LATER, LATER + 1, -1, -2] and client.call("OBJECT", "ENCODING", "h") == b"hashtable"
        limit(client, "listpackex")


def test_damaged_payloads_are_refused(client):
    bad = [
        b"\x18" + ms(LATER), b"\x18" + ms(-1) + length(1) + length(1) + text("a") + text("1"),
        b"\x18" + ms(LATER) + length(1) + length(1 << 48) + text("a") + text("1"),
        b"\x18" + ms(LATER) + length(2) + (length(1) + text("a") + text("1")) * 2,
        b"\x18" + ms(LATER) + length(1 << 60) + length(1) + text("a") + text("1"),
        b"\x16" + length(1) + length((1 << 64) - 1) + text("a") + text("1"), b"\x18" + ms(LATER) + length(0),
        b"\x19" + ms(LATER) + text(listpack("a", "1")), b"\x19" + ms(LATER) + text(listpack("a", "1", "x")),
        b"\x19" + ms(LATER) + text(listpack("a", "1", -1)), b"\x19" + ms(LATER) + text(listpack("a", "1", 1 << 48)),
        b"\x17" + text(listpack("a", "1", LATER, "a", "1", LATER)), b"\x17" + text(listpack()), b"\x19" + text(listpack("a", "1", 0)),
    ]
    for payload in bad:
        assert client.call("RESTORE", "h", 0, sign(payload, version=12)) == ReplyError("ERR Bad data format"), payload
    assert client.call("EXISTS", "h") == 0


def test_migrate(start, oracle):
    one, other = start(threads=2), start(threads=2)
    client = one.raw()
    client.call("HSET", "h", "a", 1, "b", 2)
    client.call("HPEXPIREAT", "h", LATER, "FIELDS", 1, "a")
    assert isinstance(client.call("MIGRATE", "127.0.0.1", oracle.port, "h", 0, 5000), ReplyError), "which knows no field times"
    assert client.call("MIGRATE", "127.0.0.1", other.port, "h", 0, 5000) == "OK"
    assert client.call("EXISTS", "h") == 0 and times(other.raw(), "h", "a", "b") == [LATER, -1]


def test_a_hash_without_field_times_costs_nothing_more(client):
    """Nor one that had some."""
    def filled(key):
        for start in range(0, 2000, 100):
            client.call("HSET", key, *[word for i in range(start, start + 100) for word in (f"field{i}", f"value{i}")])
        return client.call("MEMORY", "USAGE", key)

    plain = filled("abc")
    assert filled("def") == plain
    client.call("HPEXPIREAT", "def", LATER, "FIELDS", 100, *[f"field{i}" for i in range(100)])
    assert plain < client.call("MEMORY", "USAGE", "def") < plain * 1.2
    client.call("HPERSIST", "def", "FIELDS", 100, *[f"field{i}" for i in range(100)])
    assert client.call("MEMORY", "USAGE", "def") == plain
