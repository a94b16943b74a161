"""A primary of a cluster that is told to end says so: a replica takes over at once, and nothing that was acknowledged is lost."""

import threading

import pytest
import redis

import harness
from clustering import flags_settle, is_ok, join, node_id, nodes, replicate, restart, start_node
from harness import wait_until

pytestmark = pytest.mark.slotwise

TOLD = "Telling the cluster that this master ends."
AT_ONCE = "Start of election delayed for 0 milliseconds"
WON = "Failover election won: I'm the new master."


def shut_down(node):
    with node.raw() as client:
        client.send_command("SHUTDOWN")
        node.wait_end()


def three(start, stock_replica=False, options=None):
    """Three primaries, and a replica of the first."""
    members = [start_node(start, options=options) for _ in range(3)]
    join(members, [(0, 5460), (5461, 10922), (10923, 16383)])
    replica = start_node(start, stock=stock_replica)
    replicate(replica, members[0])
    everybody = [*members, replica]
    wait_until(lambda: all(is_ok(node, 4) for node in everybody), what="all to be ok")
    flags_settle(everybody, {node_id(replica): ["slave"]})
    # It has told its primary itself, and not only others.
    wait_until(lambda: len(members[0].call("CLUSTER", "REPLICAS", node_id(members[0]))) == 1, what="the primary to know its replica")
    return members, replica


KEYS = [key for key in (f"key:{i}" for i in range(3000)) if harness.slot_of(key) <= 5460][:400]


class Writers:
    """Each writes keys of its own, one after the other, round by round; remembers the last value of each that was acknowledged, and
    the one that was tried behind it."""

    def __init__(self, node, count=4):
        self.node, self.stop = node, threading.Event()
        self.acknowledged, self.tried = {}, {}
        self.threads = [threading.Thread(target=self._write, args=(KEYS[i::count],)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _write(self, keys):
        client, value = redis.Redis(port=self.node.port, socket_timeout=harness.HANG_SECONDS), 0
        try:
            while not self.stop.is_set():
                value += 1
                for key in keys:
                    self.tried[key] = value
                    client.set(key, value)
                    self.acknowledged[key] = value
        except redis.RedisError:
            pass  # it has ended, or sends us elsewhere
        client.close()

    def join(self):
        for thread in self.threads:
            thread.join()

    def check(self, node):
        for key, value in self.acknowledged.items():
            found = int(node.call("GET", key) or 0)
            assert value <= found <= self.tried[key], (key, value, found)


@pytest.mark.parametrize("end", [harness.Server.terminate, shut_down], ids=["SIGTERM", "SHUTDOWN"])
@pytest.mark.parametrize("options", [{}, {"save": "3600 1"}], ids=["", "saves"])
def test_a_replica_takes_over_at_the_end(start, end, options):
    members, replica = three(start, options=options)
    old, new = node_id(members[0]), node_id(replica)
    writers = Writers(members[0])
    wait_until(lambda: len(writers.acknowledged) == len(KEYS), what="some writes")
    end(members[0])
    wait_until(lambda: replica.call("SET", "{%s}" % KEYS[0], "v") == "OK", what="the replica to be written to")
    # Nobody had missed it: that it had failed was its own word.
    assert TOLD in members[0].log()
    assert AT_ONCE in replica.log() and WON in replica.log()
    assert all("quorum reached" not in node.log() for node in [*members[1:], replica])
    writers.join()
    writers.check(replica)
    rest = [*members[1:], replica]
    flags_settle(rest, {old: ["master", "fail"], new: ["master"]})
    assert all(not nodes(node)[old]["slots"] and nodes(node)[new]["slots"] == ["0-5460"] for node in rest)
    if options:
        assert "Saving the final RDB snapshot before exiting." in members[0].log()
    again = restart(start, members[0])
    wait_until(lambda: again.info("replication").get("master_link_status") == "up", what="it to follow")
    assert nodes(again)[old]["primary"] == new
    assert again.call("CONFIG", "SET", "save", "") == "OK"  # its folder goes with the server that it was
    writers.check(replica)
    # And back, at once: that the voters have just voted for the other is no obstacle.
    wait_until(lambda: all(nodes(node).get(old, {}).get("flags") in (["slave"], ["myself", "slave"]) for node in [*rest, again]),
               what="all to know its role")
    before = len(again.log())
    replica.terminate()
    wait_until(lambda: again.call("SET", "{%s}" % KEYS[0], "v") == "OK", what="the first to be written to again")
    assert AT_ONCE in again.log()[before:] and all("quorum reached" not in node.log() for node in [*members[1:], again])
    writers.check(again)


def test_it_can_be_switched_off(start):
    members, replica = three(start, options={"cluster-fast-failover": "no"})
    members[0].terminate()
    assert TOLD not in members[0].log()
    wait_until(lambda: WON in replica.log(), what="the replica to miss its primary")
    assert AT_ONCE not in replica.log()


def test_stock_nodes_take_the_word_too(start):
    members, replica = three(start, stock_replica=True)
    old, new = node_id(members[0]), node_id(replica)
    writers = Writers(members[0])
    wait_until(lambda: len(writers.acknowledged) == len(KEYS), what="some writes")
    members[0].terminate()
    assert TOLD in members[0].log()
    writers.join()
    wait_until(lambda: nodes(members[1])[new]["slots"] == ["0-5460"], what="the replica to take over")
    wait_until(lambda: is_ok(replica), what="it to serve")
    assert f"FAIL message received from {old} () about {old} ()" in replica.log() or f"FAIL message received from {old} about {old}" in replica.log()
    assert all("quorum reached" not in node.log() for node in [*members[1:], replica])
    writers.check(replica)
