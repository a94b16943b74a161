"""Starting, logging, signals and stopping."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import free_port, wait_until
from resp import RawClient, ReplyError, encode_command

SMOKE = True

LOG_LINE = re.compile(r"\d+:[CMSX] \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} "
                      r"\d\d:\d\d:\d\d\.\d{3} [.\-*#] \S.*")


def test_log_lines(start, backend):
    server = start(backend=backend, threads=2)
    server.call("PING")
    lines = server.log().splitlines()
    assert len(lines) >= 3
    for line in lines:
        assert LOG_LINE.fullmatch(line), line
    text = server.log()
    assert "Server initialized" in text and re.search("[Rr]eady to accept connections", text)
    assert lines[-1].startswith(f"{server.pid}:M ")


def test_logo_tells_the_process_id(start):
    server = start({"always-show-logo": "yes"})
    assert f" PID: {server.pid}\n" in server.log()


def test_log_file_and_level(start, tmp_path):
    path = tmp_path / "own.log"
    server = start({"logfile": str(path), "loglevel": "warning"})
    server.call("PING")
    quiet = path.read_text()
    assert server.call("CONFIG", "SET", "loglevel", "debug") == "OK"
    server.raw().call("PING")
    server.terminate()
    loud = path.read_text()[len(quiet):]
    assert "Accepted 127.0.0.1:" in loud
    assert "initialized" not in quiet or harness.VERSION < (7, 2)
    assert server.log() == "" or harness.SANITIZED or harness.VERSION < (7, 2)


@pytest.mark.parametrize("number,name", [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")])
def test_signals(start, backend, number, name):
    server = start(backend=backend, threads=2)
    idle, open_transaction = server.raw(), server.raw()
    idle.call("PING")
    open_transaction.call("MULTI")
    assert server.terminate(number) == 0
    text = server.log()
    assert f"Received {name} scheduling shutdown..." in text
    assert "User requested shutdown..." in text
    assert "is now ready to exit, bye bye..." in text
    assert idle.closed_within()


def test_signal_under_load(start, backend):
    """SIGTERM while pipelines run: an orderly end, and every reply that came is whole."""
    server = start(backend=backend, threads=2)
    clients = [server.raw() for _ in range(8)]
    for client in clients:
        client.send(encode_command("INCR", "n") * 2000)
    assert server.terminate() == 0
    for client in clients:
        lines = client.read_until_close().split(b"\r\n")
        assert all(re.fullmatch(rb":\d+", line) for line in lines[:-1])


def test_who_comes_back_while_it_ends_is_refused(start, backend):
    """A replica that acknowledges nothing holds up the end. Whoever has lost his connection by then must learn that nobody is here."""
    server = start({"shutdown-timeout": "4", "repl-diskless-sync-delay": "0"}, backend=backend, threads=2)
    replica, client = server.raw(), server.raw()
    replica.send(b"PSYNC ? -1\r\n")
    wait_until(lambda: "state=online" in server.info("replication").get("slave0", ""), what="the snapshot of the replica")
    assert client.call("SET", "k", "v") == "OK"
    server.expect_end = True
    os.kill(server.pid, signal.SIGTERM)
    assert client.closed_within()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address(), timeout=harness.HANG_SECONDS).close()
    assert server.wait_end() == 0


def test_other_signals_do_not_stop_it(server):
    for number in (signal.SIGHUP, signal.SIGPIPE):
        os.kill(server.pid, number)
    time.sleep(0.1)
    assert server.call("PING") == "PONG"


@pytest.mark.parametrize("arguments", [[], ["NOSAVE"], ["NOW"], ["FORCE"], ["nosave", "now", "force"]], ids=" ".join)
def test_shutdown(start, backend, arguments):
    server = start(backend=backend, threads=2)
    other = server.raw()
    other.call("PING")
    client = server.raw()
    server.expect_end = True
    assert client.call("SET", "k", "v") == "OK"
    client.send_command("SHUTDOWN", *arguments)
    assert client.read_until_close() == b""
    assert server.wait_end() == 0
    assert other.closed_within()
    assert "User requested shutdown..." in server.log()


def test_shutdown_is_no_part_of_a_transaction(server):
    client = server.raw()
    assert client.call("MULTI") == "OK"
    assert client.call("SHUTDOWN", "NOSAVE") == ReplyError("ERR Command not allowed inside a transaction")
    assert client.call("EXEC") == ReplyError("EXECABORT Transaction discarded because of previous errors.")


def test_pidfile(start, tmp_path):
    path = tmp_path / "server.pid"
    server = start({"pidfile": str(path)})
    assert path.read_text() == f"{server.pid}\n"
    assert server.terminate() == 0
    assert not path.exists()


def test_daemonize(tmp_path):
    port, pid_path, log_path = free_port(), tmp_path / "pid", tmp_path / "log"
    command = [harness.SERVER, "--port", str(port), "--bind", "127.0.0.1", "--daemonize", "yes", "--dir",
               str(tmp_path), "--pidfile", str(pid_path), "--logfile", str(log_path), "--save", ""]
    run = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=harness.HANG_SECONDS * harness.SLOWNESS)
    assert run.returncode == 0

    def ping():
        try:
            with RawClient("127.0.0.1", port) as client:
                return client.call("PING") == "PONG"
        except OSError:
            return False

    wait_until(ping, what="PING")
    pid = int(pid_path.read_text())
    try:
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.getsid(pid) != os.getsid(0)
        with RawClient("127.0.0.1", port) as client:
            client.send_command("SHUTDOWN", "NOSAVE")
            assert client.read_until_close() == b""
        wait_until(lambda: not os.path.exists(f"/proc/{pid}") or _is_zombie(pid), what="the daemon to end")
    finally:
        if not _is_zombie(pid):
            os.kill(pid, signal.SIGKILL)
    assert not pid_path.exists()
    assert "bye bye" in log_path.read_text()


def _is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slotwise
def test_supervised_by_systemd(start, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(harness.HANG_SECONDS * harness.SLOWNESS)
        server = start({"supervised": "systemd"}, environment={"NOTIFY_SOCKET": path})
        messages = notify.recv(4096)
        while b"READY=1" not in messages:
            messages += notify.recv(4096)
        assert server.info("server")["process_supervised"] == "systemd"
        server.terminate()
        while b"STOPPING=1" not in messages:
            messages += notify.recv(4096)


@pytest.mark.skipif(harness.SANITIZED, reason="the sanitizer has its own report")
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_crash_report(start, backend, number):
    if number == signal.SIGABRT and not harness.IS_SLOTWISE and harness.VERSION < (7, 0):
        pytest.skip("older servers do not report SIGABRT")
    server = start(backend=backend, threads=2)
    with server.raw() as client:
        client.call("SET", "k", "v")
    server.expect_end = True
    server.process.send_signal(number)
    code = server.wait_end()
    assert code != 0
    text = server.log()
    assert f"crashed by signal: {int(number)}" in text
    assert "STACK TRACE" in text and "BUG REPORT START" in text
    server.log_path.write_text("")  # the report was wanted


@pytest.mark.slotwise
def test_workers_follow_the_affinity(start, backend):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core only")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        one = start({"io-threads": None}, backend=backend)
    finally:
        os.sched_setaffinity(0, before)
    assert one.config_get("io-threads") == "1"
    two = start({"io-threads": None}, backend=backend)
    assert 2 <= int(two.config_get("io-threads")) <= len(before)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_any_number_of_workers(start, backend, count):
    server = start({"io-threads": count}, backend=backend)
    assert server.config_get("io-threads") == str(count)
    clients = [server.raw() for _ in range(3 * count)]
    for number, client in enumerate(clients):
        client.send(encode_command("SET", f"k{number}", number) + encode_command("INCR", "n"))
    for client in clients:
        assert client.read() == "OK"
        client.read()
    assert clients[0].call("GET", "n") == b"%d" % len(clients)


@pytest.mark.slotwise
@pytest.mark.skipif(harness.SANITIZED, reason="a sanitizer takes its own share")
def test_idle_server_is_modest(start, backend):
    server = start(backend=backend, threads=2)

    def used():
        before = server.cpu_seconds()
        time.sleep(3)
        return server.cpu_seconds() - before

    wait_until(lambda: used() <= 0.03, what="30 ms of CPU or less in 3 idle seconds")
    assert server.resident_bytes() <= 12 * 1024 * 1024, f"{server.resident_bytes() / 2**20:.1f} MB"


@pytest.mark.slotwise
def test_unknown_backend(start):
    with pytest.raises(harness.StartFailed) as failure:
        start({"io-backend": "carrier-pigeon"}, backend=None)
    assert failure.value.code == 1 and "argument(s) must be one of the following" in failure.value.output


def test_unwritable_log_file(start):
    with pytest.raises(harness.StartFailed) as failure:
        start({"logfile": "/no/such/directory/log"})
    assert failure.value.code == 1
    assert "Can't open the log file: No such file or directory" in failure.value.output


def test_missing_directory(start):
    with pytest.raises(harness.StartFailed) as failure:
        start({"dir": "/no/such/directory"})
    assert failure.value.code == 1
    assert re.search("No such file or directory", failure.value.output)
