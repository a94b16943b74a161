"""The suites about collections: what an element takes (collections-memory), what a command costs (collections)."""

from . import client, suites
from .footprint import settled_resident_bytes, used_memory
from .results import Metric, Suite, number

SIZES = (10, 100, 10000, 1000000)
BATCH_ELEMENTS = 100  # of one command while loading
PIPELINE = 64


def member(i):
    return b"member:%09d" % i


def value(i):
    return b"value:%010d" % (i * 2654435761 % 10 ** 10)


def score(i):
    return b"%d" % (1700000000 + i * 2654435761 % 100000000)


TYPES = {
    "hash": (b"HSET", lambda i: [member(i), value(i)], 32),
    "set": (b"SADD", lambda i: [member(i)], 16),
    "zset": (b"ZADD", lambda i: [score(i), member(i)], 24),
    "list": (b"RPUSH", lambda i: [value(i)], 16),
}


def encode(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def commands(kind, keys, elements):
    """The commands that make so many keys of so many elements each."""
    name, words_of, _ = TYPES[kind]
    for key in range(keys):
        for first in range(0, elements, BATCH_ELEMENTS):
            words = [name, b"key:%08d" % key]
            for i in range(first, min(first + BATCH_ELEMENTS, elements)):
                words += words_of(i)
            yield encode(words)


def fill(server, kind, keys, elements):
    """Sends them in pipelines and reads the replies, which are all integers."""
    with server.connect(60) as connection:
        waiting, parts = 0, []
        for command in commands(kind, keys, elements):
            parts.append(command)
            waiting += 1
            if waiting == PIPELINE:
                flush(connection, parts, waiting)
                waiting, parts = 0, []
        flush(connection, parts, waiting)


def flush(connection, parts, waiting):
    connection.socket.sendall(b"".join(parts))
    for _ in range(waiting):
        line = connection.file.readline()
        if not line.startswith(b":"):
            raise client.ClientError("unexpected reply: %r" % line[:80])


def memory(context):
    """Bytes per element, keys and all, with what the element itself has in it."""
    total = context.keys
    suite = Suite("collections-memory", "bytes per element of a collection",
                  "%s elements in all; the bytes of the element itself are in the figures" % number(total))
    for kind, (_, _, payload) in TYPES.items():
        for elements in (size for size in SIZES if size <= total):
            case = suite.case("%s of %s (%d bytes each)" % (kind, number(elements), payload), [
                Metric("accounted", "bytes/element by used_memory", digits=1), Metric("resident", "by RSS", digits=1)])
            for spec in context.specs:
                server = context.start(spec, suite)
                if server is None:
                    continue
                try:
                    before, used_before = settled_resident_bytes(context, server.pid), used_memory(server)
                    fill(server, kind, total // elements, elements)
                    after, used_after = settled_resident_bytes(context, server.pid), used_memory(server)
                    case.add(spec.name, accounted=(used_after - used_before) / total, resident=(after - before) / total)
                except client.ClientError as error:
                    case.fail(spec.name, error)
                finally:
                    server.stop()
            context.log("collections-memory: %s of %s" % (kind, number(elements)))
    return suite


# Of a single key with as many elements as there are keys elsewhere; of many keys of ten elements, by the other name.
LOADS = {
    "hash": ["hset:1:HSET big __key__ __value__"],
    "set": ["sadd:1:SADD big __key__"],
    "zset": ["zadd:1:ZADD big __number__ __key__"],
    "list": ["rpush:1:RPUSH big __value__"],
    "small hashes": ["hset:1:HSET __key__ a __value__ b 1 c 2 d 3 e 4 f 5 g 6 h 7 i 8 j 9"],
    "small lists": ["rpush:1:RPUSH __key__ a b c d e f g h i j"],
    "small sets": ["sadd:1:SADD __key__ a b c d e f g h i j"],
    "small zsets": ["zadd:1:ZADD __key__ 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h 9 i 10 j"],
}
COMMANDS = (
    ("hash", "HGET", "HGET big __key__"), ("hash", "HSET", "HSET big __key__ __value__"),
    ("set", "SISMEMBER", "SISMEMBER big __key__"), ("set", "SRANDMEMBER", "SRANDMEMBER big"),
    ("zset", "ZADD", "ZADD big __number__ __key__"), ("zset", "ZINCRBY", "ZINCRBY big 1 __key__"),
    ("zset", "ZSCORE", "ZSCORE big __key__"), ("zset", "ZRANK", "ZRANK big __key__"),
    ("zset", "ZRANGE of ten", "ZRANGE big 5000 5009"),
    ("zset", "ZRANGEBYSCORE of ten", "ZRANGEBYSCORE big __number__ +inf LIMIT 0 10"),
    ("list", "LPUSH", "LPUSH big __value__"), ("list", "LPOP", "LPOP big"), ("list", "LRANGE of ten", "LRANGE big 0 9"),
    ("small hashes", "HGET", "HGET __key__ e"), ("small hashes", "HSET", "HSET __key__ e __value__"),
    ("small hashes", "HGETALL", "HGETALL __key__"), ("small lists", "LPUSH", "LPUSH __key__ x"),
    ("small lists", "LRANGE of all", "LRANGE __key__ 0 -1"), ("small sets", "SISMEMBER", "SISMEMBER __key__ e"),
    ("small zsets", "ZADD", "ZADD __key__ __number__ e"), ("small zsets", "ZRANGE of all", "ZRANGE __key__ 0 -1"),
)


def cpu(context):
    """What a command costs: on one collection with as many elements as there are keys, and on small ones."""
    kinds = []
    for loaded, label, command in COMMANDS:
        small = loaded.startswith("small")
        keys = max(context.keys // 10, 1) if small else context.keys
        prepared = {"ops": LOADS[loaded], "value_bytes": 16, "pipeline": 64}
        operation = "%s:1:%s" % (label.split()[0].lower(), command)
        kinds.append(("%s, %s" % (label, "ten elements" if small else "%s elements" % number(keys)), keys, prepared,
                      {"pipeline": 64, "ops": [operation], "value_bytes": 16}))
    return suites.rows(context, "collections", "commands on collections, pipeline 64",
                       "elements of 16 bytes, members uniform", kinds)
