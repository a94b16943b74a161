"""Concurrent clients against the live server: what they saw must be explained by one order of all commands."""

import random
import time

import pytest

import harness
from linearizability import (Operation, TooHard, absent_state, check_counter, check_message_passing,
                             check_store_buffer, check_unique_writes, find_order, register_step, several_step,
                             shortest_wrong_start)
from load import connect, deadline_after, encode_all, run_clients

MODULE_SECONDS = 140
now = time.monotonic_ns


@pytest.fixture(params=[2, 4])
def busy_server(start, backend, request):
    return start(backend=backend, threads=request.param)


# --- histories of arbitrary commands ------------------------------------------------------------------------

ROUND_SECONDS = 0.03


def single_key_client(address, number, deadline):
    """Small pipelines of all kinds of commands on one key; a new key every few milliseconds."""
    generator = random.Random(number)
    connections = connect(address, 2)
    operations = {}
    count = 0
    while deadline.ahead():
        key = b"h:%d" % int(time.monotonic() / ROUND_SECONDS)
        in_flight = []
        for lane, connection in enumerate(connections):
            requests = []
            for _ in range(generator.choice([1, 1, 2, 3])):
                count += 1
                value = b"%d%02d" % (count, number)
                requests.append(generator.choice([
                    ("GET",), ("GET",), ("GET",), ("SET", value), ("SET", value), ("GETSET", value), ("DEL",),
                    ("SETNX", value), ("GETDEL",), ("EXISTS",), ("STRLEN",), ("APPEND", b"x%d" % number)]))
            invoked = now()
            connection.send(encode_all([(r[0], key) + r[1:] for r in requests]))
            in_flight.append((lane, connection, requests, invoked))
        for lane, connection, requests, invoked in in_flight:
            for request in requests:
                result = connection.read()
                operations.setdefault(key, []).append(
                    Operation((number, lane), invoked, now(), request, result))
        time.sleep(generator.random() * 0.0005)
    return operations


def gather(results):
    """The histories of all clients, by key."""
    histories = {}
    for result in results:
        for key, operations in result.items():
            histories.setdefault(key, []).extend(operations)
    return histories


def explain_all(histories, step, initial, least):
    """Find an order for each history; a few may be too hard, none may be wrong."""
    hard = explained = 0
    stop = time.monotonic() + 15 * harness.SLOWNESS
    for key, operations in sorted(histories.items()):
        if explained >= least and time.monotonic() > stop:
            break
        try:
            order = find_order(operations, step, initial, 200_000)
        except TooHard:
            hard += 1
            continue
        if order is None:
            lines = "\n".join(map(str, shortest_wrong_start(operations, step, initial)[-40:]))
            raise AssertionError(f"no order explains what the clients saw of {key!r}; at the end of\n{lines}")
        explained += 1
    assert explained >= least and hard <= explained, (explained, hard, len(histories))


@pytest.mark.smoke
def test_commands_on_one_key(threaded_server):
    deadline = deadline_after()
    results = run_clients([(single_key_client, threaded_server.address(), n, deadline) for n in range(3)])
    explain_all(gather(results), register_step, absent_state(), 3)


def several_keys_client(address, number, deadline, keys):
    """Commands on several keys of different slots: MGET, MSET, MULTI and single ones."""
    generator = random.Random(number)
    connections = connect(address, 2)
    operations = {}
    count = 0

    def simple():
        nonlocal count
        count += 1
        index = generator.randrange(keys)
        return generator.choice([("GET", index), ("GET", index), ("SET", index, b"%d%02d" % (count, number)),
                                 ("DEL", index), ("APPEND", index, b"x%d" % number)])

    def request():
        nonlocal count
        kind = generator.random()
        if kind < 0.4:
            return simple()
        some = tuple(generator.sample(range(keys), generator.randrange(2, keys + 1)))
        if kind < 0.6:
            return ("MGET", some)
        if kind < 0.75:
            count += 1
            return ("MSET", some, tuple(b"%d%02d" % (count, number) for _ in some))
        return ("MULTI", [simple() for _ in range(generator.randrange(2, 4))])

    def commands(request, names):
        if request[0] == "MGET":
            return [("MGET", *(names[index] for index in request[1]))]
        if request[0] == "MSET":
            return [("MSET", *(word for index, value in zip(request[1], request[2])
                               for word in (names[index], value)))]
        if request[0] == "MULTI":
            return [("MULTI",)] + [one for inner in request[1] for one in commands(inner, names)] + [("EXEC",)]
        return [(request[0], names[request[1]]) + request[2:]]

    while deadline.ahead():
        turn = int(time.monotonic() / ROUND_SECONDS)
        names = [b"m:%d:%d" % (turn, index) for index in range(keys)]
        in_flight = []
        for lane, connection in enumerate(connections):
            requests = [request() for _ in range(generator.choice([1, 1, 2]))]
            invoked = now()
            connection.send(encode_all([one for r in requests for one in commands(r, names)]))
            in_flight.append((lane, connection, requests, invoked))
        for lane, connection, requests, invoked in in_flight:
            for one in requests:
                if one[0] == "MULTI":
                    for _ in range(len(one[1]) + 1):
                        connection.read()
                result = connection.read()
                operations.setdefault(turn, []).append(Operation((number, lane), invoked, now(), one, result))
        time.sleep(generator.random() * 0.0005)
    return operations


def test_commands_on_several_keys(threaded_server):
    deadline = deadline_after()
    results = run_clients([(several_keys_client, threaded_server.address(), n, deadline, 3) for n in range(3)])
    explain_all(gather(results), several_step, absent_state(3), 3)


# --- registers at full speed --------------------------------------------------------------------------------


def register_client(address, number, deadline, keys, depth):
    generator = random.Random(number)
    connections = connect(address, 2)
    operations = {key: [] for key in keys}
    count = 0
    while deadline.ahead():
        in_flight = []
        for connection in connections:
            requests = []
            for _ in range(depth):
                key = generator.choice(keys)
                if generator.random() < 0.3:
                    count += 1
                    requests.append((key, ("SET", b"%d.%d" % (number, count))))
                else:
                    requests.append((key, ("GET",)))
            data = encode_all([(r[0], key) + r[1:] for key, r in requests])
            invoked = now()
            connection.send(data)
            in_flight.append((connection, requests, invoked))
        for connection, requests, invoked in in_flight:
            for key, request in requests:
                result = connection.read()
                operations[key].append(Operation(number, invoked, now(), request, result))
    return operations


@pytest.mark.parametrize("depth", [1, 16])
def test_registers(busy_server, depth):
    keys = harness.keys_in_distinct_slots(3, "r")
    deadline = deadline_after(turns=100)
    histories = gather(run_clients(
        [(register_client, busy_server.address(), n, deadline, keys, depth) for n in range(4)]))
    for key, operations in histories.items():
        complaint = check_unique_writes(operations)
        assert complaint is None, f"{key}: {complaint}"
    assert sum(map(len, histories.values())) >= 4 * 2 * 100 * depth


# --- counters -------------------------------------------------------------------------------------------------


def counter_client(address, deadline, keys, depth):
    connections = connect(address, 2)
    results = {key: [] for key in keys}
    batch = [keys[i % len(keys)] for i in range(depth)]
    data = encode_all([("INCR", key) for key in batch])
    last = [dict.fromkeys(keys, 0) for _ in connections]
    while deadline.ahead():
        sent = []
        for connection in connections:
            sent.append(now())
            connection.send(data)
        for lane, connection in enumerate(connections):
            for key in batch:
                value = connection.read()
                assert value > last[lane][key], f"{key}: {value} after {last[lane][key]} on one connection"
                last[lane][key] = value
                results[key].append((sent[lane], now(), value))
    return results


@pytest.mark.parametrize("depth", [1, 32])
def test_counters(busy_server, depth):
    keys = harness.keys_in_distinct_slots(2, "counter")
    deadline = deadline_after()
    results = gather(run_clients([(counter_client, busy_server.address(), deadline, keys, depth) for _ in range(4)]))
    for key in keys:
        complaint = check_counter(results[key])
        assert complaint is None, f"{key}: {complaint}"
        assert int(busy_server.call("GET", key) or 0) == len(results[key])


def optimistic_client(address, deadline, key):
    """Increments by WATCH, GET, MULTI, SET, EXEC."""
    connection, = connect(address, 1)
    successes = failures = 0
    while deadline.ahead():
        connection.send(encode_all([("WATCH", key), ("GET", key)]))
        connection.read()
        value = int(connection.read() or 0)
        connection.send(encode_all([("MULTI",), ("SET", key, value + 1), ("EXEC",)]))
        connection.read()
        connection.read()
        if connection.read() is None:
            failures += 1
        else:
            successes += 1
    return successes, failures


def test_watch_loses_no_update(busy_server):
    deadline = deadline_after()
    results = run_clients([(optimistic_client, busy_server.address(), deadline, "w") for _ in range(4)])
    successes = sum(result[0] for result in results)
    assert successes > 0
    assert int(busy_server.call("GET", "w")) == successes


def append_client(address, number, deadline, key, depth):
    """Appends numbered marks of fixed width; each reply tells where the mark ended."""
    connection, = connect(address, 1)
    places, count = [], 0
    while deadline.ahead() and count < 3000:
        marks = [b"<%d:%06d>" % (number, count + i) for i in range(depth)]
        connection.send(encode_all([("APPEND", key, mark) for mark in marks]))
        for mark in marks:
            places.append((connection.read(), mark))
        count += depth
    return places


def test_appends_are_all_there(busy_server):
    deadline = deadline_after()
    results = run_clients([(append_client, busy_server.address(), n, deadline, "a", 5) for n in range(4)])
    value = busy_server.call("GET", "a")
    assert len(value) == sum(len(places) * 10 for places in results)
    for places in results:
        last = 0
        for end, mark in places:
            assert value[end - 10:end] == mark
            assert end > last, "the appends of one connection changed places"
            last = end


# --- transactions and snapshots -------------------------------------------------------------------------------


def transfer_client(address, number, deadline, accounts):
    generator = random.Random(number)
    connections = connect(address, 2)
    while deadline.ahead():
        for connection in connections:
            commands = []
            for _ in range(3):
                source, target = generator.sample(accounts, 2)
                amount = generator.randrange(1, 100)
                commands += [("MULTI",), ("DECRBY", source, amount), ("INCRBY", target, amount), ("EXEC",)]
            connection.send(encode_all(commands))
        for connection in connections:
            for _ in range(3):
                for _ in range(3):
                    connection.read()
                assert len(connection.read()) == 2


def sum_reader(address, deadline, accounts, total, how):
    connection, = connect(address, 1)
    if how == "MGET":
        data, replies = encode_all([("MGET", *accounts)]), 1
    else:
        data = encode_all([("MULTI",)] + [("GET", key) for key in accounts] + [("EXEC",)])
        replies = len(accounts) + 2
    while deadline.ahead():
        connection.send(data)
        for _ in range(replies):
            values = connection.read()
        found = sum(int(value) for value in values)
        assert found == total, f"{how} saw {found} in all and not {total}: {values}"


def test_transfers_keep_the_total(busy_server):
    accounts = harness.keys_in_distinct_slots(12, "account")
    with busy_server.raw() as client:
        assert client.call("MSET", *(word for key in accounts for word in (key, 1000))) == "OK"
    deadline = deadline_after(turns=10)
    run_clients(
        [(transfer_client, busy_server.address(), n, deadline, accounts) for n in range(2)]
        + [(sum_reader, busy_server.address(), deadline, accounts, 12000, how) for how in ("MGET", "MULTI")])
    values = busy_server.call("MGET", *accounts)
    assert sum(map(int, values)) == 12000


def same_value_writer(address, number, deadline, keys, forms):
    """Gives all keys the same value, in several ways."""
    connection, = connect(address, 1)
    count = 0
    while deadline.ahead():
        count += 1
        value = b"%d:%d" % (number, count)
        form = forms[count % len(forms)]
        if form == "MSET":
            commands = [("MSET", *(word for key in keys for word in (key, value)))]
        elif form == "MULTI":
            commands = [("MULTI",)] + [("SET", key, value) for key in keys] + [("EXEC",)]
        else:
            commands = [(form, *keys)]
        connection.send(encode_all(commands))
        for _ in commands:
            connection.read()
    return count


def same_value_reader(address, deadline, keys):
    connection, = connect(address, 1)
    mget, exists = ("MGET", *keys), ("EXISTS", *keys)
    while deadline.ahead():
        connection.send(encode_all([mget, exists, mget]))
        values = connection.read()
        assert len(set(values)) == 1, f"MGET saw {values}"
        found = connection.read()
        assert found in (0, len(keys)), f"EXISTS saw {found} of {len(keys)} keys"
        values = connection.read()
        assert len(set(values)) == 1, f"MGET saw {values}"


@pytest.mark.parametrize("forms", [["MSET"], ["MSET", "DEL"], ["MSET", "MULTI", "UNLINK", "MULTI"],
                                   ["MSET", "MULTI", "FLUSHALL"]], ids="-".join)
def test_snapshots_are_not_torn(server, forms):
    keys = harness.keys_in_distinct_slots(10, "same")
    with server.raw() as client:
        client.call("MSET", *(word for key in keys for word in (key, "0:0")))
    deadline = deadline_after(turns=10)
    actual = [form if form != "FLUSHALL" else "DEL" for form in forms]
    jobs = [(same_value_writer, server.address(), n, deadline, keys, actual) for n in range(2)]
    jobs += [(same_value_reader, server.address(), deadline, keys) for _ in range(2)]
    if "FLUSHALL" in forms:
        jobs.append((repeat_client, server.address(), deadline, ("FLUSHALL",)))
    run_clients(jobs)


def repeat_client(address, deadline, *commands):
    connection, = connect(address, 1)
    while deadline.ahead():
        for command in commands:
            connection.call(*command)
        time.sleep(0.001)


def rename_client(address, deadline, one, other):
    connection, = connect(address, 1)
    while deadline.ahead():
        replies = connection.pipeline([("RENAME", one, other), ("RENAME", other, one)] * 4)
        assert replies == ["OK"] * 8, replies


def exactly_one_reader(address, deadline, one, other):
    connection, = connect(address, 1)
    while deadline.ahead():
        values, found = connection.pipeline([("MGET", one, other), ("EXISTS", one, other)])
        assert sorted(values, key=bool) == [None, b"v"], values
        assert found == 1, found


def test_rename_is_atomic(busy_server):
    one, other = harness.keys_in_distinct_slots(2, "rename")
    busy_server.call("SET", one, "v")
    deadline = deadline_after(turns=10)
    jobs = [(rename_client, busy_server.address(), deadline, one, other)]
    jobs += [(exactly_one_reader, busy_server.address(), deadline, one, other)] * 2
    run_clients(jobs)


def database_reader(address, deadline, keys):
    connections = connect(address, 2)
    connections[1].call("SELECT", 1)
    while deadline.ahead():
        for connection in connections:
            connection.send(encode_all([("MGET", *keys), ("DBSIZE",)]))
        for connection in connections:
            values, size = connection.read(), connection.read()
            assert len(set(values)) == 1, values
            assert size == len(keys), size


def test_swapdb_is_atomic(server):
    keys = harness.keys_in_distinct_slots(10, "db")
    with server.raw() as client:
        for database in (0, 1):
            client.call("SELECT", database)
            client.call("MSET", *(word for key in keys for word in (key, database)))
    deadline = deadline_after(turns=10)
    jobs = [(repeat_client, server.address(), deadline, ("SWAPDB", "0", "1"))]
    jobs += [(database_reader, server.address(), deadline, keys)] * 2
    run_clients(jobs)


# --- order within and between connections ---------------------------------------------------------------------


def ordered_writer(address, deadline, x, y):
    """x = i, then y = i, for growing i, in long pipelines."""
    connection, = connect(address, 1)
    number = 0
    while deadline.ahead():
        commands = []
        for _ in range(25):
            number += 1
            commands += [("SET", x, number), ("SET", y, number)]
        assert connection.pipeline(commands) == ["OK"] * 50
    return number


def ordered_reader(address, deadline, x, y):
    connection, = connect(address, 1)
    pairs = []
    commands = [("GET", y), ("GET", x)] * 10
    while deadline.ahead():
        values = [int(value or 0) for value in connection.pipeline(commands)]
        pairs += zip(values[::2], values[1::2])
    return pairs


def test_pipelines_keep_their_order(busy_server):
    x, y = harness.keys_in_distinct_slots(2, "order")
    deadline = deadline_after()
    results = run_clients([(ordered_writer, busy_server.address(), deadline, x, y)]
                          + [(ordered_reader, busy_server.address(), deadline, x, y)] * 3)
    for pairs in results[1:]:
        complaint = check_message_passing(pairs)
        assert complaint is None, complaint


def store_buffer_client(address, deadline, own, other, depth):
    connection, = connect(address, 1)
    number, seen = 0, []
    while deadline.ahead():
        commands = []
        for _ in range(depth):
            number += 1
            commands += [("SET", own, number), ("GET", other)]
        seen += [int(value or 0) for value in connection.pipeline(commands)[1::2]]
    return seen


@pytest.mark.parametrize("depth", [1, 20])
def test_no_two_clients_miss_each_other(busy_server, depth):
    x, y = harness.keys_in_distinct_slots(2, "litmus")
    deadline = deadline_after()
    first, second = run_clients([(store_buffer_client, busy_server.address(), deadline, x, y, depth),
                                 (store_buffer_client, busy_server.address(), deadline, y, x, depth)])
    complaint = check_store_buffer(first, second) or check_store_buffer(second, first)
    assert complaint is None, complaint


def own_pipeline_client(address, number, deadline):
    """A pipeline sees its own earlier commands, also where keys lie on other workers' slots."""
    generator = random.Random(number)
    connection, = connect(address, 1)
    model, count = {}, 0
    keys = [b"own:%d:%d" % (number, index) for index in range(20)]
    while deadline.ahead():
        commands, expected = [], []
        for _ in range(40):
            key = generator.choice(keys)
            kind = generator.random()
            if kind < 0.4:
                count += 1
                model[key] = b"%d" % count
                commands.append(("SET", key, model[key]))
                expected.append("OK")
            elif kind < 0.5:
                commands.append(("DEL", key))
                expected.append(1 if model.pop(key, None) is not None else 0)
            elif kind < 0.6:
                some = generator.sample(keys, 4)
                commands.append(("MGET", *some))
                expected.append([model.get(one) for one in some])
            else:
                commands.append(("GET", key))
                expected.append(model.get(key))
        assert connection.pipeline(commands) == expected
    return count


def test_pipeline_sees_itself(busy_server):
    deadline = deadline_after()
    run_clients([(own_pipeline_client, busy_server.address(), n, deadline) for n in range(4)])


def relay_client(address, number, deadline):
    """SET on one connection; once it is acknowledged, any other connection sees it."""
    connections = connect(address, 4)
    key, count = b"relay:%d" % number, 0
    while deadline.ahead():
        for writer in connections:
            count += 1
            assert writer.call("SET", key, count) == "OK"
            for reader in connections:
                reader.send_command("GET", key)
            for reader in connections:
                assert reader.read() == b"%d" % count
    return count


def test_acknowledged_writes_are_seen_by_all(busy_server):
    deadline = deadline_after()
    run_clients([(relay_client, busy_server.address(), n, deadline) for n in range(3)])


# --- large values -----------------------------------------------------------------------------------------------


def large_writer(address, number, deadline, key, size):
    connection, = connect(address, 1)
    count = 0
    while deadline.ahead():
        count += 1
        filling = bytes([97 + (count + number) % 26]) * size
        connection.call(*(("SET", key, filling) if count % 3 == 0 else ("SETRANGE", key, 0, filling)))
    return count


def large_reader(address, deadline, key, size):
    connection, = connect(address, 1)
    while deadline.ahead():
        value, part = connection.pipeline([("GET", key), ("GETRANGE", key, 10, size - 10)])
        assert len(value) == size and value.count(value[:1]) == size, "a torn large value"
        assert part.count(part[:1]) == size - 19, "a torn range"


@pytest.mark.parametrize("size", [1000, 16384, 100_000])
def test_values_are_not_torn(server, size):
    server.call("SET", "large", "a" * size)
    deadline = deadline_after(turns=10)
    jobs = [(large_writer, server.address(), n, deadline, "large", size) for n in range(2)]
    jobs += [(large_reader, server.address(), deadline, "large", size)] * 2
    run_clients(jobs)
