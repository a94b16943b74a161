"""The suites that compare under load: pipeline64, pipeline1, mget, ttl, values, halfload, scaling, backends."""

import statistics

from . import client
from .context import rotated
from .processes import stop_all
from .results import CPU, P50, P99, P999, THROUGHPUT, Suite, number

OPERATIONS = (("GET", "get"), ("SET", "set"))


def measure(context, case, server, **options):
    """One sample; a failure is noted and does not end the run."""
    try:
        report = context.run(server, **options)
    except client.ClientError as error:
        context.log("%s %s: %s" % (server.name, case.name, error))
        case.fail(server.name, error)
        return None
    case.add_report(server.name, report)
    return report


def closed_loop(context, name, title, pipeline):
    """GET and SET on all servers and the floor, interleaved."""
    suite = Suite(name, title, "%d connections, 64-byte values, %s keys, uniform; %d round%s of %g s" % (
        context.options.connections, number(context.keys), context.rounds, "s"[:context.rounds != 1], context.seconds))
    servers = context.start_all(context.specs, suite)
    floors = {}
    for _, operation in OPERATIONS:
        floors[operation] = context.start_all(context.floor_specs(operation), suite)
    for server in servers:
        context.load(server)
    metrics = [THROUGHPUT, CPU, P50, P99, P999]
    cases = [(suite.case("%s, pipeline %d" % (label, pipeline), metrics), operation)
             for label, operation in OPERATIONS]
    for turn in range(context.rounds):
        for case, operation in cases:
            for server in rotated(servers + floors[operation], turn):
                measure(context, case, server, pipeline=pipeline, ops=[operation],
                        connections=context.options.connections, seed=turn + 1)
        context.log("%s: round %d of %d" % (name, turn + 1, context.rounds))
    for case, _ in cases:
        remark_floor(suite, case, [server.name for server in servers])
    stop_all()
    return suite


def remark_floor(suite, case, names):
    """How far everybody is from a server that does not even parse, in CPU per command."""
    floors = [case.median(name, "cpu_us") for name in case.servers() if name.startswith("floor")]
    floors = [value for value in floors if value]
    if not floors:
        return
    parts = ["%s %.2fx" % (name, case.median(name, "cpu_us") / min(floors))
             for name in names if case.median(name, "cpu_us")]
    suite.remark("%s: CPU per command over the cheaper floor: %s" % (case.name, ", ".join(parts)))


def rows(context, name, title, note, kinds):
    """All servers under each of several loads, interleaved: kinds are (label, keys, prepared load or None, options).

    What is loaded first is what the commands of the row find.
    """
    suite = Suite(name, title, note)
    servers = context.start_all(context.specs, suite)
    for label, keys, prepared, options in kinds:
        case = suite.case(label, [THROUGHPUT, CPU, P50, P99])
        for server in servers:
            with server.connect(60) as connection:
                connection.call("FLUSHALL")
            if prepared is not None:
                context.load(server, keys, **prepared)
        for turn in range(context.rounds):
            for server in rotated(servers, turn):
                measure(context, case, server, seed=turn + 1, keyspace=keys,
                        connections=context.options.connections, **options)
        context.log("%s: %s" % (name, label))
    stop_all()
    return suite


def mget(context):
    kinds = [("%s of ten, pipeline %d" % (command.upper(), depth), context.keys, {},
              {"pipeline": depth, "ops": [command + "10"]}) for depth in (64, 1) for command in ("mget", "mset")]
    return rows(context, "mget", "ten keys a command", "64-byte values, %s keys, uniform" % number(context.keys), kinds)


FAR = "1000000000"  # milliseconds: nothing expires meanwhile


def ttl(context):
    """What a time to live costs whoever sets it, changes it, asks for it and reads past it."""
    with_ttl = {"ops": ["set:1:SET __key__ __value__ PX " + FAR]}
    commands = [("GET of keys with a TTL", ["get"]), ("SET PX", ["set:1:SET __key__ __value__ PX " + FAR]),
                ("SET KEEPTTL", ["set:1:SET __key__ __value__ KEEPTTL"]), ("PEXPIRE", ["pexpire:1:PEXPIRE __key__ " + FAR]),
                ("PTTL", ["pttl:1:PTTL __key__"])]
    kinds = [(label + ", pipeline 64", context.keys, with_ttl, {"pipeline": 64, "ops": ops}) for label, ops in commands]
    return rows(context, "ttl", "keys with a time to live", "64-byte values, %s keys, uniform" % number(context.keys), kinds)


def values(context):
    """GET and SET by size of the value: as many keys as make 64 MB at most."""
    kinds = []
    for size, depth in ((16, 64), (256, 64), (1024, 64), (4096, 16), (16384, 16), (65536, 4)):
        keys = max(min(context.keys, (64 << 20) // size), 100)
        kinds += [("%s of %s bytes, pipeline %d" % (label, number(size), depth), keys, {"value_bytes": size},
                   {"pipeline": depth, "ops": [operation], "value_bytes": size}) for label, operation in OPERATIONS]
    return rows(context, "values", "by size of the value", "uniform over at most %s keys and 64 MB" % number(context.keys), kinds)


def pipeline64(context):
    return closed_loop(context, "pipeline64", "throughput and CPU with deep pipelines", 64)


def pipeline1(context):
    return closed_loop(context, "pipeline1", "one request at a time on each connection", 1)


def halfload(context):
    """Open loop at half of what the base server can do: latencies that a user sees on a server that is not saturated."""
    suite = Suite("halfload", "latency at half of %s's peak" % context.base)
    servers = context.start_all(context.specs, suite)
    by_name = {server.name: server for server in servers}
    if context.base not in by_name:
        suite.remark("the base server %s is missing" % context.base)
        stop_all()
        return suite
    for server in servers:
        context.load(server)
    mix = {"ratio": "1:10", "connections": context.options.connections, "pipeline": 1}
    peaks = [context.run(by_name[context.base], **mix)["requests_per_second"] for _ in range(3)]
    rate = round(statistics.median(peaks) / 2)
    suite.note = ("open loop, %s requests/s (half of %s's closed-loop peak of %s), 1:10 SET:GET, "
                  "%d connections; latency from the time a request was due" % (
                      number(rate), context.base, number(rate * 2), context.options.connections))
    case = suite.case("1:10 SET:GET", [P50, P99, P999, CPU])
    for turn in range(context.rounds):
        for server in rotated(servers, turn):
            report = measure(context, case, server, rate=rate, seed=turn + 1, **mix)
            if report is not None and report["unanswered"] > 0:
                suite.remark("%s left %d requests unanswered" % (server.name, report["unanswered"]))
            if report is not None:
                case.add(server.name, lag99=report["send_lag_us"]["p99"])
        context.log("halfload: round %d of %d" % (turn + 1, context.rounds))
    lags = [case.median(name, "lag99") for name in case.servers()]
    if lags:
        suite.remark("the client itself sent 1 %% of the requests more than %.0f us late (median; "
                     "part of every latency above)" % statistics.median(lags))
    stop_all()
    return suite


def variants(context, name, title, note, settings, loads):
    """The same server with different options, under several loads, interleaved."""
    suite = Suite(name, title, note)
    specs = [spec.with_arguments("%s %s" % (spec.name, label), *arguments)
             for spec in context.slotwise_specs() for label, arguments in settings]
    if not specs:
        suite.remark("no slotwise binary was given")
        return suite, []
    servers = context.start_all(specs + [context.base_spec()], suite)
    for server in servers:
        context.load(server)
    cases = [(suite.case(label, [THROUGHPUT, CPU, P50, P99]), options) for label, options in loads]
    for turn in range(context.rounds):
        for case, options in cases:
            for server in rotated(servers, turn):
                measure(context, case, server, seed=turn + 1,
                        connections=context.options.connections, **options)
        context.log("%s: round %d of %d" % (name, turn + 1, context.rounds))
    stop_all()
    return suite, [case for case, _ in cases]


def scaling(context):
    settings = [("1 worker", ["--io-threads", "1"]), ("2 workers", ["--io-threads", "2"])]
    loads = [("GET, pipeline 64", {"pipeline": 64, "ops": ["get"]}),
             ("GET, pipeline 1", {"pipeline": 1, "ops": ["get"]})]
    suite, cases = variants(context, "scaling", "one worker and two",
                            "the client needs cores too: on two, the second worker shares its core", settings,
                            loads)
    for case in cases:
        for spec in context.slotwise_specs():
            one, two = spec.name + " 1 worker", spec.name + " 2 workers"
            if case.median(one, "throughput") and case.median(two, "throughput"):
                suite.remark("%s, %s: 2 workers over 1: throughput %.2fx, CPU per command %.2fx" % (
                    case.name, spec.name, case.ratio(two, "throughput", one),
                    case.ratio(two, "cpu_us", one)))
    return suite


def backends(context):
    settings = [
        ("io_uring", ["--io-backend", "io_uring"]),
        ("epoll", ["--io-backend", "epoll"]),
    ]
    loads = [("1:10 SET:GET, pipeline %d" % depth, {"pipeline": depth, "ratio": "1:10"})
             for depth in (1, 16, 64)]
    suite, _ = variants(context, "backends", "io_uring against epoll", "",
                        settings, loads)
    return suite
