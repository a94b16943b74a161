"""Stock Sentinel runs Slotwise: three of them, a primary that is killed, the switch, and the old one that comes back.

Sentinels find one another by SUBSCRIBE and PUBLISH to one channel of the servers that they watch.
"""

import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

import harness
from harness import wait_until
from replication_load import assert_same_data, info, wait_for_link
from resp import RawClient

MODULE_SECONDS = 45
pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(harness.ORACLE, os.X_OK), reason="no stock server")]


class Sentinel:
    """A stock one, told of the primary `one`. It pings once a second, so that a new primary has answered by DOWN_AFTER_MS."""

    DOWN_AFTER_MS = 3000

    def __init__(self, primary, quorum=2):
        self.port = harness.free_port()
        self.directory = tempfile.TemporaryDirectory(prefix="slotwise-sentinel-")
        path = Path(self.directory.name) / "sentinel.conf"
        path.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.directory.name}\n"
                        f"sentinel monitor one 127.0.0.1 {primary.port} {quorum}\n"
                        f"sentinel down-after-milliseconds one {self.DOWN_AFTER_MS}\nsentinel failover-timeout one 10000\n")
        self.output = open(Path(self.directory.name) / "log", "wb")
        self.process = subprocess.Popen([harness.ORACLE, str(path), "--sentinel"], stdout=self.output, stderr=subprocess.STDOUT)
        wait_until(self._answers, what="the sentinel")

    def _answers(self):
        try:
            return self.call("PING") == "PONG"
        except OSError:
            return False

    def call(self, *words):
        with RawClient(port=self.port) as client:
            return client.call(*words)

    def primary(self):
        return int(self.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "one")[1])

    def pairs(self, what):
        """SENTINEL MASTERS, REPLICAS one, SENTINELS one as dicts."""
        replies = self.call("SENTINEL", what, *([] if what == "MASTERS" else ["one"]))
        return [dict(zip([word.decode() for word in reply[::2]], [word.decode() for word in reply[1::2]])) for reply in replies]

    def log(self):
        return (Path(self.directory.name) / "log").read_text()

    def end(self):
        self.process.kill()
        self.process.wait()
        self.output.close()
        self.directory.cleanup()


class Node:
    """A server with a configuration file that it may rewrite."""

    def __init__(self, start, directory, primary=None, **more):
        self.start = start
        self.directory = directory
        self.port = harness.free_port()
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", "io-threads 2", "enable-debug-command yes",
                 "repl-diskless-sync-delay 0", "repl-timeout 10", 'save ""']
        if primary:
            lines.append(f"replicaof 127.0.0.1 {primary.port}")
        lines += [f"{name.replace('_', '-')} {value}" for name, value in more.items()]
        directory.mkdir()
        self.path = directory / "server.conf"
        self.path.write_text("\n".join(lines) + "\n")
        self.begin()

    def begin(self):
        self.server = self.start({"port": self.port}, defaults=False, directory=self.directory,
                                 config=self.path.read_text(), backend=None)

    def role(self):
        return self.server.call("ROLE")[0].decode()


@pytest.fixture
def nodes(start, tmp_path):
    """A primary and two replicas in step."""
    made = [Node(start, tmp_path / "0")]
    made += [Node(start, tmp_path / str(number), made[0]) for number in (1, 2)]
    for node in made[1:]:
        wait_for_link(node.server)
    return made


@pytest.fixture
def sentinels(nodes):
    """Three that watch the primary and know one another and both replicas."""
    all_of_them = [Sentinel(nodes[0]) for _ in range(3)]
    try:
        for one in all_of_them:
            wait_until(lambda one=one: len(one.pairs("SENTINELS")) == 2 and len(one.pairs("REPLICAS")) == 2,
                       what="them to know one another")
        yield all_of_them
    finally:
        for one in all_of_them:
            one.end()


def switched(sentinels, old):
    return len({one.primary() for one in sentinels}) == 1 and sentinels[0].primary() != old.port


@pytest.mark.slow_limit(400)
def test_the_primary_is_killed_and_comes_back(nodes, sentinels):
    old = nodes[0]
    old.server.call("SET", "before", "the switch")
    assert old.server.call("WAIT", 2, 10_000) == 2
    known = sentinels[0].pairs("MASTERS")[0]
    assert known["flags"] == "master" and known["num-slaves"] == "2" and known["role-reported"] == "master"
    for replica in sentinels[0].pairs("REPLICAS"):
        assert replica["flags"] == "slave" and replica["master-link-status"] == "ok" and replica["slave-priority"] == "100"
        assert replica["master-port"] == str(old.port)
    bystander = nodes[1].server.raw(), nodes[2].server.raw()
    old.server.expect_end = True
    old.server.process.send_signal(signal.SIGKILL)
    old.server.process.wait()
    wait_until(lambda: switched(sentinels, old), seconds=120, what="the switch")
    new, = [node for node in nodes[1:] if node.port == sentinels[0].primary()]
    other, = [node for node in nodes[1:] if node is not new]
    wait_until(lambda: new.role() == "master", what="the promotion")
    wait_until(lambda: other.server.call("ROLE")[2] == new.port, what="the other to follow")
    wait_for_link(other.server)
    assert all(one.closed_within() for one in bystander)  # CLIENT KILL TYPE normal, of whom only Sentinel's own stays
    assert new.server.call("GET", "before") == b"the switch"
    assert info(new.server, "stats")["sync_full"] == 0  # the other went on where it was
    new.server.call("SET", "after", "the switch")
    # What Sentinel has told them they have written down.
    assert "replicaof" not in new.path.read_text()
    assert f"replicaof 127.0.0.1 {new.port}" in other.path.read_text()
    old.begin()
    wait_until(lambda: old.role() == "slave", what="the old one to become a replica")
    wait_for_link(old.server)
    for node in (old, other):
        assert_same_data(new.server, node.server)
    wait_until(lambda: f"replicaof 127.0.0.1 {new.port}" in old.path.read_text(), what="its configuration to be rewritten")
    # It holds: begun again it is a replica at once.
    assert old.server.terminate() == 0
    old.begin()
    assert old.role() == "slave"
    wait_for_link(old.server)
    assert_same_data(new.server, old.server)


@pytest.mark.slow_limit(400)
def test_a_failover_on_demand_minds_priorities(nodes, sentinels):
    """SENTINEL FAILOVER picks the replica of the lower priority number; the old primary follows it, and nothing is lost.

    Who was not promoted may need a full sync, as with Redis: until Sentinel tells it so the old primary goes on, and passes on the
    PING and PUBLISH that come.
    """
    old, low, high = nodes
    low.server.call("CONFIG", "SET", "replica-priority", "10")
    high.server.call("CONFIG", "SET", "replica-priority", "0")
    wait_until(lambda: sorted(one["slave-priority"] for one in sentinels[0].pairs("REPLICAS")) == ["0", "10"],
               what="the sentinel to hear of the priorities")
    old.server.call("SET", "a", "b")
    assert old.server.call("WAIT", 2, 10_000) == 2
    assert sentinels[0].call("SENTINEL", "FAILOVER", "one") == "OK"
    wait_until(lambda: switched(sentinels, old), seconds=120, what="the switch")
    assert sentinels[0].primary() == low.port
    for node in (old, high):
        wait_until(lambda node=node: node.role() == "slave" and node.server.call("ROLE")[2] == low.port,
                   what="all to follow")
        wait_for_link(node.server)
        assert_same_data(low.server, node.server)
