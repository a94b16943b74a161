"""Hosts for tests: network namespaces that a bridge joins, each with an address of its own, and servers that run in them.

Only the thread that called setns looks out of a namespace, so a test uses these from its main thread alone.
"""

import contextlib
import ctypes
import os
import subprocess

import pytest

import harness

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace):
    """Sockets that this thread makes meanwhile belong to the namespace."""
    with open("/proc/thread-self/ns/net", encoding="ascii") as home, open("/run/netns/" + namespace, encoding="ascii") as other:
        if _LIBC.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + namespace)
        try:
            yield
        finally:
            _LIBC.setns(home.fileno(), CLONE_NEWNET)


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Hosts:
    """A host for each address, and a switch between them."""

    serial = 0

    def __init__(self, addresses):
        Hosts.serial += 1
        stem = f"slotwise-{os.getpid()}-{Hosts.serial}-"
        self.made = []
        self.namespaces = {}
        try:
            switch = self._add(stem + "switch")
            _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", switch, "link", "set", "bridge", "up")
            for index, address in enumerate(addresses):
                host = self.namespaces[address] = self._add(f"{stem}{index}")
                _ip("-n", switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", "eth0", "netns", host)
                _ip("-n", switch, "link", "set", f"port{index}", "master", "bridge", "up")
                _ip("-n", host, "link", "set", "lo", "up")
                _ip("-n", host, "addr", "add", address + "/24", "dev", "eth0")
                _ip("-n", host, "link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    def _add(self, name):
        _ip("netns", "add", name)
        self.made.append(name)
        return name

    def run(self, address, *command, **keywords):
        """A program on this host; what it wrote to both outputs, in one."""
        keywords.setdefault("timeout", harness.HANG_SECONDS * harness.SLOWNESS)
        return subprocess.run(["ip", "netns", "exec", self.namespaces[address], *map(str, command)], text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords)

    def close(self):
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.made = []


def hosts_or_skip(addresses):
    try:
        hosts = Hosts(addresses)
    except OSError as error:
        pytest.skip(f"no network namespaces here: {error}")
    try:
        with inside(hosts.namespaces[addresses[0]]):
            pass
    except OSError as error:
        hosts.close()
        pytest.skip(f"no network namespaces here: {error}")
    return hosts


class HostServer(harness.Server):
    """A server on one of the hosts. It listens on all addresses of its host."""

    def __init__(self, options=None, *, hosts, host, **keywords):
        self.namespace = hosts.namespaces[host]
        self.host = host
        settings = {"bind": None, "protected-mode": "no"}
        settings.update(options or {})
        super().__init__(settings, prefix=["ip", "netns", "exec", self.namespace], **keywords)

    def address(self):
        return (self.host, self.port)

    def _wait_for_ping(self):
        with inside(self.namespace):
            super()._wait_for_ping()

    def raw(self, **options):
        with inside(self.namespace):
            return super().raw(**options)

    def call(self, *arguments):
        with inside(self.namespace):
            return super().call(*arguments)
