"""A connection moves between workers in every state, and its client notices nothing."""

import random
import socket
import struct
import threading
import time

import pytest

import debugging
import harness
from harness import wait_until
from resp import RawClient, ReplyError, encode_command

ANSWER_SECONDS = 15 * harness.SLOWNESS
HOLD_MS = int(150 * min(harness.SLOWNESS, 4))
ECHO_BYTES = 1000


def connect(server):
    client = RawClient(*server.address(), timeout=ANSWER_SECONDS)
    server.clients.append(client)
    return client


@pytest.fixture
def movers(start, backend):
    """A server with two workers that both stay awake."""
    server = start(backend=backend, threads=2)
    debugging.require(server, "MOVE-CLIENT", "WORKERS-AWAKE")
    assert server.call("DEBUG", "WORKERS-AWAKE", "2") == "OK"
    return server


def move(server, number, worker=None):
    reply = server.call("DEBUG", "MOVE-CLIENT", number, *([] if worker is None else [worker]))
    assert not isinstance(reply, ReplyError), reply


class Mover:
    """with Mover(server): every connection moves to another worker again and again."""

    def __init__(self, server):
        self.client = connect(server)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.moves = 0
        self.failure = None

    def _run(self):
        try:
            while not self.stopping.is_set():
                reply = self.client.call("DEBUG", "MOVE-CLIENT", "ALL")
                assert not isinstance(reply, ReplyError), reply
                self.moves += 1
                self.stopping.wait(0.001)
        except Exception as error:  # noqa: B902  reported by __exit__
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(2 * ANSWER_SECONDS)
        if kind is None:
            assert self.failure is None, f"moving failed: {self.failure!r}"
            assert self.moves > 0


def is_on_worker(server, client, worker):
    """Whether the worker that sleeps, which is `worker`, is the one that serves the client."""
    with connect(server) as sleeper:
        move(server, debugging.client_id(sleeper), worker)
        time.sleep(0.05)
        sleeper.send_command("DEBUG", "SLEEP", "0.4")
        time.sleep(0.1)
        client.send_command("PING")
        here = client.silent(0.1)
        assert client.read() == "PONG"
        assert sleeper.read() == "OK"
        return here


def test_it_really_moves(movers):
    client = connect(movers)
    number = debugging.client_id(client)
    for worker in (1, 0, 1, 1, 0):
        move(movers, number, worker)
        wait_until(lambda: is_on_worker(movers, client, worker), what="the client to arrive")  # noqa: B023
        # Who has to wait long for a processor looks as if he were there.
        wait_until(lambda: not is_on_worker(movers, client, 1 - worker), what="the client to have left")  # noqa: B023


def test_bad_arguments(movers):
    for arguments in (["nobody"], ["ALL", "7"], ["ALL", "x"], []):
        reply = movers.call("DEBUG", "MOVE-CLIENT", *arguments)
        assert isinstance(reply, ReplyError), (arguments, reply)
    assert movers.call("DEBUG", "MOVE-CLIENT", "999999") == 0


def test_the_session_moves_along(movers):
    """Name, database, protocol, transaction, watched keys and reply mode."""
    client = connect(movers)
    client.hello(3)
    number = debugging.client_id(client)
    assert client.pipeline([("CLIENT", "SETNAME", "traveller"), ("CLIENT", "SETINFO", "LIB-NAME", "lib"),
                            ("SELECT", "3"), ("CLIENT", "NO-TOUCH", "ON"), ("SET", "k", "v"), ("WATCH", "k"),
                            ("MULTI",), ("GET", "k")])[-1] == "QUEUED"
    wanted = debugging.client_line(movers, number)
    volatile = ("age", "idle", "tot-mem", "qbuf", "qbuf-free", "rbs", "rbp")
    for worker in (1, 0, 1):
        move(movers, number, worker)
        line = debugging.client_line(movers, number)
        assert {k: v for k, v in line.items() if k not in volatile} == {
            k: v for k, v in wanted.items() if k not in volatile}
    assert client.call("EXEC") == [b"v"]
    assert client.call("WATCH", "k") == "OK"
    move(movers, number)
    with connect(movers) as other:
        other.pipeline([("SELECT", "3"), ("SET", "k", "changed")])
    move(movers, number)
    assert client.pipeline([("MULTI",), ("GET", "k"), ("EXEC",)])[-1] is None
    client.send_command("CLIENT", "REPLY", "OFF")
    client.send_command("SET", "k", "unheard")
    move(movers, number)
    client.send(encode_command("GET", "k") + encode_command("CLIENT", "REPLY", "ON") + encode_command("GET", "k"))
    assert [client.read(), client.read()] == ["OK", b"unheard"]


def test_half_a_command_moves_along(movers):
    """Whatever has arrived of a command; the rest comes on the other worker."""
    large = encode_command("MSET", *[f"{word}{number}" for number in range(50) for word in ("k", "v")])
    for data in (b"PING\r\n", encode_command("PING"), large, encode_command("SET", "k", "x" * 300_000)):
        client = connect(movers)
        number = debugging.client_id(client)
        wanted = "PONG" if b"PING" in data else "OK"
        for cut in {1, 3, len(data) // 2, len(data) - 1}:
            client.send(data[:cut])
            time.sleep(0.005)
            move(movers, number)
            client.send(data[cut:])
            assert client.read() == wanted, (data[:20], cut)
        client.close()


def test_a_client_that_writes_before_it_reads(movers):
    """All buffers are full when it is to move: it goes on when the client reads, and no sooner does it stop."""
    writer = connect(movers)
    number = debugging.client_id(writer)
    one = encode_command("ECHO", "x" * ECHO_BYTES)
    sent = 0
    for _ in range(20):
        writer.send(one * 500)
        sent += 500
        move(movers, number)
    for _ in range(sent):
        assert writer.read() == b"x" * ECHO_BYTES
    assert writer.call("PING") == "PONG"


def test_output_is_pending(movers):
    """A move while much is to be sent: every byte comes, in order, though the client reads only afterwards."""
    movers.call("SET", "big", "b" * 1_000_000)
    client = connect(movers)
    number = debugging.client_id(client)
    for turn in range(5):
        client.send(encode_command("GET", "big") * 8 + encode_command("ECHO", str(turn)))
        time.sleep(0.02)
        move(movers, number)
        client.send(encode_command("PING"))
        for _ in range(8):
            assert client.read() == b"b" * 1_000_000
        assert client.read() == str(turn).encode()
        assert client.read() == "PONG"


@pytest.mark.parametrize("hold", ["pause", "slot", "patience"])
def test_it_waits(movers, hold):
    """A move of a connection whose command waits; it is still answered once, and moves after that."""
    debugging.require(movers, "SLOT-HOLD", "PATIENCE-HOLD")
    admin = connect(movers)
    holds = {"pause": ("CLIENT", "PAUSE", str(HOLD_MS), "WRITE"), "slot": ("DEBUG", "SLOT-HOLD", "k", str(HOLD_MS)),
             "patience": ("DEBUG", "PATIENCE-HOLD", str(HOLD_MS))}
    command = ("SWAPDB", "0", "0") if hold == "patience" else ("SET", "k", "v")
    for _ in range(4):
        client = connect(movers)
        number = debugging.client_id(client)
        assert admin.call(*holds[hold]) == "OK"
        client.send(encode_command(*command) + encode_command("INCR", "n") + encode_command("INCR", "n")[:-3])
        time.sleep(0.01)
        admin.send_command("DEBUG", "MOVE-CLIENT", number)
        assert client.read() == "OK"
        first = client.read()
        assert not isinstance(admin.read(), ReplyError)
        client.send(b"n\r\n")
        assert client.read() == first + 1
        client.close()


def end_close(client):
    client.close()


def end_reset(client):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end_half_close(client):
    client.socket.shutdown(socket.SHUT_WR)


def end_quit(client):
    client.send_command("QUIT")


@pytest.mark.parametrize("end", [end_close, end_reset, end_half_close, end_quit], ids=lambda end: end.__name__[4:])
def test_it_ends_while_it_moves(movers, end):
    """Nothing of it is left, and what it had sent before a half-close is answered."""
    movers.call("SET", "big", "b" * 200_000)
    with Mover(movers):
        for turn in range(harness.scaled(200)):
            client = connect(movers)
            large = turn % 3 == 0
            client.send(encode_command("WATCH", "w") + encode_command("INCR", "n")
                        + (encode_command("GET", "big") * 20 if large else b""))
            end(client)
            if end in (end_half_close, end_quit):
                assert client.read() == "OK"
                assert isinstance(client.read(), int)
                for _ in range(20 if large else 0):
                    assert len(client.read()) == 200_000
                assert client.read_until_close(ANSWER_SECONDS) == (b"+OK\r\n" if end is end_quit else b"")
                client.close()
    wait_until(lambda: len(debugging.client_ids(movers)) <= 1, what="the clients to be gone")


def test_it_is_killed_while_it_moves(movers):
    with Mover(movers):
        killer = connect(movers)
        for turn in range(harness.scaled(200)):
            client = connect(movers)
            number = debugging.client_id(client)
            client.send(encode_command("SET", f"k{turn}", "v") * 50)
            assert killer.call("CLIENT", "KILL", "ID", number) == 1
            client.read_until_close(ANSWER_SECONDS)
            client.close()
    wait_until(lambda: len(debugging.client_ids(movers)) <= 2, what="the killed to be gone")


def test_pipelines_on_the_move(movers):
    """Pipelines of every length go on while all connections move all the time; each reply is the right one."""
    generator = random.Random(7)
    clients = [connect(movers) for _ in range(6)]
    deadline = time.monotonic() + harness.LOAD_SECONDS * 2
    counts = [0] * len(clients)
    with Mover(movers):
        while time.monotonic() < deadline:
            lengths = [generator.choice([1, 2, 63, 64, 65, 500, 3000]) for _ in clients]
            for number, (client, length) in enumerate(zip(clients, lengths)):
                client.send(encode_command("INCR", f"counter{number}") * length
                            + encode_command("ECHO", f"{number}:{length}"))
            for number, (client, length) in enumerate(zip(clients, lengths)):
                for _ in range(length):
                    counts[number] += 1
                    assert client.read() == counts[number]
                assert client.read() == f"{number}:{length}".encode()


def test_large_values_on_the_move(movers):
    """Values of many packets go in and out while the connection moves."""
    client = connect(movers)
    with Mover(movers):
        for turn in range(harness.scaled(20)):
            value = bytes([65 + turn % 26]) * (1_000_000 + turn)
            client.send(encode_command("SET", "large", value) + encode_command("GET", "large")
                        + encode_command("STRLEN", "large"))
            assert client.read() == "OK"
            assert client.read() == value
            assert client.read() == len(value)


def test_transactions_on_the_move(movers):
    """WATCH, MULTI, EXEC of several clients on one key: no update is lost."""
    clients = [connect(movers) for _ in range(4)]
    done = 0
    deadline = time.monotonic() + harness.LOAD_SECONDS
    with Mover(movers):
        while time.monotonic() < deadline:
            for client in clients:
                client.send(encode_command("WATCH", "sum") + encode_command("GET", "sum"))
            values = [client.read() and client.read() for client in clients]
            for client, value in zip(clients, values):
                client.send(encode_command("MULTI") + encode_command("SET", "sum", int(value or 0) + 1)
                            + encode_command("EXEC"))
            replies = []
            for client in clients:
                assert [client.read(), client.read()] == ["OK", "QUEUED"]
                replies.append(client.read())
            done += sum(reply is not None for reply in replies)
    assert done > 0
    assert int(movers.call("GET", "sum")) == done


def test_workers_fall_asleep_and_wake(movers):
    """The number of workers that are awake changes under load; nobody notices."""
    clients = [connect(movers) for _ in range(8)]
    for turn in range(harness.scaled(40)):
        assert movers.call("DEBUG", "WORKERS-AWAKE", str(turn % 2 + 1)) == "OK"
        for client in clients:
            client.send(encode_command("INCR", "n") * 100)
        for client in clients:
            values = [client.read() for _ in range(100)]
            assert values == sorted(values)
        time.sleep(0.02)
    assert int(movers.call("GET", "n")) == 8 * 100 * harness.scaled(40)
    assert movers.call("DEBUG", "WORKERS-AWAKE", "0") == "OK"


def test_sigterm_while_all_move(movers):
    """The process ends in order while connections are on their way."""
    movers.call("SET", "big", "b" * 3_000_000)
    clients = [connect(movers) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send([encode_command("GET", "big") * 10, encode_command("SET", "k", "x" * 100_000)[:-5],
                     encode_command("WATCH", "k") + encode_command("MULTI")][number % 3])
    for number, client in enumerate(clients):
        move(movers, "ALL")
    assert movers.terminate() == 0
