"""Benchmarks: builds the release, runs servers side by side in interleaved rounds, prints medians and ratios.

    bench/run                                  the suites that take minutes, not the long ones
    bench/run --quick all                      does everything work? About a minute; the figures are rough
    bench/run --quick pipeline64 memory        a look at two of them
    bench/run all --json r.json --html r.html  everything, with plots

See bench/README.md for the method.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
BENCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(BENCH)
sys.path.insert(0, BENCH)

from harness import bakeoff, callgrind, collection_suites, footprint, page, publishing, replicas, replication  # noqa: E402
from harness import results, slowest, snapshot, stages, suites  # noqa: E402
from harness.client import ClientError  # noqa: E402
from harness.context import Context  # noqa: E402
from harness.processes import Spec, Unavailable, stop_all  # noqa: E402

SUITES = {
    "pipeline64": suites.pipeline64,
    "pipeline1": suites.pipeline1,
    "mget": suites.mget,
    "ttl": suites.ttl,
    "values": suites.values,
    "halfload": suites.halfload,
    "collections": collection_suites.cpu,
    "collections-memory": collection_suites.memory,
    "publish": publishing.publish,
    "memory": footprint.memory,
    "idle": footprint.idle,
    "connections": footprint.connections,
    "scaling": suites.scaling,
    "slowest": slowest.slowest,
    "snapshot": snapshot.snapshot,
    "repl-apply": replicas.apply,
    "repl-log": replicas.log,
    "save": snapshot.whole_file,
    "callgrind": callgrind.callgrind,
    "stages": stages.stages,
    "backends": suites.backends,
    "bakeoff": bakeoff.bakeoff,
    **replication.SUITES,
}
DEFAULT_SUITES = ["pipeline64", "pipeline1", "mget", "ttl", "values", "halfload", "memory", "idle", "connections"]
QUICK = {"rounds": 1, "seconds": 0.2, "warmup": 0.05, "keys": 20000, "memory_keys": 100000, "idle_seconds": 0.5}
FULL = {"rounds": 7, "seconds": 3.0, "warmup": 0.5, "keys": 1000000, "memory_keys": 5000000, "idle_seconds": 10.0}


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="suites: all " + " ".join(SUITES))
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="default: " + " ".join(DEFAULT_SUITES))
    parser.add_argument("--server", action="append", default=[], metavar="NAME=PATH[:ARGS]",
                        help="a server to measure; may be repeated (default: slotwise, redis, and valkey if installed)")
    parser.add_argument("--base", help="the server that ratios are taken to (default: redis)")
    parser.add_argument("--quick", action="store_true", help="does everything work? One short round, few keys; the figures mean little")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (7)")
    parser.add_argument("--seconds", type=float, help="measured time of a sample (3)")
    parser.add_argument("--warmup", type=float, help="load before a sample (0.5)")
    parser.add_argument("--keys", type=int, help="keyspace of the load suites (1000000)")
    parser.add_argument("--memory-keys", type=int, help="keys of memory and slowest (5000000)")
    parser.add_argument("--idle-seconds", type=float, help="how long idle servers are watched (10)")
    parser.add_argument("--connections", type=int, default=50, help="client connections (50)")
    parser.add_argument("--client-threads", type=int, default=1, help="threads of the load client (1)")
    parser.add_argument("--pin-client", metavar="CPUS", help="confine the client to processors, as for taskset -c")
    parser.add_argument("--pin-servers", metavar="CPUS", help="likewise every server")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    parser.add_argument("--html", metavar="FILE", help="write a self-contained page with plots there")
    parser.add_argument("--no-build", action="store_true", help="take the binaries as they are")
    parser.add_argument("--tools", metavar="DIR", help="where bench_client is (build/release/bench)")
    parser.add_argument("--silent", action="store_true", help="no progress on standard error")
    options = parser.parse_args()
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if "all" in options.suites:
        options.suites = list(SUITES)
    options.suites = options.suites or DEFAULT_SUITES
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error("no suite called %s; there are: all %s" % (unknown[0], " ".join(SUITES)))
    return options


def build(options):
    if options.no_build:
        return
    if not options.silent:
        print("building the release", file=sys.stderr, flush=True)
    for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release"]):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)
        if done.returncode != 0:
            sys.exit("%s failed:\n%s" % (" ".join(command), done.stdout[-3000:]))


def find_servers(options):
    """What was asked for, or what is there."""
    specs = []
    for text in options.server:
        name, separator, rest = text.partition("=")
        path, _, arguments = rest.partition(":")
        path = shutil.which(path) or path
        if not separator or not os.access(path, os.X_OK):
            sys.exit("--server %s: expected NAME=PATH[:ARGS] with a program at PATH" % text)
        specs.append(Spec(name, os.path.abspath(path), arguments.split()))
    if specs:
        return specs
    candidates = [("slotwise", os.path.join(ROOT, "build", "release", "slotwise-server")),
                  ("redis", "/usr/bin/redis-server"), ("valkey", "/usr/bin/valkey-server")]
    for name, path in candidates:
        if os.access(path, os.X_OK):
            specs.append(Spec(name, path))
        elif name != "valkey":
            print("%s is left out: there is no %s" % (name, path), file=sys.stderr)
    return specs or sys.exit("there is no server to measure")


def describe_machine(specs):
    cpu = "unknown"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    machine = {"processor": cpu, "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
               "date": time.strftime("%Y-%m-%d %H:%M:%S"),
               "load before": "%.2f" % os.getloadavg()[0],
               "command": " ".join(["bench/run"] + sys.argv[1:])}
    for spec in specs:
        done = subprocess.run([spec.path, "--version"], capture_output=True, text=True, timeout=10, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        version = lines[0] if lines else "no version"
        machine[spec.name] = " ".join([version] + spec.arguments)
    return machine


def run_suites(context, machine):
    """Each suite is printed and saved as soon as it is done: an interrupted run keeps what it has."""
    done = []
    for name in context.options.suites:
        context.log("suite " + name)
        try:
            suite = SUITES[name](context)
        except (ClientError, Unavailable, OSError, subprocess.TimeoutExpired) as error:
            suite = results.Suite(name, "failed")
            suite.remark("%s: %s" % (type(error).__name__, error))
        stop_all()
        done.append(suite)
        print(results.suite_text(suite, context.base), flush=True)
        save(context, machine, done)
    return done


def save(context, machine, done):
    if context.options.json:
        with open(context.options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine, "base": context.base,
                       "suites": [suite.as_json(context.base) for suite in done]}, file, indent=1)
    if context.options.html:
        with open(context.options.html, "w", encoding="utf-8") as file:
            file.write(page.render(done, machine, context.base))


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    build(options)
    specs = find_servers(options)
    tools = os.path.abspath(options.tools or os.path.join(ROOT, "build", "release", "bench"))
    if not os.access(os.path.join(tools, "bench_client"), os.X_OK):
        sys.exit("there is no bench_client in " + tools)
    machine = describe_machine(specs)
    for name, value in machine.items():
        print("%-12s %s" % (name, value))
    try:
        run_suites(Context(options, specs, tools), machine)
    except KeyboardInterrupt:
        sys.exit("interrupted")
    finally:
        stop_all()


if __name__ == "__main__":
    main()
