"""What users have at hand: redis-cli, redis-benchmark and python3-redis."""

import json
import os
import re
import shutil
import subprocess

import pytest
import redis

import harness

SMOKE = True

needs_cli = pytest.mark.skipif(not shutil.which("redis-cli"), reason="no redis-cli")
needs_benchmark = pytest.mark.skipif(not shutil.which("redis-benchmark"), reason="no redis-benchmark")


def run(command, **keywords):
    keywords.setdefault("timeout", 3 * harness.HANG_SECONDS * harness.SLOWNESS)
    return subprocess.run(command, capture_output=True, **keywords)


def cli(server, *arguments, **keywords):
    """Run redis-cli; return what it prints."""
    result = run(["redis-cli", "-p", str(server.port), *map(str, arguments)], **keywords)
    assert result.returncode == 0, result
    return result.stdout.decode()


@pytest.fixture
def filled(client):
    for size in (0, 1, 100, 5000):
        client.call("SET", f"string:{size}", "x" * size)
    return client


@needs_cli
def test_cli_commands(shared, client):
    assert cli(shared, "PING") == "PONG\n"
    assert cli(shared, "SET", "k", "a b") == "OK\n"
    assert cli(shared, "GET", "k") == "a b\n"
    assert cli(shared, "INCR", "n") == "1\n"
    assert cli(shared, "GET", "none") == "\n"
    assert cli(shared, "--no-raw", "MGET", "k", "none", "n") == '1) "a b"\n2) (nil)\n3) "1"\n'
    assert cli(shared, "--csv", "MGET", "k", "none") == '"a b",NULL\n'
    assert cli(shared, "-n", "4", "DBSIZE") == "0\n"
    assert cli(shared, "-r", "3", "INCR", "r") == "1\n2\n3\n"
    assert cli(shared, "-x", "SET", "piped", input=b"from stdin") == "OK\n"
    assert client.call("GET", "piped") == b"from stdin"
    assert "ERR unknown command" in cli(shared, "NOSUCH")
    assert run(["redis-cli", "-p", str(shared.port), "-e", "NOSUCH"]).returncode == 1
    assert cli(shared, "-u", f"redis://127.0.0.1:{shared.port}/3", "SET", "u", "1") == "OK\n"
    assert cli(shared, "-n", "3", "GET", "u") == "1\n"


@needs_cli
def test_cli_resp3(shared, client):
    client.call("SET", "k", "v")
    assert cli(shared, "-3", "GET", "k") == "v\n"
    assert '1# "timeout" => "0"\n' in cli(shared, "-3", "--no-raw", "CONFIG", "GET", "timeout")
    assert json.loads(cli(shared, "--json", "CONFIG", "GET", "timeout")) == {"timeout": "0"}


@needs_cli
def test_cli_reads_commands(shared, client):
    script = b"SELECT 2\nMULTI\nSET a 1\nINCR a\nEXEC\nGET a\nOBJECT HELP\nCLIENT LIST\nINFO server\n"
    lines = cli(shared, input=script).splitlines()
    assert lines[:7] == ["OK", "OK", "QUEUED", "QUEUED", "OK", "2", "2"]


@needs_cli
def test_cli_pipe(shared, client):
    count = harness.scaled(100_000)
    data = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\nkey:%d\r\n$5\r\nvalue\r\n" % (len(b"key:%d" % i), i)
                    for i in range(count))
    output = cli(shared, "--pipe", input=data)
    assert f"errors: 0, replies: {count}" in output, output
    assert client.call("DBSIZE") == count


@needs_cli
def test_cli_pipe_with_errors(shared, client):
    result = run(["redis-cli", "-p", str(shared.port), "--pipe"],
                 input=b"SET a x\r\nINCR a\r\nNOSUCH\r\nSET b y\r\n")
    assert b"errors: 2, replies: 4" in result.stdout
    assert client.call("MGET", "a", "b") == [b"x", b"y"]


@needs_cli
def test_cli_scan(shared, client):
    names = {f"key:{number}" for number in range(3000)}
    client.call("MSET", *[word for name in names for word in (name, "v")])
    client.call("SET", "other", "v")
    assert set(cli(shared, "--scan", "--pattern", "key:*").split()) == names
    assert len(cli(shared, "--scan").split()) == 3001


@needs_cli
def test_cli_bigkeys(shared, filled):
    output = cli(shared, "--bigkeys")
    assert 'Biggest string found "string:5000" has 5000 bytes' in output or \
        "Biggest string found '\"string:5000\"' has 5000 bytes" in output, output
    assert "4 strings with 5101 bytes" in output


@needs_cli
def test_cli_hotkeys(server):
    with server.raw() as client:
        assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu") == "OK"
        client.pipeline([("SET", f"k{number}", "v") for number in range(20)])
        client.pipeline([("GET", "k7")] * 2000)
    output = cli(server, "--hotkeys")
    assert re.search(r"hot key found with counter: \d+\s+keyname: \"?k7\"?", output), output


@needs_cli
@pytest.mark.long
def test_cli_latency(shared):
    output = cli(shared, "--latency")
    lowest, highest, average, samples = output.split()[:4]
    assert 0 <= float(lowest) <= float(average) <= float(highest) and int(samples) > 0


@needs_cli
def test_cli_stat(shared):
    ours, terminal = os.openpty()  # into a pipe redis-cli would write whole blocks only
    process = subprocess.Popen(["redis-cli", "-p", str(shared.port), "-i", "0.1", "--stat"], stdout=terminal)
    os.close(terminal)
    try:
        with os.fdopen(ours) as output:
            lines = [output.readline() for _ in range(4)]
    finally:
        process.kill()
        process.wait()
    assert lines[1].split()[:5] == ["keys", "mem", "clients", "blocked", "requests"], lines
    assert re.match(r"\d+ +\d", lines[2]), lines


@needs_cli
def test_cli_with_a_password(start):
    server = start({"requirepass": "secret"})
    assert "NOAUTH" in cli(server, "GET", "k")
    assert cli(server, "-a", "secret", "--no-auth-warning", "SET", "k", "v") == "OK\n"
    assert cli(server, "--user", "default", "--pass", "secret", "--no-auth-warning", "GET", "k") == "v\n"


@needs_benchmark
@pytest.mark.parametrize("options", [["-t", "set,get,incr,mset", "-P", "16"], ["-t", "ping,set,get", "-c", "20"],
                                     ["-t", "set,get", "-P", "64", "--threads", "2", "-r", "10000", "-d", "500"],
                                     ["-3", "-t", "get,mset"], ["-k", "0", "-t", "get", "-n", "500"]], ids=" ".join)
def test_benchmark(start, backend, options):
    server = start(backend=backend, threads=2)
    count = [] if "-n" in options else ["-n", str(harness.scaled(20_000 if "-P" in options else 5_000))]
    result = run(["redis-benchmark", "-p", str(server.port), "--csv", *count, *options])
    complaints = [line for line in result.stderr.splitlines() if b"Keepalive disabled" not in line]
    assert result.returncode == 0 and not complaints, result
    lines = result.stdout.decode().splitlines()
    assert len(lines) >= 2
    for line in lines[1:]:
        assert float(line.split(",")[1].strip('"')) > 0, line
    assert "Error" not in result.stdout.decode()


# --- python3-redis ----------------------------------------------------------------------------------------------


@pytest.fixture
def python(shared, client):
    with shared.client(decode_responses=True) as connection:
        yield connection


def test_python_strings(python):
    assert python.set("k", "v", ex=100) is True
    assert python.get("k") == "v" and 0 < python.ttl("k") <= 100
    assert python.set("k", "w", nx=True) is None
    assert python.set("k", "w", get=True) == "v"
    assert python.getex("k", persist=True) == "w" and python.ttl("k") == -1
    assert python.mset({"a": 1, "b": 2}) is True
    assert python.mget("a", "b", "c") == ["1", "2", None]
    assert python.incr("a", 41) == 42 and python.incrbyfloat("b", 0.5) == 2.5
    assert python.append("k", "xyz") == 4 and python.getrange("k", 1, 2) == "xy"
    assert python.lcs("k", "k") if hasattr(python, "lcs") else True
    assert python.type("k") == "string" and python.object("encoding", "a") == "int"
    assert python.copy("k", "l") is True and python.rename("l", "m") is True
    assert python.exists("k", "l", "m") == 2 and python.delete("k", "l", "m") == 2


def test_python_pipelines(python):
    with python.pipeline(transaction=False) as pipeline:
        for number in range(2000):
            pipeline.set(f"k{number}", number)
            pipeline.get(f"k{number}")
        replies = pipeline.execute()
    assert replies[0::2] == [True] * 2000 and replies[1::2] == [str(number) for number in range(2000)]
    with python.pipeline() as pipeline:
        pipeline.incr("n").incr("n").get("n")
        assert pipeline.execute() == [1, 2, "2"]
    with python.pipeline() as pipeline:
        pipeline.set("s", "text").incr("s").get("s")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            pipeline.execute()
    assert python.get("s") == "text"


def test_python_watch(python):
    python.set("n", 1)
    attempts = 0

    def double(pipeline):
        nonlocal attempts
        attempts += 1
        value = int(pipeline.get("n"))
        if attempts == 1:
            python.set("n", 10)
        pipeline.multi()
        pipeline.set("n", value * 2)

    python.transaction(double, "n")
    assert python.get("n") == "20" and attempts == 2


def test_python_scan_info_and_clients(python, shared):
    python.mset({f"k{number}": number for number in range(1500)})
    assert sorted(python.scan_iter(match="k1*", count=50)) == sorted(
        f"k{number}" for number in range(1500) if str(number).startswith("1"))
    assert len(set(python.scan_iter(_type="string"))) == 1500
    assert python.dbsize() == 1500 and python.info("keyspace")["db0"]["keys"] == 1500
    assert python.info()["tcp_port"] == shared.port
    assert python.client_setname("python") is True and python.client_getname() == "python"
    assert "python" in [entry["name"] for entry in python.client_list()]
    assert python.config_get("maxmemory") == {"maxmemory": "0"}
    assert python.config_set("timeout", 0) is True and python.ping() is True
    assert python.command_count() > 50 and "get" in python.command()
    assert python.flushdb() is True and python.randomkey() is None
