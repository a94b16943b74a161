"""The same seeded stream of commands to the server under test and to a stock server: replies and data must agree."""

import os

import pytest

import harness
from stream import Connection, Generator, dump, dumps_differ

BASE_SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
CONNECTIONS = 3


def send_in_pieces(generator, connection, data):
    """Send to both servers, the one under test now and then in several writes."""
    connection.theirs.send(data)
    if generator.chance(0.8) or len(data) > 20000:
        connection.ours.send(data)
        return
    at = 0
    while at < len(data):
        size = generator.random.choice([1, 2, 3, 7, 50, 1000])
        connection.ours.send(data[at:at + size])
        at += size


def full_scan(client, options):
    cursor, found = b"0", []
    for _ in range(1_000_000):
        cursor, keys = client.call("SCAN", cursor, *options)
        found += keys
        if cursor == b"0":
            return sorted(set(found))
    raise AssertionError("SCAN does not end")


def compare_scans(generator, connection):
    options = []
    if generator.chance(0.5):
        options += [b"COUNT", generator.pick(b"1", b"3", b"10", b"1000")]
    if generator.chance(0.4):
        options += [b"MATCH", generator.pick(b"k*", b"*tag*", b"k?", b"*", b"k[1-3]", b"nothing")]
    if generator.chance(0.3):
        options += [b"TYPE", generator.pick(b"string", b"STRING", b"list", b"hash")]
    assert full_scan(connection.ours, options) == full_scan(connection.theirs, options), options


def run_stream(server, oracle, seed, batches):
    generator = Generator(seed)
    connections = [Connection(server.raw(), oracle.raw()) for _ in range(CONNECTIONS)]
    watching = set()
    for batch in range(batches):
        connection = generator.random.choice(connections)
        commands, in_transaction = [], connection.queue is not None
        for _ in range(generator.random.choice([1, 1, 1, 2, 5, 20])):
            command = generator.command(in_transaction)
            name = command[0].upper()
            # README, Limits: SWAPDB with another SWAPDB or a flush touches watched keys that were absent all the time. What one
            # of them touches: test_flush.py.
            if name == b"SWAPDB" and watching:
                command = [b"PING"]
            elif name == b"WATCH":
                watching.add(connection)
            elif name in (b"EXEC", b"DISCARD", b"UNWATCH", b"RESET"):
                watching.discard(connection)
            commands.append(command)
            if command[0].upper() == b"MULTI" and len(command) == 1:
                in_transaction = True
            elif command[0].upper() in (b"EXEC", b"DISCARD", b"RESET"):
                in_transaction = False
        send_in_pieces(generator, connection, b"".join(generator.wire(command) for command in commands))
        for command in commands:
            complaint = connection.check(command)
            assert complaint is None, f"seed {seed}, batch {batch}: {complaint}\nbefore:\n{connection.story()}"
        if generator.chance(0.01) and connection.queue is None:
            compare_scans(generator, connection)
    digests = [one.call("DEBUG", "DIGEST") for one in (server, oracle)]
    difference = dumps_differ(dump(server.raw()), dump(oracle.raw()))
    assert not difference, f"seed {seed}: the data differ at the end:\n" + "\n".join(difference[:20])
    assert digests[0] == digests[1], f"seed {seed}: DEBUG DIGEST differs though the data do not"


@pytest.mark.parametrize("number", range(3))
def test_stream(threaded_server, oracle, number):
    run_stream(threaded_server, oracle, BASE_SEED * 1000 + number, harness.scaled(4000))


@pytest.mark.smoke
def test_short_stream(server, oracle):
    run_stream(server, oracle, BASE_SEED * 1000 + 999, harness.scaled(1500))


def test_stream_many_workers(start, backend, oracle):
    run_stream(start(backend=backend, threads=4), oracle, BASE_SEED * 1000 + 500, harness.scaled(3000))


def test_stream_without_active_expiry(server, oracle):
    for one in (server, oracle):
        assert one.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"
    run_stream(server, oracle, BASE_SEED * 1000 + 600, harness.scaled(2000))


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-lfu"])
def test_stream_under_a_policy(server, oracle, policy):
    """A policy with room enough changes no reply (OBJECT FREQ and IDLETIME swap their error)."""
    for one in (server, oracle):
        assert one.call("CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", "1gb") == "OK"
    run_stream(server, oracle, BASE_SEED * 1000 + 700, harness.scaled(1000))


@pytest.mark.smoke
def test_digests(server, oracle):
    """DEBUG DIGEST and DIGEST-VALUE are Redis's, so that one can compare data across servers."""
    client, other = server.raw(), oracle.raw()
    commands = [("SET", "a", "1"), ("SET", "b", "text"), ("SET", "c", "x" * 20000), ("SET", "", ""),
                ("SET", "d", "v", "EX", "10000"), ("INCRBYFLOAT", "f", "1.5"), ("APPEND", "a", "2")]
    for command in commands:
        assert client.call_raw(*command) == other.call_raw(*command)
        for question in (("DEBUG", "DIGEST"), ("DEBUG", "DIGEST-VALUE", "a", "b", "c", "", "d", "f", "none")):
            assert client.call_raw(*question) == other.call_raw(*question), (command, question)
    for one in (client, other):
        one.pipeline([("SELECT", "7"), ("SET", "a", "1")])
    assert client.call("DEBUG", "DIGEST") == other.call("DEBUG", "DIGEST")
