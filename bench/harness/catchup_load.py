"""The load of bench/catchup, run in processes of their own: filling the primary, writing all the time, probing its latency.

Each ends when its standard input ends or says something, and at WRITERS_LIFE_SECONDS in any case; what it returns is printed.
"""

import json
import random
import select
import sys
import time

from .catchup_links import Connection, encode

WRITERS_LIFE_SECONDS = 900  # no load outlives it, whatever happens to who started it
PROBES_PER_SECOND = 500


def text_values(choose, count, length):
    """JSON of people who do not exist: names and words repeat, numbers and tokens do not."""
    names = ["anna", "boris", "chen", "dolores", "emeka", "fatima", "goran", "hiro", "ines", "jamal", "katja", "lars", "mei"]
    values = []
    for _ in range(count):
        value = json.dumps({
            "name": choose.choice(names), "family": choose.choice(names) + choose.choice(["son", "ova", "ez", "sen", "man"]),
            "token": f"{choose.getrandbits(128):032x}", "born": f"{choose.randrange(1930, 2010)}-{choose.randrange(1, 13):02d}",
            "address": {"street": f"{choose.choice(names)} street {choose.randrange(300)}", "zip": choose.randrange(10**5),
                        "at": [round(choose.uniform(-90, 90), 5), round(choose.uniform(-180, 180), 5)]},
            "visits": [choose.randrange(10**6) for _ in range(4)], "active": choose.random() < 0.5,
            "roles": choose.sample(["reader", "writer", "owner", "guest", "auditor"], 2)})
        while len(value) < length:
            value += f' {{"seen": {choose.randrange(10**9)}, "page": "/{choose.choice(names)}"}}'
        values.append(value[:length].encode())
    return values


def text_command(choose, values, keys):
    """A command, or a transaction, and the lines of its reply."""
    kind = choose.random()
    key = b"key:%d" % choose.randrange(keys)
    value = values[choose.randrange(len(values))]
    if kind < 0.80:
        return encode("SET", key, value), 1
    if kind < 0.88:
        return encode("SET", key, value, "PX", 10**8), 1
    if kind < 0.92:
        return encode("INCR", f"counter:{choose.randrange(1000)}"), 1
    if kind < 0.95:
        return encode("SETRANGE", key, choose.randrange(300), value[:50]), 1
    if kind < 0.98:
        return encode("DEL", key), 1
    amount = choose.randrange(100)
    return (encode("MULTI") + encode("DECRBY", f"account:{choose.randrange(100)}", amount)
            + encode("INCRBY", f"account:{choose.randrange(100)}", amount) + encode("EXEC")), 6


def read_lines(connection, count):
    for _ in range(count):
        line = connection.file.readline()
        if not line or line.startswith(b"-"):
            raise SystemExit(f"writer: {line!r}")


def child_load(port, keys, length):
    """Fills the primary: key:0 up to key:N."""
    choose = random.Random(1)
    values = text_values(choose, 4096, length)
    connection = Connection(None, port)
    for begin in range(0, keys, 500):
        batch = range(begin, min(keys, begin + 500))
        connection.socket.sendall(b"".join(encode("SET", b"key:%d" % key, values[choose.randrange(4096)]) for key in batch))
        read_lines(connection, len(batch))
    return {"keys": keys}


def child_write(port, keys, length, bytes_per_s, seed, kind):
    """Batches at a steady rate (0: as fast as it goes) until the input ends."""
    choose = random.Random(seed)
    values = text_values(choose, 4096, length) if kind == "text" else None
    connection = Connection(None, port)
    sent = 0
    begin = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0] and time.monotonic() < begin + WRITERS_LIFE_SECONDS:
        if bytes_per_s and sent > bytes_per_s * (time.monotonic() - begin):
            time.sleep(0.002)
            continue
        if kind == "text":
            batch = [text_command(choose, values, keys) for _ in range(20)]
        else:
            batch = [(encode("SET", f"blob:{choose.randrange(2000)}", choose.randbytes(4096)), 1) for _ in range(5)]
        data = b"".join(command for command, _ in batch)
        connection.socket.sendall(data)
        read_lines(connection, sum(lines for _, lines in batch))
        sent += len(data)
    return {"bytes": sent}


def half_seconds(latencies):
    """Of each half second when it ended, p99 and the worst, in ms."""
    count = PROBES_PER_SECOND // 2
    series = []
    for begin in range(0, len(latencies), count):
        part = sorted(latencies[begin:begin + count])
        series.append(((begin + len(part)) / PROBES_PER_SECOND, part[int(0.99 * (len(part) - 1))] * 1000, part[-1] * 1000))
    return series


def child_probe(port, keys):
    """GET and SET at fixed times; latency counts from when each was due."""
    choose = random.Random(7)
    connection = Connection(None, port)
    latencies = []
    begin = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0] and len(latencies) < PROBES_PER_SECOND * WRITERS_LIFE_SECONDS:
        due = begin + len(latencies) / PROBES_PER_SECOND
        if (early := due - time.monotonic()) > 0:
            time.sleep(early)
        if len(latencies) % 2:
            connection.call("SET", f"probe:{choose.randrange(100)}", "x" * 64)
        else:
            connection.call("GET", f"key:{choose.randrange(keys)}")
        latencies.append(time.monotonic() - due)
    series = half_seconds(latencies)
    latencies.sort()
    pick = lambda share: latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1000 if latencies else 0.0
    return {"probes": len(latencies), "p50_ms": pick(0.5), "p99_ms": pick(0.99), "p999_ms": pick(0.999), "worst_ms": pick(1),
            "began": begin, "series": series}


TASKS = {"load": child_load, "write": child_write, "probe": child_probe}
