"""Commands that must wait, and all that may stand behind them in the same packet.

Nobody waits at the cost of others: whatever a client sends, every command is answered once and in order, the token of a
slot and patience are given back, and the workers go on.
"""

import select
import socket
import struct
import time

import pytest

import debugging
import harness
from harness import wait_until
from resp import RawClient, ReplyError, encode_command

HOLD_MS = int(100 * min(harness.SLOWNESS, 4))
LONG_HOLD_MS = 2000 * int(min(harness.SLOWNESS, 4))
ANSWER_SECONDS = 10 * harness.SLOWNESS
CONFIG = ("CONFIG", "SET", "slowlog-max-len", "128")


def encode_all(*commands):
    return b"".join(encode_command(*command) for command in commands)


def connect(server):
    """A connection that fails the test when a reply does not come."""
    client = RawClient(*server.address(), timeout=ANSWER_SECONDS)
    server.clients.append(client)
    return client


def served(server):
    """Others are served: commands on one key, on all keys, and those that stop every worker."""
    with connect(server) as other:
        assert other.pipeline([("PING",), CONFIG, ("SET", "others", "1"), ("DBSIZE",), ("SWAPDB", "0", "0"),
                               ("DEL", "others"), ("EXISTS", "others")])[:3] == ["PONG", "OK", "OK"]
    with connect(server) as other:
        assert other.call("FLUSHALL") == "OK"


# --- ways to park -------------------------------------------------------------------------------------------------


class Way:
    """A way to park: `begin` makes the command wait, which replies `reply` once `end` has let it go on."""

    def __init__(self, name, command, reply, hold, prelude=(), needs=()):
        self.name = name
        self.command = command
        self.reply = reply
        self.hold = hold
        self.prelude = list(prelude)
        self.needs = needs

    def begin(self, server, client):
        """`client` runs what comes before; afterwards `command` will park, and so it does for `end` to come."""
        debugging.require(server, *self.needs)
        for command in self.prelude:
            assert client.call(*command) in ("OK", "QUEUED")
        assert server.call(*self.hold) == "OK"

    def end(self, server):
        """Lets the command go on; what is held by a thread of the server goes on by itself."""
        if self.hold[0] == "CLIENT":
            assert server.call("CLIENT", "UNPAUSE") == "OK"


PAUSE = ("CLIENT", "PAUSE", "60000", "WRITE")
SLOT = ("DEBUG", "SLOT-HOLD", "first", str(HOLD_MS))
PATIENCE = ("DEBUG", "PATIENCE-HOLD", str(HOLD_MS))
QUEUED_WRITE = [("MULTI",), ("SET", "first", "1")]

WAYS = [
    Way("pause", ("SET", "first", "1"), "OK", PAUSE),
    Way("pause_exec", ("EXEC",), ["OK"], PAUSE, QUEUED_WRITE),
    Way("pause_exclusive", ("FLUSHALL",), "OK", PAUSE),
    Way("slot", ("SET", "first", "1"), "OK", SLOT, needs=["SLOT-HOLD"]),
    Way("slot_read", ("STRLEN", "first"), 0, SLOT, needs=["SLOT-HOLD"]),
    Way("slot_several", ("MSET", "second", "2", "first", "1", "third", "3"), "OK", SLOT, needs=["SLOT-HOLD"]),
    Way("slot_watch", ("WATCH", "second", "first"), "OK", SLOT, needs=["SLOT-HOLD"]),
    Way("slot_unwatch", ("UNWATCH",), "OK", SLOT, [("WATCH", "first")], needs=["SLOT-HOLD"]),
    Way("slot_discard", ("DISCARD",), "OK", SLOT, [("WATCH", "first"), ("MULTI",)], needs=["SLOT-HOLD"]),
    Way("slot_exec", ("EXEC",), ["OK"], SLOT, QUEUED_WRITE, needs=["SLOT-HOLD"]),
    Way("slot_exec_watching", ("EXEC",), ["OK"], SLOT,
        [("WATCH", "first"), ("MULTI",), ("SET", "second", "1")], needs=["SLOT-HOLD"]),
    Way("slot_scan", ("SCAN", "0", "COUNT", "100000"), [b"0", [b"first"]], SLOT, [("SET", "first", "1")],
        needs=["SLOT-HOLD"]),
    Way("patience_config", CONFIG, "OK", PATIENCE, needs=["PATIENCE-HOLD"]),
    Way("patience_flush", ("FLUSHALL",), "OK", PATIENCE, needs=["PATIENCE-HOLD"]),
    Way("patience_exec", ("EXEC",), ["OK"], PATIENCE, [("MULTI",), ("SWAPDB", "0", "0")], needs=["PATIENCE-HOLD"]),
]
BY_NAME = {way.name: way for way in WAYS}


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request):
    return request.param


# --- what stands behind a command that parks -----------------------------------------------------------------------


def pairs(count):
    return [word for number in range(count) for word in (f"key{number:04d}", f"val{number:04d}")]


def pair_bytes():
    return len(encode_command("key0000", "val0000")) - len(b"*2\r\n")


def aligned(client_command):
    """An ECHO that makes the command and it together as long as some pairs of an MSET: whoever drops the first and
    keeps counting where the second was takes a value for a name."""
    for length in range(pair_bytes()):
        echo = ("ECHO", "e" * length)
        if len(encode_all(client_command, echo)) % pair_bytes() == 0:
            return echo
    return None


def tails(command):
    """name: (complete commands before, the last command, where the packet cuts it, its reply, key, value)."""
    big = "b" * 400_000
    many = encode_command("MSET", *pairs(60))
    both = encode_command("MSET", *pairs(40), "tail", big)
    found = {
        "half_inline": ([], b"SET tail inline\r\n", 7, "OK", "tail", b"inline"),
        "a_star": ([], encode_command("SET", "tail", "v"), 1, "OK", "tail", b"v"),
        "half_command": ([], encode_command("SET", "tail", "v"), 17, "OK", "tail", b"v"),
        "before_the_last_byte": ([], encode_command("SET", "tail", "v"), -1, "OK", "tail", b"v"),
        "64_arguments": ([], many, len(many) - 100, "OK", "key0059", b"val0059"),
        "big_bulk": ([], encode_command("SET", "tail", big), 1000, "OK", "tail", big.encode()),
        "64_arguments_and_big_bulk": ([], both, len(both) - 200_000, "OK", "tail", big.encode()),
        "behind_complete_ones": ([("ECHO", "a"), ("SET", "first", "2"), ("GET", "first")], many, len(many) - 100, "OK",
                                 "key0000", b"val0000"),
    }
    echo = aligned(command)
    if echo:
        found["aligned"] = ([echo], many, len(many) - 100, "OK", "key0000", b"val0000")
    return found


def replies_to(commands):
    known = {"ECHO": lambda command: command[1].encode(), "SET": lambda command: "OK", "GET": lambda command: b"2"}
    return [known[command[0]](command) for command in commands]


@pytest.mark.parametrize("meanwhile", [True, False], ids=["rest_while_parked", "rest_after"])
def test_incomplete_commands_behind_one_that_parks(server, way, meanwhile):
    """The command that parked runs, and so does what came in part behind it, whenever the rest comes."""
    for name, (before, last, cut, reply, key, value) in tails(way.command).items():
        client = connect(server)
        way.begin(server, client)
        client.send(encode_all(way.command, *before) + last[:cut])
        time.sleep(0.02)
        if meanwhile:
            client.send(last[cut:])
            way.end(server)
        else:
            way.end(server)
            assert client.read() == way.reply, name
            client.send(last[cut:])
        replies = [client.read() for _ in range(len(before) + 1 + meanwhile)]
        assert replies == ([way.reply] if meanwhile else []) + replies_to(before) + [reply], name
        assert client.pipeline([("UNWATCH",), ("GET", key), ("PING",)]) == ["OK", value, "PONG"], name
        client.close()
        served(server)


@pytest.mark.smoke
def test_a_rest_that_drips(server, way):
    """What stands behind a parked command comes byte by byte, before and after it goes on."""
    client = connect(server)
    way.begin(server, client)
    tail = encode_command("MSET", *pairs(40)) + encode_command("GET", "key0039")
    client.send(encode_command(*way.command) + tail[:50])
    for at in range(50, 150):
        client.send(tail[at:at + 1])
    way.end(server)
    for at in range(150, len(tail)):
        client.send(tail[at:at + 1])
    assert [client.read() for _ in range(3)] == [way.reply, "OK", b"val0039"]
    client.close()
    served(server)


def test_long_pipelines_behind_one_that_parks(server, way):
    """More than the server wants to keep comes behind it: nothing is lost, nothing is run twice."""
    client = connect(server)
    way.begin(server, client)
    count = 4000
    client.send(encode_command(*way.command) + encode_command("DEL", "n") + encode_command("INCR", "n") * count)
    way.end(server)
    assert client.read() == way.reply
    client.read()
    assert [client.read() for _ in range(count)] == list(range(1, count + 1))
    client.close()
    served(server)


# --- how a connection that waits may end ----------------------------------------------------------------------------


def end_open(server, client, number):
    """It stays, and never sends the rest."""
    client.send(encode_command("MSET", *pairs(60))[:-100])


def end_big_bulk(server, client, number):
    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$400000\r\n" + b"z" * 100)


def end_protocol_error(server, client, number):
    client.send(b"*1\r\n!4\r\nPING\r\n")


def end_close(server, client, number):
    client.close()


def end_reset(server, client, number):
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def end_half_close(server, client, number):
    client.send(encode_command("PING"))
    client.socket.shutdown(socket.SHUT_WR)


def end_half_close_within(server, client, number):
    client.send(encode_command("SET", "k", "v")[:-3])
    client.socket.shutdown(socket.SHUT_WR)


def end_quit(server, client, number):
    client.send(encode_command("QUIT") + encode_command("SET", "first", "never"))


def end_reset_command(server, client, number):
    client.send(encode_command("RESET"))


def end_killed(server, client, number):
    killer = connect(server)
    killer.send_command("CLIENT", "KILL", "ID", number)


def end_killed_with_more(server, client, number):
    client.send(encode_command("SET", "first", "1") * 100)
    end_killed(server, client, number)


def end_never_reads(server, client, number):
    client.send(encode_command("COMMAND") * 500)


def end_refused(server, client, number):
    client.send(encode_all(("GET",), ("NOSUCH",), ("EXEC", "x"), ("WATCH",), ("SET", "first")))


ENDS = [end_open, end_big_bulk, end_protocol_error, end_close, end_reset, end_half_close, end_half_close_within, end_quit,
        end_reset_command, end_killed, end_killed_with_more, end_never_reads, end_refused]


def test_clients_that_end_while_they_wait(server, way):
    """However it ends, others are served as soon as what it waited for is free, whether or not it is still there."""
    for end in ENDS:
        client = connect(server)
        number = debugging.client_id(client)
        way.begin(server, client)
        client.send_command(*way.command)
        time.sleep(0.02)
        end(server, client, number)
        way.end(server)
        served(server)
        client.close()
    wait_until(lambda: len(debugging.client_ids(server)) <= 2, what="the clients to be gone")


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__[4:])
def test_a_queue_for_patience(server, end):
    """Many wait for patience, each with something behind its command; then all the others are served."""
    debugging.require(server, "PATIENCE-HOLD")
    assert server.call(*PATIENCE) == "OK"
    clients = []
    for _ in range(20):
        client = connect(server)
        number = debugging.client_id(client)
        client.send_command(*CONFIG)
        clients.append((client, number))
    time.sleep(0.02)
    for client, number in clients:
        end(server, client, number)
    served(server)
    for client, _ in clients:
        client.close()
    served(server)


@pytest.mark.smoke
def test_patience_and_a_pause(server):
    """A command that gets patience during CLIENT PAUSE waits on without it."""
    debugging.require(server, "PATIENCE-HOLD")
    victims = [connect(server) for _ in range(3)]
    assert server.call(*PATIENCE) == "OK"
    admin = connect(server)
    admin.send_command("CLIENT", "PAUSE", "60000", "WRITE")
    time.sleep(0.02)
    for victim in victims:
        victim.send_command("FLUSHALL")
    assert admin.read() == "OK"
    with connect(server) as other:
        assert other.call(*CONFIG) == "OK"
        assert other.call("PING") == "PONG"
    assert all(victim.silent(0.05) for victim in victims)
    assert admin.call("CLIENT", "UNPAUSE") == "OK"
    assert [victim.read() for victim in victims] == ["OK"] * 3
    served(server)


@pytest.mark.smoke
def test_patience_and_a_limit(server):
    """A command that gets patience and is refused by then gives it back."""
    debugging.require(server, "PATIENCE-HOLD")
    first, second = connect(server), connect(server)
    for client in (first, second):
        client.pipeline([("MULTI",), ("SET", "k", "v"), ("SWAPDB", "0", "0")])
    setter = connect(server)
    assert server.call(*PATIENCE) == "OK"
    setter.send_command("CONFIG", "SET", "maxmemory", "1")
    time.sleep(0.02)
    for client in (first, second):
        client.send_command("EXEC")
    assert setter.read() == "OK"
    for client in (first, second):
        reply = client.read()
        assert isinstance(reply, ReplyError) and "OOM command not allowed" in reply.text, reply
    assert setter.call("CONFIG", "SET", "maxmemory", "0") == "OK"
    served(server)


# --- nobody spins or waits on a worker -----------------------------------------------------------------------------


def waiting_commands():
    """name: (what the connection does before, the command that needs the held slot)."""
    return {
        "SET": ([], ("SET", "held", "1")),
        "GET": ([], ("GET", "held")),
        "MSET": ([], ("MSET", "other", "1", "held", "1")),
        "WATCH": ([], ("WATCH", "held")),
        "UNWATCH": ([("WATCH", "held")], ("UNWATCH",)),
        "DISCARD": ([("WATCH", "held"), ("MULTI",)], ("DISCARD",)),
        "RESET": ([("WATCH", "held")], ("RESET",)),
        "EXEC": ([("MULTI",), ("SET", "held", "1")], ("EXEC",)),
        "EXEC watching": ([("WATCH", "held"), ("MULTI",)], ("EXEC",)),
        "EXEC refused": ([("WATCH", "held"), ("MULTI",), ("NOSUCH",)], ("EXEC",)),
        "EXEC arity": ([("WATCH", "held"), ("MULTI",)], ("EXEC", "x")),
        "SCAN": ([], ("SCAN", "0", "COUNT", "100000")),
        "RANDOMKEY": ([], ("RANDOMKEY",)),
        "KEYS": ([], ("KEYS", "*")),
        "end of a watching connection": ([("WATCH", "held")], ("QUIT",)),
    }


@pytest.mark.parametrize("name", list(waiting_commands()))
def test_a_held_slot_stops_nobody_else(start, backend, name):
    """While one command waits for a slot, the same worker serves others and is not busy."""
    server = start(backend=backend, threads=1)
    debugging.require(server, "SLOT-HOLD")
    waiter, other = connect(server), connect(server)
    assert other.pipeline([("SET", "held", "1"), ("SET", "other", "1")]) == ["OK", "OK"]
    before, command = waiting_commands()[name]
    for one in before:
        waiter.call(*one)
    begin = time.monotonic()
    assert other.call("DEBUG", "SLOT-HOLD", "held", LONG_HOLD_MS) == "OK"
    cpu_before = server.cpu_seconds()
    waiter.send_command(*command)
    for _ in range(20):
        assert other.call("PING") == "PONG"
        assert other.call("SET", "other", "2") == "OK"
        time.sleep(0.01)
    time.sleep(0.3)
    cpu = server.cpu_seconds() - cpu_before
    waited = time.monotonic() - begin
    assert waited < LONG_HOLD_MS / 1000, f"the worker answered only when the slot was free, after {waited:.1f} s"
    assert cpu < 0.25 * harness.SLOWNESS, f"{cpu:.2f} s of CPU in {waited:.1f} s of waiting"
    waiter.read()
    served(server)


def test_eviction_beside_a_held_slot(start, backend):
    """Eviction goes round a slot that somebody holds."""
    server = start({"maxmemory-policy": "allkeys-lru"}, backend=backend, threads=1)
    debugging.require(server, "SLOT-HOLD")
    writer, other = connect(server), connect(server)
    writer.pipeline([("SET", f"k{number}", "x" * 1000) for number in range(1000)])
    used = int(server.info("memory")["used_memory"])
    assert other.call("DEBUG", "SLOT-HOLD", "k0", LONG_HOLD_MS) == "OK"
    assert other.call("CONFIG", "SET", "maxmemory", used - 200_000) == "OK"
    begin = time.monotonic()
    for number in range(1, 100):
        writer.call("SET", f"new{number}", "y" * 1000)
        assert other.call("PING") == "PONG"
    assert time.monotonic() - begin < LONG_HOLD_MS / 1000
    served(server)


@pytest.mark.parametrize("end", ["UNWATCH", "DISCARD", "RESET", "EXEC x", "close", "QUIT"])
def test_watches_end_although_their_slot_is_not_served(server, end):
    """Data of such a slot waits; who only leaves it does not."""
    debugging.require(server, "SLOT-SERVING")
    client, other = connect(server), connect(server)
    number = debugging.client_id(client)
    assert client.call("WATCH", "k") == "OK"
    assert server.call("DEBUG", "SLOT-SERVING", "k", "0") == "OK"
    try:
        other.send_command("GET", "k")
        if end == "DISCARD":
            assert client.call("MULTI") == "OK"
        if end == "close":
            client.close()
        elif end == "EXEC x":
            assert isinstance(client.call("EXEC", "x"), ReplyError)
        else:
            client.call(end)
        if end in ("close", "QUIT"):
            wait_until(lambda: number not in debugging.client_ids(server), what="the client to be gone")
        else:
            assert client.call("PING") == "PONG"
    finally:
        assert server.call("DEBUG", "SLOT-SERVING", "k", "1") == "OK"
    assert other.read() is None


@pytest.mark.parametrize("command", [("SORT", "list", "STORE", "k"), ("EXEC",)])
def test_what_stops_everything_waits_for_slots_that_serve_nobody(server, command):
    """A key of such a slot may be on its way to another server: nobody may put another one in its place meanwhile."""
    debugging.require(server, "SLOT-SERVING")
    client, other = connect(server), connect(server)
    other.call("RPUSH", "list", "2", "1")
    other.call("SET", "k", "v")
    if command == ("EXEC",):
        assert client.call("MULTI") == "OK"
        assert client.call("SORT", "list", "STORE", "k") == "QUEUED"
    assert server.call("DEBUG", "SLOT-SERVING", "k", "0") == "OK"
    try:
        client.send_command(*command)
        for _ in range(20):
            assert other.call("LLEN", "list") == 2
            assert other.call("DBSIZE") == 2
        assert not select.select([client.socket], [], [], 0)[0]
    finally:
        assert server.call("DEBUG", "SLOT-SERVING", "k", "1") == "OK"
    assert not isinstance(client.read(), ReplyError)
