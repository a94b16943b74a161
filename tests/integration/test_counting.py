"""A command counts once, when it is done: however often it was tried before."""

import debugging
import harness
from resp import encode_command

HOLD_MS = int(100 * min(harness.SLOWNESS, 4))


def calls(server, name):
    """What INFO commandstats says of a command, as a dict of numbers."""
    line = server.info("commandstats").get(f"cmdstat_{name}", "calls=0,rejected_calls=0,failed_calls=0")
    return {key: float(value) for key, value in (field.split("=") for field in line.split(","))}


def histogram_calls(server, name):
    reply = server.call("LATENCY", "HISTOGRAM", name)
    return dict(zip(reply[1][::2], reply[1][1::2]))[b"calls"] if reply else 0


def expect(server, name, count):
    assert calls(server, name)["calls"] == count
    assert histogram_calls(server, name) == count


def test_reads_that_are_tried_again(threaded_server):
    """GET of keys that have expired runs a second time, with the token."""
    server = threaded_server
    client = server.raw()
    assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"
    for number in range(10):
        client.call("SET", f"k{number}", "v", "PX", "1")
    harness.wait_until(lambda: client.call("PTTL", "k9") == -2, what="the keys to expire")
    misses = int(server.info("stats")["keyspace_misses"])
    for number in range(10):
        assert client.call("GET", f"k{number}") is None
    expect(server, "get", 10)
    stats = server.info("stats")
    assert int(stats["expired_keys"]) == 10
    assert int(stats["keyspace_misses"]) == misses + 10


def test_large_values_are_read_with_the_token(threaded_server):
    server = threaded_server
    client = server.raw()
    client.call("SET", "large", "x" * 100_000)
    client.send(encode_command("GET", "large") * 20 + encode_command("MGET", "large", "none"))
    for _ in range(21):
        client.read()
    expect(server, "get", 20)
    expect(server, "mget", 1)
    stats = server.info("stats")
    assert (int(stats["keyspace_hits"]), int(stats["keyspace_misses"])) == (21, 1)


def test_commands_that_waited(threaded_server):
    """Parked by a pause, a busy slot or the queue for patience."""
    server = threaded_server
    client = server.raw()
    assert server.call("CLIENT", "PAUSE", str(HOLD_MS), "WRITE") == "OK"
    assert client.pipeline([("SET", "k", "v"), ("SET", "k", "v")]) == ["OK", "OK"]
    expect(server, "set", 2)
    debugging.require(server, "SLOT-HOLD", "PATIENCE-HOLD")
    for count in range(1, 4):
        assert server.call("DEBUG", "SLOT-HOLD", "k", HOLD_MS) == "OK"
        client.send(encode_command("INCR", "{k}n") + encode_command("GET", "{k}n") + encode_command("MULTI")
                    + encode_command("INCR", "{k}n") + encode_command("EXEC"))
        for _ in range(5):
            client.read()
        expect(server, "incr", 2 * count)
        expect(server, "get", count)
        assert calls(server, "exec")["calls"] == count
    for count in range(1, 4):
        assert server.call("DEBUG", "PATIENCE-HOLD", HOLD_MS) == "OK"
        assert client.call("SWAPDB", "0", "0") == "OK"
        expect(server, "swapdb", count)


def test_rejected_and_failed(threaded_server):
    """What does not run is rejected, what runs into an error has failed; neither counts twice."""
    server = threaded_server
    client = server.raw()
    client.pipeline([("SET", "k", "text"), ("INCR", "k"), ("INCR",), ("INCR", "k", "k"), ("INCR", "n")])
    assert calls(server, "incr") | {"usec": 0, "usec_per_call": 0} == {
        "calls": 2, "usec": 0, "usec_per_call": 0, "rejected_calls": 2, "failed_calls": 1}


def test_total_commands_processed(threaded_server):
    server = threaded_server
    client = server.raw()
    before = int(server.info("stats")["total_commands_processed"])
    client.send(encode_command("GET", "none") * 100 + encode_command("GET") * 10)
    for _ in range(110):
        client.read()
    # What INFO and connecting take is the same each time: the command INFO itself.
    after = int(server.info("stats")["total_commands_processed"])
    assert after - before == 101
