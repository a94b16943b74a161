"""What a stream of commands on all types does to a primary it does to its replicas as well, of the same make and stock: clients
send seeded random commands, right and wrong ones, on shared keys, to a primary of two workers that saves meanwhile."""

import os
import random
import threading

import pytest

import debugging
from harness import ORACLE, wait_until
from replication import assert_equal_data, follow, stock_primary, wait_link_up
from resp import ReplyError

pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(ORACLE, os.X_OK), reason="no stock server")]

COMMANDS_EACH = 2500
CLIENTS = 3
# So low that collections change their form all the time.
LIMITS = {"hash-max-listpack-entries": "20", "set-max-intset-entries": "20", "zset-max-listpack-entries": "20",
          "list-max-listpack-size": "10"}
KEYS = [f"key:{i}" for i in range(12)] + [f"{{tag}}:{i}" for i in range(6)]
VALUES = ["", "a", "b", "0", "1", "-1", "2.5", "9223372036854775807", "x" * 100, "y" * 3000, "\x00\xff"]


class Stream:
    """Commands from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def member(self):
        pick = self.random
        return pick.choice([f"m{pick.randrange(60)}", str(pick.randrange(60)), pick.choice(VALUES)])

    def members(self):
        return [self.member() for _ in range(self.random.choice([1, 1, 2, 5, 40]))]

    def score(self):
        return self.random.choice([str(self.random.randrange(50)), "1.5", "-3", "inf", "-inf", "wrong"])

    def scored(self):
        return [word for member in self.members() for word in (self.score(), member)]

    def fields(self):
        return [word for member in self.members() for word in (member, self.random.choice(VALUES))]

    def index(self):
        return self.random.choice([0, 1, -1, 3, -4, 20])

    def command(self):
        pick, key, other = self.random, self.random.choice(KEYS), self.random.choice(KEYS)
        return pick.choice([
            lambda: ("RPUSH", key, *self.members()), lambda: ("LPUSH", key, *self.members()), lambda: ("LPOP", key),
            lambda: ("RPOP", key, pick.randrange(4)), lambda: ("LSET", key, self.index(), self.member()),
            lambda: ("LINSERT", key, "BEFORE", self.member(), self.member()), lambda: ("LREM", key, self.index(), self.member()),
            lambda: ("LTRIM", key, self.index(), -1), lambda: ("LMOVE", key, other, "LEFT", "RIGHT"),
            lambda: ("LMPOP", 2, key, other, "RIGHT", "COUNT", 2), lambda: ("RPOPLPUSH", key, key),
            lambda: ("SADD", key, *self.members()), lambda: ("SREM", key, *self.members()), lambda: ("SPOP", key),
            lambda: ("SPOP", key, pick.randrange(5)), lambda: ("SMOVE", key, other, self.member()),
            lambda: ("SINTERSTORE", key, other, pick.choice(KEYS)), lambda: ("SUNIONSTORE", key, other, pick.choice(KEYS)),
            lambda: ("SDIFFSTORE", key, other, pick.choice(KEYS)),
            lambda: ("HSET", key, *self.fields()), lambda: ("HDEL", key, *self.members()), lambda: ("HSETNX", key, self.member(), "v"),
            lambda: ("HINCRBY", key, self.member(), 3), lambda: ("HINCRBYFLOAT", key, self.member(), "0.1"),
            lambda: ("ZADD", key, *self.scored()), lambda: ("ZADD", key, "GT", "CH", *self.scored()), lambda: ("ZREM", key, *self.members()),
            lambda: ("ZINCRBY", key, self.score(), self.member()), lambda: ("ZADD", key, "INCR", "2", self.member()),
            lambda: ("ZPOPMIN", key), lambda: ("ZPOPMAX", key, 2), lambda: ("ZMPOP", 1, key, "MIN"),
            lambda: ("ZREMRANGEBYRANK", key, 0, self.index()), lambda: ("ZREMRANGEBYSCORE", key, "(1", "3"),
            lambda: ("ZUNIONSTORE", key, 2, other, pick.choice(KEYS), "AGGREGATE", "MIN"), lambda: ("ZINTERSTORE", key, 2, other, key),
            lambda: ("ZRANGESTORE", key, other, 0, 5), lambda: ("GEOADD", key, "13.3", "38.1", self.member()),
            lambda: ("SET", key, self.member()), lambda: ("DEL", key), lambda: ("UNLINK", key, other), lambda: ("RENAME", key, other),
            lambda: ("COPY", key, other, "REPLACE"), lambda: ("PEXPIRE", key, pick.choice([1, 50, 100000])), lambda: ("PERSIST", key),
            lambda: ("MOVE", key, 1), lambda: ("APPEND", key, "z"), lambda: ("INCR", key),
        ])()


def send(server, seed, failures):
    stream = Stream(seed)
    try:
        with server.raw() as client:
            for number in range(COMMANDS_EACH):
                commands = [stream.command() for _ in range(stream.random.choice([1, 1, 1, 3]))]
                if len(commands) > 1:
                    commands = [("MULTI",), *commands, ("EXEC",)]
                for command in commands:
                    try:
                        client.call(*command)
                    except ReplyError:
                        continue
                if number % 50 == 0:
                    debugging.check_structures(client, stream.random.choice(KEYS))
                if number % 600 == 300:
                    client.call("BGSAVE", "SCHEDULE")
    except Exception as failure:  # pylint: disable=broad-except
        failures.append(failure)


def lives_shortly(server):
    with server.raw() as client:
        for database in (0, 1):
            client.call("SELECT", database)
            # SCAN deletes what has expired already.
            if any(0 <= client.call("PTTL", key) < 10000 for key in client.call("SCAN", 0, "COUNT", 1000)[1]):
                return True
    return False


@pytest.mark.parametrize("seed", [1, 2])
def test_replicas_have_what_the_primary_has(start, seed):
    primary = start({"repl-diskless-sync-delay": "0", **LIMITS}, threads=2)
    replica = start({"repl-diskless-sync-delay": "0", **LIMITS})
    stock = stock_primary(start)
    follow(replica, primary.port)
    failures = []
    clients = [threading.Thread(target=send, args=(primary, seed * 100 + i, failures)) for i in range(CLIENTS)]
    for client in clients:
        client.start()
    wait_link_up(replica)
    follow(stock, primary.port)  # amid the commands
    for client in clients:
        client.join()
    assert not failures
    wait_link_up(stock)
    wait_until(lambda: primary.info("persistence")["rdb_bgsave_in_progress"] == "0", what="the save to be done")
    assert primary.info("persistence")["rdb_last_bgsave_status"] == "ok"
    assert_equal_data(primary, replica)
    assert_equal_data(primary, stock)
    for server in (primary, replica):
        debugging.check_structures(server)
    wait_until(lambda: not lives_shortly(primary), what="short times to live to be over")  # a load leaves those out
    digest = primary.call("DEBUG", "DIGEST")
    assert primary.call("DEBUG", "RELOAD") == "OK"
    assert primary.call("DEBUG", "DIGEST") == digest
    debugging.check_structures(primary)  # what has been loaded
