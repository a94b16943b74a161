"""A worker that is stuck: the log says where it stands, and SIGTERM still ends the process."""

import re
import signal
import time

import pytest

import debugging
import harness
from harness import wait_until
from resp import RawClient, ReplyError, encode_command

MARK = "WATCHDOG TIMER EXPIRED"


@pytest.fixture
def watched(start, backend):
    server = start({"watchdog-period": "200"}, backend=backend, threads=2)
    if server.call("CONFIG", "GET", "watchdog-period") != [b"watchdog-period", b"200"]:
        pytest.skip("no watchdog here")
    return server


def sleep(server, seconds):
    """A connection whose worker sleeps."""
    client = RawClient(*server.address(), timeout=30 * harness.SLOWNESS)
    server.clients.append(client)
    client.send_command("DEBUG", "SLEEP", seconds)
    return client


def test_it_says_where_a_worker_stands(watched):
    client = sleep(watched, "1.5")
    wait_until(lambda: MARK in watched.log(), what="the watchdog's report")
    assert client.read() == "OK"
    report = watched.log().lower()
    assert re.search(r"worker \d+ has not finished .* running command: debug\b", report), report
    assert "cmd_debug" in report.split(MARK.lower(), 1)[1], "the stack is missing"
    # The report comes back to the others: both workers go on.
    for _ in range(20):
        assert watched.call("SET", "k", "v") == "OK"


def test_it_comes_again_when_it_is_stuck_again(watched):
    for times in (1, 2):
        client = sleep(watched, "0.8")
        wait_until(lambda: watched.log().count(MARK) >= times, what="a report")  # noqa: B023
        assert client.read() == "OK"
        assert watched.call("PING") == "PONG"


def test_it_does_not_flood_the_log(watched):
    client = sleep(watched, "3")
    assert client.read() == "OK"
    assert 1 <= watched.log().count(MARK) <= 3 / 0.2 + 1
    assert len(watched.log()) < 200_000


def test_idle_and_busy_workers_are_not_stuck(watched):
    """Neither sleep nor work sets it off."""
    client = RawClient(*watched.address(), timeout=30 * harness.SLOWNESS)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        client.send(encode_command("INCR", "n") * 1000)
        for _ in range(1000):
            client.read()
    client.close()
    time.sleep(0.7)
    if not harness.SANITIZED:
        assert MARK not in watched.log()


def test_off_by_default(start, backend):
    server = start(backend=backend, threads=2)
    assert server.call("CONFIG", "GET", "watchdog-period") in ([b"watchdog-period", b"0"], [])
    assert sleep(server, "1").read() == "OK"
    assert MARK not in server.log()


def test_it_is_switched_while_running(start, backend):
    server = start(backend=backend, threads=2)
    if isinstance(server.call("CONFIG", "SET", "watchdog-period", "300"), ReplyError):
        pytest.skip("no watchdog here")
    assert sleep(server, "1.2").read() == "OK"
    wait_until(lambda: MARK in server.log(), what="the watchdog's report")
    assert server.call("CONFIG", "SET", "watchdog-period", "0") == "OK"
    reports = server.log().count(MARK)
    assert sleep(server, "1.2").read() == "OK"
    assert server.log().count(MARK) == reports


# --- SIGTERM ----------------------------------------------------------------------------------------------------------


def ends(server, seconds):
    """Sends SIGTERM; how long the process took to end. It must not have crashed."""
    begin = time.monotonic()
    server.expect_end = True
    server.process.send_signal(signal.SIGTERM)
    code = server.process.wait(seconds * harness.SLOWNESS)
    assert code >= 0, f"ended by signal {-code}:\n" + server.log()[-3000:]
    server.check()
    return time.monotonic() - begin


@pytest.mark.parametrize("period", ["0", "200"])
@pytest.mark.parametrize("threads", [1, 2])
def test_sigterm_while_a_worker_is_stuck(start, backend, period, threads):
    """Within shutdown-timeout, whatever the worker does."""
    server = start({"shutdown-timeout": "1"}, backend=backend, threads=threads)
    server.call("CONFIG", "SET", "watchdog-period", period)
    sleep(server, "60")
    time.sleep(0.2)
    assert ends(server, 6) < 6 * harness.SLOWNESS


def test_sigterm_while_every_worker_is_stuck(start, backend):
    server = start({"shutdown-timeout": "1"}, backend=backend, threads=2)
    debugging.require(server, "MOVE-CLIENT", "WORKERS-AWAKE")
    assert server.call("DEBUG", "WORKERS-AWAKE", "2") == "OK"
    for worker in (0, 1):
        client = RawClient(*server.address(), timeout=30 * harness.SLOWNESS)
        server.clients.append(client)
        number = debugging.client_id(client)
        assert not isinstance(server.call("DEBUG", "MOVE-CLIENT", number, worker), ReplyError)
        server.clients[-1] = client
    time.sleep(0.2)
    for client in server.clients:
        client.send_command("DEBUG", "SLEEP", "60")
    time.sleep(0.2)
    assert ends(server, 6) < 6 * harness.SLOWNESS


@pytest.mark.parametrize("what", ["slot", "patience"])
def test_sigterm_while_something_is_held(start, backend, what):
    """Commands wait for what nobody gives back."""
    server = start({"shutdown-timeout": "1"}, backend=backend, threads=2)
    debugging.require(server, "SLOT-HOLD", "PATIENCE-HOLD")
    hold = ("DEBUG", "SLOT-HOLD", "k", "60000") if what == "slot" else ("DEBUG", "PATIENCE-HOLD", "60000")
    assert server.call(*hold) == "OK"
    for command in (("SET", "k", "v"), ("FLUSHALL",), ("WATCH", "k"), ("CONFIG", "SET", "slowlog-max-len", "1"),
                    ("MSET", "a", "1", "k", "2"), ("GET", "k")) * 3:
        client = RawClient(*server.address())
        server.clients.append(client)
        client.send_command(*command)
    time.sleep(0.1)
    assert ends(server, 6) < 6 * harness.SLOWNESS


@pytest.mark.smoke
def test_sigterm_with_connections_in_every_state(start, backend):
    """Idle, half a command, unread output, watching, in a transaction, paused: all ends in order with code 0."""
    server = start(backend=backend, threads=2)
    server.call("SET", "big", "b" * 2_000_000)
    states = [b"", encode_command("SET", "x", "y" * 3_000_000)[:1_000_000], encode_command("GET", "big") * 20,
              encode_command("WATCH", "x") + encode_command("MULTI") + encode_command("SET", "x", "1"),
              encode_command("PING")[:-2], encode_command("CLIENT", "REPLY", "OFF") + encode_command("SET", "k", "v")]
    clients = []
    for number in range(30):
        client = RawClient(*server.address())
        server.clients.append(client)
        client.send(states[number % len(states)])
        clients.append(client)
    assert server.call("CLIENT", "PAUSE", "60000", "WRITE") == "OK"
    for number in range(10):
        client = RawClient(*server.address())
        server.clients.append(client)
        client.send(encode_command("SET", "k", "v") + encode_command("GET", "big") * 5)
    time.sleep(0.1)
    assert server.terminate() == 0
