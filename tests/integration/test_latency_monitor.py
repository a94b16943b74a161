"""The latency monitor (LATENCY LATEST, HISTORY, GRAPH, DOCTOR, RESET), latency-tracking, and where memory goes."""

import time

import debugging
import harness
from harness import wait_until
from resp import ReplyError, encode_command

SMOKE = True

NAMES = {b"command", b"fast-command", b"expire-cycle", b"eviction-cycle"}


def test_slow_commands_are_events(server):
    client = server.raw()
    assert client.call("LATENCY", "LATEST") == []
    assert client.call("DEBUG", "SLEEP", "0.05") == "OK"
    assert client.call("LATENCY", "LATEST") == []
    assert client.call("CONFIG", "SET", "latency-monitor-threshold", "20") == "OK"
    before = int(time.time())
    for seconds in ("0.001", "0.03", "0.06"):
        assert client.call("DEBUG", "SLEEP", seconds) == "OK"
    after = int(time.time())
    latest = {event[0]: event[1:] for event in client.call("LATENCY", "LATEST")}
    assert set(latest) <= NAMES
    moment, last, worst = latest[b"command"]
    assert before <= moment <= after
    assert 60 <= worst and last <= worst
    history = client.call("LATENCY", "HISTORY", "command")
    assert 1 <= len(history) <= 2 and all(before <= at <= after and ms >= 30 for at, ms in history)
    assert [moment for moment, _ in history] == sorted(moment for moment, _ in history)
    assert client.call("LATENCY", "HISTORY", "COMMAND") == client.call("LATENCY", "HISTORY", "nothing") == []
    graph = client.call("LATENCY", "GRAPH", "command").decode()
    assert graph.startswith("command - high ") and f"(all time high {worst} ms)\n" + "-" * 80 + "\n" in graph
    assert client.call("LATENCY", "GRAPH", "nothing") == ReplyError("ERR No samples available for event 'nothing'")
    doctor = client.call("LATENCY", "DOCTOR").decode()
    assert "1. command: " in doctor or not harness.IS_SLOTWISE
    assert client.call("LATENCY", "RESET", "nothing", "command", "command") == 1
    assert client.call("LATENCY", "HISTORY", "command") == []
    assert client.call("DEBUG", "SLEEP", "0.03") == "OK"
    assert client.call("LATENCY", "RESET") >= 1
    assert client.call("LATENCY", "LATEST") == []


def test_the_monitor_can_be_set_at_start_and_off(start):
    server = start({"latency-monitor-threshold": "10"})
    client = server.raw()
    assert client.call("DEBUG", "SLEEP", "0.02") == "OK"
    assert [event[0] for event in client.call("LATENCY", "LATEST") if event[0] == b"command"] == [b"command"]
    assert client.call("CONFIG", "SET", "latency-monitor-threshold", "0") == "OK"
    assert client.call("LATENCY", "RESET") >= 1
    assert client.call("DEBUG", "SLEEP", "0.02") == "OK"
    assert client.call("LATENCY", "LATEST") == []


def test_fast_commands_are_events_of_their_own(start):
    """A command that is flagged fast counts as one, however long it takes."""
    server = start({"latency-monitor-threshold": "1"})
    client = server.raw()
    assert client.call("SET", "k", "x" * (64 << 20)) == "OK"

    def seen():
        assert client.call("APPEND", "k", "x" * (8 << 20)) > 0
        return client.call("LATENCY", "HISTORY", "fast-command")

    wait_until(seen, what="a fast command of more than a millisecond")


def test_a_wait_for_room_is_an_eviction_cycle(start, backend):
    """The only key that may go is held, so that a write waits for its room as long as that."""
    server = start({"maxmemory-policy": "allkeys-lru", "maxmemory-eviction-tenacity": "100",
                    "latency-monitor-threshold": "20"}, backend=backend, threads=2)
    debugging.require(server, "SLOT-HOLD")
    client, hold_ms = server.raw(), 500
    limit = int(server.info("memory")["used_memory"]) + (5 << 20)
    assert client.call("SET", "large", "x" * (20 << 20)) == "OK"
    client.send(encode_command("DEBUG", "SLOT-HOLD", "large", hold_ms) + encode_command("CONFIG", "SET", "maxmemory", limit)
                + encode_command("LATENCY", "RESET"))
    began = [client.read() for _ in range(3)]
    before = time.monotonic()
    assert began[:2] == ["OK", "OK"] and client.call("SET", "k", "v") == "OK"
    waited_ms = (time.monotonic() - before) * 1000
    assert client.call("EXISTS", "large") == 0
    worst = max(ms for _, ms in client.call("LATENCY", "HISTORY", "eviction-cycle"))
    assert waited_ms / 2 < worst <= waited_ms + 1
    assert client.call("CONFIG", "SET", "maxmemory", 0) == client.call("SET", "k", "v") == "OK"
    assert client.call("LATENCY", "RESET", "eviction-cycle") == 1
    assert client.call("LATENCY", "HISTORY", "eviction-cycle") == []


def test_every_worker_is_watched(start):
    server = start({"latency-monitor-threshold": "20"}, threads=2)
    for _ in range(4):
        client = server.raw()
        assert client.call("LATENCY", "RESET") >= 0
        assert client.call("DEBUG", "SLEEP", "0.03") == "OK"
        assert client.call("LATENCY", "HISTORY", "command") != []


def calls_of(client, name):
    reply = client.call("LATENCY", "HISTOGRAM", name)
    return dict(zip(*[iter(reply[1])] * 2))[b"calls"] if reply else 0


def test_latency_tracking_off_keeps_what_was_collected(server):
    client = server.raw()
    for _ in range(10):
        client.call("GET", "k")
    assert calls_of(client, "get") == 10
    assert client.call("CONFIG", "SET", "latency-tracking", "no") == "OK"
    for _ in range(5):
        client.call("GET", "k")
    assert calls_of(client, "get") == 10
    assert b"latency_percentiles_usec_get" not in client.call("INFO", "latencystats")
    assert client.call("CONFIG", "SET", "latency-tracking", "yes") == "OK"
    assert calls_of(client, "get") == 10
    for _ in range(3):
        client.call("GET", "k")
    assert calls_of(client, "get") == 13
    assert b"latency_percentiles_usec_get" in client.call("INFO", "latencystats")
    assert client.call("CONFIG", "SET", "latency-tracking", "no") == "OK"
    assert client.call("CONFIG", "RESETSTAT") == "OK"
    assert calls_of(client, "get") == 0


# --- MEMORY -----------------------------------------------------------------------------------------------

def test_memory_stats(server, oracle):
    """The entries of the stock server, in its order and of its types."""
    for one in (server, oracle):
        assert one.call("SET", "a", "1") == "OK"
    mine, theirs = server.call("MEMORY", "STATS"), oracle.call("MEMORY", "STATS")
    assert mine[::2] == theirs[::2]
    assert [type(value) for value in mine[1::2]] == [type(value) for value in theirs[1::2]]
    assert mine[mine.index(b"db.0") + 1][::2] == [b"overhead.hashtable.main", b"overhead.hashtable.expires",
                                                   b"overhead.hashtable.slot-to-keys"][:2] or harness.IS_SLOTWISE
    stats = dict(zip(mine[::2], mine[1::2]))
    assert stats[b"keys.count"] == 1
    assert stats[b"peak.allocated"] >= stats[b"total.allocated"] >= stats[b"startup.allocated"] > 0
    assert stats[b"dataset.bytes"] + stats[b"overhead.total"] >= stats[b"total.allocated"]
    info = dict(line.split(":", 1) for line in server.call("INFO", "memory").decode().split("\r\n") if ":" in line)
    assert int(info["used_memory_startup"]) == stats[b"startup.allocated"]


def test_memory_doctor_and_malloc_stats(server):
    assert b"Too little memory" in server.call("MEMORY", "DOCTOR") or not harness.IS_SLOTWISE
    text = server.call("MEMORY", "MALLOC-STATS")
    assert b"jemalloc statistics" in text or b"Stats not supported for the current allocator" in text
    lines = [line.split(" ")[0] for line in server.call("MEMORY", "HELP")]
    for name in ("DOCTOR", "MALLOC-STATS", "PURGE", "STATS", "USAGE"):
        assert name in lines
