"""Starting, measuring and stopping the servers under test.

Only what was started here is ever signalled, by its process handle. Every child dies with this process (PR_SET_PDEATHSIG), so
that an interrupted run leaves nothing behind.
"""

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import resp

PR_SET_PDEATHSIG = 1
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None, use_errno=True)
RUNNING = []


class Unavailable(Exception):
    """A server does not start, or lacks what a suite needs: the suite goes on without it."""


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    """CPU time of all threads of a process, exact: the scheduler's own sum (its clock id is derived from the pid)."""
    cpuclock_sched = 2
    return time.clock_gettime((~pid << 3) | cpuclock_sched)


def resident_bytes(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE_BYTES


def thread_names(pid):
    names = []
    for task in sorted(os.listdir("/proc/%d/task" % pid), key=int):
        try:
            with open("/proc/%d/task/%s/comm" % (pid, task), encoding="utf-8") as file:
                names.append(file.read().strip())
        except OSError:
            pass
    return names


class Spec:
    """A server that can be started: name, binary, further arguments."""

    def __init__(self, name, path, arguments=(), kind="resp"):
        self.name = name
        self.path = path
        self.arguments = list(arguments)
        self.kind = kind

    def with_arguments(self, name, *arguments):
        return Spec(name, self.path, self.arguments + list(arguments), self.kind)

    def command(self, port, directory):
        if self.kind == "floor":
            return [self.path, "--port", str(port)] + self.arguments
        return [
            self.path, "--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no",
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--dir", directory,
            "--maxclients", "15000", "--loglevel", "warning",
        ] + self.arguments


class Server:
    """A running server. Use as a context manager."""

    def __init__(self, spec, wrapper=(), start_timeout_s=20.0):
        self.spec = spec
        self.name = spec.name
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="slotwise-bench-")
        self.log_path = os.path.join(self.directory, "output")
        self.command = list(wrapper) + spec.command(self.port, self.directory)
        with open(self.log_path, "wb") as log:
            try:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    cwd=self.directory, preexec_fn=die_with_parent)
            except OSError as error:
                shutil.rmtree(self.directory, ignore_errors=True)
                raise Unavailable("%s: %s" % (spec.path, error)) from error
        RUNNING.append(self)
        self.pid = self.process.pid
        self._wait_until_ready(start_timeout_s)

    def _wait_until_ready(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.spec.kind == "floor":
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                    return
                with resp.Connection(self.port) as connection:
                    connection.call("PING")
                    return
            except (OSError, resp.ReplyError):
                time.sleep(0.02)
        output = self.output()[-500:]
        self.stop()
        raise Unavailable("%s does not start: %s" % (self.name, output or "no output"))

    def output(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read().strip()
        except OSError:
            return ""

    def connect(self, timeout_s=10.0):
        return resp.Connection(self.port, timeout_s)

    def stop(self):
        """May be called again if a signal interrupted it: the server stays listed until it is gone."""
        if self not in RUNNING:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
        RUNNING.remove(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def stop_all():
    for server in list(RUNNING):
        server.stop()


atexit.register(stop_all)
