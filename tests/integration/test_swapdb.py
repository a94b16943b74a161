"""repl-diskless-load swapdb: a replica goes on serving the old data until the new ones are whole."""

import os

import pytest

import harness
from harness import wait_until
from replication import Proxy, assert_equal_data, follow, in_step, link_is_up, stock_primary, wait_link_up
from resp import ReplyError

MODULE_SECONDS = 70
pytestmark = pytest.mark.slotwise

KEYS = 2000
DELAY_US = 1000  # per key: a load takes seconds, so that all can be looked at
LOADING = ReplyError("LOADING Redis is loading the dataset in memory")


@pytest.fixture(params=["slotwise", "stock"])
def primary(request, start):
    options = {"repl-diskless-sync-delay": "0", "repl-diskless-sync": "yes", "repl-backlog-size": "16kb"}
    if request.param == "slotwise":
        return start(options, threads=2)
    if not os.access(harness.ORACLE, os.X_OK):
        pytest.skip("no stock server")
    return stock_primary(start, options)


@pytest.fixture
def replica(start, primary):
    server = start({"repl-diskless-load": "swapdb", "save": "", "loading-process-events-interval-bytes": "1024"}, threads=2)
    server.proxy = Proxy(primary.port)
    fill(primary, "first")
    follow(server, server.proxy.port)
    wait_link_up(server)
    wait_until(lambda: in_step(primary, server))
    yield server
    server.proxy.close()


def fill(primary, value):
    """Every key gets the value, in the middle of a transaction or not; more than the backlog holds."""
    with primary.raw() as client:
        client.pipeline([("SELECT", 1), ("SET", "elsewhere", value), ("SELECT", 0)])
        for begin in range(0, KEYS, 100):
            client.pipeline([("SET", f"key:{number}", value * 20) for number in range(begin, begin + 100)])
        client.call("SET", f"only {value}", "x", "PX", 10**8)
        client.call("SET", "random", os.urandom(500_000))  # no compression makes room for it in the backlog


def fill_sockets(primary):
    """So much that it does not fit into the buffers on the way: a link that is cut breaks a load that is slow."""
    with primary.raw() as client:
        for number in range(32):
            client.call("SET", f"random:{number}", os.urandom(1_000_000))


def fall_behind(primary, replica, value):
    """What the replica misses is more than the backlog has, so that the next sync is a full one; it begins, and is slow."""
    replica.proxy.refusing = True
    replica.proxy.cut()
    wait_until(lambda: not link_is_up(replica))
    fill(primary, value)
    replica.call("CONFIG", "SET", "key-load-delay", DELAY_US)
    replica.proxy.refusing = False
    wait_until(lambda: replica.info("persistence")["async_loading"] == "1", what="the loading to begin")


def serves(replica, value):
    with replica.raw() as client:
        return (client.call("GET", "key:0") == value * 20 and client.call("EXISTS", f"only {value.decode()}") == 1
                and client.call("SELECT", 1) == "OK" and client.call("GET", "elsewhere") == value)


def finish(primary, replica):
    replica.call("CONFIG", "SET", "key-load-delay", 0)
    wait_link_up(replica)
    assert_equal_data(primary, replica)
    assert replica.info("persistence")["async_loading"] == "0" == replica.info("persistence")["loading"]


def test_old_data_are_served_until_the_new_are_whole(primary, replica):
    fall_behind(primary, replica, "second")
    info = replica.info("persistence")
    assert info["loading"] == "0" and int(info["loading_start_time"]) > 0
    assert serves(replica, b"first") and replica.call("DBSIZE") == KEYS + 2
    assert replica.call("SET", "k", "v") == ReplyError("READONLY You can't write against a read only replica.")
    for command in (("REPLICAOF", "NO", "ONE"), ("BGSAVE",), ("SAVE",), ("PSYNC", "?", "-1")):
        assert replica.call(*command) == LOADING, command
    with replica.raw() as client:
        assert client.pipeline([("MULTI",), ("GET", "key:1"), ("EXEC",)])[-1] == [b"first" * 20]
        assert client.pipeline([("WATCH", "key:1"), ("WATCH", "nowhere"), ("MULTI",), ("GET", "key:1")])[-1] == "QUEUED"
        finish(primary, replica)
        assert client.call("EXEC") is None, "a watched key has been replaced"
    assert serves(replica, b"second") and replica.call("EXISTS", "only first") == 1
    for line in ("from master with EOF to parser", "MASTER <-> REPLICA sync: Swapping active DB with loaded DB",
                 "MASTER <-> REPLICA sync: Discarding old DB in background", "MASTER <-> REPLICA sync: Finished with success"):
        assert line in replica.log() or "LZ4 blocks to parser" in replica.log(), line
    fill(primary, "third")
    assert_equal_data(primary, replica)


def test_a_failure_keeps_the_old_data(primary, replica):
    fill_sockets(primary)
    wait_until(lambda: in_step(primary, replica))
    size = replica.call("DBSIZE")
    fall_behind(primary, replica, "second")
    discarded = "MASTER <-> REPLICA sync: Discarding temporary DB in background"
    replica.proxy.refusing = True
    replica.proxy.cut()
    replica.call("CONFIG", "SET", "key-load-delay", 0)
    wait_until(lambda: discarded in replica.log(), what="the failure")
    wait_until(lambda: replica.info("persistence")["async_loading"] == "0")
    assert serves(replica, b"first") and replica.call("DBSIZE") == size
    assert "Failed trying to load the MASTER synchronization DB from socket, check server logs." in replica.log()
    assert "Flushing old data" not in replica.log()
    replica.proxy.refusing = False
    finish(primary, replica)
    assert serves(replica, b"second")


def test_a_history_that_is_another_is_not_mixed_with_ours(primary, replica):
    """Clients wait then, but a failure still keeps what there was."""
    fill_sockets(primary)
    replica.call("REPLICAOF", "NO", "ONE")
    replica.call("SET", "mine", "1")
    replica.call("DEBUG", "CHANGE-REPL-ID")
    replica.call("CONFIG", "SET", "key-load-delay", DELAY_US)
    replica.call("REPLICAOF", "127.0.0.1", replica.proxy.port)
    wait_until(lambda: replica.info("persistence")["loading"] == "1")
    assert replica.call("GET", "mine") == LOADING and replica.info("persistence")["async_loading"] == "0"
    replica.proxy.refusing = True
    replica.proxy.cut()
    replica.call("CONFIG", "SET", "key-load-delay", 0)
    wait_until(lambda: replica.call("GET", "mine") == b"1")
    replica.proxy.refusing = False
    finish(primary, replica)
    assert replica.call("GET", "mine") is None and serves(replica, b"first")


def test_snapshots_before_meanwhile_and_after(primary, replica):
    """What is saved is one of the two data sets, and after the swap the new one, whatever was saved meanwhile."""
    replica.call("CONFIG", "SET", "rdb-key-save-delay", 500)
    assert str(replica.call("BGSAVE")) == "Background saving started"
    fall_behind(primary, replica, "second")
    wait_until(lambda: replica.info("persistence")["rdb_bgsave_in_progress"] == "0")
    replica.call("CONFIG", "SET", "rdb-key-save-delay", 0)
    replica.call("CONFIG", "SET", "save", "1 1")
    saved = replica.info("persistence")["rdb_last_save_time"]
    wait_until(lambda: replica.info("persistence")["rdb_last_save_time"] != saved
               or replica.info("persistence")["async_loading"] == "0", what="a save point meanwhile")
    replica.call("CONFIG", "SET", "save", "")
    finish(primary, replica)
    for _ in range(2):
        fill(primary, "third")
        wait_until(lambda: in_step(primary, replica))
        replica.call("BGSAVE")
        wait_until(lambda: replica.info("persistence")["rdb_bgsave_in_progress"] == "0")
        assert replica.info("persistence")["rdb_last_bgsave_status"] == "ok"
        before = replica.call("DEBUG", "DIGEST")
        assert replica.call("DEBUG", "RELOAD", "NOSAVE") == "OK"
        assert replica.call("DEBUG", "DIGEST") == before == primary.call("DEBUG", "DIGEST")


def test_its_own_replica_follows(start, primary, replica):
    last = start({"replicaof": ("127.0.0.1", replica.port)}, threads=2)
    wait_link_up(last)
    fall_behind(primary, replica, "second")
    assert link_is_up(last) and serves(last, b"first")
    finish(primary, replica)
    wait_until(lambda: link_is_up(last) and serves(last, b"second"), what="the end of the chain")


@pytest.mark.parametrize("number", [15, 9])
def test_a_replica_that_ends_while_it_loads(primary, replica, number):
    fall_behind(primary, replica, "second")
    replica.terminate(number)
    assert not replica.alive()
