"""Starting and stopping servers for the integration tests.

A Server is one process on a loopback port (ports.py) in a directory of its own. It is killed by its own process id
only, and whoever stops it learns whether it had died, crashed or left a sanitizer report.

Environment:
  SLOTWISE_SERVER    the server under test (default: build/release/...)
  SLOTWISE_ORACLE    the stock server that the oracle tests compare with (default: /usr/bin/redis-server)
  SLOTWISE_BACKENDS  a comma separated choice of I/O backends (default: all that this kernel has)
  SLOTWISE_SECONDS   how long one load test runs at least (default 1.2)
  SLOTWISE_SLOWNESS  how much slower than a release build this one is (default: guessed from the binary)
"""

import ctypes
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis

from ports import free_port
from resp import HANG_SECONDS, RawClient

REPOSITORY = Path(__file__).resolve().parents[2]
ORACLE = os.environ.get("SLOTWISE_ORACLE", "/usr/bin/redis-server")
LOAD_SECONDS = float(os.environ.get("SLOTWISE_SECONDS", "1.2"))

# What a server writes when it has come to grief. Redis's own report opens with "REDIS BUG REPORT START".
CRASH_MARKS = re.compile(
    rb"BUG REPORT START|crashed by signal|ASSERTION FAILED|Assertion .* failed|AddressSanitizer|LeakSanitizer"
    rb"|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error: |MemorySanitizer")


def find_server():
    """The path of the server under test, or a path that does not exist."""
    given = os.environ.get("SLOTWISE_SERVER")
    if given:
        return os.path.abspath(given) if os.sep in given else (shutil.which(given) or given)
    for candidate in ("build/release/slotwise-server", "build/release/server/slotwise-server"):
        if (REPOSITORY / candidate).exists():
            return str(REPOSITORY / candidate)
    return str(REPOSITORY / "build/release/slotwise-server")


SERVER = find_server()
# Without the `slotwise` in its name the binary is a stand-in: it has no I/O backends to choose from.
IS_SLOTWISE = "slotwise" in os.path.basename(SERVER)


def _sanitizer_slowness():
    try:
        content = Path(SERVER).read_bytes()
    except OSError:
        return 1.0
    if b"__tsan_init" in content:
        return 10.0
    if b"__asan_init" in content:
        return 3.0
    return 1.0


SLOWNESS = float(os.environ.get("SLOTWISE_SLOWNESS", "0")) or _sanitizer_slowness()
SANITIZED = SLOWNESS > 1


def scaled(count):
    """A count of operations, made smaller for a slow build."""
    return max(1, int(count / SLOWNESS))


def _kernel_has_io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = ctypes.create_string_buffer(120)
    descriptor = libc.syscall(425, 2, parameters)
    if descriptor >= 0:
        os.close(descriptor)
        return True
    return ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


def _backends():
    if not IS_SLOTWISE:
        return ["stock"]
    if "SLOTWISE_BACKENDS" in os.environ:
        return os.environ["SLOTWISE_BACKENDS"].split(",")
    return ["epoll", "io_uring"] if _kernel_has_io_uring() else ["epoll"]


BACKENDS = _backends()


def _server_version():
    """(major, minor) of the Redis that the server under test claims to be."""
    if IS_SLOTWISE:
        return (7, 2)
    try:
        text = subprocess.run([SERVER, "--version"], capture_output=True, text=True, timeout=HANG_SECONDS).stdout
    except OSError:
        return (0, 0)
    match = re.search(r"v=(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (7, 2)


VERSION = _server_version()


def wait_until(condition, seconds=HANG_SECONDS, what="the condition", interval=0.01):
    """Poll until condition() is true; return its value. The limit is there for hangs; it grows with the slowness of the build."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds * SLOWNESS:.0f} s")
        time.sleep(interval)


def at_some_pace(attempt):
    """For what a slow machine can spoil: attempt(scale) takes its times to live, pauses and sleeps times 1, then 10, then 100.

    A machine that is too slow for the short times is not too slow for the long ones; a fault shows with each of them.
    """
    for scale in (1, 10, 100):
        try:
            return attempt(scale)
        except AssertionError:
            if scale == 100:
                raise


class StartFailed(AssertionError):
    """The server ended instead of answering; .code and .output tell how."""

    def __init__(self, code, output):
        super().__init__(f"the server did not start (exit code {code}):\n{output}")
        self.code = code
        self.output = output


class Server:
    """One server process.

    `options` are directives as a dict: a list repeats the directive, a tuple is several words, None takes a default
    of ours away.
    """

    def __init__(self, options=None, *, backend=None, threads=1, binary=None, wait=True, config=None,
                 arguments=None, standard_input=None, defaults=True, directory=None, environment=None, prefix=None):
        self.binary = binary or SERVER
        self.prefix = list(prefix or [])  # a command that becomes the server
        self.backend = backend
        self.threads = threads
        self.options = dict(options or {})
        self.defaults = defaults
        self.config = config
        self.arguments = list(arguments or [])
        self.standard_input = standard_input
        self.environment = environment or {}
        self.own_directory = directory is None
        self.directory = Path(directory or tempfile.mkdtemp(prefix="slotwise-test-"))
        self.log_path = self.directory / "server.log"
        self.process = None
        self.expect_end = False
        self.password = self.options.get("requirepass")
        self.clients = []
        self.port = 0
        for attempt in range(5):
            try:
                self._start(wait)
                return
            except StartFailed as failure:
                in_use = "in use" in failure.output
                if attempt == 4 or not in_use or "port" in self.options:
                    self.discard()
                    raise

    # --- life -------------------------------------------------------------------------------------------

    def command_line(self):
        words = [*self.prefix, self.binary]
        if self.config is not None:
            (self.directory / "server.conf").write_text(self.config)
            words.append(str(self.directory / "server.conf"))
        elif self.standard_input is not None:
            words.append("-")
        settings = {}
        if self.defaults:
            settings = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.directory), "save": "",
                        "enable-debug-command": "yes", "repl-diskless-sync-delay": "0"}
            if IS_SLOTWISE and self.binary == SERVER:
                # The stock server's I/O threads spin: with few cores they only slow the tests down.
                settings["io-threads"] = str(self.threads)
            if self.backend in ("epoll", "io_uring"):
                settings["io-backend"] = self.backend
        settings.update(self.options)
        for name, value in settings.items():
            if value is None:
                continue
            for one in value if isinstance(value, list) else [value]:
                words += ["--" + name, *(map(str, one) if isinstance(one, tuple) else [str(one)])]
        return words + self.arguments

    def _start(self, wait):
        self.port = int(self.options.get("port") or free_port())
        environment = dict(os.environ, **self.environment)
        environment.setdefault("ASAN_OPTIONS", "allocator_may_return_null=1")
        environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command_line(), cwd=self.directory, env=environment, stdout=log, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL if self.standard_input is None else subprocess.PIPE)
        if self.standard_input is not None:
            self.process.stdin.write(self.standard_input.encode())
            self.process.stdin.close()
        if wait:
            self._wait_for_ping()

    def _wait_for_ping(self):
        deadline = time.monotonic() + HANG_SECONDS * SLOWNESS
        while True:
            try:
                with socket.create_connection(self.address(), timeout=5) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64) and self._listens():
                        return
            except OSError:
                pass
            code = self.process.poll()
            if code is not None:
                raise StartFailed(code, self.log())
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                raise StartFailed(None, "no answer to PING; " + self.log())
            time.sleep(0.01)

    def _listens(self):
        """True if it is this process, and no other server, that listens on the port."""
        wanted = f":{self.port:04X}"
        inodes = set()
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            if os.path.exists(table):
                for line in Path(table).read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[1].endswith(wanted) and fields[3] == "0A":
                        inodes.add(f"socket:[{fields[9]}]")
        try:
            return any(os.readlink(entry.path) in inodes for entry in os.scandir(f"/proc/{self.pid}/fd"))
        except OSError:
            return False

    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process.poll() is None

    def log(self):
        try:
            return self.log_path.read_text(errors="replace")
        except OSError:
            return ""

    def check(self):
        """Raise if the server has died unasked or has written a crash or sanitizer report."""
        content = self.log_path.read_bytes() if self.log_path.exists() else b""
        mark = CRASH_MARKS.search(content)
        if mark:
            start = max(0, mark.start() - 500)
            raise AssertionError("the server's log has a crash report:\n"
                                 + content[start:start + 12000].decode(errors="replace"))
        if not self.expect_end and not self.alive():
            raise AssertionError(f"the server has ended by itself (exit code {self.process.returncode}):\n"
                                 + content[-4000:].decode(errors="replace"))

    def wait_end(self, seconds=HANG_SECONDS):
        """Wait for the process to end, as somebody asked it to; return its exit code."""
        self.expect_end = True
        return self.process.wait(seconds * SLOWNESS)

    def terminate(self, number=signal.SIGTERM):
        self.expect_end = True
        if self.alive():
            self.process.send_signal(number)
        return self.wait_end()

    def stop(self):
        """The end of a test: an orderly stop, which must succeed."""
        for client in self.clients:
            client.close()
        try:
            self.check()
            if not self.expect_end:
                try:
                    code = self.terminate()
                except subprocess.TimeoutExpired:
                    raise AssertionError("SIGTERM does not end the server:\n" + self.log()[-4000:]) from None
                self.check()
                assert code == 0, f"exit code {code} after SIGTERM:\n" + self.log()[-4000:]
        finally:
            self.discard()

    def discard(self):
        """Kill what is left, and remove the directory."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    # --- talking to it ------------------------------------------------------------------------------------

    def raw(self, **options):
        """A connection of the tests' own client, logged in if the server has a password."""
        client = RawClient(*self.address(), **options)
        self.clients.append(client)
        if self.password:
            assert client.call("AUTH", self.password) == "OK"
        return client

    def client(self, **options):
        """A client of python3-redis."""
        options.setdefault("socket_timeout", HANG_SECONDS * SLOWNESS)
        if self.password:
            options.setdefault("password", self.password)
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def call(self, *arguments):
        """One command over a connection of its own."""
        with RawClient(*self.address()) as client:
            if self.password:
                client.call("AUTH", self.password)
            return client.call(*arguments)

    def info(self, section="everything"):
        """INFO as a dict of strings."""
        return parse_info(self.call("INFO", section))

    def config_get(self, name):
        reply = self.call("CONFIG", "GET", name)
        return dict(zip(reply[::2], reply[1::2]))[name.encode()].decode()

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def waited_for_processors(self):
        """Seconds that its threads have been ready to run and have had no processor to run on."""
        return sum(int(path.read_text().split()[1]) for path in Path(f"/proc/{self.pid}/task").glob("*/schedstat")) / 1e9

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parse_info(text):
    lines = (text.decode() if isinstance(text, bytes) else text).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def crc16(key):
    """CRC16-XMODEM, from which the slot of a key follows."""
    value = 0
    for byte in key:
        value ^= byte << 8
        for _ in range(8):
            value = ((value << 1) ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def slot_of(key):
    key = key.encode() if isinstance(key, str) else key
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1:end]
    return crc16(key) % 16384


def keys_in_distinct_slots(count, prefix="key:"):
    """Keys that live in `count` different slots."""
    keys, seen, number = [], set(), 0
    while len(keys) < count:
        key = f"{prefix}{number}"
        number += 1
        if slot_of(key) not in seen:
            seen.add(slot_of(key))
            keys.append(key)
    return keys
