"""maxmemory: the error when nothing may go, and each policy's choice of what goes."""

import time

import pytest

import harness
from harness import wait_until
from load import connect, deadline_after, encode_all, run_clients
from resp import ReplyError

OOM = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
POLICIES = ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random",
            "volatile-ttl"]
MEGABYTE = 1 << 20


def used(server):
    return int(server.info("memory")["used_memory"])


def evicted(server):
    return int(server.info("stats")["evicted_keys"])


def limit(server, policy, room):
    """Set a policy, and a limit that leaves so many bytes of room."""
    client = server.raw()
    maximum = used(server) + room
    assert client.call("CONFIG", "SET", "maxmemory-policy", policy, "maxmemory", maximum) == "OK"
    return client, maximum


def write_keys(client, prefix, count, size, *options):
    """SET so many keys in pipelines; return the replies."""
    replies = []
    value = "x" * size
    for at in range(0, count, 200):
        replies += client.pipeline([("SET", f"{prefix}{number}", value, *options)
                                    for number in range(at, min(at + 200, count))])
    return replies


def alive(client, prefix, count):
    """How many of these keys are still there."""
    total = 0
    for at in range(0, count, 1000):
        total += client.call("EXISTS", *[f"{prefix}{number}" for number in range(at, min(at + 1000, count))])
    return total


def exceed(server, client, empty):
    """Set the limit far below what is used (which may count what is about to be freed): nothing can be written.

    `empty` is what the server used without data.
    """
    assert client.call("CONFIG", "SET", "maxmemory", empty + (used(server) - empty) // 4) == "OK"


def evicted_and_left(server, client):
    """(evicted keys, keys) at one moment: reading itself may evict."""
    while True:
        before, left, after = evicted(server), client.call("DBSIZE"), evicted(server)
        if before == after:
            return after, left


@pytest.mark.smoke
def test_noeviction(any_server):
    server = any_server
    empty = used(server)
    client, maximum = limit(server, "noeviction", 5 * MEGABYTE)
    replies = write_keys(client, "k", 8000, 1000)
    accepted = [number for number, reply in enumerate(replies) if reply == "OK"]
    assert set(map(str, replies)) == {"OK", str(OOM)} and len(accepted) > 2000
    assert evicted(server) == 0
    assert used(server) < maximum + MEGABYTE
    exceed(server, client, empty)
    # Nothing that was accepted is lost, and what needs no memory works.
    assert all(value == b"x" * 1000 for value in client.call("MGET", *[f"k{number}" for number in accepted]))
    for command in (("SET", "a", "1"), ("INCR", "n"), ("APPEND", "k0", "x"), ("MSET", "a", "1"), ("GETSET", "k0", "v"),
                    ("SETRANGE", "k0", "5", "x"), ("COPY", "k0", "k1", "REPLACE"), ("SETEX", "a", "10", "v")):
        assert client.call(*command) == OOM, command
    assert client.call("GET", "k0") == b"x" * 1000
    assert client.call("EXPIRE", "k0", "1000") == 1 and client.call("PERSIST", "k0") == 1
    assert client.call("RENAME", "k0", "renamed") == "OK"
    assert client.call("GETDEL", "renamed") == b"x" * 1000
    assert client.call("CONFIG", "SET", "maxmemory", "0") == "OK"
    assert client.call("SET", "a", "1") == "OK"


@pytest.mark.smoke
def test_deleting_makes_room(any_server):
    server = any_server
    client = server.raw()
    empty = used(server)
    write_keys(client, "k", 8000, 1000)
    exceed(server, client, empty)
    assert client.call("SET", "a", "1") == OOM
    client.call("DEL", *[f"k{number}" for number in range(7500)])
    wait_until(lambda: client.call("SET", "a", "1") == "OK", what="room after DEL")
    assert client.call("CONFIG", "SET", "maxmemory", "0") == "OK"
    write_keys(client, "k", 8000, 1000)
    exceed(server, client, empty)
    assert client.call("SET", "a", "1") == OOM
    assert client.call("FLUSHALL") == "OK"
    wait_until(lambda: client.call("SET", "a", "1") == "OK", what="room after FLUSHALL")


@pytest.mark.smoke
def test_oom_and_transactions(any_server):
    server = any_server
    client = server.raw()
    empty = used(server)
    client.call("SET", "k0", "v")
    write_keys(client, "big", 4000, 1000)
    exceed(server, client, empty)
    assert client.call("SET", "a", "1") == OOM
    # While queueing, Redis refuses even what would only read: the queue itself takes memory.
    aborted = ReplyError("EXECABORT Transaction discarded because of previous errors.")
    assert client.pipeline([("MULTI",), ("GET", "k0"), ("EXEC",)]) == ["OK", OOM, aborted]
    assert client.pipeline([("MULTI",), ("SET", "a", "1"), ("EXEC",)]) == [
        "OK", OOM, aborted]
    assert client.pipeline([("MULTI",), ("DISCARD",), ("GET", "k0")]) == ["OK", "OK", b"v"]
    assert client.call("EXISTS", "a") == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_policy_keeps_the_limit(any_server, policy):
    server = any_server
    client, maximum = limit(server, policy, 6 * MEGABYTE)
    options = ("EX", "10000") if policy.startswith("volatile") else ()
    count = 15_000
    replies = write_keys(client, "k", count, 1000, *options)
    assert set(replies) == {"OK"}
    gone, left = evicted_and_left(server, client)
    assert gone == count - left > 5000
    assert left > 2000
    assert used(server) < maximum + MEGABYTE
    assert left - 500 < alive(client, "k", count) <= left


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy.startswith("volatile")])
def test_volatile_policies_spare_the_rest(any_server, policy):
    server = any_server
    client, maximum = limit(server, policy, 8 * MEGABYTE)
    assert set(write_keys(client, "lasting", 3000, 1000)) == {"OK"}
    assert set(write_keys(client, "volatile", 10_000, 1000, "EX", "10000")) == {"OK"}
    assert alive(client, "lasting", 3000) == 3000
    assert 0 < alive(client, "volatile", 10_000) < 5000
    # Lasting keys push out all volatile ones, and then there is an error.
    replies = write_keys(client, "more", 10_000, 1000)
    assert replies[0] == "OK" and replies[-1] == OOM
    assert alive(client, "lasting", 3000) == 3000
    assert alive(client, "more", 10_000) == replies.count("OK")
    assert alive(client, "volatile", 10_000) < 20
    assert used(server) < maximum + MEGABYTE


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-lfu", "volatile-lfu"])
def test_used_keys_outlive_others(any_server, policy):
    """Keys that are read all the time survive keys that are not."""
    server = any_server
    client, _ = limit(server, policy, 8 * MEGABYTE)
    options = ("EX", "100000") if policy.startswith("volatile") else ()
    hot, cold = 500, 4000
    write_keys(client, "hot", hot, 1000, *options)
    write_keys(client, "cold", cold, 1000, *options)

    def use():
        for _ in range(3):
            client.pipeline([("GET", f"hot{number}") for number in range(hot)])

    end = time.monotonic() + 2.2  # the clock of LRU has seconds
    while time.monotonic() < end:
        use()
        time.sleep(0.1)
    for turn in range(8):
        write_keys(client, f"new{turn}:", 500, 1000, *options)
        use()
    assert evicted(server) > 500
    assert alive(client, "hot", hot) > hot * 0.9, (alive(client, "hot", hot), alive(client, "cold", cold))
    if policy.endswith("lru"):  # LFU may rather drop the newest, which were used less
        assert alive(client, "cold", cold) < cold * 0.8


def test_volatile_ttl_takes_the_nearest(any_server):
    server = any_server
    client, _ = limit(server, "volatile-ttl", 8 * MEGABYTE)
    for at in range(0, 2500, 100):
        client.pipeline([("SET", f"far{number}", "x" * 1000, "EX", 1_000_000 + number) for number in range(at, at + 100)]
                        + [("SET", f"near{number}", "x" * 1000, "EX", 5000 + number) for number in range(at, at + 100)])
    write_keys(client, "new", 4500, 1000, "EX", "500000")
    assert evicted(server) > 500
    assert alive(client, "far", 2500) > 2500 * 0.9
    assert alive(client, "near", 2500) < 2500 * 0.8


@pytest.mark.smoke
def test_lowering_the_limit_evicts(any_server):
    server = any_server
    client = server.raw()
    write_keys(client, "k", 20_000, 500)
    target = used(server) - 5 * MEGABYTE
    assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", target) == "OK"
    wait_until(lambda: used(server) < target + MEGABYTE // 2, what="eviction after CONFIG SET")
    assert evicted(server) > 3000


def test_large_values_evict_many(any_server):
    server = any_server
    client, maximum = limit(server, "allkeys-lru", 20 * MEGABYTE)
    write_keys(client, "small", 12_000, 1000)
    for turn in range(5):
        assert client.call("SET", f"large{turn}", "x" * (6 * MEGABYTE)) == "OK"
        assert client.call("GET", f"large{turn}") in (b"x" * (6 * MEGABYTE), None)
    wait_until(lambda: client.call("INCR", "n") > 0 and used(server) < maximum + MEGABYTE, what="the limit to hold")


def test_clocks(any_server):
    server = any_server
    client = server.raw()
    assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == "OK"
    client.call("SET", "k", "v")
    assert client.call("OBJECT", "FREQ", "k") in (4, 5)
    client.pipeline([("GET", "k")] * 3000)
    assert 20 < client.call("OBJECT", "FREQ", "k") < 120
    assert client.call("OBJECT", "IDLETIME", "k") == ReplyError(
        "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between "
        "policies at runtime LRU and LFU data will take some time to adjust.")
    assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == "OK"
    begin = time.monotonic()
    client.call("SET", "j", "v")
    time.sleep(2.1)
    assert 1 <= client.call("OBJECT", "IDLETIME", "j") <= time.monotonic() - begin + 1
    begin = time.monotonic()
    client.call("GET", "j")
    assert client.call("OBJECT", "IDLETIME", "j") <= time.monotonic() - begin + 1


def pressing_client(address, number, deadline):
    """A turn writes 130 KB."""
    connection, = connect(address, 1)
    count = 0
    while deadline.ahead():
        commands = []
        for _ in range(50):
            count += 1
            commands.append(("SET", f"{number}:{count}", "x" * (100 + count * 37 % 5000)))
        connection.send(encode_all(commands))
        for _ in commands:
            reply = connection.read()
            assert reply == "OK", reply


def test_pressure_from_many_clients(start, backend):
    server = start(backend=backend, threads=4)
    _, maximum = limit(server, "allkeys-lru", 20 * MEGABYTE)
    deadline = deadline_after(turns=100)

    def watch(address, until):
        connection, = connect(address, 1)
        top = 0
        while until.ahead():
            text = connection.call("INFO", "memory")
            top = max(top, int(text.split(b"used_memory:")[1].split()[0]))
            time.sleep(0.01)
        return top

    results = run_clients([(pressing_client, server.address(), number, deadline) for number in range(3)]
                          + [(watch, server.address(), deadline)])
    assert evicted(server) > 100
    assert results[-1] < maximum + 8 * MEGABYTE, results[-1] - maximum
