"""SHUTDOWN and signals while replicas lag: the primary waits for them, writes wait for its end, and all of it can be taken back."""

import signal

import pytest

import harness
from harness import wait_until
from replication_load import info, wait_for_link
from resp import ReplyError

pytestmark = pytest.mark.slotwise

GIVEN_UP = ReplyError("ERR Errors trying to SHUTDOWN. Check logs.")


@pytest.fixture(name="pair")
def _pair(start):
    """A primary, and a replica that is stopped until go_on is called and lacks what is written meanwhile."""
    stopped = []

    def make(threads=2, **options):
        settings = {"repl-diskless-sync-delay": "0", "shutdown-timeout": "300"}
        settings.update({name.replace("_", "-"): value for name, value in options.items()})
        primary = start(settings, threads=threads)
        replica = start({"replicaof": ("127.0.0.1", primary.port)}, threads=1)
        wait_for_link(replica)
        primary.call("SET", "k", "1")
        assert primary.call("WAIT", 1, 10_000) == 1
        replica.process.send_signal(signal.SIGSTOP)
        stopped.append(replica)
        primary.call("SET", "k", "2")
        return primary, replica

    yield make
    for replica in stopped:
        replica.process.send_signal(signal.SIGCONT)


def waits(primary):
    wait_until(lambda: "shutdown_in_milliseconds" in info(primary, "server"), what="the primary to wait")
    return info(primary, "server")["shutdown_in_milliseconds"]


def ask(primary, how, *arguments):
    """SHUTDOWN, or the signal; the connection of the first."""
    if how == "SHUTDOWN":
        client = primary.raw()
        client.send_command(how, *arguments)
        return client
    primary.process.send_signal(how)
    return None


@pytest.mark.parametrize("how", ["SHUTDOWN", signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("threads", [1, 3])
def test_replicas_catch_up(pair, how, threads):
    primary, replica = pair(threads=threads)
    writer = primary.raw()
    primary.expect_end = True
    client = ask(primary, how)
    assert 0 < waits(primary) <= 300_000
    assert primary.call("GET", "k") == b"2"  # what reads is served
    clients = info(primary, "clients")
    assert clients["connected_clients"] == (3 if client else 2)  # with who asks; replicas are none, as in Redis
    before = clients["blocked_clients"]
    assert before == (1 if client else 0)
    writer.send_command("SET", "late", "never")
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == before + 1, what="the writer to wait")
    replica.process.send_signal(signal.SIGCONT)
    assert primary.wait_end() == 0
    assert writer.read_until_close() == b""
    assert client is None or client.read_until_close() == b""
    assert replica.call("GET", "k") == b"2" and replica.call("GET", "late") is None
    log = primary.log()
    assert "Waiting for replicas before shutting down." in log
    assert "1 of 1 replicas are in sync when shutting down." in log and "Lagging replica" not in log


@pytest.mark.parametrize("how", ["SHUTDOWN", signal.SIGTERM])
def test_the_time_is_over(pair, how):
    primary, _ = pair(shutdown_timeout="1")
    primary.expect_end = True
    ask(primary, how)
    assert primary.wait_end() == 0
    log = primary.log()
    assert "Waiting for replicas before shutting down." in log
    assert "Lagging replica 127.0.0.1:" in log and "state=online." in log
    assert "0 of 1 replicas are in sync when shutting down." in log


@pytest.mark.parametrize("timeout,arguments", [("300", ["NOW"]), ("0", [])])
def test_nobody_waits_if_told_so(pair, timeout, arguments):
    primary, _ = pair(shutdown_timeout=timeout)
    primary.expect_end = True
    ask(primary, "SHUTDOWN", *arguments)
    assert primary.wait_end() == 0
    log = primary.log()
    assert "Waiting for replicas" not in log
    assert "0 of 1 replicas are in sync when shutting down." in log


def test_abort(pair):
    primary, replica = pair()
    assert primary.call("SHUTDOWN", "ABORT") == ReplyError("ERR No shutdown in progress.")
    clients = [ask(primary, "SHUTDOWN") for _ in range(2)]
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == 2, what="both to wait")
    gone = ask(primary, "SHUTDOWN")
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == 3, what="the third to wait")
    gone.close()
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == 2, what="the third to go")
    writer = primary.raw()
    writer.send_command("SET", "late", "but written")
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == 3, what="the writer to wait")
    assert primary.call("SHUTDOWN", "ABORT") == "OK"
    assert [client.read() for client in clients] == [GIVEN_UP] * 2
    assert writer.read() == "OK"
    assert "Shutdown manually aborted." in primary.log()
    assert "shutdown_in_milliseconds" not in info(primary, "server")
    assert info(primary, "clients")["blocked_clients"] == 0
    assert primary.call("SHUTDOWN", "ABORT") == ReplyError("ERR No shutdown in progress.")
    # The next one is as the first.
    replica.process.send_signal(signal.SIGCONT)
    wait_until(lambda: replica.call("GET", "late") == b"but written", what="the stream to go on")
    assert primary.terminate() == 0
    assert "1 of 1 replicas are in sync when shutting down." in primary.log()


def test_a_signal_after_one_that_was_aborted_is_the_first_again(pair):
    """The second SIGINT ends a server that is about to end at once; not one that goes on."""
    primary, replica = pair()
    ask(primary, signal.SIGINT)
    waits(primary)
    assert primary.call("SHUTDOWN", "ABORT") == "OK"
    primary.expect_end = True
    ask(primary, signal.SIGINT)
    waits(primary)
    replica.process.send_signal(signal.SIGCONT)
    assert primary.wait_end() == 0
    assert "You insist" not in primary.log()


@pytest.mark.skipif(harness.SANITIZED, reason="a process that ends at once joins no threads, and ThreadSanitizer says so")
def test_who_insists(pair):
    primary, _ = pair()
    primary.expect_end = True
    ask(primary, signal.SIGINT)
    waits(primary)
    ask(primary, signal.SIGINT)
    assert primary.wait_end() == 1
    assert "You insist... exiting now." in primary.log()


def test_the_last_save_fails(pair):
    primary, replica = pair(save=("3600", "1000"))
    (primary.directory / "dump.rdb").mkdir()
    (primary.directory / "dump.rdb" / "in the way").write_text("")
    clients = [ask(primary, "SHUTDOWN") for _ in range(2)]
    wait_until(lambda: info(primary, "clients")["blocked_clients"] == 2, what="both to wait")
    replica.process.send_signal(signal.SIGCONT)
    assert [client.read() for client in clients] == [GIVEN_UP] * 2
    log = primary.log()
    assert "1 of 1 replicas are in sync when shutting down." in log
    assert "Errors trying to shut down the server. Check the logs for more information." in log
    assert primary.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == "OK"
    assert primary.call("SET", "k", "3") == "OK"  # writes are served again
    primary.expect_end = True
    ask(primary, "SHUTDOWN", "NOSAVE")
    assert primary.wait_end() == 0
    assert replica.call("GET", "k") == b"3"


def test_the_place_in_the_file_is_the_replicas(pair, start, tmp_path):
    """What is saved is what they have: they go on in part from the server that is started with it."""
    primary, replica = pair(save=("3600", "1000"), dir=str(tmp_path))
    primary.expect_end = True
    ask(primary, signal.SIGTERM)
    waits(primary)
    replica.process.send_signal(signal.SIGCONT)
    assert primary.wait_end() == 0
    place = info(replica, "replication")["slave_repl_offset"]
    again = start({"port": primary.port, "dir": str(tmp_path), "save": ("3600", "1000"),
                   "repl-diskless-sync-delay": "0"}, threads=2)
    wait_for_link(replica)
    stats = info(again, "stats")
    assert stats["sync_partial_ok"] == 1 and stats["sync_full"] == 0
    assert info(again, "replication")["master_repl_offset"] >= place
