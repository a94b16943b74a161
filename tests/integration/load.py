"""Client processes for the load tests: real concurrency against one server, results back to the test."""

import multiprocessing
import os
import signal
import time
import traceback

import harness
from resp import RawClient, encode_command

_FORK = multiprocessing.get_context("fork")


def _child(pipe, function, arguments):
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        pipe.send((True, function(*arguments)))
    except BaseException:  # noqa: B902  whatever it was, the test must hear of it
        pipe.send((False, traceback.format_exc()))
    finally:
        pipe.close()
        os._exit(0)


def run_clients(functions, grace=60.0):
    """Run each (function, *arguments) in a process of its own, all at once; return their results in order."""
    running = []
    try:
        for function, *arguments in functions:
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_child, args=(sender, function, arguments), daemon=True)
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


def deadline_after(seconds=None):
    """When a load that starts now shall end, in seconds of time.monotonic()."""
    return time.monotonic() + (harness.LOAD_SECONDS if seconds is None else seconds)


def connect(address, count):
    """So many connections to the server."""
    return [RawClient(*address, timeout=60 * harness.SLOWNESS) for _ in range(count)]


def encode_all(commands):
    return b"".join(encode_command(*command) for command in commands)
