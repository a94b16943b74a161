"""A well-behaved client that must be served while others misbehave."""

import threading
import time

import harness
from resp import RawClient


class Bystander:
    """with Bystander(server): ... — SET and GET every few milliseconds; too slow or wrong a reply fails the test."""

    def __init__(self, server, longest=2.0, password=None):
        self.longest = longest * harness.SLOWNESS
        self.client = RawClient(*server.address(), timeout=30 * harness.SLOWNESS)
        if password or server.password:
            assert self.client.call("AUTH", password or server.password) == "OK"
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.slowest = 0.0
        self.served = 0
        self.failure = None

    def _run(self):
        try:
            while not self.stopping.is_set():
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
        self.thread.join(30 * harness.SLOWNESS)
        self.client.close()
        if kind is not None:
            return
        assert self.failure is None, f"the bystander failed: {self.failure!r}"
        assert self.served > 0, "the bystander was not served at all"
        assert self.slowest < self.longest, f"the bystander waited {self.slowest:.2f} s"
