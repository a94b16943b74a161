"""Where the server listens and whom it lets in: binds, IPv6, Unix sockets, protected mode, passwords."""

import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

import harness
from harness import free_port, wait_until
from resp import RawClient, ReplyError, encode_command

SMOKE = True

NOAUTH = ReplyError("NOAUTH Authentication required.")
WRONGPASS = ReplyError("WRONGPASS invalid username-password pair or user is disabled.")


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def refused(host, port):
    try:
        RawClient(host, port).close()
        return False
    except ConnectionRefusedError:
        return True


# --- addresses ------------------------------------------------------------------------------------------------


def test_several_addresses(start, backend):
    server = start({"bind": "127.0.0.1 127.0.0.2 127.0.0.3"}, backend=backend, threads=2)
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        with RawClient(host, server.port) as client:
            assert client.call("INCR", "n")
    assert server.call("GET", "n") == b"3"
    assert refused("127.0.0.4", server.port)


@needs_ipv6
def test_ipv6(start, backend):
    server = start({"bind": "127.0.0.1 ::1"}, backend=backend, threads=2)
    with RawClient("::1", server.port) as client:
        assert client.call("SET", "k", "six") == "OK"
        assert b"addr=[::1]:" in client.call("CLIENT", "INFO")
        assert b"laddr=[::1]:%d" % server.port in client.call("CLIENT", "INFO")
    assert server.call("GET", "k") == b"six"


def test_optional_address(start, backend):
    """An address with a minus in front that does not exist here does no harm."""
    server = start({"bind": "127.0.0.1 -192.0.2.77"}, backend=backend, threads=2)
    assert server.call("PING") == "PONG"


def test_address_that_does_not_exist(start, backend):
    with pytest.raises(harness.StartFailed) as failure:
        start({"bind": "127.0.0.1 192.0.2.77"}, backend=backend)
    assert failure.value.code == 1
    assert "Could not create server TCP listening socket 192.0.2.77" in failure.value.output


def test_a_killed_server_starts_again_at_once(start, backend):
    """The kernel takes an io_uring, and the listener in it, down after the process has ended."""
    port = free_port()
    for _ in range(12):
        server = start({"port": port}, backend=backend)
        clients = [server.raw() for _ in range(10)]
        assert [client.call("PING") for client in clients] == ["PONG"] * len(clients)
        server.terminate(signal.SIGKILL)


def test_port_in_use(start, backend):
    first = start(backend=backend)
    with pytest.raises(harness.StartFailed) as failure:
        start({"port": first.port}, backend=backend)
    assert failure.value.code == 1
    assert "Could not create server TCP listening socket 127.0.0.1:%d: bind: Address already in use" % first.port \
        in failure.value.output
    assert first.call("PING") == "PONG"


def test_port_changes_while_running(server):
    other = free_port()
    client = server.raw()
    assert client.call("CONFIG", "SET", "port", other) == "OK"
    assert client.call("PING") == "PONG"
    with RawClient("127.0.0.1", other) as late:
        assert late.call("PING") == "PONG"
    wait_until(lambda: refused("127.0.0.1", server.port), what="the old port to close")


def test_bind_changes_while_running(server):
    client = server.raw()
    assert client.call("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.5") == "OK"
    with RawClient("127.0.0.5", server.port) as late:
        assert late.call("PING") == "PONG"
    reply = client.call("CONFIG", "SET", "bind", "192.0.2.77")
    assert isinstance(reply, ReplyError) and "Failed to bind to specified addresses" in reply.text, reply
    with RawClient("127.0.0.5", server.port) as late:
        assert late.call("PING") == "PONG"
    assert client.call("CONFIG", "GET", "bind") == [b"bind", b"127.0.0.1 127.0.0.5"]


# --- Unix sockets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permission,mode", [("700", 0o700), ("777", 0o777), ("640", 0o640)])
def test_unix_socket(start, backend, tmp_path, permission, mode):
    path = str(tmp_path / "socket")
    server = start({"unixsocket": path, "unixsocketperm": permission}, backend=backend, threads=2)
    assert stat.S_IMODE(os.stat(path).st_mode) == mode
    with RawClient(path=path) as client:
        assert client.call("SET", "k", "unix") == "OK"
        assert b" addr=" + path.encode() + b":0 " in client.call("CLIENT", "INFO")
        client.send(encode_command("GET", "k") * 100)
        assert [client.read() for _ in range(100)] == [b"unix"] * 100
    assert server.call("GET", "k") == b"unix"
    assert server.terminate() == 0
    assert not os.path.exists(path)


def test_only_a_unix_socket(start, backend, tmp_path):
    path = str(tmp_path / "socket")
    server = start({"unixsocket": path, "port": "0"}, backend=backend, wait=False)
    wait_until(lambda: os.path.exists(path), what="the socket")

    def ping():
        try:
            with RawClient(path=path) as client:
                return client.call("PING") == "PONG"
        except OSError:
            return False

    wait_until(ping, what="PING over the Unix socket")
    assert server.alive()


def test_stale_unix_socket_is_replaced(start, backend, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    start({"unixsocket": path}, backend=backend)
    with RawClient(path=path) as client:
        assert client.call("PING") == "PONG"


# --- passwords ------------------------------------------------------------------------------------------------


def test_requirepass(start, backend):
    server = start({"requirepass": "secret"}, backend=backend, threads=2)
    with RawClient(*server.address()) as client:
        for command in (["PING"], ["GET", "k"], ["SET", "k", "v"], ["MULTI"], ["INFO"], ["CLIENT", "LIST"],
                        ["CONFIG", "GET", "requirepass"], ["SHUTDOWN", "NOSAVE"], ["FLUSHALL"], ["WATCH", "k"],
                        ["COMMAND"], ["SELECT", "1"]):
            assert client.call(*command) == NOAUTH, command
        assert client.call("NOSUCH") == ReplyError("ERR unknown command 'NOSUCH', with args beginning with: ")
        assert client.call("GET") == ReplyError("ERR wrong number of arguments for 'get' command")
        reply = client.call("HELLO", "3").text
        if harness.VERSION < (7, 2):
            reply = reply.replace("HELLO AUTH", "HELLO <proto> AUTH")
        assert reply == (
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
            "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at "
            "the same time")
        assert client.call("AUTH", "wrong") == WRONGPASS
        assert client.call("AUTH", "default", "wrong") == WRONGPASS
        assert client.call("AUTH", "nobody", "secret") == WRONGPASS
        assert client.call("PING") == NOAUTH
        assert client.call("AUTH", "secret") == "OK"
        assert client.call("PING") == "PONG"
        assert client.call("AUTH", "wrong") == WRONGPASS
        assert client.call("PING") == "PONG"
        assert client.call("RESET") == "RESET"
        assert client.call("PING") == NOAUTH
        assert client.call("AUTH", "default", "secret") == "OK"
        assert client.call("PING") == "PONG"
    with RawClient(*server.address()) as client:
        assert client.call("QUIT") == "OK"


def test_hello_with_auth(start, backend):
    server = start({"requirepass": "secret"}, backend=backend, threads=2)
    with RawClient(*server.address()) as client:
        assert client.call("HELLO", "3", "AUTH", "default", "wrong") == WRONGPASS
        assert client.call("PING") == NOAUTH
        reply = client.call("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me")
        assert reply.dictionary()[b"proto"] == 3
        assert client.call("CLIENT", "GETNAME") == b"me"
        assert client.call_raw("GET", "k") == b"_\r\n"


def test_auth_in_a_pipeline(start, backend):
    server = start({"requirepass": "secret"}, backend=backend, threads=2)
    with RawClient(*server.address()) as client:
        replies = client.pipeline([("GET", "k"), ("AUTH", "secret"), ("SET", "k", "v"), ("GET", "k")])
        assert replies == [NOAUTH, "OK", "OK", b"v"]


@pytest.mark.slotwise
def test_failed_auth_in_a_pipeline(start, backend):
    """Redis 7.2.4 itself drops the error reply to AUTH if others are waiting to be sent."""
    server = start({"requirepass": "secret"}, backend=backend, threads=2)
    with RawClient(*server.address()) as client:
        replies = client.pipeline([("GET", "k"), ("AUTH", "wrong"), ("AUTH", "a", "b"), ("AUTH", "secret"), ("PING",)])
        assert replies == [NOAUTH, WRONGPASS, WRONGPASS, "OK", "PONG"]


def test_password_changes_while_running(server):
    inside = server.raw()
    assert inside.call("CONFIG", "SET", "requirepass", "secret") == "OK"
    assert inside.call("PING") == "PONG"
    with RawClient(*server.address()) as client:
        assert client.call("PING") == NOAUTH
        assert client.call("AUTH", "secret") == "OK"
    assert inside.call("CONFIG", "GET", "requirepass") == [b"requirepass", b"secret"]
    assert inside.call("CONFIG", "SET", "requirepass", "") == "OK"
    with RawClient(*server.address()) as client:
        assert client.call("PING") == "PONG"


def test_password_is_not_logged(start, backend):
    server = start({"requirepass": "very-secret-word", "loglevel": "debug"}, backend=backend)
    server.call("CONFIG", "SET", "requirepass", "other-secret-word")
    server.password = "other-secret-word"
    assert "secret-word" not in server.log()


# --- protected mode -------------------------------------------------------------------------------------------

# Runs in a network namespace of its own, where the loopback device has one more address that is no loopback address.
PROTECTED = """
import sys
sys.path.insert(0, sys.argv[1])
import harness
from resp import RawClient

def first_reply(server):
    with RawClient("10.99.0.1", server.port) as client:
        try:
            client.send(b"PING\\r\\n")
        except OSError:
            pass
        return client.read_until_close() if sys.argv[3] == "closes" else client.read_raw()

options = {"bind": "0.0.0.0", **eval(sys.argv[2])}
server = harness.Server(options, backend=harness.BACKENDS[0], threads=2)
print(first_reply(server).decode(), end="")
assert server.call("PING") == "PONG"
server.stop()
"""


def from_outside(options, ending):
    script = "ip link set lo up && ip addr add 10.99.0.1/32 dev lo && exec \"$@\""
    run = subprocess.run(
        ["unshare", "-rn", "sh", "-c", script, "sh", sys.executable, "-c", PROTECTED,
         os.path.dirname(os.path.abspath(__file__)), repr(options), ending], capture_output=True, text=True)
    if "unshare" in run.stderr or "Operation not permitted" in run.stderr or "ip: not found" in run.stderr:
        pytest.skip("no network namespaces here: " + run.stderr[:200])
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_protected_mode_rejects_strangers():
    reply = from_outside({}, "closes")
    assert reply.startswith("-DENIED Redis is running in protected mode because protected mode is enabled and no "
                            "password is set for the default user. In this mode connections are only accepted from "
                            "the loopback interface."), reply
    assert reply.endswith("the server to start accepting connections from the outside.\n"), reply


def test_without_protected_mode():
    assert from_outside({"protected-mode": "no"}, "answers") == "+PONG\n"


def test_protected_mode_with_a_password():
    assert from_outside({"requirepass": "secret"}, "answers") == "-NOAUTH Authentication required.\n"
