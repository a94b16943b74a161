"""The links of bench/catchup: network namespaces joined by rate-limited veth pairs, or relays on loopback; a small client.

A net knows which way a node reaches another, cuts and slows down links, and counts what crosses them. It belongs to the thread
that made it; a Relay's own threads only add to `bytes` and read the rest.
"""

import contextlib
import ctypes
import os
import random
import socket
import subprocess
import threading
import time

PORT = 7000  # in a namespace of its own no port is taken
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Something did not happen in time, or is not equal."""


@contextlib.contextmanager
def inside(namespace):
    """Sockets made meanwhile by this thread belong to the namespace; None is where the script runs."""
    if namespace is None:
        yield
        return
    with open("/proc/thread-self/ns/net") as home, open("/run/netns/" + namespace) as other:
        if LIBC.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns " + namespace)
        try:
            yield
        finally:
            LIBC.setns(home.fileno(), CLONE_NEWNET)


def encode(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Connection:
    def __init__(self, namespace, port, timeout_s=60):
        with inside(namespace):
            self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else kind.decode() + rest.decode() if kind == b"-" else rest.decode()

    def call(self, *words):
        self.socket.sendall(encode(*words))
        return self.reply()


class Relay:
    """The loopback link: passes bytes, counts them, and can be cut and slowed down."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = 0
        self.bytes = 0
        self.bytes_per_s = None
        self.is_cut = False
        self.ends = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.is_cut:
                    raise OSError
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536 if self.bytes_per_s is None else 16384):
                self.bytes += len(data)
                if self.bytes_per_s is not None:
                    time.sleep(len(data) / self.bytes_per_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self, yes):
        self.is_cut = yes
        if yes:
            for end in self.ends:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self.ends = []

    def close(self):
        self.listener.close()
        self.cut(True)


def run_ip(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(words)}: {done.stderr.strip()}")


class LoopbackNet:
    """Every node reaches its primary through a relay of its own."""

    nodes = 0  # of all nets

    def __init__(self, nodes, options):
        self.first_port = options.first_port and options.first_port + LoopbackNet.nodes
        LoopbackNet.nodes += nodes
        self.relays = [Relay() for _ in range(nodes)]

    def namespace(self, index):
        return None

    def port(self, index):
        """One that is free, and that neither an outgoing connection nor a test takes while the server of it is down."""
        if self.first_port:
            return self.first_port + index
        while True:
            port = random.SystemRandom().randrange(10000, 12000)
            try:
                with socket.create_server(("127.0.0.1", port)):
                    return port
            except OSError:
                continue

    def way(self, follower, leader):
        relay = self.relays[follower.index]
        relay.target = leader.port
        return "127.0.0.1", relay.port

    def cut(self, index, yes):
        self.relays[index].cut(yes)

    def set_mbit(self, index, mbit):
        self.relays[index].bytes_per_s = None if mbit is None else mbit * 125_000

    def wire_bytes(self, leader_index):
        return sum(relay.bytes for relay in self.relays)

    def close(self):
        for relay in self.relays:
            relay.close()


class NamespaceNet:
    """A star: the primary's namespace has a link to each replica's, and forwards between them."""

    serial = 0

    def __init__(self, nodes, options):
        NamespaceNet.serial += 1
        self.names = [f"catchup-{os.getpid()}-{self.serial}-{index}" for index in range(nodes)]
        self.mbit = options.link_mbit
        self.made = []
        try:
            for name in self.names:
                run_ip("ip", "netns", "add", name)
                self.made.append(name)
                run_ip("ip", "-n", name, "link", "set", "lo", "up")
            run_ip("ip", "netns", "exec", self.names[0], "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
            for index in range(1, nodes):
                self._link(index)
        except BaseException:
            self.close()
            raise

    def _link(self, index):
        hub, leaf = self.names[0], self.names[index]
        run_ip("ip", "-n", hub, "link", "add", f"to{index}", "type", "veth", "peer", "name", "up", "netns", leaf)
        run_ip("ip", "-n", hub, "addr", "add", f"10.231.{index}.1/30", "dev", f"to{index}")
        run_ip("ip", "-n", leaf, "addr", "add", f"10.231.{index}.2/30", "dev", "up")
        run_ip("ip", "-n", hub, "link", "set", f"to{index}", "up")
        run_ip("ip", "-n", leaf, "link", "set", "dev", "up", "up")
        run_ip("ip", "-n", leaf, "route", "add", "default", "via", f"10.231.{index}.1")
        self.set_mbit(index, None)

    def namespace(self, index):
        return self.names[index]

    def port(self, index):
        return PORT

    def way(self, follower, leader):
        if leader.index == 0:
            return f"10.231.{follower.index}.1", leader.port
        return f"10.231.{leader.index}.2", leader.port

    def cut(self, index, yes):
        # On the hub's side, since the leaf's route would not come back by itself.
        run_ip("ip", "-n", self.names[0], "link", "set", f"to{index}", "down" if yes else "up")

    def set_mbit(self, index, mbit):
        mbit = mbit or self.mbit
        burst = max(65536, mbit * 125_000 // 100)
        for name, device in ((self.names[0], f"to{index}"), (self.names[index], "up")):
            run_ip("tc", "-n", name, "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{mbit}mbit", "burst", str(burst),
                   "latency", "50ms")

    def wire_bytes(self, leader_index):
        """Both directions. What replicas send each other crosses two links and counts where it meets the leader's."""
        with inside(self.names[0]), open("/proc/thread-self/net/dev") as counters:
            lines = [line.replace(":", " ").split() for line in counters]
        return sum(int(line[1]) + int(line[9]) for line in lines
                   if line[0].startswith("to") and leader_index in (0, int(line[0][2:])))

    def close(self):
        for name in self.made:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
        self.made = []
