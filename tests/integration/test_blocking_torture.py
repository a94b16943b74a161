"""Many clients that block on few keys, while others push, time out, are unblocked, killed and close: each element ends in one place, and of
those who wait for the same key the first one is served first.

The test is one thread, which never waits for the server in the middle of a round: what it sends to its connections runs on all workers at
once. A round blocks a batch of clients and goes on when the server says that they are blocked (or has answered them); so clients of a later
batch have come later.
"""

import os
import random
import select

import pytest

import debugging
import harness
from resp import ReplyError

SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
KEYS = [key.encode() for key in harness.keys_in_distinct_slots(14, "torture:")]
# Keys to which one client pushes numbers that grow: they come out in the order in which they were served.
ORDERED = KEYS[:3]
# Elements move along by BLMOVE, and around.
CHAIN = KEYS[3:8]
CYCLE = KEYS[8:12]
SHARED = KEYS[12:]


class Client:
    """One that blocks again and again."""

    def __init__(self, torture):
        self.torture = torture
        self.connect()

    def connect(self):
        self.connection = self.torture.server.raw()
        self.number = self.connection.call("CLIENT", "ID")
        self.waits = False

    def descriptor(self):
        return self.connection.socket.fileno()

    def block(self, generation):
        pick = self.torture.random
        time, kind = pick.choice(["0", "0", "0.001", "0.01", "0.05", "2"]), pick.random()
        self.generation, self.ordered, self.moves, self.waits = generation, None, False, True
        if kind < 0.35:
            self.ordered = pick.choice(ORDERED)
            self.moves = pick.random() < 0.3
            command = ("BLMOVE", self.ordered, CHAIN[0], "LEFT", "RIGHT", time) if self.moves else ("BLPOP", self.ordered, time)
        elif kind < 0.6:
            keys, at = pick.choice([CHAIN, CYCLE]), pick.randrange(4)
            self.moves = True
            command = ("BLMOVE", keys[at], keys[(at + 1) % len(keys)], pick.choice(["LEFT", "RIGHT"]), pick.choice(["LEFT", "RIGHT"]), time)
        elif kind < 0.8:
            command = (pick.choice(["BLPOP", "BRPOP"]), *pick.sample(CYCLE + SHARED + CHAIN[-1:], pick.randrange(1, 4)), time)
        else:
            keys = pick.sample(SHARED + CHAIN[-2:], 2)
            command = ("BLMPOP", time, 2, *keys, pick.choice(["LEFT", "RIGHT"]), "COUNT", pick.randrange(1, 4))
        self.connection.send_command(*command)

    def take(self):
        """The reply that is there, or coming."""
        reply = self.connection.read()
        self.waits = False
        if reply is None:
            return
        if isinstance(reply, ReplyError):
            assert str(reply).startswith("UNBLOCKED"), reply
            return
        elements = [reply] if self.moves else reply[1] if isinstance(reply[1], list) else [reply[1]]
        if self.ordered:
            self.torture.served[self.ordered].append((int(elements[0].rpartition(b":")[2]), self.generation))
        if not self.moves:
            self.torture.taken += elements


class Torture:
    def __init__(self, server, clients, seed):
        self.server = server
        self.random = random.Random(seed)
        self.served = {key: [] for key in ORDERED}
        self.taken, self.pushed, self.generation, self.ended = [], 0, 0, 0
        self.control = server.raw()
        self.pushers = [server.raw() for _ in ORDERED]
        self.clients = [Client(self) for _ in range(clients)]

    def blocked(self):
        lines = self.control.call("CLIENT", "LIST").decode().splitlines()
        fields = (dict(field.split("=", 1) for field in line.split(" ")) for line in lines)
        return {int(line["id"]) for line in fields if "b" in line["flags"]}

    def answered(self, clients):
        poll = select.poll()
        by_descriptor = {client.descriptor(): client for client in clients}
        for descriptor in by_descriptor:
            poll.register(descriptor, select.POLLIN)
        return [by_descriptor[descriptor] for descriptor, _ in poll.poll(0)]

    def take_answers(self):
        for client in self.answered([client for client in self.clients if client.waits]):
            client.take()

    def block(self, count):
        """A batch; they do not race with others, unless the round has begun already."""
        self.generation += 1
        idle = [client for client in self.clients if not client.waits]
        batch = self.random.sample(idle, min(count, len(idle)))
        for client in batch:
            client.block(self.generation)
        return batch

    def wait_blocked(self, batch):
        def all_are():
            self.take_answers()
            waiting = [client for client in batch if client.waits]
            return not waiting or {client.number for client in waiting} <= self.blocked()

        harness.wait_until(all_are, what="a batch to be blocked")

    def push(self):
        """What each pusher sends at once; how many replies come."""
        for pusher, ordered in zip(self.pushers, ORDERED):
            commands = []
            for _ in range(self.random.choice([1, 2, 8])):
                keys = [ordered, ordered, CHAIN[0], self.random.choice(CYCLE), self.random.choice(SHARED)]
                unit = [self.one_push(self.random.choice(keys), ordered) for _ in range(self.random.choice([1, 1, 4]))]
                commands += [("MULTI",), *unit, ("EXEC",)] if self.random.random() < 0.4 else unit
            pusher.awaited = len(commands)
            for command in commands:
                pusher.send_command(*command)

    def one_push(self, key, ordered):
        count = self.random.choice([1, 1, 1, 3])
        elements = [ordered + b":%d" % (self.pushed + i) for i in range(count)]
        self.pushed += count
        return ("RPUSH" if key == ordered or self.random.random() < 0.5 else "LPUSH", key, *elements)

    def disturb(self, kills):
        """Some waits end by others' hands; how many replies come."""
        sent = 0
        for client in self.random.sample(self.clients, 12):
            kind = self.random.random()
            if kind < 0.6:
                self.control.send_command("CLIENT", "UNBLOCK", client.number, self.random.choice(["TIMEOUT", "ERROR"]))
                sent += 1
            elif kills:
                if kind < 0.8:
                    self.control.send_command("CLIENT", "KILL", "ID", client.number)
                    sent += 1
                self.ended += 1
                client.connection.close()
                client.connect()
        return sent

    def round(self, kills):
        self.wait_blocked(self.block(len(self.clients) // 3))
        self.push()
        late = self.block(len(self.clients) // 10)  # they race with what is pushed
        replies = self.disturb(kills)
        for pusher in self.pushers:
            for _ in range(pusher.awaited):
                assert not isinstance(pusher.read(), ReplyError)
        for _ in range(replies):
            self.control.read()
        self.take_answers()
        self.wait_blocked([client for client in late if client.waits])

    def end(self):
        """Everybody comes back; what is left in the lists."""
        for client in self.clients:
            if client.waits:
                self.control.call("CLIENT", "UNBLOCK", client.number)
        for client in self.clients:
            if client.waits:
                client.take()
        return [element for key in KEYS for element in self.control.call("LRANGE", key, 0, -1)]


@pytest.mark.parametrize("kills", [False, True])
def test_torture(start, backend, kills):
    server = start(backend=backend, threads=4)
    torture = Torture(server, max(60, harness.scaled(500)), SEED)
    for _ in range(max(12, harness.scaled(60))):
        torture.round(kills)
    left = torture.end()
    found = torture.taken + left
    assert len(found) == len(set(found)), "an element is in two places"
    assert len(found) <= torture.pushed
    lost = torture.pushed - len(found)
    assert lost <= 3 * torture.ended, "elements were lost otherwise than with a client that had been served"
    for key, served in torture.served.items():
        generations = [generation for _, generation in sorted(served)]
        assert generations == sorted(generations), f"somebody was served before one who had come to {key} earlier"
        assert len(served) > 20 or harness.SANITIZED
    assert server.info("clients")["blocked_clients"] == "0"
    assert server.info("clients").get("total_blocking_keys", "0") == "0"
    debugging.check_structures(torture.control)
