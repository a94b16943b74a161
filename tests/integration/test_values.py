"""Large values, memory that is given back, and WATCH on a large scale."""

import time

import pytest

import harness
from bystander import Bystander
from harness import at_some_pace, wait_until
from resp import ReplyError, encode_command

MEGABYTE = 1 << 20
SIZE = int(100 * MEGABYTE / (4 if harness.SANITIZED else 1))


def used(server):
    return int(server.info("memory")["used_memory"])


# --- large values -----------------------------------------------------------------------------------------------


@pytest.mark.slow_limit(120)
def test_a_hundred_megabytes(server):
    client = server.raw(timeout=2 * harness.HANG_SECONDS * harness.SLOWNESS)
    pattern = bytes(range(256)) * (SIZE // 256)
    start = used(server)
    with Bystander(server) as bystander:
        def call(*command):
            return bystander.beside(client, *command)

        assert call("SET", "big", pattern) == "OK"
        assert call("STRLEN", "big") == SIZE
        assert call("GET", "big") == pattern
        assert call("GETRANGE", "big", 1000, 1009) == pattern[1000:1010]
        assert call("GETRANGE", "big", -10, -1) == pattern[-10:]
        assert call("APPEND", "big", "the end") == SIZE + 7
        assert call("SETRANGE", "big", SIZE + 4, "END") == SIZE + 7
        assert call("GETRANGE", "big", -7, -1) == b"the END"
        assert call("SETRANGE", "big", 5, "middle") == SIZE + 7
        assert call("COPY", "big", "copy") == 1
        assert call("RENAME", "copy", "moved") == "OK"
        assert call("GETRANGE", "moved", 0, 15) == pattern[:5] + b"middle" + pattern[11:16]
        assert call("GETSET", "moved", "small") == pattern[:5] + b"middle" + pattern[11:] + b"the END"
        assert call("UNLINK", "big") == 1
        assert call("SETRANGE", "sparse", SIZE, "x") == SIZE + 1
        assert call("GETRANGE", "sparse", SIZE - 3, -1) == b"\x00\x00\x00x"
        assert call("DEL", "sparse", "moved") == 2
    wait_until(lambda: used(server) - start < 10 * MEGABYTE, what="the memory to be given back")


@pytest.mark.skipif(harness.SANITIZED, reason="too much memory with a sanitizer")
def test_the_largest_value(any_server):
    server = any_server
    client = server.raw(timeout=2 * harness.HANG_SECONDS)
    limit = 512 * MEGABYTE
    too_long = ReplyError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    with Bystander(server) as bystander:
        def call(*command):
            return bystander.beside(client, *command)

        assert call("SETRANGE", "k", limit - 1, "x") == limit
        assert call("APPEND", "k", "y") == too_long
        assert call("SETRANGE", "k", limit, "y") == too_long
        assert call("STRLEN", "k") == limit
        assert call("GETRANGE", "k", -2, -1) == b"\x00x"
        assert call("DEL", "k") == 1


def test_large_replies_to_many(server):
    """The same large value on its way to many clients while it is changed, overwritten and deleted."""
    size = 10 * MEGABYTE
    writer = server.raw(timeout=2 * harness.HANG_SECONDS * harness.SLOWNESS)
    with Bystander(server) as bystander:
        for action in ([("SETRANGE", "k", 0, b"b" * size)], [("SET", "k", b"b" * size)], [("DEL", "k")],
                       [("APPEND", "k", "b")], [("FLUSHALL",)], [("RENAME", "k", "j"), ("SETRANGE", "j", 5, "b" * 100)]):
            assert bystander.beside(writer, "SET", "k", b"a" * size) == "OK"
            readers = [server.raw(timeout=2 * harness.HANG_SECONDS * harness.SLOWNESS) for _ in range(5)]
            for reader in readers:
                reader.send(encode_command("GET", "k") + encode_command("PING"))
                reader.socket.recv(1)  # the reply has begun, so the value was read before the change
                reader.buffer += b"$"
            for command in action:
                bystander.beside(writer, *command)
            for reader in readers[:-1]:
                value = reader.read()
                assert len(value) == size and value.count(b"a") == size, action
                assert reader.read() == "PONG"
            for reader in readers:
                reader.close()
    writer.call("FLUSHALL")


@pytest.mark.smoke
def test_many_large_values_at_once(server):
    client = server.raw(timeout=2 * harness.HANG_SECONDS * harness.SLOWNESS)
    values = [bytes([65 + number]) * (2 * MEGABYTE) for number in range(8)]
    client.call("MSET", *[word for number, value in enumerate(values) for word in (f"k{number}", value)])
    assert client.call("MGET", *[f"k{number}" for number in range(8)], "k0") == values + [values[0]]
    client.send(b"".join(encode_command("GET", f"k{number}") for number in range(8)) * 3)
    for _ in range(3):
        assert [client.read() for _ in range(8)] == values


# --- memory that is given back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flush", [("FLUSHALL",), ("FLUSHALL", "ASYNC"), ("FLUSHALL", "SYNC"), ("FLUSHDB", "ASYNC"),
                                   "DEL", "expiry"], ids=str)
def test_memory_returns(any_server, flush):
    server = any_server
    client = server.raw()
    count = harness.scaled(40_000)
    client.pipeline([("SET", "warm", "x" * 100), ("DEL", "warm")])
    start = used(server)
    for turn in range(2):
        expiry = ("PX", 1500) if flush == "expiry" else ()
        for at in range(0, count, 500):
            client.pipeline([("SET", f"key:{number}", "x" * (50 + number % 300), *expiry)
                             for number in range(at, at + 500)])
        full = used(server)
        assert full - start > count * 100 or flush == "expiry"
        if flush == "DEL":
            for at in range(0, count, 500):
                client.call("DEL", *[f"key:{number}" for number in range(at, at + 500)])
        elif flush == "expiry":
            wait_until(lambda: client.call("DBSIZE") == 0, what="all keys to expire")
        else:
            assert client.call(*flush) == "OK"
        assert client.call("DBSIZE") == 0
        left = max(2 * MEGABYTE, (full - start) // 10)
        wait_until(lambda: used(server) - start < left,
                   what=f"the memory to be given back (turn {turn}: started with {start}, full {full})")


def test_overwriting_does_not_grow(any_server):
    server = any_server
    client = server.raw()
    count = 2000

    def overwrite(turns):
        for turn in range(turns):
            for at in range(0, count, 500):
                client.pipeline([("SET", f"key:{number}", "x" * (100 + (number * 31 + turn * 97) % 400))
                                 for number in range(at, at + 500)])

    overwrite(3)
    before, resident = used(server), server.resident_bytes()
    overwrite(harness.scaled(40))
    wait_until(lambda: used(server) - before < 2 * MEGABYTE, what="no growth")
    wait_until(lambda: server.resident_bytes() - resident < 30 * MEGABYTE * harness.SLOWNESS, what="no growth of the process")


@pytest.mark.smoke
def test_accounting_is_per_value(server):
    """used_memory follows what is stored, up and down, within a few percent."""
    client = server.raw()
    before = used(server)
    client.pipeline([("SET", f"k{number}", "x" * 10_000) for number in range(1000)])
    grown = used(server) - before
    assert 10_000_000 < grown < 14_000_000, grown
    client.pipeline([("APPEND", f"k{number}", "y" * 10_000) for number in range(1000)])
    assert 20_000_000 < used(server) - before
    wait_until(lambda: used(server) - before < 45_000_000, what="the memory of what was copied")
    client.pipeline([("SET", f"k{number}", "1") for number in range(1000)])
    wait_until(lambda: used(server) - before < 2_000_000, what="the memory of replaced values")


# --- WATCH on a large scale -------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_many_watchers_of_one_key(server):
    watchers = [server.raw() for _ in range(100)]
    for watcher in watchers:
        assert watcher.pipeline([("WATCH", "k"), ("MULTI",), ("INCR", "wins")]) == ["OK", "OK", "QUEUED"]
    for watcher in watchers[:50]:
        watcher.send_command("EXEC")
    assert [watcher.read() for watcher in watchers[:50]] != []
    assert server.call("GET", "wins") == b"50"
    assert server.call("SET", "k", "changed") == "OK"
    for watcher in watchers[50:]:
        assert watcher.call("EXEC") is None
    assert server.call("GET", "wins") == b"50"


@pytest.mark.smoke
def test_one_watcher_of_many_keys(server):
    client, other = server.raw(), server.raw()
    count = harness.scaled(5000)
    names = [f"key:{number}" for number in range(count)]
    for changed in (None, 0, count // 2, count - 1):
        for at in range(0, count, 1000):
            assert client.call("WATCH", *names[at:at + 1000]) == "OK"
        if changed is not None:
            other.call("INCR", names[changed])
        assert client.call("MULTI") == "OK"
        assert client.call("EXEC") == ([] if changed is None else None)


@pytest.mark.smoke
def test_the_first_commands_of_many_keys(server):
    """A worker makes room for the slots of a command when one has more keys than any before it."""
    for count in 100, 2000, 20_000:
        words = [f"{count}:{number}" for number in range(count)]
        for client in [server.raw() for _ in range(4)]:
            assert client.call("MSET", *[word for word in words for _ in range(2)]) == "OK"
            assert client.call("EXISTS", *words) == count
            assert client.call("DEL", *words) == count
    server.check()


@pytest.mark.smoke
def test_large_transactions(server):
    client = server.raw(timeout=2 * harness.HANG_SECONDS * harness.SLOWNESS)
    count = harness.scaled(5000)
    with Bystander(server):
        client.send(encode_command("MULTI") + b"".join(
            encode_command("SET", f"key:{number}", number) for number in range(count)) + encode_command("EXEC"))
        assert client.read() == "OK"
        assert [client.read() for _ in range(count)] == ["QUEUED"] * count
        assert client.read() == ["OK"] * count
    assert client.call("DBSIZE") == count + 1


def test_watch_and_expiry_race(server):
    """EXEC decides by the clock: a watched key that has expired by then fails it, whoever noticed first."""
    client, other = server.raw(), server.raw()

    def watch(scale):
        assert client.pipeline([("SET", "k", "v", "PX", 10 * scale), ("WATCH", "k")]) == ["OK", "OK"]
        time.sleep(0.02 * scale)
        if asked:
            assert other.call("EXISTS", "k") == 0
        assert client.pipeline([("MULTI",), ("SET", "k", "w"), ("EXEC",)]) == ["OK", "QUEUED", None]

    for turn in range(20):
        asked = turn % 2
        at_some_pace(watch)
