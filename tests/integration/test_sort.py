"""SORT and SORT_RO, beside a stock server: every type, BY and GET through strings and hashes, LIMIT, STORE, errors."""

import os
import random

import pytest

import harness

SEED = int(os.environ.get("SLOTWISE_SEED", "1"))
SMOKE = True


@pytest.fixture
def pair(server, oracle):
    generator = random.Random(SEED)
    clients = [server.raw(), oracle.raw()]
    numbers = generator.sample(range(-500, 500), 60)
    words = [f"w{number}{'x' * (number % 5)}" for number in numbers]
    commands = [("RPUSH", "numbers", *numbers, 1.5, "-0.25", "1e3"), ("RPUSH", "words", *words, "", "Z"), ("SADD", "set", *numbers),
                ("SADD", "wordset", *words), ("ZADD", "zset", *[item for number in numbers for item in (number % 7, number)]),
                ("RPUSH", "large", *[generator.randrange(10 ** 9) for _ in range(harness.scaled(3000))]), ("RPUSH", "twice", *numbers, *numbers),
                ("SET", "string", "x"), ("HSET", "hash", "f", "v")]
    for number in numbers:
        if number % 3:
            commands.append(("SET", f"weight_{number}", (number * 7919) % 1000))
        if number % 4:
            commands.append(("HSET", f"object_{number}", "weight", (number * 31) % 97, "name", f"n{number % 10}", "empty", ""))
    commands += [("SET", "weight_text", "no number"), ("LPUSH", "text", "text"), ("SET", "float_1", "1.5"), ("SET", "float_2", "-3")]
    for client in clients:
        for command in commands:
            client.call_raw(*command)
    return clients


def both(pair, *command):
    replies = [client.call_raw(*command) for client in pair]
    assert replies[0] == replies[1], f"{command!r:.200}\n{replies[0]!r:.400}\n{replies[1]!r:.400}"
    return replies[0]


def test_orders(pair):
    for key in ("numbers", "set", "zset", "twice", "none", "large"):
        for options in ((), ("DESC",), ("ALPHA",), ("ALPHA", "desc"), ("LIMIT", "3", "5"), ("LIMIT", "-3", "5", "DESC"), ("LIMIT", "5", "-1"),
                        ("LIMIT", "1000000", "5"), ("LIMIT", "0", "0"), ("BY", "weight_*"), ("BY", "weight_*", "DESC"), ("BY", "weight_*", "ALPHA"),
                        ("BY", "object_*->weight"), ("BY", "object_*->weight", "LIMIT", "2", "9"), ("BY", "object_*->none"),
                        ("GET", "#", "GET", "weight_*"), ("GET", "object_*->name", "GET", "object_*->empty", "GET", "none", "GET", "no_*"),
                        ("GET", "object_*->"), ("GET", "weight_*->x"), ("GET", "object_*"), ("BY", "weight_*", "GET", "#", "ASC", "DESC")):
            if "BY" in options and (key == "twice" or (key in ("set", "zset") and "ALPHA" in options)):
                continue  # those of equal weight come in any order
            both(pair, "SORT", key, *options)
            both(pair, "SORT_RO", key, *options)
    for key in ("words", "wordset"):
        for options in (("ALPHA",), ("ALPHA", "DESC"), ("ALPHA", "LIMIT", "5", "10")):
            both(pair, "SORT", key, *options)


def test_unsorted(pair):
    for key in ("numbers", "zset", "words"):
        for options in ((), ("DESC",), ("LIMIT", "3", "5"), ("DESC", "LIMIT", "3", "5"), ("GET", "weight_*")):
            both(pair, "SORT", key, "BY", "nosort", *options)


def test_stored(pair):
    for command in (("SORT", "numbers", "STORE", "to"), ("SORT", "zset", "GET", "object_*->name", "GET", "#", "STORE", "to"),
                    ("SORT", "set", "BY", "nosort", "STORE", "to"), ("SORT", "wordset", "ALPHA", "DESC", "STORE", "words"),
                    ("SORT", "numbers", "STORE", "a", "STORE", "numbers"), ("SORT", "numbers", "LIMIT", "0", "0", "STORE", "numbers"),
                    ("SORT", "none", "STORE", "to"), ("SORT", "none", "STORE", "string"), ("SORT", "large", "STORE", "large")):
        both(pair, *command)
        both(pair, "LRANGE", command[-1], 0, -1)
        both(pair, "TYPE", command[-1])


def test_errors(pair):
    for command in (("SORT", "words"), ("SORT", "text", "BY", "weight_*"), ("SORT", "string"), ("SORT", "hash"), ("SORT", "numbers", "LIMIT", "1"),
                    ("SORT", "numbers", "LIMIT", "x", "1"), ("SORT", "numbers", "BY"), ("SORT", "numbers", "GET"), ("SORT", "numbers", "STORE"),
                    ("SORT_RO", "numbers", "STORE", "x"), ("SORT", "numbers", "BOGUS"), ("SORT",), ("SORT", "words", "STORE", "numbers"),
                    ("COMMAND", "GETKEYS", "SORT", "a", "LIMIT", "1", "2", "BY", "store", "STORE", "b"),
                    ("COMMAND", "GETKEYS", "SORT_RO", "a", "GET", "b*")):
        both(pair, *command)


@pytest.mark.slotwise
def test_waiters_and_transactions(start):
    server = start(threads=2)
    client, waiter = server.raw(), server.raw()
    client.call("RPUSH", "k", "3", "1", "2")
    waiter.send_command("BRPOP", "to", "0")
    harness.wait_until(lambda: server.info("clients")["blocked_clients"] == "1")
    assert client.call("SORT", "k", "STORE", "to") == 3
    assert waiter.read() == [b"to", b"3"]
    client.pipeline([("MULTI",), ("SORT", "k"), ("SORT", "k", "DESC", "STORE", "to"), ("LRANGE", "to", "0", "-1")])
    assert client.call("EXEC") == [[b"1", b"2", b"3"], 3, [b"3", b"2", b"1"]]
