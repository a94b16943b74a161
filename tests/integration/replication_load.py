"""Pairs of servers for the tests of replication: load on a primary, and when a replica has all of it."""

import threading

import redis

import harness
from harness import wait_until
from resp import RawClient
from stream import Generator

SYNC_SECONDS = 60


def info(server, section="replication"):
    with redis.Redis(port=server.port, socket_timeout=harness.HANG_SECONDS) as client:
        return client.info(section)


def link_is_up(replica):
    return info(replica).get("master_link_status") == "up"


def wait_for_link(replica):
    wait_until(lambda: link_is_up(replica), SYNC_SECONDS, "the replica's link")


def wait_for_offset(primary, replica):
    """Until the replica has applied all that the primary has streamed; nobody writes any more."""
    def same():
        theirs = info(replica)
        return theirs.get("master_link_status") == "up" and \
            theirs["slave_repl_offset"] == info(primary)["master_repl_offset"]
    wait_until(same, SYNC_SECONDS, "the replica's offset")


def digest(server):
    with redis.Redis(port=server.port, socket_timeout=harness.HANG_SECONDS) as client:
        return client.execute_command("DEBUG", "DIGEST")


def assert_same_data(primary, replica):
    """DEBUG DIGEST at equal offsets. Until a key has expired on both its digest may differ, so it is asked again."""
    def same():
        wait_for_offset(primary, replica)
        return digest(primary) == digest(replica)
    wait_until(same, what="the same digest")


class Load:
    """Random commands of all kinds from several clients, one seed each, until stopped or `commands` each."""

    def __init__(self, server, seeds, commands=1 << 30):
        self.server = server
        self.commands = commands
        self.stopped = threading.Event()
        self.failure = None
        self.sent = 0
        self.threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in seeds]
        for thread in self.threads:
            thread.start()

    def _run(self, seed):
        try:
            generator = Generator(seed)
            client = RawClient(port=self.server.port)
            in_transaction = False
            for _ in range(self.commands):
                if self.stopped.is_set():
                    break
                command = generator.command(in_transaction)
                name = command[0].upper()
                if name == b"HELLO" or b"REPLY" in [word.upper() for word in command]:
                    continue
                if name == b"MULTI" and len(command) == 1:
                    in_transaction = True
                elif name in (b"EXEC", b"DISCARD", b"RESET"):
                    in_transaction = False
                client.send(generator.wire(command))
                client.read()
                self.sent += 1
            client.close()
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def stop(self):
        self.stopped.set()
        return self.join()

    def join(self):
        for thread in self.threads:
            thread.join()
        if self.failure:
            raise self.failure
        return self.sent
