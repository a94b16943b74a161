"""Runs the bake-offs of bench/bakeoff/: small programs that each print their figures as JSON."""

import glob
import json
import os
import subprocess

from .processes import die_with_parent
from .results import Metric, Suite


def run_one(context, suite, binary):
    command = [binary] + (["--quick"] if context.options.quick else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                          stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
    if done.returncode != 0:
        suite.remark("%s failed: %s" % (os.path.basename(binary), done.stderr.strip()[-300:]))
        return
    result = json.loads(done.stdout)
    for group in result["groups"]:
        metrics = [Metric(m["key"], m["label"], m.get("unit", ""), m.get("less", True), m.get("digits", 1),
                          ratio=False) for m in result["metrics"]]
        case = suite.case("%s: %s" % (result["title"], group["name"]), metrics, "contender")
        for row in group["rows"]:
            case.add(row["name"], **row["values"])


def bakeoff(context):
    suite = Suite("bakeoff", "design questions, asked of the real code",
                  "each program repeats its measurements and prints medians")
    binaries = sorted(glob.glob(os.path.join(context.tools, "bakeoff", "bakeoff_*")))
    binaries = [path for path in binaries if os.access(path, os.X_OK) and os.path.isfile(path)]
    if not binaries:
        suite.remark("no bake-off is built")
    for binary in binaries:
        context.log("bakeoff: " + os.path.basename(binary))
        run_one(context, suite, binary)
    return suite
