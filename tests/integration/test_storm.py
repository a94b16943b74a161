"""The storm: everything that connections can do, at the same time, for some seconds, and then a look at what is left.

Environment:
  SLOTWISE_STORM_SECONDS   how long (default 10)
  SLOTWISE_STORM_SEED      what the clients do (default: another one each time; a failure names it)
"""

import os
import random
import time

import pytest

import debugging
import harness
import storm
from harness import wait_until
from load import run_clients
from resp import RawClient, encode_command

SECONDS = float(os.environ.get("SLOTWISE_STORM_SECONDS", "10"))
SEED = int(os.environ.get("SLOTWISE_STORM_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
PROCESSES = 4
WORKERS = 4
MEMORY_SLACK = 4 * 1024 * 1024

MODULE_SECONDS = 25
pytestmark = [pytest.mark.storm, pytest.mark.slow_limit(90 + 3 * SECONDS)]


def descriptors(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def used_memory(server):
    return int(server.info("memory")["used_memory"])


def leave_in_every_state(server):
    """Connections that are open when the server is told to end."""
    assert server.call("SET", "big", "b" * 1_000_000) == "OK"
    states = [b"", encode_command("SET", "x", "y" * 3_000_000)[:1_000_000], encode_command("GET", "big") * 20,
              encode_command("WATCH", "x") + encode_command("MULTI") + encode_command("SET", "x", "1"),
              encode_command("MSET", *["x"] * 200)[:-50], encode_command("QUIT"), encode_command("INCR", "n") * 5000]
    clients = []
    for number in range(8 * len(states)):
        client = RawClient(*server.address())
        server.clients.append(client)
        storm.send_some(client, states[number % len(states)])
        clients.append(client)
    assert server.call("CLIENT", "PAUSE", "60000", "WRITE") == "OK"
    for client in clients[::len(states)]:
        client.send_command("SET", "x", "1")
    assert server.call("DEBUG", "MOVE-CLIENT", "ALL") is not None


def test_storm(start, backend):
    server = start(backend=backend, threads=WORKERS)
    debugging.require(server, "MOVE-CLIENT", "WORKERS-AWAKE", "SLOT-HOLD", "PATIENCE-HOLD")
    print(f"SLOTWISE_STORM_SEED={SEED}")
    assert server.call("DEBUG", "WORKERS-AWAKE", "2") == "OK"
    # A little of everything first, so that what the server keeps for good is there.
    storm.run(server.address(), random.Random(SEED), "first", time.monotonic() + 1)
    server.call("FLUSHALL")
    wait_until(lambda: not debugging.client_ids(server), what="the first clients to be gone")
    open_before, memory_before = descriptors(server), used_memory(server)

    deadline = time.monotonic() + SECONDS
    jobs = [(storm.run, server.address(), random.Random(SEED + number), str(number), deadline)
            for number in range(PROCESSES)]
    jobs.append((storm.run_mover, server.address(), random.Random(SEED - 1), deadline))
    try:
        *done, moves = run_clients(jobs, grace=SECONDS + 45)
    except AssertionError as failure:
        server.check()
        raise AssertionError(f"SLOTWISE_STORM_SEED={SEED}: {failure}") from failure
    server.check()
    print(f"{sum(sum(one.values()) for one in done)} acts, {moves} times all moved")
    assert moves > 0 and all(one for one in done)

    assert server.call("PING") == "PONG"
    wait_until(lambda: not debugging.client_ids(server), what="all clients to be gone")
    assert server.call("FLUSHALL") == "OK"
    wait_until(lambda: descriptors(server) <= open_before, what="all descriptors to be closed")
    wait_until(lambda: used_memory(server) < memory_before + MEMORY_SLACK, what="the memory to come back")
    leave_in_every_state(server)
    assert server.terminate() == 0, server.log()[-3000:]
    server.check()
