"""What replication must reach, figure by figure: a primary and replicas of the same server on loopback, all loads bounded.

Each suite starts what it needs and stops it. Whether data are equal is looked at by DEBUG DIGEST at equal offsets wherever a suite
says so. bench/catchup has the figures of catching up over limited links.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from . import client
from .catchup_load import text_command, text_values
from .processes import cpu_seconds
from .resp import ReplyError
from .results import CPU, P50, P99, P999, THROUGHPUT, Metric, Suite

PATIENCE_SECONDS = 120
EQUAL = Metric("equal", "equal data", digits=0, ratio=False)
FULL = Metric("full", "full syncs", digits=0, ratio=False)
PARTIAL = Metric("partial", "partial syncs", digits=0, ratio=False)
COMMON = ["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"]


def plain(metric):
    """The same without ratios: what the rows differ in is not the server."""
    return Metric(metric.key, metric.label, metric.unit, metric.less, metric.digits, ratio=False)


def wait_until(condition, what, seconds=PATIENCE_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise client.ClientError("no %s within %d s" % (what, seconds))
        time.sleep(0.01)


def call(server, *words):
    with server.connect(60) as connection:
        return connection.call(*words)


def info(server, section):
    with server.connect(60) as connection:
        return connection.info(section)


def offset(server):
    return int(info(server, "replication")["master_repl_offset"])


def in_step(primary, *replicas):
    """Until all have what the primary has; nobody writes."""
    def same():
        end = offset(primary)
        links = [info(replica, "replication") for replica in replicas]
        return all(link["master_link_status"] == "up" and int(link["slave_repl_offset"]) == end for link in links)
    wait_until(same, "replica in step")


def is_equal(*servers):
    in_step(*servers)
    return float(len({call(server, "DEBUG", "DIGEST") for server in servers}) == 1)


def syncs(server):
    stats = info(server, "stats")
    return int(stats["sync_full"]), int(stats["sync_partial_ok"])


@contextlib.contextmanager
def group(context, spec, replicas=1, arguments=(), replica_arguments=()):
    """A primary and replicas in step with it."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(context.start(spec.with_arguments(spec.name, *COMMON, *arguments)))
        following = [stack.enter_context(follow(context, spec, primary, *replica_arguments)) for _ in range(replicas)]
        in_step(primary, *following)
        yield primary, following


def follow(context, spec, primary, *arguments):
    return context.start(spec.with_arguments(spec.name + " replica", *COMMON, "--replicaof", "127.0.0.1 %d" % primary.port, *arguments))


def each(context, suite, specs, function):
    """function(spec) for all; what fails is noted."""
    for spec in specs:
        context.log("%s: %s" % (suite.name, spec.name))
        try:
            function(spec)
        except (client.ClientError, OSError, ReplyError) as error:
            suite.remark("%s: %s: %s" % (spec.name, type(error).__name__, error))
    return suite


class Writer:
    """Sends what make(i) returns, i = 1, 2, ..., in batches, until stopped or the limit; a thread."""

    def __init__(self, server, make, limit, batch=1):
        self.sent = 0
        self.running = True
        self.failure = None
        self.thread = threading.Thread(target=self._run, args=(server, make, limit, batch), daemon=True)
        self.thread.start()

    def _run(self, server, make, limit, batch):
        try:
            with server.connect(60) as connection:
                while self.running and self.sent < limit:
                    made = [make(i) for i in range(self.sent + 1, min(limit, self.sent + batch) + 1)]
                    connection.socket.sendall(b"".join(data for data, _ in made))
                    for _ in range(sum(lines for _, lines in made)):
                        if connection.file.readline()[:1] in (b"-", b""):
                            raise client.ClientError("the writer got an error")
                    self.sent += len(made)
        except (OSError, client.ClientError) as error:
            self.failure = error

    def finish(self, stop=True):
        if stop:
            self.running = False
        self.thread.join()
        if self.failure is not None:
            raise client.ClientError("writer: %s" % self.failure)
        return self.sent


# --- Bytes and work of the compression -----------------------------------------------------------------------------


class Capture:
    """A replica by hand without our frames: it takes the stream as it is. A thread."""

    def __init__(self, primary):
        self.socket = socket.create_connection(("127.0.0.1", primary.port), timeout=60)
        self.file = self.socket.makefile("rb")
        self.socket.sendall(b"PSYNC ? -1\r\n")
        answer = self._line()
        if not answer.startswith(b"+FULLRESYNC"):
            raise client.ClientError("PSYNC: %r" % answer)
        self.file.read(int(self._line()[1:]))
        self.data = []
        self.count = 0
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _line(self):
        line = b"\n"
        while line == b"\n":
            line = self.file.readline()
        return line.strip()

    def _run(self):
        with contextlib.suppress(OSError, ValueError):
            while data := self.file.read1(1 << 18):
                self.data.append(data)
                self.count += len(data)

    def finish(self, count):
        wait_until(lambda: self.count >= count, "whole stream")
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()
        return b"".join(self.data)[:count]


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def stream_kinds():
    choose = random.Random(1)
    values = text_values(choose, 4096, 400)
    return {
        "JSON, 400 bytes": lambda i: (encode(b"SET", b"key:%d" % choose.randrange(500000), values[choose.randrange(4096)]), 1),
        "mixed text": lambda i: text_command(choose, values, 500000),
        "INCR": lambda i: (encode(b"INCR", b"counter:%d" % choose.randrange(10000)), 1),
        "values of 20 bytes": lambda i: (encode(b"SET", b"key:%d" % choose.randrange(500000), b"%020x" % choose.getrandbits(80)), 1),
        "random, 400 bytes": lambda i: (encode(b"SET", b"key:%d" % choose.randrange(500000), choose.randbytes(400)), 1)}


def linked_lz4(data):
    """The size of it by `lz4 -1` with linked blocks."""
    done = subprocess.run(["lz4", "-1", "-BD", "-c"], input=data, capture_output=True, check=True)
    return len(done.stdout)


def wire(context):
    suite = Suite("repl-wire", "bytes of the stream on the wire beside `lz4 -1 -BD` of the same bytes", "target: 1.03 at most")
    case = suite.case("streams", [Metric("plain", "stream", "MB", ratio=False), Metric("wire", "wire", "MB", ratio=False),
                                  Metric("lz4", "lz4 -1 -BD", "MB", ratio=False), Metric("over", "wire over lz4", digits=3, ratio=False)],
                      heading="stream")
    if not shutil.which("lz4"):
        suite.remark("there is no lz4: apt-get install lz4")
        return suite
    want = int(20e6 if context.seconds >= 1 else 2e6)

    def one(spec):
        for kind, make in stream_kinds().items():
            with group(context, spec, 1, ["--repl-backlog-size", "64mb"]) as (primary, (replica,)):
                capture = Capture(primary)
                in_step(primary, replica)
                before, received = offset(primary), int(info(replica, "stats")["total_net_input_bytes"])
                writer = Writer(primary, make, 2_000_000, batch=1000)
                while writer.thread.is_alive() and offset(primary) < before + want:
                    time.sleep(0.05)
                writer.finish()
                time.sleep(0.2)
                plain = offset(primary) - before
                wait_until(lambda: int(info(replica, "replication")["slave_repl_offset"]) >= before + plain, "replica in step")
                received = int(info(replica, "stats")["total_net_input_bytes"]) - received
                data = capture.finish(plain)
                case.add(kind, plain=plain / 1e6, wire=received / 1e6, lz4=linked_lz4(data) / 1e6, over=received / linked_lz4(data))

    return each(context, suite, context.slotwise_specs()[:1], one)


def once(context):
    suite = Suite("repl-once", "compression for one replica and for ten", "target: 1.05 times the work of one at most")
    case = suite.case("the same SETs of 400 bytes", [
        Metric("encoded", "bytes encoded per byte of stream", digits=3, ratio=False), Metric("frames", "frames per MB of stream", digits=1, ratio=False),
        Metric("cpu", "primary's CPU per MB of stream", "ms", ratio=False)], heading="replicas")
    requests = 300_000 if context.seconds >= 1 else 20_000

    def one(spec):
        for count in (1, 10):
            with group(context, spec, count, ["--repl-backlog-size", "64mb"]) as (primary, replicas):
                before, cpu, figures = offset(primary), cpu_seconds(primary.pid), info(primary, "replication")
                client.run(context.client, primary, requests=requests, pipeline=16, connections=20, value_bytes=400, ratio="1:0",
                           keyspace=100_000, rate=50_000)
                in_step(primary, *replicas)
                time.sleep(0.5)
                after, stream = info(primary, "replication"), offset(primary) - before
                grown = {key: int(after[key]) - int(figures[key]) for key in ("repl_stream_plain_bytes", "repl_stream_frames")}
                case.add(str(count), encoded=grown["repl_stream_plain_bytes"] / stream, frames=grown["repl_stream_frames"] / stream * 1e6,
                         cpu=(cpu_seconds(primary.pid) - cpu) * 1000 / stream * 1e6)

    return each(context, suite, context.slotwise_specs()[:1], one)


def incompressible(context):
    suite = Suite("repl-random", "4 KiB random values as fast as they go, with repl-compression and without",
                  "target: no full sync that `no` avoids, throughput 0.95 at least; rounds in turn, a fresh link for each")
    case = suite.case("SET", [plain(THROUGHPUT), plain(CPU), FULL, PARTIAL, EQUAL], heading="repl-compression")

    def one(spec):
        with group(context, spec) as (primary, (replica,)):
            for turn in range(2 * context.rounds):
                choice = ("yes", "no")[turn % 2]
                call(primary, "CONFIG", "SET", "repl-compression", choice)
                call(primary, "CLIENT", "KILL", "TYPE", "replica")
                time.sleep(0.1)
                in_step(primary, replica)
                before = syncs(primary)
                report = client.run(context.client, primary, value_bytes=4096, incompressible=True, ratio="1:0", keyspace=20_000,
                                    pipeline=4, connections=20, seconds=context.seconds, warmup=context.warmup)
                same = is_equal(primary, replica)
                full, partial = (now - then for now, then in zip(syncs(primary), before))
                case.add(choice, throughput=report["requests_per_second"], cpu_us=report["server_cpu_us_per_request"], full=full,
                         partial=partial, equal=same)
        suite.remark("throughput with over without: %.3f; CPU: %.3f" % tuple(
            case.median("yes", key) / case.median("no", key) for key in ("throughput", "cpu_us")))

    return each(context, suite, context.slotwise_specs()[:1], one)


# --- Steady states -------------------------------------------------------------------------------------------------


def connections(context):
    seconds = 90 if context.seconds >= 1 else 2
    suite = Suite("repl-steady", "500-byte SETs, pipeline 50, 400 connections, %d s" % seconds, "target: no resync, no disconnect")
    case = suite.case("SET", [THROUGHPUT, P999, FULL, PARTIAL, Metric("lost", "clients lost", digits=0, ratio=False),
                              Metric("over", "over its output limit", digits=0, ratio=False),
                              Metric("took", "in step after", "s", ratio=False), EQUAL])

    def one(spec):
        with group(context, spec) as (primary, (replica,)):
            before = syncs(primary)
            report = client.run(context.client, primary, value_bytes=500, ratio="1:0", keyspace=100_000, pipeline=50, connections=400,
                                seconds=seconds)
            began = time.monotonic()
            in_step(primary, replica)
            took = time.monotonic() - began
            full, partial = (now - then for now, then in zip(syncs(primary), before))
            case.add_report(spec.name, report)
            case.add(spec.name, full=full, partial=partial, took=took, equal=is_equal(primary, replica),
                     lost=report["disconnects"], over=primary.output().count("for overcoming of output"))

    return each(context, suite, context.specs, one)


def giant(context):
    suite = Suite("repl-giant", "a key of 3 MB is written all the time with a backlog of 1 MB while a replica joins and afterwards",
                  "target: one full sync, no loop")
    case = suite.case("SET of 3 MB", [Metric("took", "joined in", "s"), FULL, Metric("writes", "values written", digits=0, ratio=False), EQUAL])
    values = [random.Random(i).randbytes(3_000_000) for i in range(4)]

    def one(spec):
        primary = context.start(spec.with_arguments(spec.name, *COMMON, "--repl-backlog-size", "1mb"))
        with primary:
            writer = Writer(primary, lambda i: (encode(b"SET", b"giant", values[i % 4]), 1), 2000)
            began = time.monotonic()
            with follow(context, spec, primary) as replica:
                wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "link")
                took = time.monotonic() - began
                time.sleep(max(2, 2 * context.seconds))
                writes = writer.finish()
                case.add(spec.name, took=took, full=syncs(primary)[0], writes=writes, equal=is_equal(primary, replica))

    return each(context, suite, context.specs, one)


def large_hash(context):
    fields = 10_000_000 if context.seconds >= 1 else 100_000
    suite = Suite("repl-hash", "full syncs of a hash of %d fields, to which clients write all the time" % fields,
                  "target: no stall; 10,000 HSETs/s, latencies from when each was due; without and during syncs in turn")
    case = suite.case("HSET", [plain(metric) for metric in (THROUGHPUT, CPU, P99, P999)] + [
        Metric("max", "longest", "us", digits=0, ratio=False), FULL, Metric("took", "joined in", "s", ratio=False), EQUAL], heading="full sync")
    write = {"ops": ["hset:1:HSET hash __key__ __value__"], "value_bytes": 32, "keyspace": fields, "connections": 20, "rate": 10_000}

    def one(spec):
        with context.start(spec.with_arguments(spec.name, *COMMON, "--repl-backlog-size", "64mb")) as primary:
            context.load(primary, fields, ops=["hset:1:HSET hash __key__ __value__"], value_bytes=32, pipeline=16)
            for _ in range(context.rounds):
                report = client.run(context.client, primary, seconds=3, warmup=context.warmup, **write)
                case.add_report("%s, without" % spec.name, report)
                case.add("%s, without" % spec.name, max=report["latency_us"]["max"])
                before = syncs(primary)[0]
                load = client.Background(context.client, primary, seconds=600, warmup=context.warmup, **write)
                time.sleep(context.warmup + 0.2)
                began = time.monotonic()
                with follow(context, spec, primary) as replica:
                    wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "link")
                    took = time.monotonic() - began
                    load.process.send_signal(signal.SIGTERM)
                    report = load.finish()
                    during = "%s, during" % spec.name
                    case.add_report(during, report)
                    case.add(during, max=report["latency_us"]["max"], full=syncs(primary)[0] - before, took=took,
                             equal=is_equal(primary, replica))

    return each(context, suite, context.specs, one)


def stopped(context):
    suite = Suite("repl-stopped", "clients of the primary while its replica runs and while it is stopped (SIGSTOP)",
                  "target: no change; 64-byte SETs, rounds in turn")
    case = suite.case("SET, pipeline 16", [plain(metric) for metric in (THROUGHPUT, CPU, P99, P999, FULL)], heading="replica")
    steady = suite.case("SET and GET at 10,000/s", [plain(metric) for metric in (P50, P99, P999)], heading="replica")

    def one(spec):
        with group(context, spec) as (primary, (replica,)):
            for turn in range(2 * context.rounds):
                state = ("%s, runs", "%s, stopped")[turn % 2] % spec.name
                before = syncs(primary)[0]
                if turn % 2:
                    os.kill(replica.pid, signal.SIGSTOP)
                try:
                    case.add_report(state, client.run(context.client, primary, ratio="1:0", keyspace=context.keys, pipeline=16,
                                                      connections=20, seconds=context.seconds, warmup=context.warmup, rate=100_000))
                    steady.add_report(state, client.run(context.client, primary, ratio="1:1", keyspace=context.keys, rate=10_000,
                                                        connections=20, seconds=context.seconds, warmup=context.warmup))
                finally:
                    os.kill(replica.pid, signal.SIGCONT)
                in_step(primary, replica)
                case.add(state, full=syncs(primary)[0] - before)
        for name, measured in (("SET", case), ("10,000/s", steady)):
            suite.remark("%s, %s: p99.9 stopped over running %.2f" % (spec.name, name, measured.median("%s, stopped" % spec.name, "p999")
                                                                     / measured.median("%s, runs" % spec.name, "p999")))

    return each(context, suite, context.specs, one)


def waiting(context):
    suite = Suite("repl-wait", "SET and WAIT 1 on loopback, one client", "target: p50 of WAIT 1,000 us at most")
    case = suite.case("WAIT 1 0", [P50, P99, P999])
    count = 3000 if context.seconds >= 1 else 200

    def one(spec):
        with group(context, spec) as (primary, _), primary.connect() as connection:
            took = []
            for i in range(count):
                connection.call("SET", "key", i)
                began = time.perf_counter()
                if connection.call("WAIT", 1, 0) != 1:
                    raise client.ClientError("WAIT did not say 1")
                took.append((time.perf_counter() - began) * 1e6)
        cuts = statistics.quantiles(took, n=1000)
        case.add(spec.name, p50=cuts[499], p99=cuts[989], p999=cuts[998])

    return each(context, suite, context.specs, one)


# --- Resumption ----------------------------------------------------------------------------------------------------


def workers(context):
    suite = Suite("repl-workers", "two promotions between servers of different numbers of workers, with a broken link in each stage",
                  "target: each resume is a partial one; data equal")
    case = suite.case("promotions", [Metric("first", "full syncs at first", digits=0, ratio=False),
                                     Metric("full", "full syncs later", digits=0, ratio=False), PARTIAL, EQUAL], heading="workers")
    choose = random.Random(3)
    values = text_values(choose, 512, 200)

    def stage(primary, others):
        """Writing, and links that break meanwhile."""
        writer = Writer(primary, lambda i: text_command(choose, values, 5000), 20_000, batch=50)
        for _ in range(3):
            time.sleep(0.1)
            call(primary, "CLIENT", "KILL", "TYPE", "replica")
        writer.finish(stop=False)
        return is_equal(primary, *others)

    def one(spec):
        for numbers in ((1, 4, 2), (4, 1, 3), (2, 1, 4)):
            with contextlib.ExitStack() as stack:
                start = lambda n: spec.with_arguments(spec.name, "--repl-backlog-size", "64mb", "--io-threads", str(n))
                a = stack.enter_context(context.start(start(numbers[0]).with_arguments(spec.name, *COMMON)))
                b, c = (stack.enter_context(follow(context, start(n), a)) for n in numbers[1:])
                in_step(a, b, c)
                before = [syncs(server) for server in (a, b, c)]
                equal = stage(a, [b, c])
                for new, others in ((b, [a, c]), (c, [a, b])):
                    call(new, "REPLICAOF", "NO", "ONE")
                    for other in others:
                        call(other, "REPLICAOF", "127.0.0.1", new.port)
                    in_step(new, *others)
                    equal = min(equal, stage(new, others))
                after = [syncs(server) for server in (a, b, c)]
                case.add(", ".join(map(str, numbers)), first=before[0][0], full=sum(x[0] for x in after) - sum(x[0] for x in before),
                         partial=sum(x[1] for x in after) - sum(x[1] for x in before), equal=equal)

    return each(context, suite, context.slotwise_specs()[:1], one)


def abort(context):
    suite = Suite("repl-abort", "BGSAVE, FLUSHALL (which aborts it), BGSAVE: how long until the second begins",
                  "target: 10 ms at most from the reply of FLUSHALL")
    case = suite.case("the second begins after", [Metric("ms", "time", "ms", digits=3), Metric("tries", "tries", digits=0, ratio=False),
                                                     Metric("ran", "saves that ran", digits=2, ratio=False)])

    def one(spec):
        with context.start(spec.with_arguments(spec.name, *COMMON)) as server, server.connect(60) as connection:
            for _ in range(context.rounds):
                context.load(server, keys=context.keys)
                connection.call("BGSAVE")
                time.sleep(0.02)
                ran = connection.info("persistence")["rdb_bgsave_in_progress"]
                connection.call("FLUSHALL")
                began, tries, begun = time.perf_counter(), 0, False
                while not begun and tries < 100_000:
                    tries += 1
                    with contextlib.suppress(ReplyError):
                        connection.call("BGSAVE")
                        begun = True
                case.add(spec.name, ms=(time.perf_counter() - began) * 1000, tries=tries, ran=float(ran))
                wait_until(lambda: connection.info("persistence")["rdb_bgsave_in_progress"] == "0", "end of the save")

    return each(context, suite, context.specs, one)


def sequence(i):
    """A transaction from whose traces the last one can be told."""
    number = b"%d" % i
    return encode(b"MULTI") + encode(b"SET", b"a:%d" % (i % 1000), number) + encode(b"INCR", b"total") + \
        encode(b"SET", b"b:%d" % (i % 997), number) + encode(b"EXEC"), 8


def is_prefix(connection):
    """Exactly the transactions 1 to total."""
    total = int(connection.call("GET", "total") or 0)
    expected = {}
    for i in range(max(1, total - 999), total + 1):
        expected["a:%d" % (i % 1000)] = i
        if i > total - 997:
            expected["b:%d" % (i % 997)] = i
    found = connection.call("MGET", *expected) if expected else []
    return connection.call("DBSIZE") == len(expected) + (total > 0) and [int(x or 0) for x in found] == list(expected.values()), total


def killed(context):
    suite = Suite("repl-kill", "kill -9 of a replica at random points while it saves; what it starts with is an exact prefix, and it goes on",
                  "target: always; a copy of its file is looked at by a server of its own, then it resumes")
    case = suite.case("kill -9", [Metric("kills", "kills", digits=0, ratio=False), Metric("prefixes", "exact prefixes", digits=0, ratio=False),
                                  Metric("empty", "of these without a file", digits=0, ratio=False), FULL, PARTIAL, EQUAL])
    kills = 20 if context.seconds >= 1 else 3

    def one(spec):
        folder = tempfile.mkdtemp(prefix="slotwise-bench-")
        choose = random.Random(5)
        prefixes = empty = 0
        try:
            with group(context, spec, 0, ["--repl-backlog-size", "64mb"]) as (primary, _):
                writer = Writer(primary, sequence, 400_000, batch=20)
                for _ in range(kills):
                    with follow(context, spec, primary, "--dir", folder) as replica:
                        wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "link")
                        until = time.monotonic() + choose.uniform(0.02, 0.6)
                        with contextlib.suppress(OSError), replica.connect() as connection:
                            while time.monotonic() < until:
                                with contextlib.suppress(ReplyError):
                                    connection.call("BGSAVE")
                                time.sleep(choose.uniform(0, 0.005))
                        replica.process.kill()
                        replica.process.wait()
                    copy = tempfile.mkdtemp(dir=folder)
                    with contextlib.suppress(FileNotFoundError):
                        shutil.copy(os.path.join(folder, "dump.rdb"), copy)
                    with context.start(spec.with_arguments(spec.name, "--dir", copy)) as alone, alone.connect() as connection:
                        exact, total = is_prefix(connection)
                        prefixes += exact
                        empty += total == 0
                writer.finish()
                with follow(context, spec, primary, "--dir", folder) as replica:
                    same = is_equal(primary, replica)
                    full, partial = syncs(primary)
                    case.add(spec.name, kills=kills, prefixes=prefixes, empty=empty, full=full, partial=partial, equal=same)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return each(context, suite, context.specs, one)


SUITES = {"repl-wire": wire, "repl-once": once, "repl-random": incompressible, "repl-steady": connections, "repl-giant": giant,
          "repl-hash": large_hash, "repl-stopped": stopped, "repl-workers": workers, "repl-abort": abort, "repl-wait": waiting, "repl-kill": killed}
