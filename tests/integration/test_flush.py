"""FLUSHALL and FLUSHDB: what takes long holds nobody up, and SYNC answers when the memory is back."""

import select

import pytest

import harness
from harness import wait_until
from resp import encode_command


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


@pytest.mark.smoke
@pytest.mark.parametrize("flush", [("FLUSHALL",), ("FLUSHDB",), ("FLUSHALL", "SYNC"), ("FLUSHDB", "ASYNC")], ids=" ".join)
def test_what_was_there_and_watched(client, shared, flush):
    """A flush fails the EXEC of who watches a key that was there, and of nobody else."""
    client.pipeline([("SET", "there", "1"), ("SET", "expired", "1", "PX", "1"), ("SELECT", "5"), ("SET", "there", "1"),
                     ("SELECT", "0")])
    watchers = {name: shared.raw() for name in ("there", "absent", "expired", "other", "unwatched")}
    wait_until(lambda: client.call("EXISTS", "expired") == 0, what="the key to expire")
    for name, watcher in watchers.items():
        if name == "other":
            assert watcher.pipeline([("SELECT", "5"), ("WATCH", "there")]) == ["OK", "OK"]
        else:
            assert watcher.call("WATCH", name) == "OK"
    assert watchers["unwatched"].call("UNWATCH") == "OK"
    assert client.call(*flush) == "OK"
    replies = {name: watcher.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1] for name, watcher in watchers.items()}
    failing = {"there", "other"} if flush[0] == "FLUSHALL" else {"there"}
    assert replies == {name: None if name in failing else ["PONG"] for name in watchers}
    for watcher in watchers.values():
        watcher.close()


def test_a_flush_between_watch_and_exec_of_many(client, shared):
    """Watched again after the flush, it is another watch; watched before and after, the first one counts."""
    with shared.raw() as one, shared.raw() as two:
        for _ in range(20):
            client.call("SET", "k", "v")
            assert one.call("WATCH", "k") == "OK"
            assert two.call("WATCH", "k") == "OK"
            assert client.call("FLUSHALL") == "OK"
            assert one.pipeline([("UNWATCH",), ("WATCH", "k"), ("MULTI",), ("PING",), ("EXEC",)])[-1] == ["PONG"]
            assert two.pipeline([("WATCH", "k"), ("MULTI",), ("PING",), ("EXEC",)])[-1] is None


@pytest.mark.smoke
def test_swapping_what_is_watched(client, shared):
    """SWAPDB fails the EXEC of who watches a key that was there before, or is there afterwards, in one of the two."""
    for before, after in ((None, None), ("0", None), (None, "1"), ("0", "1")):
        client.call("FLUSHALL")
        client.pipeline([("SELECT", "0"), *[("SET", "k", "v")] * bool(before), ("SELECT", "1"), *[("SET", "k", "v")] * bool(after),
                         ("SELECT", "0")])
        watchers = [shared.raw() for _ in range(3)]
        for database, watcher in enumerate(watchers):
            assert watcher.pipeline([("SELECT", database), ("WATCH", "k")]) == ["OK", "OK"]
        assert client.call("SWAPDB", "0", "1") == "OK"
        replies = [watcher.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1] for watcher in watchers]
        assert replies == [None if before or after else ["PONG"]] * 2 + [["PONG"]], (before, after)
        for watcher in watchers:
            watcher.close()


def test_one_flush_after_the_other(client, shared):
    """Each empties what came since; those that come from several connections at once too."""
    others = [shared.raw() for _ in range(4)]
    for turn in range(30):
        client.pipeline([("DEBUG", "POPULATE", "2000", f"turn{turn}"), ("SELECT", "3"), ("SET", "k", "v"), ("SELECT", "0")])
        for number, other in enumerate(others):
            other.send(encode_command("FLUSHALL", *(["SYNC"] if number % 2 else [])) + encode_command("DBSIZE"))
        for other in others:
            assert other.read() == "OK"
            other.read()
        assert client.pipeline([("DBSIZE",), ("SELECT", "3"), ("DBSIZE",), ("SELECT", "0")])[::2] == [0, 0]
        assert client.call("RANDOMKEY") is None
    for other in others:
        other.close()
