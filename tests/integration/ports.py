"""Ports for the servers of the tests: nobody else takes them, also while no server listens on them.

Each process of tests has a block of ports for as long as it lives. Who has bound the abstract unix address that is named after the
block has the block; the kernel takes the address away with the process. So several runs, of several checkouts and users too, go on
at the same time, and a server that is killed finds its port free when it starts again. Neither the ports nor those of the
clusters' buses, BUS_STEP above them, are among those that the kernel gives to outgoing connections (from 32768 on by default).
"""

import os
import random
import socket
import threading

BUS_STEP = 10000
_FIRST = 12000
_BLOCKS = 40
_BLOCK_PORTS = 250  # a test has long ended when its ports are used again

_random = random.SystemRandom()


class _Block:
    """The ports of this process. A forked child has to take a block of its own."""

    def __init__(self):
        self.owner = os.getpid()
        self.next = 0
        for index in _random.sample(range(_BLOCKS), _BLOCKS):
            self.first = _FIRST + index * _BLOCK_PORTS
            self.lease = socket.socket(socket.AF_UNIX)
            try:
                self.lease.bind(f"\0slotwise-test-ports-{self.first}")
                return
            except OSError:
                self.lease.close()
        raise AssertionError(f"{_BLOCKS} processes have all the ports for tests")

    def take(self, count):
        """The first of so many ports, in turn."""
        if self.next + count > _BLOCK_PORTS:
            self.next = 0
        port = self.first + self.next
        self.next += count
        return port


_block = None
_lock = threading.Lock()


def is_free(port, host="127.0.0.1"):
    """True if a server could listen on the port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            return True
        except OSError:
            return False


def free_port(host="127.0.0.1", count=1):
    """The first of `count` ports in a row that are free, and their buses' ports too."""
    global _block
    for _ in range(_BLOCK_PORTS):
        with _lock:
            if _block is None or _block.owner != os.getpid():
                _block = _Block()
            port = _block.take(count)
        if all(is_free(one, host) and is_free(one + BUS_STEP, host) for one in range(port, port + count)):
            return port
    raise AssertionError(f"of the ports from {_block.first} on none is free on {host}")
