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

from . import client
from .results import Metric, Suite

KEYS = 20000
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


def dump_total(server):
    """Dumps the counters, which zeroes them, and returns the instructions since the last dump."""
    pattern = os.path.join(server.directory, "callgrind.out*")
    before = set(glob.glob(pattern))
    control(server, "--dump")
    new = [path for path in set(glob.glob(pattern)) - before]
    if not new:
        raise client.ClientError("callgrind wrote no dump")
    total = 0
    for path in new:
        with open(path, encoding="utf-8", errors="replace") as file:
            sums = re.findall(r"^(?:totals|summary): (\d+)", file.read(), re.M)
        total += int(sums[-1]) if sums else 0
    return total


def instructions(context, server, operation):
    """Instructions per command of one kind at pipeline 64."""
    counts = []
    for requests in (SHORT, LONG):
        dump_total(server)
        client.run(context.client, server, ops=[operation], pipeline=64, keyspace=KEYS,
                   connections=CONNECTIONS, requests=requests)
        counts.append(dump_total(server))
    return (counts[1] - counts[0]) / (LONG - SHORT)


def callgrind(context):
    suite = Suite("callgrind", "instructions per command at pipeline 64",
                  "user-space instructions of the whole process; one worker, epoll; %d keys" % KEYS)
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        suite.remark("valgrind is not installed")
        return suite
    cases = [(suite.case(label, [Metric("instructions", "instructions/command", digits=0)]), operation)
             for label, operation in (("GET", "get"), ("SET", "set"))]
    slotwise = context.slotwise_specs()
    for spec in context.specs:
        one = spec
        if spec in slotwise:
            one = spec.with_arguments(spec.name, "--io-threads", "1", "--io-backend", "epoll")
        wrapper = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file=callgrind.out"]
        server = context.start(one, suite, wrapper, timeout_s=120)
        if server is None:
            continue
        try:
            context.log("callgrind: " + spec.name)
            context.load(server, KEYS)
            control(server, "--instr=on")
            for case, operation in cases:
                case.add(spec.name, instructions=instructions(context, server, operation))
        except (client.ClientError, OSError) as error:
            suite.remark("%s: %s" % (spec.name, error))
        finally:
            server.stop()
    return suite
