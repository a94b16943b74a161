"""MIGRATE: keys go to another server; nobody sees them in both, and nothing is lost on the way."""

import pathlib
import signal
import socket
import threading
import time

import pytest

import debugging
import harness
from harness import keys_in_distinct_slots, slot_of, wait_until
from resp import RawClient, ReplyError, encode_command

SMOKE = True


def target_of(server):
    host, port = server.address()
    return host, port


class SilentTarget:
    """Accepts, reads, and answers nothing until told to; counts what it has read."""

    def __init__(self):
        self.port = harness.free_port()
        self.socket = socket.create_server(("127.0.0.1", self.port))
        self.received = 0
        self.connection = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while True:
                self.connection, _ = self.socket.accept()
                while data := self.connection.recv(65536):
                    self.received += len(data)
        except OSError:
            pass

    def answer(self, data):
        self.connection.sendall(data)

    def close(self):
        self.socket.close()
        if self.connection:
            self.connection.close()


@pytest.fixture
def silent():
    target = SilentTarget()
    yield target
    target.close()


@pytest.fixture
def pair(start, backend):
    return start(backend=backend, threads=2), start(backend=backend, threads=2)


def call(client, *arguments):
    """The reply, an error as its text."""
    reply = client.call(*arguments)
    return str(reply) if isinstance(reply, ReplyError) else reply


def outcomes(source, target):
    """What a series of MIGRATEs answers, and where the keys are."""
    client, other = source.raw(), target.raw()
    host, port = target_of(target)
    found = []

    def migrate(*arguments):
        found.append(call(client, "MIGRATE", *arguments))

    client.call("MSET", "a", "1", "b", "2", "c", "3")
    client.call("PEXPIRE", "b", 100_000)
    migrate(host, port, "nothing", 0, 1000)
    migrate(host, port, "a", 0, 1000, "COPY")
    migrate(host, port, "a", 0, 1000)
    migrate(host, port, "a", 0, 1000, "REPLACE")
    migrate(host, port, "", 3, 1000, "KEYS", "b", "nothing", "c")
    migrate(host, port, "", 3, 1000, "KEYS", "b", "nothing", "c")
    migrate(host, port, "x", 3, 1000, "KEYS", "b")
    migrate(host, port, "a", 99, 1000)
    migrate(host, port, "a", "zero", 1000)
    migrate(host, port, "a", 0, "soon")
    migrate(host, port, "a", 0, 1000, "WHAT")
    migrate(host, port, "a", 0, 1000, "AUTH")
    migrate(host, port, "a", 0, 1000, "AUTH2", "one")
    migrate(host, port)
    client.call("SET", "d", "4")
    migrate(host, port, "d", 99, 1000)
    migrate(host, port, "d", 0, 1000, "AUTH", "wrong")
    migrate(host, port, "d", 0, 1000, "AUTH2", "default", "wrong")
    migrate(host, port, "d", 0, -5)
    found.append(sorted(client.call("KEYS", "*")))
    found.append(other.call("MGET", "a", "d"))
    other.call("SELECT", 3)
    found.append(other.call("MGET", "b", "c"))
    found.append(90_000 < other.call("PTTL", "b") <= 100_000)
    return found


def test_as_the_stock_server(start, backend, oracle):
    server = start(backend=backend)
    assert server.info("stats")["migrate_cached_sockets"] == "0"
    mine = outcomes(server, start(backend=backend))
    assert server.info("stats")["migrate_cached_sockets"] == "1"
    oracle.call("FLUSHALL")
    second = start(backend=backend)
    theirs = outcomes(oracle, second)
    assert mine == theirs


def test_to_a_server_with_a_password(start, backend):
    source, target = start(backend=backend), start({"requirepass": "secret"}, backend=backend)
    client = source.raw()
    host, port = target_of(target)
    client.call("SET", "k", "v")
    assert "NOAUTH" in call(client, "MIGRATE", host, port, "k", 0, 1000)
    assert "WRONGPASS" in call(client, "MIGRATE", host, port, "k", 0, 1000, "AUTH", "wrong")
    assert client.call("GET", "k") == b"v"
    assert client.call("MIGRATE", host, port, "k", 0, 1000, "AUTH2", "default", "secret") == "OK"
    assert client.call("GET", "k") is None


def test_nothing_is_lost_under_increments(pair):
    """Whoever increments goes on while the key is migrated again and again: each increment is in one place."""
    source, target = pair
    host, port = target_of(target)
    keys = keys_in_distinct_slots(3)
    stop, counts, problems = threading.Event(), [0, 0], []

    def increment(number):
        try:
            with RawClient(*source.address(), timeout=60) as client:
                while not stop.is_set():
                    for key in keys:
                        client.call("INCR", key)
                        counts[number] += 1
        except Exception as error:  # the main thread tells
            problems.append(error)

    threads = [threading.Thread(target=increment, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    moved = 0
    client, other = source.raw(), target.raw()
    wait_until(lambda: all(counts) or problems, what="increments")
    for round_number in range(harness.scaled(300)):
        chosen = keys if round_number % 3 == 0 else [keys[round_number % 3]]
        reply = client.call("MIGRATE", host, port, "", 0, 5000, "KEYS", *chosen)
        assert reply in ("OK", "NOKEY")
        moved += sum(int(other.call("GETDEL", key) or 0) for key in chosen)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    left = sum(int(value or 0) for value in client.call("MGET", *keys))
    assert moved > 0 and moved + left == sum(counts)


def test_others_go_on_while_the_target_is_silent(start, backend, silent):
    server = start(backend=backend, threads=2)
    one, two = keys_in_distinct_slots(2)
    client, bystander, waiting = server.raw(), server.raw(), server.raw()
    client.call("MSET", one, "1", two, "2")
    client.send_command("MIGRATE", "127.0.0.1", silent.port, one, 0, int(2000 * harness.SLOWNESS))
    wait_until(lambda: silent.received > 0, what="RESTORE to arrive")
    waiting.send_command("APPEND", one, "x")
    for _ in range(20):
        assert bystander.call("INCR", two) > 2
    assert "IOERR error or timeout reading" in str(client.read())
    assert waiting.read() == 2, "it has waited, and the key is still there"
    assert bystander.call("GET", one) == b"1x"


def test_a_client_that_goes_leaves_nothing_behind(start, backend, silent):
    server = start(backend=backend, threads=2)
    client, other = server.raw(), server.raw()
    client.call("SET", "k", "v")
    client.send_command("MIGRATE", "127.0.0.1", silent.port, "k", 0, 60_000)
    wait_until(lambda: silent.received > 0, what="RESTORE to arrive")
    client.close()
    silent.answer(b"+OK\r\n+OK\r\n")
    assert other.call("GET", "k") is None
    other.call("SET", "k", "again")
    assert other.call("GET", "k") == b"again"


def test_the_server_ends_although_a_target_is_silent(start, backend, silent):
    server = start(backend=backend, threads=2)
    client = server.raw()
    client.call("SET", "k", "v")
    client.send_command("MIGRATE", "127.0.0.1", silent.port, "k", 0, 600_000)
    wait_until(lambda: silent.received > 0, what="RESTORE to arrive")
    server.terminate()
    assert server.wait_end() == 0


def test_a_connection_that_was_kept_may_be_dead(pair):
    source, target = pair
    host, port = target_of(target)
    client, other = source.raw(), target.raw()
    client.call("MSET", "a", "1", "b", "2")
    assert client.call("MIGRATE", host, port, "a", 0, 5000) == "OK"
    assert other.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 1
    assert client.call("MIGRATE", host, port, "b", 0, 5000) == "OK"
    assert other.call("MGET", "a", "b") == [b"1", b"2"]


def test_replicas_and_watchers_hear_of_it(start, backend):
    source, target = start(backend=backend, threads=2), start(backend=backend)
    replica = start({"replicaof": f"{source.address()[0]} {source.address()[1]}"}, backend=backend)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
    client, watcher = source.raw(), source.raw()
    client.call("MSET", "a", "1", "b", "2", "c", "3")
    watcher.call("WATCH", "a")
    host, port = target_of(target)
    assert client.call("MIGRATE", host, port, "", 0, 5000, "KEYS", "a", "b") == "OK"
    watcher.call("MULTI")
    watcher.call("PING")
    assert watcher.call("EXEC") is None
    assert client.call("WAIT", 1, 60_000) == 1
    assert replica.call("KEYS", "*") == [b"c"]
    assert "READONLY" in call(replica.raw(), "MIGRATE", host, port, "c", 0, 1000)


def test_it_waits_for_the_end_of_a_pause(pair):
    source, target = pair
    host, port = target_of(target)
    client, other = source.raw(), source.raw()
    client.call("SET", "k", "v")
    other.call("CLIENT", "PAUSE", 60_000, "WRITE")
    client.send_command("MIGRATE", host, port, "k", 0, 60_000)
    time.sleep(0.05)
    assert target.call("GET", "k") is None
    other.call("CLIENT", "UNPAUSE")
    assert client.read() == "OK"


def test_not_in_a_transaction(start, backend):
    client = start(backend=backend).raw()
    client.call("MULTI")
    client.call("MIGRATE", "127.0.0.1", 1, "k", 0, 1)
    [reply] = client.call("EXEC")
    assert "MIGRATE inside MULTI" in str(reply)


def test_many_keys_and_large_values(pair):
    source, target = pair
    host, port = target_of(target)
    client = source.raw()
    keys = [f"key:{number}" for number in range(2000)]
    for number, key in enumerate(keys):
        client.send(encode_command("SET", key, str(number) * (1 + number % 50)))
    client.send(encode_command("SET", "large", "x" * 20_000_000))
    for _ in range(len(keys) + 1):
        assert client.read() == "OK"
    assert client.call("MIGRATE", host, port, "", 0, 60_000, "KEYS", "large", *keys) == "OK"
    assert client.call("DBSIZE") == 0
    other = target.raw()
    assert other.call("DBSIZE") == len(keys) + 1
    assert other.call("MGET", *keys) == [(str(number) * (1 + number % 50)).encode() for number in range(len(keys))]
    assert other.call("STRLEN", "large") == 20_000_000
    assert len({slot_of(key) for key in keys}) > 1000


def begin_slowly(server, silent, key="k", *more):
    """A client whose MIGRATE has sent the key and waits for the answer."""
    client = server.raw()
    client.send_command("MIGRATE", "127.0.0.1", silent.port, key, 0, 600_000, *more)
    wait_until(lambda: silent.received > 0, what="RESTORE to arrive")
    return client


def values(server):
    """Of k in the databases 0 and 1."""
    client = server.raw()
    found = []
    for database in (0, 1):
        client.call("SELECT", database)
        found.append(client.call("GET", "k"))
    return found


def test_databases_that_are_swapped_meanwhile(start, backend, silent):
    """What was sent is deleted where it is then, and not its namesake."""
    server = start(backend=backend, threads=2)
    client = server.raw()
    client.call("SET", "k", "sent")
    client.call("SELECT", 1)
    client.call("SET", "k", "namesake")
    migrating = begin_slowly(server, silent)
    assert client.call("SWAPDB", 0, 1) == "OK"
    silent.answer(b"+OK\r\n+OK\r\n")
    assert migrating.read() == "OK"
    assert values(server) == [b"namesake", None]


@pytest.mark.parametrize("answer", ["OK", "ERR"])
def test_who_waits_for_what_is_on_its_way(start, backend, silent, answer):
    """Its database is exchanged for that of somebody who waits for the key: an element is given to one of the two."""
    server = start(backend=backend, threads=2)
    client, waiter, other = server.raw(), server.raw(), server.raw()
    number = debugging.client_id(client)
    client.call("RPUSH", "k", "v")
    waiter.call("SELECT", 1)
    waiter.id = debugging.client_id(waiter)
    waiter.send_command("BLPOP", "k", 0)
    wait_until(lambda: server.info("clients")["blocked_clients"] == "1", what="the client to be blocked")
    migrating = begin_slowly(server, silent)
    client.send_command("SWAPDB", 0, 1)
    wait_until(lambda: debugging.client_line(other, number)["cmd"] == "swapdb", what="SWAPDB to be looked at")
    for _ in range(20):
        assert other.call("PING") == "PONG"
    silent.answer(b"+OK\r\n+OK\r\n" if answer == "OK" else b"+OK\r\n-ERR no\r\n")
    assert (migrating.read() == "OK") == (answer == "OK")
    assert client.read() == "OK"
    if answer == "OK":
        assert other.call("CLIENT", "UNBLOCK", waiter.id) == 1, "it has not been served what the target has"
        assert waiter.read() is None
    else:
        assert waiter.read() == [b"k", b"v"]
    assert other.call("EXISTS", "k") == 0 and client.call("EXISTS", "k") == 0


@pytest.mark.parametrize("needs_all", [("KEYS", "*"), ("CONFIG", "SET", "hz", "11"), ("SWAPDB", "2", "3")])
def test_a_transaction_that_stops_everybody_waits_as_well(start, backend, silent, needs_all):
    server = start(backend=backend, threads=2)
    client, other = server.raw(), server.raw()
    number = debugging.client_id(client)
    client.call("SET", "k", "sent")
    migrating = begin_slowly(server, silent)
    client.call("MULTI")
    client.call("SET", "k", "new")
    client.call(*needs_all)
    client.send_command("EXEC")
    wait_until(lambda: debugging.client_line(other, number)["cmd"] == "exec", what="EXEC to be looked at")
    silent.answer(b"+OK\r\n+OK\r\n")
    assert migrating.read() == "OK"
    assert client.read()[0] == "OK"
    assert other.call("GET", "k") == b"new", "what was acknowledged is there"


def test_a_flush_and_what_is_loaded_behind_it(start, backend, silent):
    """The data are loaded anew from a file: what they hold now was not sent."""
    server = start(backend=backend, threads=2)
    client = server.raw()
    client.call("SET", "k", "loaded")
    client.call("SAVE")
    client.call("SET", "k", "sent")
    migrating = begin_slowly(server, silent)
    assert client.call("FLUSHALL") == "OK"
    assert client.call("DEBUG", "RELOAD", "NOSAVE") == "OK"
    silent.answer(b"+OK\r\n+OK\r\n")
    assert migrating.read() == "OK"
    assert client.call("GET", "k") == b"loaded"


def test_a_role_that_changes_meanwhile(start, backend, silent):
    server = start({"replica-read-only": "no"}, backend=backend, threads=2)
    client = server.raw()
    client.call("SET", "k", "v")
    migrating = begin_slowly(server, silent)
    assert client.call("REPLICAOF", "127.0.0.1", harness.free_port()) == "OK"
    silent.answer(b"+OK\r\n+OK\r\n")
    assert "READONLY" in str(migrating.read())
    assert client.call("GET", "k") == b"v"


def test_wait_counts_who_has_the_deletion(start, backend, pair):
    source, target = pair
    host, port = target_of(target)
    replica = start({"replicaof": f"{source.address()[0]} {source.address()[1]}"}, backend=backend)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
    client = source.raw()
    client.call("SET", "k", "v")
    assert client.call("WAIT", 1, 60_000) == 1
    replica.process.send_signal(signal.SIGSTOP)
    tasks = pathlib.Path(f"/proc/{replica.pid}/task")
    wait_until(lambda: all(") T " in (task / "stat").read_text() for task in tasks.iterdir()), what="all its threads to be stopped")
    try:
        assert client.call("MIGRATE", host, port, "k", 0, 60_000) == "OK"
        assert client.call("WAIT", 1, 100) == 0
    finally:
        replica.process.send_signal(signal.SIGCONT)
    assert client.call("WAIT", 1, 60_000) == 1
    assert replica.raw().call("GET", "k") is None
