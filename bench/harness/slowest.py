"""The slowest single command while the data structure does its worst: loading, one slot growing, a mass expiry.

Two views: what the server itself measured as a command's longest execution (INFO stats slowest_command_usec, or the slow log
where there is no such field), and what another client sees meanwhile, at a fixed rate, on keys of its own.
"""

import signal
import time

from . import client
from .resp import ReplyError
from .results import Metric, Suite, number

BESIDE_RATE = 1000
BESIDE_KEYS = 1000
EXPIRY_WATCH_S = 40
METRICS = [
    Metric("slowest_us", "slowest command", "us", digits=0),
    Metric("beside_p50", "beside: p50", "us", digits=0),
    Metric("beside_p999", "p99.9", "us", digits=0),
    Metric("beside_max", "max", "us", digits=0),
    Metric("seconds", "took", "s", digits=2),
]


def reset(connection):
    connection.call("CONFIG", "RESETSTAT")
    try:
        connection.call("CONFIG", "SET", "slowlog-log-slower-than", "50")
        connection.call("CONFIG", "SET", "slowlog-max-len", "20000")
        connection.call("SLOWLOG", "RESET")
    except ReplyError:
        pass


def slowest_us(connection):
    """The longest execution of a command since reset(), or None if the server does not say."""
    stats = connection.info("stats")
    if "slowest_command_usec" in stats:
        return float(stats["slowest_command_usec"])
    try:
        entries = connection.call("SLOWLOG", "GET", "-1")
        return float(max((entry[2] for entry in entries), default=0))
    except ReplyError:
        return None


class Beside:
    """Another client, asking for keys of its own at a steady rate; latencies from the time a request was due."""

    def __init__(self, context, server):
        self.load = client.Background(
            context.client, server, rate=BESIDE_RATE, connections=4, seconds=600, warmup=0.2,
            keyspace=BESIDE_KEYS, key_prefix="beside:", timeline=100)

    def finish(self):
        self.load.process.send_signal(signal.SIGTERM)
        return self.load.finish()


def prepare(context, server):
    client.run(context.client, server, load=BESIDE_KEYS, key_prefix="beside:", connections=1)
    with server.connect() as connection:
        reset(connection)


def observe(context, server, case, work):
    """Runs work() with a client beside it and adds what was seen; work returns the seconds that it took."""
    beside = Beside(context, server)
    time.sleep(0.3)
    try:
        seconds = work()
    finally:
        report = beside.finish()
    with server.connect(60) as connection:
        slowest = slowest_us(connection)
    latency = report["latency_us"]
    case.add(server.name, slowest_us=slowest, beside_p50=latency["p50"], beside_p999=latency["p99.9"],
             beside_max=latency["max"], seconds=seconds)
    case.curves.setdefault(server.name, []).append(latency["curve"])


def loading(context, spec, case, keys, **options):
    server = context.start(spec)
    try:
        prepare(context, server)
        observe(context, server, case, lambda: context.load(server, keys, **options)["seconds"])
    except client.ClientError as error:
        case.fail(spec.name, error)
    finally:
        server.stop()


def wait_for_expiry(server, at_s, remaining):
    """Seconds from the moment of expiry until the keys are gone, or the watching time if they are not."""
    time.sleep(max(at_s - time.time(), 0))
    left = remaining + 1
    while left > remaining and time.time() < at_s + EXPIRY_WATCH_S:
        time.sleep(0.05)
        with server.connect(60) as connection:
            left = connection.call("DBSIZE")
    return time.time() - at_s, left - remaining


def expiry(context, spec, suite, case, keys):
    """All keys get the same second to expire in; watched from just before it until they are gone."""
    server = context.start(spec)
    try:
        at_s = int(time.time() + 3 + keys / 100000)
        context.load(server, keys, ops=["set:1:SET __key__ __value__ PXAT %d" % (at_s * 1000)])
        if time.time() > at_s - 1.5:
            case.fail(spec.name, "loading took longer than the keys lived")
            return
        prepare(context, server)
        time.sleep(max(at_s - 1 - time.time(), 0))
        outcome = []

        def work():
            outcome.extend(wait_for_expiry(server, at_s, BESIDE_KEYS))
            return outcome[0]

        observe(context, server, case, work)
        if outcome[1] > 0:
            suite.remark("%s: %d expired keys were still there after %d s" % (
                spec.name, outcome[1], EXPIRY_WATCH_S))
    except client.ClientError as error:
        case.fail(spec.name, error)
    finally:
        server.stop()


def slowest(context):
    many, tagged = context.options.memory_keys, context.keys
    suite = Suite("slowest", "the slowest command, and what a client beside it sees",
                  "beside: %s GETs/s on 4 connections; server-side times from INFO stats or the slow log "
                  "(which knows nothing below 50 us)" % number(BESIDE_RATE))
    load_case = suite.case("while %s keys are loaded" % number(many), METRICS)
    slot_case = suite.case("while one slot (a hash tag) grows to %s keys" % number(tagged), METRICS)
    expiry_case = suite.case("while %s keys expire in the same second" % number(tagged), METRICS)
    for spec in context.specs:
        probe = context.start(spec, suite)
        if probe is None:
            continue
        probe.stop()
        context.log("slowest: " + spec.name)
        loading(context, spec, load_case, many)
        loading(context, spec, slot_case, tagged, hash_tag="x")
        expiry(context, spec, suite, expiry_case, tagged)
    return suite
