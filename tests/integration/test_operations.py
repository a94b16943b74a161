"""What whoever runs the server meets: limits of the system, daemons, supervisors, what the log says at start."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness import free_port, wait_until
from resp import RawClient, ReplyError

SMOKE = True
pytestmark = pytest.mark.slotwise

RESTRICTED = [sys.executable, str(Path(__file__).with_name("restricted.py"))]
TOO_MANY = b"-ERR max number of clients reached\r\n"


def run(*arguments, prefix=(), **keywords):
    """Runs the server until it ends by itself."""
    return subprocess.run([*prefix, harness.SERVER, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=30 * harness.SLOWNESS, **keywords)


def info(server, section):
    return server.call("INFO", section).decode()


# --- Descriptors ------------------------------------------------------------------------------------------

def test_clients_beyond_the_limit_of_open_files_are_told(start, backend):
    """None hangs: each is served or gets Redis's error and is closed; afterwards there is room again."""
    server = start(backend=backend, threads=2, prefix=[*RESTRICTED, "--files", "64"])
    limit = int(server.call("CONFIG", "GET", "maxclients")[1])
    assert 1 < limit < 64
    text = server.log()
    assert "You requested maxclients of 10000 requiring at least " in text
    assert "Server can't set maximum open files to " in text
    assert f"maxclients has been reduced to {limit} to compensate for low ulimit" in text
    sockets = [socket.create_connection(server.address(), timeout=20 * harness.SLOWNESS) for _ in range(100)]
    answers = []
    for one in sockets:
        try:
            one.sendall(b"PING\r\n")
            answers.append(one.recv(100))
        except OSError as error:  # closed before the PING came
            assert error.errno in (errno.EPIPE, errno.ECONNRESET)
            answers.append(TOO_MANY)
    assert answers.count(b"+PONG\r\n") + answers.count(TOO_MANY) == len(sockets)
    assert limit - 3 <= answers.count(b"+PONG\r\n") <= limit
    for one in sockets:
        one.close()

    def room():
        with socket.create_connection(server.address(), timeout=20 * harness.SLOWNESS) as one:
            one.sendall(b"PING\r\n")
            try:
                return one.recv(100) == b"+PONG\r\n"
            except OSError:
                return False

    wait_until(room, what="room for a client")


def test_no_room_for_clients_at_all(tmp_path):
    ended = run("--port", free_port(), "--dir", tmp_path, prefix=[*RESTRICTED, "--files", "30"])
    assert ended.returncode == 1
    assert re.search(r"Your current 'ulimit -n' of 30 is not enough for the server to start\. Please increase your open "
                     r"file limit to at least 100\d\d\. Exiting\.", ended.stdout)


def test_config_set_maxclients(start):
    server = start(prefix=[*RESTRICTED, "--files", "200"])
    possible = int(server.call("CONFIG", "GET", "maxclients")[1])
    assert server.call("CONFIG", "SET", "maxclients", "50") == "OK"
    assert server.call("CONFIG", "SET", "maxclients", "100000") == ReplyError(
        "ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle "
        f"the specified number of clients, try with {possible}")
    assert server.call("CONFIG", "GET", "maxclients") == [b"maxclients", b"50"]
    assert server.call("CONFIG", "SET", "maxclients", str(possible)) == "OK"


def test_the_limit_of_open_files_is_raised(start):
    soft = ["sh", "-c", 'ulimit -S -n 64 && exec "$0" "$@"']
    server = start({"maxclients": "100"}, prefix=soft)
    assert re.search(r"Increased maximum number of open files to 1\d\d \(it was originally set to 64\)\.", server.log())
    assert server.call("CONFIG", "GET", "maxclients") == [b"maxclients", b"100"]


# --- Daemons and supervisors ------------------------------------------------------------------------------

def daemon_arguments(directory, port, *more):
    return ["--port", port, "--bind", "127.0.0.1", "--daemonize", "yes", "--dir", directory, "--logfile",
            directory / "log", "--pidfile", directory / "pid", "--save", "", *more]


def open_files(pid):
    """What the descriptors of a process are; one may be closed while this looks."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass


def test_a_daemon_serves_when_the_command_returns(tmp_path):
    port = free_port()
    ended = run(*daemon_arguments(tmp_path, port))
    pid = int((tmp_path / "pid").read_text())
    try:
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        with RawClient("127.0.0.1", port) as client:
            assert client.call("PING") == "PONG"
        assert not [target for target in open_files(pid) if target.startswith("pipe:")]
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists(), what="the end of the daemon")


def test_a_daemon_that_cannot_start_says_why(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        ended = run(*daemon_arguments(tmp_path, port))
        assert ended.returncode == 1
        assert f"Failed listening on port {port} (TCP), aborting." in ended.stderr
        assert "Address already in use" in ended.stderr
        assert not (tmp_path / "pid").exists()
    ended = run(*daemon_arguments(tmp_path, free_port(), "--loglevel", "nothing", "--pidfile", "/nonexistent/pid"))
    assert ended.returncode == 1
    assert "Failed to write PID file /nonexistent/pid: No such file or directory" in ended.stderr
    ended = run(*daemon_arguments(tmp_path, free_port(), "--maxclients", "10"),
                prefix=[*RESTRICTED, "--files", "20"])
    assert ended.returncode == 1
    assert "is not enough for the server to start" in ended.stderr


def test_nowhere_to_listen(tmp_path):
    ended = run("--port", "0", "--dir", tmp_path)
    assert ended.returncode == 1
    assert "# Configured to not listen anywhere, exiting." in ended.stdout


def test_a_unix_socket_alone(tmp_path):
    path = tmp_path / "socket"
    process = subprocess.Popen([harness.SERVER, "--port", "0", "--unixsocket", path, "--dir", tmp_path, "--save", ""],
                               stdout=subprocess.PIPE, text=True)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ready to accept" in line:
                break
        assert "Ready to accept connections unix" in lines[-1]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0


def test_supervisor_that_is_not_there(start):
    for name, reason in (("systemd", "systemd supervision error: NOTIFY_SOCKET not found!"),
                         ("upstart", "upstart supervision requested, but UPSTART_JOB not found!")):
        server = start({"supervised": name})
        assert re.search(rf":C .* # {re.escape(reason)}\n", server.log())
        assert "process_supervised:no" in info(server, "server")
    server = start({"supervised": "auto"})
    assert "supervision" not in server.log()


def test_systemd_is_told(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20 * harness.SLOWNESS)
        server = start({"supervised": "systemd"}, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert listener.recv(1000).startswith(b"STATUS=")
        assert b"READY=1\n" in listener.recv(1000)
        assert "process_supervised:systemd" in info(server, "server")
        assert "Supervised by systemd." in server.log()


# --- What the log says at start ---------------------------------------------------------------------------

def test_role_before_and_after_the_start(start):
    """As Redis: C until the process has its final id, then M."""
    roles = [re.match(r"\d+:([A-Z]) ", line)[1] for line in start().log().splitlines()]
    assert roles[:3] == ["C", "C", "C"]
    assert set(roles[3:]) == {"M"}


def test_backlog_above_somaxconn(start):
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    warning = ("WARNING: The TCP backlog setting of {} cannot be enforced because /proc/sys/net/core/somaxconn is set to "
               "the lower value of {}.")
    assert warning.format(most + 1, most) in start({"tcp-backlog": most + 1}).log()
    assert "backlog" not in start({"tcp-backlog": most}).log()


def test_resources_that_were_found(start):
    text = start(threads=2).log()
    found = re.search(r"Workers: 2; processors that this process may use: (\d+) \((\d+) by affinity, (.*)\)\.", text)
    assert int(found[2]) == len(os.sched_getaffinity(0)) >= int(found[1]) >= 1
    assert re.fullmatch(r"no cgroup quota|a cgroup quota of \d+\.\d\d", found[3])


@pytest.mark.parametrize("error,reason", [
    (errno.EPERM, "Using epoll: io_uring is refused (Operation not permitted), by the seccomp filter of a container or by "
                  "kernel.io_uring_disabled."),
    (errno.ENOSYS, "Using epoll: this kernel lacks the io_uring of Linux 6.1 or newer.")])
def test_why_epoll_is_used(start, error, reason):
    if "io_uring" not in harness.BACKENDS:
        pytest.skip("this kernel has no io_uring")
    server = start(backend="auto", prefix=[*RESTRICTED, "--no-io-uring", str(error)])
    assert reason in server.log()
    assert "multiplexing_api:epoll" in info(server, "server")
    with pytest.raises(harness.StartFailed) as failure:
        start(backend="io_uring", prefix=[*RESTRICTED, "--no-io-uring", str(error)])
    assert "Cannot start worker 0 with I/O backend io_uring: " + os.strerror(error) in failure.value.output
    assert "Using epoll" not in start(backend="epoll").log()


NOT_IMPLEMENTED = "WARNING: the directive '{}' is accepted but not implemented in this version."


def test_directives_that_nothing_heeds(start):
    """Those that ask for something are named; defaults, and what switches things off, are not."""
    quiet = start({"appendonly": "no", "hash-max-listpack-entries": "512", "replica-priority": "100"})
    assert "not implemented" not in quiet.log()
    assert quiet.call("CONFIG", "SET", "appendonly", "yes", "maxmemory", "100mb") == "OK"
    assert quiet.call("CONFIG", "SET", "appendonly", "no") == "OK"
    assert quiet.log().count("not implemented") == quiet.log().count(NOT_IMPLEMENTED.format("appendonly")) == 1
    named = {"appendonly": "yes", "tls-key-file-pass": "secret", "tls-cert-file": "/x.pem"}
    text = start(named).log()
    for name in named:
        assert text.count(NOT_IMPLEMENTED.format(name) + "\n") == 1
    assert text.count("not implemented") == len(named)
    assert "secret" not in text
