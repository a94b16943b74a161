"""FAILOVER: the primary hands its role over to a replica, whatever either of them is, and nothing that was acknowledged is lost."""

import os
import re
import signal
import socket
import threading
import time

import pytest

import harness
from harness import wait_until
from replication import HandMade, Proxy, wait_link_up
from replication_load import assert_same_data
from resp import RawClient, ReplyError

MODULE_SECONDS = 60
pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(harness.ORACLE, os.X_OK), reason="no stock server")]

AT_ONCE = {"repl-diskless-sync-delay": "0"}
OURS, STOCK = "ours", "stock"


@pytest.fixture
def make(start):
    """make(kind, options): a server of this kind; a replica of `primary` if there is one."""
    def run(kind, options=None, primary=None):
        settings = {**AT_ONCE, **(options or {})}
        if primary:
            settings["replicaof"] = ("127.0.0.1", primary.port)
        one = start(settings, binary=harness.ORACLE, backend=None) if kind == STOCK else start(settings, threads=2)
        if primary:
            wait_link_up(one)
            wait_until(lambda: f"port={one.port},state=online" in primary.info("replication").get("slave0", "")
                       + primary.info("replication").get("slave1", ""), what="the replica to be online")
        return one
    return run


def state(server):
    return server.info("replication")["master_failover_state"]


def role(server):
    return server.call("ROLE")[0]


def wait_over(server):
    wait_until(lambda: state(server) == "no-failover", what="the end of the failover")


def error_of(server, *words):
    reply = server.call(*words)
    assert isinstance(reply, ReplyError), reply
    return reply.text


class Counters:
    """Clients that INCR a key of their own, every other one by transactions, one after the other until they are refused."""

    def __init__(self, server, count=4):
        self.acknowledged = [0] * count
        self.refusals = [None] * count
        self.threads = [threading.Thread(target=self._run, args=(server, number), daemon=True) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, server, number):
        increment = ("INCR", f"counter:{number}")
        with RawClient(*server.address()) as client:
            while True:
                replies = client.pipeline([("MULTI",), increment, increment, ("EXEC",)] if number % 2 else [increment])
                errors = [reply for reply in replies if isinstance(reply, ReplyError)]
                if errors:
                    self.refusals[number] = errors[0].text
                    return
                self.acknowledged[number] = replies[-1][-1] if number % 2 else replies[0]

    def under_way(self):
        return all(count > 20 for count in self.acknowledged)

    def join(self):
        for thread in self.threads:
            thread.join(harness.HANG_SECONDS)
            assert not thread.is_alive()


# --- It succeeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new", [(OURS, OURS), (OURS, STOCK), (STOCK, OURS)])
@pytest.mark.parametrize("to", ["any", "named"])
def test_nothing_that_was_acknowledged_is_lost(make, old, new, to):
    primary = make(old)
    replica = make(new, primary=primary)
    counters = Counters(primary)
    wait_until(counters.under_way, what="some writes")
    assert primary.call("FAILOVER", *(["TO", "127.0.0.1", replica.port] if to == "named" else [])) == "OK"
    counters.join()
    assert all("READONLY" in refusal for refusal in counters.refusals)
    wait_over(primary)
    assert role(primary) == b"slave" and role(replica) == b"master"
    wait_link_up(primary)
    for number, count in enumerate(counters.acknowledged):
        assert int(replica.call("GET", f"counter:{number}")) == count
    assert_same_data(replica, primary)
    assert replica.info("stats")["sync_full"] == "0" and replica.info("stats")["sync_partial_ok"] == "1"
    for line in [f"FAILOVER requested to {'any replica' if to == 'any' else f'127.0.0.1:{replica.port}'}.",
                 f"Failover target 127.0.0.1:{replica.port} is synced, failing over."]:
        assert line in primary.log()
    history = primary.info("replication")["master_replid2"]
    assert f"Failover request received for replid {history}." in replica.log()
    assert re.search(r"MASTER MODE enabled \(failover request from 'id=\d+ addr=", replica.log())


@pytest.mark.parametrize("new", [OURS, STOCK])
@pytest.mark.parametrize("to", ["any", "named"])
def test_it_waits_for_what_is_on_the_way(make, new, to):
    primary = make(OURS)
    proxy = Proxy(primary.port)
    replica = make(new, {"replicaof": ("127.0.0.1", proxy.port)})
    wait_link_up(replica)
    wait_until(lambda: "state=online" in primary.info("replication").get("slave0", ""), what="the replica to be online")
    proxy.passing.clear()
    primary.call("SET", "on", "the way")
    assert primary.call("FAILOVER", *(["TO", "127.0.0.1", replica.port] if to == "named" else [])) == "OK"
    for _ in range(3):  # an acknowledgement that is on its way is too old
        time.sleep(0.2)
        assert state(primary) == "waiting-for-sync" and role(replica) == b"slave"
    assert replica.call("GET", "on") is None
    proxy.passing.set()
    wait_over(primary)
    assert role(replica) == b"master" and replica.call("GET", "on") == b"the way"
    wait_link_up(primary)
    assert_same_data(replica, primary)
    assert replica.info("stats")["sync_full"] == "0"
    proxy.close()


def test_there_and_back(make):
    """Right after a full sync, before anything was streamed; the other replica follows in part each time."""
    servers = [make(OURS)]
    servers += [make(OURS, primary=servers[0]), make(STOCK, primary=servers[0])]
    full = sum(int(server.info("stats")["sync_full"]) for server in servers)
    for old, new in [(0, 1), (1, 2), (2, 0)]:
        primary, target = servers[old], servers[new]
        other = servers[3 - old - new]
        wait_until(lambda: target.port in [int(one[1]) for one in primary.call("ROLE")[2]], what="the target to be there")
        assert primary.call("FAILOVER", "TO", "127.0.0.1", target.port) == "OK"
        wait_over(primary)
        assert role(target) == b"master" and role(primary) == b"slave"
        other.call("REPLICAOF", "127.0.0.1", target.port)
        for one in (primary, other):
            wait_link_up(one)
        target.call("SET", f"written:{new}", "x" * 100)
        for one in (primary, other):
            assert_same_data(target, one)
    assert sum(int(server.info("stats")["sync_full"]) for server in servers) == full


def test_force_takes_what_there_is(make):
    primary = make(OURS)
    replica = make(OURS, primary=primary)
    replica.process.send_signal(signal.SIGSTOP)
    try:
        primary.call("SET", "never", "acknowledged")
        assert primary.call("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 200, "FORCE") == "OK"
        wait_until(lambda: state(primary) == "failover-in-progress", what="the end of the time")
        assert role(primary) == b"slave"
        assert f"FAILOVER to 127.0.0.1:{replica.port} time out exceeded, failing over." in primary.log()
    finally:
        replica.process.send_signal(signal.SIGCONT)
    wait_over(primary)
    assert role(replica) == b"master"
    wait_link_up(primary)
    assert_same_data(replica, primary)


# --- It does not --------------------------------------------------------------------------------------------------


def test_what_is_refused(make):
    """Word for word as by a stock primary."""
    replies = []
    for kind in (OURS, STOCK):
        alone = make(kind)
        primary = make(kind)
        replica = make(kind, primary=primary)
        here = "127.0.0.1"
        said = [error_of(alone, *words) for words in [
            ("FAILOVER",), ("FAILOVER", "ABORT"), ("FAILOVER", "TO", here, 1), ("FAILOVER", "FORCE"), ("FAILOVER", "ABORT", "FORCE"),
            ("PSYNC", "?", -1, "FAILOVER")]]
        said += [error_of(primary, "FAILOVER", *words) for words in [
            ("TIMEOUT", 0), ("TIMEOUT", -1), ("TIMEOUT", "x"), ("TIMEOUT",), ("TIMEOUT", 1, "TIMEOUT", 1), ("TO", here),
            ("TO", here, "x"), ("TO", here, 1), ("TO", "elsewhere", replica.port), ("TO", here, 1, "TO", here, 1), ("FORCE", "FORCE"),
            ("FORCE",), ("FORCE", "TIMEOUT", 100), ("TO", here, replica.port, "FORCE"), ("SIDEWAYS",)]]
        said += [error_of(replica, "FAILOVER"), error_of(replica, "FAILOVER", "TO", here, 1),
                 error_of(replica, "PSYNC", "0" * 40, 1, "FAILOVER")]
        replies.append(said)
    assert replies[0] == replies[1]


def test_while_it_waits(make):
    """Readers go on and writers do not, whatever CLIENT PAUSE does meanwhile; nobody gets in between; ABORT lets all go on."""
    primary = make(OURS)
    replica = make(OURS, primary=primary)
    replica.process.send_signal(signal.SIGSTOP)
    try:
        primary.call("SET", "before", "1")
        assert primary.call("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 600_000) == "OK"
        assert state(primary) == "waiting-for-sync" and role(primary) == b"master"
        assert primary.call("GET", "before") == b"1"
        assert error_of(primary, "FAILOVER") == "ERR FAILOVER already in progress."
        assert error_of(primary, "REPLICAOF", "NO", "ONE") == "ERR REPLICAOF not allowed while failing over."
        assert error_of(primary, "PSYNC", "?", "-1") == "NOMASTERLINK Can't SYNC while failing over"
        with primary.raw() as writer, primary.raw() as reader:
            writer.send_command("SET", "before", "2")
            wait_until(lambda: primary.info("clients")["blocked_clients"] == "1", what="the writer to be paused")
            assert primary.call("CLIENT", "PAUSE", 100, "WRITE") == "OK"
            assert primary.call("CLIENT", "UNPAUSE") == "OK"
            # As long as both pauses are on the reader waits, and no longer.
            assert primary.call("CLIENT", "PAUSE", 300, "ALL") == "OK"
            assert reader.call("GET", "before") == b"1"
            assert primary.info("clients")["blocked_clients"] == "1"
            assert primary.call("FAILOVER", "ABORT") == "OK"
            assert writer.read() == "OK"
            assert reader.call("GET", "before") == b"2"
    finally:
        replica.process.send_signal(signal.SIGCONT)
    assert state(primary) == "no-failover"
    assert f"FAILOVER to 127.0.0.1:{replica.port} aborted: Failover manually aborted" in primary.log()
    assert_same_data(primary, replica)
    assert primary.info("stats")["sync_full"] == "1"


def test_client_unpause_does_not_end_it_and_its_end_not_client_pause(make):
    primary = make(OURS)
    replica = make(OURS, primary=primary)
    replica.process.send_signal(signal.SIGSTOP)
    try:
        primary.call("SET", "a", "1")
        assert primary.call("CLIENT", "PAUSE", 600_000, "WRITE") == "OK"
        assert primary.call("FAILOVER", "TIMEOUT", 100) == "OK"
        with primary.raw() as writer:
            writer.send_command("SET", "a", "2")
            wait_over(primary)
            assert "FAILOVER to any replica aborted: Replica never caught up before timeout" in primary.log()
            assert primary.info("clients")["blocked_clients"] == "1"
            assert primary.call("GET", "a") == b"1"
            assert primary.call("CLIENT", "UNPAUSE") == "OK"
            assert writer.read() == "OK"
    finally:
        replica.process.send_signal(signal.SIGCONT)


def test_a_target_that_dies(make):
    """It is asked until somebody aborts; then those who wait since it began go on."""
    primary = make(OURS)
    replica = make(OURS, primary=primary)
    replica.process.send_signal(signal.SIGSTOP)
    primary.call("SET", "a", "1")
    assert primary.call("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 2000, "FORCE") == "OK"
    with primary.raw() as writer:
        writer.send_command("INCR", "a")
        wait_until(lambda: state(primary) == "failover-in-progress", what="the end of the time")
        replica.expect_end = True
        replica.process.kill()
        assert error_of(primary, "INCR", "a").startswith("READONLY")
        wait_until(lambda: "Connection refused" in primary.log(), what="an attempt in vain")
        assert state(primary) == "failover-in-progress" and role(primary) == b"slave"
        assert error_of(primary, "REPLICAOF", "NO", "ONE") == "ERR REPLICAOF not allowed while failing over."
        assert primary.call("FAILOVER", "ABORT") == "OK"
        assert writer.read() == 2
    assert role(primary) == b"master"
    other = make(OURS, primary=primary)
    assert_same_data(primary, other)


@pytest.mark.parametrize("refusal", ["error", "end"])
def test_a_target_that_refuses(make, refusal):
    """A replica made by hand: what it is asked, and that its refusal makes the old primary one again."""
    primary = make(OURS)
    primary.call("SET", "a", "1")
    target = HandMade()
    with primary.raw() as link:
        assert link.call("REPLCONF", "listening-port", target.port, "capa", "eof", "capa", "psync2") == "OK"
        link.send_command("PSYNC", "?", "-1")
        acknowledge = threading.Event()

        def keep_acknowledging():
            while not acknowledge.wait(0.05):
                link.send_command("REPLCONF", "ACK", primary.info("replication")["master_repl_offset"])
        thread = threading.Thread(target=keep_acknowledging, daemon=True)
        thread.start()
        wait_until(lambda: "state=online" in primary.info("replication").get("slave0", ""), what="it to be online")
        acknowledge.set()
        thread.join()
        primary.call("SET", "a", "1")
        assert primary.call("FAILOVER") == "OK"
        with primary.raw() as writer:
            writer.send_command("INCR", "a")
            wait_until(lambda: primary.info("clients")["blocked_clients"] == "1", what="the writer to be paused")
            link.send_command("REPLCONF", "ACK", primary.info("replication")["master_repl_offset"])
            asked = target.shake_hands()
            told = primary.info("replication")
            assert asked == [told["master_replid"], str(int(told["master_repl_offset"]) + 1), "FAILOVER"]
            assert state(primary) == "failover-in-progress"
            if refusal == "error":
                target.send(b"-ERR no\r\n")
            else:
                target.link.shutdown(socket.SHUT_RDWR)
            assert writer.read() == 2
    wait_over(primary)
    assert role(primary) == b"master"
    assert f"FAILOVER to 127.0.0.1:{target.port} aborted: Failover target rejected psync request" in primary.log()
    target.close()


def test_the_end_of_the_process_while_it_waits(make):
    primary = make(OURS)
    replica = make(OURS, primary=primary)
    replica.process.send_signal(signal.SIGSTOP)
    primary.call("SET", "a", "1")
    assert primary.call("FAILOVER") == "OK"
    with primary.raw() as writer:
        writer.send_command("SET", "a", "2")
        wait_until(lambda: primary.info("clients")["blocked_clients"] == "1", what="the writer to be paused")
        primary.call("CONFIG", "SET", "shutdown-timeout", "1")
        assert primary.terminate() == 0
    replica.process.send_signal(signal.SIGCONT)
