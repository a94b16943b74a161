"""What the tests of replication share: a stock server as the other end, a proxy that breaks links, a primary made by hand."""

import socket
import threading

import harness
from harness import free_port, wait_until
from resp import RawClient, encode_command


def stock_primary(start, options=None, **keywords):
    """A stock server that begins full syncs at once."""
    settings = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
    settings.update(options or {})
    return start(settings, binary=harness.ORACLE, backend=None, **keywords)


def follow(replica, port, host="127.0.0.1"):
    assert replica.call("REPLICAOF", host, port) == "OK"


def link_is_up(replica):
    return replica.info("replication").get("master_link_status") == "up"


def wait_link_up(replica):
    wait_until(lambda: link_is_up(replica), what="the link to the primary to be up")


def in_step(primary, replica):
    wanted = int(primary.info("replication")["master_repl_offset"])
    there = replica.info("replication")
    return there.get("master_link_status") == "up" and int(there["slave_repl_offset"]) >= wanted


def assert_equal_data(primary, replica):
    """Waits until nothing is on the way, with nobody writing or expiring, and compares."""
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    wait_until(lambda: in_step(primary, replica), what="the replica to be where the primary is")
    assert replica.call("DEBUG", "DIGEST") == primary.call("DEBUG", "DIGEST")
    for database in range(16):
        assert replica.info("keyspace").get(f"db{database}", "").split(",avg")[0] == \
            primary.info("keyspace").get(f"db{database}", "").split(",avg")[0]
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")


class Proxy:
    """Passes bytes between whoever connects and a port, until it is told to break all links, or to hold what comes."""

    def __init__(self, port):
        self.target = port
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.refusing = False
        self.passing = threading.Event()  # clear: bytes are held on their way
        self.passing.set()
        self.pairs = []
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.refusing:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            with self.lock:
                self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                self.passing.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        """Breaks all links, wherever they are in the stream."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        self.passing.set()
        self.cut()


class HandMade:
    """A primary made by hand: the test sees and says every byte."""

    ID = "a" * 40

    def __init__(self):
        self.port = free_port()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(harness.HANG_SECONDS)
        self.link = None
        self.buffer = b""

    def close(self):
        self.listener.close()
        if self.link:
            self.link.close()

    def accept(self):
        if self.link:
            self.link.close()
        self.link, _ = self.listener.accept()
        self.link.settimeout(harness.HANG_SECONDS)
        self.buffer = b""

    def _fill(self):
        data = self.link.recv(65536)
        if not data:
            raise ConnectionResetError("the replica closed the link")
        self.buffer += data

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def command(self):
        """The next command that the replica sends, as a list of texts."""
        self.buffer = self.buffer.lstrip(b"\n")
        line = self._line()
        words = []
        for _ in range(int(line.lstrip(b"\n")[1:])):
            length = int(self._line()[1:])
            while len(self.buffer) < length + 2:
                self._fill()
            words.append(self.buffer[:length].decode())
            self.buffer = self.buffer[length + 2:]
        return words

    def send(self, data):
        self.link.sendall(data)

    def send_command(self, *words):
        data = encode_command(*words)
        self.send(data)
        return len(data)

    def shake_hands(self):
        """Up to PSYNC, whose arguments are returned."""
        self.accept()
        while True:
            words = self.command()
            if words[0] == "PSYNC":
                return words[1:]
            self.send(b"+PONG\r\n" if words[0] == "PING" else b"+OK\r\n")

    def full_sync(self, rdb, offset=0, by_mark=False, size=None):
        """size: of all of it, the rest of which is sent later."""
        asked = self.shake_hands()
        self.send(f"+FULLRESYNC {self.ID} {offset}\r\n".encode())
        if by_mark:
            mark = b"m" * 40
            self.send(b"$EOF:" + mark + b"\r\n" + rdb + mark)
        else:
            self.send(b"$%d\r\n" % (size or len(rdb)) + rdb)
        return asked

    def acknowledged(self, offset):
        """Reads acknowledgements until one of at least this offset."""
        while True:
            words = self.command()
            if words[:2] == ["REPLCONF", "ACK"] and int(words[2]) >= offset:
                return int(words[2])


EMPTY_RDB = b"REDIS0010\xff" + bytes(8)


def rdb_of(pairs):
    """A file of short strings, without a checksum."""
    body = b"".join(b"\x00" + bytes([len(key)]) + key + bytes([len(value)]) + value for key, value in pairs)
    return b"REDIS0010\xfe\x00" + body + b"\xff" + bytes(8)


__all__ = ["EMPTY_RDB", "HandMade", "Proxy", "RawClient", "assert_equal_data", "follow", "in_step", "link_is_up", "rdb_of",
           "stock_primary", "wait_link_up"]
