"""What bench/catchup looks at all the time: offsets, memory and the bytes of the links, a few times a second.

One thread per set of servers, with connections of its own: a server that does not answer within ANSWER_SECONDS (stopped, loading,
ended) leaves a gap. The lists are read when the thread has ended.
"""

import contextlib
import threading
import time

from .catchup_links import Connection

PERIOD_SECONDS = 0.25
ANSWER_SECONDS = 0.15


class Sampler:
    """From start to stop; `points` are dictionaries with the seconds since the start as `at`."""

    def __init__(self, bed, nodes, leader_index):
        self.bed, self.nodes, self.leader_index = bed, nodes, leader_index
        self.points = []
        self.connections = {}
        self.began = time.monotonic()
        self.running = True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def stop(self):
        self.running = False
        self.thread.join()
        for connection in self.connections.values():
            connection.close()
        self.connections = {}
        return self.points

    def _run(self):
        due = self.began
        while self.running:
            for node in self.nodes:
                node.sample_memory()
            now = time.monotonic()
            if now >= due:
                due = now + PERIOD_SECONDS
                with contextlib.suppress(OSError):
                    self.points.append(self._look(now))
            time.sleep(0.1)

    def _look(self, now):
        offsets = [self._offset(node) for node in self.nodes]
        memory = [node.resident_bytes for node in self.nodes]
        return {"at": now - self.began, "wire_bytes": self.bed.net.wire_bytes(self.leader_index), "offsets": offsets,
                "primary_bytes": memory[0], "replica_bytes": max(memory[1:], default=0)}

    def _offset(self, node):
        """How much of the stream it has; None: it does not say."""
        try:
            if node.index not in self.connections:
                self.connections[node.index] = Connection(node.namespace, node.port, ANSWER_SECONDS)
            lines = self.connections[node.index].call("INFO", "replication").splitlines()
            info = dict(line.split(":", 1) for line in lines if ":" in line)
            return int(info["master_repl_offset" if info["role"] == "master" else "slave_repl_offset"])
        except (OSError, KeyError, ValueError, AttributeError):
            connection = self.connections.pop(node.index, None)
            if connection is not None:
                connection.close()
            return None


def behind(point):
    """Bytes that the replica which is furthest behind lacks; None: not known."""
    known = [offset for offset in point["offsets"] if offset is not None]
    return max(known) - min(known) if len(known) == len(point["offsets"]) else None


def rates(points, value, smooth=2):
    """The growth per second of value(point), over a few points; gaps where it is not known or falls back (a restart)."""
    grown = []
    for before, point in zip(points, points[smooth:]):
        a, b = value(before), value(point)
        if a is not None and b is not None and b >= a:
            grown.append((point["at"], (b - a) / (point["at"] - before["at"])))
    return grown
