"""What a backlog bridges: more of a stream that compresses than its size, whoever reads it, and never more memory than that."""

import json
import random

import pytest
import redis

from harness import HANG_SECONDS, ORACLE, wait_until
from replication import Proxy
from replication_load import assert_same_data, info, wait_for_link, wait_for_offset

SMOKE = True

BACKLOG_BYTES = 2 << 20
BLOCK_BYTES = BACKLOG_BYTES // 16
OUTAGE_BYTES = int(1.75 * BACKLOG_BYTES)
PRIMARY = {"repl-diskless-sync-delay": "0", "repl-backlog-size": str(BACKLOG_BYTES)}


def client_of(server):
    return redis.Redis(port=server.port, socket_timeout=HANG_SECONDS)


def write(primary, count_bytes, keepers, compressed=True):
    """Text in steps of half a block; after each all that keep it have compressed what they can."""
    choose = random.Random(1)
    end = info(primary)["master_repl_offset"] + count_bytes
    with client_of(primary) as client:
        while info(primary)["master_repl_offset"] < end:
            pipeline = client.pipeline(transaction=False)
            for _ in range(BLOCK_BYTES // 300):
                person = {"name": choose.choice(["anna", "boris", "chen"]), "city": choose.choice(["oslo", "lima", "hanoi"]),
                          "visits": choose.randrange(1000), "roles": ["reader", "writer", "owner"], "active": True}
                pipeline.set(f"user:{choose.randrange(100000)}", json.dumps([person, person]))
            pipeline.execute()
            for keeper in keepers if compressed else ():
                wait_until(lambda keeper=keeper: is_compressed(keeper), what="compressed blocks")


def is_compressed(server):
    figures = info(server)
    memory = figures["repl_backlog_memory"]
    assert memory <= BACKLOG_BYTES * 17 // 16 + 2 * BLOCK_BYTES
    return (figures["repl_backlog_bridged_bytes"] >= figures["repl_backlog_histlen"] - BLOCK_BYTES
            and memory <= 0.5 * figures["repl_backlog_bridged_bytes"] + 2 * BLOCK_BYTES)


def syncs(server):
    stats = info(server, "stats")
    return stats["sync_full"], stats["sync_partial_ok"]


@pytest.mark.slotwise
@pytest.mark.parametrize("kind", ["stock", "own", "own, plain"])
def test_an_outage_of_more_than_its_size_is_bridged(start, kind):
    """By what was sealed while nobody read it; without compression the same outage ends in a full sync."""
    for compression in ("yes", "no"):
        primary = start({**PRIMARY, "repl-compression": compression}, threads=2)
        proxy = Proxy(primary.port)
        settings = {"replicaof": ("127.0.0.1", proxy.port), "repl-diskless-sync-delay": "0"}
        if kind == "stock":
            replica = start(settings, binary=ORACLE, backend=None)
        else:
            replica = start({**settings, "repl-compression": "no" if kind == "own, plain" else "yes"}, threads=2)
        wait_for_link(replica)
        write(primary, 2 * BLOCK_BYTES, [])
        wait_for_offset(primary, replica)
        assert syncs(primary) == (1, 0)
        proxy.refusing = True
        proxy.cut()
        wait_until(lambda: info(primary)["connected_slaves"] == 0, what="the end of the link")
        write(primary, OUTAGE_BYTES, [primary], compression == "yes")
        if compression == "yes":
            figures = info(primary)
            assert figures["repl_backlog_histlen"] >= OUTAGE_BYTES
            assert figures["repl_backlog_first_byte_offset"] + figures["repl_backlog_histlen"] == figures["master_repl_offset"] + 1
            assert info(primary, "memory")["mem_replication_backlog"] <= BACKLOG_BYTES
        proxy.refusing = False
        wait_for_link(replica)
        assert_same_data(primary, replica)
        assert syncs(primary) == ((1, 1) if compression == "yes" else (2, 0))
        proxy.close()


@pytest.mark.slotwise
def test_a_promoted_replica_bridges_as_much(start):
    primary = start(PRIMARY, threads=2)
    promoted = start({**PRIMARY, "replicaof": ("127.0.0.1", primary.port)}, threads=2)
    proxy = Proxy(primary.port)
    sibling = start({"replicaof": ("127.0.0.1", proxy.port)}, binary=ORACLE, backend=None)
    for one in (promoted, sibling):
        wait_for_link(one)
    write(primary, 2 * BLOCK_BYTES, [])
    for one in (promoted, sibling):
        wait_for_offset(primary, one)
    proxy.refusing = True
    proxy.cut()
    write(primary, OUTAGE_BYTES, [promoted])
    wait_for_offset(primary, promoted)
    with client_of(promoted) as client, client_of(sibling) as other:
        client.execute_command("REPLICAOF", "NO", "ONE")
        other.execute_command("REPLICAOF", "127.0.0.1", promoted.port)
    wait_for_link(sibling)
    assert_same_data(promoted, sibling)
    assert syncs(promoted) == (0, 1)
    proxy.close()


@pytest.mark.slotwise
def test_what_does_not_compress_takes_its_size_and_no_more(start):
    primary = start(PRIMARY, threads=2)
    replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=2)
    wait_for_link(replica)
    with client_of(replica) as client:
        client.execute_command("REPLICAOF", "NO", "ONE")
    choose = random.Random(2)
    with client_of(primary) as client:
        for _ in range(3 * BACKLOG_BYTES // 100_000):
            client.set("noise", choose.randbytes(100_000))
            assert info(primary)["repl_backlog_memory"] <= BACKLOG_BYTES * 17 // 16 + 2 * BLOCK_BYTES
    assert info(primary)["repl_backlog_histlen"] >= BACKLOG_BYTES
