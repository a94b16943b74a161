"""Snapshots under load: each BGSAVE holds the state of one moment, whatever all workers change while it is taken. The files are
read back by the stock server."""

import random
import shutil
import subprocess

import pytest

import harness
from harness import wait_until
from load import Deadline, connect, run_clients

ACCOUNTS = 200
BALANCE = 1000
STREAM_KEYS = 300
SNAPSHOTS = 4

pytestmark = pytest.mark.slotwise


# --- What changes meanwhile -------------------------------------------------------------------------------


def move_money(address, seed, deadline):
    """Between accounts in different slots, by transactions of several connections at once."""
    clients, generator = connect(address, 4), random.Random(seed)
    while deadline.ahead():
        for client in clients:
            source, target = generator.sample(range(ACCOUNTS), 2)
            amount = generator.randrange(1, 50)
            client.send_command("MULTI")
            client.send_command("DECRBY", f"account:{source}", amount)
            client.send_command("INCRBY", f"account:{target}", amount)
            client.send_command("EXEC")
        for client in clients:
            for _ in range(4):
                client.read()


def stream(address, deadline):
    """Keys that come one after the other and go in the same order: what is there is always a run without gaps."""
    client = connect(address, 1)[0]
    client.call("SELECT", 1)
    number = 0
    while deadline.ahead():
        commands = []
        for _ in range(20):
            commands.append(("SET", f"stream:{number}", f"{number} " + "x" * (number % 700)))
            if number >= STREAM_KEYS:
                commands.append((("DEL", "UNLINK", "GETDEL")[number % 3], f"stream:{number - STREAM_KEYS}"))
            number += 1
        client.pipeline(commands)


def rename(address, deadline):
    """One key that is renamed and moved between databases; it is always somewhere, once. Its value does not fit into its object."""
    client = connect(address, 1)[0]
    client.call("SELECT", 2)
    number = 0
    while deadline.ahead():
        commands = [("RENAME", f"token:{number}", f"token:{number + 1}"), ("APPEND", f"token:{number + 1}", "t"),
                    ("MOVE", f"token:{number + 1}", 3 - number % 2), ("SELECT", 3 - number % 2)]
        if number % 2 == 1:
            commands[2:] = [("MOVE", f"token:{number + 1}", 2), ("SELECT", 2)]
        client.pipeline(commands)
        number += 1


def swap(address, deadline):
    """Two databases that change places: one of them is full, one has a single key."""
    client = connect(address, 1)[0]
    while deadline.ahead():
        client.call("SWAPDB", 4, 5)


def fill_and_flush(address, deadline):
    """A database that is filled in order, emptied, and filled again with another number."""
    client = connect(address, 1)[0]
    client.call("SELECT", 6)
    turn = 0
    while deadline.ahead():
        client.pipeline([("SET", f"filled:{i}", turn) for i in range(500)])
        client.call("FLUSHDB", ("SYNC", "ASYNC")[turn % 2])
        turn += 1


def save(server_address, directory, deadline):
    """Takes snapshots until there are enough; a copy of each file."""
    client = connect(server_address, 1)[0]
    files = []
    while len(files) < SNAPSHOTS:
        deadline.ahead()
        assert client.call("BGSAVE") == "Background saving started"
        wait_until(lambda: harness.parse_info(client.call("INFO", "persistence"))["rdb_bgsave_in_progress"] == "0",
                   what="the end of the save")
        assert harness.parse_info(client.call("INFO", "persistence"))["rdb_last_bgsave_status"] == "ok"
        name = f"snapshot-{len(files)}.rdb"
        shutil.copy(directory / "dump.rdb", directory / name)
        files.append(name)
    return files


# --- What must be in them ---------------------------------------------------------------------------------


def numbers(client, database, prefix):
    client.call("SELECT", database)
    return sorted(int(key.split(b":")[1]) for key in client.call("KEYS", prefix + ":*"))


def check(client):
    client.call("SELECT", 0)
    balances = [int(value) for value in client.call("MGET", *[f"account:{i}" for i in range(ACCOUNTS)])]
    assert sum(balances) == ACCOUNTS * BALANCE
    run = numbers(client, 1, "stream")
    assert not run or run == list(range(run[0], run[-1] + 1)) and len(run) <= STREAM_KEYS + 1
    for number in run:
        assert client.call("GET", f"stream:{number}") == f"{number} ".encode() + b"x" * (number % 700)
    tokens = [(database, number) for database in (2, 3) for number in numbers(client, database, "token")]
    assert len(tokens) == 1
    client.call("SELECT", tokens[0][0])
    length = client.call("STRLEN", f"token:{tokens[0][1]}")
    assert length - 40_000 in (tokens[0][1], tokens[0][1] - 1)
    sizes = []
    for database in (4, 5):
        client.call("SELECT", database)
        sizes.append(client.call("DBSIZE"))
    assert sorted(sizes) == [1, 1000]
    filled = numbers(client, 6, "filled")
    assert filled == list(range(len(filled)))
    if filled:
        turns = {int(value) for value in client.call("MGET", *[f"filled:{i}" for i in filled])}
        assert len(turns) == 1


def test_every_snapshot_is_the_state_of_one_moment(any_server):
    server, directory = any_server, any_server.directory
    with server.raw() as client:
        client.pipeline([("SET", f"account:{i}", BALANCE) for i in range(ACCOUNTS)])
        client.call("DEBUG", "POPULATE", harness.scaled(100_000), "ballast", 300)
        client.pipeline([("SELECT", 2), ("SET", "token:0", "t" * 40_000), ("SELECT", 5), ("SET", "other", "1"),
                         ("SELECT", 4)] + [("SET", f"one:{i}", i) for i in range(1000)])
    deadline = Deadline(turns=50)
    outcome = run_clients([(save, server.address(), directory, deadline), (move_money, server.address(), 1, deadline),
                           (move_money, server.address(), 2, deadline), (stream, server.address(), deadline),
                           (rename, server.address(), deadline), (swap, server.address(), deadline),
                           (fill_and_flush, server.address(), deadline)])
    for name in outcome[0]:
        checked = subprocess.run(["redis-check-rdb", directory / name], capture_output=True, text=True, check=False)
        assert checked.returncode == 0 and "RDB looks OK" in checked.stdout, checked.stdout[-2000:]
        stock = harness.Server({"dir": str(directory), "dbfilename": name}, binary=harness.ORACLE, threads=1)
        try:
            with stock.raw() as client:
                wait_until(lambda: stock.info("persistence")["loading"] == "0", what="the end of loading")
                check(client)
        finally:
            stock.stop()
