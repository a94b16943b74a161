"""Somebody sets the wall clock: keys expire by it, and nothing else notices."""

import os
import re
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

import harness
from harness import wait_until

HOUR = 3600
COMPILER = shutil.which(os.environ.get("CC", "cc"))
pytestmark = [
    pytest.mark.slotwise,
    pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer wants to be the first library"),
    pytest.mark.skipif(COMPILER is None, reason="there is no C compiler"),
]


class WallClock:
    """The wall clock of a server that was started with `environment`."""

    def __init__(self, directory):
        library, self.path = directory / "wall_clock.so", directory / "shift"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).with_name("wall_clock.c")],
                       check=True)
        self.path.write_bytes(bytes(4096))
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(self.path)}

    def set_ahead(self, seconds):
        with open(self.path, "r+b") as file:
            file.write(struct.pack("q", seconds))


@pytest.fixture
def clock(tmp_path):
    return WallClock(tmp_path)


def times_of(client, which):
    """age and idle of a line of CLIENT LIST."""
    line = next(line for line in client.call("CLIENT", "LIST").decode().splitlines() if f"name={which} " in line)
    return [int(re.search(rf" {name}=(-?\d+)", line)[1]) for name in ("age", "idle")]


@pytest.mark.parametrize("shift", [HOUR, -HOUR])
def test_clients(start, clock, backend, shift):
    """Ages, idle times and `timeout` do not move with the clock."""
    server = start({"timeout": "1000"}, backend=backend, threads=2, environment=clock.environment)
    client, idle = server.raw(), server.raw()
    assert idle.call("CLIENT", "SETNAME", "idle") == "OK"
    before = int(client.call("TIME")[0])
    clock.set_ahead(shift)
    assert abs(int(client.call("TIME")[0]) - before - shift) < HOUR / 2
    time.sleep(0.5)  # some rounds of the timers
    for value in times_of(client, "idle"):
        assert 0 <= value < 1000
    assert idle.call("PING") == "PONG"
    assert int(re.search(r"uptime_in_seconds:(-?\d+)", client.call("INFO", "server").decode())[1]) in range(1000)


def test_a_pause_lasts_as_long_as_it_was_told(start, clock, backend):
    """Ahead of its end the clock jumps far ahead, and back: the writers wait until the real end."""
    server = start(backend=backend, threads=2, environment=clock.environment)
    admin, writer = server.raw(), server.raw()
    began = time.monotonic()
    assert admin.call("CLIENT", "PAUSE", "1500", "WRITE") == "OK"
    writer.send_command("SET", "k", "v")
    clock.set_ahead(HOUR)
    time.sleep(0.2)
    clock.set_ahead(-HOUR)
    assert writer.read() == "OK"
    assert 1.4 <= time.monotonic() - began < 60
    assert admin.call("CLIENT", "PAUSE", "100", "WRITE") == "OK"
    clock.set_ahead(-2 * HOUR)
    assert writer.call("SET", "k", "v") == "OK"


def test_keys(start, clock):
    """A TTL ends when the wall clock says so; the time since a key was used does not."""
    server = start({"maxmemory-policy": "allkeys-lru"}, environment=clock.environment)
    client = server.raw()
    assert client.call("SET", "used", "v") == "OK"
    assert client.call("SET", "short", "v", "EX", "100") == "OK"
    assert client.call("SET", "long", "v", "EX", str(10 * HOUR)) == "OK"
    clock.set_ahead(HOUR)
    wait_until(lambda: client.call("EXISTS", "short") == 0, what="the end of a TTL")
    assert 0 < client.call("TTL", "long") <= 9 * HOUR
    assert client.call("OBJECT", "IDLETIME", "used") < 1000
    time.sleep(0.3)  # some rounds of the timers
    assert client.call("OBJECT", "IDLETIME", "used") < 1000


def test_waiting_for_replicas_and_slow_commands(start, clock):
    """Durations in the slow log and the latency monitor are measured, not subtracted from one another."""
    server = start({"slowlog-log-slower-than": "10000", "latency-monitor-threshold": "10"}, environment=clock.environment)
    client, other = server.raw(), server.raw()
    other.send_command("DEBUG", "SLEEP", "0.3")
    clock.set_ahead(HOUR)
    assert other.read() == "OK"
    assert 300000 <= client.call("SLOWLOG", "GET", "1")[0][2] < 60 * 1000000
    assert 300 <= client.call("LATENCY", "LATEST")[0][3] < 60 * 1000
