"""The replica of a stock primary, and of one that is made by hand."""

import os
import random
import re
import threading
import time

import pytest

import harness
from harness import scaled, wait_until
from replication import (EMPTY_RDB, HandMade, Proxy, assert_equal_data, follow, in_step, link_is_up, rdb_of, stock_primary,
                         wait_link_up)
from resp import RawClient, ReplyError, encode_command

pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(harness.ORACLE, os.X_OK), reason="no stock server")]

SEED = int(os.environ.get("SLOTWISE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)


@pytest.fixture
def by_hand():
    primary = HandMade()
    yield primary
    primary.close()


# --- A load ---------------------------------------------------------------------------------------------------


def random_command(choose):
    key, other = (f"k{choose.randrange(300)}" for _ in range(2))
    value = "v" * choose.choice([0, 1, 5, 44, 45, 300, 3000, 20_000]) if choose.random() < 0.8 else str(choose.randrange(10**6))
    ttl = choose.choice([1, 20, 300, 100_000])
    return choose.choice([
        ("SET", key, value), ("SET", key, value, "PX", ttl), ("SET", key, value, "KEEPTTL"), ("SET", key, value, "GET"),
        ("SETEX", key, 1 + ttl // 1000, value), ("PSETEX", key, ttl, value), ("SETNX", key, value), ("GETSET", key, value),
        ("GETDEL", key), ("GETEX", key, "PX", ttl), ("GETEX", key, "PERSIST"), ("APPEND", key, value[:50]),
        ("SETRANGE", key, choose.randrange(100), value[:50]), ("INCR", f"n{choose.randrange(20)}"),
        ("DECRBY", f"n{choose.randrange(20)}", choose.randrange(100)), ("INCRBYFLOAT", f"f{choose.randrange(20)}", "0.25"),
        ("MSET", key, value, other, "x"), ("MSETNX", key, value, other, "x"), ("DEL", key, other), ("UNLINK", key),
        ("EXPIRE", key, 1 + ttl // 1000), ("PEXPIRE", key, ttl), ("PEXPIREAT", key, int(time.time() * 1000) + ttl),
        ("PERSIST", key), ("RENAME", key, other), ("RENAMENX", key, other), ("COPY", key, other, "REPLACE"),
        ("MOVE", key, choose.randrange(3)), ("GET", key), ("TYPE", key), ("TOUCH", key)])


RARE = [("FLUSHDB",), ("FLUSHALL",), ("FLUSHALL", "ASYNC"), ("SWAPDB", 0, 1), ("SWAPDB", 1, 2)]


def write_at_random(server, seed, stop, count=None):
    """Commands of all kinds until stop is set, or so many; never far ahead of a replica that is connected, however slow it is."""
    choose = random.Random(seed)
    with RawClient(*server.address()) as client:
        done = turns = 0
        while not stop.is_set() and (count is None or done < count):
            commands = []
            if choose.random() < 0.02:
                commands.append(("SELECT", choose.randrange(3)))
            if choose.random() < 0.003:
                commands.append(choose.choice(RARE))
            inside = [random_command(choose) for _ in range(choose.randrange(1, 20))]
            if choose.random() < 0.3:
                commands += [("MULTI",), *inside, ("EXEC",)]
            else:
                commands += inside
            client.pipeline(commands)
            done += len(commands)
            turns += 1
            if count is None and turns % 50 == 0:
                client.call("WAIT", 1, 100)


class Writers:
    """Some of them in threads, between `with` and its end."""

    def __init__(self, server, count=3):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=write_at_random, args=(server, SEED + number, self.stop)) for number in range(count)]

    def __enter__(self):
        print(f"SLOTWISE_SEED={SEED}")
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


# --- With a stock primary -------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_full_sync_and_the_stream_behind_it(start, server, diskless):
    primary = stock_primary(start, {"repl-diskless-sync": diskless})
    write_at_random(primary, SEED, threading.Event(), 500)
    primary.call("SET", "only", "there")
    server.call("SET", "mine", "1")
    follow(server, primary.port)
    wait_link_up(server)
    assert server.call("GET", "mine") is None and server.call("GET", "only") == b"there"
    assert_equal_data(primary, server)
    write_at_random(primary, SEED + 1, threading.Event(), 500)
    assert_equal_data(primary, server)
    log = server.log()
    for line in ["MASTER <-> REPLICA sync started", "Master replied to PING, replication can continue...",
                 "Full resync from master: ", "MASTER <-> REPLICA sync: Flushing old data",
                 "MASTER <-> REPLICA sync: Loading DB in memory", "MASTER <-> REPLICA sync: Finished with success"]:
        assert line in log, line
    assert ("receiving streamed RDB from master with EOF to disk" in log) == (diskless == "yes")
    assert re.search(r"receiving \d+ bytes from master to disk", log) or diskless == "yes"
    assert not [name for name in os.listdir(server.directory) if name.startswith("temp-")]


def test_what_a_replica_says_of_itself(start, server):
    primary = stock_primary(start)
    follow(server, primary.port)
    wait_link_up(server)
    primary.call("SET", "k", "v")
    wait_until(lambda: in_step(primary, server))
    info, theirs = server.info("replication"), primary.info("replication")
    assert info["role"] == "slave" and info["master_host"] == "127.0.0.1" and int(info["master_port"]) == primary.port
    assert info["master_replid"] == theirs["master_replid"] and info["master_replid2"] == "0" * 40
    assert info["second_repl_offset"] == "-1" and info["master_sync_in_progress"] == "0"
    assert 0 <= int(info["master_last_io_seconds_ago"]) < 60
    assert info["slave_read_only"] == "1" and info["slave_priority"] == "100" and info["replica_announced"] == "1"
    assert server.call("ROLE")[:4] == [b"slave", b"127.0.0.1", primary.port, b"connected"]
    assert f"port={server.port},state=online" in theirs["slave0"]
    lines = server.call("CLIENT", "LIST", "TYPE", "MASTER").decode().splitlines()
    assert len(lines) == 1 and " flags=M " in lines[0]
    assert "flags=M" not in server.call("CLIENT", "LIST", "TYPE", "NORMAL").decode()
    assert server.call("SET", "k", "x") == ReplyError("READONLY You can't write against a read only replica.")
    with server.raw() as client:
        client.call("MULTI")
        assert isinstance(client.call("SET", "k", "x"), ReplyError)
        assert client.call("EXEC").text.startswith("EXECABORT ")
    assert server.call("CONFIG", "SET", "replica-read-only", "no") == "OK"
    assert server.call("SET", "mine", "x") == "OK"
    # The primary sees how far the replica is.
    wait_until(lambda: primary.call("WAIT", 1, 100) == 1)
    assert server.call("REPLICAOF", "127.0.0.1", primary.port) == "OK Already connected to specified master"
    # Whoever is killed comes back, and goes on where it was.
    full = primary.info("stats")["sync_full"]
    assert server.call("CLIENT", "KILL", "TYPE", "master") == 1
    wait_until(lambda: int(primary.info("stats")["sync_partial_ok"]) == 1)
    wait_link_up(server)
    assert primary.info("stats")["sync_full"] == full
    assert "Connection with master lost.\n" in server.log() and "Caching the disconnected master state.\n" in server.log()
    assert "Successful partial resynchronization with master.\n" in server.log()


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_data_that_are_loaded_as_they_come(start, server, diskless):
    """repl-diskless-load on-empty-db: no file, unless there are data that somebody may want to read meanwhile."""
    primary = stock_primary(start, {"repl-diskless-sync": diskless})
    write_at_random(primary, SEED, threading.Event(), 1000)
    server.call("CONFIG", "SET", "repl-diskless-load", "on-empty-db")
    follow(server, primary.port)
    wait_link_up(server)
    assert re.search(r"receiving (streamed RDB|\d+ bytes) from master (with EOF )?to parser", server.log())
    assert_equal_data(primary, server)
    assert not [name for name in os.listdir(server.directory) if name.endswith(".rdb")]
    write_at_random(primary, SEED, threading.Event(), 300)
    assert_equal_data(primary, server)
    # Now it has some.
    server.call("REPLICAOF", "NO", "ONE")
    server.call("DEBUG", "CHANGE-REPL-ID")
    primary.call("SET", "k", "v")
    follow(server, primary.port)
    wait_link_up(server)
    assert_equal_data(primary, server)
    assert "to disk" in server.log()


@pytest.mark.parametrize("threads", [1, 3])
def test_links_that_break(start, backend, threads):
    """A mixed load, links broken at random places: all is there in the end, and mostly by partial syncs."""
    primary = stock_primary(start, {"repl-backlog-size": "64mb"})
    server = start(backend=backend, threads=threads)
    if threads > 1:
        server.call("DEBUG", "WORKERS-AWAKE", str(threads))
    proxy = Proxy(primary.port)
    follow(server, proxy.port)
    wait_link_up(server)
    choose = random.Random(SEED)
    with Writers(primary):
        for number in range(8):
            before = int(server.info("replication")["slave_repl_offset"])
            wait_until(lambda: int(server.info("replication")["slave_repl_offset"]) > before + choose.randrange(200_000),
                       what=f"the stream to go on after cut {number}")
            proxy.cut()
            wait_until(lambda wanted=number: int(primary.info("stats")["sync_partial_ok"]) > wanted)
    assert_equal_data(primary, server)
    assert int(primary.info("stats")["sync_full"]) == 1
    assert "CRITICAL" not in server.log()
    proxy.close()


def test_a_snapshot_that_is_taken_while_the_link_is_down(start, server):
    """It tells the database that the stream has selected, since the stream does not begin anew."""
    primary = stock_primary(start)
    proxy = Proxy(primary.port)
    follow(server, proxy.port)
    wait_link_up(server)
    client = primary.raw()
    assert client.pipeline([("SELECT", "3"), ("SET", "a", "1")]) == ["OK", "OK"]
    wait_until(lambda: in_step(primary, server))
    server.call("CONFIG", "SET", "repl-diskless-sync-delay", "2")
    chained = start()
    follow(chained, server.port)
    wait_until(lambda: "state=wait_bgsave" in str(server.info("replication").get("slave0")))
    proxy.refusing = True
    proxy.cut()
    wait_link_up(chained)
    assert not link_is_up(server)
    proxy.refusing = False
    wait_link_up(server)
    assert client.call("SET", "b", "2") == "OK"
    wait_until(lambda: in_step(primary, chained))
    assert_equal_data(primary, chained)
    assert int(primary.info("stats")["sync_full"]) == 1
    proxy.close()


def test_full_syncs_under_load(start, server):
    """A backlog that is too small for any break: each is a full sync, while the writers go on."""
    primary = stock_primary(start, {"repl-backlog-size": "16kb"})
    proxy = Proxy(primary.port)
    follow(server, proxy.port)
    with Writers(primary):
        wait_link_up(server)
        while int(primary.info("stats")["sync_full"]) < 4:
            proxy.refusing = True
            proxy.cut()
            before = int(primary.info("replication")["master_repl_offset"])
            wait_until(lambda: int(primary.info("replication")["master_repl_offset"]) > before + 100_000)
            proxy.refusing = False
            wait_link_up(server)
    assert_equal_data(primary, server)
    proxy.close()


def test_a_primary_that_restarts(start, server, tmp_path):
    port = harness.free_port()
    options = {"port": port, "save": "3600 1"}
    primary = stock_primary(start, options, directory=tmp_path)
    write_at_random(primary, SEED, threading.Event(), 1000)
    follow(server, port)
    wait_link_up(server)
    wait_until(lambda: in_step(primary, server))
    primary.terminate()
    wait_until(lambda: not link_is_up(server))
    assert server.info("replication")["master_link_down_since_seconds"] >= "0"
    assert server.call("ROLE")[3] in (b"connect", b"connecting", b"handshake")
    assert server.call("DBSIZE") is not None
    primary = stock_primary(start, options, directory=tmp_path)
    wait_link_up(server)
    # Its file has the id and the offset, so that the stream goes on.
    assert int(primary.info("stats")["sync_partial_ok"]) == 1
    write_at_random(primary, SEED + 2, threading.Event(), 300)
    assert_equal_data(primary, server)


def test_promotion(start, server):
    primary = stock_primary(start)
    follow(server, primary.port)
    wait_link_up(server)
    primary.call("SET", "k", "v")
    wait_until(lambda: in_step(primary, server))
    before = server.info("replication")
    assert server.call("REPLICAOF", "NO", "ONE") == "OK"
    after = server.info("replication")
    assert after["role"] == "master" and after["master_replid2"] == before["master_replid"] != after["master_replid"]
    assert int(after["second_repl_offset"]) == int(after["master_repl_offset"]) + 1
    assert int(after["master_repl_offset"]) >= int(before["slave_repl_offset"])
    assert server.call("SET", "k", "x") == "OK" and server.call("ROLE")[0] == b"master"
    assert re.search(r"Setting secondary replication ID to \w{40}, valid up to offset: \d+. New replication ID is \w{40}",
                     server.log())
    assert "MASTER MODE enabled (user request from 'id=" in server.log()
    wait_until(lambda: "slave0" not in primary.info("replication"))
    # And back again: a primary does not know the new history.
    follow(server, primary.port)
    wait_link_up(server)
    assert_equal_data(primary, server)
    assert server.call("GET", "k") == b"v"


def test_it_asks_with_a_password(start, server):
    primary = stock_primary(start, {"requirepass": "secret"})
    follow(server, primary.port)
    wait_until(lambda: "Unable to AUTH" in server.log() or "NOAUTH" in server.log())
    server.call("CONFIG", "SET", "masterauth", "wrong")
    wait_until(lambda: "Unable to AUTH to MASTER: -WRONGPASS" in server.log())
    server.call("CONFIG", "SET", "masterauth", "secret")
    wait_link_up(server)
    assert_equal_data(primary, server)


def test_expired_keys_wait_for_the_primary(start, server):
    primary = stock_primary(start)
    follow(server, primary.port)
    wait_link_up(server)
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    for number in range(50):
        primary.call("SET", f"k{number}", "v", "PX", "1")
    wait_until(lambda: in_step(primary, server))
    wait_until(lambda: server.call("GET", "k0") is None)
    wait_until(lambda: server.call("EXISTS", *[f"k{number}" for number in range(50)]) == 0)
    # For readers they are gone, in the table they are not: nobody but the primary deletes them.
    assert server.call("DBSIZE") == 50 and server.call("SCAN", "0", "COUNT", "1000")[1] == []
    assert_equal_data(primary, server)
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    wait_until(lambda: server.call("DBSIZE") == 0)
    assert_equal_data(primary, server)
    assert server.info("stats")["expired_keys"] == "0"


def test_readers_see_states_that_the_primary_had(start, backend):
    """Pairs that a transaction keeps equal, and a counter that only grows, read on the replica all the while."""
    primary = stock_primary(start, {"repl-backlog-size": "16mb"})
    server = start(backend=backend, threads=3)
    server.call("DEBUG", "WORKERS-AWAKE", "3")
    proxy = Proxy(primary.port)
    follow(server, proxy.port)
    wait_link_up(server)
    keys = harness.keys_in_distinct_slots(4)
    stop, seen, problems = threading.Event(), [0, 0, 0], []

    def write():
        with RawClient(*primary.address()) as client:
            number = 0
            while not stop.is_set():
                number += 1
                client.pipeline([("MULTI",), *[("SET", key, number) for key in keys], ("EXEC",), ("SET", "last", number)])
                if number % 100 == 0:
                    client.call("WAIT", 1, 100)

    def read(which):
        last = last_whole = 0
        with RawClient(*server.address()) as client:
            while not stop.is_set() and not problems:
                behind = int(client.call("GET", "last") or 0)
                values = client.call("MGET", *keys)
                if len(set(values)) != 1:
                    problems.append(f"torn: {values}")
                whole = int(values[0] or 0)
                if whole < last_whole or behind < last or whole < behind:
                    problems.append(f"backwards: {last} {last_whole} then {behind} {whole}")
                last, last_whole = behind, whole
                seen[which] += 1

    threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = int(server.info("replication")["slave_repl_offset"])
        wait_until(lambda: problems or int(server.info("replication")["slave_repl_offset"]) > before + scaled(300_000))
        proxy.cut()
    wait_until(lambda: problems or min(seen) > scaled(300))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert_equal_data(primary, server)
    proxy.close()


def test_it_is_configured_and_remembered(start, tmp_path):
    primary = stock_primary(start)
    server = start({"port": None}, config=f"port {harness.free_port()}\nbind 127.0.0.1\ndir {tmp_path}\nsave \"\"\n"
                   f"enable-debug-command yes\nreplicaof 127.0.0.1 {primary.port}\n", defaults=False, wait=False)
    server.port = int(re.search(r"port (\d+)", server.config)[1])
    wait_until(lambda: "Ready to accept connections" in server.log())
    wait_link_up(server)
    assert server.config_get("replicaof") == f"127.0.0.1 {primary.port}"
    file = server.directory / "server.conf"
    assert server.call("REPLICAOF", "NO", "ONE") == "OK"
    assert server.config_get("replicaof") == ""
    assert server.call("CONFIG", "REWRITE") == "OK" and "replicaof" not in file.read_text()
    follow(server, primary.port)
    assert server.call("CONFIG", "REWRITE") == "OK"
    assert f"\nreplicaof 127.0.0.1 {primary.port}\n" in file.read_text()
    assert isinstance(server.call("CONFIG", "SET", "replicaof", "x 1"), ReplyError)
    wait_link_up(server)


# --- With a primary made by hand ------------------------------------------------------------------------------


def test_the_handshake(start, by_hand):
    server = start({"masterauth": "word", "masteruser": "me", "replica-announce-ip": "10.1.2.3", "replica-announce-port": "77"})
    follow(server, by_hand.port)
    by_hand.accept()
    assert by_hand.command() == ["PING"]
    by_hand.send(b"-NOAUTH Authentication required.\r\n")
    assert by_hand.command() == ["AUTH", "me", "word"]
    assert by_hand.command() == ["REPLCONF", "listening-port", "77"]
    assert by_hand.command() == ["REPLCONF", "ip-address", "10.1.2.3"]
    assert by_hand.command() == ["REPLCONF", "capa", "eof", "capa", "psync2", "capa", "slotwise-lz4-1",
                                 "capa", "slotwise-blocks-1"]
    by_hand.send(b"+OK\r\n-ERR no\r\n+OK\r\n+OK\r\n")
    words = by_hand.command()
    assert words[0] == "PSYNC" and len(words[1]) == 40 and words[2] == "1"
    assert "(Non critical) Master does not understand REPLCONF listening-port: -ERR no" in server.log()
    # Empty lines keep it alive, at each stage.
    by_hand.send(b"\n\n+FULLRESYNC " + b"b" * 40 + b" 1000\r\n\n\n$EOF:" + b"m" * 40 + b"\r\n")
    rdb = rdb_of([(b"k%d" % number, b"v") for number in range(100)])
    for byte in range(0, len(rdb), 37):
        by_hand.send(rdb[byte:byte + 37])
    by_hand.send(b"m" * 39)
    wait_until(lambda: server.info("replication")["master_sync_in_progress"] == "1")
    by_hand.send(b"m")
    # It tells at once that the stream may begin.
    assert by_hand.command() == ["REPLCONF", "ACK", "1000"]
    assert server.call("DBSIZE") == 100
    length = by_hand.send_command("SELECT", "0") + by_hand.send_command("SET", "k0", "new")
    by_hand.send_command("REPLCONF", "GETACK", "*")
    assert by_hand.acknowledged(1000 + length) == 1000 + length
    assert server.call("GET", "k0") == b"new"
    # Nobody asks: it tells once a second.
    assert by_hand.acknowledged(1000 + length + 1) == 1000 + length + len(encode_command("REPLCONF", "GETACK", "*"))


def test_a_transaction_that_is_cut(server, by_hand):
    """Half of one changes nothing and does not count; it comes again as a whole."""
    follow(server, by_hand.port)
    by_hand.full_sync(EMPTY_RDB, 500)
    whole = by_hand.send_command("SELECT", "3") + by_hand.send_command("SET", "a", "1")
    wait_until(lambda: int(server.info("replication")["slave_repl_offset"]) == 500 + whole)
    by_hand.send_command("MULTI")
    by_hand.send_command("SET", "a", "2")
    by_hand.send(encode_command("SET", "b", "2")[:-7])
    wait_until(lambda: int(server.info("replication")["slave_read_repl_offset"]) > 500 + whole)
    assert int(server.info("replication")["slave_repl_offset"]) == 500 + whole
    assert by_hand.shake_hands() == [HandMade.ID, str(500 + whole + 1)]
    by_hand.send(b"+CONTINUE " + b"c" * 40 + b"\r\n")
    for words in [("MULTI",), ("SET", "a", "3"), ("SET", "b", "3"), ("EXEC",), ("REPLCONF", "GETACK", "*")]:
        by_hand.send_command(*words)
    by_hand.acknowledged(500 + whole + 1)
    # The database that was selected before the cut is selected after it.
    with server.raw() as client:
        client.call("SELECT", "3")
        assert client.call("MGET", "a", "b") == [b"3", b"3"]
    info = server.info("replication")
    assert info["master_replid"] == "c" * 40 and info["master_replid2"] == HandMade.ID
    assert int(info["second_repl_offset"]) == 500 + whole + 1


def test_what_no_primary_sends(server, by_hand):
    follow(server, by_hand.port)
    for reply, logged in [(b"+CONTINUE\r\n", None), (b"-NOMASTERLINK no\r\n", "Master is currently unable to PSYNC"),
                          (b"+FULLRESYNC x\r\n-oops\r\n", "MASTER aborted replication with an error: oops"),
                          (b"+FULLRESYNC " + b"b" * 40 + b" 1\r\nhello\r\n", "Bad protocol from MASTER, the first byte is not '$'"),
                          (b"+FULLRESYNC " + b"b" * 40 + b" 1\r\n$100\r\nREDIS", "I/O error trying to sync with MASTER: connection"),
                          (b"-ERR what\r\n", "Master does not support PSYNC or is in error state (reply: -ERR what)")]:
        by_hand.shake_hands()
        by_hand.send(reply)
        if logged is None:
            by_hand.send(b"hello there\r\n")
            wait_until(lambda: "Protocol error" in server.log())
            continue
        if b"REDIS" in reply:
            wait_until(lambda: server.info("replication").get("master_sync_read_bytes") == "5")
            by_hand.link.close()
        wait_until(lambda text=logged: text in server.log(), what=logged)
    # What is no file leaves nothing, and is asked for again; types that are not there are named.
    for rdb, logged in [(b"REDIS0010\x00\x01", "Failed trying to load the MASTER"), (b"NORDB" * 10, "Failed trying to load the MASTER"),
                        (b"REDIS0010\xfe\x00\x00\x01a\x01b\x15\x06stream\x01\x01x\xff" + bytes(8), "a stream")]:
        by_hand.full_sync(rdb)
        wait_until(lambda text=logged: text in server.log(), what=logged)
    # The same when they are loaded as they come.
    assert server.call("CONFIG", "SET", "repl-diskless-load", "on-empty-db") == "OK"
    by_hand.accept()  # this attempt has begun before
    by_hand.link.close()
    failures = server.log().count("Failed trying to load the MASTER synchronization DB from socket")
    for rdb in [b"NORDB" * 10, rdb_of([(b"k", b"v")])[:-9] + b"\xfa"]:
        by_hand.full_sync(rdb, by_mark=True)
        wait_until(lambda wanted=failures: server.log().count("synchronization DB from socket") > wanted)
        failures += 1
    by_hand.full_sync(rdb_of([(b"k", b"v")]))
    wait_link_up(server)
    assert server.call("DBSIZE") == 1
    by_hand.send_command("NONSENSE", "x")
    by_hand.send_command("SET", "k", "w")
    wait_until(lambda: server.call("GET", "k") == b"w")
    assert re.search(r"== CRITICAL == This replica is sending an error to its master: '-ERR unknown command 'NONSENSE'", server.log())
    assert server.info("stats")["unexpected_error_replies"] == "1"


def test_who_is_served_meanwhile(start, by_hand):
    """-LOADING while the data come in, -MASTERDOWN while there is nobody to get them from."""
    server = start({"replica-serve-stale-data": "no", "loading-process-events-interval-bytes": "1024"})
    assert server.call("SET", "k", "v") == "OK"
    follow(server, by_hand.port)
    down = ReplyError("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
    assert server.call("GET", "k") == down
    with server.raw() as client:
        assert client.call("PING") == down and client.call("SELECT", "1") == "OK"
        assert isinstance(client.call("INFO"), bytes)
    server.call("CONFIG", "SET", "replica-serve-stale-data", "yes")
    assert server.call("GET", "k") == b"v"
    rdb = rdb_of((b"key:%06d" % number, b"v" * 20) for number in range(scaled(400_000)))
    loading, stop = [], threading.Event()

    def ask():
        with server.raw() as client:
            while not stop.is_set():
                loading.append(client.call("GET", "key:000000"))

    asker = threading.Thread(target=ask)
    asker.start()
    by_hand.full_sync(rdb)
    wait_link_up(server)
    stop.set()
    asker.join()
    assert ReplyError("LOADING Redis is loading the dataset in memory") in loading
    assert {reply for reply in loading if not isinstance(reply, ReplyError)} <= {None, b"v" * 20}
    assert server.call("DBSIZE") == scaled(400_000)
    assert server.info("persistence")["loading"] == "0" and server.info("persistence")["async_loading"] == "0"


def answers_while_little_has_come(server, by_hand):
    """What clients get that ask when the first bytes of a data set have come."""
    rdb = rdb_of([(b"k", b"v")])
    follow(server, by_hand.port)
    by_hand.full_sync(b"", size=len(rdb))
    wait_until(lambda: f"receiving {len(rdb)} bytes from master to parser" in server.log())
    assert server.info("persistence")["loading"] == "0" and server.call("GET", "k") is None
    with server.raw() as client, server.raw() as other:
        by_hand.send(rdb[:14])
        wait_until(lambda: server.info("persistence")["loading"] == "1")
        client.send_command("GET", "k")
        other.send(b"MULTI\r\nGET k\r\nEXEC\r\n")
        by_hand.send(rdb[14:])
        return [client.read(), *(other.read() for _ in range(3))]


def test_a_short_load_is_waited_for(start, by_hand):
    """Redis looks at no client before it has loaded 2 MB. A second at most, so that there is another try if it is over."""
    for _ in range(5):
        answers = answers_while_little_has_come(start({"repl-diskless-load": "on-empty-db"}), by_hand)
        if not isinstance(answers[0], ReplyError):
            break
    assert answers == [b"v", "OK", "QUEUED", [b"v"]]


def test_the_end_while_it_loads(start, by_hand):
    """It can be told to stop, and INFO tells how far it is."""
    server = start({"key-load-delay": "100000"}, threads=2)
    follow(server, by_hand.port)
    by_hand.full_sync(rdb_of((b"key:%06d" % number, b"v") for number in range(100_000)))
    info = wait_until(lambda: (found := server.info("persistence"))["loading"] == "1" and found)
    assert int(info["loading_total_bytes"]) > 1_000_000
    assert isinstance(server.call("REPLICAOF", "NO", "ONE"), ReplyError)
    assert by_hand.link.recv(1) == b"\n"  # it tells that it is there


def test_silence(start, by_hand):
    """repl-timeout: at each stage nobody waits for longer for a primary that says nothing, also where it has just been shortened."""
    server = start({"repl-timeout": "600"})
    follow(server, by_hand.port)
    by_hand.accept()
    server.call("CONFIG", "SET", "repl-timeout", "1")
    wait_until(lambda: "Timeout connecting to the MASTER..." in server.log())
    by_hand.shake_hands()
    by_hand.send(b"+FULLRESYNC " + b"b" * 40 + b" 1\r\n$100\r\nREDIS")
    wait_until(lambda: "Timeout receiving bulk data from MASTER..." in server.log())
    by_hand.full_sync(EMPTY_RDB, 10)
    wait_until(lambda: "MASTER timeout: no data nor PING received..." in server.log())
    assert by_hand.shake_hands() == [HandMade.ID, "11"]  # it was in step, and asks for the rest


def test_what_clients_are_held_to_and_the_stream_is_not(start, by_hand):
    """Memory, pauses, passwords, limits of clients, their timeouts: the stream goes on."""
    server = start({"requirepass": "secret", "timeout": "1", "maxmemory-clients": "200kb", "client-query-buffer-limit": "1mb"},
                   threads=2)
    with server.raw() as client:
        assert client.call("CONFIG", "SET", "maxclients", "1") == "OK"
        assert client.call("REPLICAOF", "127.0.0.1", by_hand.port) == "OK"
        by_hand.full_sync(EMPTY_RDB, 0)
        wait_until(lambda: b"master_link_status:up" in client.call("INFO", "replication"))
        assert client.call("CLIENT", "PAUSE", "100000", "WRITE") == "OK"
        assert client.call("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "allkeys-lru") == "OK"
        sent = by_hand.send_command("SELECT", "0")
        for number in range(8):
            sent += by_hand.send_command("SET", f"big{number}", "x" * 1_500_000)
        wait_until(lambda: f"slave_repl_offset:{sent}".encode() in client.call("INFO", "replication"))
        assert client.call("DBSIZE") == 8 and b"evicted_keys:0" in client.call("INFO", "stats")
        begun = time.monotonic()
        wait_until(lambda: client.call("PING") == "PONG" and time.monotonic() > begun + 2.5)
        sent += by_hand.send_command("INCR", "n")
        wait_until(lambda: client.call("GET", "n") == b"1")
        assert b"evicted_clients:0" in client.call("INFO", "stats")
        # A replica that minds the limit makes room of its own.
        assert client.call("CLIENT", "UNPAUSE") == "OK"
        assert client.call("CONFIG", "SET", "replica-ignore-maxmemory", "no") == "OK"
        wait_until(lambda: client.call("DBSIZE") < 8)


def test_what_sentinel_sends(start, server):
    """Its transactions of REPLICAOF, CONFIG REWRITE and CLIENT KILL; the role that HELLO tells."""
    primary = stock_primary(start)
    bystander = server.raw()
    for role, order in [("replica", ("127.0.0.1", primary.port)), ("master", ("NO", "ONE")), ("replica", ("127.0.0.1", primary.port))]:
        with server.raw() as client:
            client.call("MULTI")
            for words in [("SLAVEOF", *order), ("CLIENT", "KILL", "TYPE", "normal"), ("CLIENT", "KILL", "TYPE", "pubsub")]:
                assert client.call(*words) == "QUEUED"
            assert client.call("EXEC")[0] == "OK"
            hello = client.call("HELLO", "2")
            assert hello[hello.index(b"role") + 1] == role.encode()
        assert bystander.closed_within()
        bystander = server.raw()
    wait_link_up(server)
    assert_equal_data(primary, server)


def test_orders_while_it_is_busy(start, by_hand):
    """Whatever it does, it can be told to do something else, and to stop."""
    other = HandMade()
    server = start(threads=2)
    for number in range(6):
        follow(server, by_hand.port if number % 2 == 0 else other.port)
        primary = by_hand if number % 2 == 0 else other
        primary.accept()
        if number > 1:
            primary.command()
            primary.send(b"+PONG\r\n")
        if number > 3:
            for _ in range(2):
                primary.command()
            primary.send(b"+OK\r\n+OK\r\n")
            primary.command()
            primary.send(b"+FULLRESYNC " + b"b" * 40 + b" 1\r\n$100\r\nREDIS")
            wait_until(lambda: server.info("replication").get("master_sync_read_bytes") == "5")
    assert server.call("REPLICAOF", "NO", "ONE") == "OK"
    assert server.call("SET", "k", "v") == "OK"
    follow(server, by_hand.port)
    by_hand.shake_hands()
    other.close()  # the server stops while it waits for an answer


# --- A replica that may be written to ---------------------------------------------------------------------------


def test_keys_of_its_own_expire(start, server):
    """Those to which its clients have given a time to live, in whatever way; all others wait for the primary."""
    primary = stock_primary(start)
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    primary.call("CONFIG", "RESETSTAT")
    follow(server, primary.port)
    wait_link_up(server)
    assert server.call("CONFIG", "SET", "replica-read-only", "no") == "OK"

    def tracked():
        return int(server.info("stats")["slave_expires_tracked_keys"])
    with primary.raw() as client:
        client.pipeline([("SET", "theirs", "x", "PX", 300), ("SET", "later", "x"), ("SET", "touched", "x", "PX", 300),
                         ("SET", "taken", "x"), ("SET", "kept", "x", "PX", 300)])
    wait_until(lambda: in_step(primary, server), what="the stream to be applied")
    with server.raw() as client:
        client.pipeline([
            ("SET", "a", "x", "PX", 300), ("SET", "b", "x"), ("PEXPIRE", "b", 300), ("SET", "c", "x"), ("GETEX", "c", "PX", 300),
            ("SET", "d", "x", "PX", 300), ("COPY", "d", "e"), ("SET", "f", "x", "PX", 300), ("RENAME", "f", "g"),
            ("RESTORE", "h", 300, client.call("DUMP", "later")), ("SELECT", 1), ("SET", "in another", "x", "PX", 300), ("SELECT", 0),
            ("PEXPIRE", "later", 300), ("APPEND", "touched", "y"), ("SET", "kept", "z", "KEEPTTL"), ("SET", "long", "x", "EX", 1000),
            ("SET", "no more", "x", "PX", 300), ("PERSIST", "no more"), ("SET", "gone", "x", "EX", 1000), ("DEL", "gone"),
            ("SET", "taken", "x", "EX", 1000)])
    primary.call("SET", "taken", "y", "PX", 300)
    wait_until(lambda: in_step(primary, server), what="the stream to be applied")
    wait_until(lambda: tracked() == 1, what="all but one to be gone")  # long
    assert server.info("keyspace").get("db1") is None
    assert int(server.call("DBSIZE")) == 6  # theirs, touched, taken, kept, long, no more
    assert server.call("GET", "theirs") is None and server.call("GET", "no more") == b"x"
    assert int(server.info("stats")["expired_keys"]) == 9
    primary.call("FLUSHALL")
    wait_until(lambda: tracked() == 0 and server.call("DBSIZE") == 0, what="nothing to be left")


def test_keys_of_its_own_when_it_is_promoted(start, server):
    primary = stock_primary(start)
    follow(server, primary.port)
    wait_link_up(server)
    assert server.call("CONFIG", "SET", "replica-read-only", "no") == "OK"
    assert server.call("SET", "a", "x", "EX", 1000) == "OK"
    assert server.info("stats")["slave_expires_tracked_keys"] == "1"
    # What is known goes on while nobody may write; and a primary looks after all keys.
    assert server.call("PEXPIRE", "a", 1000) == 1
    assert server.call("CONFIG", "SET", "replica-read-only", "yes") == "OK"
    wait_until(lambda: server.call("DBSIZE") == 0, what="the key to be gone")
    assert server.call("CONFIG", "SET", "replica-read-only", "no") == "OK"
    assert server.call("SET", "a", "x", "EX", 1000) == "OK"
    assert server.call("REPLICAOF", "NO", "ONE") == "OK"
    assert server.info("stats")["slave_expires_tracked_keys"] == "0"
    assert server.call("SET", "a", "x", "PX", 10) == "OK"
    wait_until(lambda: server.call("DBSIZE") == 0, what="the key to be gone")
