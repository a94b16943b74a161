"""Nobody gets more than his turn: who sends without end does not keep the others waiting."""

import multiprocessing
import socket
import threading
import time

import pytest

import harness
from harness import wait_until
from resp import encode_command

FORK = multiprocessing.get_context("fork")
# What a connection gets of a turn, and what a command costs of it besides its bytes, for each of its arguments (server/clients/input.c).
TURN_BUDGET, ARGUMENT_COST = 32 * 1024, 16


class Pipeline:
    """The same command again and again."""

    def __init__(self, count, *words, data=None):
        data = data or encode_command(*words)
        self.data = data * count
        self.cost = len(data) + ARGUMENT_COST * len(words)

    def most_of_a_turn(self):
        """Commands of one connection."""
        return -(-TURN_BUDGET // self.cost)


PIPELINES = {
    "GET": Pipeline(3000, "GET", "missing"),
    "SET": Pipeline(2000, "SET", "flood", "x" * 100),
    "PING": Pipeline(3000, "PING"),
    "DBSIZE": Pipeline(3000, "DBSIZE"),
    "large arguments": Pipeline(200, "ECHO", "x" * 4000),
    "inline": Pipeline(3000, "PING", data=b"PING\r\n"),
    "MSET": Pipeline(100, "MSET", *[f"m{number}" for number in range(40)]),
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


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


def turns_and_commands(server):
    statistics = server.info("stats")
    return int(statistics["eventloop_cycles"]), int(statistics["total_commands_processed"])


@pytest.mark.parametrize("kind", list(PIPELINES))
def test_a_turn_is_bounded(start, backend, kind):
    """Beside two endless pipelines nobody waits for longer than a turn, and each of them gets no more of it than its share.

    Counted, not timed: from one look to the next there are so many turns and so many commands, whatever the machine does meanwhile.
    A look is a command of some turn: what that one has done of its share before and after is told apart by one turn more.
    """
    server = start(backend=backend, threads=1)
    pipeline, floods = PIPELINES[kind], 2
    share = floods * pipeline.most_of_a_turn()
    found = []

    def look():
        nonlocal last
        turns, commands = turns_and_commands(server)
        found.append((turns - last[0], commands - last[1]))
        last = turns, commands
        return found[-1]

    def look_often():
        for _ in range(20):
            turns, commands = look()
            assert commands <= share * (turns + 1) + 1, found
        return max(commands / turns for turns, commands in found if turns) > share / 8

    with Flood(server, pipeline.data, floods):
        last = turns_and_commands(server)
        # They may have to wait for a processor themselves: until there were full turns nothing has been shown.
        wait_until(look_often, what="turns that are full")


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
    with Flood(server, PIPELINES["GET"].data):
        taken = []
        for _ in range(50):
            begin = time.perf_counter()
            assert server.call("PING") == "PONG"
            taken.append((time.perf_counter() - begin) * 1e3)
    assert percentile(sorted(taken), 0.5) < 50 * harness.SLOWNESS, taken
