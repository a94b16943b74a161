"""What the server makes of bytes that are no good RESP, and of good RESP in odd pieces."""

import random
import socket
import time

import pytest

import harness
from bystander import Bystander
from resp import ReplyError, encode_command

SMOKE = True

INVALID = {
    "multibulk text": (b"*abc\r\n", b"invalid multibulk length"),
    "multibulk empty": (b"*\r\n", b"invalid multibulk length"),
    "multibulk with blank": (b"* 3\r\n", b"invalid multibulk length"),
    "multibulk plus": (b"*+3\r\n", b"invalid multibulk length"),
    "multibulk too large": (b"*3000000000\r\n", b"invalid multibulk length"),
    "multibulk beyond 64 bits": (b"*99999999999999999999\r\n", b"invalid multibulk length"),
    "multibulk beyond 31 bits": (b"*2147483648\r\n", b"invalid multibulk length"),
    "bulk text": (b"*1\r\n$abc\r\n", b"invalid bulk length"),
    "bulk empty": (b"*1\r\n$\r\n", b"invalid bulk length"),
    "bulk negative": (b"*1\r\n$-1\r\n", b"invalid bulk length"),
    "bulk very negative": (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n", b"invalid bulk length"),
    "bulk too large": (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
    "bulk far too large": (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", b"invalid bulk length"),
    "bulk beyond 64 bits": (b"*1\r\n$18446744073709551616\r\n", b"invalid bulk length"),
    "no dollar": (b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", b"expected '$', got 'f'"),
    "colon for dollar": (b"*1\r\n:5\r\n", b"expected '$', got ':'"),
    "nested array": (b"*1\r\n*1\r\n", b"expected '$', got '*'"),
    "open double quote": (b"SET x \"abc\r\n", b"unbalanced quotes in request"),
    "open single quote": (b"SET x 'abc\r\n", b"unbalanced quotes in request"),
    "text after quote": (b"SET x \"abc\"def\r\n", b"unbalanced quotes in request"),
}


@pytest.mark.parametrize("data,text", INVALID.values(), ids=INVALID.keys())
def test_protocol_error(shared, data, text):
    with shared.raw() as victim:
        victim.send(data)
        assert victim.read_until_close() == b"-ERR Protocol error: " + text + b"\r\n"
    assert shared.call("PING") == "PONG"


def test_commands_before_a_protocol_error_are_answered(client, shared):
    with shared.raw() as victim:
        victim.send(encode_command("SET", "k", "v") + encode_command("GET", "k") + b"*1\r\n$-5\r\n"
                    + encode_command("SET", "k", "after"))
        assert victim.read_until_close() == (b"+OK\r\n$1\r\nv\r\n-ERR Protocol error: invalid bulk length\r\n")
    assert client.call("GET", "k") == b"v"


@pytest.mark.parametrize("data", [b"*0\r\n", b"*-1\r\n", b"*-1000\r\n", b"\r\n", b"\n", b"   \r\n", b"\t\r\n",
                                  b"*0\r\n*-5\r\n\r\n\r\n"])
def test_empty_requests_are_ignored(client, data):
    client.send(data + encode_command("PING") + data + encode_command("ECHO", "x"))
    assert client.read() == "PONG"
    assert client.read() == b"x"
    assert client.silent(0.02)


INLINE = [
    (b"PING\r\n", b"+PONG\r\n"),
    (b"PING\n", b"+PONG\r\n"),
    (b"  PING  \r\n", b"+PONG\r\n"),
    (b"\tPING\t hello \r\n", b"$5\r\nhello\r\n"),
    (b'ECHO "a b"\r\n', b"$3\r\na b\r\n"),
    (b"ECHO 'a b'\r\n", b"$3\r\na b\r\n"),
    (b'ECHO "\\x41\\x00\\n\\r\\t\\a\\b\\q\\""\r\n', b"$9\r\nA\x00\n\r\t\a\bq\"\r\n"),
    (b"ECHO 'it\\'s \\n'\r\n", b"$7\r\nit's \\n\r\n"),
    (b'ECHO ""\r\n', b"$0\r\n\r\n"),
    (b'"PING"\r\n', b"+PONG\r\n"),
    (b"ECHO a\\b\r\n", b"$3\r\na\\b\r\n"),
    (b"ECHO \xff\xfe\r\n", b"$2\r\n\xff\xfe\r\n"),
    (b"ping extra words\r\n", b"-ERR wrong number of arguments for 'ping' command\r\n"),
    (b"NOSUCH\r\n", b"-ERR unknown command 'NOSUCH', with args beginning with: \r\n"),
    (b"$5\r\n", b"-ERR unknown command '$5', with args beginning with: \r\n"),
]


@pytest.mark.parametrize("data,expected", INLINE, ids=[repr(data) for data, _ in INLINE])
def test_inline(client, data, expected):
    client.send(data)
    assert client.read_raw() == expected


def test_inline_and_multi_bulk_mixed(client):
    client.send(b"SET a 1\r\n" + encode_command("INCR", "a") + b"INCR a\r\nGET a\n" + encode_command("GET", "a"))
    assert [client.read() for _ in range(5)] == ["OK", 2, 3, b"3", b"3"]


def test_huge_inline_line(shared):
    with Bystander(shared), shared.raw() as victim:
        victim.send(b"A" * (65536 + 100))
        assert victim.read_until_close() == b"-ERR Protocol error: too big inline request\r\n"


def test_inline_line_of_almost_64k(client):
    client.send(b"ECHO " + b"x" * 60000 + b"\r\n")
    assert client.read() == b"x" * 60000


def test_huge_multi_bulk_count(shared):
    with Bystander(shared), shared.raw() as victim:
        victim.send(b"*" + b"1" * (65536 + 100))
        assert victim.read_until_close() == b"-ERR Protocol error: too big mbulk count string\r\n"


def test_huge_bulk_count(shared):
    with Bystander(shared), shared.raw() as victim:
        victim.send(b"*1\r\n$" + b"1" * (65536 + 100))
        assert victim.read_until_close() == b"-ERR Protocol error: too big bulk count string\r\n"


@pytest.mark.parametrize("request_bytes", [b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                           b"post x\r\n", b"host: x\r\n"])
def test_cross_protocol_requests_are_cut(shared, request_bytes):
    with shared.raw() as victim:
        victim.send(request_bytes)
        reply = victim.read_until_close()
        assert b"Host" not in reply and b"host" not in reply, reply
    harness.wait_until(lambda: "Possible SECURITY ATTACK detected" in shared.log(), what="the log line")


def test_any_argument_may_be_binary(client):
    every_byte = bytes(range(256))
    assert client.call("SET", every_byte, every_byte * 3) == "OK"
    assert client.call("GET", every_byte) == every_byte * 3
    assert client.call("KEYS", "*") == [every_byte]


def pipeline_of_everything():
    commands, expected = [], []
    for index in range(30):
        value = b"\r\n$5\r\n*3" + bytes([index]) * index
        commands += [("SET", f"k{index}", value), ("GET", f"k{index}"), ("PING",), ("GET", "none"), ("FOO",)]
        expected += ["OK", value, "PONG", None,
                     ReplyError("ERR unknown command 'FOO', with args beginning with: ")]
    return b"".join(encode_command(*command) for command in commands), expected


def test_one_byte_at_a_time(shared, client):
    data, expected = pipeline_of_everything()
    with Bystander(shared):
        for at in range(len(data)):
            client.send(data[at:at + 1])
            if at % 16 == 0:
                time.sleep(0.0005)
        assert [client.read() for _ in expected] == expected


@pytest.mark.parametrize("seed", range(5))
def test_any_cut(client, seed):
    data, expected = pipeline_of_everything()
    generator, at = random.Random(seed), 0
    while at < len(data):
        size = generator.choice([1, 2, 5, 17, 100, 500])
        client.send(data[at:at + size])
        at += size
        if generator.random() < 0.3:
            time.sleep(0.001)
    assert [client.read() for _ in expected] == expected


@pytest.mark.parametrize("size", [16370, 16384, 16390, 32760, 32768, 32780, 65536, 1_000_003])
def test_values_around_buffer_sizes(client, size):
    value = random.Random(size).randbytes(size)
    client.send(encode_command("SET", "k", value) + encode_command("GET", "k") + encode_command("STRLEN", "k"))
    assert [client.read() for _ in range(3)] == ["OK", value, size]
    client.send(encode_command("MSET", "a", value, "b", value) + encode_command("MGET", "a", "b", "k"))
    assert [client.read() for _ in range(2)] == ["OK", [value] * 3]


def test_many_arguments(client):
    count = harness.scaled(50000)
    keys = [f"key:{index}" for index in range(count)]
    assert client.call("MSET", *(word for key in keys for word in (key, key))) == "OK"
    assert client.call("MGET", *keys) == [key.encode() for key in keys]
    assert client.call("DEL", *keys) == count


def test_deep_pipeline(client):
    count = harness.scaled(50000)
    client.send(encode_command("SET", "n", 0))
    assert client.read() == "OK"
    client.socket.settimeout(60 * harness.SLOWNESS)
    client.send(encode_command("INCR", "n") * count)
    for number in range(1, count + 1):
        assert client.read() == number


def test_half_closed_socket_gets_its_replies(shared, client):
    count = 1000
    with shared.raw() as half:
        half.send(encode_command("INCR", "half") * count)
        half.socket.shutdown(socket.SHUT_WR)
        reply = half.read_until_close()
    assert reply == b"".join(b":%d\r\n" % number for number in range(1, count + 1))
    assert client.call("GET", "half") == b"%d" % count


def test_half_closed_in_mid_command(shared, client):
    with shared.raw() as half:
        half.send(encode_command("SET", "a", "1") + encode_command("SET", "a", "2")[:-3])
        half.socket.shutdown(socket.SHUT_WR)
        assert half.read_until_close() == b"+OK\r\n"
    assert client.call("GET", "a") == b"1"


def test_quit_drops_what_follows(shared, client):
    with shared.raw() as leaver:
        leaver.send(encode_command("SET", "a", "1") + encode_command("QUIT") + encode_command("SET", "a", "2"))
        assert leaver.read_until_close() == b"+OK\r\n+OK\r\n"
    assert client.call("GET", "a") == b"1"


def test_garbage(shared):
    """Random bytes, and good requests with random changes: whatever comes back, the server lives."""
    generator = random.Random(3)
    good, _ = pipeline_of_everything()
    with Bystander(shared):
        for turn in range(harness.scaled(300)):
            with shared.raw() as victim:
                if turn % 2:
                    data = generator.randbytes(generator.choice([1, 10, 100, 3000]))
                else:
                    data = bytearray(good[:generator.randrange(10, 2000)])
                    for _ in range(generator.randrange(1, 6)):
                        data[generator.randrange(len(data))] = generator.choice(b"\r\n$*:-0129 \x00\xff\"'")
                # Random words could spell DEBUG SEGFAULT only by a miracle; SHUTDOWN likewise.
                victim.send(bytes(data))
                if generator.random() < 0.5:
                    victim.socket.setblocking(False)
                    try:
                        victim.socket.recv(1000)
                    except OSError:
                        pass
    assert shared.call("PING") == "PONG"
