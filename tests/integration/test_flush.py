"""FLUSHALL and FLUSHDB: what takes long holds nobody up, and SYNC answers when the memory is back."""

import select

import pytest

import harness
from harness import wait_until


def fill(client, keys):
    assert client.call("DEBUG", "POPULATE", keys, "key", 100) == "OK"


def has_reply(client):
    return bool(select.select([client.socket], [], [], 0)[0])


@pytest.mark.skipif(not harness.IS_SLOTWISE, reason="Redis does nothing else meanwhile")
def test_others_are_served_while_sync_frees(client, shared):
    """Several attempts, since a machine may free everything before it comes to the next command."""
    empty = int(shared.info("memory")["used_memory"])
    with shared.raw() as other:
        for _ in range(10):
            fill(client, harness.scaled(300_000))
            client.send_command("FLUSHALL", "SYNC")
            assert other.call("PING") == "PONG"
            served = not has_reply(client)
            assert client.read() == "OK"
            assert int(shared.info("memory")["used_memory"]) < empty + 2_000_000
            if served:
                return
    raise AssertionError("a command of another connection was never answered before FLUSHALL SYNC")


@pytest.mark.smoke
def test_order_on_one_connection(client):
    replies = client.pipeline([("SET", "k", "v"), ("FLUSHALL", "SYNC"), ("DBSIZE",), ("SET", "k", "v"),
                               ("FLUSHDB",), ("EXISTS", "k"), ("FLUSHALL", "ASYNC"), ("PING",)])
    assert replies == ["OK", "OK", 0, "OK", "OK", 0, "OK", "PONG"]


@pytest.mark.smoke
def test_inside_a_transaction(client):
    client.call("SET", "k", "v")
    replies = client.pipeline([("MULTI",), ("FLUSHALL", "SYNC"), ("SET", "a", "1"), ("DBSIZE",), ("EXEC",)])
    assert replies[-1] == ["OK", "OK", 1]


def test_a_client_that_does_not_wait_for_the_end(client, shared):
    for _ in range(5):
        fill(client, harness.scaled(100_000))
        gone = shared.raw()
        gone.send_command("FLUSHALL", "SYNC")
        gone.close()
        wait_until(lambda: client.call("DBSIZE") == 0, what="an empty database")
    assert client.call("PING") == "PONG"


def test_a_flush_counts_once(any_server):
    client = any_server.raw()
    fill(client, 1000)
    assert client.call("FLUSHALL", "SYNC") == "OK"
    assert any_server.info("commandstats")["cmdstat_flushall"].startswith("calls=1,")
