"""A primary at its edges: what replicas should not do, roles that change under way, rounds that fail, who is silent."""

import random
import shutil
import signal
import socket
import time

import pytest
import redis

from harness import HANG_SECONDS, ORACLE, wait_until
from replication_load import assert_same_data, info, wait_for_link
from resp import RawClient, ReplyError

MODULE_SECONDS = 45
NO_DELAY = {"repl-diskless-sync-delay": "0"}


def client_of(server):
    return redis.Redis(port=server.port, socket_timeout=HANG_SECONDS)


class Stub(RawClient):
    """A replica by hand: without the capability of marks, so the length of its snapshot is told."""

    def line(self):
        """The next line that is not a sign of life."""
        while True:
            while b"\n" not in self.buffer[self.position:]:
                self._fill()
            end = self.buffer.index(b"\n", self.position)
            line = bytes(self.buffer[self.position:end]).rstrip(b"\r")
            self.position = end + 1
            if line:
                return line

    def ask(self):
        """PSYNC; (id, offset) of the full sync."""
        self.send(b"PSYNC ? -1\r\n")
        word, history, offset = self.line().split()
        assert word == b"+FULLRESYNC"
        return history, int(offset)

    def skip(self, length):
        while length > 0:
            if self.position == len(self.buffer):
                self._fill()
            step = min(length, len(self.buffer) - self.position)
            self.position += step
            length -= step

    def synchronise(self):
        place = self.ask()
        self.skip(int(self.line()[1:]))
        return place

    def rest(self):
        """All until the end of the connection."""
        try:
            while True:
                self._fill()
        except ConnectionResetError:
            return bytes(self.buffer[self.position:])


@pytest.mark.slotwise
def test_the_command_that_begins_the_stream_is_not_in_it(start):
    primary = start(NO_DELAY, threads=1)
    with client_of(primary) as client, Stub(port=primary.port) as replica:
        client.set("a", 1)
        _, offset = replica.synchronise()
        assert offset == 0
        assert info(primary)["master_repl_offset"] == 0
        client.set("a", 2)
        assert replica.read() == [b"SELECT", b"0"]
        assert replica.read() == [b"SET", b"a", b"2"]


@pytest.mark.slotwise
def test_who_has_all_but_the_question_has_all_at_the_end(start):
    primary = start({**NO_DELAY, "repl-ping-replica-period": "3600", "shutdown-timeout": "300"}, threads=1)
    with client_of(primary) as client, Stub(port=primary.port) as replica:
        replica.synchronise()
        client.set("a", 1)
        assert [replica.read(), replica.read()] == [[b"SELECT", b"0"], [b"SET", b"a", b"1"]]
        offset = info(primary)["master_repl_offset"]
        primary.expect_end = True
        primary.process.send_signal(signal.SIGTERM)
        assert replica.read() == [b"REPLCONF", b"GETACK", b"*"]
        replica.send_command("REPLCONF", "ACK", offset)  # as Redis answers: before it counts the question
        assert primary.wait_end() == 0
    assert "1 of 1 replicas are in sync when shutting down." in primary.log()


@pytest.mark.slotwise
def test_what_a_primary_wrote_before_it_became_a_replica_is_in_its_history(start):
    primary = start(NO_DELAY, threads=2)
    with client_of(primary) as client, Stub(port=primary.port) as replica:
        replica.synchronise()
        client.set("a", 1)
        assert [replica.read(), replica.read()] == [[b"SELECT", b"0"], [b"SET", b"a", b"1"]]
        before = info(primary)["master_repl_offset"]
        replies = RawClient(port=primary.port).pipeline(
            [("MULTI",), ("SET", "a", "2"), ("REPLICAOF", "127.0.0.1", "1"), ("EXEC",)])
        assert replies[3] == ["OK", "OK"]
        assert replica.read() == [b"SET", b"a", b"2"]
        assert info(primary)["master_repl_offset"] > before
        assert client.get("a") == b"2"


@pytest.mark.slotwise
def test_wait_on_what_is_no_primary(start):
    server = start(NO_DELAY, threads=2)
    with client_of(server) as client, RawClient(port=server.port) as waiting:
        client.set("a", 1)
        waiting.send_command("WAIT", 1, 0)
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1 or
                   any(line["cmd"] == "wait" for line in client.client_list()), what="WAIT")
        client.execute_command("REPLICAOF", "127.0.0.1", 1)
        assert waiting.read() == ReplyError(
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
        with pytest.raises(ConnectionResetError):
            waiting.read()
        with pytest.raises(redis.ResponseError, match="WAIT cannot be used with replica instances"):
            client.execute_command("WAIT", 0, 0)


@pytest.mark.slotwise
def test_the_replicas_of_a_replica_ask_anew_when_it_gets_another_history(start):
    first, second = start(NO_DELAY), start(NO_DELAY)
    middle = start({**NO_DELAY, "replicaof": ("127.0.0.1", first.port)}, threads=2)
    wait_for_link(middle)
    last = Stub(port=middle.port, timeout=HANG_SECONDS / 3)
    last.synchronise()
    wait_until(lambda: info(middle)["slave0"]["state"] == "online", what="the last one")
    with client_of(middle) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", second.port)
    last.rest()
    last.close()
    wait_for_link(middle)
    wait_until(lambda: info(middle)["connected_slaves"] == 0, what="the end of its link")


@pytest.mark.slotwise
def test_a_round_that_cannot_begin_is_tried_once_a_second(start, tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    primary = start({**NO_DELAY, "dir": str(directory)}, threads=2)
    with Stub(port=primary.port) as replica:
        shutil.rmtree(directory)
        began = time.monotonic()
        replica.send(b"PSYNC ? -1\r\n")
        failed = "BGSAVE for replication failed"
        wait_until(lambda: primary.log().count(failed) >= 2, what="another attempt")
        time.sleep(1)
        assert primary.log().count(failed) <= time.monotonic() - began + 2


@pytest.mark.slotwise
def test_a_replica_that_makes_us_reply_is_disconnected(start):
    primary = start(NO_DELAY, threads=2)
    for i in range(8):
        with Stub(port=primary.port) as replica:
            replica.send(b"PSYNC ? -1\r\nREPLCONF ACK 0\r\nPING\r\n" if i % 2 else b"PSYNC ? -1\r\n")
            if i % 2 == 0:
                assert replica.line().startswith(b"+FULLRESYNC")
                replica.send(b"REPLCONF capa eof\r\n")
            assert b"PONG" not in replica.rest()
    wait_until(lambda: info(primary)["connected_slaves"] == 0, what="the end of the links")
    assert "Replica generated a reply to command 'ping', disconnecting it: " in primary.log()


@pytest.mark.slotwise
def test_the_first_that_psync_gets_is_its_reply(start):
    primary = start(NO_DELAY)
    with RawClient(*primary.address()) as replica:
        replica.send(b"*3\r\n$5\r\nPSYNC\r\n$13\r\nreplicationid\r\n$2\r\n-1\r\n")
        assert replica.socket.recv(12, socket.MSG_WAITALL) == b"+FULLRESYNC "


def test_psync_with_an_offset_that_is_none(start):
    server = start()
    with RawClient(*server.address()) as client:
        assert client.call("PSYNC", "replicationid", "offset") == ReplyError("ERR value is not an integer or out of range")
        assert client.call("PING") == "PONG"
    wait_until(lambda: " asks for synchronization but with a wrong offset" in server.log())


def test_psync_behind_what_has_not_been_read_is_refused(start):
    primary = start(NO_DELAY, threads=1)
    with client_of(primary) as client, RawClient(port=primary.port) as replica:
        client.set("large", b"x" * 20_000_000)
        replica.send_command("GET", "large")
        wait_until(lambda: any(int(line["omem"]) > 0 for line in client.client_list()), what="unsent bytes")
        replica.send(b"PSYNC ? -1\r\n")
        wait_until(lambda: any(line["cmd"] == "psync" for line in client.client_list()), what="PSYNC to be looked at")
        assert len(replica.read()) == 20_000_000
        assert replica.read() == ReplyError("ERR SYNC and PSYNC are invalid with pending output")
    assert info(primary)["connected_slaves"] == 0


@pytest.mark.slotwise
def test_silence_counts_from_when_the_snapshot_has_been_sent(start):
    primary = start({**NO_DELAY, "repl-timeout": "3"}, threads=2)
    with client_of(primary) as client, Stub(port=primary.port) as replica:
        client.set("large", random.randbytes(50_000_000)) # does not fit into sockets
        replica.ask()
        length = int(replica.line()[1:])
        for _ in range(5): # longer than repl-timeout; the end of the snapshot is not sent yet
            replica.skip(8_000_000)
            time.sleep(1)
        replica.skip(length - 40_000_000)
        for _ in range(10): # as a replica that loads
            replica.send(b"\n")
            time.sleep(0.5)
        client.set("a", 1)
        while replica.read() == [b"PING"]:
            pass
        assert replica.read() == [b"SET", b"a", b"1"]
        wait_until(lambda: info(primary)["connected_slaves"] == 0, what="the end of the silent one")
    assert "Disconnecting timedout replica (streaming sync)" in primary.log()


@pytest.mark.slotwise
def test_the_connection_of_a_replica_stays_where_it_is(start):
    primary = start(NO_DELAY, threads=2)
    replica = start({**NO_DELAY, "replicaof": ("127.0.0.1", primary.port)}, binary=ORACLE, backend=None)
    wait_for_link(replica)
    with client_of(primary) as client:
        for i in range(200):
            client.set(f"k{i % 7}", i)
            client.execute_command("DEBUG", "MOVE-CLIENT", "ALL")
    assert_same_data(primary, replica)
    stats = info(primary, "stats")
    assert stats["sync_full"] == 1 and stats["sync_partial_ok"] == 0


@pytest.mark.slotwise
def test_sync_brings_the_stream_and_rdb_only_does_not(start):
    primary = start({**NO_DELAY, "repl-timeout": "1"}, threads=2)
    with client_of(primary) as client, Stub(port=primary.port) as tool, Stub(port=primary.port) as copy:
        assert copy.call("REPLCONF", "rdb-only", 1) == "OK"
        copy.synchronise()
        tool.send(b"SYNC\r\n")
        tool.skip(int(tool.line()[1:]))
        client.set("a", 1)
        assert copy.rest() == b""
        time.sleep(2.5)  # a tool acknowledges nothing, and is not closed for that
        client.set("a", 2)
        commands = [command for command in iter(tool.read, [b"SET", b"a", b"2"]) if command != [b"PING"]]
        assert commands == [[b"SELECT", b"0"], [b"SET", b"a", b"1"]]
        assert info(primary)["connected_slaves"] == 1


@pytest.mark.slotwise
def test_nothing_is_kept_for_who_wants_the_snapshot_only(start):
    """However slowly it reads, and whatever is written meanwhile: no limit of the stream ends it."""
    primary = start({**NO_DELAY, "repl-backlog-size": "16kb", "client-output-buffer-limit": "replica 1mb 0 0"}, threads=2)
    with client_of(primary) as client, Stub(port=primary.port) as copy:
        for i in range(400):  # more than sockets take, incompressible
            client.set(f"large{i}", random.Random(i).randbytes(100000))
        assert copy.call("REPLCONF", "rdb-only", 1) == "OK"
        copy.ask()
        length = int(copy.line()[1:])
        before = info(primary)["master_repl_offset"]
        while info(primary)["master_repl_offset"] < before + 8000000:
            client.set("large", random.randbytes(100000))
        time.sleep(2.5)  # the limit is looked at once a second
        copy.skip(length)
        assert "output buffer limits" not in primary.log()


@pytest.mark.slotwise
def test_the_first_ping_comes_after_a_period(start):
    primary = start({**NO_DELAY, "repl-ping-replica-period": "3600"}, threads=2)
    with client_of(primary) as client, Stub(port=primary.port) as replica:
        replica.synchronise()
        wait_until(lambda: info(primary)["slave0"]["state"] == "online", what="the stream")
        client.set("a", 1)
        # The figures are of the same look, once a second, that sends PING.
        before = info(primary)["repl_backlog_memory"]
        wait_until(lambda: info(primary)["repl_backlog_memory"] != before, what="the next look")
        client.set("b", 2)
        assert [replica.read() for _ in range(3)] == [[b"SELECT", b"0"], [b"SET", b"a", b"1"], [b"SET", b"b", b"2"]]


@pytest.mark.slotwise
def test_what_was_written_without_a_backlog_is_not_passed_over(start, tmp_path):
    """Promoted at its start it has no backlog, and what it writes is in no stream until somebody asks."""
    primary = start(NO_DELAY, threads=1)
    options = {**NO_DELAY, "replicaof": ("127.0.0.1", primary.port)}
    promoted = start({**options, "save": "3600 1"}, directory=tmp_path, threads=1)
    siblings = [start(options, threads=1) for _ in range(2)]
    for one in (promoted, *siblings):
        wait_for_link(one)
    with client_of(primary) as client:
        client.set("a", 1)
        for one in (promoted, *siblings):
            assert_same_data(primary, one)
    primary.stop()
    for one in siblings:  # its last words come to all of them
        wait_until(lambda one=one: info(one)["slave_repl_offset"] == info(promoted)["slave_repl_offset"], what="one place")
    assert promoted.terminate() == 0
    promoted = start({**options, "save": "3600 1"}, directory=tmp_path, threads=1)
    with client_of(promoted) as client:
        assert client.get("a") == b"1"
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.set("b", 2)
    for one in siblings:
        with client_of(one) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", promoted.port)
        wait_for_link(one)
        assert_same_data(promoted, one)


@pytest.mark.slotwise
def test_siblings_go_on_from_a_promoted_replica_that_got_nothing(start):
    primary = start({**NO_DELAY, "repl-ping-replica-period": "3600"}, threads=1)
    with client_of(primary) as client:
        client.set("a", 1)
    options = {**NO_DELAY, "replicaof": ("127.0.0.1", primary.port)}
    promoted, sibling = (start(options, threads=1) for _ in range(2))
    for one in (promoted, sibling):
        wait_for_link(one)
    assert info(sibling)["slave_repl_offset"] == info(promoted)["slave_repl_offset"] == 0
    with client_of(promoted) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.set("b", 2)
    with client_of(sibling) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", promoted.port)
    wait_for_link(sibling)
    assert_same_data(promoted, sibling)
    stats = info(promoted, "stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == (0, 1)


@pytest.mark.slotwise
def test_info_tells_how_far_a_replica_is_behind(start):
    primary = start({**NO_DELAY, "repl-ping-replica-period": "3600"}, threads=2)
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_for_link(replica)

    def lag():
        return info(primary)["replica0_lag"]
    primary.call("SET", "a", "x" * 1000)
    wait_until(lambda: lag() == {"bytes": 0, "ms": 0}, what="its acknowledgement")
    replica.process.send_signal(signal.SIGSTOP)
    try:
        before = info(primary)["master_repl_offset"]
        began = time.monotonic()
        primary.call("SET", "a", "x" * 1000)
        wait_until(lambda: info(primary)["master_repl_offset"] > before, what="the stream to have it")
        behind = lag()
        assert behind["bytes"] == info(primary)["master_repl_offset"] - before
        time.sleep(0.3)
        # Noted ten times a second: not before it happened, and not at every look.
        wait_until(lambda: lag()["ms"] >= behind["ms"] + 200, what="the time to pass")
        assert lag()["ms"] <= (time.monotonic() - began) * 1000 + 1
        primary.call("SET", "a", "x")
        assert lag()["ms"] >= 200
    finally:
        replica.process.send_signal(signal.SIGCONT)
    wait_until(lambda: lag() == {"bytes": 0, "ms": 0}, what="its acknowledgement")
    replica.expect_end = True
    replica.process.kill()
    wait_until(lambda: "replica0_lag" not in info(primary), what="it to be gone")


@pytest.mark.slotwise
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_rdb_key_save_delay_makes_a_full_sync_take_long(start, diskless):
    primary = start({**NO_DELAY, "repl-diskless-sync": diskless}, threads=2)
    primary.call("DEBUG", "POPULATE", 1000)
    primary.call("CONFIG", "SET", "rdb-key-save-delay", "2000")
    replica = start(threads=2)
    began = time.monotonic()
    assert replica.call("REPLICAOF", "127.0.0.1", primary.port) == "OK"
    wait_for_link(replica)
    assert time.monotonic() - began > 1.9  # two seconds of delay
    # One that nobody wants any more is over: the next begins.
    primary.call("CONFIG", "SET", "rdb-key-save-delay", "10000000")
    other = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_until(lambda: "state=send_bulk" in primary.call("INFO", "replication").decode(), what="the snapshot to be sent")
    primary.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    other.expect_end = True
    other.process.kill()
    other = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_for_link(other)
    assert_same_data(primary, other)
