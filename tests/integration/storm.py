"""What the clients of the storm do: hostile, clumsy and honest ones, each act a short conversation of its own.

An act gets a Client whose generator is seeded, so that a seed names what each process does, though not how the acts of
several processes meet. Acts that check replies use connections that nobody kills: a connection is killed only if it has
called itself VICTIM. A reply that is wrong, a connection that is closed unasked or a reply that never comes is Wrong.
"""

import select
import socket
import struct
import time

import harness
from resp import RawClient, ReplyError, encode_command

VICTIM = "victim"
CONTENDED = [f"contended{number}" for number in range(3)]
TOGETHER = ["together0", "together1", "together2"]
REPLY_SECONDS = 30


class Wrong(AssertionError):
    pass


def check(condition, *what):
    if not condition:
        raise Wrong(repr(what)[:600])


def encode_all(commands):
    return b"".join(encode_command(*command) for command in commands)


class Client:
    """One client process's view: its address, its generator, the connections that it leaves behind."""

    def __init__(self, address, generator, name):
        self.address = address
        self.generator = generator
        self.name = name
        self.left_behind = []

    def connect(self):
        return RawClient(*self.address, timeout=REPLY_SECONDS * harness.SLOWNESS)

    def leave(self, connection):
        """Keeps it open, with whatever is under way; an older one ends."""
        self.left_behind.append(connection)
        if len(self.left_behind) > 5:
            self.end(self.left_behind.pop(0))

    def end(self, connection):
        """Closes it in one of the ways there are."""
        if self.generator.random() < 0.5:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def value(self, least=1, most=200):
        return b"%c" % self.generator.randrange(97, 123) * self.generator.randrange(least, most)

    def size(self):
        """Mostly small, at times many packets."""
        return self.generator.choice([10, 100, 1000, 15_000, 17_000, 100_000])


def exchange(connection, data, count):
    """Sends and receives at the same time, as an honest client with a long pipeline does; the replies."""
    view = memoryview(data)
    deadline = time.monotonic() + REPLY_SECONDS * harness.SLOWNESS
    connection.socket.setblocking(False)
    try:
        while view:
            check(time.monotonic() < deadline, "the server takes no more of a pipeline")
            readable, writable, _ = select.select([connection.socket], [connection.socket], [], 1)
            if writable:
                try:
                    view = view[connection.socket.send(view[:1 << 16]):]
                except BlockingIOError:
                    pass
            if readable:
                more = connection.socket.recv(1 << 18)
                check(more, "closed unasked in the middle of a pipeline")
                connection.buffer += more
    finally:
        connection.socket.settimeout(REPLY_SECONDS * harness.SLOWNESS)
    return [connection.read() for _ in range(count)]


# --- honest clients: every reply is known ----------------------------------------------------------------------------


def own_command(client, model):
    """A command for a key of this process alone, and the reply that it must get."""
    generator = client.generator
    key = f"own:{client.name}:{generator.randrange(4)}"
    value = model.get(key)
    kind = generator.randrange(10)
    if kind < 3:
        model[key] = client.value(1, client.size())
        return ("SET", key, model[key]), "OK"
    if kind < 6:
        return ("GET", key), value
    if kind == 6:
        model[key] = (value or b"") + b"more"
        return ("APPEND", key, "more"), len(model[key])
    if kind == 7:
        model.pop(key, None)
        return ("DEL", key), int(value is not None)
    if kind == 8:
        return ("STRLEN", key), len(value or b"")
    return ("GETRANGE", key, "0", "9"), (value or b"")[:10]


def act_pipeline(client):
    """A pipeline of any length over own keys."""
    length = client.generator.choice([1, 2, 10, 64, 65, 200, 1000])
    model = {}
    commands = [("DEL", *[f"own:{client.name}:{number}" for number in range(4)])]
    wanted = []
    total = 0
    for _ in range(length):
        command, reply = own_command(client, model)
        total += len(reply) if isinstance(reply, bytes) else 0
        commands.append(command)
        wanted.append(reply)
        if total > 20_000_000:
            break
    with client.connect() as connection:
        replies = exchange(connection, encode_all(commands), len(commands))[1:]
        for number, (reply, right) in enumerate(zip(replies, wanted)):
            check(reply == right, "pipeline", number, commands[number + 1][:2], str(reply)[:80], str(right)[:80])


def act_long_pipeline(client):
    key = f"long:{client.name}"
    count = client.generator.choice([3000, 20_000])
    with client.connect() as connection:
        data = encode_command("SET", key, "0") + encode_command("INCR", key) * count
        check(exchange(connection, data, count + 1)[1:] == list(range(1, count + 1)), "long pipeline")


def act_counters(client):
    """INCR of what all increment: the replies of one connection only grow. One that goes away reads none of them."""
    key = client.generator.choice(CONTENDED)
    deserter = client.connect()
    send_some(deserter, encode_command("INCR", key) * client.generator.randrange(1, 300))
    client.end(deserter)
    count = client.generator.randrange(1, 100)
    with client.connect() as connection:
        replies = exchange(connection, encode_command("INCR", key) * count, count)
        check(all(a < b for a, b in zip(replies, replies[1:])), "counters", key, replies[:10])


def act_transaction(client):
    """The INCRs of one EXEC are consecutive: nobody comes between."""
    key = client.generator.choice(CONTENDED)
    count = client.generator.choice([1, 10, 100, 500])
    with client.connect() as connection:
        replies = exchange(connection, encode_command("MULTI") + encode_command("INCR", key) * count
                           + encode_command("EXEC"), count + 2)
        numbers = replies[-1]
        check(replies[:2] == ["OK", "QUEUED"], "transaction", replies[:2])
        check(numbers == list(range(numbers[0], numbers[0] + count)), "transaction", numbers[:10])


def act_watch(client):
    """WATCH and EXEC: what was read is what was replaced."""
    key = client.generator.choice(CONTENDED)
    with client.connect() as connection:
        for _ in range(3):
            replies = connection.pipeline([("WATCH", key, *CONTENDED), ("GET", key)])
            check(replies[0] == "OK", "watch", replies)
            ending = client.generator.choice(["EXEC", "DISCARD", "UNWATCH"])
            if ending == "UNWATCH":
                check(connection.call("UNWATCH") == "OK", "unwatch")
                continue
            replies = connection.pipeline([("MULTI",), ("GET", key), ("INCR", key), (ending,)])
            if ending == "EXEC" and replies[-1] is not None:
                before, after = replies[-1]
                check(int(before or 0) + 1 == after, "watch", replies)


def act_together(client):
    """What one MSET wrote is read together by MGET."""
    keys = TOGETHER
    with client.connect() as connection:
        value = client.value(1, 100)
        data = (encode_command("MSET", *[word for key in keys for word in (key, value)])
                + encode_command("MGET", *keys)) * client.generator.randrange(1, 40)
        count = data.count(b"MGET")
        replies = exchange(connection, data, 2 * count)
        for reply in replies[1::2]:
            check(len(set(reply)) == 1, "torn", reply)


def act_large(client):
    """Values of many packets, there and back."""
    key = f"large:{client.name}"
    value = client.value(1, 8) * client.generator.choice([1000, 40_000, 300_000])
    with client.connect() as connection:
        replies = exchange(connection, encode_all([("SET", key, value), ("GET", key), ("APPEND", key, "x"),
                                                   ("GETRANGE", key, "-3", "-1"), ("GET", key)]), 5)
        check(replies[0] == "OK" and replies[1] == value and replies[4] == value + b"x", "large", len(value))


def act_half_close(client):
    """All that was sent before a half-close is answered, and then comes the end."""
    count = client.generator.randrange(1, 400)
    with client.connect() as connection:
        connection.send(b"".join(encode_command("ECHO", number) for number in range(count)))
        connection.socket.shutdown(socket.SHUT_WR)
        for number in range(count):
            reply = connection.read()
            check(reply == b"%d" % number, "half-close", number, reply)
        rest = connection.read_until_close(REPLY_SECONDS * harness.SLOWNESS)
        check(rest == b"", "half-close", rest)


def act_drip(client):
    """Commands byte by byte."""
    key = f"drip:{client.name}"
    with client.connect() as connection:
        data = encode_command("SET", key, "v") + b"GET " + key.encode() + b"\r\n" + encode_command("STRLEN", key)
        for at in range(len(data)):
            connection.send(data[at:at + 1])
        check([connection.read() for _ in range(3)] == ["OK", b"v", 1], "drip")


def act_slow_reader(client):
    """Reads late and in small pieces; every byte comes."""
    key = f"slow:{client.name}"
    with client.connect() as connection:
        count = client.generator.randrange(2, 200)
        connection.send(encode_command("SET", key, "s" * 30_000) + encode_command("GET", key) * count)
        time.sleep(client.generator.random() * 0.05)
        wanted = len(b"+OK\r\n") + count * len(b"$30000\r\n" + b"s" * 30_000 + b"\r\n")
        received = 0
        while received < wanted:
            more = connection.socket.recv(client.generator.choice([1000, 30_000, 100_000]))
            check(more, "slow reader closed", received, wanted)
            received += len(more)
        check(received == wanted and connection.silent(0), "slow reader", received, wanted)


def act_errors(client):
    """Commands that do not run, between those that do."""
    key = f"error:{client.name}"
    with client.connect() as connection:
        commands = [("WATCH", key), ("SET", key, "1"), ("SET", key), ("EXEC", "x"), ("GET", key), ("NOSUCH", key),
                    ("INCRBY", key, "x"), ("UNWATCH",), ("MULTI",), ("SET", key), ("EXEC",), ("GET", key)]
        replies = exchange(connection, encode_all(commands * 5), len(commands) * 5)
        for number, reply in enumerate(replies):
            name = commands[number % len(commands)]
            error = name in (("SET", key), ("EXEC", "x"), ("NOSUCH", key), ("INCRBY", key, "x"), ("EXEC",))
            check(isinstance(reply, ReplyError) == error, "errors", number, name, reply)


# --- hostile clients --------------------------------------------------------------------------------------------------


def anything(client):
    """Bytes of commands that wait, fail, grow or are cut off."""
    key = client.generator.choice(CONTENDED)
    large = encode_command("MSET", *[word for number in range(60) for word in (f"many{number}", "v")])
    return client.generator.choice([
        encode_command("INCR", key) * 200, large[:-50], large, encode_command("SET", "cut", "x" * 300_000)[:100_000],
        encode_command("WATCH", *CONTENDED) + encode_command("MULTI") + encode_command("INCR", key),
        encode_command("FLUSHDB"), encode_command("SWAPDB", "8", "9"), b"PING\r\nnonsense 1 2\r\n*1\r\n$4\r\nPIN",
        encode_command("SET", key) + encode_command("EXEC", "x") + encode_command("RESET") + encode_command("QUIT"),
        b"*1\r\n!\r\n", encode_command("CLIENT", "REPLY", "OFF") + encode_command("INCR", key) * 50,
        encode_command("CLIENT", "REPLY", "SKIP") + encode_command("GET", "big") * 3, encode_command("INFO") * 3,
        encode_command("CLIENT", "LIST") + encode_command("CONFIG", "SET", "slowlog-max-len", "128"),
        encode_command("GET", "big") * client.generator.randrange(1, 40), encode_command("APPEND", "big", "q" * 100),
        (encode_command("LCS", *CONTENDED[:2]) + encode_command("MGET", *TOGETHER)) * 50,
        encode_command("SCAN", "0", "COUNT", "1000") + encode_command("RANDOMKEY"),
    ])


def send_some(connection, data):
    """As much as goes without waiting long."""
    connection.socket.settimeout(0.3)
    try:
        connection.send(data)
    except OSError:
        pass


def act_hostile(client):
    """Anything in any order, in a database of its own for what empties it; half of them may be killed meanwhile."""
    connection = client.connect()
    data = encode_command("SELECT", "9") if client.generator.random() < 0.5 else encode_command("PING")
    if client.generator.random() < 0.5:
        data += encode_command("CLIENT", "SETNAME", VICTIM)
    pieces = [anything(client) for _ in range(client.generator.randrange(1, 5))]
    if not data.startswith(encode_command("SELECT", "9")):
        pieces = [piece for piece in pieces if piece not in (encode_command("FLUSHDB"),)]
    send_some(connection, data + b"".join(pieces))
    choice = client.generator.randrange(4)
    if choice == 0:
        client.leave(connection)
        return
    if choice == 1:
        time.sleep(client.generator.random() * 0.01)
    elif choice == 2:
        connection.socket.settimeout(0.05)
        try:
            connection.socket.recv(1000)
            connection.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    client.end(connection)


def act_never_reads(client):
    with client.connect() as connection:
        check(connection.call("SET", "big", client.value(2, 5) * 60_000) == "OK", "set")
    connection = client.connect()
    send_some(connection, encode_command("GET", "big") * client.generator.randrange(1, 40) + encode_command("PING") * 100)
    client.leave(connection)


def act_open_and_go(client):
    for _ in range(10):
        client.end(client.connect())


def act_kill(client):
    with client.connect() as connection:
        lines = connection.call("CLIENT", "LIST").decode().splitlines()
        for line in lines:
            if f" name={VICTIM} " in line and client.generator.random() < 0.7:
                reply = connection.call("CLIENT", "KILL", "ID", line.split()[0][3:])
                check(reply in (0, 1), "kill", reply)


def act_listed(client):
    """Whoever stays is listed exactly once, in the order of arrival; an honest one is not killed by others' addresses."""
    with client.connect() as connection, client.connect() as other:
        own, others = connection.call("CLIENT", "ID"), other.call("CLIENT", "ID")
        other.send_command("ECHO", "meanwhile")
        replies = connection.pipeline([("CLIENT", "LIST"), ("CLIENT", "KILL", "ADDR", "1.2.3.4:5"),
                                       ("CLIENT", "LIST", "ID", others, "99999999", own, others)])
        ids = [int(line.split()[0][3:]) for line in replies[0].decode().splitlines()]
        check(ids == sorted(set(ids)) and {own, others} <= set(ids), "listed", own, others, ids)
        check(replies[1] == 0, "listed", replies[1])
        check([int(line.split()[0][3:]) for line in replies[2].decode().splitlines()] == [others, own, others], "listed by id")
        check(other.read() == b"meanwhile", "listed")


def act_pause(client):
    with client.connect() as connection:
        mode = client.generator.choice(["WRITE", "ALL"])
        check(connection.call("CLIENT", "PAUSE", client.generator.randrange(1, 40), mode) == "OK", "pause")
        if client.generator.random() < 0.5:
            check(connection.call("CLIENT", "UNPAUSE") == "OK", "unpause")


def act_hold(client):
    """A slot, or patience, is held for some milliseconds by a thread of the server."""
    with client.connect() as connection:
        reply = connection.call("DEBUG", *client.generator.choice([
            ("SLOT-HOLD", client.generator.choice(CONTENDED + TOGETHER + ["big"])), ("PATIENCE-HOLD",)]),
            client.generator.randrange(1, 20))
        check(not isinstance(reply, ReplyError), "hold", reply)


ACTS = [(act_pipeline, 6), (act_long_pipeline, 1), (act_counters, 4), (act_transaction, 4), (act_watch, 3),
        (act_together, 4), (act_large, 2), (act_half_close, 3), (act_drip, 2), (act_slow_reader, 2), (act_errors, 3),
        (act_hostile, 10), (act_never_reads, 2), (act_open_and_go, 2), (act_kill, 2), (act_listed, 3), (act_pause, 1), (act_hold, 1)]


def run(address, generator, name, deadline):
    """Acts at random until the deadline; {name of act: how often}."""
    client = Client(address, generator, name)
    acts, weights = zip(*ACTS)
    done = {}
    while time.monotonic() < deadline:
        act = generator.choices(acts, weights)[0]
        try:
            act(client)
        except (Wrong, TimeoutError):
            raise
        except OSError as error:
            if act not in (act_hostile, act_open_and_go, act_never_reads):
                raise Wrong(f"{act.__name__}: {error!r}") from error
        done[act.__name__] = done.get(act.__name__, 0) + 1
    for connection in client.left_behind:
        client.end(connection)
    return done


def run_mover(address, generator, deadline):
    """Moves all connections about, and changes how many workers are awake; how often."""
    moves = 0
    with RawClient(*address, timeout=REPLY_SECONDS * harness.SLOWNESS) as connection:
        while time.monotonic() < deadline:
            reply = connection.call("DEBUG", "MOVE-CLIENT", "ALL")
            check(not isinstance(reply, ReplyError), "move", reply)
            if generator.random() < 0.02:
                check(connection.call("DEBUG", "WORKERS-AWAKE", generator.randrange(2, 5)) == "OK", "awake")
            moves += 1
            time.sleep(generator.random() * 0.01)
    return moves
