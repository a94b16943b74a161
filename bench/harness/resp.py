"""A small RESP2 client for asking servers about themselves. Not for load."""

import socket


class ReplyError(Exception):
    """The server answered with an error."""


class Connection:
    """A blocking connection; every call has a time limit."""

    def __init__(self, port, timeout_s=10.0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, *words):
        """Sends one command and returns its reply; an error reply is raised."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        reply = self._read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def info(self, section="default"):
        """INFO as a dictionary of texts."""
        text = self.call("INFO", section).decode(errors="replace")
        pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
        return {name: value for name, value in pairs}

    def _read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode(errors="replace")
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.file.read(length + 2)[:-2]
        if kind == b"*":
            count = int(rest)
            return None if count < 0 else [self._read() for _ in range(count)]
        raise ConnectionError("no RESP: %r" % line[:80])
