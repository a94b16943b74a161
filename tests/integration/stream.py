"""A seeded stream of commands for two servers, and what it means for their replies to agree.

The stream has strings, keys, databases, times to live (either far off or already past), transactions and
errors of every kind. Replies must agree byte for byte but for those that tell the time or are free to differ;
`agree` knows these.
"""

import random
import time

from resp import Map, ReplyError, encode_command

FAR_MS = 120 * 1000  # how far times may be apart; times to live are set further apart than that

PLAIN_KEYS = [f"k{i}".encode() for i in range(12)]
ODD_KEYS = [b"", b"{tag}a", b"{tag}b", b"{}x", b"a\x00b", b"\xff\xfe", "schl\u00fcssel".encode(), b"K" * 300,
            b"with space", b"line\r\nbreak", b"{open", b"*star[?"]
INTEGERS = [b"0", b"1", b"-1", b"10", b"42", b"9999", b"10000", b"-32769", b"4294967296", b"9223372036854775807",
            b"-9223372036854775808", b"9223372036854775806"]
NOT_INTEGERS = [b"9223372036854775808", b"-9223372036854775809", b"1.0", b" 1", b"1 ", b"01", b"-0", b"+1", b"",
                b"x", b"0x10", b"1e3", b"99999999999999999999999"]
FLOATS = [b"0.1", b"-0.1", b"3.0e3", b"1e20", b"1.23456789", b"0.5", b"5", b"-7.25", b"1e-10", b"100000.000001",
          b"0x1p3", b"1e300"]
NOT_FLOATS = [b"nan", b"inf", b"-inf", b"1e5000", b"abc", b"", b" 1", b"1.5x", b"--1"]
STRINGS = [b"", b"v", b"hello world", b"x" * 44, b"x" * 45, b"\x00\x01\x02", b"\r\n", b"true", b"$-1\r\n"]


class Generator:
    """Makes commands (lists of bytes) from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.used_seconds = set()
        self.now = int(time.time())
        self.makers = [(weight, maker) for weight, maker in (
            (14, self.make_set), (10, self.make_get), (6, self.make_counter), (4, self.make_float),
            (6, self.make_several), (8, self.make_string), (8, self.make_expiry), (6, self.make_expiry_read),
            (5, self.make_getex), (7, self.make_keys), (5, self.make_two_keys), (4, self.make_database),
            (3, self.make_object), (3, self.make_connection), (2, self.make_lcs), (3, self.make_server),
            (1, self.make_unknown))]

    # --- pieces -------------------------------------------------------------------------------------------

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, probability):
        return self.random.random() < probability

    def key(self):
        return self.random.choice(PLAIN_KEYS if self.chance(0.8) else ODD_KEYS)

    def value(self):
        kind = self.random.random()
        if kind < 0.35:
            return self.random.choice(INTEGERS)
        if kind < 0.5:
            return self.random.choice(FLOATS)
        if kind < 0.6:
            return self.random.choice(NOT_INTEGERS)
        if kind < 0.9:
            return self.random.choice(STRINGS)
        if kind < 0.97:
            return self.random.randbytes(self.random.randrange(1, 200))
        return bytes([self.random.randrange(256)]) * self.random.choice([16000, 16383, 16384, 16385, 17000, 40000])

    def integer(self):
        if self.chance(0.15):
            return self.random.choice(NOT_INTEGERS)
        return self.random.choice(INTEGERS) if self.chance(0.3) else b"%d" % self.random.randrange(-20, 60)

    def case(self, word):
        return self.pick(word, word.lower(), word.title()).encode()

    def far_seconds(self):
        """Seconds from now that are clear of all others of this stream."""
        while True:
            seconds = self.random.randrange(10_000, 100_000_000)
            if not self.used_seconds & {seconds // 300 - 1, seconds // 300, seconds // 300 + 1}:
                self.used_seconds.add(seconds // 300)
                return seconds

    def duration(self, unit, absolute, past=True):
        """The argument of an expiry option: mostly far off, sometimes past or wrong.

        What SET stores with a past time is counted by DBSIZE until somebody removes it: no `past` for SET.
        """
        kind = self.random.random()
        if kind < 0.08:
            return self.random.choice(NOT_INTEGERS)
        if kind < 0.14:
            return self.pick(b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775"
                             ) if past else self.pick(b"0", b"-1", b"9223372036854775807")
        if kind < 0.2 and past:
            return b"1" if absolute else b"-100"
        seconds = self.far_seconds() + (self.now if absolute else 0)
        return b"%d" % (seconds * 1000 + self.random.randrange(1000) if unit == "ms" else seconds)

    def expiry_option(self, past):
        name, unit, absolute = self.pick(("EX", "s", False), ("PX", "ms", False), ("EXAT", "s", True),
                                         ("PXAT", "ms", True))
        return [self.case(name), self.duration(unit, absolute, past)]

    # --- kinds of commands --------------------------------------------------------------------------------

    def make_set(self):
        kind = self.random.random()
        if kind < 0.1:
            return [b"SETNX", self.key(), self.value()]
        if kind < 0.2:
            name, unit = self.pick((b"SETEX", "s"), (b"PSETEX", "ms"))
            return [name, self.key(), self.duration(unit, False, False), self.value()]
        if kind < 0.27:
            return [b"GETSET", self.key(), self.value()]
        command = [b"SET", self.key(), self.value()]
        while self.chance(0.35):
            if self.chance(0.4):
                command += self.expiry_option(False)
            else:
                command.append(self.case(self.pick("NX", "XX", "GET", "KEEPTTL", "PERSIST", "EX", "BOGUS")
                                         if self.chance(0.3) else self.pick("NX", "XX", "GET", "KEEPTTL")))
        return command

    def make_get(self):
        return [self.pick(b"GET", b"get", b"GET", b"STRLEN", b"GETDEL", b"TYPE"), self.key()]

    def make_getex(self):
        command = [b"GETEX", self.key()]
        while self.chance(0.6):
            if self.chance(0.7):
                command += self.expiry_option(True)
            else:
                command.append(self.case(self.pick("PERSIST", "PERSIST", "KEEPTTL", "NX", "EX")))
        return command

    def make_counter(self):
        name = self.pick(b"INCR", b"DECR", b"INCRBY", b"DECRBY")
        return [name, self.key()] + ([self.integer()] if name.endswith(b"BY") else [])

    def make_float(self):
        return [b"INCRBYFLOAT", self.key(), self.random.choice(NOT_FLOATS if self.chance(0.2) else FLOATS)]

    def make_several(self):
        if self.chance(0.5):
            return [b"MGET"] + [self.key() for _ in range(self.random.randrange(1, 8))]
        command = [self.pick(b"MSET", b"MSETNX")]
        for _ in range(self.random.randrange(1, 6)):
            command += [self.key(), self.value()]
        if self.chance(0.05):
            command.pop()
        return command

    def make_string(self):
        kind = self.random.random()
        if kind < 0.35:
            return [b"APPEND", self.key(), self.value()]
        if kind < 0.7:
            return [self.pick(b"GETRANGE", b"SUBSTR"), self.key(), self.integer(), self.integer()]
        offset = self.integer()
        if offset.lstrip(b"-").isdigit() and 60_000 < int(offset) < 536_870_912:
            offset = b"40000"
        return [b"SETRANGE", self.key(), offset, self.value()]

    def make_lcs(self):
        command = [b"LCS", self.random.choice(PLAIN_KEYS), self.random.choice(PLAIN_KEYS)]
        while self.chance(0.5):
            command.append(self.case(self.pick("LEN", "IDX", "WITHMATCHLEN")))
            if self.chance(0.3):
                command += [b"MINMATCHLEN", self.integer()]
        return command

    def make_expiry(self):
        name, unit, absolute = self.pick(("EXPIRE", "s", False), ("PEXPIRE", "ms", False), ("EXPIREAT", "s", True),
                                         ("PEXPIREAT", "ms", True))
        command = [self.case(name), self.key(), self.duration(unit, absolute)]
        while self.chance(0.3):
            command.append(self.case(self.pick("NX", "XX", "GT", "LT", "NX", "XX", "GT", "LT", "BOGUS")))
        return command

    def make_expiry_read(self):
        return [self.pick(b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME", b"PERSIST"), self.key()]

    def make_keys(self):
        kind = self.random.random()
        if kind < 0.7:
            name = self.pick(b"DEL", b"UNLINK", b"EXISTS", b"EXISTS", b"TOUCH", b"TOUCH")
            return [name] + [self.key() for _ in range(self.random.randrange(1, 4))]
        if kind < 0.85:
            return [b"KEYS", self.pick(b"*", b"k*", b"k?", b"k[1-5]", b"k[^1-5]", b"*tag*", b"\\{*", b"", b"[", b"k1",
                                       b"*\x00*", b"[\\", b"**", b"k[13", b"\\k\\1", b"\\")]
        return [self.pick(b"DBSIZE", b"RANDOMKEY")]

    def make_two_keys(self):
        kind = self.random.random()
        if kind < 0.5:
            return [self.pick(b"RENAME", b"RENAMENX"), self.key(), self.key()]
        if kind < 0.7:
            return [b"MOVE", self.key(), self.database()]
        command = [b"COPY", self.key(), self.key()]
        while self.chance(0.5):
            command += self.pick([b"REPLACE"], [b"DB", self.database()], [b"db", b"1"], [b"BOGUS"], [b"DB"])
        return command

    def database(self):
        return self.pick(b"0", b"0", b"1", b"2", b"3") if self.chance(0.85) else self.pick(
            b"15", b"16", b"-1", b"x", b"", b"4294967296", b"99999999999999999999")

    def make_database(self):
        kind = self.random.random()
        if kind < 0.7:
            return [b"SELECT", self.database()]
        if kind < 0.9:
            return [b"SWAPDB", self.database(), self.database()]
        name = self.pick(b"FLUSHDB", b"FLUSHDB", b"FLUSHALL")
        return [name] + self.pick([], [b"ASYNC"], [b"SYNC"], [b"BOGUS"], [b"SYNC", b"ASYNC"])

    def make_object(self):
        return [b"OBJECT", self.case(self.pick("ENCODING", "ENCODING", "ENCODING", "REFCOUNT", "IDLETIME", "FREQ",
                                               "BOGUS")), self.key()]

    def make_connection(self):
        return self.pick([b"PING"], [b"PING", self.value()], [b"ECHO", self.value()], [b"CLIENT", b"GETNAME"],
                         [b"CLIENT", b"SETNAME", self.pick(b"", b"me", b"a b", b"x\n", b"\xff")],
                         [b"TIME"], [b"CLIENT", b"ID"], [b"CLIENT", b"NO-EVICT", b"off"], [b"UNWATCH"],
                         [b"CLIENT", b"KILL", b"ID", b"99999999"], [b"AUTH", b"x"])

    def make_server(self):
        return self.pick([b"CONFIG", b"GET", b"maxmemory-policy"], [b"CONFIG", b"GET", b"nosuch"],
                         [b"CONFIG", b"SET", b"nosuch", b"1"], [b"CONFIG", b"SET", b"hz", b"x"],
                         [b"CONFIG", b"SET", b"tcp-backlog", b"5"], [b"CONFIG", b"SET", b"hz"],
                         [b"COMMAND", b"GETKEYS"] + self.make_several(), [b"COMMAND", b"GETKEYS"] + self.make_set(),
                         [b"DEBUG", b"PROTOCOL", self.pick(b"string", b"integer", b"null", b"array", b"map", b"true")],
                         [b"DEBUG", b"SET-ACTIVE-EXPIRE", b"1"], [b"DEBUG", b"SLEEP", b"0"])

    def make_unknown(self):
        return self.pick([b"NOSUCH"], [b"NOSUCH", self.value(), self.key()], [b"OBJECT"], [b"CLIENT", b"NOSUCH"],
                         [b"CONFIG", b"NOSUCH", b"x"], [b"n\r\nx", b"a\nb"], [b"COMMAND", b"NOSUCH"], [b"", b""],
                         [b"SE"], [b"SETT", b"a", b"b"], [b"z" * 300, b"y" * 300], [b"client|id"], [b"config|get", b"x"])

    # --- whole commands -----------------------------------------------------------------------------------

    def simple_command(self):
        command = self.random.choices([maker for _, maker in self.makers], [weight for weight, _ in self.makers])[0]()
        if self.chance(0.03) and len(command) > 1 and command[0].upper() not in (b"COMMAND", b"DEBUG", b"AUTH"):
            kind = self.random.random()
            if kind < 0.4:
                command.pop(self.random.randrange(1, len(command)))
            elif kind < 0.8 and command[0].upper() not in (b"SETRANGE", b"CLIENT"):
                command.insert(self.random.randrange(1, len(command) + 1), self.value())
            else:
                command.append(self.case(self.pick("NX", "GET", "REPLACE", "X")))
        return command

    def command(self, in_transaction):
        """The next command of a connection."""
        kind = self.random.random()
        if in_transaction:
            if kind < 0.12:
                return [b"EXEC"]
            if kind < 0.14:
                return [b"DISCARD"]
            if kind < 0.16:
                return self.pick([b"MULTI"], [b"WATCH", self.key()], [b"UNWATCH"], [b"EXEC", b"x"], [b"RESET"])
        else:
            if kind < 0.03:
                return [b"WATCH"] + [self.key() for _ in range(self.random.randrange(1, 4))]
            if kind < 0.06:
                return [b"MULTI"]
            if kind < 0.07:
                return self.pick([b"EXEC"], [b"DISCARD"], [b"UNWATCH"], [b"WATCH"], [b"RESET"])
            if kind < 0.08:
                return [b"HELLO"] + self.pick([], [b"2"], [b"3"], [b"3"], [b"4"], [b"x"], [b"2", b"BOGUS"],
                                              [b"3", b"SETNAME", b"me"])
        return self.simple_command()

    def wire(self, command):
        """The bytes of a command: multi bulk, or at times inline."""
        if self.chance(0.1) and all(command) and all(
                byte > 0x20 and byte not in b"\"'" for word in command for byte in word) and sum(map(len, command)) < 9000:
            words = [b'"%b"' % word.replace(b"\\", b"\\\\") if self.chance(0.2) else word for word in command]
            return self.pick(b" ", b"  ", b"\t").join(words) + self.pick(b"\r\n", b"\n")
        return encode_command(*command)


# --- agreement ----------------------------------------------------------------------------------------------


def _close(ours, theirs, limit):
    return isinstance(ours, int) and isinstance(theirs, int) and (ours < 0) == (theirs < 0) and abs(ours - theirs) <= limit


def agree(command, ours, theirs):
    """True if two reply values to `command`, which differ in their bytes, agree all the same."""
    name = command[0].upper().decode(errors="replace")
    if type(ours) is not type(theirs) or isinstance(ours, ReplyError):
        return False
    if name in ("TTL", "EXPIRETIME"):
        return _close(ours, theirs, FAR_MS // 1000)
    if name in ("PTTL", "PEXPIRETIME"):
        return _close(ours, theirs, FAR_MS)
    if name == "KEYS":
        return sorted(ours) == sorted(theirs)
    if name == "RANDOMKEY":
        return ours is not None
    if name == "TIME":
        return len(ours) == len(theirs) == 2
    if name == "CLIENT":
        return command[1].upper() == b"ID"
    if name == "OBJECT":
        return command[1].upper() in (b"IDLETIME", b"REFCOUNT", b"FREQ") and isinstance(ours, int) and isinstance(theirs, int)
    if name == "HELLO":
        pairs = [dict(zip(value[::2], value[1::2])) for value in (ours, theirs)]
        return isinstance(ours, Map) == isinstance(theirs, Map) and list(pairs[0]) == list(pairs[1]) and all(
            pairs[0][field] == pairs[1][field] for field in (b"server", b"proto", b"mode", b"role", b"modules"))
    return False


class Connection:
    """One connection to each server, and the transaction that is being queued on it."""

    def __init__(self, ours, theirs):
        self.ours = ours
        self.theirs = theirs
        self.queue = None
        self.history = []

    def check(self, command):
        """Read one reply from each server; return a complaint or None."""
        our_value, our_raw = self.ours.read_both()
        their_value, their_raw = self.theirs.read_both()
        self.history.append((command, our_raw, their_raw))
        name = command[0].upper()
        queued = self.queue
        # What the reply to EXEC answers to is known from the stock server's replies to the commands before.
        if name == b"MULTI" and their_value == "OK":
            self.queue = []
        elif queued is not None:
            if their_value == "QUEUED":
                queued.append(command)
            elif name in (b"EXEC", b"DISCARD", b"RESET"):
                self.queue = None
        if our_raw == their_raw:
            return None
        if name == b"EXEC" and queued is not None and isinstance(our_value, list) and isinstance(
                their_value, list) and len(our_value) == len(their_value) == len(queued):
            for inner, ours, theirs in zip(queued, our_value, their_value):
                if (repr(ours), type(ours)) != (repr(theirs), type(theirs)) and not agree(inner, ours, theirs):
                    return f"EXEC: {inner!r}: {ours!r} and not {theirs!r}"
            return None
        if agree(command, our_value, their_value):
            return None
        return f"{command!r}:\n ours   {our_raw[:600]!r}\n theirs {their_raw[:600]!r}"

    def story(self, count=25):
        lines = [f"  {command!r} -> {ours[:120]!r}" for command, ours, _ in self.history[-count:]]
        return "\n".join(line[:400] for line in lines)


def dump(client, databases=16):
    """Everything in a server: {(database, key): (type, encoding, value, expiry in ms)}."""
    content = {}
    for database in range(databases):
        assert client.call("SELECT", database) == "OK"
        keys = client.call("KEYS", "*")
        assert client.call("DBSIZE") == len(keys)
        for key in keys:
            kind, encoding, value, expiry = client.pipeline(
                [("TYPE", key), ("OBJECT", "ENCODING", key), ("GET", key), ("PEXPIRETIME", key)])
            content[database, key] = (kind, encoding, value, expiry)
    return content


def dumps_differ(ours, theirs):
    """What differs between two dumps, as lines."""
    lines = []
    for place in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(place), theirs.get(place)
        if one is None or other is None:
            lines.append(f"{place}: ours {one!r:.200}, theirs {other!r:.200}")
        elif one[:3] != other[:3] or (one[3] != other[3] and not _close(one[3], other[3], FAR_MS)):
            lines.append(f"{place}: ours {one!r:.300}, theirs {other!r:.300}")
    return lines
