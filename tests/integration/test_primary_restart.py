"""A primary that ends and begins again: its replicas go on where they were, if its file is what they have."""

import os
import signal
import threading
import time

import pytest

import harness
from harness import wait_until
from replication_load import assert_same_data, info, wait_for_link, wait_for_offset

MODULE_SECONDS = 50
pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(harness.ORACLE, os.X_OK), reason="no stock server")]

SAVES = {"save": "3600 1", "repl-diskless-sync-delay": "0"}


@pytest.fixture
def pair(start, tmp_path):
    """pair(kind): a primary, a replica of this kind, and what starts the primary again where it was."""
    def run(kind, options=None):
        port = harness.free_port()

        def begin():
            server = start({**SAVES, "port": port, **(options or {})}, directory=tmp_path, threads=2)
            wait_until(lambda: info(server, "persistence")["loading"] == 0, what="its file to be loaded")
            return server
        primary = begin()
        primary.call("SET", "first", "1")
        of = {"replicaof": ("127.0.0.1", port)}
        replica = start(of, threads=2) if kind == "ours" else start(of, binary=harness.ORACLE, backend=None)
        wait_for_link(replica)
        return primary, replica, begin
    return run


def write(primary, count=300):
    client = primary.client()
    for number in range(count):
        client.set(f"k{number % 50}", f"value {number}")
        client.execute_command("SELECT", number % 3)


def end(primary, how):
    if how == "signal":
        assert primary.terminate() == 0
    else:
        with primary.raw() as client:
            client.send_command("SHUTDOWN", *how.split()[1:])
            assert primary.wait_end() == 0


@pytest.mark.parametrize("kind", ["ours", "stock"])
@pytest.mark.parametrize("how", ["signal", "shutdown now", "shutdown save"])
def test_its_replicas_go_on(pair, kind, how):
    primary, replica, begin = pair(kind)
    write(primary)
    wait_for_offset(primary, replica)
    before = info(primary)
    end(primary, how)
    primary = begin()
    wait_for_link(replica)
    after = info(primary)
    assert after["master_replid2"] == before["master_replid"] != after["master_replid"]
    assert after["second_repl_offset"] >= before["master_repl_offset"] + 1
    assert after["repl_backlog_active"] == 1
    assert info(primary, "stats")["sync_full"] == 0 and info(primary, "stats")["sync_partial_ok"] == 1
    write(primary)
    assert_same_data(primary, replica)


def test_the_next_replica_and_the_offset_when_nobody_was_there(pair):
    """The place is right before anything was streamed, and for who was away when the primary began again."""
    primary, replica, begin = pair("ours", {"repl-ping-replica-period": "3600"})
    assert info(primary)["master_repl_offset"] == 0
    end(primary, "shutdown now")
    replica.process.send_signal(signal.SIGSTOP)
    try:
        primary = begin()
        told = info(primary)
        assert told["master_repl_offset"] == 0 and told["second_repl_offset"] == 1
        assert told["repl_backlog_first_byte_offset"] == 1 and told["repl_backlog_histlen"] == 0
        write(primary)
    finally:
        replica.process.send_signal(signal.SIGCONT)
    wait_for_link(replica)
    assert_same_data(primary, replica)
    assert info(primary, "stats")["sync_full"] == 0


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_a_replica_that_lags_when_it_ends(pair, kind):
    """It gets what there is and is where the file is, although it was asked for an acknowledgement meanwhile."""
    primary, replica, begin = pair(kind)
    replica.process.send_signal(signal.SIGSTOP)
    write(primary)
    ending = threading.Thread(target=end, args=(primary, "signal"))
    ending.start()
    wait_until(lambda: "Saving the final RDB snapshot" in primary.log(), what="the end to begin")
    replica.process.send_signal(signal.SIGCONT)
    ending.join()
    primary = begin()
    wait_for_link(replica)
    assert info(primary, "stats")["sync_full"] == 0
    assert_same_data(primary, replica)


@pytest.mark.parametrize("kind", ["ours", "stock"])
@pytest.mark.parametrize("lazily", ["yes", "no"])
def test_keys_that_expire_meanwhile(pair, kind, lazily):
    primary, replica, begin = pair(kind, {"lazyfree-lazy-expire": lazily, "repl-ping-replica-period": "3600"})
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    client = primary.client()
    for number in range(200):
        client.execute_command("SELECT", number % 3)
        client.set(f"t{number}", "x" * number, px=1)
    client.close()
    write(primary)
    time.sleep(0.01)
    wait_for_offset(primary, replica)
    keys = info(replica, "keyspace")
    offset = info(primary)["master_repl_offset"]
    end(primary, "shutdown now")
    primary = begin()
    assert info(primary, "persistence")["rdb_last_load_keys_expired"] == 200
    assert info(primary)["master_repl_offset"] > offset
    wait_for_link(replica)
    assert info(primary, "stats")["sync_full"] == 0
    assert_same_data(primary, replica)
    assert sum(one["keys"] for one in info(replica, "keyspace").values()) == sum(one["keys"] for one in keys.values()) - 200


def test_more_has_expired_than_the_backlog_holds(pair):
    primary, replica, begin = pair("ours", {"repl-backlog-size": "16kb"})
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    with primary.raw() as client:
        client.pipeline([("SET", f"{number:060}", "x", "PX", 1) for number in range(3000)])
    time.sleep(0.01)
    wait_for_offset(primary, replica)
    end(primary, "shutdown now")
    primary = begin()
    wait_for_link(replica)
    assert info(primary, "stats")["sync_full"] == 1
    assert_same_data(primary, replica)


@pytest.mark.parametrize("kind", ["ours", "stock"])
def test_a_file_that_is_older_than_what_its_replicas_have(pair, kind):
    primary, replica, begin = pair(kind)
    write(primary)
    assert primary.call("SAVE") == "OK"
    write(primary, 100)
    wait_for_offset(primary, replica)
    primary.expect_end = True
    primary.process.kill()
    primary.process.wait()
    primary = begin()
    wait_for_link(replica)
    assert info(primary, "stats")["sync_full"] == 1
    assert_same_data(primary, replica)
