"""SAVE, BGSAVE, save points and the last save: when the RDB file is written, what clients are told, what the log says."""

import os
import signal
import subprocess
import time

import pytest

import harness
from harness import wait_until
from load import encode_all, run_clients
from resp import RawClient, ReplyError

SMOKE = True

DISK_ERROR = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
IN_PROGRESS = "ERR Background save already in progress"


def persistence(server):
    return server.info("persistence")


def is_saving(server):
    return persistence(server)["rdb_bgsave_in_progress"] == "1"


def wait_for_save(server):
    wait_until(lambda: not is_saving(server), what="the end of the save")


def keys_in(directory, name="dump.rdb"):
    """How many keys the stock server's tool finds in the file, which must be whole."""
    checked = subprocess.run(["redis-check-rdb", str(directory / name)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "RDB looks OK" in checked.stdout, checked.stdout
    return int(next(line for line in checked.stdout.splitlines() if "keys read" in line).split()[1])


def temporary_files(server):
    return [name for name in os.listdir(server.directory) if name.startswith("temp-")]


def break_saving(server):
    """The file cannot take its place: a folder has its name."""
    (server.directory / "dump.rdb").unlink(missing_ok=True)
    (server.directory / "dump.rdb").mkdir()


def error_of(server, *arguments):
    with server.raw() as client:
        reply = client.call(*arguments)
    assert isinstance(reply, ReplyError), reply
    return str(reply)


@pytest.mark.slotwise
def test_save(any_server):
    server = any_server
    before = server.call("LASTSAVE")
    assert abs(before - time.time()) < 60 * harness.SLOWNESS
    assert server.call("MSET", "a", "1", "b", "2", "c", "x" * 100_000) == "OK"
    assert persistence(server)["rdb_changes_since_last_save"] == "3"
    assert server.call("SAVE") == "OK"
    assert keys_in(server.directory) == 3
    now = persistence(server)
    assert now["rdb_changes_since_last_save"] == "0" and now["rdb_saves"] == "1"
    assert now["rdb_last_bgsave_status"] == "ok" and int(now["rdb_last_save_time"]) >= before
    assert server.call("LASTSAVE") == int(now["rdb_last_save_time"])
    assert "DB saved on disk" in server.log()
    assert temporary_files(server) == []


@pytest.mark.slotwise
def test_bgsave(any_server):
    server = any_server
    server.call("DEBUG", "POPULATE", 1000)
    server.call("CONFIG", "SET", "rdb-key-save-delay", 1000)
    assert server.call("BGSAVE") == "Background saving started"
    assert is_saving(server)
    assert error_of(server, "BGSAVE") == error_of(server, "SAVE") == error_of(server, "BGSAVE", "SCHEDULE") == IN_PROGRESS
    assert error_of(server, "BGSAVE", "LATER") == "ERR syntax error"
    assert server.call("SET", "later", "1") == "OK"
    assert int(persistence(server)["rdb_current_bgsave_time_sec"]) >= 0
    assert persistence(server)["current_save_keys_total"] == "1000"
    wait_until(lambda: int(persistence(server)["current_save_keys_processed"]) > 0 or not is_saving(server),
               what="some progress")
    server.call("CONFIG", "SET", "rdb-key-save-delay", 0)
    wait_for_save(server)
    assert keys_in(server.directory) == 1000
    assert persistence(server)["rdb_changes_since_last_save"] == "1"
    assert persistence(server)["rdb_current_bgsave_time_sec"] == "-1"
    assert int(persistence(server)["rdb_last_bgsave_time_sec"]) >= 0
    log = server.log()
    assert f"Background saving started by pid {server.pid}" in log
    assert log.index("DB saved on disk") < log.index("Background saving terminated with success")


@pytest.mark.slotwise
def test_a_transaction_schedules(any_server):
    server = any_server
    with server.raw() as client:
        replies = client.pipeline([("MULTI",), ("SET", "a", "1"), ("BGSAVE",), ("SET", "b", "2"), ("EXEC",)])
        assert replies[-1] == ["OK", "Background saving scheduled", "OK"]
    wait_until(lambda: persistence(server)["rdb_saves"] == "1" and not is_saving(server), what="the scheduled save")
    assert keys_in(server.directory) == 2
    assert "not allowed inside a transaction" in str(server.raw().pipeline([("MULTI",), ("SAVE",)])[1])


@pytest.mark.slotwise
def test_save_points(start):
    server = start({"save": [("3600", "1"), ("1", "5")]}, threads=2)
    for number in range(4):
        server.call("SET", number, "v")
    time.sleep(1.5)
    assert persistence(server)["rdb_saves"] == "0"
    server.call("SET", "fifth", "v")
    wait_until(lambda: persistence(server)["rdb_saves"] == "1" and not is_saving(server), what="the save")
    assert "5 changes in 1 seconds. Saving..." in server.log()
    assert keys_in(server.directory) == 5


@pytest.mark.slotwise
def test_writes_are_refused_after_a_save_that_failed(start):
    server = start({"save": ("3600", "1000")}, threads=2)
    break_saving(server)
    assert server.call("SET", "k", "v") == "OK"
    assert error_of(server, "SAVE") == "ERR"
    assert "Error moving temp DB file" in server.log()
    assert persistence(server)["rdb_last_bgsave_status"] == "err"
    assert temporary_files(server) == []
    assert server.call("GET", "k") == b"v"
    for command in (("SET", "k", "w"), ("DEL", "k"), ("FLUSHALL",), ("PING",)):
        assert error_of(server, *command).startswith(DISK_ERROR)
    with server.raw() as client:
        replies = client.pipeline([("MULTI",), ("GET", "k"), ("SET", "k", "x"), ("EXEC",)])
        assert str(replies[2]).startswith(DISK_ERROR) and str(replies[3]).startswith("EXECABORT")
        assert server.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == "OK"
        assert client.call("SET", "k", "w") == "OK"
        assert server.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes") == "OK"
        assert server.call("CONFIG", "SET", "save", "") == "OK"
        assert client.call("SET", "k", "w") == "OK"
        assert server.call("CONFIG", "SET", "save", "3600 1000") == "OK"
        assert str(client.call("SET", "k", "w")).startswith(DISK_ERROR)
    (server.directory / "dump.rdb").rmdir()
    assert server.call("BGSAVE") == "Background saving started"
    wait_for_save(server)
    assert server.call("SET", "k", "w") == "OK"
    assert persistence(server)["rdb_last_bgsave_status"] == "ok"


@pytest.mark.slotwise
@pytest.mark.parametrize("points", [(), ("3600", "1000000")], ids=["without", "with"])
def test_flushall_ends_a_save(start, points):
    server = start({"save": points or "", "rdb-key-save-delay": "10000"}, threads=2)
    server.call("DEBUG", "POPULATE", 5000)
    server.call("BGSAVE")
    server.call("FLUSHDB")
    assert is_saving(server)
    server.call("SELECT", 0)
    server.call("FLUSHALL")
    wait_for_save(server)
    wait_until(lambda: "Background saving terminated by signal" in server.log(), what="the end of the first save")
    wait_until(lambda: temporary_files(server) == [], what="no file left")
    assert persistence(server)["rdb_last_bgsave_status"] == "ok"
    if points:
        assert keys_in(server.directory) == 0
        assert int(persistence(server)["rdb_changes_since_last_save"]) == 0
    else:
        assert not (server.directory / "dump.rdb").exists()
        assert int(persistence(server)["rdb_changes_since_last_save"]) > 4000
    assert server.call("SET", "k", "v") == "OK"


@pytest.mark.slotwise
def test_flushdb_leaves_a_save_alone(any_server):
    server = any_server
    server.call("DEBUG", "POPULATE", 20000)
    server.call("CONFIG", "SET", "rdb-key-save-delay", 10)
    assert server.call("BGSAVE") == "Background saving started"
    assert server.call("FLUSHDB") == "OK"
    wait_for_save(server)
    assert keys_in(server.directory) == 20000


# --- The end ------------------------------------------------------------------------------------------------


@pytest.mark.slotwise
@pytest.mark.parametrize("points,arguments,saved", [((), (), False), ((), ("SAVE",), True), (("3600", "1"), (), True),
                                                    (("3600", "1"), ("NOSAVE",), False)])
def test_shutdown(start, points, arguments, saved):
    server = start({"save": points or ""}, threads=2)
    server.call("MSET", "a", "1", "b", "2")
    with server.raw() as client:
        client.send_command("SHUTDOWN", *arguments)
        assert client.read_until_close() == b""
    assert server.wait_end() == 0
    assert (server.directory / "dump.rdb").exists() == saved
    assert ("Saving the final RDB snapshot before exiting." in server.log()) == saved
    if saved:
        assert keys_in(server.directory) == 2
    assert temporary_files(server) == []


@pytest.mark.slotwise
def test_shutdown_is_refused_when_the_last_save_fails(start):
    server = start({"save": ("3600", "1000")}, threads=2)
    break_saving(server)
    assert error_of(server, "SHUTDOWN") == "ERR Errors trying to SHUTDOWN. Check logs."
    assert "Error trying to save the DB, can't exit." in server.log()
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: "Errors trying to shut down the server" in server.log(), what="the refusal")
    assert server.call("GET", "k") is None
    with server.raw() as client:
        client.send_command("SHUTDOWN", "FORCE")
        assert client.read_until_close() == b""
    assert server.wait_end() == 0
    assert "Error trying to save the DB. Exit anyway." in server.log()


@pytest.mark.slotwise
def test_sigterm_saves(start):
    server = start({"save": ("3600", "1000")}, threads=2)
    server.call("SET", "k", "v")
    assert server.terminate() == 0
    assert keys_in(server.directory) == 1


@pytest.mark.slotwise
def test_the_end_ends_a_save(start):
    server = start({"rdb-key-save-delay": "10000"}, threads=2)
    server.call("DEBUG", "POPULATE", 5000)
    server.call("BGSAVE")
    assert server.terminate() == 0
    assert temporary_files(server) == []
    assert not (server.directory / "dump.rdb").exists()


def set_keys(address, number, count):
    """Sends as much as the server takes; how often it has said that a key is set."""
    told = 0
    try:
        with RawClient(*address) as client:
            for start in range(0, count, 100):
                client.socket.sendall(encode_all([("SET", f"{number}:{i}", "v") for i in range(start, start + 100)]))
                for _ in range(100):
                    told += client.read() == "OK"
    except (OSError, EOFError):
        pass
    return told


def terminate(server):
    wait_until(lambda: int(server.call("DBSIZE")) > 1000, what="some keys")
    os.kill(server.pid, signal.SIGTERM)


@pytest.mark.slotwise
def test_what_was_acknowledged_is_in_the_last_file(start):
    server = start({"save": ("3600", "1")}, threads=2)
    server.expect_end = True
    told = run_clients([(terminate, server)] + [(set_keys, server.address(), number, 1_000_000) for number in range(3)])
    assert server.wait_end() == 0
    assert keys_in(server.directory) >= sum(told[1:]) > 0
