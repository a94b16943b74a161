"""DUMP and RESTORE: what one server has dumped another restores, whichever of the two is the stock one."""

import random
import time

import pytest

import harness
from rdbfile import sign
from resp import ReplyError

SMOKE = True

VALUES = [b"", b"a", b"0", b"-1", b"127", b"128", b"-128", b"-129", b"32767", b"32768", b"-32769", b"2147483647",
          b"2147483648", b"-2147483648", b"-2147483649", b"9223372036854775807", b"-9223372036854775808", b"01", b"-0",
          b"+1", b" 1", b"1.5", b"x" * 20, b"x" * 21, b"x" * 44, b"x" * 45, b"ab" * 30, b"x" * 63, b"x" * 64,
          b"x" * 16383, b"y" * 16384, b"z" * 16385, bytes(range(256)), bytes(range(256)) * 300, b"q" * 1_000_000]


def random_values(seed):
    generator = random.Random(seed)
    for _ in range(60):
        length = int(2 ** generator.uniform(0, 15))
        letters = bytes(generator.randrange(256) for _ in range(generator.choice([1, 2, 10, 256])))
        yield bytes(generator.choice(letters) for _ in range(length))


@pytest.mark.parametrize("compression", ["yes", "no"])
def test_payloads_both_ways(client, shared, oracle, compression):
    theirs = oracle.raw()
    for server in (client, theirs):
        assert server.call("CONFIG", "SET", "rdbcompression", compression) == "OK"
    try:
        for number, value in enumerate([*VALUES, *random_values(number_of_seed())]):
            key = f"k{number}"
            for server in (client, theirs):
                server.call("SET", key, value)
            mine, other = client.call("DUMP", key), theirs.call("DUMP", key)
            if compression == "no":
                assert mine == other, value[:60]
            assert client.call("RESTORE", "r" + key, 0, other) == "OK"
            assert theirs.call("RESTORE", "r" + key, 0, mine) == "OK"
            assert client.call("GET", "r" + key) == value == theirs.call("GET", "r" + key)
            assert client.call("OBJECT", "ENCODING", "r" + key) == theirs.call("OBJECT", "ENCODING", "r" + key)
            sizes = [server.call("DEBUG", "OBJECT", key).split("serializedlength:")[1].split()[0]
                     for server in (client, theirs)]
            assert int(sizes[0]) == len(mine) - 11
            if compression == "no":
                assert sizes[0] == sizes[1], value[:60]
    finally:
        shared.call("CONFIG", "SET", "rdbcompression", "yes")


def number_of_seed():
    return 20240229


def test_dump_of_nothing_and_of_what_has_expired(client):
    assert client.call("DUMP", "nothing") is None
    client.call("SET", "k", "v", "PX", 1)
    time.sleep(0.005)
    assert client.call("DUMP", "k") is None


def test_errors_are_those_of_the_stock_server(client, oracle):
    theirs = oracle.raw()
    for server in (client, theirs):
        server.call("SET", "there", "v")
    good = client.call("DUMP", "there")
    commands = [
        ("RESTORE", "k"), ("RESTORE", "k", 0), ("DUMP",), ("DUMP", "a", "b"),
        ("RESTORE", "there", 0, good), ("RESTORE", "there", "x", good), ("RESTORE", "there", 0, "bad"),
        ("RESTORE", "there", 0, good, "REPLACES"),
        ("RESTORE", "k", "x", good), ("RESTORE", "k", -1, good), ("RESTORE", "k", "1.5", "bad"),
        ("RESTORE", "k", 0, ""), ("RESTORE", "k", 0, "short"), ("RESTORE", "k", 0, good + b"x"),
        ("RESTORE", "k", 0, good[:-1]), ("RESTORE", "k", 0, sign(good[:-10], 13)),
        ("RESTORE", "k", 0, sign(b"\x00\x20ab")), ("RESTORE", "k", 0, sign(b"")), ("RESTORE", "k", 0, sign(b"\x63\x01a")),
        ("RESTORE", "k", 0, sign(b"\x00\xc4")), ("RESTORE", "k", 0, sign(b"\x00\x82a")),
        ("RESTORE", "k", 0, sign(b"\x00\xc3\x05\x50aaaaa")),
        ("RESTORE", "k", 0, good, "IDLETIME"), ("RESTORE", "k", 0, good, "IDLETIME", "x"),
        ("RESTORE", "k", 0, good, "IDLETIME", -1), ("RESTORE", "k", 0, good, "FREQ", -1),
        ("RESTORE", "k", 0, good, "FREQ", 256), ("RESTORE", "k", 0, good, "FREQ", "x"),
        ("RESTORE", "k", 0, good, "FREQ", 1, "IDLETIME", 1), ("RESTORE", "k", 0, good, "IDLETIME", 1, "FREQ", 1),
        ("RESTORE", "k", 0, good, "REPLACE", "ABSTTL", "NONSENSE"),
    ]
    for command in commands:
        mine, other = client.call(*command), theirs.call(*command)
        assert isinstance(other, ReplyError) and mine == other, (command, mine, other)
    assert client.call("EXISTS", "k") == 0


def test_types_that_there_are_not_are_refused(client, oracle):
    theirs = oracle.raw()
    theirs.call("XADD", "stream", "*", "f", "v")
    assert client.call("RESTORE", "stream", 0, theirs.call("DUMP", "stream")) == ReplyError("ERR Bad data format")
    assert client.call("EXISTS", "stream") == 0


def test_times_to_live(client):
    client.call("SET", "k", "v")
    payload = client.call("DUMP", "k")
    assert client.call("RESTORE", "a", 100_000, payload) == "OK"
    assert 90_000 < client.call("PTTL", "a") <= 100_000
    at = int(time.time() * 1000) + 50_000
    assert client.call("RESTORE", "b", at, payload, "ABSTTL") == "OK"
    assert client.call("PEXPIRETIME", "b") == at
    assert client.call("RESTORE", "c", 0, payload, "ABSTTL") == "OK"
    assert client.call("PTTL", "c") == -1
    assert client.call("RESTORE", "d", 1000, payload, "ABSTTL") == "OK"
    assert client.call("EXISTS", "d") == 0, "its time was over"
    assert client.call("RESTORE", "a", 1000, payload, "ABSTTL", "REPLACE") == "OK"
    assert client.call("EXISTS", "a") == 0, "what it replaces goes all the same"
    assert client.call("RESTORE", "b", 0, payload, "REPLACE") == "OK"
    assert client.call("PTTL", "b") == -1
    assert client.call("RESTORE", "e", 9223372036854775807, payload) == "OK"
    assert client.call("PTTL", "e") > 0


def test_idle_time_and_frequency(client, shared, oracle):
    theirs = oracle.raw()
    for server in (client, theirs):
        server.call("SET", "k", "v")
        payload = server.call("DUMP", "k")
        server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        assert server.call("RESTORE", "idle", 0, payload, "IDLETIME", 1000) == "OK"
        assert 1000 <= server.call("OBJECT", "IDLETIME", "idle") <= 1000 + harness.HANG_SECONDS
        assert server.call("RESTORE", "idle", 0, payload, "REPLACE") == "OK"
        assert server.call("OBJECT", "IDLETIME", "idle") <= harness.HANG_SECONDS
        assert server.call("RESTORE", "fresh", 0, payload, "FREQ", 100) == "OK"
        assert server.call("OBJECT", "IDLETIME", "fresh") <= harness.HANG_SECONDS
        server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
        assert server.call("RESTORE", "often", 0, payload, "FREQ", 100) == "OK"
        assert server.call("OBJECT", "FREQ", "often") == 100
        assert server.call("RESTORE", "often", 0, payload, "FREQ", 7, "REPLACE") == "OK"
        assert server.call("OBJECT", "FREQ", "often") == 7
        assert server.call("RESTORE", "often", 0, payload, "REPLACE") == "OK"
        assert server.call("OBJECT", "FREQ", "often") == 5
        server.call("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_in_transactions_and_watched(client, shared):
    client.call("SET", "k", "v")
    payload = client.call("DUMP", "k")
    with shared.raw() as other:
        other.call("WATCH", "new")
        assert client.call("RESTORE", "new", 0, payload) == "OK"
        other.call("MULTI")
        other.call("PING")
        assert other.call("EXEC") is None
    client.call("MULTI")
    client.call("RESTORE", "more", 0, payload)
    client.call("DUMP", "more")
    client.call("RESTORE", "more", 0, payload)
    assert client.call("EXEC") == ["OK", payload, ReplyError("BUSYKEY Target key name already exists.")]


def test_damaged_payloads_with_the_right_checksum(client, shared):
    generator = random.Random(number_of_seed())
    bodies = []
    for value in (b"12345", b"hello", b"ab" * 30, b"x" * 500, b"y" * 20000):
        client.call("SET", "k", value)
        bodies.append(client.call("DUMP", "k")[:-10])
    for number in range(harness.scaled(2000)):
        body = bytearray(generator.choice(bodies))
        for _ in range(generator.randrange(1, 4)):
            body[generator.randrange(min(len(body), 40))] = generator.randrange(256)
        if generator.random() < 0.3:
            del body[generator.randrange(len(body)):]
        reply = client.call("RESTORE", f"d{number}", 0, sign(body))
        if reply != "OK":
            assert reply == ReplyError("ERR Bad data format"), bytes(body[:60])
        else:
            value = client.call("GET", f"d{number}")
            assert client.call("RESTORE", f"e{number}", 0, client.call("DUMP", f"d{number}")) == "OK"
            assert client.call("GET", f"e{number}") == value
