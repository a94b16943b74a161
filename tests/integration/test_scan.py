"""SCAN's guarantee under change, and RANDOMKEY's fairness."""

import random
import threading
import time
from collections import Counter

import pytest

import harness
from bystander import Bystander
from resp import RawClient


def scan_all(client, *options, limit=2_000_000):
    """One full iteration: the list of all returned keys, with repetitions."""
    cursor, found = b"0", []
    for _ in range(limit):
        cursor, keys = client.call("SCAN", cursor, *options)
        found += keys
        if cursor == b"0":
            return found
    raise AssertionError("the iteration does not end")


def fill(client, names, value="v"):
    names = list(names)
    for at in range(0, len(names), 5000):
        client.call("MSET", *[word for name in names[at:at + 5000] for word in (name, value)])


class Churn:
    """A thread that lets the key space grow and shrink many times over, so that tables are rebuilt."""

    def __init__(self, server, name, size, everything=False):
        self.client = RawClient(*server.address(), timeout=harness.HANG_SECONDS * harness.SLOWNESS)
        self.name, self.size = name, size
        self.everything = everything
        self.stopping = threading.Event()
        self.turns = 0
        self.failure = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self.stopping.is_set():
                names = [self.name.format(number) for number in range(self.size)]
                for at in range(0, self.size, 500):
                    part = names[at:at + 500]
                    self.client.call("MSET", *[word for name in part for word in (name, "churn")])
                for at in range(0, self.size, 500):
                    self.client.call("DEL", *names[at:at + 500])
                self.turns += 1
        except Exception as error:  # noqa: B902  reported by __exit__
            self.failure = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(harness.HANG_SECONDS * harness.SLOWNESS)
        self.client.close()
        if kind is None:
            assert self.failure is None, self.failure


@pytest.mark.smoke
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_quiet_scan_finds_all(client, count):
    """Nothing changes: every key, and only keys that exist."""
    names = {f"key:{number}" for number in range(3000)} | {f"{{tag}}{number}" for number in range(500)}
    fill(client, names)
    found = scan_all(client, "COUNT", count)
    assert {name.decode() for name in found} == names
    if harness.IS_SLOTWISE:
        assert len(found) == len(names)


@pytest.mark.smoke
def test_scan_filters(client):
    fill(client, (f"{letter}:{number}" for letter in "abc" for number in range(700)))
    found = scan_all(client, "MATCH", "a:*", "COUNT", 50)
    assert {name.decode() for name in found} == {f"a:{number}" for number in range(700)}
    found = scan_all(client, "MATCH", "?:1?", "TYPE", "string")
    assert {name.decode() for name in found} == {f"{letter}:1{digit}" for letter in "abc" for digit in range(10)}
    assert scan_all(client, "TYPE", "list") == []
    assert scan_all(client, "MATCH", "nothing*") == []
    assert scan_all(client, "MATCH", "b:500", "COUNT", 10) == [b"b:500"]


@pytest.mark.smoke
def test_scan_of_each_database(client):
    for database in range(16):
        client.call("SELECT", database)
        fill(client, (f"{database}:{number}" for number in range(50)))
    for database in range(16):
        client.call("SELECT", database)
        assert {name.decode() for name in scan_all(client)} == {f"{database}:{number}" for number in range(50)}


@pytest.mark.smoke
def test_any_cursor_is_safe(client):
    fill(client, (f"key:{number}" for number in range(1000)))
    generator = random.Random(1)
    cursors = [2**64 - 1, 2**63, 2**53, 2**53 - 1, 2**48, 16384, 16383, 1]
    cursors += [generator.getrandbits(generator.randrange(1, 65)) for _ in range(500)]
    for cursor in cursors:
        reply = client.call("SCAN", cursor, "COUNT", 5)
        assert isinstance(reply, list) and len(reply) == 2 and all(key.startswith(b"key:") for key in reply[1])


@pytest.mark.slotwise
def test_cursors_are_exact_as_doubles(client):
    """Some clients parse cursors as doubles."""
    fill(client, [f"key:{number}" for number in range(2000)] + [f"{{tag}}{number}" for number in range(2000)])
    cursor = b"0"
    while True:
        cursor, _ = client.call("SCAN", cursor, "COUNT", 7)
        assert int(cursor) < 2**53
        if cursor == b"0":
            break


@pytest.mark.smoke
def test_scan_hides_expired_keys(server):
    client = server.raw()
    assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"
    client.pipeline([("SET", f"k{number}", "v", "PX", 1) for number in range(500)] + [("SET", "stays", "v")])
    time.sleep(0.05)
    assert scan_all(client, "COUNT", 20) == [b"stays"]
    assert client.call("KEYS", "*") == [b"stays"]


@pytest.mark.parametrize("permanent,churn", [("key:{}", "churn:{}"), ("{{tag}}{}", "{{tag}}churn{}"),
                                             ("key:{}", "{{tag}}churn{}"), ("{{tag}}{}", "churn:{}")],
                         ids=["spread", "one slot", "spread, one slot changes", "one slot, the rest changes"])
def test_scan_during_rebuilds(any_server, permanent, churn):
    """Every key that is there all the time is returned by every full iteration, whatever else comes and goes."""
    client = any_server.raw()
    names = {permanent.format(number).encode() for number in range(1000)}
    fill(client, (name.decode() for name in names))
    end = time.monotonic() + harness.LOAD_SECONDS
    turns = 0
    with Churn(any_server, churn, 20_000), Bystander(any_server):
        while time.monotonic() < end or turns < 3:
            found = set(scan_all(client, "COUNT", [10, 100, 1000, 37][turns % 4]))
            missing = names - found
            assert not missing, f"iteration {turns} missed {len(missing)} of {len(names)}, as {min(missing)}"
            prefix = churn.split("{}")[0].format().encode()
            strangers = {name for name in found - names if not name.startswith(prefix) and name != b"bystander"}
            assert not strangers, strangers
            turns += 1


def test_interleaved_scans(any_server):
    """Many iterations at different places, while others write."""
    server = any_server
    client = server.raw()
    names = {f"key:{number}".encode() for number in range(2000)}
    fill(client, (name.decode() for name in names))
    iterations = [[b"0", set(), count] for count in (3, 10, 33, 100, 333) for _ in range(3)]
    active = list(iterations)
    generator = random.Random(2)
    with Churn(server, "churn:{}", 5000):
        while active:
            iteration = generator.choice(active)
            iteration[0], keys = client.call("SCAN", iteration[0], "COUNT", iteration[2])
            iteration[1].update(keys)
            if iteration[0] == b"0":
                active.remove(iteration)
    for _, found, count in iterations:
        assert names <= found, (count, len(names - found))


@pytest.mark.smoke
def test_random_key_is_fair(client):
    """Half of the keys in one slot, half spread: both halves come up equally often, and all keys do."""
    spread = [f"key:{number}" for number in range(500)]
    together = [f"{{tag}}{number}" for number in range(500)]
    fill(client, spread + together)
    samples = 10_000
    counted = Counter()
    for _ in range(samples // 500):
        counted.update(client.pipeline([("RANDOMKEY",)] * 500))
    share = sum(count for name, count in counted.items() if name.startswith(b"{tag}")) / samples
    assert 0.4 < share < 0.6, f"{share:.3f} of the samples come from the full slot"
    assert len(counted) > 900, f"only {len(counted)} of 1000 keys came up in {samples} samples"
    # Each is expected 10 times; the stock server's buckets make some three times as likely.
    assert max(counted.values()) < 70, counted.most_common(3)
    if harness.IS_SLOTWISE:
        chi_square = sum((counted[name.encode()] - 10) ** 2 / 10 for name in spread + together)
        # 999 degrees of freedom: mean 999, deviation 45 for a perfectly uniform choice; buckets cost something.
        assert chi_square < 3000, chi_square


@pytest.mark.smoke
def test_random_key_among_expired(server):
    client = server.raw()
    assert client.call("DEBUG", "SET-ACTIVE-EXPIRE", "0") == "OK"
    client.pipeline([("SET", f"k{number}", "v", "PX", 1) for number in range(1000)] + [("SET", "stays", "v")])
    time.sleep(0.05)
    with Bystander(server):
        for _ in range(20):
            assert client.call("RANDOMKEY") in (b"stays", b"bystander")
