"""maxmemory-clients: the clients that take most are disconnected when all together take too much."""

import contextlib
import re

import pytest

import harness
from harness import wait_until
from resp import ReplyError, encode_command

MB = 1 << 20
pytestmark = pytest.mark.slotwise


def evicted(admin):
    return int(re.search(rb"evicted_clients:(\d+)", admin.call("INFO", "stats"))[1])


def memory_of(admin):
    """tot-mem by name, of the clients that have one."""
    lines = admin.call("CLIENT", "LIST").decode().splitlines()
    return {name[1]: int(re.search(r" tot-mem=(\d+)", line)[1])
            for line in lines if (name := re.search(r" name=(\S+)", line))}


def named(server, name):
    client = server.raw()
    assert client.call("CLIENT", "SETNAME", name) == "OK"
    return client


def administrator(server):
    admin = server.raw()
    assert admin.call("CLIENT", "NO-EVICT", "on") == "OK"
    return admin


def fill_query(server, name, size):
    """A command that never ends: its bytes wait in the query buffer."""
    client = named(server, name)
    client.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (100 * MB) + b"x" * size)
    return client


def fill_transaction(server, name, size):
    client = named(server, name)
    assert client.call("MULTI") == "OK"
    assert client.call("SET", "k", "x" * size) == "QUEUED"
    return client


def fill_output(server, name, size):
    """Replies that nobody reads, beyond what the sockets' buffers hold."""
    client = named(server, name)
    assert client.call("SET", "large", "x" * MB) == "OK"
    client.send(encode_command("GET", "large") * (size // MB + 12))
    return client


@pytest.mark.parametrize("fill", [fill_query, fill_transaction, fill_output])
def test_memory_of_every_kind_counts(start, backend, fill):
    server = start(backend=backend, threads=2)
    admin, small = administrator(server), named(server, "small")
    fill(server, "big", 5 * MB)
    wait_until(lambda: memory_of(admin).get("big", 0) > 4 * MB, what="a big client")
    assert evicted(admin) == 0
    assert admin.call("CONFIG", "SET", "maxmemory-clients", "2mb") == "OK"
    wait_until(lambda: "big" not in memory_of(admin), what="the eviction of the big client")
    assert evicted(admin) == 1
    assert small.call("PING") == "PONG"
    assert re.search(r"Evicting client: id=\d+ addr=.* name=big .* tot-mem=\d+", server.log())
    again = server.raw()  # it may be gone before all is sent
    with contextlib.suppress(OSError):
        again.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (100 * MB) + b"x" * (5 * MB))
    wait_until(lambda: evicted(admin) == 2, what="another eviction")
    assert admin.call("CONFIG", "RESETSTAT") == "OK"
    assert evicted(admin) == 0


def test_protected_clients_stay(start, backend):
    server = start(backend=backend, threads=2)
    admin = administrator(server)
    protected = named(server, "protected")
    assert protected.call("CLIENT", "NO-EVICT", "on") == "OK"
    protected.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (6 * MB) + b"x" * (4 * MB))
    wait_until(lambda: memory_of(admin)["protected"] > 3 * MB, what="a big client")
    assert admin.call("CONFIG", "SET", "maxmemory-clients", "3mb") == "OK"
    other = server.raw()  # takes next to nothing, but the limit is reached
    assert other.closed_within(harness.HANG_SECONDS * harness.SLOWNESS)
    protected.send(b"x" * (2 * MB) + b"\r\n")
    assert protected.read() is None
    assert evicted(admin) >= 1


def test_the_biggest_go_first_and_no_more_than_needed(start, backend):
    server = start(backend=backend, threads=2)
    admin = administrator(server)
    sizes = {"five": 5, "four": 4, "three": 3, "two": 2, "one": 1}
    clients = [fill_transaction(server, name, size * MB) for name, size in sizes.items()]
    assert sum(memory_of(admin).values()) > 15 * MB
    assert admin.call("CONFIG", "SET", "maxmemory-clients", "8mb") == "OK"
    wait_until(lambda: evicted(admin) >= 2, what="two evictions")
    names = set(memory_of(admin))
    assert {"five", "four"}.isdisjoint(names) and {"three", "two", "one"} <= names
    for client in clients[2:]:
        assert client.call("EXEC") == ["OK"]
    assert evicted(admin) == 2


def test_a_part_of_maxmemory(start):
    server = start({"maxmemory": "100mb", "maxmemory-clients": "5%"})
    admin = administrator(server)
    assert admin.call("CONFIG", "GET", "maxmemory-clients") == [b"maxmemory-clients", b"5%"]
    fill_transaction(server, "below", MB)
    above = named(server, "above")
    with contextlib.suppress(OSError):
        above.send(b"*2\r\n$3\r\nGET\r\n$%d\r\n" % (100 * MB) + b"x" * (8 * MB))
    wait_until(lambda: evicted(admin) == 1, what="an eviction")
    assert "below" in memory_of(admin)
    assert admin.call("CONFIG", "SET", "maxmemory-clients", "101%") == ReplyError(
        "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less or "
        "equal to 100")


def test_off_by_default(start):
    server = start()
    admin = administrator(server)
    big = fill_transaction(server, "big", 50 * MB)
    assert big.call("EXEC") == ["OK"]
    assert evicted(admin) == 0


def test_a_transaction_that_grows_over_the_limit(start, backend):
    """It is gone before the next command, whoever sends it, not some time later."""
    server = start({"maxmemory-clients": 3 * MB}, backend=backend, threads=2)
    admin = administrator(server)
    for count in range(1, 16):
        client = named(server, "growing")
        assert client.call("MULTI") == "OK"
        for _ in range(3):
            assert client.call("SET", "k", "x" * (3 * MB // 4)) == "QUEUED"
            assert "growing" in memory_of(admin)
        with contextlib.suppress(OSError):
            client.send(encode_command("SET", "k", "x" * (3 * MB // 4)))
            client.read()
        assert "growing" not in memory_of(admin) and evicted(admin) == count
        client.close()


def test_a_lower_limit_holds_at_once(start, backend):
    """CONFIG SET replies when it does, and no more have gone than had to."""
    server = start(backend=backend, threads=2)
    admin = named(server, "admin")
    assert admin.call("CLIENT", "NO-EVICT", "on") == "OK"
    for _ in range(3):
        clients = [named(server, f"client{number}") for number in range(10)]
        for client in clients:
            client.send(b"*2\r\n$%d\r\n" % MB + b"x" * MB)
        wait_until(lambda: sum(bytes > MB for bytes in memory_of(admin).values()) == 10, what="ten big clients")
        before = memory_of(admin)
        biggest = max(before.values())
        assert min(bytes for name, bytes in before.items() if name != "admin") > biggest * 0.99
        assert admin.call("CONFIG", "SET", "maxmemory-clients", 5 * biggest + before["admin"]) == "OK"
        after = memory_of(admin)
        assert len(after) == 6 and sum(after.values()) <= 5 * biggest + before["admin"]
        assert admin.call("CONFIG", "SET", "maxmemory-clients", 0) == "OK"
        for client in clients:
            client.close()
        wait_until(lambda: len(memory_of(admin)) == 1, what="the end of the clients")


INCOMPLETE = {
    "one whole argument": b"*2\r\n$3\r\nGET\r\n$100\r\nabcde",
    "the announcement only": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n",
    "a part of a large one": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n" + b"x" * 5000,
    "a part of the announcement": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10000",
    "a part of a line": b"SET k",
}


@pytest.mark.parametrize("what", INCOMPLETE)
def test_what_is_listed_of_a_command_that_arrives(start, oracle, what):
    found = []
    for server in (start(threads=2), oracle):
        admin, client = named(server, "admin"), named(server, "client")
        client.send(INCOMPLETE[what])

        def fields():
            lines = admin.call("CLIENT", "LIST").decode().splitlines()
            line = next(line for line in lines if " name=client " in line)
            return {name: int(re.search(rf" {name}=(\d+)", line)[1])
                    for name in ("qbuf", "argv-mem", "multi-mem", "obl", "oll", "omem")}

        wait_until(lambda: fields()["qbuf"] + fields()["argv-mem"] > 0, what="the beginning of the command")
        found.append(fields())
    assert found[0] == found[1]
