"""Cluster clients of Node.js, ioredis and node-redis: they count while slots are moved and roles change.

npm installs them once, into build/; where there is no npm, or it reaches nothing, these tests are skipped.
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading

import pytest

import harness
from clustering import address, cli, create, is_ok, node_id, nodes, start_node
from harness import wait_until

pytestmark = pytest.mark.slotwise

PACKAGES = ("ioredis@5.4.1", "redis@4.7.0")
HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "..", "build", "npm-" + "-".join(PACKAGES).replace("@", "-"))
INSTALL_SECONDS = 150


def install():
    """The reason why it cannot be, or None."""
    if os.path.isdir(FOLDER):
        return None
    if not shutil.which("npm") or not shutil.which("node"):
        return "there is no npm"
    os.makedirs(os.path.dirname(FOLDER), exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="npm-", dir=os.path.dirname(FOLDER))
    try:
        done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1",
                               "--fetch-timeout=20000", "--prefix", scratch, *PACKAGES], capture_output=True, text=True,
                              timeout=INSTALL_SECONDS, check=False)
        if done.returncode != 0:
            return "npm does not reach its packages: " + done.stderr[-300:]
        os.rename(scratch, FOLDER)
    except subprocess.TimeoutExpired:
        return "npm takes too long"
    except OSError:
        return None if os.path.isdir(FOLDER) else "the packages cannot be kept"  # another run was first
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return None


@pytest.fixture(scope="module", name="packages")
def fixture_packages():
    reason = install()
    if reason:
        pytest.skip(reason)
    return FOLDER


class Client:
    def __init__(self, packages, library, node):
        environment = {**os.environ, "NODE_PATH": os.path.join(packages, "node_modules")}
        self.process = subprocess.Popen(["node", os.path.join(HERE, "cluster_client.js"), library, str(node.port)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
        self.lines = []
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def goes_on(self):
        """Two more rounds: one may have begun before."""
        before = len(self.lines)
        wait_until(lambda: len(self.lines) >= before + 2 or self.process.poll() is not None, what="the client to go on")
        assert self.process.poll() is None, self.lines[-3:]

    def end(self):
        self.process.stdin.close()
        self.process.wait(harness.HANG_SECONDS * harness.SLOWNESS)
        self.reading.join(harness.HANG_SECONDS)
        assert json.loads(self.lines[-1]) == [], self.lines[-1]
        assert self.process.returncode == 0

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize("library", ["ioredis", "redis"])
def test_client_goes_on(start, packages, library):
    members = [start_node(start) for _ in range(6)]
    create(members)
    wait_until(lambda: all(is_ok(node, 6) for node in members), what="all to be ok")
    replicas = [node for node in members if "slave" in nodes(node)[node_id(node)]["flags"]]
    wait_until(lambda: all(node.info("replication").get("master_link_status") == "up" for node in replicas), what="replicas")
    primaries = [node for node in members if node not in replicas]
    client = Client(packages, library, members[0])
    try:
        client.goes_on()
        cli("--cluster", "reshard", address(primaries[0]), "--cluster-from", node_id(primaries[0]), "--cluster-to",
            node_id(primaries[1]), "--cluster-slots", 100, "--cluster-yes")
        client.goes_on()
        assert replicas[0].call("CLUSTER", "FAILOVER") == "OK"
        wait_until(lambda: "master" in nodes(replicas[0])[node_id(replicas[0])]["flags"], what="the roles to change")
        client.goes_on()
        client.end()
    finally:
        client.close()
