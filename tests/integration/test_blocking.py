"""Commands that block until a key appears: who is served, in which order, by what, and everything else that ends a wait."""

import os
import random
import select
import time

import pytest

import clustering
import harness
import replication
from resp import ReplyError

SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
FAR = [key.encode() for key in harness.keys_in_distinct_slots(12, "far:")]


def blocked(server):
    return int(server.info("clients")["blocked_clients"])


def wait_blocked(server, count):
    harness.wait_until(lambda: blocked(server) == count, what=f"{count} blocked clients")


class Waiters:
    """Clients of a server that block one after the other."""

    def __init__(self, server):
        self.server = server
        self.all = []

    def add(self, *command, **options):
        client = self.server.raw(**options)
        client.id = client.call("CLIENT", "ID")
        before = blocked(self.server)
        client.send_command(*command)
        wait_blocked(self.server, before + 1)
        self.all.append(client)
        return client


@pytest.fixture
def waiters(threaded_server):
    return Waiters(threaded_server)


# --- what is served, and in which form ------------------------------------------------------------------------


def test_every_command_is_served(waiters):
    client = waiters.server.raw()
    cases = [(("BLPOP", "k", "0"), ("RPUSH", "k", "a", "b"), [b"k", b"a"], [b"b"]),
             (("BRPOP", "k", "0"), ("RPUSH", "k", "a", "b"), [b"k", b"b"], [b"a"]),
             (("BLMPOP", "0", "2", "none", "k", "LEFT", "COUNT", "2"), ("RPUSH", "k", "a", "b", "c"), [b"k", [b"a", b"b"]], [b"c"]),
             (("BLMPOP", "0", "1", "k", "RIGHT"), ("LPUSH", "k", "a", "b"), [b"k", [b"a"]], [b"b"]),
             (("BLMOVE", "k", "t", "LEFT", "LEFT", "0"), ("RPUSH", "k", "a", "b"), b"a", [b"b"]),
             (("BLMOVE", "k", "t", "RIGHT", "RIGHT", "0"), ("RPUSH", "k", "a", "b"), b"b", [b"a"]),
             (("BRPOPLPUSH", "k", "t", "0"), ("RPUSH", "k", "a", "b"), b"b", [b"a"]),
             (("BLMOVE", "k", "k", "LEFT", "RIGHT", "0"), ("RPUSH", "k", "a", "b"), b"a", [b"b", b"a"])]
    for command, push, reply, rest in cases:
        waiter = waiters.add(*command)
        assert client.call(*push) == len(push) - 2
        assert waiter.read() == reply, command
        assert client.call("LRANGE", "k", "0", "-1") == rest, command
        client.call("DEL", "k")
    assert client.call("LRANGE", "t", "0", "-1") == [b"b", b"a", b"b"]


def test_sorted_sets_are_served(waiters):
    client = waiters.server.raw()
    cases = [(("BZPOPMIN", "k", "0"), [b"k", b"a", b"1"], [b"b", b"2"]), (("BZPOPMAX", "no", "k", "0"), [b"k", b"b", b"2"], [b"a", b"1"]),
             (("BZMPOP", "0", "2", "no", "k", "MIN"), [b"k", [[b"a", b"1"]]], [b"b", b"2"]),
             (("BZMPOP", "0", "1", "k", "MAX", "COUNT", "9"), [b"k", [[b"b", b"2"], [b"a", b"1"]]], [])]
    for command, reply, rest in cases:
        waiter = waiters.add(*command)
        assert client.call("ZADD", "k", "1", "a", "2", "b") == 2
        assert waiter.read() == reply, command
        assert client.call("ZRANGE", "k", "0", "-1", "WITHSCORES") == rest, command
        client.call("DEL", "k")


def test_waiters_of_two_types(waiters):
    """Each gets the type that it waits for; the others keep their places."""
    client = waiters.server.raw()
    order = [waiters.add(name, "k", "0") for name in ("BLPOP", "BZPOPMIN", "BLPOP", "BZPOPMIN")]
    client.call("ZADD", "k", "1", "a")
    assert order[1].read() == [b"k", b"a", b"1"]
    client.call("RPUSH", "k", "x")
    assert order[0].read() == [b"k", b"x"]
    client.pipeline([("MULTI",), ("RPUSH", "k", "y"), ("DEL", "k"), ("ZADD", "k", "2", "b", "3", "c"), ("EXEC",)])
    assert order[3].read() == [b"k", b"b", b"2"]
    client.pipeline([("DEL", "k"), ("ZADD", "z", "1", "m"), ("ZUNIONSTORE", "k", "1", "z"), ("DEL", "k"), ("RPUSH", "k", "z")])
    assert order[2].read() == [b"k", b"z"]
    for command in (("ZUNIONSTORE", "k", "1", "z"), ("ZRANGESTORE", "k", "z", "0", "-1"), ("RENAME", "z", "k")):
        waiter = waiters.add("BZPOPMAX", "k", "0")
        assert not isinstance(client.call(*command), ReplyError), command
        assert waiter.read() == [b"k", b"m", b"1"], command


def test_nothing_blocks_where_something_is(server, oracle):
    """Replies and errors of every form, without and within EXEC; then the same when time is over, in both protocols."""
    commands = [("RPUSH", "k", "1", "2", "3", "4", "5"), ("SET", "s", "x"), ("BLPOP", "none", "k", "0"), ("BRPOP", "k", "none", "0"),
                ("BLMPOP", "0", "2", "none", "k", "LEFT"), ("BLMOVE", "k", "t", "LEFT", "RIGHT", "0"), ("BRPOPLPUSH", "k", "t", "0"),
                ("BLPOP", "s", "0"), ("BLPOP", "none", "s", "k", "0"), ("BLMOVE", "s", "t", "LEFT", "LEFT", "0"),
                ("BLMOVE", "t", "s", "LEFT", "LEFT", "0"), ("BLPOP", "k", "-1"), ("BLPOP", "k", "x"), ("BLPOP", "k", "nan"),
                ("BLPOP", "k", " 1"),
                ("BLPOP", "k"), ("BLMPOP", "0", "0", "k", "LEFT"), ("BLMPOP", "0", "1", "k", "MIDDLE"), ("BLMPOP", "-1", "1", "k", "LEFT"),
                ("BLMPOP", "0", "1", "k", "LEFT", "COUNT", "0"), ("BLMPOP", "x", "1", "k", "LEFT", "COUNT", "1"), ("BLMPOP", "0", "2", "k", "LEFT"),
                ("BLMOVE", "k", "t", "UP", "LEFT", "0"), ("BLMOVE", "k", "t", "LEFT", "UP", "x"), ("BLMOVE", "k", "t", "LEFT", "LEFT", "x"),
                ("BRPOPLPUSH", "k", "t", "-0.5"), ("ZADD", "z", "1", "a", "2.5", "b", "3", "c", "4", "d"), ("BZPOPMIN", "no", "z", "0"),
                ("BZPOPMAX", "z", "0"), ("BZMPOP", "0", "2", "no", "z", "MIN", "COUNT", "1"), ("BZPOPMIN", "s", "0"),
                ("BZMPOP", "0", "1", "s", "MAX"), ("BZMPOP", "0", "1", "z", "LEFT"), ("BZMPOP", "x", "1", "z", "MIN"),
                ("BZMPOP", "0", "0", "z", "MIN"), ("BZPOPMAX", "z", "-1"), ("BLPOP", "z", "0"), ("BZMPOP", "0", "1", "z", "MAX", "COUNT", "5")]
    nothing = [("BLPOP", "no", "no2", "0.001"), ("BRPOP", "no", "0.01"), ("BLMPOP", "0.01", "2", "no", "no2", "LEFT", "COUNT", "3"),
               ("BLMOVE", "no", "t", "LEFT", "LEFT", "0.01"), ("BRPOPLPUSH", "no", "t", "0.01"),
               ("BZPOPMIN", "no", "no2", "0.01"), ("BZPOPMAX", "no", "0.01"), ("BZMPOP", "0.01", "1", "no", "MIN")]
    for protocol in (2, 3):
        pair = [one.raw(protocol=protocol) for one in (server, oracle)]
        for one in pair:
            one.call("FLUSHALL")
        for command in commands + nothing:
            replies = [one.call_raw(*command) for one in pair]
            assert replies[0] == replies[1], command
        for one in pair:
            one.pipeline([("MULTI",), *[command[:-1] + ("0",) if "MPOP" not in command[0] else command for command in nothing]])
        replies = [one.call_raw("EXEC") for one in pair]
        assert replies[0] == replies[1]


def test_times_out_of_range(server):
    client = server.raw()
    for time_ in ("1e400", "inf", "9223372036854775807", "0x7FFFFFFFFFFFFFFF"):
        assert str(client.call("BLPOP", "k", time_)) == "ERR timeout is out of range", time_


def test_first_come_first_served(waiters):
    client = waiters.server.raw()
    order = [waiters.add("BLPOP", "k", "0") for _ in range(12)]
    assert client.call("CLIENT", "UNBLOCK", order[2].id) == 1
    order[5].close()
    client.call("CLIENT", "KILL", "ID", order[7].id)
    wait_blocked(waiters.server, 9)
    left = [waiter for index, waiter in enumerate(order) if index not in (2, 5, 7)]
    assert client.call("RPUSH", "k", *range(4)) == 4
    client.pipeline([("MULTI",), ("RPUSH", "k", "4"), ("LPUSH", "other", "x"), ("RPUSH", "k", "5", "6", "7"), ("EXEC",)])
    client.pipeline([("RPUSH", "k", "8"), ("RPUSH", "k", "9")])
    assert [waiter.read() for waiter in left] == [[b"k", b"%d" % index] for index in range(9)]
    assert order[2].read() is None
    assert client.call("LRANGE", "k", "0", "-1") == [b"9"]


def test_first_of_the_ready_keys(waiters):
    """Of what one unit has made ready a waiter gets what its own command names first."""
    client = waiters.server.raw()
    waiter = waiters.add("BLPOP", FAR[0], FAR[1], "0")
    client.pipeline([("MULTI",), ("RPUSH", FAR[1], "second"), ("RPUSH", FAR[0], "first"), ("EXEC",)])
    assert waiter.read() == [FAR[0], b"first"]
    assert client.call("LRANGE", FAR[1], 0, -1) == [b"second"]
    assert client.call("DEL", FAR[1]) == 1
    waiter = waiters.add("BLPOP", FAR[0], FAR[1], FAR[0], "0")
    client.call("RPUSH", FAR[1], "x")
    assert waiter.read() == [FAR[1], b"x"]


def test_what_goes_again_wakes_nobody(waiters):
    client = waiters.server.raw()
    waiter = waiters.add("BLPOP", "k", "0")
    client.pipeline([("MULTI",), ("RPUSH", "k", "a"), ("DEL", "k"), ("EXEC",)])
    client.pipeline([("MULTI",), ("RPUSH", "k", "a"), ("DEL", "k"), ("SET", "k", "text"), ("EXEC",)])
    client.pipeline([("SETEX", "k", "100", "x"), ("DEL", "k"), ("SET", "k", "y"), ("FLUSHALL",)])
    assert blocked(waiters.server) == 1
    client.pipeline([("MULTI",), ("RPUSH", "k", "a"), ("DEL", "k"), ("RPUSH", "k", "b"), ("EXEC",)])
    assert waiter.read() == [b"k", b"b"]


def test_everything_that_makes_keys_appear(waiters):
    client = waiters.server.raw()
    client.call("RPUSH", "source", "v")
    dump = client.call("DUMP", "source")
    for command in (("RESTORE", "k", "0", dump), ("RENAME", "source", "k"), ("COPY", "source", "k"), ("LMOVE", "source", "k", "LEFT", "LEFT"),
                    ("RPOPLPUSH", "source", "k"), ("LPUSH", "k", "v")):
        client.call("DEL", "source")
        client.call("RPUSH", "source", "v")
        waiter = waiters.add("BLPOP", "k", "0")
        assert not isinstance(client.call(*command), ReplyError), command
        assert waiter.read() == [b"k", b"v"], command
        assert client.call("EXISTS", "k") == 0
    for command in (("MOVE", "k", "9"), ("COPY", "k", "k", "DB", "9"), ("SWAPDB", "0", "9")):
        client.call("RPUSH", "k", "v")
        waiter = waiters.server.raw()
        waiter.call("SELECT", "9")
        waiter.send_command("BLPOP", "k", "0")
        wait_blocked(waiters.server, 1)
        assert not isinstance(client.call(*command), ReplyError), command
        assert waiter.read() == [b"k", b"v"], command
        client.call("FLUSHALL")


# --- BLMOVE ---------------------------------------------------------------------------------------------------


def test_chain(waiters):
    """Through ten slots and out, in one step, whoever pushes."""
    client = waiters.server.raw()
    for source, target in zip(FAR, FAR[1:10]):
        waiters.add("BLMOVE", source, target, "LEFT", "RIGHT", "0")
    last = waiters.add("BLPOP", FAR[9], "0")
    assert client.call("RPUSH", FAR[0], "v") == 1
    for waiter in waiters.all[:-1]:
        assert waiter.read() == b"v"
    assert last.read() == [FAR[9], b"v"]
    assert client.call("DBSIZE") == 0


def test_cycle(waiters):
    client = waiters.server.raw()
    for source, target in zip(FAR[:4], FAR[1:4] + FAR[:1]):
        waiters.add("BLMOVE", source, target, "LEFT", "RIGHT", "0")
    client.pipeline([("MULTI",), ("RPUSH", FAR[2], "v"), ("EXEC",)])
    for waiter in waiters.all:
        assert waiter.read() == b"v"
    assert client.call("LRANGE", FAR[2], 0, -1) == [b"v"]


def test_target_of_another_type(waiters):
    """Who cannot be served gets the error, and the next one the element."""
    client = waiters.server.raw()
    client.call("SET", "text", "x")
    first, second = waiters.add("BLMOVE", "k", "text", "LEFT", "LEFT", "0"), waiters.add("BLPOP", "k", "0")
    client.call("RPUSH", "k", "v")
    assert str(first.read()).startswith("WRONGTYPE")
    assert second.read() == [b"k", b"v"]


# --- ends -----------------------------------------------------------------------------------------------------


def test_unblock(waiters):
    client = waiters.server.raw()
    first, second, third = (waiters.add("BLPOP", "k", "k2", time) for time in ("0", "0", "1000"))
    assert client.call("CLIENT", "UNBLOCK", first.id, "ERROR") == 1
    assert str(first.read()) == "UNBLOCKED client unblocked via CLIENT UNBLOCK"
    assert client.call("CLIENT", "UNBLOCK", second.id, "timeout") == 1
    assert second.read() is None
    assert client.call("CLIENT", "UNBLOCK", second.id) == 0
    assert client.call("CLIENT", "UNBLOCK", 999999) == 0
    assert client.call("CLIENT", "UNBLOCK", client.call("CLIENT", "ID")) == 0
    assert b"flags=b" in client.call("CLIENT", "LIST", "ID", third.id)
    info = waiters.server.info("clients")
    assert (info["blocked_clients"], info["clients_in_timeout_table"]) == ("1", "1")
    third.close()
    wait_blocked(waiters.server, 0)
    assert client.call("RPUSH", "k", "v") == 1
    assert client.call("LLEN", "k") == 1, "the element stays for who is there"


def test_unblock_ends_wait(server):
    """WAIT too is a command that CLIENT UNBLOCK ends."""
    waiters, client = Waiters(server), server.raw()
    client.call("SET", "k", "v")
    first, second = waiters.add("WAIT", "1", "0"), waiters.add("WAIT", "1", "0")
    assert client.call("CLIENT", "UNBLOCK", first.id) == 1
    assert first.read() == 0
    assert client.call("CLIENT", "UNBLOCK", second.id, "ERROR") == 1
    assert str(second.read()) == "UNBLOCKED client unblocked via CLIENT UNBLOCK"


def test_times(waiters):
    """Waits of many lengths end in the order of their ends, none of them early."""
    clients = []
    generator = random.Random(SEED)
    for number in range(40):
        client = waiters.server.raw()
        client.ms = generator.randrange(20, 400)
        client.began = time.monotonic()
        client.send_command("BLPOP", f"k{number % 5}", f"{client.ms / 1000}")
        clients.append(client)
    for client in sorted(clients, key=lambda one: one.ms):
        assert client.read() is None
        assert time.monotonic() - client.began > client.ms / 1000 - 0.001


def test_commands_behind_one_that_blocks(waiters):
    client, waiter = waiters.server.raw(), waiters.server.raw()
    for command in (("BLPOP", "k", "0"), ("ECHO", "x"), ("BLPOP", "k", "0"), ("ECHO", "y")):
        waiter.send_command(*command)
    wait_blocked(waiters.server, 1)
    client.call("RPUSH", "k", "1")
    assert [waiter.read(), waiter.read()] == [[b"k", b"1"], b"x"]
    wait_blocked(waiters.server, 1)
    client.call("RPUSH", "k", "2")
    assert [waiter.read(), waiter.read()] == [[b"k", b"2"], b"y"]


def test_statistics(server):
    waiters, client = Waiters(server), server.raw()
    client.call("CONFIG", "RESETSTAT")
    waiter = waiters.add("BLPOP", "k", "0")
    client.call("RPUSH", "k", "v")
    waiter.read()
    statistics = server.info("commandstats")
    assert "calls=1," in statistics["cmdstat_blpop"] and "cmdstat_lpop" not in statistics


def test_watch(waiters):
    """Who is served changes the key for those who watch it."""
    client, watcher = waiters.server.raw(), waiters.server.raw()
    waiter = waiters.add("BRPOPLPUSH", "k", "t", "0")
    watcher.pipeline([("WATCH", "t"), ("MULTI",), ("PING",)])
    client.call("RPUSH", "k", "v")
    assert waiter.read() == b"v"
    assert watcher.call("EXEC") is None


# --- replication ----------------------------------------------------------------------------------------------


@pytest.mark.slotwise
def test_propagation(start):
    """A stock replica gets the push and behind it the pop that it really was."""
    primary = start({"repl-diskless-sync-delay": "0"}, threads=2)
    replica = start(binary=harness.ORACLE, backend=None)
    replication.follow(replica, primary.port)
    replication.wait_link_up(replica)
    monitor = replica.raw()
    assert monitor.call("MONITOR") == "OK"
    waiters, client = Waiters(primary), primary.raw()
    for command in (("BLPOP", "k", "0"), ("BRPOP", "k", "0"), ("BLMPOP", "0", "1", "k", "LEFT", "COUNT", "5"),
                    ("BLMOVE", "k", "{k}t", "LEFT", "RIGHT", "0"), ("BRPOPLPUSH", "k", "{k}t", "0")):
        waiter = waiters.add(*command)
        client.call("RPUSH", "k", "v")
        waiter.read()
    client.call("RPUSH", "k", "v")
    client.call("BLPOP", "k", "0")
    client.call("SET", "end", "1")
    seen = []
    while not seen or b'"end"' not in seen[-1]:
        line = monitor.read_raw()
        if b'"PING"' not in line.upper() and b'"SELECT"' not in line.upper():
            seen.append(line.split(b"] ", 1)[1].strip().lower())
    assert seen[:-1] == [b'"rpush" "k" "v"', b'"lpop" "k"', b'"rpush" "k" "v"', b'"rpop" "k"', b'"rpush" "k" "v"', b'"lpop" "k" "1"',
                         b'"rpush" "k" "v"', b'"lmove" "k" "{k}t" "left" "right"', b'"rpush" "k" "v"', b'"rpoplpush" "k" "{k}t"',
                         b'"rpush" "k" "v"', b'"lpop" "k"']


@pytest.mark.slotwise
def test_role_change(start):
    server, other = start(threads=2), start()
    waiters = Waiters(server)
    for _ in range(3):
        waiters.add("BLPOP", FAR[0], FAR[1], "0")
    assert server.call("REPLICAOF", "127.0.0.1", other.port) == "OK"
    for waiter in waiters.all:
        assert str(waiter.read()).startswith("UNBLOCKED force unblock from blocking operation, instance state changed")
        with pytest.raises(ConnectionResetError):
            waiter.read()
    assert blocked(server) == 0
    client = server.raw()
    assert str(client.call("BLPOP", "k", "0")).startswith("READONLY")


@pytest.mark.slotwise
def test_slot_of_another_node(start):
    nodes = [clustering.start_node(start) for _ in range(2)]
    clustering.join(nodes, [(0, 8191), (8192, 16383)])
    key = next(key for key in FAR if harness.slot_of(key) < 8192)
    waiters = Waiters(nodes[0])
    waiter = waiters.add("BLPOP", key, "0")
    slot = harness.slot_of(key)
    for node in nodes:
        node.call("CLUSTER", "SETSLOT", slot, "NODE", clustering.node_id(nodes[1]))
    assert str(waiter.read()) == f"MOVED {slot} 127.0.0.1:{nodes[1].port}"


# --- exactly once ---------------------------------------------------------------------------------------------


class Consumer:
    def __init__(self, server):
        self.server = server
        self.connect()

    def connect(self):
        self.client = self.server.raw()
        self.id = self.client.call("CLIENT", "ID")

    def fileno(self):
        return self.client.socket.fileno()

    def block(self, generator):
        wait = generator.choice(["0", "0.001", "0.005", "0.02", "0.05"])
        keys = generator.sample(FAR[:6], generator.randrange(1, 4))
        kind = generator.random()
        self.moves = kind > 0.7
        if kind < 0.25:
            self.client.send_command("BLPOP", *keys, wait)
        elif kind < 0.5:
            self.client.send_command("BRPOP", *keys, wait)
        elif kind < 0.7:
            self.client.send_command("BLMPOP", wait, len(keys), *keys, generator.choice(["LEFT", "RIGHT"]), "COUNT", generator.randrange(1, 4))
        else:
            self.client.send_command("BLMOVE", keys[0], generator.choice(FAR[:6]), "LEFT", "RIGHT", wait)

    def received(self):
        """What has been taken out by the reply that is there."""
        reply = self.client.read()
        if reply is None or isinstance(reply, ReplyError) or self.moves:
            return []
        return reply[1] if isinstance(reply[1], list) else [reply[1]]


def push_some(generator, pusher, number):
    """Unique elements, in single pushes, pipelines and transactions; returns the next number."""
    commands = []
    for _ in range(generator.choice([1, 1, 2, 5])):
        count = generator.choice([1, 1, 2, 4])
        commands.append((generator.choice(["LPUSH", "RPUSH"]), generator.choice(FAR[:6]), *range(number, number + count)))
        number += count
    if generator.random() < 0.4:
        commands = [("MULTI",), *commands, ("EXEC",)]
    for reply in pusher.pipeline(commands):
        assert not isinstance(reply, ReplyError), reply
    return number


@pytest.mark.parametrize("kills", [False, True])
def test_exactly_once(start, backend, kills):
    """Two hundred clients, of whom some are unblocked, and killed, take what three others push."""
    server = start(backend=backend, threads=4)
    generator = random.Random(SEED)
    consumers = [Consumer(server) for _ in range(harness.scaled(200))]
    pushers = [server.raw() for _ in range(3)]
    seen, number, ended, steps = [], 0, 0, harness.scaled(800)
    for consumer in consumers:
        consumer.block(generator)
    for step in range(steps):
        number = push_some(generator, generator.choice(pushers), number)
        kind = generator.random()
        victim = generator.choice(consumers)
        if kind < 0.1:
            pushers[0].call("CLIENT", "UNBLOCK", victim.id, generator.choice(["TIMEOUT", "ERROR"]))
        elif kind < 0.2 and kills:
            ended += 1
            if kind < 0.15:
                pushers[0].call("CLIENT", "KILL", "ID", victim.id)
            victim.client.close()
            victim.connect()
            victim.block(generator)
        for consumer in select.select(consumers, [], [], 0)[0]:
            seen += consumer.received()
            consumer.block(generator)
    harness.wait_until(lambda: all(pushers[0].call("EXISTS", key) == 0 for key in FAR[:6]) or not select.select(consumers, [], [], 0)[0],
                       what="everything being taken")
    for consumer in consumers:
        pushers[0].call("CLIENT", "UNBLOCK", consumer.id)
    for consumer in consumers:
        seen += consumer.received()
    for key in FAR[:6]:
        seen += pushers[0].call("LRANGE", key, 0, -1)
    assert len(seen) == len(set(seen)), "an element was given out twice"
    assert {int(value) for value in seen} <= set(range(number))
    assert number - len(seen) <= 3 * ended, "elements were lost otherwise than with a client that had been served"
    assert blocked(server) == 0


def test_keys_that_are_waited_for_are_counted(start):
    server = start()
    with server.raw() as one, server.raw() as two, server.raw() as other:
        one.send_command("BLPOP", "a", "b", "a", "0")
        two.send_command("BZPOPMIN", "a", "c", "0")
        wait_blocked(server, 2)
        assert server.info("clients")["total_blocking_keys"] == "3"
        assert other.call("RPUSH", "b", "v") == 1
        assert one.read() == [b"b", b"v"]
        assert server.info("clients")["total_blocking_keys"] == "2"
    wait_blocked(server, 0)
    harness.wait_until(lambda: server.info("clients")["total_blocking_keys"] == "0", what="no keys to be left")


def test_a_killed_client_is_served_nothing_any_more(start, backend):
    """CLIENT KILL has replied: what is pushed now, in the same batch, is for others."""
    server = start(backend=backend)
    with server.raw() as waiter, server.raw() as other:
        number = waiter.call("CLIENT", "ID")
        waiter.send_command("BLPOP", "k", "0")
        wait_blocked(server, 1)
        assert other.pipeline([("CLIENT", "KILL", "ID", number), ("RPUSH", "k", "v"), ("LLEN", "k")]) == [1, 1, 1]
        assert other.call("LRANGE", "k", 0, -1) == [b"v"]


def test_keys_that_are_over_in_a_moment(start):
    """A key may be alive when a waiter is chosen and over when it is served: it gets what there was, or goes on waiting."""
    server = start()
    with server.raw() as waiter, server.raw() as other:
        other.call("RPUSH", "source", "v")
        payload = other.call("DUMP", "source")
        for _ in range(200):
            waiter.send_command("BLPOP", "k", "0")
            wait_blocked(server, 1)
            other.pipeline([("RESTORE", "k", 1, payload, "REPLACE"), ("RPUSH", "k", "v")])
            assert waiter.read() == [b"k", b"v"]
            other.call("DEL", "k")


def test_who_waits_costs_nothing(start, backend):
    """Workers do not turn for clients that are blocked, for ever or for a time that is far away."""
    server = start(backend=backend, threads=2)
    clients = [server.raw() for _ in range(300)]

    def turns():
        begin = int(server.info("stats")["eventloop_cycles"])
        time.sleep(1)
        return int(server.info("stats")["eventloop_cycles"]) - begin

    before = turns()
    for number, client in enumerate(clients):
        client.send_command("BLPOP", f"k{number % 50}", "all", "0" if number % 2 else "1000")
    wait_blocked(server, len(clients))
    assert turns() < 2 * before + 50
