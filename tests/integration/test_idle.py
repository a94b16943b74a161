"""What counts as idle, what a password limits and for how long, and what happens without descriptors."""

import os
import resource
import socket
import time

import pytest

import harness
from harness import wait_until
from resp import RawClient, ReplyError, encode_command

MEGABYTE = 1024 * 1024


def connected(server):
    return int(server.info("clients")["connected_clients"]) - 1


def cpu_used(server, seconds):
    before = server.cpu_seconds()
    time.sleep(seconds)
    return server.cpu_seconds() - before


# --- timeout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 40], ids=["one large value", "many replies"])
def test_timeout_spares_who_downloads(start, backend, pieces):
    """A client that takes its replies slowly is not idle as long as something of them goes out."""
    server = start({"timeout": "1"}, backend=backend)
    size = 40 * MEGABYTE // pieces
    assert server.call("SET", "big", "b" * size) == "OK"
    reader = RawClient(*server.address(), timeout=30)
    reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    reader.send(encode_command("GET", "big") * pieces)
    wanted = pieces * (size + len(b"$%d\r\n\r\n" % size))
    received, begin = 0, time.monotonic()
    while time.monotonic() - begin < 4:
        received += len(reader.socket.recv(50_000))
        time.sleep(0.01)
    assert received < wanted, "the reader was not slow"
    while received < wanted:
        more = reader.socket.recv(MEGABYTE)
        assert more, f"cut off after {received} of {wanted} bytes"
        received += len(more)
    assert received == wanted
    reader.socket.settimeout(20)
    assert reader.socket.recv(1) == b"", "an idle client is cut off all the same"
    reader.close()


def test_timeout_cuts_who_never_reads(start, backend):
    """Output that nobody takes keeps no connection alive."""
    server = start({"timeout": "1"}, backend=backend)
    assert server.call("SET", "big", "b" * 10 * MEGABYTE) == "OK"
    deaf = server.raw()
    deaf.send(encode_command("GET", "big") * 5)
    wait_until(lambda: connected(server) == 0, what="the deaf client to be cut off")


def test_timeout_spares_who_waits(start, backend):
    """A command that CLIENT PAUSE holds back longer than `timeout` is answered."""
    server = start({"timeout": "1"}, backend=backend)
    client = server.raw()
    assert server.call("CLIENT", "PAUSE", "3000", "WRITE") == "OK"
    client.send_command("SET", "k", "v")
    assert client.read() == "OK"


# --- a password -----------------------------------------------------------------------------------------------------


def test_limits_end_with_the_password(server):
    """A client that came while there was a password has no limits of its own once there is none."""
    admin = server.raw()
    assert admin.call("CONFIG", "SET", "requirepass", "secret") == "OK"
    strangers = [RawClient(*server.address()) for _ in range(3)]
    for stranger in strangers[:2]:
        assert stranger.call("GET", "x") == ReplyError("NOAUTH Authentication required.")
    assert admin.call("CONFIG", "SET", "requirepass", "") == "OK"
    for stranger in strangers:
        assert stranger.call("MSET", *["k", "v"] * 20) == "OK"
        assert stranger.call("SET", "k", "x" * 100_000) == "OK"
        assert stranger.call("SET", "k", "x" * MEGABYTE) == "OK"
        stranger.send(encode_command("MSET", *["k", "v"] * 100)[:-10])
        time.sleep(0.01)
        stranger.send(encode_command("MSET", *["k", "v"] * 100)[-10:])
        assert stranger.read() == "OK"
        stranger.close()


def test_limits_hold_while_there_is_a_password(server):
    admin = server.raw()
    assert admin.call("CONFIG", "SET", "requirepass", "secret") == "OK"
    server.password = "secret"
    with RawClient(*server.address()) as stranger:
        stranger.send(encode_command("MSET", *["k", "v"] * 20))
        assert stranger.read_until_close() == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    with RawClient(*server.address()) as friend:
        assert friend.call("AUTH", "secret") == "OK"
        assert friend.call("MSET", *["k", "v"] * 20) == "OK"


# --- descriptors ----------------------------------------------------------------------------------------------------


def test_out_of_descriptors(start, backend):
    """Who cannot be let in waits at no cost, those inside are served, and he is let in when there is room."""
    server = start(backend=backend, threads=1)
    inside = server.raw()
    assert inside.call("PING") == "PONG"
    open_now = len(os.listdir(f"/proc/{server.pid}/fd"))
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (open_now + 3, open_now + 3))
    clients = [RawClient(*server.address(), timeout=30 * harness.SLOWNESS) for _ in range(12)]
    for client in clients:
        client.send_command("PING")
    time.sleep(0.2)
    used = cpu_used(server, 1.0)
    assert used < 0.3 * harness.SLOWNESS, f"{used:.2f} s of CPU in a second of nothing"
    assert inside.call("PING") == "PONG"
    if backend == "epoll":  # io_uring goes by the limit that held when it began to accept
        assert len([client for client in clients if not client.silent(0)]) <= 4
    for _ in range(len(clients)):
        answered = [client for client in clients if not client.silent(0)]
        for client in answered:
            assert client.read() == "PONG"
            client.close()
            clients.remove(client)
        if not clients:
            break
        wait_until(lambda: any(not client.silent(0) for client in clients), what="somebody to be let in")
    assert not clients
    assert inside.call("PING") == "PONG"


# --- who is idle costs nothing ------------------------------------------------------------------------------------


def test_idle_connections_in_every_state_cost_nothing(start, backend):
    """No state of a connection makes a worker spin."""
    server = start(backend=backend, threads=2)
    assert server.call("SET", "big", "b" * MEGABYTE) == "OK"
    states = [b"", encode_command("PING")[:-3], encode_command("GET", "big") * 20, encode_command("WATCH", "big"),
              encode_command("MULTI") + encode_command("GET", "big"), encode_command("SET", "x", "y" * MEGABYTE)[:-3],
              b"*100\r\n$4\r\nMGET\r\n" + b"$1\r\nk\r\n" * 80]
    clients = []
    for number in range(5 * len(states)):
        client = server.raw()
        client.send(states[number % len(states)])
        if number % 4 == 3:
            client.socket.shutdown(socket.SHUT_WR)
        clients.append(client)
    assert server.call("CLIENT", "PAUSE", "60000", "WRITE") == "OK"
    for _ in range(10):
        client = server.raw()
        client.send(encode_command("SET", "k", "v") + encode_command("SET", "x", "y" * MEGABYTE)[:300_000])
        if len(clients) % 2:
            client.socket.shutdown(socket.SHUT_WR)
        clients.append(client)
    time.sleep(0.3)
    used = cpu_used(server, 1.0)
    assert used < 0.3 * harness.SLOWNESS, f"{used:.2f} s of CPU in a second of nothing"
