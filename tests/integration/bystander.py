"""A well-behaved client that must be served while others misbehave."""

import subprocess
import threading
import time

import harness
from resp import RawClient

# A wait on the server may be so many times the longest that the control knew.
CONTROL_FACTOR = 20


class Control:
    """A process that has nothing to do but to echo lines: what an exchange with it takes is the machine's doing."""

    def __init__(self):
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def exchange(self):
        self.process.stdin.write(b"x\n")
        assert self.process.stdout.readline() == b"x\n"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Bystander:
    """with Bystander(server): ... — SET and GET every few milliseconds; too slow or wrong a reply fails the test.

    Too slow is what takes longer than `longest` seconds, plus CONTROL_FACTOR times the longest exchange with a control process
    beside the same test, plus what the test has allowed: a command that keeps a worker busy for long is served first.
    """

    def __init__(self, server, longest=2.0, password=None):
        self.longest = longest * harness.SLOWNESS
        self.client = RawClient(*server.address(), timeout=harness.HANG_SECONDS * harness.SLOWNESS)
        if password or server.password:
            assert self.client.call("AUTH", password or server.password) == "OK"
        self.control = Control()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.slowest = 0.0
        self.slowest_control = 0.0
        self.allowed = 0.0
        self.served = 0
        self.failure = None

    def beside(self, client, *command):
        """A command that takes a worker some time, on another connection: the bystander may wait for as long as it does."""
        begin = time.monotonic()
        reply = client.call(*command)
        self.allowed = max(self.allowed, time.monotonic() - begin)
        return reply

    def _run(self):
        try:
            while not self.stopping.is_set():
                begin = time.monotonic()
                self.control.exchange()
                self.slowest_control = max(self.slowest_control, time.monotonic() - begin)
                value = b"%d" % self.served
                begin = time.monotonic()
                replies = self.client.pipeline([("SET", "bystander", value), ("GET", "bystander")])
                self.slowest = max(self.slowest, time.monotonic() - begin)
                if replies not in (["OK", value],):
                    raise AssertionError(f"the bystander got {replies!r}")
                self.served += 1
                self.stopping.wait(0.003)
        except Exception as error:  # noqa: B902  reported by __exit__
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(harness.HANG_SECONDS * harness.SLOWNESS)
        self.client.close()
        self.control.close()
        if kind is not None:
            return
        assert self.failure is None, f"the bystander failed: {self.failure!r}"
        assert self.served > 0, "the bystander was not served at all"
        limit = self.longest + CONTROL_FACTOR * self.slowest_control + self.allowed
        assert self.slowest < limit, (f"the bystander waited {self.slowest:.2f} s, the control {self.slowest_control:.3f} s, "
                                      f"the test's own commands {self.allowed:.2f} s")
