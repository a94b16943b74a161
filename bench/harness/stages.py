"""What each command costs by stage: instructions under callgrind, attributed to the source files that they come from.

The release build has line numbers, so an inlined function counts where it is written and not where it was inlined to. What comes
from the system's own headers counts for the function that it is inlined to.
"""

import re

from . import callgrind, client
from .results import Metric, Suite, number

# The first that fits, on "path" or on "object:" for what has no source here.
STAGES = [
    ("sockets", r"(^|/)(io|io_uring|io_epoll|listen|mailbox)\.[ch]$|liburing"),
    ("connection, batch", r"(^|/)(conn|input|batch|loop|connections|balance|worker|housekeeping)\.[ch]$"),
    ("parse", r"(^|/)resp_parse\.[ch]$"),
    ("dispatch", r"(^|/)(dispatch|execute|call|session|wait|transaction|pause|command_table|command_keys|command|statistics|"
                 r"error_statistics|latency|slowlog|config)\.[ch]$"),
    ("handler", r"(^|/)cmd_\w+\.[ch]$"),
    ("reply", r"(^|/)(reply|numbers|double_text|text)\.[ch]$"),
    ("hash, slot token", r"(^|/)(slot|slot_private|waiter|patience|exclusive|crc16|xxhash)\.[ch]$|xxhash"),
    ("table", r"(^|/)table\w*\.[ch]$"),
    ("object", r"(^|/)object\.[ch]$|/types/"),
    ("keyspace, expiry", r"(^|/)(keyspace|change|snapshot|watch|expiry|eviction|access|scan|random_slot|effect_log)\.[ch]$"),
    ("allocation, reclamation", r"(^|/)(memory|epoch|background)\.[ch]$|jemalloc|urcu"),
    ("clock", r"(^|/)clock\.[ch]$|vdso"),
    ("C library", r"^\./|^object:.*(libc|ld-linux|libm)[.-]"),  # the paths of its debug information start with a dot
]
TTL = "1000000000"
COMMANDS = [
    ("PING", {"ops": ["ping:1:PING"]}),
    ("GET", {"ops": ["get"]}),
    ("GET miss", {"ops": ["get"], "key_prefix": "no:"}),
    ("EXISTS", {"ops": ["exists:1:EXISTS __key__"]}),
    ("MGET of 10", {"ops": ["mget10"]}),
    ("SET", {"ops": ["set"]}),
    ("SET PX", {"ops": ["set:1:SET __key__ __value__ PX " + TTL]}),
    ("INCR", {"ops": ["incr"]}),
    ("PEXPIRE", {"ops": ["pexpire:1:PEXPIRE __key__ " + TTL]}),
    ("MSET of 10", {"ops": ["mset10"]}),
]
COST = re.compile(r"^[+*-]?\d* ?\*? ?(\d+)$")
NAME = re.compile(r"^c?(ob|fl|fi|fe|fn)=\((\d+)\)(?: (.*))?$")


def stage_of(where):
    return next((name for name, pattern in STAGES if re.search(pattern, where)), "other")


def by_stage(texts):
    """{stage: instructions} of callgrind's files."""
    costs = {}
    for text in texts:
        names, current = {}, {"ob": "", "fl": "", "fi": ""}
        is_call = False
        for line in text.splitlines():
            named = NAME.match(line)
            if named:
                kind, number, name = named.groups()
                space = "fl" if kind in ("fl", "fi", "fe") else kind
                if name is not None:
                    names[space, number] = name
                if not line.startswith("c"):
                    current["fi" if kind in ("fi", "fe") else kind] = names[space, number]
                    if kind == "fl":
                        current["fi"] = names[space, number]
            elif line.startswith("calls="):
                is_call = True  # the next line is the callee's cost, which stands with the callee as well
            elif line[:1] in "+-*0123456789" and line:
                cost = COST.match(line)
                if cost and not is_call:
                    path = current["fl"] if current["fi"].startswith("/usr/") else current["fi"]
                    where = path if path not in ("", "???") else "object:" + current["ob"]
                    stage = stage_of(where)
                    costs[stage] = costs.get(stage, 0) + int(cost.group(1))
                is_call = False
    return costs


def stages(context):
    suite = Suite("stages", "what each command costs by stage",
                  "user-space instructions a command at pipeline 64; one worker, epoll; %s keys, 64-byte values; the kernel is "
                  "not in it" % number(callgrind.KEYS))
    if callgrind.missing_tools(suite):
        return suite
    for spec in context.slotwise_specs():
        case = suite.case(spec.name + ", instructions", [
            Metric(label, label, digits=0, ratio=False) for label, _ in COMMANDS], "stage")
        server = None
        try:
            server = callgrind.start(context, spec, suite)
            if server is None:
                continue
            found = {}
            for label, load in COMMANDS:
                context.log("stages: " + label)
                found[label] = callgrind.instructions(context, server, by_stage, pipeline=64, **load)
            for name in [name for name, _ in STAGES] + ["other"]:
                values = {label: costs[name] for label, costs in found.items() if costs.get(name, 0) >= 0.5}
                if values:
                    case.add(name, **values)
            case.add("all", **{label: sum(costs.values()) for label, costs in found.items()})
        except (client.ClientError, OSError) as error:
            suite.remark("%s: %s" % (spec.name, error))
        finally:
            if server is not None:
                server.stop()
    return suite
