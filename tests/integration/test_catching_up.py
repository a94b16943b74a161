"""A replica while it catches up, and between: what its readers see, what it needs; and a snapshot that nobody waits for any more."""

import os
import random
import shutil
import signal
import threading
import time

import pytest
import redis

import harness
from harness import HANG_SECONDS, scaled, wait_until
from replication_load import Load, assert_same_data, info, wait_for_link
from resp import RawClient

MODULE_SECONDS = 40
pytestmark = pytest.mark.slotwise

NO_DELAY = {"repl-diskless-sync-delay": "0"}
COUNTERS = [key for key in harness.keys_in_distinct_slots(17, "counter:")]
ACCOUNTS = [key for key in harness.keys_in_distinct_slots(5, "account:")]
PLACES = [key for key in harness.keys_in_distinct_slots(2, "place:")]
KEYS = len(COUNTERS) + len(ACCOUNTS) + 1


def client_of(server):
    return redis.Redis(port=server.port, socket_timeout=HANG_SECONDS)


# --- The probe ------------------------------------------------------------------------------------------------


def writes_of(number):
    """Counter number % 17 gets the number; every third number also goes to all accounts, in one transaction; of two places one is taken
    and the other one free, by turns."""
    commands = [("SET", COUNTERS[number % len(COUNTERS)], number)]
    if number % 3 == 0:
        commands += [("MULTI",), *[("SET", key, number) for key in ACCOUNTS], ("EXEC",)]
    return commands + [("MULTI",), ("DEL", PLACES[number % 2]), ("SET", PLACES[1 - number % 2], number), ("EXEC",)]


def written_by(last, which):
    """What this counter is when all up to `last` has been written; 0: nothing."""
    return max(last - (last - which) % len(COUNTERS), 0)


class Violation(AssertionError):
    """A state that the primary never had, or one older than what was seen before."""


class Probe:
    """One reader of what writes_of writes. Whatever it reads must fit one prefix, and none shorter than it has seen."""

    def __init__(self, client, keys=KEYS):
        self.client = client
        self.keys = keys
        self.last = 0  # a number that is known to be visible
        self.looks = 0

    def look(self):
        which = self.looks % len(COUNTERS)
        self.looks += 1
        self.see_one(which, self.client.call("GET", COUNTERS[which]))
        self.see_all(self.client.call("MGET", *COUNTERS))
        self.see_accounts(self.client.call("MGET", *ACCOUNTS))
        self.see_places(self.client.call("MGET", *PLACES))
        self.see_size(self.client.call("DBSIZE"))

    def see_one(self, which, value):
        number = int(value or 0)
        if number < written_by(self.last, which):
            raise Violation(f"counter {which} is {number} although {self.last} was visible")
        self.last = max(self.last, number)

    def see_all(self, values):
        numbers = [int(value or 0) for value in values]
        last = max(numbers)
        if last < self.last:
            raise Violation(f"{last} is the last, although {self.last} was visible")
        if numbers != [written_by(last, which) for which in range(len(COUNTERS))]:
            raise Violation(f"no prefix: {numbers}")
        self.last = last

    def see_accounts(self, values):
        numbers = {int(value or 0) for value in values}
        if len(numbers) != 1:
            raise Violation(f"torn: {values}")
        number = numbers.pop()
        if number < (self.last - 1) // 3 * 3:  # the transaction follows its number
            raise Violation(f"accounts at {number} although {self.last} was visible")
        self.last = max(self.last, number)


    def see_places(self, values):
        if self.last > 1 and values.count(None) != 1:  # the transaction follows its number
            raise Violation(f"places: {values}")

    def see_size(self, size):
        if self.last > len(COUNTERS) and size != self.keys:
            raise Violation(f"{size} keys")


@pytest.mark.parametrize("commands, complaint", [
    ([("SET", COUNTERS[60 % 17], 60)], "no prefix"),
    ([("SET", ACCOUNTS[2], 33)], "torn"),
    ([("SET", COUNTERS[30 % 17], 13)], "was visible"),
    ([("SET", key, 24) for key in ACCOUNTS], "accounts at 24"),
    ([("SET", key, 31) for key in PLACES], "places"),
    ([("SET", "stray", 1)], "24 keys"),
])
def test_the_probe_sees_what_it_is_for(start, commands, complaint):
    server = start()
    with RawClient(*server.address()) as client:
        probe = Probe(client)
        for number in range(1, 31):
            client.pipeline(writes_of(number))
            probe.look()
        client.pipeline(commands)
        with pytest.raises(Violation, match=complaint):
            for _ in COUNTERS:
                probe.look()


class Probes:
    """Readers of the replica, and the writer of the primary, until the end of the block; then nobody may have complained."""

    def __init__(self, primary, replica, readers=3):
        self.primary, self.replica = primary, replica
        self.stop = threading.Event()
        self.problems, self.looks, self.number = [], [0] * readers, 0
        self.threads = [threading.Thread(target=self.guard, args=(self.write,))]
        self.threads += [threading.Thread(target=self.guard, args=(self.read, which)) for which in range(readers)]

    def guard(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            self.problems.append(error)

    def write(self):
        with RawClient(*self.primary.address()) as client:
            while not self.stop.is_set() and not self.problems:
                commands = [command for number in range(self.number + 1, self.number + 65) for command in writes_of(number)]
                client.pipeline(commands)
                self.number += 64

    def read(self, which):
        with RawClient(*self.replica.address()) as client:
            probe = Probe(client)
            while not self.stop.is_set() and not self.problems:
                probe.look()
                self.looks[which] = probe.looks

    def wait_for(self, condition):
        wait_until(lambda: self.problems or condition())

    def wait_for_writes(self, count):
        before = self.number
        self.wait_for(lambda: self.number >= before + count)

    def wait_for_looks(self, count):
        before = list(self.looks)
        self.wait_for(lambda: all(now >= then + count for now, then in zip(self.looks, before)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.problems


@pytest.mark.parametrize("threads, compression", [(1, "yes"), (1, "no"), pytest.param(2, "yes", marks=pytest.mark.storm), (2, "no"),
                                                  (4, "yes")])
def test_readers_see_prefixes_while_it_catches_up(start, threads, compression):
    options = {**NO_DELAY, "repl-backlog-size": "256mb"}
    primary = start({**options, "repl-compression": compression}, threads=2)
    replica = start({**options, "replicaof": ("127.0.0.1", primary.port)}, threads=threads)
    replica.call("DEBUG", "WORKERS-AWAKE", str(threads))
    wait_for_link(replica)
    with Probes(primary, replica) as probes:
        probes.wait_for_looks(scaled(50))
        for _ in range(3):
            os.kill(replica.pid, signal.SIGSTOP)
            try:
                probes.wait_for_writes(scaled(20_000))
            finally:
                os.kill(replica.pid, signal.SIGCONT)
            probes.wait_for_looks(scaled(50))
    assert_same_data(primary, replica)
    assert info(primary, "stats")["sync_full"] == 1
    assert (info(replica)["slave_parallel_commands"] > 0) == (threads > 1 and compression == "yes")


TALLIES = [key for key in harness.keys_in_distinct_slots(7, "tally:")]


class Writer:
    """writes_of and, behind each number, a tally of it, until the end of the block. What is run twice or left out shows."""

    def __init__(self, primary):
        self.primary, self.number, self.failure = primary, 0, None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            with RawClient(*self.primary.address()) as client:
                while not self.stop.is_set():
                    commands = []
                    for number in range(self.number + 1, self.number + 65):
                        commands += [*writes_of(number), ("INCR", TALLIES[number % len(TALLIES)])]
                    client.pipeline(commands)
                    self.number += 64
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def wait_for_writes(self, count):
        before = self.number
        wait_until(lambda: self.failure or self.number >= before + count, what="writes")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        assert not self.failure


def assert_prefix(server):
    """Its data, which nobody changes, are those that the primary had behind some number, or shortly before the next."""
    with RawClient(*server.address()) as client:
        probe = Probe(client, KEYS + len(TALLIES))
        probe.look()
        last = probe.last
        accounts = int(client.call("GET", ACCOUNTS[0]) or 0)
        tally = sum(int(value or 0) for value in client.call("MGET", *TALLIES))
        place = max(int(value or 0) for value in client.call("MGET", *PLACES))
    assert tally in (last, last - 1)
    assert place in (last, last - 1) and place >= tally
    assert accounts in (last // 3 * 3, (last - 1) // 3 * 3)
    return last


def test_a_replica_that_is_killed_goes_on_from_a_prefix(start, tmp_path):
    """kill -9 while it catches up: what it saved last is a prefix, and goes on from where it ends."""
    choose = random.Random(7)
    folder = tmp_path / "replica"
    folder.mkdir()
    options = {**NO_DELAY, "repl-backlog-size": "256mb"}
    primary = start(options, threads=2)
    with Writer(primary) as writer:
        for turn in range(2):
            replica = start({**options, "replicaof": ("127.0.0.1", primary.port)}, threads=2, directory=folder)
            wait_for_link(replica)
            os.kill(replica.pid, signal.SIGSTOP)
            try:
                writer.wait_for_writes(scaled(20_000))
            finally:
                os.kill(replica.pid, signal.SIGCONT)
            saves = info(replica, "persistence")["rdb_saves"]
            replica.call("BGSAVE")
            wait_until(lambda replica=replica, saves=saves: info(replica, "persistence")["rdb_saves"] > saves, what="the save")
            wait_until(lambda replica=replica: info(replica)["slave_parallel_commands"] > 0, what="commands applied in parallel")
            time.sleep(choose.random() / 20)
            replica.terminate(signal.SIGKILL)
            alone = tmp_path / f"alone-{turn}"
            alone.mkdir()
            shutil.copy(folder / "dump.rdb", alone)
            assert assert_prefix(start({}, threads=1, directory=alone)) > 0
    replica = start({**options, "replicaof": ("127.0.0.1", primary.port)}, threads=2, directory=folder)
    wait_for_link(replica)
    assert_same_data(primary, replica)
    assert info(primary, "stats")["sync_full"] == 1


def test_commands_of_all_kinds_while_it_catches_up(start):
    options = {**NO_DELAY, "repl-backlog-size": "256mb"}
    primary = start(options, threads=2)
    replica = start({**options, "replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_for_link(replica)
    choose = random.Random(3)
    kinds = [("INCR",), ("APPEND", "x"), ("MOVE", 1), ("DEL",), ("SET", 1, "PX", 2000), ("MSET", 1), ("EXPIRE", 1000), ("UNLINK",)]
    kinds += [("SADD", 1, 2), ("SPOP",), ("RPUSH", 1), ("LPOP",), ("ZADD", 1, "a"), ("HSET", "a", 1), ("INCRBYFLOAT", 0.5)]
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        load = Load(primary, [1, 2], scaled(1000))
        with RawClient(*primary.address()) as client:
            for _ in range(scaled(60)):
                commands = []
                for _ in range(200):
                    kind = choose.choice(kinds) if choose.random() < 0.2 else ("SET", choose.randrange(1 << 30))
                    name = "SET" if kind[0] in ("MOVE", "DEL") else kind[0]
                    commands.append((kind[0], f"{name}:{choose.randrange(500)}", *kind[1:]))
                client.pipeline(commands)
        load.join()
    finally:
        os.kill(replica.pid, signal.SIGCONT)
    assert_same_data(primary, replica)
    assert info(replica)["slave_parallel_commands"] > 0
    assert "CRITICAL" not in replica.log()


# --- What it needs --------------------------------------------------------------------------------------------


def peak_bytes(server):
    with open(f"/proc/{server.pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))


def test_frames_are_decoded_as_they_are_applied(start, backend):
    """What comes in a few bytes may be a hundred times as long: it is not all decoded at once."""
    primary = start({**NO_DELAY, "repl-backlog-size": "256mb"}, threads=1, backend=backend)
    replica = start({"replicaof": ("127.0.0.1", primary.port), "repl-backlog-size": "64kb"}, threads=1, backend=backend)
    wait_for_link(replica)
    value, count = b"0" * 8192, 20_000
    with client_of(primary) as client:
        client.set("zeros", value)
        assert_same_data(primary, replica)
        os.kill(replica.pid, signal.SIGSTOP)
        try:
            for _ in range(count // 500):
                pipeline = client.pipeline(transaction=False)
                for _ in range(500):
                    pipeline.set("zeros", value)
                pipeline.execute()
            before = peak_bytes(replica)
        finally:
            os.kill(replica.pid, signal.SIGCONT)
        assert_same_data(primary, replica)
    assert peak_bytes(replica) - before < count * len(value) // 8


# --- A round without replicas ---------------------------------------------------------------------------------

LEFT = "Diskless rdb transfer, last replica dropped, killing fork child."


def test_a_snapshot_ends_when_its_last_replica_has_left(start):
    """It would take hours."""
    primary = start({**NO_DELAY, "enable-debug-command": "yes", "rdb-key-save-delay": "100000"}, threads=1)
    primary.call("DEBUG", "POPULATE", str(scaled(100_000)), "key", "10")
    for count in (1, 2):
        with RawClient(*primary.address()) as replica:
            replica.send(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
            received = b""
            while b"FULLRESYNC" not in received:
                received += replica.socket.recv(1 << 10)
        wait_until(lambda count=count: primary.log().count(LEFT) == count)
    primary.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=1)
    wait_for_link(replica)
    assert_same_data(primary, replica)
    assert "Background RDB transfer error" not in primary.log()
