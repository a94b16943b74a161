"""Publish and subscribe: as the stock server, in one order for all, whatever worker a client is on."""

import random
import threading
import time

import pytest

import debugging
import harness
from harness import wait_until
from resp import Push, RawClient, ReplyError, encode_command

SMOKE = True


def shown(reply):
    return str(reply) if isinstance(reply, ReplyError) else reply


def dialogue(server, resp):
    """What a subscriber and a publisher get to see."""
    client, publisher = server.raw(), server.raw()
    client.call("HELLO", resp)
    seen = []

    def ask(count, *command):
        client.send_command(*command)
        seen.extend(shown(client.read()) for _ in range(count))

    def publish(count, *command):
        seen.append(shown(publisher.call(*command)))
        seen.extend(client.read() for _ in range(count))

    ask(1, "UNSUBSCRIBE")
    ask(1, "PUNSUBSCRIBE", "nothing")
    ask(3, "SUBSCRIBE", "a", "b", "a")
    ask(2, "PSUBSCRIBE", "a*", "[bc]")
    ask(2, "SSUBSCRIBE", "a", "s")
    publish(2, "PUBLISH", "a", "one")
    publish(2, "PUBLISH", "b", b"\x00\r\n\xff")
    publish(1, "PUBLISH", "c", "")
    publish(0, "PUBLISH", "nobody", "x")
    publish(1, "SPUBLISH", "s", "sharded")
    publish(0, "SPUBLISH", "b", "sharded")
    ask(1, "PING")
    ask(1, "PING", "hello")
    ask(1, "GET", "k") if resp == 2 else None
    ask(1, "EXEC") if resp == 2 else None
    ask(1, "NOSUCH")
    seen.append(sorted(publisher.call("PUBSUB", "CHANNELS")))
    seen.append(publisher.call("PUBSUB", "CHANNELS", "b*"))
    seen.append(publisher.call("PUBSUB", "NUMSUB", "a", "b", "c"))
    seen.append(publisher.call("PUBSUB", "NUMSUB"))
    seen.append(publisher.call("PUBSUB", "NUMPAT"))
    seen.append(sorted(publisher.call("PUBSUB", "SHARDCHANNELS")))
    seen.append(publisher.call("PUBSUB", "SHARDNUMSUB", "a", "x"))
    seen.append(shown(publisher.call("PUBSUB", "NOSUCH")))
    seen.append(shown(publisher.call("PUBSUB", "CHANNELS", "a", "b")))
    seen.append(shown(publisher.call("PUBLISH", "a")))
    ask(2, "UNSUBSCRIBE", "a", "zz")
    ask(2, "PUNSUBSCRIBE") if resp == 2 else ask(2, "PUNSUBSCRIBE", "a*", "[bc]")
    ask(1, "UNSUBSCRIBE")
    ask(1, "SUNSUBSCRIBE", "a")
    ask(1, "SUNSUBSCRIBE")
    ask(1, "GET", "k")
    ask(1, "SUBSCRIBE", "again")
    ask(1, "RESET")
    publish(0, "PUBLISH", "again", "x")
    return seen


def sorted_where_redis_has_no_order(seen):
    return [sorted(map(repr, seen[at:at + 2])) if "unsubscribe" in repr(seen[at:at + 2]) else seen[at]
            for at in range(len(seen))]


@pytest.mark.parametrize("resp", [2, 3])
def test_as_the_stock_server(start, backend, oracle, resp):
    mine = dialogue(start(backend=backend, threads=2), resp)
    theirs = dialogue(oracle, resp)
    assert sorted_where_redis_has_no_order(mine) == sorted_where_redis_has_no_order(theirs)


def test_messages_come_behind_the_publishers_own_reply(start, backend):
    client = start(backend=backend).raw()
    client.call("HELLO", 3)
    client.call("SUBSCRIBE", "c")
    client.send(encode_command("PUBLISH", "c", "1") + encode_command("PING") + encode_command("PUBLISH", "c", "2"))
    assert [client.read() for _ in range(5)] == [1, [b"message", b"c", b"1"], "PONG", 1, [b"message", b"c", b"2"]]
    client.send(b"".join(encode_command(*words) for words in (
        ("MULTI",), ("PUBLISH", "c", "3"), ("PING",), ("EXEC",), ("PING",))))
    assert [client.read() for _ in range(6)] == ["OK", "QUEUED", "QUEUED", [1, "PONG"], [b"message", b"c", b"3"], "PONG"]


def test_pushes_come_whatever_client_reply_says(start, backend):
    server = start(backend=backend)
    client = server.raw()
    client.send(encode_command("CLIENT", "REPLY", "OFF") + encode_command("SUBSCRIBE", "c"))
    assert client.read() == [b"subscribe", b"c", 1]
    assert server.call("PUBLISH", "c", "m") == 1
    assert client.read() == [b"message", b"c", b"m"]


def test_one_order_for_all(start, backend):
    """Publishers on several connections; every subscriber of a channel sees the same sequence, and all of it."""
    server = start(backend=backend, threads=4)
    assert server.call("DEBUG", "WORKERS-AWAKE", 4) == "OK"
    subscribers = [server.raw(timeout=120) for _ in range(8)]
    for number, client in enumerate(subscribers):
        if number % 2:
            client.call("SUBSCRIBE", "c")
        else:
            client.call("PSUBSCRIBE", "c*")
    each, publishers = harness.scaled(500), 6
    problems = []

    def publish(name):
        try:
            with server.raw(timeout=120) as client:
                for number in range(each):
                    got = client.call("PUBLISH", "c", f"{name}:{number}")
                    assert got == len(subscribers), got
        except Exception as error:  # the main thread tells
            problems.append(error)

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(publishers)]
    for thread in threads:
        thread.start()
    sequences = [[client.read()[-1] for _ in range(each * publishers)] for client in subscribers]
    for thread in threads:
        thread.join()
    assert not problems
    assert all(sequence == sequences[0] for sequence in sequences)
    for name in range(publishers):
        of_one = [int(message.split(b":")[1]) for message in sequences[0] if message.startswith(b"%d:" % name)]
        assert of_one == list(range(each))


def test_who_has_heard_of_a_message_is_answered_behind_it(start, backend):
    """The publisher's reply has arrived; then whoever asks anything gets the message first."""
    server = start(backend=backend, threads=2)
    server.call("DEBUG", "WORKERS-AWAKE", 2)
    publishers, subscribers = [server.raw() for _ in range(4)], [server.raw() for _ in range(4)]
    for client in subscribers:
        client.call("SUBSCRIBE", "c")
    for number in range(harness.scaled(400)):
        publishers[number % 4].call("PUBLISH", "c", number)
        for client in subscribers:
            client.send_command("PING")
        for client in subscribers:
            assert client.read() == [b"message", b"c", str(number).encode()]
            assert client.read() == [b"pong", b""]


@pytest.mark.parametrize("kinds", [[("", "c")], [("", "c"), ("P", "?"), ("P", "c*")]], ids=["channels", "patterns"])
def test_counts_are_exact_while_subscribers_come_and_go(start, backend, kinds):
    """Each message is read by as many as PUBLISH has told.

    Patterns begin and end at moments of their own beside PUBLISH: with them only the end is checked.
    """
    server = start(backend=backend, threads=3)
    server.call("DEBUG", "WORKERS-AWAKE", 3)
    stop, problems, received = threading.Event(), [], [0] * 4

    def come_and_go(number):
        try:
            generator = random.Random(number)
            with server.raw(timeout=120) as client:
                while not stop.is_set():
                    kind, name = generator.choice(kinds)
                    client.send_command(kind + "SUBSCRIBE", name)
                    while client.read()[0] != kind.lower().encode() + b"subscribe":
                        received[number] += 1
                    time.sleep(generator.random() * 0.003)
                    client.send_command(kind + "UNSUBSCRIBE", name)
                    while client.read()[0] != kind.lower().encode() + b"unsubscribe":
                        received[number] += 1
        except Exception as error:  # the main thread tells
            problems.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    told = 0
    publisher = server.raw(timeout=120)
    for number in range(harness.scaled(3000)):
        told += publisher.call("PUBLISH", "c", number)
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert told > 0
    assert told == sum(received) or len(kinds) > 1
    assert server.call("PUBSUB", "NUMPAT") == 0 and server.call("PUBSUB", "CHANNELS") == []


def test_who_goes_is_forgotten(start, backend):
    server = start(backend=backend, threads=2)
    clients = [server.raw() for _ in range(20)]
    for number, client in enumerate(clients):
        client.call("SUBSCRIBE", "all")
        client.call("SUBSCRIBE", f"own:{number}")
        client.call("PSUBSCRIBE", "p*")
    assert server.call("PUBLISH", "all", "x") == 20
    assert server.info("stats")["pubsub_channels"] == "21" and server.info("stats")["pubsub_patterns"] == "1"
    line = next(line for line in server.call("CLIENT", "LIST", "TYPE", "PUBSUB").decode().splitlines())
    assert " sub=2 psub=1 ssub=0 " in line and " flags=P " in line
    for client in clients[:10]:
        client.close()
    assert server.call("CLIENT", "KILL", "TYPE", "PUBSUB") in range(1, 21)
    wait_until(lambda: server.call("PUBSUB", "CHANNELS") == [] and server.call("PUBSUB", "NUMPAT") == 0,
               what="nobody to be left")
    assert server.call("PUBLISH", "all", "x") == 0


def test_a_subscriber_that_does_not_read_is_closed(start, backend):
    server = start({"client-output-buffer-limit": "pubsub 1mb 0 0"}, backend=backend)
    slow, quick = server.raw(), server.raw(timeout=60)
    slow.call("SUBSCRIBE", "c")
    quick.call("SUBSCRIBE", "c")
    publisher = server.raw()
    for sent in range(2000):
        if publisher.call("PUBLISH", "c", "x" * 50_000) == 1:
            break
        assert quick.read()[-1] == b"x" * 50_000
    assert sent < 1999, "the slow one is gone"
    assert quick.read()[-1] == b"x" * 50_000
    assert server.info("stats")["client_output_buffer_limit_disconnections"] == "1"


def test_large_messages_are_held_once(start, backend):
    server = start({"client-output-buffer-limit": "pubsub 0 0 0"}, backend=backend, threads=2)
    clients = [server.raw(timeout=60) for _ in range(30)]
    for client in clients:
        client.call("SUBSCRIBE", "c")
    before = int(server.info("memory")["used_memory"])
    message = "x" * 10_000_000
    assert server.call("PUBLISH", "c", message) == 30
    assert int(server.info("memory")["used_memory"]) - before < 60_000_000
    for client in clients:
        assert client.read()[-1] == message.encode()


def test_replicas_pass_messages_on(start, backend):
    primary = start(backend=backend, threads=2)
    host, port = primary.address()
    replica = start({"replicaof": f"{host} {port}"}, backend=backend, threads=2)
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
    client = replica.raw()
    client.call("SUBSCRIBE", "c")
    assert primary.call("PUBLISH", "c", "one") == 0
    assert client.read() == [b"message", b"c", b"one"]
    publisher = primary.raw()
    publisher.send(b"".join(encode_command(*words) for words in (
        ("MULTI",), ("SET", "k", "v"), ("PUBLISH", "c", "two"), ("EXEC",))))
    assert client.read() == [b"message", b"c", b"two"]
    assert replica.call("PUBLISH", "c", "three") == 1
    assert client.read() == [b"message", b"c", b"three"]


def notifications(server, classes):
    """What is published about a series of changes."""
    server.call("FLUSHALL")
    assert server.call("CONFIG", "SET", "notify-keyspace-events", classes) == "OK"
    client, changer = server.raw(), server.raw()
    client.call("PSUBSCRIBE", "__key*")
    for command in (("SET", "k", "1"), ("SET", "k", "2", "EX", 100), ("INCR", "k"), ("INCRBYFLOAT", "k", "0.5"),
                    ("APPEND", "k", "x"), ("SETRANGE", "k", 0, "y"), ("PERSIST", "k"), ("PERSIST", "k"),
                    ("EXPIRE", "k", 100), ("GETEX", "k", "PERSIST"), ("MSET", "a", "1", "b", "2"), ("DEL", "a", "nothing"),
                    ("UNLINK", "b"), ("GETDEL", "k"), ("SETNX", "n", "1"), ("SETNX", "n", "2"), ("COPY", "n", "m"),
                    ("GETSET", "m", "7"), ("EXPIRE", "m", -1), ("SET", "t", "1", "PX", 1)):
        changer.call(*command)
    time.sleep(0.01)
    changer.call("GET", "t")
    changer.call("PUBLISH", "__key_end", "x")
    seen = []
    while (message := client.read())[2] != b"__key_end":
        seen.append(message[2:])
    server.call("CONFIG", "SET", "notify-keyspace-events", "")
    return seen


@pytest.mark.parametrize("classes", ["KEA", "K$", "Eg", "Ex", "KE", "A", "KEn$"])
def test_keyspace_notifications(start, backend, oracle, classes):
    mine = notifications(start(backend=backend, threads=2), classes)
    assert mine == notifications(oracle, classes)
    assert bool(mine) == (classes not in ("KE", "A"))


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_of_all_sizes(any_server, protocol):
    """Small ones are copied for each subscriber, large ones are lent to all; with both forms of a message, and behind a pattern."""
    subscribers = [any_server.raw(protocol=protocol) for _ in range(4)]
    channel = b"channel:" + b"n" * 200
    for client, words in zip(subscribers, (("SUBSCRIBE", channel), ("PSUBSCRIBE", "chan*"), ("SSUBSCRIBE", channel), ("SUBSCRIBE", channel))):
        client.call(*words)
    publisher = any_server.raw()
    sizes = [0, 1, 9, 10, 99, 100, 7900, 7990, 8191, 8192, 8193, 20_000, 100_000]
    payloads = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    assert publisher.pipeline([("PUBLISH", channel, payload) for payload in payloads]) == [3] * len(payloads)
    assert publisher.pipeline([("SPUBLISH", channel, payload) for payload in payloads]) == [1] * len(payloads)
    for client, head in zip(subscribers, ([b"message"], [b"pmessage", b"chan*"], [b"smessage"], [b"message"])):
        for payload in payloads:
            message = client.read()
            assert list(message) == [*head, channel, payload]
            assert isinstance(message, Push) == (protocol == 3)


READS_OF_NOTHING = [
    ("GET", "no"), ("MGET", "no", "text", "no2"), ("STRLEN", "no"), ("GETRANGE", "no", 0, 1), ("EXISTS", "no", "text", "no"), ("TYPE", "no"),
    ("TTL", "no"), ("OBJECT", "ENCODING", "no"), ("TOUCH", "no"), ("DUMP", "no"), ("COPY", "no", "to"), ("LCS", "no", "text"),
    ("SETNX", "new", "1"), ("GETDEL", "no"), ("GETEX", "no"), ("APPEND", "new2", "x"), ("INCR", "new3"), ("DEL", "no"), ("EXPIRE", "no", 5),
    ("HGET", "no", "f"), ("HGETALL", "no"), ("HLEN", "no"), ("HMGET", "no", "a", "b"), ("HSCAN", "no", 0), ("HRANDFIELD", "no"),
    ("HDEL", "no", "f"), ("LRANGE", "no", 0, -1), ("LLEN", "no"), ("LINDEX", "no", 0), ("LPOS", "no", "x"), ("LPOP", "no"), ("LREM", "no", 0, "x"),
    ("SMEMBERS", "no"), ("SISMEMBER", "no", "x"), ("SCARD", "no"), ("SINTER", "set", "no"), ("SUNION", "set", "no"), ("SDIFF", "no", "set"),
    ("SINTERCARD", 2, "no", "set"), ("SUNIONSTORE", "to", "set", "no"), ("SDIFFSTORE", "to", "set", "no"), ("SPOP", "no"), ("SREM", "no", "x"),
    ("SRANDMEMBER", "no"), ("SRANDMEMBER", "no", 3), ("SSCAN", "no", 0), ("ZSCORE", "no", "x"), ("ZCARD", "no"), ("ZRANGE", "no", 0, -1),
    ("ZRANK", "no", "x"), ("ZMSCORE", "no", "x"), ("ZUNION", 2, "zset", "no"), ("ZINTERSTORE", "to", 2, "zset", "no"), ("ZDIFF", 2, "zset", "no"),
    ("ZRANGESTORE", "to", "no", 0, -1), ("ZCOUNT", "no", 0, 1), ("ZSCAN", "no", 0), ("ZPOPMIN", "no"), ("ZREM", "no", "x"), ("ZRANDMEMBER", "no"),
    ("GEOPOS", "no", "x"), ("GEODIST", "no", "a", "b"), ("GEOHASH", "no", "x"), ("GEOSEARCH", "no", "FROMLONLAT", 1, 1, "BYRADIUS", 1, "m"),
    ("GEOSEARCHSTORE", "to", "no", "FROMLONLAT", 1, 1, "BYRADIUS", 1, "m"), ("SORT", "no"), ("SORT", "set", "BY", "w_*", "ALPHA"),
    ("SORT_RO", "no"), ("BLPOP", "no", "no2", "0.001"), ("BZPOPMIN", "no", "0.001"), ("BLMOVE", "no", "to", "LEFT", "LEFT", "0.001"),
    ("HGET", "text", "f"), ("RENAMENX", "set", "zset"), ("WATCH", "no"),
]


def misses(server):
    """What is published while keys are looked for that are not there; by command."""
    server.call("FLUSHALL")
    client, reader = server.raw(), server.raw()
    for command in (("SET", "text", "x"), ("SADD", "set", "1", "2"), ("ZADD", "zset", 1, "a")):
        reader.call(*command)
    assert server.call("CONFIG", "SET", "notify-keyspace-events", "KEmxn") == "OK"
    client.call("PSUBSCRIBE", "__key*")
    server.call("CONFIG", "RESETSTAT")
    seen = []

    def note(what):
        server.call("PUBLISH", "__key_end", "x")
        found = []
        while (message := client.read())[2] != b"__key_end":
            found.append(message[2:])
        seen.append((what, found))

    for command in READS_OF_NOTHING:
        reader.call(*command)
        note(command)
    reader.call("SET", "t", "1", "PX", 1)
    time.sleep(0.01)
    reader.call("HGET", "t", "x")
    note("expired")
    reader.pipeline([("MULTI",), ("GET", "no"), ("HGET", "no", "x"), ("EXEC",)])
    note("EXEC")
    server.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
    reader.call("GET", "no")
    note("not part of A")
    server.call("CONFIG", "SET", "notify-keyspace-events", "")
    statistics = server.info("stats")
    return seen, statistics["keyspace_misses"], statistics["keyspace_hits"]


def test_misses(start, backend, oracle):
    """Class m: what is told of reads that find nothing, once each, and how many are counted."""
    mine, theirs = misses(start(backend=backend, threads=2)), misses(oracle)
    assert [pair for pair in zip(mine[0], theirs[0]) if pair[0] != pair[1]] == []
    assert mine[1:] == theirs[1:]


def test_notifications_end_with_the_configuration(start, backend):
    server = start({"notify-keyspace-events": "KEA"}, backend=backend)
    client = server.raw()
    client.call("PSUBSCRIBE", "*")
    server.call("SET", "k", "v")
    assert client.read()[2:] == [b"__keyspace@0__:k", b"set"]
    assert client.read()[2:] == [b"__keyevent@0__:set", b"k"]
    server.call("CONFIG", "SET", "notify-keyspace-events", "")
    server.call("SET", "k", "v")
    server.call("PUBLISH", "end", "")
    assert client.read()[2] == b"end"


def test_a_subscriber_that_becomes_a_replica(start, backend):
    """It gets the stream, whatever worker it has subscribed on, and no messages."""
    server = start({"save": "", "repl-diskless-sync-delay": 0}, backend=backend, threads=2)
    debugging.require(server, "MOVE-CLIENT", "WORKERS-AWAKE")
    server.call("DEBUG", "WORKERS-AWAKE", 2)
    subscribers = []
    for worker in (0, 1):
        subscriber = server.raw()
        number = debugging.client_id(subscriber)
        subscriber.call("DEBUG", "MOVE-CLIENT", number, worker)
        subscriber.call("HELLO", 3)
        subscriber.call("SUBSCRIBE", "c")
        subscriber.send_command("PSYNC", "?", -1)
        subscribers.append(subscriber)

    def states():
        replication = server.info("replication")
        return ["state=online" in replication.get(f"slave{i}", "") for i in range(2)]

    wait_until(lambda: all(states()), what="the replicas")
    assert server.call("PUBSUB", "NUMSUB", "c") == [b"c", 0]
    assert server.call("PUBLISH", "c", "message") == 0
    assert all(states())
