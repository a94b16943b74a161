"""Leases: a primary that is killed is replaced long before it has failed, and one that was stopped acknowledges nothing that is lost."""

import os
import pathlib
import select
import signal
import socket
import statistics
import time

import pytest
import redis

import harness
from clustering import flags_settle, is_ok, join, node_id, nodes, replicate, start_node
from harness import wait_until

pytestmark = pytest.mark.slotwise

EARLY = "has run out: starting an election early."
LEASED = "Writes are acknowledged by a lease of the masters from now on."
WON = "Failover election won: I'm the new master."
KEYS = [key for key in (f"key:{i}" for i in range(3000)) if harness.slot_of(key) <= 5460]


def three(start, stock=False, timeout_ms=5000):
    """Three primaries and a replica of the first, whose leases have begun."""
    options = {"cluster-node-timeout": str(timeout_ms)}
    members = [start_node(start, stock=stock, options=options) for _ in range(3)]
    join(members, [(0, 5460), (5461, 10922), (10923, 16383)])
    replica = start_node(start, stock=stock, options=options)
    replicate(replica, members[0])
    everybody = [*members, replica]
    wait_until(lambda: all(is_ok(node, 4) for node in everybody), what="all to be ok")
    flags_settle(everybody, {node_id(replica): ["slave"]})
    wait_until(lambda: replica.info("replication").get("master_link_status") == "up", what="the replica to be in step")
    if not stock:
        wait_until(lambda: LEASED in members[0].log(), what="the lease of the first")
    if "FAILOVERS" in os.environ:
        time.sleep(6)  # a node that knew nobody a moment ago does not accept writes for a node timeout
    return members, replica


def kill_and_time(members, replica, end=signal.SIGKILL):
    """Seconds from the signal to the first write that the replica accepts."""
    key = KEYS[0]
    assert members[0].call("SET", key, "before") == "OK"
    wait_until(lambda: replica.info("replication")["master_repl_offset"] == members[0].info("replication")["master_repl_offset"],
               what="the replica to have it")
    client = redis.Redis(port=replica.port, socket_timeout=harness.HANG_SECONDS)
    client.ping()
    began = time.monotonic()
    members[0].process.send_signal(end)
    while True:
        try:
            if client.set(key, "after"):
                break
        except redis.ResponseError:
            time.sleep(0.001)
    took = time.monotonic() - began
    members[0].terminate(end)
    return took


def test_a_killed_primary_is_replaced_before_it_has_failed(start):
    members, replica = three(start, timeout_ms=60000)
    old, new = node_id(members[0]), node_id(replica)
    time_s = kill_and_time(members, replica)
    assert EARLY in replica.log() and WON in replica.log()
    assert time_s < 30
    assert "fail" not in nodes(members[1])[old]["flags"]
    wait_until(lambda: nodes(members[1])[new]["slots"] == ["0-5460"], what="the others to know")


def is_stopped(process):
    """Each of its threads: the signal is taken by one of them, and the others run until then."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)


def stop(*some):
    for node in some:
        node.process.send_signal(signal.SIGSTOP)
    for node in some:
        wait_until(lambda one=node: is_stopped(one.process), what="all threads to be stopped")


def go_on(*some):
    for node in some:
        node.process.send_signal(signal.SIGCONT)


class Client:
    """A socket; commands are sent as lines, replies looked at as bytes."""

    def __init__(self, node):
        self.socket = socket.create_connection(node.address(), timeout=harness.HANG_SECONDS * harness.SLOWNESS)
        self.received, self.closed = b"", False

    def send(self, *lines):
        self.socket.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def hears(self, seconds):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def read_lines(self, count):
        """Until there are so many lines, or its end."""
        while self.received.count(b"\r\n") < count and not self.closed:
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            self.received += data
            self.closed = not data
        return self.received


class Writers:
    """Clients of one node, each of which is acknowledged in another way."""

    LINES = {"set": 4000, "push": 1, "wait": 4, "exec": 4}

    def __init__(self, node):
        self.node = node
        self.clients = {name: Client(node) for name in ["set", "pop", "push", "wait", "exec"]}
        self.clients["pop"].send(f"BLPOP {KEYS[0]} 0")
        wait_until(lambda: int(node.info("clients")["blocked_clients"]) == 1, what="the client to wait")

    def write(self):
        self.clients["set"].send(*[f"SET {KEYS[1 + index % 500]} {index}" for index in range(self.LINES["set"])])
        self.clients["push"].send(f"LPUSH {KEYS[0]} pushed")
        self.clients["wait"].send(f"SET {KEYS[501]} waited", "WAIT 0 0", f"INCR {KEYS[502]}", f"GETDEL {KEYS[502]}")
        self.clients["exec"].send("MULTI", f"SET {KEYS[503]} executed", "EXEC")

    def hear_nothing(self, seconds):
        deadline = time.monotonic() + seconds
        for name, client in self.clients.items():
            assert not client.hears(max(0, deadline - time.monotonic())), name

    def are_acknowledged(self):
        for name, lines in self.LINES.items():
            self.clients[name].read_lines(lines)
        assert self.clients["set"].received == b"+OK\r\n" * self.LINES["set"]
        assert self.clients["pop"].read_lines(5) == f"*2\r\n${len(KEYS[0])}\r\n{KEYS[0]}\r\n$6\r\npushed\r\n".encode()
        assert self.clients["push"].received == b":1\r\n"
        assert self.clients["exec"].received == b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"

    def are_not_acknowledged(self):
        """Each connection has ended, or its client was sent elsewhere."""
        for name, lines in {**self.LINES, "pop": 1}.items():
            received = self.clients[name].read_lines(lines - (name == "exec"))
            replies = [line for line in received.split(b"\r\n") if line and not line.startswith(b"-")]
            allowed = {b"+OK", b"+QUEUED"} if name == "exec" else {b":0"} if name == "wait" else set()
            assert set(replies) <= allowed and b"*1" not in replies, (name, received[:200])


def test_what_waited_for_a_primary_that_was_stopped_is_not_acknowledged(start):
    members, replica = three(start, timeout_ms=int(1500 * harness.SLOWNESS))
    writers = Writers(members[0])
    stop(members[0])
    writers.write()
    wait_until(lambda: replica.call("SET", KEYS[600], "new") == "OK", what="the replica to take over")
    go_on(members[0])
    writers.are_not_acknowledged()
    wait_until(lambda: members[0].info("replication")["role"] == "slave", what="the old primary to follow")
    assert replica.call("DBSIZE") == 1


def test_a_primary_whose_lease_is_over_holds_acknowledgements_and_goes_on(start):
    members, _ = three(start, timeout_ms=60000)
    writers = Writers(members[0])
    stop(*members[1:])
    time.sleep(0.6)  # longer than any lease
    writers.write()
    writers.hear_nothing(0.3)
    assert members[0].call("PING") == "PONG"
    assert isinstance(members[0].call("GET", KEYS[700]), type(None))
    go_on(*members[1:])
    writers.are_acknowledged()


def test_a_primary_that_is_alone_stops_writing(start):
    members, _ = three(start, timeout_ms=int(1500 * harness.SLOWNESS))
    writers = Writers(members[0])
    stop(*members[1:])
    time.sleep(0.6)  # longer than any lease
    writers.write()
    writers.are_not_acknowledged()
    refused = wait_until(lambda: next((reply for reply in [members[0].call("SET", KEYS[0], "alone")] if reply != "OK"), None),
                         what="the state to be down")
    assert str(refused).startswith("CLUSTERDOWN"), refused
    go_on(*members[1:])


@pytest.mark.skipif("FAILOVERS" not in os.environ, reason="a measurement: FAILOVERS=20")
@pytest.mark.slow_limit(3000)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("stock", [False, True], ids=["", "stock"])
def test_times(start, stock, end):
    times = []
    for _ in range(int(os.environ["FAILOVERS"])):
        members, replica = three(start, stock=stock)
        times.append(kill_and_time(members, replica, end))
        for node in [*members[1:], replica]:
            node.terminate(signal.SIGKILL)
    print(f"median {statistics.median(times):.3f} worst {max(times):.3f} s of {len(times)}: {[round(t, 3) for t in times]}")
