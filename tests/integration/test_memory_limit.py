"""maxmemory as a limit, eviction without traffic, and memory that goes back to the system."""

import time
from pathlib import Path

import pytest

import debugging
from harness import scaled, wait_until
from resp import ReplyError, encode_command

OOM = ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
MEGABYTE = 1 << 20
WHILE_LOOKING = 1 << 16  # what INFO itself takes when it looks


def info(server, section, field):
    return int(server.info(section)[field])


def used(server):
    return info(server, "memory", "used_memory")


def evicted(server):
    return info(server, "stats", "evicted_keys")


def thread_names(server):
    names = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        try:
            names.append((task / "comm").read_text().strip())
        except OSError:
            pass
    return names


def fill(client, prefix, count, size, *options):
    value = "x" * size
    for at in range(0, count, 500):
        replies = client.pipeline([("SET", f"{prefix}{number}", value, *options)
                                   for number in range(at, min(at + 500, count))])
        assert set(replies) == {"OK"}


def configure(client, *words):
    assert client.call("CONFIG", "SET", *words) == "OK"


@pytest.mark.smoke
@pytest.mark.parametrize("threads", [1, 2])
def test_large_values_stay_within_the_limit(start, backend, threads):
    server = start({"maxmemory-policy": "allkeys-lru", "maxmemory-eviction-tenacity": "100"},
                   backend=backend, threads=threads)
    client, size = server.raw(), 5 * MEGABYTE
    fill(client, "small", scaled(60_000), 100)
    limit = used(server) + 20 * MEGABYTE
    configure(client, "maxmemory", limit)
    # What arrives is in the input buffer before it is admitted, and one command may be over.
    for number in range(30):
        assert client.call("SET", f"large{number}", "B" * size) == "OK"
        assert used(server) <= limit + 2 * size
    wait_until(lambda: used(server) <= limit + WHILE_LOOKING, what="the limit to hold")
    assert evicted(server) > 20
    assert client.call("GET", "large29") in (b"B" * size, None)


def test_overwriting_large_values(start, backend):
    """What was replaced counts until it is free: overwriting waits instead of piling up."""
    server = start({"maxmemory-policy": "allkeys-lru", "maxmemory-eviction-tenacity": "100"}, backend=backend, threads=2)
    client, size = server.raw(), 4 * MEGABYTE
    limit = used(server) + 30 * MEGABYTE
    configure(client, "maxmemory", limit)
    for _ in range(5):
        assert client.pipeline([("SET", "k", "v" * size)] * 10) == ["OK"] * 10
        assert used(server) <= limit + 2 * size
    wait_until(lambda: used(server) < limit - 20 * MEGABYTE, what="what was replaced to be free")
    assert client.call("STRLEN", "k") == size and evicted(server) == 0


@pytest.mark.smoke
def test_eviction_goes_on_without_traffic(start, backend):
    server = start({"maxmemory-policy": "allkeys-random"}, backend=backend)
    client = server.raw()
    empty = used(server)
    fill(client, "k", 100_000, 100)
    limit = empty + (used(server) - empty) // 4
    configure(client, "maxmemory", limit)
    # INFO itself makes no room, and there are few of them.
    wait_until(lambda: used(server) <= limit + WHILE_LOOKING, interval=0.5, what="eviction after CONFIG SET")
    assert evicted(server) > 60_000
    assert info(server, "stats", "total_eviction_exceeded_time") > 0
    wait_until(lambda: info(server, "stats", "current_eviction_exceeded_time") == 0, what="the end of it")


def test_eviction_exceeded_time(start, backend):
    server = start(backend=backend)
    client = server.raw()
    fill(client, "k", 1000, 1000)
    assert info(server, "stats", "total_eviction_exceeded_time") == 0
    configure(client, "maxmemory", "100kb")
    assert client.call("SET", "a", "1") == OOM
    wait_until(lambda: info(server, "stats", "current_eviction_exceeded_time") > 20, what="the time to pass")
    configure(client, "maxmemory", "0")
    assert client.call("SET", "a", "1") == "OK"
    wait_until(lambda: info(server, "stats", "current_eviction_exceeded_time") == 0, what="the end of it")
    total = info(server, "stats", "total_eviction_exceeded_time")
    assert total > 20
    time.sleep(0.05)
    assert info(server, "stats", "total_eviction_exceeded_time") == total
    assert client.call("CONFIG", "RESETSTAT") == "OK"
    assert info(server, "stats", "total_eviction_exceeded_time") == 0


def test_a_pause_stops_eviction(start, backend):
    server = start({"maxmemory-policy": "allkeys-random"}, backend=backend)
    client = server.raw()
    fill(client, "k", 20_000, 100)
    assert client.call("CLIENT", "PAUSE", "100000", "WRITE") == "OK"
    limit = used(server) - MEGABYTE
    configure(client, "maxmemory", limit)
    turns = info(server, "stats", "eventloop_cycles")
    wait_until(lambda: info(server, "stats", "eventloop_cycles") > turns + 20, interval=0.05, what="timers to run")
    assert evicted(server) == 0 and client.call("DBSIZE") == 20_000
    assert client.call("CLIENT", "UNPAUSE") == "OK"
    wait_until(lambda: used(server) <= limit + WHILE_LOOKING, what="eviction after the pause")
    assert evicted(server) > 1000


def test_without_tenacity_nobody_waits(start, backend):
    server = start({"maxmemory-policy": "allkeys-random", "maxmemory-eviction-tenacity": "0"}, backend=backend)
    client = server.raw()
    empty = used(server)
    fill(client, "k", 100_000, 100)
    # In one go, so that eviction has no time in between.
    replies = client.pipeline([("CONFIG", "SET", "maxmemory", empty + 2 * MEGABYTE), ("SET", "a", "1")])
    assert replies == ["OK", OOM]
    wait_until(lambda: client.call("SET", "a", "1") == "OK", what="room")
    assert evicted(server) > 50_000


@pytest.mark.parametrize("how", ["DEL", "UNLINK", "FLUSHALL", "FLUSHALL ASYNC"])
def test_what_is_being_freed_is_waited_for(start, backend, how):
    server = start({"maxmemory-eviction-tenacity": "100"}, backend=backend, threads=2)
    client = server.raw()
    empty = used(server)
    fill(client, "k", 20_000, 1000)
    configure(client, "maxmemory", empty + (used(server) - empty) // 2)
    assert client.call("SET", "a", "1") == OOM
    if how.startswith("FLUSHALL"):
        freeing = [tuple(how.split())]
    else:
        freeing = [(how, *[f"k{number}" for number in range(at, at + 1000)]) for at in range(0, 18_000, 1000)]
    replies = client.pipeline(freeing + [("SET", "a", "1")])
    assert replies[-1] == "OK"


def test_what_is_lent_to_a_slow_reader_counts(start, backend):
    server = start(backend=backend)
    client, slow = server.raw(), server.raw()
    size = 40 * MEGABYTE
    empty = used(server)
    assert client.call("SET", "k", "v" * size) == "OK"
    slow.send(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
    wait_until(lambda: info(server, "stats", "keyspace_hits") == 1, what="the reply to be on its way")
    assert client.call("DEL", "k") == 1
    time.sleep(0.3)
    assert used(server) > empty + size
    slow.close()
    wait_until(lambda: used(server) < empty + 5 * MEGABYTE, what="the value to be free")


def needs_jemalloc(server):
    if server.info("memory")["mem_allocator"] != "jemalloc":
        pytest.skip("the allocator of this build keeps what it has")


@pytest.mark.parametrize("how", ["FLUSHALL", "DEL", "expiry"])
def test_memory_goes_back_to_the_system(start, backend, how):
    server = start(backend=backend, threads=2)
    needs_jemalloc(server)
    client = server.raw()
    options = ("PX", "1500") if how == "expiry" else ()
    fill(client, "k", 100_000, 1000, *options)
    if how == "DEL":
        for at in range(0, 100_000, 1000):
            client.call("DEL", *[f"k{number}" for number in range(at, at + 1000)])
    elif how == "FLUSHALL":
        assert client.call("FLUSHALL") == "OK"
    wait_until(lambda: client.call("DBSIZE") == 0, interval=0.1, what="the keys to be gone")
    wait_until(lambda: server.resident_bytes() < 1.3 * used(server) + 10 * MEGABYTE, interval=0.1,
               what="the memory to go back")


def test_jemalloc_bg_thread(start, backend):
    server = start(backend=backend)
    needs_jemalloc(server)
    client = server.raw()

    def running():
        return any("jemalloc" in name for name in thread_names(server))

    wait_until(running, what="the allocator's thread")
    configure(client, "jemalloc-bg-thread", "no")
    wait_until(lambda: not running(), what="its end")
    configure(client, "jemalloc-bg-thread", "yes")
    wait_until(running, what="the allocator's thread")


def test_a_pause_does_not_count_as_a_wait_for_room(start, backend):
    """A write that was held back for longer than maxmemory-eviction-tenacity gives still waits for its room."""
    server = start({"maxmemory-policy": "allkeys-lru"}, backend=backend, threads=2)  # half a second
    debugging.require(server, "SLOT-HOLD")
    client = server.raw()
    limit = used(server) + 5 * MEGABYTE
    for attempt in range(3):
        configure(client, "maxmemory", 0)
        assert client.call("SET", "large", "x" * (20 * MEGABYTE)) == "OK"
        client.send(b"".join(encode_command(*words) for words in (
            ("DEBUG", "SLOT-HOLD", "large", 900), ("CONFIG", "SET", "maxmemory", limit),
            ("CLIENT", "PAUSE", 800, "WRITE"), ("SET", "k", "v"))))
        replies = [client.read() for _ in range(4)]
        if replies == ["OK"] * 4:
            return
        wait_until(lambda: client.call("EXISTS", "large") == 0, what="the end of the hold")
    raise AssertionError(replies)
