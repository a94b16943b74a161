"""A small RESP2/RESP3 client that shows the bytes: what was sent, and each reply as it came over the wire."""

import select
import socket

CRLF = b"\r\n"
# How long nothing may happen before a test calls it a hang. No measure of speed: a busy machine takes its time.
HANG_SECONDS = 60.0


class ReplyError(Exception):
    """An error reply as a value (never raised by the reader)."""

    def __init__(self, text):
        super().__init__(text)
        self.text = text

    def __eq__(self, other):
        return isinstance(other, ReplyError) and self.text == other.text

    def __hash__(self):
        return hash(self.text)

    def __repr__(self):
        return f"ReplyError({self.text!r})"


class Map(list):
    """A RESP3 map: a flat list of keys and values in the order in which they came."""

    def pairs(self):
        return list(zip(self[::2], self[1::2]))

    def dictionary(self):
        return {key: value for key, value in self.pairs()}


class Set(list):
    """A RESP3 set, in the order in which it came."""


class Push(list):
    """A RESP3 push message."""


class Attribute(list):
    """A RESP3 attribute map."""


class Verbatim(bytes):
    """A RESP3 verbatim string with its format."""


def encode_command(*arguments):
    """A command in the multi bulk form."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()
        elif not isinstance(argument, (bytes, bytearray)):
            argument = str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


class RawClient:
    """A blocking connection. Replies are values (`read`) or the exact bytes (`read_raw`)."""

    def __init__(self, host="127.0.0.1", port=0, *, path=None, timeout=HANG_SECONDS, protocol=2):
        if path:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection((host, port), timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.position = 0
        self.protocol = 2
        if protocol == 3:
            self.hello(3)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def hello(self, protocol):
        reply = self.call("HELLO", protocol)
        assert not isinstance(reply, ReplyError), reply
        self.protocol = protocol
        return reply

    # --- sending ------------------------------------------------------------------------------------------

    def send(self, data):
        self.socket.sendall(data)

    def send_command(self, *arguments):
        self.socket.sendall(encode_command(*arguments))

    def call(self, *arguments):
        self.send_command(*arguments)
        return self.read()

    def call_raw(self, *arguments):
        self.send_command(*arguments)
        return self.read_raw()

    def pipeline(self, commands):
        """Send all commands at once; return all replies."""
        self.socket.sendall(b"".join(encode_command(*command) for command in commands))
        return [self.read() for _ in commands]

    # --- receiving ----------------------------------------------------------------------------------------

    def _fill(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        if self.position > 1 << 20:
            del self.buffer[:self.position]
            self.position = 0
        self.buffer += data

    def _line(self, start):
        """(the line at `start` counted from the position, where the next begins)."""
        search = start
        while True:
            end = self.buffer.find(CRLF, self.position + search)
            if end >= 0:
                end -= self.position
                return bytes(self.buffer[self.position + start:self.position + end]), end + 2
            search = max(start, len(self.buffer) - self.position - 1)
            self._fill()

    def _exactly(self, start, count):
        while len(self.buffer) - self.position < start + count:
            self._fill()
        return bytes(self.buffer[self.position + start:self.position + start + count])

    def _parse(self, at):
        line, at = self._line(at)
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode(errors="replace"), at
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace")), at
        if kind == b":":
            return int(rest), at
        if kind == b"(":
            return int(rest), at
        if kind == b",":
            return float(rest), at
        if kind == b"#":
            return rest == b"t", at
        if kind == b"_":
            return None, at
        if kind in (b"$", b"=", b"!"):
            length = int(rest)
            if length < 0:
                return None, at
            body = self._exactly(at, length + 2)
            assert body[-2:] == CRLF, body[-20:]
            body = body[:-2]
            if kind == b"=":
                body = Verbatim(body[4:])
            return (ReplyError(body.decode()) if kind == b"!" else body), at + length + 2
        container = {b"*": list, b"%": Map, b"~": Set, b">": Push, b"|": Attribute}.get(kind)
        assert container is not None, f"no RESP reply: {line[:80]!r}"
        length = int(rest)
        if length < 0:
            return None, at
        items = container()
        for _ in range(length * 2 if kind in (b"%", b"|") else length):
            item, at = self._parse(at)
            items.append(item)
        return items, at

    def read_both(self):
        """(the value, the bytes) of the next reply."""
        value, end = self._parse(0)
        raw = bytes(self.buffer[self.position:self.position + end])
        self.position += end
        if self.position == len(self.buffer):
            self.buffer.clear()
            self.position = 0
        return value, raw

    def read(self):
        value, end = self._parse(0)
        self.position += end
        if self.position == len(self.buffer):
            self.buffer.clear()
            self.position = 0
        return value

    def read_raw(self):
        return self.read_both()[1]

    def unread(self):
        """What has arrived and has not been read."""
        return bytes(self.buffer[self.position:])

    def silent(self, seconds=0.1):
        """True if the server sends nothing (and does not close) for so long."""
        if self.position < len(self.buffer):
            return False
        return not select.select([self.socket], [], [], seconds)[0]

    def read_until_close(self, timeout=HANG_SECONDS):
        """All bytes up to the end of the connection (a reset counts as one)."""
        self.socket.settimeout(timeout)
        data = bytearray(self.buffer[self.position:])
        self.buffer.clear()
        self.position = 0
        while True:
            try:
                chunk = self.socket.recv(1 << 18)
            except (ConnectionResetError, BrokenPipeError):
                return bytes(data)
            if not chunk:
                return bytes(data)
            data += chunk

    def closed_within(self, seconds=HANG_SECONDS):
        """True if the server closes the connection within that time; what it sends before is dropped."""
        try:
            self.read_until_close(seconds)
            return True
        except socket.timeout:
            return False
