"""What replication costs beside the commands: how fast a replica applies the stream, and what the log takes of a write.

repl-apply: the replica stands still (SIGSTOP) while the primary takes so many pipelined SETs into a backlog that holds them all; then it
goes on while nobody writes, and is timed until it has applied them. Somebody reads meanwhile at a fixed rate: from the primary while
that takes the writes, from the replica while it applies them.

repl-log: the same load on a server with a backlog, which nobody reads any more, and on one without, in turn. What the workers pay is
shown beside the sum: the backlog is compressed by a thread of low priority, when it gets to it.
"""

import contextlib
import os
import signal
import statistics
import time

from . import client
from .context import rotated
from .processes import cpu_seconds, stop_all
from .results import Metric, Suite, number

WRITES, QUICK_WRITES = 1000000, 40000
READS_PER_SECOND, READ_CONNECTIONS = 1000, 8
PATIENCE_S = 120
SEQUENCE = 15  # pairs of the log suite
OPTIONS = ["--repl-backlog-size", "2gb", "--client-output-buffer-limit", "replica 0 0 0", "--repl-timeout", "600",
           "--repl-diskless-sync-delay", "0"]
FIELD_MINOR_FAULTS = 7  # of /proc/PID/stat, behind the name

RATE = Metric("rate", "commands/s", less=False, digits=0, ratio=False)
COST = Metric("cpu_us", "server CPU/command", "us", digits=3, ratio=False)
SENDER = Metric("sender_us", "primary CPU/command", "us", digits=3, ratio=False)
READ_P99 = Metric("read_p99", "reads' p99", "us", digits=0, ratio=False)
WITHOUT = Metric("without_ns", "CPU/write without", "ns", digits=0)
WITH = Metric("with_ns", "with a backlog", "ns", digits=0)
PRICE = Metric("price_ns", "median difference", "ns", digits=0, ratio=False)
WORKERS = Metric("workers_ns", "of it the workers'", "ns", digits=0, ratio=False)
FAULTS = Metric("faults", "page faults/1,000 writes", digits=2, ratio=False)


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise client.ClientError("waited for %s for %d s" % (what, PATIENCE_S))
        time.sleep(0.005)


def workers_of(context):
    """(label, specs): every Slotwise with one worker and with two; the others as they are, with both."""
    own = context.slotwise_specs()
    for workers in ("1", "2"):
        yield workers, [spec.with_arguments(spec.name, "--io-threads", workers, *OPTIONS) if spec in own
                        else spec.with_arguments(spec.name, *OPTIONS) for spec in context.specs]


class Reads:
    """GETs at a fixed rate beside a block; p99 counts from when each was due."""

    def __init__(self, context, server, keys, count):
        self.load = client.Background(context.client, server, ops=["get"], rate=READS_PER_SECOND, keyspace=keys,
                                      connections=READ_CONNECTIONS, requests=max(count, 1))

    def p99(self):
        return self.load.finish()["latency_us"]["p99"]


class Pair:
    """A primary and its replica, each asked over a connection of its own."""

    def __init__(self, context, spec, suite):
        self.primary, self.replica = context.start(spec, suite), context.start(spec, suite)
        self.asks = self.told = None

    def follow(self):
        self.told, self.asks = self.primary.connect(60), self.replica.connect(60)
        self.asks.call("REPLICAOF", "127.0.0.1", self.primary.port)
        wait_for(lambda: self.asks.info("replication").get("master_link_status") == "up", "the first sync")

    def written(self):
        return int(self.told.info("replication")["master_repl_offset"])

    def wait_until_applied(self, offset):
        wait_for(lambda: int(self.asks.info("replication").get("slave_repl_offset", -1)) >= offset, "the replica")

    def stop(self):
        for server in (self.primary, self.replica):
            if server is not None:
                server.stop()


def write(context, case, pair, keys, writes, seed):
    """What the primary takes for the writes while the replica stands still; the wall time of it."""
    os.kill(pair.replica.pid, signal.SIGSTOP)
    try:
        reads = Reads(context, pair.primary, keys, writes // READS_PER_SECOND)
        begun, cpu_s = time.monotonic(), cpu_seconds(pair.primary.pid)
        client.run(context.client, pair.primary, ops=["set"], pipeline=64, requests=writes, keyspace=keys, seed=seed,
                   connections=context.options.connections)
        took_s, cpu_s = time.monotonic() - begun, cpu_seconds(pair.primary.pid) - cpu_s
        case.add("primary, " + pair.primary.name, rate=writes / took_s, cpu_us=cpu_s / writes * 1e6, read_p99=reads.p99())
        return pair.written()
    finally:
        os.kill(pair.replica.pid, signal.SIGCONT)


def catch_up(context, case, pair, keys, writes, offset):
    begun = time.monotonic()
    cpu_s, sender_s = cpu_seconds(pair.replica.pid), cpu_seconds(pair.primary.pid)
    reads = Reads(context, pair.replica, keys, writes // READS_PER_SECOND)
    pair.wait_until_applied(offset)
    took_s, cpu_s = time.monotonic() - begun, cpu_seconds(pair.replica.pid) - cpu_s
    sender_s = cpu_seconds(pair.primary.pid) - sender_s
    case.add("replica, " + pair.replica.name, rate=writes / took_s, cpu_us=cpu_s / writes * 1e6,
             sender_us=sender_s / writes * 1e6, read_p99=reads.p99())


def sum_up(suite, case, names, workers):
    for name in names:
        primary, replica = "primary, " + name, "replica, " + name
        ratios = [case.ratio(replica, key, primary) for key in ("rate", "cpu_us", "read_p99")]
        if None not in ratios:
            suite.remark("%s, workers: %s: the replica applies %.2fx of the primary's rate with %.2fx of its CPU; reads' p99 "
                         "meanwhile %.2fx of that of the primary's" % ((name, workers) + tuple(ratios)))


def apply(context):
    writes = QUICK_WRITES if context.options.quick else WRITES
    suite = Suite("repl-apply", "a replica that catches up",
                  "%s SETs of 64 bytes at pipeline 64, %s keys; %d reads/s meanwhile" % (
                      number(writes), number(context.keys), READS_PER_SECOND))
    for workers, specs in workers_of(context):
        case = suite.case("workers: " + workers, [RATE, COST, SENDER, READ_P99], "who")
        for turn in range(context.rounds):
            for spec in rotated(specs, turn):
                pair = Pair(context, spec, suite)
                try:
                    if pair.primary is None or pair.replica is None:
                        continue
                    context.load(pair.primary)
                    pair.follow()
                    offset = write(context, case, pair, context.keys, writes, turn + 1)
                    catch_up(context, case, pair, context.keys, writes, offset)
                finally:
                    pair.stop()
            context.log("repl-apply: workers %s, round %d of %d" % (workers, turn + 1, context.rounds))
        sum_up(suite, case, [spec.name for spec in specs], workers)
    return suite


# --- The log ---------------------------------------------------------------------------------------


def begin_backlog(server):
    """A replica comes, gets its snapshot and goes: the backlog stays for repl-backlog-ttl."""
    with server.connect(60) as replica, server.connect(60) as asks:
        replica.socket.sendall(b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
        wait_for(lambda: asks.info("replication").get("repl_backlog_active") == "1", "the backlog")
        while b"$" not in replica.socket.recv(1 << 16):  # of the snapshot's announcement
            pass
    with server.connect(60) as asks:
        wait_for(lambda: asks.info("replication")["connected_slaves"] == "0", "the replica's end")


def minor_faults(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as file:
        return int(file.read().rsplit(")", 1)[1].split()[FIELD_MINOR_FAULTS])


def compressor_seconds(pid):
    """What the thread that compresses the backlog has used of a processor; 0 where there is none."""
    used_ns = 0
    for task in os.scandir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError):  # it has ended
            with open(os.path.join(task.path, "comm"), encoding="ascii") as name, \
                    open(os.path.join(task.path, "schedstat"), encoding="ascii") as used:
                used_ns += int(used.read().split()[0]) if name.read().strip() == "sw-backlog" else 0
    return used_ns / 1e9


def cost_ns(context, server, writes, seed):
    """CPU per write, that of the thread that compresses, and page faults per 1,000 writes."""
    faults, cpu_s, compressor_s = minor_faults(server.pid), cpu_seconds(server.pid), compressor_seconds(server.pid)
    client.run(context.client, server, ops=["set"], pipeline=64, requests=writes, keyspace=context.keys, seed=seed,
               connections=context.options.connections)
    return ((cpu_seconds(server.pid) - cpu_s) / writes * 1e9, (compressor_seconds(server.pid) - compressor_s) / writes * 1e9,
            (minor_faults(server.pid) - faults) / writes * 1000)


def log(context):
    writes = (QUICK_WRITES if context.options.quick else WRITES) // 10
    rounds = 3 if context.options.quick else SEQUENCE
    backlog = "1mb" if context.options.quick else "64mb"
    suite = Suite("repl-log", "what a write pays for the log",
                  "%d pairs of %s SETs of 64 bytes at pipeline 64, %s keys, on a server with a backlog of %s and on one "
                  "without; the difference is the median of those of the pairs" % (
                      rounds, number(writes), number(context.keys), backlog))
    for workers, specs in workers_of(context):
        case = suite.case("workers: " + workers, [WITHOUT, WITH, PRICE, WORKERS, FAULTS])
        for spec in specs:
            servers = context.start_all([spec.with_arguments(spec.name, "--repl-backlog-size", backlog)] * 2, suite)
            if len(servers) < 2:
                continue
            without, logs = servers
            context.load(without)
            context.load(logs)
            begin_backlog(logs)
            for _ in range(2 if context.options.quick else 10):
                cost_ns(context, logs, writes, 0)  # the backlog is full, and its memory there
            differences, of_workers = [], []
            for turn in range(rounds):
                cost = {server: cost_ns(context, server, writes, turn + 1) for server in rotated(servers, turn)}
                case.add(spec.name, without_ns=cost[without][0], with_ns=cost[logs][0], faults=cost[logs][2])
                differences.append(cost[logs][0] - cost[without][0])
                of_workers.append(differences[-1] - cost[logs][1])
            case.add(spec.name, price_ns=statistics.median(differences), workers_ns=statistics.median(of_workers))
            context.log("repl-log: %s, workers %s" % (spec.name, workers))
            stop_all()
    return suite
