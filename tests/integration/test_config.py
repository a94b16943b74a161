"""Configuration: files, arguments, standard input, CONFIG GET, SET, REWRITE, RESETSTAT."""

import contextlib
import errno
import itertools
import os
import re

import pytest

import debugging
import harness
from harness import at_some_pace, wait_until
from resp import RawClient, ReplyError

SMOKE = True


def fails(start, *, output, code=1, **keywords):
    """The server refuses to start, with this exit code and output (a pattern)."""
    with pytest.raises(harness.StartFailed) as failure:
        start(**keywords)
    assert failure.value.code == code, failure.value
    assert re.search(output, failure.value.output), failure.value.output


def settings(server, *patterns):
    with server.raw() as client:
        reply = client.call("CONFIG", "GET", *patterns)
    return {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2])}


# --- starting -------------------------------------------------------------------------------------------------


def test_unknown_directive_in_a_file(start):
    fails(start, config="# a comment\n\ntimeout 5\nnosuchdirective 7\n", output=(
        r"\n\*\*\* FATAL CONFIG FILE ERROR \(Redis [\d.]+\) \*\*\*\nReading the configuration file, at line 4\n"
        r">>> 'nosuchdirective 7'\nBad directive or wrong number of arguments\n"))


def test_unknown_directive_as_an_argument(start):
    fails(start, options={"nosuchdirective": "7"}, output=(
        r"\*\*\* FATAL CONFIG FILE ERROR \(Redis [\d.]+\) \*\*\*\nReading the configuration file, at line \d+\n"
        r">>> 'nosuchdirective \"?7\"?'\nBad directive or wrong number of arguments\n"))


@pytest.mark.parametrize("line,reason", [
    ("timeout", "wrong number of arguments"),
    ("timeout 1 2", "wrong number of arguments"),
    ("timeout x", "argument couldn't be parsed into an integer"),
    ("timeout -1", "argument must be between 0 and 2147483647 inclusive"),
    ("port 70000", "argument must be between 0 and 65535 inclusive"),
    ("maxmemory 1zb", "argument must be a memory value"),
    ("appendonly maybe", "argument must be 'yes' or 'no'"),
    ("maxmemory-policy bogus", r"argument\(s\) must be one of the following: volatile-lru, volatile-lfu, "
                               "volatile-random, volatile-ttl, allkeys-lru, allkeys-lfu, allkeys-random, noeviction"),
    ("io-threads 0", r"argument must be between 1 and \d+ inclusive"),
    ("databases 0", "argument must be between 1 and 2147483647 inclusive"),
    ("client-output-buffer-limit normal 1", "wrong number of arguments|Wrong number of arguments"),
    ("bind 1.2.3.4 \"unbalanced", "Unbalanced quotes in configuration line"),
    ("include /no/such/file", "can't open config file '/no/such/file'"),
])
def test_bad_lines(start, line, reason):
    with pytest.raises(harness.StartFailed) as failure:
        start(config=line + "\n", threads=1)
    assert failure.value.code == 1
    assert re.search(reason, failure.value.output, re.I), failure.value.output


def test_missing_file(start):
    fails(start, arguments=["/no/such/file.conf"], defaults=False,
          output="Fatal error, can't open config file '/no/such/file.conf': No such file or directory")


def test_file_arguments_and_their_order(start):
    server = start({"timeout": "33"}, config="""
# comment
timeout 11
TCP-KEEPALIVE 60
maxmemory 100mb
maxmemory-policy "allkeys-lru"
client-output-buffer-limit normal 1mb 512kb 10
save 100 5
hz 20
hz 30
""")
    found = settings(server, "*")
    assert found["timeout"] == "33"
    assert found["tcp-keepalive"] == "60"
    assert found["maxmemory"] == "104857600"
    assert found["maxmemory-policy"] == "allkeys-lru"
    assert found["client-output-buffer-limit"].startswith("normal 1048576 524288 10 ")
    assert found["hz"] == "30"
    assert found["save"] == ""


def test_include(start, tmp_path):
    (tmp_path / "one.conf").write_text("timeout 7\nhz 50\n")
    (tmp_path / "two.conf").write_text("tcp-keepalive 77\n")
    server = start(config=f"timeout 5\ninclude {tmp_path}/*.conf\nhz 60\n")
    found = settings(server, "timeout", "hz", "tcp-keepalive")
    assert found == {"timeout": "7", "hz": "60", "tcp-keepalive": "77"}


def test_standard_input(start):
    server = start(standard_input="timeout 12\nmaxmemory 1gb\n", arguments=["--hz", "15"])
    assert settings(server, "timeout", "maxmemory", "hz") == {"timeout": "12", "maxmemory": "1073741824", "hz": "15"}


def test_file_and_standard_input(start):
    server = start(config="timeout 12\nhz 20\n", standard_input="hz 25\n", arguments=["-"])
    assert settings(server, "timeout", "hz") == {"timeout": "12", "hz": "25"}


def test_quoted_values(start):
    server = start(config="requirepass \"a b\\x41\\\"c\"\n")
    server.password = 'a bA"c'
    assert server.call("PING") == "PONG"


def test_argument_with_several_words(start):
    server = start({"client-output-buffer-limit": ("normal", "100", "50", "5"), "save": ("10", "1", "20", "2")})
    found = settings(server, "client-output-buffer-limit", "save")
    assert found["client-output-buffer-limit"].startswith("normal 100 50 5 slave ")
    assert found["save"] == "10 1 20 2"


def test_defaults():
    """Without arguments: Redis's defaults."""
    server = harness.Server({"port": harness.free_port()}, defaults=False)
    try:
        found = settings(server, "*")
        for name, value in {"timeout": "0", "tcp-keepalive": "300", "tcp-backlog": "511", "databases": "16",
                            "save": "3600 1 300 100 60 10000", "maxclients": "10000", "maxmemory": "0",
                            "maxmemory-policy": "noeviction", "maxmemory-samples": "5", "appendonly": "no",
                            "appendfsync": "everysec", "protected-mode": "yes", "bind": "* -::*", "hz": "10",
                            "dbfilename": "dump.rdb", "loglevel": "notice", "logfile": "", "daemonize": "no",
                            "lfu-log-factor": "10", "lfu-decay-time": "1", "active-expire-effort": "1",
                            "set-max-intset-entries": "512", "hash-max-listpack-entries": "512",
                            "list-max-listpack-size": "-2", "zset-max-listpack-entries": "128",
                            "stream-node-max-bytes": "4096", "slowlog-log-slower-than": "10000",
                            "slowlog-max-len": "128", "cluster-node-timeout": "15000", "repl-timeout": "60",
                            "lua-time-limit": "5000", "jemalloc-bg-thread": "yes", "supervised": "no",
                            "maxmemory-eviction-tenacity": "10"}.items():
            assert found.get(name) == value, f"{name}: {found.get(name)!r} and not {value!r}"
    finally:
        server.stop()


def test_same_directives_as_stock(oracle, start):
    """Every directive that the stock server shows is shown, with the same default."""
    server = start(threads=1)
    theirs, ours = settings(oracle, "*"), settings(server, "*")
    assert not theirs.keys() - ours.keys() - {"aof-disable-auto-gc"}  # hidden in 7.2
    own = {"port", "dir", "io-threads", "bind", "logfile", "pidfile", "daemonize"}
    differing = {name: (ours[name], value) for name, value in theirs.items()
                 if name in ours and ours[name] != value and name not in own}
    assert not differing


@pytest.mark.redis72
def test_directives_of_72(start):
    found = settings(start(threads=1), "*")
    for name, value in {"locale-collate": "", "cluster-announce-human-nodename": "",
                        "set-max-listpack-entries": "128", "set-max-listpack-value": "64"}.items():
        assert found.get(name) == value, name


def test_version_and_help(start):
    for argument in ("--version", "-v"):
        with pytest.raises(harness.StartFailed) as failure:
            start(arguments=[argument], defaults=False)
        assert failure.value.code == 0
        if harness.IS_SLOTWISE:
            assert re.search(r"\b7\.2\.4\b", failure.value.output), failure.value.output
    for argument in ("--help", "-h"):
        with pytest.raises(harness.StartFailed) as failure:
            start(arguments=[argument], defaults=False)
        assert "Usage:" in failure.value.output


# --- CONFIG SET -----------------------------------------------------------------------------------------------


def test_set_many_is_atomic(server):
    client = server.raw()
    before = settings(server, "*")
    for wrong in (["timeout", "9", "hz", "30", "maxmemory", "x"], ["timeout", "9", "nosuch", "1"],
                  ["timeout", "9", "databases", "5"], ["hz", "30", "timeout", "9", "timeout", "8"],
                  ["timeout", "9", "maxmemory-policy", "bogus", "hz", "40"]):
        assert isinstance(client.call("CONFIG", "SET", *wrong), ReplyError)
        assert settings(server, "*") == before
    assert client.call("CONFIG", "SET", "timeout", "9", "hz", "30", "maxmemory", "1gb") == "OK"
    found = settings(server, "timeout", "hz", "maxmemory")
    assert found == {"timeout": "9", "hz": "30", "maxmemory": "1073741824"}


def test_get_many_patterns(server):
    found = settings(server, "maxmemory*", "TIMEOUT", "timeout", "tcp-[bk]*", "nosuch*")
    assert {"maxmemory", "maxmemory-policy", "maxmemory-samples", "timeout", "tcp-backlog", "tcp-keepalive"} <= {
        name.lower() for name in found}
    assert not any(name.startswith("nosuch") for name in found)


def test_every_value_can_be_set_to_itself(server):
    client = server.raw()
    found = settings(server, "*")
    immutable = set()
    for name, value in sorted(found.items()):
        if name in ("port", "bind", "requirepass", "dir"):
            continue
        reply = client.call("CONFIG", "SET", name, value)
        if isinstance(reply, ReplyError):
            immutable.add(name)
            assert "can't set immutable config" in reply.text or "can't set protected config" in reply.text or \
                name in ("oom-score-adj", "tls-port", "locale-collate", "slaveof", "replicaof", "save",
                         "propagation-error-behavior", "user"), (name, reply)
    assert {"databases", "tcp-backlog", "cluster-enabled", "unixsocket", "daemonize", "io-threads"} <= immutable
    assert settings(server, "*") == found


# --- CONFIG REWRITE -------------------------------------------------------------------------------------------


def test_rewrite(start):
    original = "# my comment\ntimeout 11\nmaxmemory 100mb\n\n# the end\n"
    server = start({"port": None}, config=original + f"port {harness.free_port()}\n", arguments=[], wait=False)
    server.port = int(re.search(r"port (\d+)", (server.directory / "server.conf").read_text())[1])
    server._wait_for_ping()
    with server.raw() as client:
        assert client.call("CONFIG", "SET", "timeout", "22", "maxmemory-policy", "allkeys-lfu", "hz", "44") == "OK"
        assert client.call("CONFIG", "SET", "requirepass", "se\"cr et") == "OK"
        assert client.call("CONFIG", "REWRITE") == "OK"
    text = (server.directory / "server.conf").read_text()
    assert "# my comment\n" in text and "# the end\n" in text
    assert re.search(r"^timeout 22$", text, re.M) and "timeout 11" not in text
    assert re.search(r"^maxmemory 100mb$", text, re.M)
    assert re.search(r"^maxmemory-policy allkeys-lfu$", text, re.M)
    assert re.search(r"^hz 44$", text, re.M)
    server.expect_end = True
    server.terminate()
    again = start({"port": None}, config=text, wait=False)
    again.port = server.port
    again.password = "se\"cr et"
    again._wait_for_ping()
    found = settings(again, "timeout", "maxmemory", "maxmemory-policy", "hz")
    assert found == {"timeout": "22", "maxmemory": "104857600", "maxmemory-policy": "allkeys-lfu", "hz": "44"}


@pytest.mark.slotwise
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644])
def test_rewrite_keeps_the_mode(start, mode):
    """The file may hold a password; what the package has forbidden stays forbidden."""
    server = start(config="hz 20\n")
    path = server.directory / "server.conf"
    path.chmod(mode)
    assert server.call("CONFIG", "REWRITE") == "OK"
    assert "hz 20" in path.read_text() and path.stat().st_mode & 0o777 == mode


def slow_file(server, *clients):
    """REWRITE on each connection, of a file that does not come: a pipe. Returns its other end, with the server reading."""
    path = server.directory / "server.conf"
    path.unlink()
    os.mkfifo(path)
    for client in clients:
        client.send_command("CONFIG", "REWRITE")

    def opened():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO  # nobody reads
            return None

    return wait_until(opened, what="the server to read its configuration file")


@pytest.mark.slotwise
def test_others_are_served_while_a_file_is_rewritten(start, backend):
    server = start(config="hz 20\n", backend=backend, threads=2)
    waiting, gone, other = server.raw(), server.raw(), server.raw()
    descriptor = slow_file(server, waiting, gone)
    for _ in range(3):
        assert other.call("PING") == server.call("PING") == "PONG"
    assert other.call("CONFIG", "SET", "timeout", "33") == "OK"
    later = server.raw()
    later.send_command("CONFIG", "REWRITE")
    gone.close()
    assert other.call("SET", "k", "v") == "OK" and other.call("FLUSHALL") == "OK"
    assert waiting.silent() and later.silent()
    os.write(descriptor, b"# as it was\nhz 20\n")
    os.close(descriptor)
    assert waiting.read() == later.read() == "OK"
    text = (server.directory / "server.conf").read_text()
    assert "# as it was\nhz 20\n" in text and "timeout 33\n" in text


@pytest.mark.slotwise
def test_the_newest_configuration_is_in_the_file(start):
    """A transaction does not queue: what others began before it does not undo what it has written."""
    server = start(config="hz 20\n")
    path = server.directory / "server.conf"
    waiting, other = server.raw(), server.raw()
    assert waiting.pipeline([("CONFIG", "SET", "timeout", "1"), ("CONFIG", "REWRITE"), ("PING",)]) == ["OK", "OK", "PONG"]
    assert "timeout 1\n" in path.read_text()
    for number in range(2, 20):
        replies = other.pipeline([("MULTI",), ("CONFIG", "SET", "timeout", number), ("CONFIG", "REWRITE"), ("EXEC",)])
        waiting.send_command("CONFIG", "REWRITE")
        assert replies[-1] == ["OK", "OK"] and waiting.read() == "OK"
        assert f"timeout {number}\n" in path.read_text()
    path.unlink()
    path.mkdir()
    for client in (waiting, other):
        assert client.call("CONFIG", "REWRITE") == ReplyError("ERR Rewriting config file: Is a directory")
    assert other.pipeline([("MULTI",), ("CONFIG", "REWRITE"), ("EXEC",)])[-1] == [
        ReplyError("ERR Rewriting config file: Is a directory")]


# --- CONFIG SET bind ------------------------------------------------------------------------------------------


@pytest.mark.slotwise
def test_others_are_served_while_names_are_looked_up(start, backend):
    server = start(backend=backend, threads=2)
    debugging.require(server, "LOOKUP-DELAY")
    client, other = server.raw(), server.raw()
    number = debugging.client_id(client)

    def attempt(scale):
        assert client.call("CONFIG", "SET", "bind", "127.0.0.1") == other.call("DEBUG", "LOOKUP-DELAY", 300 * scale) == "OK"
        client.send_command("CONFIG", "SET", "timeout", "0", "bind", "localhost")
        wait_until(lambda: debugging.client_line(other, number)["cmd"] == "config|set", what="CONFIG SET to begin")
        assert other.call("PING") == "PONG" and other.call("CONFIG", "SET", "timeout", "0") == "OK"
        served = client.silent(0)
        assert client.read() == "OK"
        assert served

    at_some_pace(attempt)
    assert settings_of(other, "bind") == "localhost"
    # The port alone looks the names up again.
    old, server.port = server.port, harness.free_port()
    assert client.call("DEBUG", "LOOKUP-DELAY", 0) == client.call("CONFIG", "SET", "port", server.port) == "OK"
    reached = set()
    for address, port in itertools.product(("127.0.0.1", "::1"), (old, server.port)):
        with contextlib.suppress(OSError), RawClient(address, port) as probe:
            assert probe.call("PING") == "PONG"
            reached.add(port)
    assert reached == {server.port}
    # Without a delay there is nothing to see but the answers.
    reply = client.call("CONFIG", "SET", "bind", "127.0.0.1 host.invalid")
    assert reply == ReplyError("ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified "
                               "addresses.")
    assert settings_of(other, "bind") == "localhost"
    assert client.pipeline([("MULTI",), ("CONFIG", "SET", "bind", "localhost"), ("EXEC",)])[-1] == ["OK"]
    assert client.call("CONFIG", "SET", "bind", "127.0.0.1 -host.invalid") == "OK"
    assert server.call("PING") == "PONG"


def settings_of(client, name):
    return client.call("CONFIG", "GET", name)[1].decode()


# --- CONFIG RESETSTAT -----------------------------------------------------------------------------------------


def test_resetstat(server):
    client = server.raw()
    client.pipeline([("SET", "a", "1"), ("GET", "a"), ("GET", "b"), ("NOSUCH",), ("INCR", "a", "b")])
    before = server.info()
    assert int(before["keyspace_hits"]) == 1 and int(before["keyspace_misses"]) == 1
    assert "errorstat_ERR" in before and "cmdstat_get" in before
    assert client.call("CONFIG", "RESETSTAT") == "OK"
    after = server.info()
    assert after["keyspace_hits"] == after["keyspace_misses"] == after["expired_keys"] == after["evicted_keys"] == "0"
    assert "errorstat_ERR" not in after and "cmdstat_get" not in after
    assert int(after["total_commands_processed"]) < 5
    assert int(after["total_error_replies"]) == 0
    assert "db0" in after
