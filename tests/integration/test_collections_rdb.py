"""Lists, sets, hashes and sorted sets as bytes: DUMP and RESTORE, RDB files and full syncs, each way between this server and the
stock one; payloads that were damaged; a snapshot of a large key that is written to meanwhile."""

import os
import random
import shutil
import subprocess
import threading

import pytest

import harness
from harness import ORACLE, wait_until
from rdbfile import rdb_file, sign
from replication import assert_equal_data, stock_primary, wait_link_up
from resp import ReplyError

pytestmark = pytest.mark.slotwise

needs_oracle = pytest.mark.skipif(not os.access(ORACLE, os.X_OK), reason="no stock server")


# --- Values of each kind -----------------------------------------------------------------------------------


def texts(count, length=8):
    return [f"element-{i}".ljust(length, "x") for i in range(count)]


def pairs(names, values):
    return [word for pair in zip(names, values) for word in pair]


def scores(count):
    return [["-inf", "-2.5", "0", "1", "3.25", "1e30", "inf"][i % 7] for i in range(count)]


def commands():
    """(key, command): small ones, some at the limits, and large ones."""
    yield from ((f"list:{n}:{length}", ("RPUSH", *texts(n, length)))
                for n, length in ((1, 8), (100, 8), (300, 40), (3, 9000), (5000, 30)))
    yield "list:numbers", ("RPUSH", *range(-300, 300, 7), 2**40, -2**63, 2**63 - 1, "2.5", "01", "")
    yield from ((f"set:{n}:{length}", ("SADD", *texts(n, length))) for n, length in ((1, 8), (100, 20), (129, 8), (5, 100), (5000, 8)))
    yield from ((f"intset:{n}:{step}", ("SADD", *range(-n, n, step))) for n, step in ((5, 1), (100, 3), (40000, 999), (2**40, 2**33), (500, 1)))
    yield "set:mixed", ("SADD", *range(50), *texts(50))
    yield from ((f"hash:{n}:{length}", ("HSET", *pairs(texts(n, length), [*range(n // 2), *texts(n - n // 2, length)])))
                for n, length in ((1, 8), (60, 8), (128, 8), (129, 8), (3, 100), (5000, 12)))
    yield from ((f"zset:{n}:{length}", ("ZADD", *pairs(scores(n), texts(n, length))))
                for n, length in ((1, 8), (60, 8), (128, 8), (129, 8), (3, 100), (5000, 12)))
    yield "zset:numbers", ("ZADD", *pairs(range(50), range(100, 150)))


READ = {"list": ("LRANGE", 0, -1), "set": ("SMEMBERS",), "hash": ("HGETALL",), "zset": ("ZRANGE", 0, -1, "WITHSCORES")}


def content(client, key):
    kind = client.call("TYPE", key)
    name, *rest = READ[kind]
    elements = client.call(name, key, *rest)
    if kind == "hash":
        return dict(zip(elements[::2], elements[1::2]))
    return set(elements) if kind == "set" else elements


def fill(client):
    for key, command in commands():
        client.call(command[0], key, *command[1:])
    client.call("PEXPIREAT", "hash:60:8", 4_000_000_000_000)
    client.call("SELECT", 3)
    client.call("RPUSH", "elsewhere", 1, 2, 3)
    client.call("SET", "string", "there")
    client.call("SELECT", 0)




def digest(client):
    return client.call("DEBUG", "DIGEST")


# --- DUMP and RESTORE --------------------------------------------------------------------------------------


@needs_oracle
@pytest.mark.parametrize("compression", ["yes", "no"])
def test_payloads_both_ways(client, shared, oracle, compression):
    theirs = oracle.raw()
    for server in (client, theirs):
        assert server.call("CONFIG", "SET", "rdbcompression", compression) == "OK"
        fill(server)
    try:
        for key, _ in commands():
            mine, other = client.call("DUMP", key), theirs.call("DUMP", key)
            assert client.call("RESTORE", "r" + key, 0, other) == "OK", key
            assert theirs.call("RESTORE", "r" + key, 0, mine) == "OK", key
            expected = content(theirs, key)
            assert content(client, "r" + key) == expected == content(theirs, "r" + key) == content(client, key), key
            assert client.call("DEBUG", "DIGEST-VALUE", key) == theirs.call("DEBUG", "DIGEST-VALUE", key), key
            # What the stock server has packed is taken over as it is.
            if compression == "no" and client.call("OBJECT", "ENCODING", key) in ("listpack", "intset") and len(mine) < 4000 \
                    and not key.startswith(("set:", "list:")):
                assert mine == other, key
    finally:
        shared.call("CONFIG", "SET", "rdbcompression", "yes")


@needs_oracle
def test_encodings_after_restore_are_those_of_the_same_commands(client, oracle):
    fill(client)
    theirs = oracle.raw()
    for key, command in commands():
        theirs.call(command[0], key, *command[1:])
        assert client.call("RESTORE", "r" + key, 0, theirs.call("DUMP", key)) == "OK"
        assert client.call("RESTORE", "again" + key, 0, client.call("DUMP", key)) == "OK"
        encoding = client.call("OBJECT", "ENCODING", key)
        assert client.call("OBJECT", "ENCODING", "again" + key) == encoding, key
        assert client.call("OBJECT", "ENCODING", "r" + key) == encoding, key


def test_copy_rename_and_memory_of_a_large_value(client):
    client.pipeline([("HSET", "h", *pairs(texts(1000, 12), range(1000))), ("ZADD", "z", *pairs(range(1000), texts(1000)))])
    for key in "hz":
        before = client.call("DEBUG", "DIGEST-VALUE", key)[0]
        assert client.call("MEMORY", "USAGE", key) > 10_000
        assert client.call("COPY", key, "copy") == 1
        assert client.call("RENAME", "copy", "renamed") == "OK"
        assert client.call("DEBUG", "DIGEST-VALUE", "renamed")[0] == before
        client.call(*("HSET", key, "more", 1) if key == "h" else ("ZADD", key, 1, "more"))
        assert client.call("DEBUG", "DIGEST-VALUE", "renamed")[0] == before != client.call("DEBUG", "DIGEST-VALUE", key)[0]
        assert client.call("OBJECT", "ENCODING", "renamed") == client.call("OBJECT", "ENCODING", key)
        assert client.call("UNLINK", "renamed") == 1
        assert client.call("PEXPIRE", key, 1) == 1
        wait_until(lambda key=key: client.call("EXISTS", key) == 0, what="the key to expire")


def test_debug_object_of_a_list(client):
    client.call("RPUSH", "l", *texts(2000, 20))
    fields = dict(word.split(":") for word in client.call("DEBUG", "OBJECT", "l").split()[1:] if ":" in word)
    nodes = int(fields["ql_nodes"])
    assert nodes > 1 and float(fields["ql_avg_node"]) == round(2000 / nodes, 2) and fields["ql_listpack_max"] == "-2"
    assert 2000 * 22 <= int(fields["ql_uncompressed_size"]) <= 2000 * 22 + nodes * 7


def test_checksums_of_payloads_can_be_skipped(client):
    client.call("RPUSH", "l", 1, 2, 3)
    payload = client.call("DUMP", "l")[:-8] + bytes(8)
    assert "checksum are wrong" in str(client.call("RESTORE", "r", 0, payload))
    try:
        client.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1)
        assert client.call("RESTORE", "r", 0, payload) == "OK"
    finally:
        client.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 0)
    assert "checksum are wrong" in str(client.call("RESTORE", "r", 0, payload, "REPLACE"))


def test_collections_are_evicted(start):
    server = start({"maxmemory-policy": "allkeys-lru"}, threads=2)
    client = server.raw()
    limit = int(server.info("memory")["used_memory"]) + 4_000_000
    client.call("CONFIG", "SET", "maxmemory", limit)
    replies = client.pipeline([("HSET", f"h{i}", *pairs(texts(200, 16), texts(200, 16))) for i in range(600)])
    assert replies == [200] * 600
    assert int(server.info("stats")["evicted_keys"]) > 100
    keys = client.call("KEYS", "*")
    assert keys and all(client.call("HLEN", key) == 200 for key in keys)
    wait_until(lambda: int(server.info("memory")["used_memory"]) <= limit, what="memory to be below the limit")


# --- Files -------------------------------------------------------------------------------------------------


def check_file(path):
    if shutil.which("redis-check-rdb"):
        checked = subprocess.run(["redis-check-rdb", str(path)], capture_output=True, text=True, check=False)
        assert "RDB looks OK" in checked.stdout and "Checksum OK" in checked.stdout, checked.stdout


@needs_oracle
@pytest.mark.parametrize("threads", [1, 2])
def test_files_both_ways(start, threads):
    theirs = start(binary=ORACLE, backend=None)
    mine = start(threads=threads)
    for server in (theirs, mine):
        fill(server.raw())
    assert digest(mine.raw()) == digest(theirs.raw())
    for source, target in ((theirs, {"threads": threads}), (mine, {"binary": ORACLE, "backend": None})):
        with source.raw() as client:
            assert client.call("SAVE") == "OK"
            expected = digest(client)
        check_file(source.directory / "dump.rdb")
        folder = source.directory / "copy"
        folder.mkdir()
        shutil.copy(source.directory / "dump.rdb", folder / "dump.rdb")
        loaded = start({"dir": str(folder)}, **target)
        wait_until(lambda loaded=loaded: loaded.info("persistence")["loading"] == "0", what="the file to be loaded")
        assert digest(loaded.raw()) == expected
        assert loaded.raw().call("PEXPIRETIME", "hash:60:8") == 4_000_000_000_000


def test_debug_reload(client):
    fill(client)
    before = digest(client)
    encodings = {key: client.call("OBJECT", "ENCODING", key) for key, _ in commands()}
    assert client.call("DEBUG", "RELOAD") == "OK"
    assert digest(client) == before
    assert {key: client.call("OBJECT", "ENCODING", key) for key in encodings} == encodings


def test_a_file_with_empty_and_with_broken_keys(start, tmp_path):
    body = b"\xfe\x00\x04\x04none\x00" + b"\x04\x01h\x01\x01f\x01v"
    (tmp_path / "dump.rdb").write_bytes(rdb_file(body, 11))
    server = start({"dir": str(tmp_path)})
    client = server.raw()
    assert client.call("KEYS", "*") == [b"h"] and client.call("HGETALL", "h") == [b"f", b"v"]
    assert "rdbLoadObject skipping empty key: none" in server.log() and "empty keys skipped: 1." in server.log()
    (tmp_path / "dump.rdb").write_bytes(rdb_file(b"\xfe\x00\x10\x01h\x09\x09\x00\x00\x00\x01\x00\x05\x02\xff", 11))
    with pytest.raises(harness.StartFailed, match="Hash listpack integrity check failed."):
        start({"dir": str(tmp_path)})


# --- Full syncs --------------------------------------------------------------------------------------------


@needs_oracle
@pytest.mark.parametrize("ends", ["theirs to mine", "mine to theirs", "mine to mine"])
def test_full_sync_and_stream(start, ends):
    primary = stock_primary(start) if ends.startswith("theirs") else start({"repl-diskless-sync-delay": "0"}, threads=2)
    client = primary.raw()
    fill(client)
    binary = {"binary": ORACLE, "backend": None} if ends.endswith("theirs") else {"threads": 2}
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, **binary)
    generator = random.Random(5)
    for number in range(300):
        key = generator.randrange(20)
        client.pipeline([("HSET", f"h{key}", number % 200, number), ("RPUSH", f"l{key}", number), ("SADD", f"s{key}", number * 7),
                         ("ZADD", f"z{key}", number % 13, number), ("HSET", "hash:5000:12", number, number),
                         ("LPOP", "list:5000:30"), ("ZADD", "zset:5000:12", number, f"element-{number}")])
    wait_link_up(replica)
    assert_equal_data(primary, replica)


# --- A large key that is written to during a snapshot ------------------------------------------------------


@needs_oracle
def test_a_large_hash_is_saved_as_of_one_moment(start):
    """Its fields are accounts between which money moves in pairs that one transaction changes; the sum stays."""
    fields, balance = harness.scaled(200_000), 1000
    server = start({"rdbcompression": "no"}, threads=2)
    client = server.raw()
    for first in range(0, fields, 1000):
        client.call("HSET", "accounts", *pairs(range(first, min(first + 1000, fields)), [balance] * 1000))
    stop, written = threading.Event(), []

    def move(seed):
        generator, mover = random.Random(seed), server.raw()
        while not stop.is_set():
            source, target = generator.sample(range(fields), 2)
            amount = generator.randrange(1, 50)
            mover.pipeline([("MULTI",), ("HINCRBY", "accounts", source, -amount), ("HINCRBY", "accounts", target, amount),
                            ("HSET", "accounts", f"new-{seed}-{len(written)}", 0), ("EXEC",)])
            written.append(1)

    movers = [threading.Thread(target=move, args=(seed,)) for seed in range(2)]
    for mover in movers:
        mover.start()
    try:
        for turn in range(2):
            wait_until(lambda: len(written) > 100, what="the movers to move")
            before = len(written)
            assert client.call("BGSAVE") == "Background saving started"
            wait_until(lambda: server.info("persistence")["rdb_bgsave_in_progress"] == "0", what="the save to end")
            assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"
            wait_until(lambda before=before: len(written) > before, what="the movers to have moved meanwhile")
            folder = server.directory / f"copy{turn}"
            folder.mkdir()
            shutil.copy(server.directory / "dump.rdb", folder / "dump.rdb")
    finally:
        stop.set()
        for mover in movers:
            mover.join()
    for turn in range(2):
        check_file(server.directory / f"copy{turn}" / "dump.rdb")
        loaded = start({"dir": str(server.directory / f"copy{turn}")}, binary=ORACLE, backend=None)
        wait_until(lambda loaded=loaded: loaded.info("persistence")["loading"] == "0", what="the file to be loaded")
        values = loaded.raw().call("HVALS", "accounts")
        assert len(values) >= fields and sum(map(int, values)) == fields * balance


# --- Damaged payloads --------------------------------------------------------------------------------------


def damaged(payload, generator):
    body = bytearray(payload[:-10])
    for _ in range(generator.choice([1, 1, 1, 2, 5])):
        where = generator.randrange(1, len(body))
        kind = generator.randrange(4)
        if kind == 0:
            body[where] ^= 1 << generator.randrange(8)
        elif kind == 1:
            body[where] = generator.choice([0, 1, 0x7F, 0x80, 0xC0, 0xE0, 0xF0, 0xF4, 0xFE, 0xFF])
        elif kind == 2:
            del body[where:where + generator.randrange(1, 4)]
            if len(body) < 2:
                return None
        else:
            body[where:where] = bytes(generator.randrange(256) for _ in range(generator.randrange(1, 4)))
    return sign(body, 11)


# Of formats that no server writes any more: a ziplist (hash, sorted set, list, nodes) and a zipmap.
OLD = [b"\x0d\x1b\x1b\x00\x00\x00\x15\x00\x00\x00\x04\x00\x00\x02ab\x04\xfe\x07\x03\x02cd\x04\x03xyz\xff",
       b"\x0c\x13\x13\x00\x00\x00\x0e\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x07\x00\xff",
       b"\x0a\x13\x13\x00\x00\x00\x0e\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x07\x00\xff",
       b"\x0e\x01\x13\x13\x00\x00\x00\x0e\x00\x00\x00\x02\x00\x00\x02ab\x04\xc0\x07\x00\xff",
       b"\x09\x0f\x02\x01a\x01\x001\x04name\x01\x00v\xff"]


def use(client, key):
    """Whatever it has become, all that reads and changes it works."""
    kind = client.call("TYPE", key)
    content(client, key)
    client.call("DEBUG", "DIGEST-VALUE", key)
    again = client.call("DUMP", key)
    assert client.call("RESTORE", "again", 0, again, "REPLACE") == "OK"
    assert client.call("DEBUG", "DIGEST-VALUE", "again") == client.call("DEBUG", "DIGEST-VALUE", key)
    more = {"list": ("RPUSH", key, "more", "5"), "set": ("SADD", key, "more", "5"), "hash": ("HSET", key, "more", "5"),
            "zset": ("ZADD", key, 5, "more")}
    client.call(*more[kind])
    for command in {"list": [("LPOP", key, 2), ("LINDEX", key, -1)], "set": [("SPOP", key, 2), ("SISMEMBER", key, "5")],
                    "hash": [("HDEL", key, "more"), ("HSCAN", key, 0)], "zset": [("ZPOPMIN", key, 2), ("ZRANK", key, "more")]}[kind]:
        client.call(*command)


def test_damaged_payloads(client):
    """An error or a key that can be used; the build with sanitizers sees what goes astray."""
    generator = random.Random(20241127)
    payloads = [sign(body, 9) for body in OLD]
    client.call("CONFIG", "SET", "rdbcompression", "no")
    try:
        for key, command in commands():
            if len(command) < 300:
                client.call(command[0], key, *command[1:])
                payload = client.call("DUMP", key)
                if len(payload) < 3000:
                    payloads.append(payload)
    finally:
        client.call("CONFIG", "SET", "rdbcompression", "yes")
    for payload in payloads:
        assert client.call("RESTORE", "k", 0, payload, "REPLACE") == "OK", payload
    restored = 0
    for number in range(harness.scaled(6000)):
        payload = damaged(payloads[number % len(payloads)], generator)
        if payload is None:
            continue
        reply = client.call("RESTORE", "k", 0, payload, "REPLACE")
        if reply != "OK":
            assert isinstance(reply, ReplyError) and "Bad data format" in str(reply)
            continue
        restored += 1
        if client.call("TYPE", "k") != "string":
            use(client, "k")
    assert restored > 100
