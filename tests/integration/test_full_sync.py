"""Full syncs between two Slotwise servers: the snapshot comes in LZ4 blocks, also beside stock replicas and over bad links."""

import os
import shutil
import signal
import subprocess

import pytest
import redis

import harness
from harness import HANG_SECONDS, ORACLE, wait_until
from replication import HandMade, Proxy, follow, link_is_up, rdb_of, wait_link_up
from replication_load import Load, assert_same_data, digest, info

MODULE_SECONDS = 50
pytestmark = pytest.mark.slotwise

NO_DELAY = {"repl-diskless-sync-delay": "0"}
IN_BLOCKS = "receiving streamed RDB from master in LZ4 blocks to "


def client_of(server):
    return redis.Redis(port=server.port, socket_timeout=HANG_SECONDS)


def fill(primary, keys=5000):
    """Text that compresses, large values, bytes that do not compress, several databases, times to live."""
    with client_of(primary) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(keys):
            pipeline.set(f"user:{number}", b'{"name": "somebody", "city": "somewhere", "visits": %d}' % number * 4,
                         ex=100_000 if number % 7 == 0 else None)
        pipeline.set("large", b"x" * 3_000_000)
        pipeline.set("random", os.urandom(1_000_000))
        pipeline.execute_command("SELECT", 9)
        pipeline.set("elsewhere", 1)
        pipeline.execute()


def full_syncs(primary):
    return info(primary, "stats")["sync_full"]


@pytest.mark.smoke
@pytest.mark.parametrize("diskless_sync", ["yes", "no"])
@pytest.mark.parametrize("diskless_load", ["disabled", "on-empty-db"])
def test_in_blocks(start, tmp_path, diskless_sync, diskless_load):
    primary = start({**NO_DELAY, "repl-diskless-sync": diskless_sync}, threads=2)
    fill(primary)
    replica = start({"replicaof": ("127.0.0.1", primary.port), "repl-diskless-load": diskless_load}, threads=2)
    wait_link_up(replica)
    assert_same_data(primary, replica)
    assert IN_BLOCKS + ("disk" if diskless_load == "disabled" else "parser") in replica.log()
    assert Load(primary, range(3), 300).join() > 500
    assert_same_data(primary, replica)
    assert full_syncs(primary) == 1
    # What was received is a file that others read too.
    received = os.path.join(replica.directory, "dump.rdb")
    assert os.path.exists(received) == (diskless_load == "disabled")
    if os.path.exists(received) and shutil.which("redis-check-rdb"):
        shutil.copy(received, tmp_path / "copy.rdb")
        checked = subprocess.run(["redis-check-rdb", str(tmp_path / "copy.rdb")], capture_output=True, text=True, check=False)
        assert "RDB looks OK" in checked.stdout and "Checksum OK" in checked.stdout
    assert not [name for name in os.listdir(replica.directory) if name.startswith("temp-")]


@pytest.mark.parametrize("compression", ["yes", "no"])
def test_the_snapshot_is_smaller_on_the_wire(start, compression):
    primary = start({**NO_DELAY, "repl-compression": compression, "rdbcompression": "no"}, threads=2)
    fill(primary, 20000)
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_link_up(replica)
    assert_same_data(primary, replica)
    wire = info(replica, "stats")["total_net_repl_input_bytes"]
    plain = os.path.getsize(os.path.join(replica.directory, "dump.rdb"))
    assert (IN_BLOCKS in replica.log()) == (compression == "yes")
    assert wire < 0.6 * plain if compression == "yes" else wire >= plain


@pytest.mark.skipif(not os.access(ORACLE, os.X_OK), reason="no stock server")
@pytest.mark.parametrize("backend", harness.BACKENDS)
def test_old_and_new_replicas_in_one_round(start, backend):
    """One walk serves all of them, each in the form that it reads, while writers go on."""
    primary = start({"repl-diskless-sync-delay": "60", "repl-diskless-sync-max-replicas": "4"}, threads=2, backend=backend)
    fill(primary)
    load = Load(primary, range(20, 24))
    following = {"replicaof": ("127.0.0.1", primary.port)}
    replicas = [start(following, binary=ORACLE, backend=None), start(following, threads=2, backend=backend),
                start(following, binary=ORACLE, backend=None), start(following, threads=2, backend=backend)]
    for replica in replicas:
        wait_link_up(replica)
    assert load.stop() > 100
    for replica in replicas:
        assert_same_data(primary, replica)
    assert primary.log().count("Starting BGSAVE for SYNC") == 1
    assert full_syncs(primary) == 4
    for number, replica in enumerate(replicas):
        assert (IN_BLOCKS in replica.log()) == (number % 2 == 1)


def test_who_comes_later_gets_the_next_round(start):
    """Each kind alone, one after the other, and again."""
    primary = start(NO_DELAY, threads=2)
    fill(primary, 500)
    for number in range(4):
        replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2) if number % 2 else \
            start({"replicaof": ("127.0.0.1", primary.port)}, binary=ORACLE, backend=None)
        wait_link_up(replica)
        assert_same_data(primary, replica)
    assert primary.log().count("Starting BGSAVE for SYNC") == 4


class Mangler(Proxy):
    """Passes so many bytes of the primary's; then it breaks the link, or changes one byte and goes on."""

    def __init__(self, port):
        super().__init__(port)
        self.limit = None  # of bytes from the primary, on each link
        self.changes = False

    def _pump(self, source, sink):
        limit, changes = self.limit, self.changes
        passed = 0
        try:
            if limit is None or source.getpeername()[1] != self.target:
                super()._pump(source, sink)
                return
            while data := source.recv(65536):
                if passed <= limit < passed + len(data):
                    data = bytearray(data)
                    if changes:
                        data[limit - passed] ^= 0x40
                    else:
                        sink.sendall(data[:limit - passed])
                        break
                passed += len(data)
                sink.sendall(data)
        except OSError:
            pass
        self._end(source, sink)

    @staticmethod
    def _end(*ends):
        for end in ends:
            try:
                end.shutdown(2)
            except OSError:
                pass


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("diskless_load", ["disabled", "on-empty-db"])
def test_links_that_break_or_lie_in_the_middle(start, changes, diskless_load):
    """Another try follows, nothing half is served, and in the end all is there."""
    primary = start(NO_DELAY, threads=2)
    fill(primary)
    replica = start({"repl-diskless-load": diskless_load}, threads=2)
    if diskless_load == "disabled":
        replica.call("SET", "mine", "1")
    proxy = Mangler(primary.port)
    proxy.changes = changes
    line = "Corrupt snapshot from MASTER, at byte " if changes else "I/O error trying to sync with MASTER: connection lost"
    failures = 0
    proxy.limit = 0
    follow(replica, proxy.port)
    for limit in (1000, 60_000, 400_000, 1_000_000):
        proxy.limit = limit
        proxy.cut()
        wait_until(lambda count=failures: replica.log().count(line) > count, what=f"failure at byte {limit}")
        failures = replica.log().count(line)
        size = replica.call("DBSIZE")
        assert size == (1 if diskless_load == "disabled" else 0) or str(size).startswith("LOADING")
    proxy.limit = None
    proxy.cut()
    wait_link_up(replica)
    assert_same_data(primary, replica)
    assert replica.call("GET", "mine") is None
    proxy.close()


def test_a_replica_that_is_killed_in_the_middle(start):
    primary = start(NO_DELAY, threads=2)
    fill(primary)
    proxy = Mangler(primary.port)
    proxy.limit = 500_000
    load = Load(primary, range(3))
    for _ in range(3):
        replica = start({"replicaof": ("127.0.0.1", proxy.port)}, threads=2)
        wait_until(lambda replica=replica: IN_BLOCKS in replica.log(), what="a transfer")
        replica.terminate(signal.SIGKILL)
    proxy.limit = None
    replica = start({"replicaof": ("127.0.0.1", proxy.port)}, threads=2)
    wait_link_up(replica)
    load.stop()
    assert_same_data(primary, replica)
    proxy.close()


def test_bytes_from_anybody(start):
    """A primary by hand that announces blocks and sends something else."""
    primary = HandMade()
    replica = start({"repl-diskless-load": "on-empty-db"}, threads=2)
    follow(replica, primary.port)
    header = lambda mark, plain, payload: bytes([mark]) + plain.to_bytes(4, "little") + payload.to_bytes(4, "little") + bytes(8)
    cases = [b"REDIS0010" + bytes(100), header(0xd0, 0, 0), header(0xd0, 100, 100) + bytes(100), header(0xd0, 1 << 30, 1 << 20),
             header(0xd1, 50, 50) + bytes(50), header(0xd2, 0, 0), header(0xd3, 0, 0), header(0xd0, 1000, 20) + os.urandom(20)]
    for number, case in enumerate(cases):
        primary.shake_hands()
        primary.send(b"+FULLRESYNC " + primary.ID.encode() + b" 0\r\n$slotwise-blocks-1\r\n" + case)
        wait_until(lambda wanted=number + 1: replica.log().count("Corrupt snapshot from MASTER") == wanted, what=f"case {number}")
        wait_until(lambda: replica.call("DBSIZE") == 0, what="the end of the loading")
    # An older primary sends none.
    primary.full_sync(rdb_of([(b"k", b"v")]))
    wait_until(lambda: link_is_up(replica))
    assert replica.call("GET", "k") == b"v"
    assert replica.info("persistence")["loading"] == "0"
    primary.close()


def test_chained(start):
    """A replica that has replicas itself hands on what it got, in blocks as well."""
    first = start(NO_DELAY, threads=2)
    fill(first, 1000)
    middle = start({**NO_DELAY, "replicaof": ("127.0.0.1", first.port)}, threads=2)
    wait_link_up(middle)
    last = start({"replicaof": ("127.0.0.1", middle.port)}, threads=2)
    wait_link_up(last)
    Load(first, range(2), 300).join()
    assert_same_data(first, middle)
    wait_until(lambda: digest(last) == digest(first), what="the end of the chain")
    assert IN_BLOCKS in middle.log() and IN_BLOCKS in last.log()
