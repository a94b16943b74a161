"""What all suites share: the tools, the servers, how long and how often."""

import os
import sys
import time

from . import client
from .processes import Server, Spec, Unavailable


class Context:
    """Filled from the command line by bench/run."""

    def __init__(self, options, specs, tools):
        self.options = options
        self.specs = specs
        self.tools = tools
        names = [spec.name for spec in specs]
        self.base = options.base if options.base in names else names[-1]
        if options.base is None:
            self.base = "redis" if "redis" in names else names[-1]
        self.client = pinned(options.pin_client) + [os.path.join(tools, "bench_client")]
        self.floor_binary = os.path.join(tools, "bench_floor")
        self.rounds = options.rounds
        self.seconds = options.seconds
        self.warmup = options.warmup
        self.keys = options.keys

    def log(self, text):
        if not self.options.silent:
            print("[%s] %s" % (time.strftime("%H:%M:%S"), text), file=sys.stderr, flush=True)

    def slotwise_specs(self):
        return [spec for spec in self.specs if "slotwise" in os.path.basename(spec.path)]

    def base_spec(self):
        return next(spec for spec in self.specs if spec.name == self.base)

    def start(self, spec, suite=None, wrapper=(), timeout_s=20.0):
        """Starts a server, or notes in the suite why not and returns None."""
        try:
            return Server(spec, pinned(self.options.pin_servers) + list(wrapper), timeout_s)
        except Unavailable as error:
            if suite is None:
                raise
            self.log(str(error))
            suite.remark("%s is left out: %s" % (spec.name, str(error)[:300]))
            return None

    def start_all(self, specs, suite):
        servers = [self.start(spec, suite) for spec in specs]
        return [server for server in servers if server is not None]

    def load(self, server, keys=None, **options):
        keys = self.keys if keys is None else keys
        self.log("%s: loading %d keys" % (server.name, keys))
        return client.run(self.client, server, load=keys, connections=16, **options)

    def run(self, server, **options):
        options.setdefault("keyspace", self.keys)
        options.setdefault("warmup", self.warmup)
        options.setdefault("seconds", self.seconds)
        options.setdefault("threads", self.options.client_threads)
        return client.run(self.client, server, **options)

    def floor_specs(self, reply):
        """The floor on both of its backends, answering as to GET or as to SET."""
        return [
            Spec("floor " + backend, self.floor_binary,
                 ["--backend", backend, "--reply", reply], kind="floor")
            for backend in ("epoll", "io_uring")
        ]


def pinned(processors):
    """The command that confines another to a list of processors, if there is one."""
    return ["taskset", "-c", processors] if processors else []


def rotated(items, by):
    """Everybody is first sometimes: what the machine does to whoever runs after whom evens out."""
    by %= max(len(items), 1)
    return items[by:] + items[:by]
