"""What a snapshot costs the clients: writers at full speed with and without one, in turn, in one run.

The writers SET keys of the whole keyspace in a closed loop. Beside them another client asks at a fixed rate, with latencies from
the time a request was due. Each round takes a sample without a snapshot, one during which BGSAVE follows on BGSAVE, another one
without, and one during which full sync follows on full sync (redis-cli --rdb is the replica). What is compared is the sample with
a snapshot with the one before it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import client
from .context import rotated
from .processes import PAGE_BYTES, cpu_seconds, die_with_parent, resident_bytes, stop_all
from .results import Metric, Suite, number
from .slowest import Beside, BESIDE_KEYS, BESIDE_RATE

PIPELINE = 16
SNAPSHOT_LIMIT_S = 60
MEMORY_EVERY_S = 0.02
WARMUP_S = 0.3
# About 400 bytes in which names repeat and numbers do not.
DOCUMENT = ('{"id":__number__,"name":"person-__number__","mail":"__number__@example.com","active":true,"visits":[__number__,'
            '__number__],"address":{"street":"street-__number__","zip":"__number__"},"roles":["reader","writer"],'
            '"orders":[{"order":"__number__","price":"__number__"},{"order":"__number__","price":"__number__"}],'
            '"token":"__number____number__"}')
METRICS = [
    Metric("rate", "SETs/s before", less=False, digits=0),
    Metric("kept", "kept", "x", less=False, ratio=False),
    Metric("cpu", "server CPU/SET before", "us", digits=3),
    Metric("cpu_ratio", "during", "x", ratio=False),
    Metric("p999", "beside: p99.9 before", "us", digits=0),
    Metric("p999_ratio", "during", "x", ratio=False),
    Metric("pause", "longest before", "us", digits=0, ratio=False),
    Metric("pause_during", "during", "us", digits=0),
    Metric("memory_ratio", "peak memory", "x", ratio=False),
    Metric("seconds", "a snapshot took", "s", digits=2),
]


def proportional_bytes(pid):
    try:
        with open("/proc/%d/smaps_rollup" % pid, encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except OSError:  # it is gone
        return 0


def memory_bytes(pid):
    """The resident set; with a child that saves, the proportional sets of both."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        children = [int(child) for child in file.read().split()]
    if not children:
        return resident_bytes(pid)
    return proportional_bytes(pid) + sum(proportional_bytes(child) for child in children)


class Repeated(threading.Thread):
    """Does one thing after the other until it is told to stop; notes how long each whole one took, and the peak of the memory."""

    def __init__(self, server, once):
        super().__init__(daemon=True)
        self.server = server
        self.once = once
        self.enough = threading.Event()
        self.seconds = []
        self.peak_bytes = 0
        self.error = None

    def watch(self):
        """Between two looks of whoever waits for the end of a snapshot."""
        self.peak_bytes = max(self.peak_bytes, memory_bytes(self.server.pid))
        time.sleep(MEMORY_EVERY_S)

    def run(self):
        try:
            while not self.enough.is_set():
                start = time.monotonic()
                self.once(self)
                self.seconds.append(time.monotonic() - start)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def finish(self):
        self.enough.set()
        self.join(SNAPSHOT_LIMIT_S * 2)
        if self.error or not self.seconds:
            raise client.ClientError("no snapshot: %s" % self.error)


def save(repeated):
    limit = time.monotonic() + SNAPSHOT_LIMIT_S
    with repeated.server.connect(SNAPSHOT_LIMIT_S) as connection:
        connection.call("BGSAVE")
        while connection.info("persistence")["rdb_bgsave_in_progress"] != "0":
            if time.monotonic() > limit:
                raise client.ClientError("BGSAVE takes longer than %d s" % SNAPSHOT_LIMIT_S)
            repeated.watch()


def synchronise(repeated):
    limit = time.monotonic() + SNAPSHOT_LIMIT_S
    command = ["redis-cli", "-p", str(repeated.server.port), "--rdb", os.path.join(repeated.server.directory, "copy.rdb")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          preexec_fn=die_with_parent) as replica:
        while replica.poll() is None:
            if time.monotonic() > limit:
                replica.send_signal(signal.SIGKILL)
            repeated.watch()
    if replica.returncode != 0:
        raise client.ClientError("redis-cli --rdb failed")


def sample(context, server, seed, once=None):
    """The writers' report, the beside client's latencies, and what went on meanwhile."""
    beside = Beside(context, server)
    repeated = Repeated(server, once) if once else None
    try:
        time.sleep(WARMUP_S)
        if repeated:
            repeated.start()
        report = context.run(server, pipeline=PIPELINE, connections=context.options.connections, seed=seed, warmup=0,
                             ops=["set:1:SET __key__ " + DOCUMENT])
    finally:
        if repeated:
            repeated.enough.set()
        latency = beside.finish()["latency_us"]
    if repeated:
        repeated.finish()
    return report, latency, repeated


def compare(context, case, server, seed, once):
    writers, before, _ = sample(context, server, seed)
    resident = resident_bytes(server.pid)
    writers_during, during, repeated = sample(context, server, seed + 1000, once)
    rate, cpu = writers["requests_per_second"], writers["server_cpu_us_per_request"]
    case.add(server.name, rate=rate, kept=writers_during["requests_per_second"] / rate,
             cpu=cpu, cpu_ratio=writers_during["server_cpu_us_per_request"] / cpu, p999=before["p99.9"],
             p999_ratio=during["p99.9"] / max(before["p99.9"], 1), pause=before["max"], pause_during=during["max"],
             memory_ratio=max(repeated.peak_bytes, PAGE_BYTES) / resident,
             seconds=sum(repeated.seconds) / len(repeated.seconds))


SAVE = [
    Metric("seconds", "BGSAVE", "s"),
    Metric("size_mb", "file", "MB", digits=0),
    Metric("load_seconds", "start with it", "s"),
    Metric("load_cpu", "its CPU", "s"),
]


def whole_file(context):
    """BGSAVE of many small keys without any load, and the start of each server with the file that the base server wrote."""
    keys = context.options.memory_keys
    suite = Suite("save", "an RDB file", "%s keys of 64 bytes; start: until the server answers; all start with the file of %s" % (
        number(keys), context.base))
    case = suite.case("file", SAVE)
    servers = context.start_all(context.specs, suite)
    for server in servers:
        context.load(server, keys)
    for turn in range(context.rounds):
        for server in rotated(servers, turn):
            start = time.monotonic()
            save(Repeated(server, save))
            case.add(server.name, seconds=time.monotonic() - start,
                     size_mb=os.path.getsize(os.path.join(server.directory, "dump.rdb")) / 1e6)
        context.log("save: round %d of %d" % (turn + 1, context.rounds))
    with tempfile.TemporaryDirectory(prefix="slotwise-bench-") as folder:
        for server in servers:
            if server.name == context.base:
                shutil.copy(os.path.join(server.directory, "dump.rdb"), folder)
            server.stop()
        for turn in range(context.rounds):
            for server in rotated(servers, turn):
                start = time.monotonic()
                loaded = context.start(server.spec.with_arguments(server.name, "--dir", folder), timeout_s=SNAPSHOT_LIMIT_S)
                seconds = time.monotonic() - start
                with loaded.connect() as connection:
                    if connection.call("DBSIZE") != keys:
                        case.fail(server.name, "it has not loaded all keys")
                case.add(server.name, load_seconds=seconds, load_cpu=cpu_seconds(loaded.pid))
                loaded.stop()
    stop_all()
    return suite


def snapshot(context):
    keys = context.keys
    suite = Suite("snapshot", "what a snapshot costs the clients",
                  "%d connections, pipeline %d, SET of 400-byte JSON, %s keys; beside: %s GETs/s of other keys; %d round%s "
                  "of %g s with and %g s without, in turn; x: during over before" % (
                      context.options.connections, PIPELINE, number(keys), number(BESIDE_RATE), context.rounds,
                      "s"[:context.rounds != 1], context.seconds, context.seconds))
    kinds = [(suite.case("BGSAVE", METRICS), save)]
    if shutil.which("redis-cli"):
        kinds.append((suite.case("full sync (redis-cli --rdb)", METRICS), synchronise))
    else:
        suite.remark("no redis-cli: full syncs are left out")
    servers = context.start_all(context.specs, suite)
    for server in servers:
        with server.connect() as connection:
            connection.call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        context.load(server, keys, ops=["set:1:SET __key__ " + DOCUMENT])
        client.run(context.client, server, load=BESIDE_KEYS, key_prefix="beside:", connections=1)
    for turn in range(context.rounds):
        for case, once in kinds:
            for server in rotated(servers, turn):
                try:
                    compare(context, case, server, turn + 1, once)
                except client.ClientError as error:
                    case.fail(server.name, error)
        context.log("snapshot: round %d of %d" % (turn + 1, context.rounds))
    stop_all()
    return suite
