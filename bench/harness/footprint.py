"""The suites about what a server holds: memory, idle, connections."""

import time

from . import client
from .processes import cpu_seconds, resident_bytes, stop_all, thread_names
from .results import Metric, Suite, number

KEY_BYTES = 16
VALUE_BYTES = 64
IDLE_CONNECTIONS = 10000


def settled_resident_bytes(context, pid, limit_s=5.0):
    """RSS once it has stopped moving (background freeing, page return), or after the limit."""
    deadline = time.monotonic() + limit_s
    last = resident_bytes(pid)
    while time.monotonic() < deadline:
        time.sleep(0.1 if context.options.quick else 0.5)
        now = resident_bytes(pid)
        if abs(now - last) <= 65536:
            return now
        last = now
    return last


def used_memory(server):
    with server.connect() as connection:
        return int(connection.info("memory").get("used_memory", 0))


def memory_case(context, suite, case, keys, value_bytes, options):
    for spec in context.specs:
        server = context.start(spec, suite)
        if server is None:
            continue
        try:
            before, used_before = settled_resident_bytes(context, server.pid), used_memory(server)
            report = context.load(server, keys, value_bytes=value_bytes, **options)
            after, used_after = settled_resident_bytes(context, server.pid), used_memory(server)
            with server.connect() as connection:
                stored = connection.call("DBSIZE")
            if stored != keys:
                raise client.ClientError("%d keys are there instead of %d" % (stored, keys))
            payload = KEY_BYTES + value_bytes
            case.add(spec.name, per_key=(after - before) / keys - payload,
                     accounted=(used_after - used_before) / keys - payload, rss_mb=after / 1e6,
                     load_rate=report["requests_per_second"])
        except client.ClientError as error:
            case.fail(spec.name, error)
        finally:
            server.stop()


def memory(context):
    """Bytes per key beyond its key and value, by RSS. One server at a time: they would share the machine's memory."""
    most = context.options.memory_keys
    suite = Suite("memory", "bytes per key beyond key and value", "keys of %d bytes, by resident set" % KEY_BYTES)
    with_ttl = {"ops": ["set:1:SET __key__ __value__ PX 1000000000"]}
    for value_bytes, label, options in ((VALUE_BYTES, "", {}), (VALUE_BYTES, " with a TTL", with_ttl), (16, "", {}),
                                        (256, "", {}), (1024, "", {}), (4096, "", {})):
        keys = min(most, most * 4 * VALUE_BYTES // value_bytes)
        case = suite.case("%s values of %s bytes%s" % (number(keys), number(value_bytes), label), [
            Metric("per_key", "bytes/key beyond payload", digits=1),
            Metric("accounted", "the same by used_memory", digits=1),
            Metric("rss_mb", "RSS", "MB", digits=0),
            Metric("load_rate", "SETs/s while loading", less=False, digits=0),
        ])
        memory_case(context, suite, case, keys, value_bytes, options)
    return suite


def idle(context):
    """What a server costs that has nothing to do."""
    seconds = context.options.idle_seconds
    suite = Suite("idle", "a server without clients", "2 workers where it has workers; CPU over %g s" % seconds)
    case = suite.case("idle", [
        Metric("rss_mb", "RSS", "MB", digits=1),
        Metric("cpu_percent", "CPU", "% of a core", digits=3),
        Metric("threads", "threads", digits=0, ratio=False),
    ])
    slotwise = context.slotwise_specs()
    specs = [spec.with_arguments(spec.name, "--io-threads", "2") if spec in slotwise else spec
             for spec in context.specs]
    servers = context.start_all(specs, suite)
    time.sleep(1)
    before = {server.name: cpu_seconds(server.pid) for server in servers}
    start = time.monotonic()
    time.sleep(seconds)
    for server in servers:
        passed = time.monotonic() - start
        used = cpu_seconds(server.pid) - before[server.name]
        case.add(server.name, rss_mb=resident_bytes(server.pid) / 1e6,
                 cpu_percent=used / passed * 100, threads=len(thread_names(server.pid)))
    stop_all()
    return suite


def hold_connections(context, server, count):
    """(RSS before, RSS with `count` idle connections, clients that the server counts)."""
    before = settled_resident_bytes(context, server.pid)
    holder = client.Background(context.client, server, idle=count, hold=120)
    try:
        line = holder.read_line()
        if "idle_connections" not in line:
            _, errors = holder.process.communicate(timeout=10)
            raise client.ClientError("no %d connections: %s" % (count, errors.strip()[-200:]))
        during = settled_resident_bytes(context, server.pid)
        with server.connect() as connection:
            clients = int(connection.info("clients").get("connected_clients", 0))
    finally:
        holder.kill()
    return before, during, clients


def connections(context):
    """Bytes of server memory per idle connection that has answered one PING. The kernel's share is not in the RSS."""
    suite = Suite("connections", "%s idle connections" % number(IDLE_CONNECTIONS), "growth of the resident set")
    case = suite.case("after one PING each", [
        Metric("per_connection", "bytes/connection", digits=0),
        Metric("rss_mb", "RSS", "MB", digits=1),
    ])
    for spec in context.specs:
        server = context.start(spec, suite)
        if server is None:
            continue
        try:
            before, during, clients = hold_connections(context, server, IDLE_CONNECTIONS)
            if clients < IDLE_CONNECTIONS:
                suite.remark("%s says that it has %d clients" % (spec.name, clients))
            case.add(spec.name, per_connection=(during - before) / IDLE_CONNECTIONS, rss_mb=during / 1e6)
        except client.ClientError as error:
            case.fail(spec.name, error)
        finally:
            server.stop()
    return suite
