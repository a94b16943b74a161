"""Client processes for the load tests: real concurrency against one server, results back to the test."""

import multiprocessing
import os
import signal
import time
import traceback

import harness
from resp import RawClient, encode_command

_FORK = multiprocessing.get_context("fork")
_GONE = 1 << 62


class Deadline:
    """When a load ends: `seconds` after the last of its clients has connected, and not before each has done `turns` turns.

    So a slow machine makes a load take longer and does not make it smaller. The clients of a load share one of these: run_clients
    finds it among their arguments. A client connects first and then works `while deadline.ahead():`, one turn each time.
    """

    def __init__(self, seconds=None, turns=1):
        self.seconds = harness.LOAD_SECONDS if seconds is None else seconds
        self.least = turns
        self.progress = None  # shared: the turns that each client has done, -1 until it has connected
        self.own = 0
        self.end = None

    def share(self, clients):
        """Before the processes are made."""
        self.progress = _FORK.RawArray("q", [-1] * clients)
        self.end = None

    def leave(self):
        """This client will do no more turns: the others need not wait for it."""
        self.progress[self.own] = _GONE

    def ahead(self):
        """True while the load goes on. The first call waits until all clients have connected."""
        if self.progress is None:
            self.share(1)  # one client, in the process of the test
        if self.end is None:
            self.progress[self.own] = 0
            while min(self.progress) < 0:
                time.sleep(0.001)
            self.end = time.monotonic() + self.seconds
            return True
        if self.progress[self.own] < _GONE:
            self.progress[self.own] += 1
        return time.monotonic() < self.end or min(self.progress) < self.least


def deadline_after(seconds=None, turns=1):
    """The Deadline of a load of SLOTWISE_SECONDS, or of so many seconds, and of at least so many turns of each client."""
    return Deadline(seconds, turns)


def _child(pipe, deadlines, function, arguments):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        outcome = (True, function(*arguments))
    except BaseException:  # noqa: B902  whatever it was, the test must hear of it
        outcome = (False, traceback.format_exc())
    try:
        for deadline in deadlines:
            deadline.leave()
        pipe.send(outcome)
    finally:
        pipe.close()
        os._exit(0)


def _share_deadlines(jobs):
    """The deadlines of each job, each told its place among the clients that share it when its process starts."""
    clients = {}
    for _, *arguments in jobs:
        for argument in arguments:
            if isinstance(argument, Deadline):
                clients[argument] = clients.get(argument, 0) + 1
    for deadline, count in clients.items():
        deadline.share(count)
    places = dict.fromkeys(clients, 0)
    for _, *arguments in jobs:
        own = [argument for argument in arguments if isinstance(argument, Deadline)]
        for deadline in own:
            deadline.own = places[deadline]
            places[deadline] += 1
        yield own


def run_clients(functions, grace=3 * harness.HANG_SECONDS):
    """Run each (function, *arguments) in a process of its own, all at once; return their results in order."""
    running = []
    try:
        for (function, *arguments), deadlines in zip(functions, _share_deadlines(functions)):
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_child, args=(sender, deadlines, function, arguments), daemon=True)
            process.start()
            sender.close()
            running.append((process, receiver))
        results = []
        for process, receiver in running:
            if not receiver.poll(grace * harness.SLOWNESS):
                raise AssertionError("a client process does not come back: the server has left it waiting")
            try:
                fine, result = receiver.recv()
            except EOFError:
                raise AssertionError("a client process died") from None
            if not fine:
                raise AssertionError("a client failed:\n" + result)
            results.append(result)
        return results
    finally:
        for process, receiver in running:
            receiver.close()
            if process.is_alive():
                process.join(1)
            if process.is_alive():
                process.kill()
                process.join()


def connect(address, count):
    """So many connections to the server."""
    return [RawClient(*address, timeout=harness.HANG_SECONDS * harness.SLOWNESS) for _ in range(count)]


def encode_all(commands):
    return b"".join(encode_command(*command) for command in commands)
