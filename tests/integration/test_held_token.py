"""A token that is kept for the next command of the same batch is given back when that command does not run."""

import time

import pytest

import harness
from harness import wait_until
from resp import RawClient, encode_command

SMOKE = True

ANSWER_SECONDS = 10 * harness.SLOWNESS


def connect(server, **options):
    client = RawClient(*server.address(), timeout=ANSWER_SECONDS, **options)
    server.clients.append(client)
    return client


# What leaves the token of k with the worker, for a next command that is for k too.
FIRST = {"SET": ("SET", "k", "1"), "INCR": ("INCR", "k"), "DEL": ("DEL", "k"), "GET of a large value": ("GET", "large{k}")}

# Next commands for k that do not run, or do something else than their row says.
NEXT = {
    "too few arguments": ("SET", "k"),
    "too many arguments": ("GET", "k", "extra"),
    "unknown command": ("NOSUCH", "k"),
    "unknown subcommand": ("OBJECT", "NOSUCH", "k"),
    "wrong option": ("SET", "k", "v", "BOGUS"),
    "wrong number": ("INCRBY", "k", "one"),
}

# And then a command that takes the token of k, or all tokens.
THEN = {
    "EXEC with an argument": [("EXEC", "x")],
    "EXEC": [("EXEC",)],
    "WATCH": [("WATCH", "k")],
    "UNWATCH": [("UNWATCH",)],
    "DISCARD": [("DISCARD",)],
    "MULTI and EXEC": [("MULTI",), ("SET", "k", "2"), ("EXEC",)],
    "MULTI and DISCARD": [("MULTI",), ("SET", "k", "2"), ("DISCARD",)],
    "MULTI and EXEC with an argument": [("MULTI",), ("SET", "k", "2"), ("EXEC", "x")],
    "MULTI that failed": [("MULTI",), ("SET", "k"), ("EXEC",)],
    "RESET": [("RESET",)],
    "MSET": [("MSET", "k", "3", "other", "3")],
    "SWAPDB": [("SWAPDB", "0", "0")],
    "FLUSHALL": [("FLUSHALL",)],
    "SCAN": [("SCAN", "0", "COUNT", "100000")],
    "DBSIZE": [("DBSIZE",)],
    "QUIT": [("QUIT",)],
}


def conversation(client, packets):
    """Sends the packets and returns the bytes of all replies; the connection is closed by QUIT at the latest."""
    received = bytearray()
    for commands in packets:
        client.send(b"".join(encode_command(*command) for command in commands))
        received += b"".join(client.read_raw() for _ in commands)
    return bytes(received)


@pytest.mark.parametrize("then", list(THEN))
@pytest.mark.parametrize("watching", [True, False], ids=["watching", "not_watching"])
def test_one_packet_is_as_good_as_many(threaded_server, then, watching):
    """Commands in one packet get the replies that they get one at a time."""
    server = threaded_server
    for first in FIRST.values():
        for name, following in NEXT.items():
            commands = [first, following, *THEN[then]]
            replies = []
            for packets in ([[command] for command in commands], [commands]):
                with connect(server) as client:
                    client.pipeline([("FLUSHALL",), ("SET", "large{k}", "x" * 100_000)])
                    if watching:
                        assert client.call("WATCH", "k", "large{k}") == "OK"
                    replies.append(conversation(client, packets))
            assert replies[0] == replies[1], (first[0], name)
    assert server.call("PING") == "PONG"


def test_out_of_memory(threaded_server):
    """The next command is refused for want of memory."""
    server = threaded_server
    with connect(server) as admin:
        admin.call("SET", "k", "v" * 1000)
        assert admin.call("CONFIG", "SET", "maxmemory", "1") == "OK"
        for commands in THEN.values():
            with connect(server) as client:
                assert client.call("WATCH", "k") == "OK"
                replies = client.pipeline([("DEL", "k"), ("SET", "k", "2"), *commands])
                assert "OOM command not allowed" in replies[1].text
        assert admin.call("CONFIG", "SET", "maxmemory", "0") == "OK"


def test_protocol_error(threaded_server):
    server = threaded_server
    for end in (b"*x\r\n", b"*1\r\n!\r\n", b"*1\r\n$-5\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$999999999999\r\n"):
        with connect(server) as client:
            client.call("WATCH", "k")
            client.send(encode_command("SET", "k", "1") + encode_command("SET", "k") + end)
            assert client.read() == "OK"
            assert b"Protocol error" in client.read_until_close(ANSWER_SECONDS)
        assert server.call("SET", "k", "2") == "OK"


def test_paused(threaded_server):
    """The next command is held back by CLIENT PAUSE."""
    server = threaded_server
    with connect(server) as admin:
        admin.call("SET", "large{k}", "x" * 100_000)
        for then in (("WATCH", "k"), ("UNWATCH",), ("EXEC", "x"), ("GET", "k"), ("PING",)):
            client = connect(server)
            assert client.call("WATCH", "k") == "OK"
            assert admin.call("CLIENT", "PAUSE", "60000", "WRITE") == "OK"
            client.send(b"".join(encode_command(*command) for command in
                                 (("GET", "large{k}"), ("SET", "k", "1"), then)))
            assert len(client.read()) == 100_000
            with connect(server) as other:
                assert other.call("GET", "k") in (None, b"1")
                assert other.call("WATCH", "k") == "OK"
            assert client.silent(0.02)
            assert admin.call("CLIENT", "UNPAUSE") == "OK"
            assert client.read() == "OK"
            client.read()
            client.close()


def in_one_turn(sleeper, sends):
    """Lets the only worker sleep while each of (client, commands) is sent, so that it finds all of it at once."""
    sleeper.send_command("DEBUG", "SLEEP", "0.1")
    time.sleep(0.03)
    for client, commands in sends:
        client.send(b"".join(encode_command(*command) for command in commands))
    assert sleeper.read() == "OK"


@pytest.mark.parametrize("then", ["WATCH", "UNWATCH", "EXEC with an argument", "MSET", "FLUSHALL", "QUIT"])
def test_across_connections(start, backend, then):
    """The next command of the batch is another connection's, which may not or does not run it."""
    server = start(backend=backend, threads=1)
    sleeper = connect(server)
    for refused in ("NOAUTH", "queued", "closing"):
        writer, second, third = connect(server), connect(server), connect(server)
        for client in (writer, third):
            assert client.call("WATCH", "k") == "OK"
        if refused == "NOAUTH":
            server.call("CONFIG", "SET", "requirepass", "secret")
            server.password = "secret"
            second.close()
            second = connect(server)
            commands = [("GET", "k"), ("SET", "k", "2")]
        elif refused == "queued":
            assert second.call("MULTI") == "OK"
            commands = [("SET", "k", "2"), ("GET", "k")]
        else:
            commands = [("QUIT",), ("SET", "k", "never"), ("GET", "k")]
        in_one_turn(sleeper, [(writer, [("SET", "k", "1")]), (second, commands), (third, THEN[then]),
                              (writer, [("SET", "k", "1"), ("SET", "k")])])
        assert writer.read() == "OK"
        for _ in THEN[then]:
            third.read()
        second.read()
        assert writer.read() == "OK"
        writer.read()
        for client in (writer, second, third):
            client.close()
        assert server.call("PING") == "PONG"
        if refused == "NOAUTH":
            server.call("CONFIG", "SET", "requirepass", "")
            server.password = None


def test_killed(start, backend):
    """CLIENT KILL takes a connection away between two commands for one key."""
    server = start(backend=backend, threads=2)
    admin = connect(server)
    for turn in range(harness.scaled(100)):
        client = connect(server)
        client.call("WATCH", "k")
        number = client.call("CLIENT", "ID")
        client.send(encode_command("SET", "k", turn) * (turn % 50 + 2) + encode_command("SET", "k") * 2)
        assert admin.call("CLIENT", "KILL", "ID", number) == 1
        client.close()
        assert admin.call("SET", "k", "x") == "OK"
    wait_until(lambda: server.call("CLIENT", "LIST").count(b"\n") == 2, what="the killed to be gone")
