"""The processes of bench/catchup: servers as nodes, and the script itself again as writer or probe.

Each is a session of its own, killed as a whole by its own id, and dies with the script. A node's figures are read by the main
thread; sample_memory may be called by one thread beside it, which alone writes peak_bytes and resident_bytes while it runs.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

from .catchup_links import Connection, Failure
from .processes import die_with_parent

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "catchup")


def launch(namespace, command, **keywords):
    if namespace is not None:
        command = ["ip", "netns", "exec", namespace, *command]
    return subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_parent, **keywords)


class Node:
    """One server: its process, its folder, and a connection that does not cross the link."""

    def __init__(self, bed, index, command):
        self.bed, self.index, self.command = bed, index, shlex.split(command)
        if "/" in self.command[0]:
            self.command[0] = os.path.abspath(self.command[0])  # the server starts in a folder of its own
        self.namespace = bed.net.namespace(index)
        self.port = bed.net.port(index)
        self.directory = os.path.join(bed.directory, f"node{index}")
        self.process = None
        self.connection = None
        self.counted = {}
        self.peak_bytes = 0
        self.resident_bytes = 0

    def start(self, leader=None):
        os.makedirs(self.directory, exist_ok=True)
        options = self.bed.options
        settings = {"port": self.port, "bind": "127.0.0.1" if options.loopback else "0.0.0.0", "protected-mode": "no", "save": "",
                    "dir": self.directory, "enable-debug-command": "yes", "repl-timeout": options.repl_timeout,
                    "repl-ping-replica-period": 1, "repl-backlog-size": f"{options.backlog_mb}mb", "repl-diskless-sync": "yes",
                    "repl-diskless-sync-delay": 0}
        words = [word for name, value in settings.items() for word in ("--" + name, str(value))]
        if leader is not None:
            words += ["--replicaof", *map(str, self.bed.net.way(self, leader))]
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = launch(self.namespace, [self.command[0], *words, *self.command[1:]], cwd=self.directory, stdout=log,
                                  stderr=log, stdin=subprocess.DEVNULL)
        self.counted = {}
        self.bed.wait(lambda: self.answers(), "server to answer")

    def answers(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.command[0]} ended with {self.process.returncode}: {self.log_end()}")
        with contextlib.suppress(OSError):
            return not str(self.call("PING")).startswith("-LOADING")
        return False

    def log_end(self):
        with open(os.path.join(self.directory, "server.log"), errors="replace") as log:
            return " / ".join(log.read().splitlines()[-4:])

    def call(self, *words):
        if self.connection is None:
            self.connection = Connection(self.namespace, self.port)
        try:
            return self.connection.call(*words)
        except OSError:
            self.hang_up()
            raise

    def demand(self, *words):
        answer = self.call(*words)
        if isinstance(answer, str) and answer.startswith("-"):
            raise Failure(f"{' '.join(map(str, words))}: {answer}")
        return answer

    def hang_up(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def info(self, section):
        lines = (line.split(":", 1) for line in self.call("INFO", section).splitlines() if ":" in line)
        return dict(lines)

    def offset(self):
        """How much of the stream it has, and whether it is the primary or linked to it."""
        info = self.info("replication")
        if info["role"] == "master":
            return int(info["master_repl_offset"]), True
        return int(info.get("slave_repl_offset", 0)), info["master_link_status"] == "up"

    def follow(self, leader):
        self.demand("REPLICAOF", *(("NO", "ONE") if leader is None else self.bed.net.way(self, leader)))

    def kill(self, wipe=False):
        """The whole session: a stock server's saving child too."""
        self.hang_up()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
        if wipe:
            shutil.rmtree(self.directory, ignore_errors=True)

    def syncs(self):
        """Full, partial and refused ones that it gave since they were last counted."""
        stats = self.info("stats")
        now = {name: int(stats[name]) for name in ("sync_full", "sync_partial_ok", "sync_partial_err")}
        grown = {name: value - self.counted.get(name, 0) for name, value in now.items()}
        self.counted = now
        return grown

    # Memory: the peak that the kernel keeps, and where a child shares pages with it, the sum of both shares.

    def forget_peak(self):
        self.peak_bytes = 0
        with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def sample_memory(self):
        process = self.process
        self.resident_bytes = 0
        with contextlib.suppress(OSError, AttributeError, ValueError):
            with open(f"/proc/{process.pid}/status") as file:
                sizes = {line.split(":")[0]: int(line.split()[1]) for line in file if line.startswith(("VmHWM", "VmRSS"))}
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                children = file.read().split()
            peak, resident = sizes.get("VmHWM", 0), sizes.get("VmRSS", 0)  # none: it is ending
            if children:
                resident = sum(proportional_kb(pid) for pid in (process.pid, *children))
            self.resident_bytes = resident * 1024
            self.peak_bytes = max(self.peak_bytes, peak * 1024, self.resident_bytes)


def proportional_kb(pid):
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("Pss:")), 0)


class Child:
    """This script again as writer or probe, in the namespace of the node that it talks to. It ends with its standard input."""

    def __init__(self, node, task, **arguments):
        arguments.update(port=node.port)
        self.process = launch(node.namespace, [sys.executable, SCRIPT, "--child", task, json.dumps(arguments)],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def wait(self):
        """Until it has ended, of its own or because its input did; returns what it says."""
        output, _ = self.process.communicate()
        if self.process.returncode:
            raise Failure("a writer or probe failed")
        return json.loads(output)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
