"""The RDB file: written by one server and read by another, stock or not; files that are wrong; the ends of a server."""

import os
import random
import signal
import subprocess
import threading
import time

import pytest

import harness
from harness import wait_until
from rdbfile import crc64, rdb_file
from resp import ReplyError

SMOKE = True
LOADING = ReplyError("LOADING Redis is loading the dataset in memory")


def fill(client, keys=2000, seed=1):
    """Strings of every form in three databases, with and without a time to live."""
    generator = random.Random(seed)
    for database in (0, 7, 15):
        client.call("SELECT", database)
        commands = []
        for number in range(keys):
            value = generator.choice([
                str(generator.randrange(-2 ** 63, 2 ** 63)), str(generator.randrange(-300, 300)), "", "x" * 44, "y" * 45,
                "abc" * generator.randrange(300), bytes(generator.randrange(256) for _ in range(generator.randrange(80))),
                "z" * (20000 if number % 200 == 0 else 5)])
            command = ["SET", f"key:{number}", value]
            if generator.random() < 0.3:
                command += ["PXAT", 4_000_000_000_000 + number]
            commands.append(command)
        client.pipeline(commands)
    client.call("SELECT", 0)


def digest(server):
    return server.call("DEBUG", "DIGEST")


def path_of(server):
    return os.path.join(server.directory, "dump.rdb")


def checked(path):
    """What redis-check-rdb says."""
    run = subprocess.run(["redis-check-rdb", str(path)], capture_output=True, text=True, timeout=harness.HANG_SECONDS)
    assert run.returncode == 0 and "RDB looks OK" in run.stdout, run.stdout
    return run.stdout


def start_and_fail(start, directory, **options):
    """Its log, of a server that must not start."""
    server = start(dict(options, dir=str(directory)), directory=directory, wait=False)
    assert server.wait_end() == 1
    return server.log()


# --- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["yes", "no"])
def test_saved_and_loaded(start, threads, compression, tmp_path):
    server = start({"rdbcompression": compression, "dir": str(tmp_path)}, threads=threads)
    client = server.raw()
    fill(client)
    before = digest(server)
    assert client.call("SAVE") == "OK"
    assert server.info("persistence")["rdb_changes_since_last_save"] == "0"
    assert "DB saved on disk" in server.log()
    output = checked(tmp_path / "dump.rdb")
    assert "6000 keys read" in output
    server.terminate()
    again = start({"dir": str(tmp_path)}, threads=3 - threads)
    wait_until(lambda: again.info("persistence")["loading"] == "0", what="the end of loading")
    assert digest(again) == before
    persistence = again.info("persistence")
    assert persistence["rdb_last_load_keys_loaded"] == "6000"
    assert persistence["rdb_changes_since_last_save"] == "0"
    assert "Done loading RDB, keys loaded: 6000, keys expired: 0." in again.log()
    assert "DB loaded from disk: " in again.log()
    assert again.log().index("DB loaded from disk") < again.log().index("Ready to accept connections")


def test_a_stock_server_loads_ours(start, any_server, oracle, tmp_path):
    client = any_server.raw()
    fill(client)
    before = digest(any_server)
    assert client.call("SAVE") == "OK"
    os.replace(path_of(any_server), tmp_path / "dump.rdb")
    stock = start({"dir": str(tmp_path)}, binary=harness.ORACLE, backend="stock")
    wait_until(lambda: stock.info("persistence")["loading"] == "0", what="the end of loading")
    assert digest(stock) == before


@pytest.mark.parametrize("checksum", ["yes", "no"])
def test_ours_loads_what_a_stock_server_saved(start, tmp_path, checksum):
    stock = start({"dir": str(tmp_path), "rdbchecksum": checksum}, binary=harness.ORACLE, backend="stock")
    client = stock.raw()
    fill(client)
    client.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    before = digest(stock)
    client.call("SET", "over", "v", "PX", 1)
    time.sleep(0.01)
    assert client.call("SAVE") == "OK"
    stock.terminate()
    ours = start({"dir": str(tmp_path)}, threads=2)
    wait_until(lambda: ours.info("persistence")["loading"] == "0", what="the end of loading")
    assert digest(ours) == before
    assert ours.info("persistence")["rdb_last_load_keys_expired"] == "1"
    assert "Loading RDB produced by version 7.0.15" in ours.log()
    assert ("saved with checksum disabled" in ours.log()) == (checksum == "no")


def test_what_access_clocks_say_is_kept(start, tmp_path):
    for policy, command, value in (("allkeys-lru", "IDLETIME", 500), ("allkeys-lfu", "FREQ", 99)):
        server = start({"dir": str(tmp_path), "maxmemory-policy": policy, "maxmemory": "500mb"})
        server.call("SET", "k", "v")
        payload = server.call("DUMP", "k")
        assert server.call("RESTORE", "k", 0, payload, "REPLACE", command, value) == "OK"
        assert server.call("SAVE") == "OK"
        server.terminate()
        for binary, backend in ((None, harness.BACKENDS[0]), (harness.ORACLE, "stock")):
            again = start({"dir": str(tmp_path), "maxmemory-policy": policy, "maxmemory": "500mb"}, binary=binary,
                          backend=backend)
            wait_until(lambda server=again: server.info("persistence")["loading"] == "0", what="the end of loading")
            found = again.call("OBJECT", command, "k")
            assert value - 1 <= found <= value + harness.HANG_SECONDS
            again.terminate()


def test_debug_reload(any_server):
    client = any_server.raw()
    fill(client, keys=500)
    before = digest(any_server)
    assert client.call("DEBUG", "RELOAD") == "OK"
    assert digest(any_server) == before
    client.call("SET", "more", "v")
    assert client.call("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE") == "OK"
    assert client.call("GET", "more") == b"v"
    assert client.call("DEBUG", "RELOAD", "NOSAVE") == "OK"
    assert digest(any_server) == before
    assert isinstance(client.call("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH"), ReplyError), "there are duplicates"
    assert isinstance(client.call("DEBUG", "RELOAD", "NONSENSE"), ReplyError)


def test_a_time_to_live_that_is_over_is_not_loaded(start, tmp_path):
    body = (b"\xfe\x00\xfc" + (1000).to_bytes(8, "little") + b"\x00\x01a\x01v\xfc" + (4 * 10 ** 12).to_bytes(8, "little")
            + b"\x00\x01b\x01v\x00\x01c\x01v")
    (tmp_path / "dump.rdb").write_bytes(rdb_file(body))
    server = start({"dir": str(tmp_path)})
    wait_until(lambda: server.info("persistence")["loading"] == "0", what="the end of loading")
    assert server.call("DBSIZE") == 2
    assert server.info("persistence")["rdb_last_load_keys_expired"] == "1"
    assert "keys loaded: 2, keys expired: 1." in server.log()


def test_a_replica_goes_on_where_its_file_ends(start, oracle, tmp_path):
    options = {"dir": str(tmp_path), "save": ("3600", "1"), "replicaof": ("127.0.0.1", oracle.port)}

    def connected_replica():
        server = start(options, threads=2)
        wait_until(lambda: server.info("replication").get("master_link_status") == "up", what="the link")
        return server

    client = oracle.raw()
    client.call("SET", "early", "v")
    replica = connected_replica()
    client.call("SELECT", 5)
    client.call("SET", "k", "first")
    client.call("SET", "k2", "v", "PX", 100_000)
    wait_until(lambda: replica.info("keyspace").get("db5", "").startswith("keys=2,"), what="the stream")
    before = oracle.info("stats")
    replica.terminate()
    assert "DB saved on disk" in replica.log()
    client.call("SET", "k", "second")
    client.call("SET", "late", "v")
    replica = connected_replica()
    wait_until(lambda: digest(replica) == digest(oracle), what="the same data")
    after = oracle.info("stats")
    assert after["sync_full"] == before["sync_full"]
    assert int(after["sync_partial_ok"]) == int(before["sync_partial_ok"]) + 1
    client.call("SELECT", 0)
    client.call("SET", "k", "third")
    wait_until(lambda: digest(replica) == digest(oracle), what="the same data")


# --- files that are wrong ---------------------------------------------------------------------------------------


def test_a_damaged_file_is_no_start_and_stays_as_it_is(start, any_server, tmp_path):
    client = any_server.raw()
    fill(client, keys=200)
    assert client.call("SAVE") == "OK"
    whole = open(path_of(any_server), "rb").read()
    damaged = [
        (whole[:-1], "Short read or OOM loading DB. Unrecoverable error, aborting now."),
        (whole[:len(whole) // 2], "Short read or OOM loading DB. Unrecoverable error, aborting now."),
        (whole[:4], "Short read or OOM loading DB"), (b"", "Short read or OOM loading DB"),
        (b"X" + whole[1:], "Wrong signature trying to load DB from file"),
        (whole[:5] + b"0013" + whole[9:], "Can't handle RDB format version 13"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "Wrong RDB checksum expected: ("),
        (rdb_file(b"\xfe\x10"), "handle more than 16 databases. Exiting"),
        (rdb_file(b"\x00\x01k\x01v\x00\x01k\x01w"), "RDB has duplicated key 'k' in DB 0"),
        (rdb_file(b"\x00\x01k\xc3\x05\x10aaaaa"), "Invalid LZF compressed string"),
        (rdb_file(b"\x63\x01k\x01v"), "Unknown RDB encoding type 99"),
    ]
    path = tmp_path / "dump.rdb"
    for content, message in damaged:
        path.write_bytes(content)
        log = start_and_fail(start, tmp_path, save=("3600", "1"))
        assert message in log, message
        assert "Fatal error loading the DB, check server logs. Exiting." in log
        assert "Ready to accept" not in log
        assert path.read_bytes() == content, message
    path.unlink()
    path.mkdir()
    assert "Fatal error loading the DB" in start_and_fail(start, tmp_path)


def test_types_that_there_are_not_are_refused_by_name(start, tmp_path):
    stock = start({"dir": str(tmp_path)}, binary=harness.ORACLE, backend="stock")
    stock.call("XADD", "x", "*", "a", "b")
    assert stock.call("SAVE") == "OK"
    log = start_and_fail(start, tmp_path)
    assert "The key 'x' in database 0 is a stream, which this version does not have." in log


def test_functions_are_left_out_with_a_warning(start, tmp_path):
    stock = start({"dir": str(tmp_path)}, binary=harness.ORACLE, backend="stock")
    code = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)"
    assert stock.call("FUNCTION", "LOAD", code) == b"mylib"
    stock.call("SET", "k", "v")
    assert stock.call("SAVE") == "OK"
    server = start({"dir": str(tmp_path)})
    wait_until(lambda: server.call("GET", "k") == b"v", what="the end of loading")
    assert "contains a library of functions" in server.log() and "#!lua name=mylib" in server.log()


def test_random_damage_with_the_right_checksum(start, any_server, tmp_path):
    """Such a file may be loaded or refused; a server that crashes fails the test."""
    client = any_server.raw()
    fill(client, keys=20)
    assert client.call("SAVE") == "OK"
    whole = open(path_of(any_server), "rb").read()[:-8]
    generator = random.Random(5)
    for _ in range(harness.scaled(12)):
        content = bytearray(whole)
        for _ in range(generator.randrange(1, 5)):
            content[generator.randrange(9, len(content))] = generator.randrange(256)
        (tmp_path / "dump.rdb").write_bytes(bytes(content) + crc64(content).to_bytes(8, "little"))
        server = start({"dir": str(tmp_path)}, directory=tmp_path, wait=False)
        wait_until(lambda server=server: "Ready to accept" in server.log() or not server.alive(), what="its decision")
        if server.alive():
            server.terminate()
        else:
            assert server.wait_end() == 1
            assert "Fatal error loading the DB" in server.log()


# --- while it is loaded -----------------------------------------------------------------------------------------


class SlowFile:
    """A pipe in the place of the file: the load is as far as we have written."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "dump.rdb")
        os.mkfifo(self.path)
        self.descriptor = os.open(self.path, os.O_RDWR)

    def write(self, content):
        os.write(self.descriptor, content)

    def close(self):
        os.close(self.descriptor)
        os.unlink(self.path)


def test_clients_while_it_is_loaded(start, tmp_path):
    pipe = SlowFile(tmp_path)
    content = rdb_file(b"".join(b"\x00\x40\x07key:%03d\x01v" % number for number in range(500)))
    server = start({"dir": str(tmp_path), "enable-debug-command": "yes", "loading-process-events-interval-bytes": "1024"}, threads=2)
    client = server.raw()
    pipe.write(content[:3000])
    wait_until(lambda: int(server.info("persistence").get("loading_loaded_bytes", 0)) == 3000, what="3000 bytes")
    persistence = server.info("persistence")
    assert persistence["loading"] == "1"
    for field in ("loading_start_time", "loading_total_bytes", "loading_rdb_used_mem", "loading_loaded_perc",
                  "loading_eta_seconds"):
        assert field in persistence
    for command in (("PING",), ("GET", "k"), ("SET", "k", "v"), ("SAVE",), ("DBSIZE",), ("FLUSHALL",)):
        assert client.call(*command) == LOADING, command
    assert client.call("MULTI") == "OK"
    assert client.call("GET", "k") == LOADING
    assert isinstance(client.call("EXEC"), ReplyError)
    assert client.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
    assert client.call("CONFIG", "SET", "maxclients", "1000") == "OK", "sections go on"
    assert isinstance(client.call("LASTSAVE"), int)
    assert "Ready to accept" not in server.log()
    pipe.write(content[3000:])
    wait_until(lambda: client.call("PING") == "PONG", what="the end of loading")
    assert client.call("DBSIZE") == 500
    persistence = server.info("persistence")
    assert persistence["loading"] == "0" and "loading_start_time" not in persistence
    wait_until(lambda: "Ready to accept" in server.log(), what="the line in the log")
    pipe.close()


@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN", "SHUTDOWN SAVE"])
def test_the_end_while_it_is_loaded(start, tmp_path, how):
    pipe = SlowFile(tmp_path)
    server = start({"dir": str(tmp_path), "save": ("3600", "1")}, threads=2)
    pipe.write(rdb_file(b"\x00\x01k\x01v")[:-9])
    wait_until(lambda: "loading_loaded_bytes:" in server.call("INFO", "persistence").decode(), what="the load")
    if how == "SIGTERM":
        assert server.terminate() == 0
    else:
        server.expect_end = True
        client = server.raw()
        client.send_command(*how.split())
        assert client.read_until_close() == b""
        assert server.wait_end() == 0
    assert "DB saved on disk" not in server.log()
    assert sorted(os.listdir(tmp_path)) == ["dump.rdb"]
    pipe.close()


# --- the end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN SAVE"])
@pytest.mark.parametrize("points", ["", ("3600", "1")], ids=["no points", "points"])
def test_what_is_saved_at_the_end(start, tmp_path, end, points):
    server = start({"dir": str(tmp_path), "save": points}, threads=2)
    client = server.raw()
    client.call("SET", "k", "v")
    if end.startswith("SIG"):
        assert server.terminate(getattr(signal, end)) == 0
    else:
        server.expect_end = True
        client.send_command(*end.split())
        assert client.read_until_close() == b""
        assert server.wait_end() == 0
    saves = "NOSAVE" not in end and (points != "" or end == "SHUTDOWN SAVE")
    assert ("Saving the final RDB snapshot before exiting." in server.log()) == saves
    assert os.listdir(tmp_path) == (["dump.rdb"] if saves else [])


def test_an_end_that_cannot_save_is_none(start, tmp_path):
    server = start({"dir": str(tmp_path), "save": ("3600", "1"), "dbfilename": "taken"}, threads=2)
    (tmp_path / "taken").mkdir()
    client = server.raw()
    client.call("SET", "k", "v")
    assert client.call("SAVE") == ReplyError("ERR")
    assert "Error moving temp DB file temp-" in server.log()
    assert client.call("SHUTDOWN") == ReplyError("ERR Errors trying to SHUTDOWN. Check logs.")
    assert "Error trying to save the DB, can't exit." in server.log()
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: "Errors trying to shut down the server" in server.log(), what="the refusal")
    assert client.call("GET", "k") == b"v"
    assert os.listdir(tmp_path) == ["taken"]
    server.expect_end = True
    client.send_command("SHUTDOWN", "FORCE")
    assert client.read_until_close() == b""
    assert server.wait_end() == 0


@pytest.mark.parametrize("end", ["SIGTERM", "SHUTDOWN"])
def test_nothing_is_acknowledged_that_the_last_save_does_not_have(start, tmp_path, end):
    server = start({"dir": str(tmp_path), "save": ("3600", "1")}, threads=2)
    server.call("DEBUG", "POPULATE", harness.scaled(50000))
    acknowledged = [0] * 4

    def count(number):
        client = server.raw()
        try:
            while True:
                replies = client.pipeline([("INCR", f"counter:{number}")] * 10)
                acknowledged[number] = max(acknowledged[number], *[reply for reply in replies if isinstance(reply, int)])
        except (OSError, EOFError, ConnectionError):
            pass

    threads = [threading.Thread(target=count, args=(number,)) for number in range(len(acknowledged))]
    for thread in threads:
        thread.start()
    wait_until(lambda: min(acknowledged) > 100, what="the counters")
    server.expect_end = True
    if end == "SIGTERM":
        server.terminate()
    else:
        client = server.raw()
        client.send_command("SHUTDOWN")
        client.read_until_close()
        server.wait_end()
    for thread in threads:
        thread.join()
    again = start({"dir": str(tmp_path)})
    wait_until(lambda: again.info("persistence")["loading"] == "0", what="the end of loading")
    for number, count_seen in enumerate(acknowledged):
        assert int(again.call("GET", f"counter:{number}")) >= count_seen


def test_lastsave_and_info(any_server):
    client = any_server.raw()
    began = client.call("LASTSAVE")
    assert str(began) == any_server.info("persistence")["rdb_last_save_time"]
    client.call("SET", "k", "v")
    client.call("SET", "k", "w")
    client.call("DEL", "k", "nothing")
    client.call("GET", "k")
    assert any_server.info("persistence")["rdb_changes_since_last_save"] == "3"
    wait_until(lambda: int(time.time()) > began, what="another second")
    assert client.call("SAVE") == "OK"
    assert client.call("LASTSAVE") > began
    assert any_server.info("persistence")["rdb_changes_since_last_save"] == "0"
    assert any_server.info("persistence")["rdb_saves"] == "1"
    assert client.call("MULTI") == "OK"
    assert client.call("SAVE") == ReplyError("ERR Command not allowed inside a transaction")
