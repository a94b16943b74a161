"""CLIENT and its subcommands, seen from several connections."""

import re
import time

import pytest

import harness
from harness import at_some_pace, wait_until
from resp import RawClient, ReplyError, encode_command

SMOKE = True

FIELDS_70 = ("id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp "
             "obl oll omem tot-mem events cmd user redir resp").split()
FIELDS_72 = FIELDS_70 + ["lib-name", "lib-ver"]


def parse_clients(text):
    """CLIENT LIST as {id: {field: value}}."""
    clients = {}
    for line in text.decode().splitlines():
        fields = dict(word.split("=", 1) for word in line.split(" "))
        clients[int(fields["id"])] = fields
    return clients


@pytest.fixture
def pair(client, shared):
    """Two connections and their ids, and nobody else."""
    wait_until(lambda: client.call("CLIENT", "LIST").count(b"\n") == 1, what="older connections to be gone")
    other = shared.raw()
    yield client, other
    other.close()


def test_list_and_info(pair, shared):
    client, other = pair
    client.call("CLIENT", "SETNAME", "first")
    other.pipeline([("CLIENT", "SETNAME", "second"), ("SELECT", "3"), ("GET", "k")])
    listed = parse_clients(client.call("CLIENT", "LIST"))
    assert len(listed) == 2
    mine, others = listed[client.call("CLIENT", "ID")], listed[other.call("CLIENT", "ID")]
    expected = FIELDS_72 if harness.VERSION >= (7, 2) else FIELDS_70
    extra = [name for name in mine if name not in expected]
    assert [name for name in mine if name in expected] == expected
    assert not extra or harness.IS_SLOTWISE, extra
    assert mine["addr"] == "127.0.0.1:%d" % client.socket.getsockname()[1]
    assert mine["laddr"] == f"127.0.0.1:{shared.port}"
    assert (mine["name"], mine["flags"], mine["db"], mine["cmd"], mine["resp"], mine["user"]) == (
        "first", "N", "0", "client|list", "2", "default")
    assert (others["name"], others["flags"], others["db"], others["cmd"]) == ("second", "N", "3", "get")
    assert int(mine["age"]) < 60 and int(mine["idle"]) < 60
    assert mine["multi"] == "-1" and mine["redir"] == "-1"
    assert int(mine["tot-mem"]) > 0
    assert parse_clients(client.call("CLIENT", "INFO")).keys() == {client.call("CLIENT", "ID")}
    assert client.call("CLIENT", "INFO").endswith(b"\n")


def test_list_filters(pair):
    client, other = pair
    mine, others = client.call("CLIENT", "ID"), other.call("CLIENT", "ID")
    assert parse_clients(client.call("CLIENT", "LIST", "ID", mine)).keys() == {mine}
    assert parse_clients(client.call("CLIENT", "LIST", "ID", mine, others, 999999)).keys() == {mine, others}
    assert parse_clients(client.call("CLIENT", "LIST", "TYPE", "normal")).keys() == {mine, others}
    assert client.call("CLIENT", "LIST", "TYPE", "pubsub") == b""


def test_multi_shows(pair):
    client, other = pair
    other.pipeline([("MULTI",), ("PING",), ("SET", "a", "1")])
    shown, = [fields for fields in parse_clients(client.call("CLIENT", "LIST")).values() if "x" in fields["flags"]]
    assert shown["multi"] == "2"
    assert other.call("EXEC") == ["PONG", "OK"]
    assert all(fields["multi"] == "-1" for fields in parse_clients(client.call("CLIENT", "LIST")).values())


def test_ids_grow(shared):
    previous = 0
    for _ in range(5):
        with shared.raw() as one:
            number = one.call("CLIENT", "ID")
            assert number > previous
            assert number == one.call("CLIENT", "ID")
            previous = number


@pytest.mark.redis72
def test_setinfo_shows(pair):
    client, _ = pair
    client.call("CLIENT", "SETINFO", "LIB-NAME", "library")
    client.call("CLIENT", "SETINFO", "LIB-VER", "1.2")
    shown = next(iter(parse_clients(client.call("CLIENT", "INFO")).values()))
    assert (shown["lib-name"], shown["lib-ver"]) == ("library", "1.2")


# --- CLIENT KILL ------------------------------------------------------------------------------------------------


def address_of(connection):
    return "%s:%d" % connection.socket.getsockname()[:2]


@pytest.mark.parametrize("filters", [
    ["ID", "{id}"], ["ADDR", "{addr}"], ["ID", "{id}", "ADDR", "{addr}"], ["USER", "default", "ID", "{id}"],
    ["TYPE", "normal", "ID", "{id}"], ["LADDR", "{laddr}", "ID", "{id}"], ["SKIPME", "no", "ID", "{id}"],
    ["TYPE", "normal"], ["SKIPME", "yes"], ["USER", "default"], ["LADDR", "{laddr}", "SKIPME", "yes"],
], ids=" ".join)
def test_kill_filters(pair, shared, filters):
    client, victim = pair
    values = {"id": victim.call("CLIENT", "ID"), "addr": address_of(victim), "laddr": f"127.0.0.1:{shared.port}"}
    assert client.call("CLIENT", "KILL", *[word.format(**values) for word in filters]) == 1
    assert victim.closed_within()
    assert client.call("PING") == "PONG"


def test_kill_old_form(pair):
    client, victim = pair
    assert client.call("CLIENT", "KILL", address_of(victim)) == "OK"
    assert victim.closed_within()


def test_kill_matches_nobody(pair):
    client, other = pair
    number = other.call("CLIENT", "ID")
    assert client.call("CLIENT", "KILL", "ID", number, "ADDR", "1.2.3.4:5") == 0
    assert client.call("CLIENT", "KILL", "TYPE", "pubsub") == 0
    assert client.call("CLIENT", "KILL", "TYPE", "replica") == 0
    assert client.call("CLIENT", "KILL", "LADDR", "127.0.0.1:1") == 0
    assert other.call("PING") == "PONG"


def test_kill_myself(shared):
    with shared.raw() as one:
        number = one.call("CLIENT", "ID")
        one.send(encode_command("CLIENT", "KILL", "ID", number, "SKIPME", "no") + encode_command("SET", "after", "1"))
        assert one.read_until_close() == b":1\r\n"
    with shared.raw() as one:
        assert one.call("EXISTS", "after") == 0
        assert one.call("CLIENT", "KILL", address_of(one)) == "OK"
        assert one.closed_within()


def test_kill_many(server):
    clients = [server.raw() for _ in range(50)]
    for number, one in enumerate(clients):
        one.call("PING")
        if number % 2:
            one.pipeline([("WATCH", "k"), ("MULTI",), ("SET", "k", "v")])
    killer = server.raw()
    assert killer.call("CLIENT", "KILL", "TYPE", "normal") == 50
    assert all(one.closed_within() for one in clients)
    assert killer.call("EXISTS", "k") == 0


def test_kill_in_a_transaction(pair):
    client, victim = pair
    number = victim.call("CLIENT", "ID")
    replies = client.pipeline([("MULTI",), ("CLIENT", "KILL", "ID", number), ("SET", "k", "v"), ("EXEC",)])
    assert replies[-1] == [1, "OK"]
    assert victim.closed_within()


# --- CLIENT PAUSE -----------------------------------------------------------------------------------------------


def test_pause_writes(server):
    client, writer, reader = server.raw(), server.raw(), server.raw()
    assert client.call("SET", "k", "0") == "OK"
    assert client.call("CLIENT", "PAUSE", 100_000, "WRITE") == "OK"
    writer.send_command("SET", "k", "1")
    assert reader.call("GET", "k") == b"0"
    assert writer.silent(0.2)
    assert reader.call("GET", "k") == b"0"
    assert client.call("CLIENT", "UNPAUSE") == "OK"
    assert writer.read() == "OK"
    assert reader.call("GET", "k") == b"1"


def test_pause_ends_by_itself(server):
    client, writer = server.raw(), server.raw()
    begin = time.monotonic()
    assert client.call("CLIENT", "PAUSE", 300, "WRITE") == "OK"
    assert writer.pipeline([("SET", "k", "1"), ("GET", "k")]) == ["OK", b"1"]
    assert time.monotonic() - begin > 0.25


def test_pause_all(server):
    client, reader = server.raw(), server.raw()
    assert reader.call("PING") == "PONG"

    def pause(scale):
        assert client.call("CLIENT", "PAUSE", 400 * scale, "ALL") == "OK"
        begin = time.monotonic()
        reader.send_command("GET", "k")
        silent = reader.silent(0.2 * scale)
        assert reader.read() is None
        assert silent and time.monotonic() - begin > 0.25 * scale

    at_some_pace(pause)


def test_pause_holds_transactions_with_writes(server):
    client, writer, reader = server.raw(), server.raw(), server.raw()
    assert writer.pipeline([("MULTI",), ("SET", "k", "1")]) == ["OK", "QUEUED"]
    assert client.call("CLIENT", "PAUSE", 100_000, "WRITE") == "OK"
    assert reader.pipeline([("MULTI",), ("GET", "k"), ("EXEC",)]) == ["OK", "QUEUED", [None]]
    writer.send_command("EXEC")
    assert writer.silent(0.2)
    assert reader.call("GET", "k") is None
    assert client.call("CLIENT", "UNPAUSE") == "OK"
    assert writer.read() == ["OK"]


def test_pause_keeps_expired_keys_unseen(server):
    client, reader = server.raw(), server.raw()
    client.pipeline([("SET", "k", "v", "PX", "50"), ("CLIENT", "PAUSE", 100_000, "WRITE")])
    time.sleep(0.15 * harness.SLOWNESS)
    assert reader.call("GET", "k") is None
    assert client.call("CLIENT", "UNPAUSE") == "OK"


def test_paused_client_that_leaves(server):
    client = server.raw()
    client.call("CLIENT", "PAUSE", 100_000, "WRITE")
    for number in range(20):
        with RawClient(*server.address()) as one:
            one.send(encode_command("SET", "k", number) * 3)
    with RawClient(*server.address()) as killed:
        number = killed.call("CLIENT", "ID")
        killed.send_command("SET", "k", "x")
        assert killed.silent(0.05)
        assert client.call("CLIENT", "KILL", "ID", number) == 1
        assert killed.closed_within()
    assert client.call("CLIENT", "UNPAUSE") == "OK"
    assert client.call("SET", "k", "end") == "OK"


# --- CLIENT REPLY and NO-TOUCH ----------------------------------------------------------------------------------


def test_reply_off_and_skip(client):
    client.send(encode_command("CLIENT", "REPLY", "OFF") + encode_command("SET", "a", "1") * 50
                + encode_command("NOSUCH") + encode_command("CLIENT", "REPLY", "ON") + encode_command("GET", "a"))
    assert [client.read(), client.read()] == ["OK", b"1"]
    client.send(encode_command("CLIENT", "REPLY", "SKIP") + encode_command("INCR", "a") + encode_command("INCR", "a"))
    assert client.read() == 3
    assert client.silent(0.05)


def test_help(client):
    for command in ("CLIENT", "CONFIG", "COMMAND", "OBJECT", "DEBUG"):
        lines = client.call(command, "HELP")
        assert lines[0] == f"{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
        assert lines[-2] == "HELP" and re.fullmatch(r" +Prints? this help\.", lines[-1])


@pytest.mark.long
def test_no_touch(server):
    """NO-TOUCH (7.2) and reads: OBJECT IDLETIME goes on growing."""
    if harness.VERSION < (7, 2):
        pytest.skip("the stand-in server is older than 7.2")
    client = server.raw()
    assert client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru") == "OK"
    client.call("SET", "k", "v")
    assert client.call("CLIENT", "NO-TOUCH", "ON") == "OK"
    end = time.monotonic() + 2.6
    while time.monotonic() < end:
        assert client.call("GET", "k") == b"v"
        time.sleep(0.2)
    assert client.call("OBJECT", "IDLETIME", "k") >= 1
    assert client.call("TOUCH", "k") == 1
    assert client.call("CLIENT", "NO-TOUCH", "OFF") == "OK"
    begin = time.monotonic()
    assert client.call("GET", "k") == b"v"
    assert client.call("OBJECT", "IDLETIME", "k") <= time.monotonic() - begin + 1
    assert not isinstance(client.call("CLIENT", "LIST"), ReplyError)
