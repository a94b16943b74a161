"""`server/run --cluster`: six nodes that a newcomer can try, started again where one has ended, and ended without anybody else."""

import os
import re
import shutil
import signal
import subprocess

import pytest

import harness
from harness import wait_until
from ports import free_port, is_free
from resp import RawClient

MODULE_SECONDS = 45
pytestmark = [pytest.mark.slotwise, pytest.mark.long, pytest.mark.slow_limit(900),
              pytest.mark.skipif(harness.SANITIZED, reason="the script starts the release binary")]

COUNT = 6
RUN_SECONDS = 600  # it may have to build; a hang, and no measure of speed


def ports_from(first):
    return list(range(first, first + COUNT))


def run(first, *arguments):
    environment = dict(os.environ, SLOTWISE_PROGRESS_SECONDS="3600")
    return subprocess.run([str(harness.REPOSITORY / "server/run"), "--cluster", "--port", str(first), *arguments], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=RUN_SECONDS, env=environment)


def call(port, *words):
    with RawClient(port=port) as client:
        return client.call(*words)


def own_line(port):
    return next(line for line in call(port, "CLUSTER", "NODES").decode().splitlines() if "myself" in line)


def lives(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False


class Six:
    def __init__(self):
        self.first = free_port(count=COUNT)
        self.folder = harness.REPOSITORY / "build/cluster" / str(self.first)

    def pid(self, port):
        return int((self.folder / str(port) / "node.pid").read_text())

    def pids(self):
        return {port: self.pid(port) for port in ports_from(self.first)}


@pytest.fixture
def six():
    nodes = Six()
    yield nodes
    stopped = run(nodes.first, "--stop")
    shutil.rmtree(nodes.folder, ignore_errors=True)
    assert stopped.returncode == 0, stopped.stdout


def test_a_cluster_to_try(start, six):
    bystander = start()
    done = run(six.first)
    assert done.returncode == 0, done.stdout
    assert "The cluster is ready" in done.stdout
    assert [own_line(port).split(" ")[2] for port in ports_from(six.first)] == ["myself,master"] * 3 + ["myself,slave"] * 3
    for port in ports_from(six.first):
        assert b"cluster_state:ok" in call(port, "CLUSTER", "INFO")
    pids = six.pids()
    with subprocess.Popen(["redis-cli", "-c", "-p", str(six.first)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as cli:
        cli.communicate("".join(f"set key:{index} {index}\n" for index in range(100)))

    again = run(six.first)
    assert again.returncode == 0 and "6 nodes were running already." in again.stdout, again.stdout
    assert "The cluster is ready" in again.stdout
    assert six.pids() == pids

    # What it says about stopping a master is true.
    said = re.search(rf"its replica on port (\d+) take over:\n    kill \$\(cat (\S+)/(\d+)/node\.pid\)", again.stdout)
    assert said and said[2] == str(six.folder), again.stdout
    replica, primary = int(said[1]), int(said[3])
    os.kill(pids[primary], signal.SIGTERM)
    wait_until(lambda: "myself,master" in own_line(replica), what="the promotion")
    assert "Failover election won" in (six.folder / str(replica) / "node.log").read_text()
    restarted = run(six.first)
    assert restarted.returncode == 0, restarted.stdout
    assert "5 nodes were running already." in restarted.stdout and f"Started nodes on the ports {primary}." in restarted.stdout
    wait_until(lambda: "myself,slave" in own_line(primary), what="the old primary to follow")
    assert {port: pid for port, pid in six.pids().items() if port != primary} == \
        {port: pid for port, pid in pids.items() if port != primary}

    # A pid file that has outlived its process may name anybody's.
    pids = six.pids()
    victim = next(port for port in ports_from(six.first) if "myself,slave" in own_line(port))
    os.kill(pids[victim], signal.SIGKILL)
    wait_until(lambda: not lives(pids[victim]), what="the end of a replica")
    (six.folder / str(victim) / "node.pid").write_text(f"{bystander.pid}\n")
    ended = run(six.first, "--stop")
    assert ended.returncode == 0 and "Stopped 5 nodes." in ended.stdout, ended.stdout
    assert not any(lives(pid) for pid in pids.values())
    assert bystander.call("PING") == "PONG"
    ended = run(six.first, "--stop")
    assert ended.returncode == 0 and "Stopped 0 nodes." in ended.stdout, ended.stdout

    # It goes on where it was.
    done = run(six.first)
    assert done.returncode == 0 and "Joining" not in done.stdout, done.stdout
    wait_until(lambda: sum(call(port, "DBSIZE") for port in ports_from(six.first)
                           if "myself,master" in own_line(port)) == 100, what="all keys to be there")


def test_a_port_that_is_taken(start, six):
    taken = six.first + 2
    bystander = start({"port": taken})
    done = run(six.first)
    assert done.returncode != 0
    assert f"The node on port {taken} did not start" in done.stdout and "in use" in done.stdout
    assert "Stopped 2 nodes." in done.stdout
    assert all(is_free(port) for port in ports_from(six.first) if port != taken)
    assert bystander.call("PING") == "PONG"


@pytest.mark.parametrize("port", ["0", "x", "60000", ""])
def test_a_first_port_that_cannot_be(port):
    done = run(port)
    assert done.returncode != 0 and "--port is the first of 6 ports" in done.stdout
