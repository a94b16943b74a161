"""Keys whose time has come: never too early, gone when asked for, gone in time when not."""

import time

import pytest

import harness
from bystander import Bystander
from harness import at_some_pace, wait_until
from resp import encode_command


@pytest.mark.smoke
def test_not_too_early_and_not_late(client, shared):
    """Each read of a key agrees with the clock on this side of the connection.

    A server that has to wait for a processor may have looked at its clock before: that much later a key may still be seen.
    """
    for lifetime in (0.02, 0.05, 0.2):
        before = time.time()
        assert client.call("SET", "k", "v", "PX", int(lifetime * 1000)) == "OK"
        after = time.time()
        waited = shared.waited_for_processors()
        while True:
            asked = time.time()
            value = client.call("GET", "k")
            answered = time.time()
            if value is None:
                assert answered >= before + lifetime - 0.002, "expired too early"
                break
            late = asked - after - lifetime - (shared.waited_for_processors() - waited)
            assert late <= 0.005, f"still there {late * 1000:.1f} ms after its time"


@pytest.mark.smoke
def test_deadline_is_kept_to_the_millisecond(client):
    deadline = int(time.time() * 1000) + 100_000
    client.call("SET", "k", "v", "PXAT", deadline)
    assert client.call("PEXPIRETIME", "k") == deadline
    client.pipeline([("APPEND", "k", "w"), ("SETRANGE", "k", 0, "x"), ("GETEX", "k"), ("SET", "k", "1", "KEEPTTL"),
                     ("INCR", "k"), ("INCRBYFLOAT", "k", "1.5"), ("RENAME", "k", "j"), ("COPY", "j", "l")])
    assert client.call("PEXPIRETIME", "j") == deadline == client.call("PEXPIRETIME", "l")
    before = time.time() * 1000
    left = client.call("PTTL", "j")
    assert deadline - time.time() * 1000 - 10 <= left <= deadline - before + 10


@pytest.mark.smoke
def test_overwritten_keys_stay(client):
    def overwrite(scale):
        client.pipeline([("SET", f"k{number}", "v", "PX", 60 * scale) for number in range(6)])
        client.pipeline([("SET", "k0", "w"), ("PERSIST", "k1"), ("GETSET", "k2", "w"), ("MSET", "k3", "w"),
                         ("EXPIRE", "k4", 1000), ("GETEX", "k5", "PERSIST")])
        time.sleep(0.15 * scale)
        assert client.call("EXISTS", *[f"k{number}" for number in range(6)]) == 6

    at_some_pace(overwrite)


@pytest.mark.smoke
def test_only_lazy(any_server):
    server = any_server
    client = server.raw()
    assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"
    client.pipeline([("SET", f"k{number}", "v", "PX", 20) for number in range(100)])
    time.sleep(0.3)
    assert client.call("DBSIZE") == 100
    assert client.call("GET", "k0") is None
    assert client.call("DBSIZE") == 99
    assert client.call("EXISTS", *[f"k{number}" for number in range(50)]) == 0
    assert client.call("DBSIZE") == 50
    assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "1") == "OK"
    wait_until(lambda: client.call("DBSIZE") == 0, what="active expiry to go on")
    assert server.info("stats")["expired_keys"] == "100"


@pytest.mark.smoke
def test_keys_nobody_asks_for(threaded_server):
    """Active expiry, also while every client sleeps, in every database."""
    client = threaded_server.raw()
    for database in (0, 3, 15):
        client.call("SELECT", database)
        client.pipeline([("SET", f"k{number}", "v", "PX", 100) for number in range(300)] + [("SET", "stays", "v")])
    time.sleep(0.3)
    wait_until(lambda: threaded_server.info("stats")["expired_keys"] == "900", what="900 expired keys")
    found = threaded_server.info("keyspace")
    assert all(found[f"db{database}"].startswith("keys=1,expires=0") for database in (0, 3, 15)), found


@pytest.mark.slow_limit(120)
def test_many_keys_in_one_second(server):
    """A great many keys expire at one moment: nobody waits for it, and all are gone soon."""
    count = harness.scaled(200_000)
    client = server.raw()
    start = int(server.info("memory")["used_memory"])
    part = 5000
    templates = [b"".join(encode_command("SET", f"key:{number}", "value", "PXAT", "M" * 13)
                          for number in range(at, at + part)) for at in range(0, count - part + 1, part)]
    count = len(templates) * part

    def load(moment):
        for template in templates:
            client.send(template.replace(b"M" * 13, b"%d" % moment))
            received = 0
            while received < 5 * part:
                received += len(client.socket.recv(1 << 16))
            assert received == 5 * part

    # First far off, to see how long it takes here; then so that it is done in time.
    begin = time.time()
    load(int((begin + 100_000) * 1000))
    seconds = time.time() - begin
    moment = 0
    while moment <= time.time() * 1000:
        seconds *= 2
        moment = int((time.time() + 1 + seconds) * 1000)
        load(moment)
    assert client.call("DBSIZE") == count
    full = int(server.info("memory")["used_memory"])
    time.sleep(max(0, moment / 1000 - time.time() - 0.1))
    with Bystander(server, longest=0.5) as bystander:
        wait_until(lambda: int(client.call("DBSIZE")) <= 1, what="all keys to be gone", interval=0.1)
    print(f"{count} keys expired, the slowest command beside took {bystander.slowest * 1000:.1f} ms")
    assert server.info("stats")["expired_keys"] == str(count)
    wait_until(lambda: int(server.info("memory")["used_memory"]) - start < (full - start) / 5,
               what="the memory to be given back")


def test_expiry_beside_writes(server):
    """Short lives, read and written by others at the same time: a key with a deadline never outlives it."""
    writer, reader = server.raw(), server.raw()
    end = time.monotonic() + harness.LOAD_SECONDS
    turn = 0
    while time.monotonic() < end:
        turn += 1
        names = [f"{turn}:{number}" for number in range(100)]
        writer.pipeline([("SET", name, "v", "PX", 5 + number % 20) for number, name in enumerate(names)])
        seen = set(names)
        for _ in range(4):
            values = reader.call("MGET", *names)
            now = {name for name, value in zip(names, values) if value is not None}
            assert now <= seen, "a key came back after it had expired"
            seen = now
    wait_until(lambda: writer.call("DBSIZE") == 0, what="all keys to be gone")


@pytest.mark.smoke
def test_expired_keys_count_once(any_server):
    server = any_server
    client = server.raw()
    client.pipeline([("SET", f"k{number}", "v", "PX", 1 + number % 30) for number in range(2000)])
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        client.pipeline([("GET", f"k{number}") for number in range(0, 2000, 3)])
    wait_until(lambda: client.call("DBSIZE") == 0, what="all keys to be gone")
    assert server.info("stats")["expired_keys"] == "2000"


@pytest.mark.parametrize("tag", ["", "{tag}"], ids=["all-slots", "one-slot"])
def test_few_short_lives_among_many_long_ones(client, tag):
    """A walk over all keys with a TTL would come to the few that expire only after most of a minute."""
    many = harness.scaled(100_000)
    for at in range(0, many, 1000):
        client.pipeline([("SET", f"{tag}long:{number}", "v", "EX", 1_000_000) for number in range(at, at + 1000)])
    client.pipeline([("SET", f"{tag}short:{number}", "v", "PX", 500) for number in range(1000)])
    many = len(range(0, many, 1000)) * 1000
    wait_until(lambda: client.call("DBSIZE") == many, 20, "that the short-lived keys are gone")
