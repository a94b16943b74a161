"""Nobody gets more than his turn: who sends without end does not keep the others waiting."""

import multiprocessing
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import harness
from harness import wait_until
from resp import RawClient, encode_command

FORK = multiprocessing.get_context("fork")
PROBE_SECONDS = 1.5
PIPELINES = {
    "GET": encode_command("GET", "missing") * 3000,
    "SET": encode_command("SET", "flood", "x" * 100) * 2000,
    "PING": encode_command("PING") * 3000,
    "large arguments": encode_command("ECHO", "x" * 4000) * 200,
    "inline": b"PING\r\n" * 3000,
    "MSET": encode_command("MSET", *[f"m{number}" for number in range(40)]) * 100,
}


def flood(address, data):
    """Sends `data` again and again and reads whatever comes, until it is killed."""
    connection = socket.create_connection(address)

    def send():
        while True:
            connection.sendall(data)

    threading.Thread(target=send, daemon=True).start()
    buffer = bytearray(1 << 20)
    while connection.recv_into(buffer):
        pass


class Flood:
    """with Flood(server, data, count): so many clients with an endless pipeline each."""

    def __init__(self, server, data, count=2):
        self.server = server
        self.processes = [FORK.Process(target=flood, args=(server.address(), data), daemon=True) for _ in range(count)]

    def commands(self):
        return int(self.server.info("stats")["total_commands_processed"])

    def __enter__(self):
        before = self.commands()
        for process in self.processes:
            process.start()
        wait_until(lambda: self.commands() > before + 20_000, what="the pipelines to flow")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.join()


def processor_seconds(pid):
    """Of all threads of a process, exact: the kernel derives the clock's number from the process's."""
    return time.clock_gettime((~pid << 3) | 2)


def own_wait():
    """Seconds for which this thread has been ready to run and has had no processor to run on."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


def latencies(*servers):
    """Milliseconds of PING's round trips to each of the servers, sorted. They are asked in turn, so that what the machine does to
    one it does to all.

    What others of the machine do while the server would go on is not its fault: a trip takes no longer than the server has
    computed in it, without what it may have computed when the reply was there and this thread waited for a processor.
    """
    found = [[] for _ in servers]
    clients = [RawClient(*server.address(), timeout=30 * harness.SLOWNESS) for server in servers]
    for client in clients:
        client.call("PING")
    end = time.monotonic() + PROBE_SECONDS
    while time.monotonic() < end or len(found[0]) < 100:
        for server, client, own in zip(servers, clients, found):
            waited, computed, begin = own_wait(), processor_seconds(server.pid), time.perf_counter()
            client.call("PING")
            taken = time.perf_counter() - begin
            computed = processor_seconds(server.pid) - computed
            own.append(min(taken, max(0.0, computed - (own_wait() - waited))) * 1e3)
            time.sleep(0.0005)
    for client in clients:
        client.close()
    return [sorted(own) for own in found]


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


@pytest.mark.parametrize("kind", list(PIPELINES))
def test_ping_beside_two_endless_pipelines(start, backend, kind):
    """With one worker, PING takes less than 1 ms (p50) and 10 ms (p99).

    The control is a server at rest beside one that has to do with the pipelines.
    """
    server, resting = start(backend=backend, threads=1), start(backend=backend, threads=1)
    data = PIPELINES[kind]
    for attempt in range(3):
        with Flood(server, data):
            control, measured = latencies(resting, server)
        limits = {0.5: max(1.0, 3 * percentile(control, 0.5)), 0.99: max(10.0, 3 * percentile(control, 0.99))}
        limits = {share: limit * harness.SLOWNESS for share, limit in limits.items()}
        if all(percentile(measured, share) < limit for share, limit in limits.items()):
            return
    pytest.fail("; ".join(f"p{share * 100:g} {percentile(measured, share):.2f} ms (limit {limit:.2f})"
                          for share, limit in limits.items()))


def test_a_flood_has_no_more_than_its_turn(start, backend):
    """Counted, not timed: between two PINGs that are there at once, a pipeline gets a bounded number of commands.

    Each probe sends a PING and the reading of the counter that the pipeline increments, both of one packet, to two
    connections; what the counter has gained between the two readings is what other connections have got in between.
    """
    server = start(backend=backend, threads=1)
    first, second = server.raw(), server.raw()
    gained = []
    with Flood(server, encode_command("INCR", "counter") * 5000):
        for _ in range(300):
            first.send_command("GET", "counter")
            second.send_command("GET", "counter")
            values = sorted(int(client.read()) for client in (first, second))
            gained.append(values[1] - values[0])
    gained.sort()
    # Two connections with at most some 16 KB each in a turn; the client itself may be held up between its two sends,
    # so that only the middle of the samples is judged.
    assert percentile(gained, 0.5) < 4000, gained[::20]


def test_probes_on_all_workers(start, backend):
    """With two workers, one pipeline of each kind stops nobody on either of them."""
    server, resting = start(backend=backend, threads=2), start(backend=backend, threads=2)
    for data in (encode_command("PING") * 100, encode_command("DBSIZE") * 100):
        with Flood(server, data, count=1), ThreadPoolExecutor() as pool:
            probes = list(pool.map(lambda _: latencies(resting, server), range(3)))
        for control, measured in probes:
            assert percentile(measured, 0.5) < max(2.0, 5 * percentile(control, 0.5)) * harness.SLOWNESS
            assert percentile(measured, 0.99) < max(20.0, 5 * percentile(control, 0.99)) * harness.SLOWNESS


def test_every_pipeline_gets_its_share(start, backend):
    """Of several endless pipelines none is left behind: each has at least a tenth of what the first one has."""
    server = start(backend=backend, threads=1)
    floods = [Flood(server, encode_command("INCR", f"flood{number}") * 2000, count=1) for number in range(4)]
    for one in floods:
        one.__enter__()
    try:
        keys = [f"flood{number}" for number in range(len(floods))]
        wait_until(lambda: server.call("EXISTS", *keys) == len(keys), what="all pipelines to flow")
        before = [int(value) for value in server.call("MGET", *keys)]

        def shares():
            return [int(value) - start for value, start in zip(server.call("MGET", *keys), before)]

        wait_until(lambda: max(shares()) > 200_000 / harness.SLOWNESS, what="some traffic")
        assert min(shares()) > max(shares()) / 10, shares()
    finally:
        for one in floods:
            one.__exit__()


def test_new_clients_are_let_in(start, backend):
    """Connecting, and the first command, beside endless pipelines."""
    server = start(backend=backend, threads=1)
    with Flood(server, PIPELINES["GET"]):
        taken = []
        for _ in range(50):
            begin = time.perf_counter()
            assert server.call("PING") == "PONG"
            taken.append((time.perf_counter() - begin) * 1e3)
    assert percentile(sorted(taken), 0.5) < 50 * harness.SLOWNESS, taken
