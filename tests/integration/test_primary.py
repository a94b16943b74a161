"""A primary with stock replicas: full and partial syncs, the stream under random load, WAIT."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import redis

from harness import BACKENDS, ORACLE, HANG_SECONDS, scaled, wait_until
from replication import Proxy
from replication_load import (Load, assert_same_data, digest, info, wait_for_link, wait_for_offset)
from resp import RawClient, encode_command

SMOKE = True

NO_DELAY = {"repl-diskless-sync-delay": "0"}


@pytest.fixture(name="replica_of")
def _replica_of(start):
    def make(primary, **options):
        settings = {"replicaof": ("127.0.0.1", primary.port), "repl-diskless-sync-delay": "0"}
        settings.update({name.replace("_", "-"): value for name, value in options.items()})
        return start(settings, binary=ORACLE, backend=None)
    return make


def client_of(server):
    return redis.Redis(port=server.port, socket_timeout=HANG_SECONDS)


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_full_sync_and_stream(start, replica_of, backend, diskless):
    primary = start({**NO_DELAY, "repl-diskless-sync": diskless}, backend=backend, threads=2)
    with client_of(primary) as client:
        client.execute_command("DEBUG", "POPULATE", 2000)
        client.set("with time", "v", ex=1000)
        client.set("large", b"x" * 3_000_000)
        client.execute_command("SELECT", 3)
        client.set("elsewhere", 1)
    replica = replica_of(primary)
    wait_for_link(replica)
    assert_same_data(primary, replica)
    assert Load(primary, range(4), 400).join() > 1000
    assert_same_data(primary, replica)
    stats = info(primary, "stats")
    assert stats["sync_full"] == 1 and stats["sync_partial_ok"] == 0
    with client_of(replica) as client:
        assert client.execute_command("DBSIZE") > 0
    lines = info(primary)
    assert lines["connected_slaves"] == 1
    assert lines["slave0"]["state"] == "online" and lines["slave0"]["port"] == replica.port


@pytest.mark.slotwise
def test_sync_under_load(start, replica_of):
    primary = start(NO_DELAY, threads=2)
    with client_of(primary) as client:
        client.execute_command("DEBUG", "POPULATE", 20000)
    load = Load(primary, range(10, 16))
    replicas = [replica_of(primary), replica_of(primary)]
    for replica in replicas:
        wait_for_link(replica)
    time.sleep(1)
    replicas.append(replica_of(primary))
    wait_for_link(replicas[2])
    assert load.stop() > 100
    for replica in replicas:
        assert_same_data(primary, replica)


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
def test_partial_sync_when_links_break(start, replica_of, backend):
    primary = start({**NO_DELAY, "repl-backlog-size": "16mb"}, backend=backend, threads=2)
    replica = replica_of(primary)
    wait_for_link(replica)
    load = Load(primary, range(20, 24))
    with client_of(replica) as client:
        for _ in range(8):
            time.sleep(0.2)
            client.execute_command("CLIENT", "KILL", "TYPE", "master")
            wait_for_link(replica)
    load.stop()
    assert_same_data(primary, replica)
    stats = info(primary, "stats")
    assert stats["sync_full"] == 1
    assert stats["sync_partial_ok"] >= 8


@pytest.mark.slotwise
def test_what_the_backlog_has_lost_is_synchronised_in_full(start, replica_of):
    primary = start({**NO_DELAY, "repl-backlog-size": "16kb"}, threads=2)
    replica = replica_of(primary)
    wait_for_link(replica)
    with client_of(primary) as client, client_of(replica) as other:
        other.execute_command("REPLICAOF", "NO", "ONE")
        for i in range(200):
            client.set(f"k{i}", b"x" * 1000)
        other.execute_command("REPLICAOF", "127.0.0.1", primary.port)
        wait_for_link(replica)
    assert_same_data(primary, replica)
    assert info(primary, "stats")["sync_full"] == 2


@pytest.mark.slotwise
def test_wait(start, replica_of):
    primary = start(NO_DELAY, threads=2)
    with client_of(primary) as client:
        client.set("a", 1)
        assert client.execute_command("WAIT", 0, 0) == 0
        began = time.monotonic()
        assert client.execute_command("WAIT", 1, 100) == 0
        assert time.monotonic() - began >= 0.1
        replica = replica_of(primary)
        wait_for_link(replica)
        for i in range(50):
            client.set("a", i)
            assert client.execute_command("WAIT", 1, 10000) == 1
            with client_of(replica) as other:
                assert other.get("a") == str(i).encode()
        assert client.execute_command("WAIT", 2, 50) == 1
        client.execute_command("MULTI")
        client.execute_command("WAIT", 2, 0)
        assert len(client.execute_command("EXEC")) == 1


@pytest.mark.slotwise
def test_wait_does_not_wait_for_a_full_frame(start):
    """Compared with replicas that get the stream as it is."""
    took = {"yes": [], "no": []}
    primaries = {choice: start({**NO_DELAY, "repl-compression": choice}, threads=2) for choice in took}
    for primary in primaries.values():
        wait_for_link(start({"replicaof": ("127.0.0.1", primary.port)}, threads=2))
    clients = {choice: client_of(primary) for choice, primary in primaries.items()}
    for i in range(400):
        for choice, client in clients.items():
            client.set("a", i)
            began = time.monotonic()
            assert client.execute_command("WAIT", 1, 0) == 1
            took[choice].append(time.monotonic() - began)
    for client in clients.values():
        client.close()
    assert sorted(took["yes"])[200] < 3 * sorted(took["no"])[200]


@pytest.mark.slotwise
def test_a_replica_that_reads_nothing_holds_up_nobody(start, replica_of):
    primary = start({**NO_DELAY, "repl-backlog-size": "1mb"}, threads=2)
    silent = RawClient(port=primary.port)
    silent.send(b"REPLCONF listening-port 1 capa eof capa psync2\r\n")
    assert silent.read() == "OK"
    silent.send(b"PSYNC ? -1\r\n")
    replica = replica_of(primary)
    wait_for_link(replica)
    with client_of(primary) as client:
        for i in range(3000):
            client.set(f"key:{i}", b"x" * 5000)
    wait_for_offset(primary, replica)
    assert digest(primary) == digest(replica)
    silent.close()
    wait_until(lambda: info(primary)["connected_slaves"] == 1, what="the end of the silent one")


READER = """
import socket, sys
link, buffer = socket.create_connection(("127.0.0.1", int(sys.argv[1]))), bytearray(1 << 20)
link.sendall(b"PSYNC ? -1\\r\\n")
while link.recv_into(buffer):
    pass
"""


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_turn_that_writes_much_sends_much(start, backend):
    """Many clients write megabytes in each turn of the worker; a replica that takes all it gets is given all of it meanwhile."""
    primary = start({**NO_DELAY, "client-output-buffer-limit": "replica 0 0 0"}, threads=1, backend=backend)
    reader = subprocess.Popen([sys.executable, "-c", READER, str(primary.port)])
    try:
        wait_until(lambda: info(primary).get("slave0", {}).get("state") == "online", what="the replica")
        count, commands = 32, scaled(400)
        blob = encode_command("SET", "key", "x" * 15_000) * commands

        def write():
            with RawClient(*primary.address()) as client:
                client.send(blob)
                for _ in range(commands):
                    client.read()

        writers = [threading.Thread(target=write) for _ in range(count)]
        for writer in writers:
            writer.start()
        kept = [0]
        while any(writer.is_alive() for writer in writers):
            kept.append(info(primary)["repl_backlog_pinned_memory"])
        assert max(kept) < count * len(blob) * 3 / 5  # 4 of 5 when each turn gives what it used to; more than none when others want the processor
    finally:
        reader.kill()
        reader.wait()


@pytest.mark.slotwise
def test_the_backlog_goes_when_no_replica_has_been_there_for_long(start, replica_of):
    primary = start({**NO_DELAY, "repl-backlog-ttl": "1"}, threads=2)
    assert info(primary)["repl_backlog_active"] == 0
    replica = replica_of(primary)
    wait_for_link(replica)
    before = info(primary)
    assert before["repl_backlog_active"] == 1
    with client_of(replica) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    wait_until(lambda: info(primary)["repl_backlog_active"] == 0, what="the end of the backlog")
    with client_of(primary) as client:
        client.set("not", "logged")
    after = info(primary)
    assert after["master_replid"] != before["master_replid"]
    with client_of(replica) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", primary.port)
    wait_for_link(replica)
    assert_same_data(primary, replica)


@pytest.mark.slotwise
def test_a_replica_that_costs_too_much_memory_is_closed(start):
    primary = start({**NO_DELAY, "repl-backlog-size": "1mb",
                     "client-output-buffer-limit": ("replica", "2mb", "0", "0")}, threads=2)
    silent = RawClient(port=primary.port)
    silent.send(b"PSYNC ? -1\r\n")
    wait_until(lambda: info(primary).get("slave0", {}).get("state") == "online", what="its snapshot")
    with client_of(primary) as client:
        random_bytes = random.Random(7).randbytes  # the backlog is kept compressed
        for i in range(2000):
            client.set(f"key:{i}", random_bytes(10000))
            if info(primary)["connected_slaves"] == 0:
                break
        wait_until(lambda: info(primary)["connected_slaves"] == 0, what="the end of the silent one")
    assert "overcoming of output buffer limits" in primary.log()
    silent.close()


@pytest.mark.slotwise
def test_min_replicas(start, replica_of):
    primary = start(NO_DELAY, threads=2)
    with client_of(primary) as client:
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(redis.ResponseError, match="^NOREPLICAS Not enough good replicas to write.|Not enough good"):
            client.set("a", 1)
        assert client.get("a") is None
        replica = replica_of(primary)
        wait_for_link(replica)
        wait_until(lambda: info(primary)["min_slaves_good_slaves"] == 1, what="a good replica")
        wait_until(lambda: _can_write(client), what="leave to write")
        client.config_set("min-replicas-to-write", 2)
        assert not _can_write(client)
        client.config_set("min-replicas-to-write", 1)
        client.config_set("min-replicas-max-lag", 1)
        replica.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: not _can_write(client), what="the lag to be noticed")
        finally:
            replica.process.send_signal(signal.SIGCONT)
        wait_until(lambda: _can_write(client), what="leave to write")


def _can_write(client):
    try:
        return client.set("a", 2)
    except redis.ResponseError:
        return False


@pytest.mark.slotwise
def test_replicas_are_clients_of_their_own_type(start, replica_of):
    primary = start({**NO_DELAY, "repl-backlog-size": "4mb"}, threads=2)
    replica = replica_of(primary)
    wait_for_link(replica)
    with client_of(primary) as client:
        wait_until(lambda: len(client.client_list(_type="replica")) == 1, what="the replica in the list")
        assert client.client_list(_type="replica")[0]["flags"] == "S"
        assert client.execute_command("CLIENT", "KILL", "TYPE", "replica") == 1
        assert client.execute_command("ROLE")[0] == b"master"
    wait_until(lambda: info(primary, "stats")["sync_partial_ok"] == 1, what="its return")
    assert_same_data(primary, replica)


@pytest.mark.slotwise
def test_a_chain_survives_the_promotion_of_its_middle(start, replica_of):
    first = start(NO_DELAY, threads=2)
    second = start({**NO_DELAY, "replicaof": ("127.0.0.1", first.port)}, threads=2)
    wait_for_link(second)
    third = start({**NO_DELAY, "replicaof": ("127.0.0.1", second.port)}, threads=1)
    stock = replica_of(second)
    for one in (third, stock):
        wait_for_link(one)
    Load(first, range(30, 33), 300).join()
    for one in (second, third, stock):
        assert_same_data(first, one)
    with client_of(first) as old, client_of(second) as new:
        new.execute_command("REPLICAOF", "NO", "ONE")
        old.execute_command("REPLICAOF", "127.0.0.1", second.port)
    for one in (first, third, stock):
        wait_for_link(one)
    Load(second, range(40, 43), 300).join()
    for one in (first, third, stock):
        assert_same_data(second, one)
    assert info(second, "stats")["sync_full"] == 2
    assert info(second, "stats")["sync_partial_ok"] == 3


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_stream_in_frames_when_links_break(start, backend):
    """Compressible and random values, links cut anywhere in a frame, and the replica goes on where it was."""
    primary = start({**NO_DELAY, "repl-backlog-size": "16mb"}, backend=backend, threads=2)
    proxy = Proxy(primary.port)
    replica = start({"replicaof": ("127.0.0.1", proxy.port)}, backend=backend, threads=2)
    wait_for_link(replica)
    load = Load(primary, range(50, 53))
    with client_of(primary) as client:
        for i in range(8):
            pipeline = client.pipeline(transaction=False)
            for j in range(200):
                pipeline.set(f"random:{j}", os.urandom(300) if i % 2 else b"again and again " * 30)
            pipeline.set("large", os.urandom(1_000_000))
            pipeline.execute()
            proxy.cut()
            wait_until(lambda count=i + 1: info(primary, "stats")["sync_partial_ok"] >= count, what="the next partial sync")
    load.stop()
    assert_same_data(primary, replica)
    stats = info(primary, "stats")
    assert stats["sync_full"] == 1
    assert stats["sync_partial_ok"] == 8
    proxy.close()


@pytest.mark.slotwise
@pytest.mark.parametrize("compression", ["yes", "no"])
def test_compression_saves_bytes_on_the_wire(start, compression):
    primary = start({**NO_DELAY, "repl-compression": compression}, threads=2)
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_for_link(replica)
    before = info(replica, "stats")["total_net_input_bytes"]
    with client_of(primary) as client:
        pipeline = client.pipeline(transaction=False)
        for i in range(5000):
            pipeline.set(f"user:{i}", b'{"name": "somebody", "city": "somewhere", "visits": %d}' % i)
        pipeline.execute()
    assert_same_data(primary, replica)
    wire = info(replica, "stats")["total_net_input_bytes"] - before
    plain = info(primary)["master_repl_offset"]
    if compression == "yes":
        wait_until(lambda: info(primary)["repl_stream_plain_bytes"] > 0.9 * plain, what="the figures")
        assert 0 < info(primary)["repl_stream_compression_ratio"] < 0.6
        assert info(primary, "memory")["mem_replication_backlog"] > 0
        assert info(primary, "memory")["mem_total_replication_buffers"] > 0
    assert wire < 0.6 * plain if compression == "yes" else wire >= plain - 1000


@pytest.mark.slotwise
def test_a_replica_that_takes_nothing_of_its_snapshot_is_closed(start):
    primary = start({**NO_DELAY, "repl-timeout": "1"}, threads=2)
    with client_of(primary) as client:
        for i in range(40):
            client.set(f"large:{i}", os.urandom(1_000_000))
    silent = RawClient(port=primary.port)
    silent.send(b"CLIENT REPLY OFF\r\nPSYNC ? -1\r\n")
    wait_until(lambda: info(primary)["connected_slaves"] == 1, what="the link")
    wait_until(lambda: info(primary)["connected_slaves"] == 0, what="its end")
    assert "Disconnecting timedout replica (full sync)" in primary.log()
    silent.close()


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
def test_replicas_have_all_that_was_acknowledged_when_the_primary_ends(start, replica_of, backend):
    primary = start(NO_DELAY, threads=2, backend=backend)
    ours = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2, backend=backend)
    stock = replica_of(primary)
    for one in (ours, stock):
        wait_for_link(one)
    with client_of(primary) as client:
        pipeline = client.pipeline(transaction=False)
        for i in range(20000):
            pipeline.set(f"key:{i}", b"v" * 200)
        pipeline.execute()
        last = digest(primary)
    assert primary.terminate() == 0
    assert "2 of 2 replicas are in sync when shutting down." in primary.log()
    for one in (ours, stock):
        wait_until(lambda one=one: digest(one) == last, what="all of it")


@pytest.mark.slotwise
def test_siblings_of_a_promoted_replica_go_on_from_it(start, replica_of):
    """It had no replicas itself."""
    primary = start(NO_DELAY, threads=2)
    promoted = start({**NO_DELAY, "replicaof": ("127.0.0.1", primary.port)}, threads=2)
    siblings = [start({"replicaof": ("127.0.0.1", primary.port)}), replica_of(primary)]
    for one in (promoted, *siblings):
        wait_for_link(one)
    Load(primary, range(60, 62), 200).join()
    for one in (promoted, *siblings):
        assert_same_data(primary, one)
    with client_of(promoted) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
        client.set("after", "promotion")
    for one in (primary, *siblings):
        with client_of(one) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", promoted.port)
        wait_for_link(one)
        assert_same_data(promoted, one)
    stats = info(promoted, "stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == (0, 3)


@pytest.mark.slotwise
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("at_once", [False, True])
def test_who_waits_counts_as_blocked_and_goes_when_he_hangs_up(start, backend, at_once):
    """A WAIT without a limit, whose client ends while it waits or in the moment in which it sends it."""
    server = start(threads=2, backend=backend)
    with client_of(server) as client:
        client.ping()
        for _ in range(20):
            waiting = RawClient(port=server.port)
            waiting.send_command("WAIT", 1, 0)
            if not at_once:
                wait_until(lambda: client.info("clients")["blocked_clients"] == 1, what="the blocked client")
            waiting.socket.shutdown(socket.SHUT_WR)
            if not at_once:
                waiting.close()
        wait_until(lambda: client.info("clients")["blocked_clients"] == 0, what="its end")
        wait_until(lambda: client.info("clients")["connected_clients"] == 1, what="the end of its connection")
