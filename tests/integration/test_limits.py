"""Limits on clients: sizes, buffers, numbers, idle time. Whoever passes one is cut off; others are served on."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest

import harness
from bystander import Bystander
from harness import at_some_pace, wait_until
from resp import RawClient, ReplyError, encode_command


def connected(server):
    return int(server.info("clients")["connected_clients"]) - 1


# --- sizes ----------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_proto_max_bulk_len(server):
    client = server.raw()
    assert client.call("CONFIG", "SET", "proto-max-bulk-len", "1mb") == "OK"
    value = b"x" * 1048576
    assert client.call("SET", "k", value) == "OK"
    assert client.call("GET", "k") == value
    too_long = ReplyError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
    assert client.call("APPEND", "k", "y") == too_long
    assert client.call("SETRANGE", "k", 1048576, "y") == too_long
    assert client.call("SETRANGE", "k", 1048575, "y") == 1048576
    assert client.call("SETRANGE", "new", 1048577, "y") == too_long
    assert client.call("STRLEN", "k") == 1048576
    client.send(b"*2\r\n$3\r\nGET\r\n$1048577\r\n")
    assert client.read_until_close() == b"-ERR Protocol error: invalid bulk length\r\n"


@pytest.mark.smoke
def test_announced_sizes_take_no_memory(server):
    """512 MB that are announced and never sent, and two billion arguments, must not be allocated for real."""
    before = server.resident_bytes()
    with Bystander(server):
        clients = [server.raw() for _ in range(20)]
        for client in clients[:10]:
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc")
        for client in clients[10:]:
            client.send(b"*2147483647\r\n$4\r\nMGET\r\n")
        time.sleep(0.2)
        assert all(client.silent(0) for client in clients)
        assert server.resident_bytes() - before < 100 * 1024 * 1024 * harness.SLOWNESS
        for client in clients:
            client.close()
        wait_until(lambda: connected(server) <= 1, what="all clients to be gone")


@pytest.mark.smoke
def test_client_query_buffer_limit(server):
    assert server.call("CONFIG", "SET", "client-query-buffer-limit", "1mb") == "OK"
    with Bystander(server):
        hog = server.raw()
        try:
            hog.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000000\r\n" + b"x" * 5_000_000)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert hog.read_until_close() == b""
    wait_until(lambda: "Closing client that reached max query buffer length" in server.log(), what="the log line")
    assert server.call("EXISTS", "k") == 0


@pytest.mark.smoke
def test_unauthenticated_limits(start, backend):
    server = start({"requirepass": "secret"}, backend=backend, threads=2)
    for data, text in ((b"*11\r\n", b"unauthenticated multibulk length"),
                       (b"*2\r\n$3\r\nGET\r\n$16385\r\n", b"unauthenticated bulk length"),
                       (b"*1000000\r\n", b"unauthenticated multibulk length")):
        with RawClient(*server.address()) as stranger:
            stranger.send(data)
            assert stranger.read_until_close() == b"-ERR Protocol error: " + text + b"\r\n"
    with RawClient(*server.address()) as stranger:
        assert stranger.call("GET", "x" * 16384) == ReplyError("NOAUTH Authentication required.")
        assert stranger.call("MGET", *"abcdefghi") == ReplyError("NOAUTH Authentication required.")
        assert stranger.call("AUTH", "secret") == "OK"
        assert stranger.call("MGET", *"abcdefghijklmnop") == [None] * 16
        assert stranger.call("GET", "x" * 20000) is None


# --- output that is not read ------------------------------------------------------------------------------------


def fill(server, size=200_000):
    server.call("SET", "big", "b" * size)


@pytest.mark.smoke
def test_output_buffer_hard_limit(server):
    fill(server)
    assert server.call("CONFIG", "SET", "client-output-buffer-limit", "normal 2mb 0 0") == "OK"
    with Bystander(server):
        deaf = server.raw()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000)
        deaf.call("CLIENT", "SETNAME", "deaf")
        try:
            for _ in range(400):
                deaf.send(encode_command("GET", "big"))
        except OSError:
            pass
        wait_until(lambda: b"name=deaf" not in server.call("CLIENT", "LIST"), what="the deaf client to be closed")
    wait_until(lambda: "overcoming of output buffer limits" in server.log(), what="the log line")


def test_output_buffer_soft_limit(server):
    fill(server)
    assert server.call("CONFIG", "SET", "client-output-buffer-limit", "normal 0 1mb 1") == "OK"
    with Bystander(server):
        deaf = server.raw()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 10000)
        deaf.call("CLIENT", "SETNAME", "deaf")
        begin = time.monotonic()
        deaf.send(encode_command("GET", "big") * 100)
        wait_until(lambda: b"name=deaf" not in server.call("CLIENT", "LIST"), what="the deaf client to be closed")
        assert time.monotonic() - begin > 0.7


def test_output_without_limit_waits(server):
    """No limit is set: whoever reads late gets everything, and whoever goes away frees it."""
    fill(server)
    with Bystander(server):
        late, gone = server.raw(), server.raw()
        for client in (late, gone):
            client.send(encode_command("GET", "big") * 200)
        time.sleep(0.3)
        for _ in range(200):
            assert late.read() == b"b" * 200_000
        gone.close()
        assert late.call("PING") == "PONG"


@pytest.mark.smoke
def test_replies_to_a_client_that_reads_slowly(server):
    """A pipeline whose replies exceed all socket buffers, read in small pieces."""
    fill(server, 50_000)
    slow = server.raw()
    slow.send(b"".join(encode_command("GET", "big") + encode_command("PING") for _ in range(100)))
    wanted = (b"$50000\r\n" + b"b" * 50_000 + b"\r\n+PONG\r\n") * 100
    received = bytearray()
    while len(received) < len(wanted):
        received += slow.socket.recv(7000)
    assert received == wanted


# --- numbers and times ------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_maxclients(start, backend):
    server = start({"maxclients": 5}, backend=backend, threads=2)
    clients = []

    def connect_five():
        """Connections that have just been closed may still count."""
        for client in clients:
            client.close()
        clients[:] = [RawClient(*server.address()) for _ in range(5)]
        try:
            return [client.call("PING") for client in clients] == ["PONG"] * 5
        except OSError:
            return False

    wait_until(connect_five, what="five connections", interval=0.1)
    before = int(clients[0].call("INFO", "stats").split(b"rejected_connections:")[1].split()[0])
    for _ in range(3):
        with RawClient(*server.address()) as rejected:
            assert rejected.read_until_close() == b"-ERR max number of clients reached\r\n"
    assert int(clients[0].call("INFO", "stats").split(b"rejected_connections:")[1].split()[0]) == before + 3
    clients.pop().close()

    def let_in():
        with RawClient(*server.address()) as late:
            try:
                return late.call("PING") == "PONG"
            except OSError:
                return False

    wait_until(let_in, what="a place to become free")
    assert clients[0].call("CONFIG", "SET", "maxclients", "8") == "OK"
    more = [server.raw() for _ in range(4)]
    assert [client.call("PING") for client in more] == ["PONG"] * 4
    assert clients[0].call("CONFIG", "GET", "maxclients") == [b"maxclients", b"8"]


def test_timeout(server):
    control = server.raw()

    def idle_is_closed_and_busy_is_not(scale):
        """With a timeout of 1 s; 10 s for machines on which a busy client may be silent for one."""
        assert control.call("CONFIG", "SET", "timeout", "0") == "OK"
        idle, busy = server.raw(), server.raw()
        assert control.call("CONFIG", "SET", "timeout", min(scale, 30)) == "OK"
        begin = time.monotonic()
        assert idle.call("PING") == "PONG"
        while idle.silent(0.05):
            assert ping(busy) and ping(control), "a busy client was closed"
        closed_after = time.monotonic() - begin
        assert idle.read_until_close() == b""
        assert closed_after > 0.9 * min(scale, 30), closed_after
        for _ in range(20):
            assert ping(busy) and ping(control), "a busy client was closed"
            time.sleep(0.05)

    def ping(client):
        try:
            return client.call("PING") == "PONG"
        except OSError:
            return False

    at_some_pace(idle_is_closed_and_busy_is_not)


def test_timeout_spares_half_sent_commands_no_more_than_silence(server):
    """A client that drips is not idle."""
    data = encode_command("ECHO", "x" * 20)

    def drip(scale):
        server.call("CONFIG", "SET", "timeout", min(scale, 30))
        dripping = server.raw()
        try:
            for at in range(len(data)):
                dripping.send(data[at:at + 1])
                time.sleep(0.07 * min(scale, 30))
            assert dripping.read() == b"x" * 20
        except OSError:
            raise AssertionError("a dripping client was closed") from None

    at_some_pace(drip)


@pytest.mark.smoke
def test_thousands_of_connections_one_after_the_other(server):
    count = harness.scaled(3000)
    before = server.resident_bytes()
    with Bystander(server):
        for number in range(count):
            client = RawClient(*server.address())
            if number % 3 == 0:
                client.send(b"PING\r\n")
                assert client.read() == "PONG"
            elif number % 3 == 1:
                client.send(b"*2\r\n$3\r\nGET\r\n$5\r\nhe")
            if number % 2:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_until(lambda: connected(server) <= 1, what="all clients to be gone")
    # The kernel itself drops some that are reset before the server has accepted them.
    assert int(server.info("stats")["total_connections_received"]) >= count // 2
    assert server.resident_bytes() - before < 50 * 1024 * 1024 * harness.SLOWNESS


def test_thousands_of_connections_at_once(server):
    count = harness.scaled(2000)
    with Bystander(server):
        clients = [RawClient(*server.address()) for _ in range(count)]
        for number, client in enumerate(clients):
            client.send(encode_command("SET", f"k{number}", number))
        for client in clients:
            assert client.read() == "OK"
        assert connected(server) >= count
        for number, client in enumerate(clients):
            client.send(encode_command("GET", f"k{count - 1 - number}"))
        for number, client in enumerate(clients):
            assert client.read() == b"%d" % (count - 1 - number)
        for client in clients:
            client.close()
        wait_until(lambda: connected(server) <= 1, what="all clients to be gone")


def test_idle_connections_take_little_memory(start, backend):
    count = 1000
    server = start(backend=backend, threads=2)
    warm = [server.raw() for _ in range(20)]
    for client in warm:
        client.call("PING")
    before = server.resident_bytes()
    clients = [server.raw() for _ in range(count)]
    for client in clients:
        assert client.call("PING") == "PONG"
    # 2 KB is the aim; the stock server needs 10 to 40.
    limit = 8192 if harness.IS_SLOTWISE and not harness.SANITIZED else 200_000
    wait_until(lambda: (server.resident_bytes() - before) / count < limit, what=f"less than {limit} bytes for each connection")


# --- clients that die ---------------------------------------------------------------------------------------------

DYING_CLIENT = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
command = b"*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$100000\\r\\n" + b"x" * 100000 + b"\\r\\n"
print("ready", flush=True)
while True:
    s.sendall(command)
    s.sendall(b"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n" * 3)
"""


@pytest.mark.smoke
def test_clients_killed_in_mid_command(server):
    with Bystander(server):
        for turn in range(5):
            victims = [subprocess.Popen([sys.executable, "-c", DYING_CLIENT, str(server.port)],
                                        stdout=subprocess.PIPE) for _ in range(2)]
            for victim in victims:
                assert victim.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.03 * turn)
            for victim in victims:
                os.kill(victim.pid, signal.SIGKILL)
                victim.wait()
                victim.stdout.close()
    wait_until(lambda: connected(server) == 0, what="the dead clients to be gone")
    assert server.call("GET", "k") in (None, b"x" * 100000)


@pytest.mark.smoke
def test_reset_in_mid_reply(server):
    """Connections that are reset while a large reply is on its way."""
    fill(server, 3_000_000)
    with Bystander(server):
        for _ in range(harness.scaled(60)):
            client = server.raw()
            client.send(encode_command("GET", "big") * 3 + encode_command("SET", "small", "1"))
            client.socket.recv(1000)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        wait_until(lambda: connected(server) <= 1, what="all clients to be gone")


@pytest.mark.smoke
def test_watching_clients_that_vanish(server):
    """Clients that go away with watched keys or an open transaction leave nothing behind."""
    stayer = server.raw()
    for number in range(harness.scaled(200)):
        client = RawClient(*server.address())
        client.send(encode_command("WATCH", "a", "b", f"c{number}") + encode_command("MULTI")
                    + encode_command("SET", "never", "1"))
        if number % 2:
            client.read()
        client.close()
        stayer.call("SET", "a", number)
    wait_until(lambda: connected(server) <= 1, what="all clients to be gone")
    assert stayer.pipeline([("SET", "a", "x"), ("SET", "b", "x"), ("EXISTS", "never")]) == ["OK", "OK", 0]
