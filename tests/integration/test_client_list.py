"""CLIENT LIST and CLIENT KILL over many connections that come, go, move and are killed meanwhile; nobody is stopped for long."""

import random
import threading
import time

import pytest

import harness
from harness import wait_until
from resp import RawClient, encode_command

SMOKE = True

CLIENTS = 300
PIECE = 32  # connections at most in one exclusive section

slotwise = pytest.mark.skipif(not harness.IS_SLOTWISE, reason="the stock server has one thread and no sections")


@pytest.fixture
def crowd(start, backend):
    """A server with two workers that are awake, and its idle connections."""
    server = start(backend=backend, threads=2)
    if harness.IS_SLOTWISE:
        assert server.call("DEBUG", "WORKERS-AWAKE", "2") == "OK"
    server.crowd = [server.raw() for _ in range(CLIENTS)]
    for one in server.crowd:
        assert one.call("PING") == "PONG"
    return server


def sections(server):
    return int(server.info("debug")["exclusive_sections"])


def listed_ids(reply):
    return [int(line.split()[0][3:]) for line in reply.decode().splitlines()]


@slotwise
@pytest.mark.parametrize("command, least", [
    (("CLIENT", "LIST"), CLIENTS), (("CLIENT", "LIST", "TYPE", "normal"), CLIENTS),
    (("CLIENT", "LIST", "TYPE", "pubsub"), CLIENTS), (("CLIENT", "LIST", "ID", *range(1, CLIENTS)), CLIENTS - 1),
    (("CLIENT", "KILL", "ADDR", "1.2.3.4:5"), CLIENTS), (("CLIENT", "KILL", "TYPE", "normal"), CLIENTS),
    (("DEBUG", "MOVE-CLIENT", "ALL"), CLIENTS)], ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, tuple) else "")
def test_no_section_is_long(crowd, command, least):
    """The work of one command over all clients is spread over many sections, between which everybody is served."""
    client = crowd.raw()
    before = sections(crowd)
    client.call(*command)
    assert sections(crowd) - before >= least // PIECE


def test_order_on_one_connection(crowd):
    """What waits between two pieces keeps what was sent behind it waiting."""
    client = crowd.raw()
    commands = [("SET", "k", "v"), ("CLIENT", "LIST"), ("INCR", "n"), ("CLIENT", "KILL", "ADDR", "1.2.3.4:5"), ("INCR", "n")]
    replies = client.pipeline(commands * 20)
    for turn in range(20):
        ok, listed, first, killed, second = replies[5 * turn:5 * turn + 5]
        assert (ok, len(listed_ids(listed)), first, killed, second) == ("OK", CLIENTS + 1, 2 * turn + 1, 0, 2 * turn + 2)


def test_everybody_is_listed_once(crowd):
    client = crowd.raw()
    ids = [one.call("CLIENT", "ID") for one in crowd.crowd]
    assert ids == sorted(ids)
    assert listed_ids(client.call("CLIENT", "LIST")) == [*ids, client.call("CLIENT", "ID")]
    wanted = random.sample(ids, 100) * 2 + [10 ** 15, ids[0]]
    assert listed_ids(client.call("CLIENT", "LIST", "ID", *wanted)) == [number for number in wanted if number in ids]
    replies = client.pipeline([("MULTI",), ("CLIENT", "LIST"), ("CLIENT", "KILL", "ID", ids[0]), ("CLIENT", "LIST"), ("EXEC",)])
    assert listed_ids(replies[-1][0])[:-1] == ids and replies[-1][1] == 1 and listed_ids(replies[-1][2])[:-1] == ids[1:]
    assert crowd.crowd[0].closed_within()


def test_what_a_listing_shows_of_itself(crowd):
    client = crowd.raw()
    client.call("CLIENT", "SETNAME", "lister")
    line = client.call("CLIENT", "LIST").decode().splitlines()[-1]
    fields = dict(field.split("=", 1) for field in line.split(" "))
    assert (fields["name"], fields["cmd"], fields["flags"], fields["idle"]) == ("lister", "client|list", "N", "0")
    assert int(fields["argv-mem"]) > 0 and int(fields["qbuf"]) >= len(encode_command("CLIENT", "LIST"))
    client.call("HELLO", "3")
    client.send_command("CLIENT", "LIST")
    text = client.read()
    assert len(listed_ids(text.split(b":", 1)[1] if text.startswith(b"txt:") else text)) == CLIENTS + 1
    client.send(encode_command("CLIENT", "REPLY", "OFF") + encode_command("CLIENT", "LIST")
                + encode_command("CLIENT", "REPLY", "ON") + encode_command("PING"))
    assert [client.read(), client.read()] == ["OK", "PONG"]


class Churn:
    """with Churn(server): connections come, take names, leave and are killed; and all of them move between the workers."""

    def __init__(self, server):
        self.server = server
        self.stopping = threading.Event()
        self.failure = None
        jobs = [self._come_and_go, self._come_and_go, self._kill]
        if harness.IS_SLOTWISE:
            jobs.append(self._move)
        self.threads = [threading.Thread(target=self._run, args=(job,), daemon=True) for job in jobs]

    def _run(self, job):
        try:
            while not self.stopping.is_set():
                job()
        except Exception as error:  # noqa: B902  reported by __exit__
            self.failure = error

    def _come_and_go(self):
        ones = [RawClient(*self.server.address()) for _ in range(10)]
        for number, one in enumerate(ones):
            one.send(encode_command("CLIENT", "SETNAME", f"guest{number}") + encode_command("CLIENT", "LIST") * (number % 5 == 0))
        assert ones[0].read() == "OK" and ones[0].read()  # not faster than the server
        for one in ones:
            one.close()

    def _kill(self):
        victims = [RawClient(*self.server.address()) for _ in range(5)]
        addresses = ["%s:%d" % one.socket.getsockname()[:2] for one in victims]
        with RawClient(*self.server.address()) as killer:
            for one, address in zip(victims, addresses):
                one.send(encode_command("CLIENT", "LIST") * 3)
                reply = killer.call("CLIENT", "KILL", "ADDR", address)
                assert reply == 1, reply
        for one in victims:
            one.close()

    def _move(self):
        assert self.server.call("DEBUG", "MOVE-CLIENT", "ALL") is not None
        self.stopping.wait(0.002)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(harness.HANG_SECONDS * harness.SLOWNESS)
        if kind is None:
            assert self.failure is None, repr(self.failure)


def test_listing_while_clients_come_and_go(crowd):
    """Whoever stays is listed exactly once, in order; nobody twice; and each line is whole."""
    client = crowd.raw()
    ids = {one.call("CLIENT", "ID") for one in crowd.crowd}
    end, turns = time.monotonic() + 2, 0
    with Churn(crowd):
        while time.monotonic() < end or turns < 20:
            reply = client.call("CLIENT", "LIST")
            seen = listed_ids(reply)
            assert seen == sorted(set(seen)), "twice or out of order"
            assert ids <= set(seen), ids - set(seen)
            assert all(line.startswith("id=") and " lib-ver=" in line for line in reply.decode().splitlines())
            some = random.sample(sorted(ids), 50)
            assert listed_ids(client.call("CLIENT", "LIST", "ID", *some)) == some
            turns += 1
    for one in crowd.crowd:
        assert one.call("PING") == "PONG"


def test_killing_while_clients_come_and_go(crowd):
    """KILL counts whom it kills: all that stay, each once; they run nothing any more once it has replied."""
    killer, reader = crowd.raw(), crowd.raw()
    laddr = f"127.0.0.1:{crowd.port}"
    with Churn(crowd) as churn:
        time.sleep(0.1)
        assert killer.call("CLIENT", "KILL", "LADDR", "127.0.0.1:1") == 0
    assert churn.failure is None
    wait_until(lambda: int(crowd.info("clients")["connected_clients"]) == CLIENTS + 3, what="the guests to be gone")
    stopping = threading.Event()

    def increment():
        while not stopping.is_set():
            for one in crowd.crowd:
                try:
                    one.send_command("INCR", "n")
                except OSError:
                    pass

    thread = threading.Thread(target=increment, daemon=True)
    thread.start()
    wait_until(lambda: int(reader.call("GET", "n") or 0) > CLIENTS, what="the crowd to be at work")
    reader.close()
    wait_until(lambda: b"connected_clients:%d\r" % (CLIENTS + 1) in killer.call("INFO", "clients"), what="the reader to be gone")
    assert killer.call("CLIENT", "KILL", "LADDR", laddr, "SKIPME", "yes") == CLIENTS
    count = killer.call("GET", "n")
    stopping.set()
    thread.join(harness.HANG_SECONDS * harness.SLOWNESS)
    wait_until(lambda: int(crowd.info("clients")["connected_clients"]) == 2, what="the crowd to be gone")
    assert killer.call("GET", "n") == count


def test_those_who_kill_each_other(crowd):
    """Everybody kills everybody else at once: one of them is left, or none, and the server goes on."""
    for one in crowd.crowd:
        one.send_command("CLIENT", "KILL", "TYPE", "normal")
    wait_until(lambda: int(crowd.info("clients")["connected_clients"]) <= 2, what="one to be left")
    assert crowd.call("PING") == "PONG"
    wait_until(lambda: len(listed_ids(crowd.call("CLIENT", "LIST"))) <= 2, what="no more to be listed")


def test_leaving_in_the_middle_of_a_listing(crowd):
    for turn in range(30):
        one = RawClient(*crowd.address())
        one.send(encode_command("CLIENT", "LIST") * 5 + encode_command("CLIENT", "KILL", "ADDR", "1.2.3.4:5"))
        if turn % 2:
            time.sleep(0.001)
        one.close()
    client = crowd.raw()
    wait_until(lambda: len(listed_ids(client.call("CLIENT", "LIST"))) == CLIENTS + 1, what="the others to be gone")


def test_many_listings_at_once(crowd):
    """Each client lists all."""
    for one in crowd.crowd:
        one.send_command("CLIENT", "LIST", "TYPE", "normal")
    ids = None
    for one in crowd.crowd:
        seen = listed_ids(one.read())
        ids = ids or seen
        assert seen == ids and len(seen) == CLIENTS
