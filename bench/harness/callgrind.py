"""Instructions per command under callgrind.

Counting is switched on around the load and dumped after each of two runs of different length: the difference of the two
counts over the difference of their lengths leaves out whatever does not grow with the number of commands. Counts hardly
depend on how busy the machine is.
"""

import glob
import os
import re
import shutil
import subprocess
import time

from . import client, resp
from .results import Metric, Suite, number

KEYS = 20000
QUICK_DIVISOR = 10
SHORT, LONG = 12800, 51200
CONNECTIONS = 4


def control(server, *arguments):
    """callgrind_control needs the server to reach a system call's end now and then: a PING before and after sees to it."""
    process = subprocess.Popen(["callgrind_control"] + list(arguments) + [str(server.pid)],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        with server.connect(60) as connection:
            connection.call("PING")
    if process.poll() is None:
        process.kill()
        raise client.ClientError("callgrind_control %s does not return" % " ".join(arguments))
    output = process.communicate()[0]
    if process.returncode != 0 or "Error" in output:
        raise client.ClientError("callgrind_control: " + output.strip()[-200:])


def dump(server):
    """Dumps the counters, which zeroes them, and returns the texts of the files with what has happened since the last dump."""
    pattern = os.path.join(server.directory, "callgrind.out*")
    before = set(glob.glob(pattern))
    control(server, "--dump")
    new = [path for path in set(glob.glob(pattern)) - before]
    if not new:
        raise client.ClientError("callgrind wrote no dump")
    texts = []
    for path in new:
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return texts


def total(texts):
    """{"all": instructions}"""
    sums = [re.findall(r"^(?:totals|summary): (\d+)", text, re.M) for text in texts]
    return {"all": sum(int(found[-1]) for found in sums if found)}


def instructions(context, server, count=total, **load):
    """{what: instructions per command} of a load; `count` makes {what: instructions} of a dump."""
    divisor = QUICK_DIVISOR if context.options.quick else 1
    counts = []
    for requests in (SHORT // divisor, LONG // divisor):
        dump(server)
        client.run(context.client, server, keyspace=KEYS, connections=CONNECTIONS, requests=requests, seed=1, **load)
        counts.append(count(dump(server)))
    commands = (LONG - SHORT) // divisor
    return {what: (counts[1][what] - counts[0].get(what, 0)) / commands for what in counts[1]}


def missing_tools(suite):
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        suite.remark("valgrind is not installed")
        return True
    return False


def stop_time_slices(server):
    """What goes by time would go by the instrument's. A server that cannot do it is measured as it is."""
    with server.connect(60) as connection:
        try:
            connection.call("DEBUG", "TIME-SLICES", "0")
        except resp.ReplyError:
            pass


def start(context, spec, suite):
    """A server under callgrind, with its keys loaded and counting switched on; None, with a remark, if it does not start."""
    one = spec
    if spec in context.slotwise_specs():
        one = spec.with_arguments(spec.name, "--io-threads", "1", "--io-backend", "epoll",
                                  "--enable-debug-command", "local")
    wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out"]
    server = context.start(one, suite, wrapper, timeout_s=120)
    if server is not None:
        context.load(server, KEYS)
        if one is not spec:
            stop_time_slices(server)
        control(server, "--instr=on")
    return server


def callgrind(context):
    suite = Suite("callgrind", "instructions per command at pipeline 64",
                  "user-space instructions of the whole process; one worker, epoll; %s keys" % number(KEYS))
    if missing_tools(suite):
        return suite
    cases = [(suite.case(label, [Metric("instructions", "instructions/command", digits=0)]), operation)
             for label, operation in (("GET", "get"), ("SET", "set"))]
    for spec in context.specs:
        server = None
        try:
            context.log("callgrind: " + spec.name)
            server = start(context, spec, suite)
            if server is None:
                continue
            for case, operation in cases:
                case.add(spec.name, instructions=instructions(context, server, ops=[operation], pipeline=64)["all"])
        except (client.ClientError, OSError) as error:
            suite.remark("%s: %s" % (spec.name, error))
        finally:
            if server is not None:
                server.stop()
    return suite
