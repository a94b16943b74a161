"""A cluster of three hosts with two nodes each, as users make it: created, looked at, one primary stopped, and started again.

The hosts are network namespaces with the addresses 192.168.56.100 to 102; everything is asked with the stock redis-cli.
"""

import re
import signal

import pytest

import harness
from clustering import TIMEOUT_MS
from harness import slot_of, wait_until
from hosts import HostServer, hosts_or_skip

MODULE_SECONDS = 35
pytestmark = pytest.mark.slotwise

ADDRESSES = ["192.168.56.100", "192.168.56.101", "192.168.56.102"]
# In the order in which they are given to --cluster create, by the names that their containers would have.
NODES = {"redis-master-1": (ADDRESSES[0], 7001), "redis-master-2": (ADDRESSES[1], 7001), "redis-master-3": (ADDRESSES[2], 7001),
         "redis-slave-3": (ADDRESSES[0], 7002), "redis-slave-1": (ADDRESSES[1], 7002), "redis-slave-2": (ADDRESSES[2], 7002)}
PRIMARY_OF = {f"redis-slave-{number}": f"redis-master-{number}" for number in (1, 2, 3)}
SLOTS = {"redis-master-1": (0, 5460), "redis-master-2": (5461, 10922), "redis-master-3": (10923, 16383)}
KEYS = [f"key:{index}" for index in range(300)]

CREATED = """\
>>> Performing hash slots allocation on 6 nodes...
Master[0] -> Slots 0 - 5460
Master[1] -> Slots 5461 - 10922
Master[2] -> Slots 10923 - 16383
Adding replica 192.168.56.101:7002 to 192.168.56.100:7001
Adding replica 192.168.56.102:7002 to 192.168.56.101:7001
Adding replica 192.168.56.100:7002 to 192.168.56.102:7001
M: {redis-master-1} 192.168.56.100:7001
   slots:[0-5460] (5461 slots) master
M: {redis-master-2} 192.168.56.101:7001
   slots:[5461-10922] (5462 slots) master
M: {redis-master-3} 192.168.56.102:7001
   slots:[10923-16383] (5461 slots) master
S: {redis-slave-3} 192.168.56.100:7002
   replicates {redis-master-3}
S: {redis-slave-1} 192.168.56.101:7002
   replicates {redis-master-1}
S: {redis-slave-2} 192.168.56.102:7002
   replicates {redis-master-2}
Can I set the above configuration? (type 'yes' to accept): >>> Nodes configuration updated
>>> Assign a different config epoch to each node
>>> Sending CLUSTER MEET messages to join the cluster
Waiting for the cluster to join
"""

# The nodes of the check come in the order of redis-cli's table of them: the first is the one that was asked.
CHECKED = {
    "redis-master-1": """\
M: {redis-master-1} 192.168.56.100:7001
   slots:[0-5460] (5461 slots) master
   1 additional replica(s)
""",
    "redis-master-2": """\
M: {redis-master-2} 192.168.56.101:7001
   slots:[5461-10922] (5462 slots) master
   1 additional replica(s)
""",
    "redis-master-3": """\
M: {redis-master-3} 192.168.56.102:7001
   slots:[10923-16383] (5461 slots) master
   1 additional replica(s)
""",
    "redis-slave-1": """\
S: {redis-slave-1} 192.168.56.101:7002
   slots: (0 slots) slave
   replicates {redis-master-1}
""",
    "redis-slave-2": """\
S: {redis-slave-2} 192.168.56.102:7002
   slots: (0 slots) slave
   replicates {redis-master-2}
""",
    "redis-slave-3": """\
S: {redis-slave-3} 192.168.56.100:7002
   slots: (0 slots) slave
   replicates {redis-master-3}
"""}

AGREED = """\
[OK] All nodes agree about slots configuration.
>>> Check for open slots...
>>> Check slots coverage...
[OK] All 16384 slots covered.
"""

INFORMATION = ["cluster_state", "cluster_slots_assigned", "cluster_slots_ok", "cluster_slots_pfail", "cluster_slots_fail",
               "cluster_known_nodes", "cluster_size", "cluster_current_epoch", "cluster_my_epoch", "cluster_stats_messages_ping_sent",
               "cluster_stats_messages_pong_sent", "cluster_stats_messages_sent", "cluster_stats_messages_ping_received",
               "cluster_stats_messages_pong_received", "cluster_stats_messages_meet_received", "cluster_stats_messages_received",
               "total_cluster_links_buffer_limit_exceeded"]

REFUSED = "Error condition on socket for SYNC: Connection refused"
LOST = ["Connection with master lost.", "Caching the disconnected master state.", "Reconnecting to MASTER 192.168.56.101:7001",
        "MASTER <-> REPLICA sync started", REFUSED,
        "Failover election won: I'm the new master."]
NEWS = ("FAIL message received from", "Cluster state changed: fail")


class Containers:
    """The six servers by name, and redis-cli on their hosts."""

    def __init__(self, start, hosts):
        self.start = start
        self.hosts = hosts
        self.servers = {}
        for name in NODES:
            self.run(name)
        self.ids = {name: self.cli("redis-cli", NODES[name], "cluster", "myid").strip() for name in NODES}

    def run(self, name, **keywords):
        # A replica that loads answers CLUSTER NODES with -LOADING, which --cluster create takes for disagreement: the full
        # syncs begin later than its check, as they do by default.
        host, port = NODES[name]
        self.servers[name] = self.start(
            {"port": port, "cluster-enabled": "yes", "cluster-node-timeout": int(TIMEOUT_MS * harness.SLOWNESS),
             "repl-diskless-sync-delay": "2"}, kind=HostServer, hosts=self.hosts, host=host, **keywords)

    def restart(self, name):
        self.run(name, directory=self.servers[name].directory)

    def cli(self, program, node, *arguments, **keywords):
        """On the node's own host, as `redis-cli -c -p PORT` inside of its container."""
        host, port = node
        done = self.hosts.run(host, program, "-c", "-p", port, *arguments, **keywords)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, name, *arguments):
        return self.cli("redis-cli", NODES[name], *arguments)

    def nodes(self, name):
        """`cluster nodes` as {name of the container: its words}."""
        names = {one: container for container, one in self.ids.items()}
        result = {}
        listing = self.ask(name, "cluster", "nodes")
        for line in [] if listing.startswith("LOADING") else listing.splitlines():
            words = line.split(" ")
            result[names[words[0]]] = words[1:]
        return result

    def expected(self, myself, primaries, epochs, replicas, failed=()):
        """The words of `cluster nodes` as `myself` is to show them; None stands for a time."""
        result = {}
        for name in NODES:
            host, port = NODES[name]
            flags = "slave" if name in replicas else "master"
            flags = ("myself," if name == myself else "") + flags + (",fail" if name in failed else "")
            primary = replicas.get(name)
            words = [f"{host}:{port}@{port + 10000}", flags, self.ids[primary] if primary else "-",
                     None if name in failed else "0", None, str(epochs[primary or name]), "disconnected" if name in failed else "connected"]
            if name in primaries:
                words.append("{}-{}".format(*primaries[name]))
            result[name] = words
        return result

    def shows(self, myself, **facts):
        seen = self.nodes(myself)
        wanted = self.expected(myself, **facts)
        for name, words in seen.items():
            if len(words) == len(wanted[name]):
                wanted[name] = [here if there is None else there for here, there in zip(words, wanted[name])]
        return seen == wanted

    def settle(self, observers, **facts):
        """Waits until each of them shows this, and says in what the last look differed."""
        for myself in observers:
            try:
                wait_until(lambda name=myself: self.shows(name, **facts), what=f"{myself} to show {facts}")
            except AssertionError as error:
                raise AssertionError(f"{error}; it showed\n{self.ask(myself, 'cluster', 'nodes')}\nand redis-slave-2 said\n"
                                     + self.servers["redis-slave-2"].log()) from None


@pytest.fixture
def containers(start, request):
    hosts = hosts_or_skip(ADDRESSES)
    request.addfinalizer(hosts.close)
    return Containers(start, hosts)


def plain(text):
    """redis-cli colours what it says even where nobody looks."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def create(containers):
    addresses = [f"{host}:{port}" for host, port in NODES.values()]
    done = containers.hosts.run(ADDRESSES[0], "redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1", input="yes\n")
    assert done.returncode == 0, done.stdout
    return plain(done.stdout)


def named(text, ids):
    for name, one in ids.items():
        text = text.replace("{" + name + "}", one)
    return text


def check_created(output, ids):
    assert output.startswith(named(CREATED, ids)), output
    rest = output[len(named(CREATED, ids)):]
    match = re.fullmatch(r"\.*\n>>> Performing Cluster Check \(using node 192\.168\.56\.100:7001\)\n(.*)", rest, re.DOTALL)
    assert match, rest
    assert match[1].endswith(AGREED), rest
    blocks = re.findall(r"[MS]: .*\n(?: {3}.*\n)+", match[1])
    assert "".join(blocks) + AGREED == match[1]
    assert blocks[0] == named(CHECKED["redis-master-1"], ids)
    assert sorted(blocks) == sorted(named(block, ids) for block in CHECKED.values())


def check_information(text):
    facts = harness.parse_info(text)
    assert list(facts) == INFORMATION
    assert list(facts.items())[:9] == [
        ("cluster_state", "ok"), ("cluster_slots_assigned", "16384"), ("cluster_slots_ok", "16384"), ("cluster_slots_pfail", "0"),
        ("cluster_slots_fail", "0"), ("cluster_known_nodes", "6"), ("cluster_size", "3"), ("cluster_current_epoch", "6"),
        ("cluster_my_epoch", "1")]
    counts = {name.removeprefix("cluster_stats_messages_"): int(value) for name, value in facts.items() if "messages" in name}
    assert counts["sent"] == counts["ping_sent"] + counts["pong_sent"]
    assert counts["received"] == counts["ping_received"] + counts["pong_received"] + counts["meet_received"]
    assert counts["meet_received"] >= 5 and min(counts.values()) > 0


def wait_for_replicas(containers):
    for name in PRIMARY_OF:
        server = containers.servers[name]
        wait_until(lambda one=server: one.info("replication").get("master_link_status") == "up", what=f"{name} to be synchronised")


def messages(text):
    """[(role letter, message)] of log lines."""
    return re.findall(r"^\d+:([A-Z]) \d\d \w{3} \d{4} [\d:.]+ [.*#-] (.*)$", text, re.MULTILINE)


def check_log(text, at_once):
    """What the replica says from the loss of its primary to its own service, in this order, others between them.

    at_once: nothing between the first five but the news that the primary has failed, which comes on its own way. A primary that was
    killed may still listen for a moment, as the kernel puts it away, and its replica may have taken over before it tries once more.
    """
    said = [(role, message) for role, message in messages(text) if not message.startswith(NEWS)]
    assert said, text
    position = 0
    for wanted in LOST:
        if wanted == REFUSED and not at_once:
            continue
        roles = [(index, role) for index, (role, message) in enumerate(said) if index >= position and message == wanted]
        assert roles, f"no {wanted!r} after {said[:position]} in\n{text}"
        position, role = roles[0][0] + 1, roles[0][1]
        assert role == "S"
    assert ("M", "Cluster state changed: ok") in said[position:], text
    first = [message for _, message in said].index(LOST[0])
    assert not at_once or [message for _, message in said[first:first + 5]] == LOST[:5], text


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["docker-stop", "docker-kill"])
def test_a_stopped_primary_is_replaced_and_comes_back_as_a_replica(containers, end):
    check_created(create(containers), containers.ids)
    before = {"primaries": SLOTS, "replicas": PRIMARY_OF, "epochs": {"redis-master-1": 1, "redis-master-2": 2, "redis-master-3": 3}}
    containers.settle(NODES, **before)
    wait_until(lambda: "cluster_state:ok" in containers.ask("redis-master-1", "cluster", "info"), what="the state to be ok")
    check_information(containers.ask("redis-master-1", "cluster", "info"))
    wait_for_replicas(containers)
    containers.cli("redis-cli", NODES["redis-master-1"], input="".join(f"set {key} value-of-{key}\n" for key in KEYS))
    written = containers.servers["redis-master-2"].info("replication")["master_repl_offset"]
    wait_until(lambda: containers.servers["redis-slave-2"].info("replication")["master_repl_offset"] == written,
               what="the replica to have every write")
    log_before = len(containers.servers["redis-slave-2"].log())

    containers.servers["redis-master-2"].terminate(end)
    promoted = {"primaries": {"redis-master-1": (0, 5460), "redis-slave-2": (5461, 10922), "redis-master-3": (10923, 16383)},
                "replicas": {name: primary for name, primary in PRIMARY_OF.items() if name != "redis-slave-2"},
                "epochs": {"redis-master-1": 1, "redis-master-2": 2, "redis-master-3": 3, "redis-slave-2": 7}}
    left = [name for name in NODES if name != "redis-master-2"]
    containers.settle(left, failed=["redis-master-2"], **promoted)
    assert len(containers.nodes("redis-slave-3")["redis-master-2"]) == 7, "no slots are shown for the one that failed"
    for name in left:
        wait_until(lambda one=name: "cluster_state:ok" in containers.ask(one, "cluster", "info"), what=f"{name} to be ok")
    facts = harness.parse_info(containers.ask("redis-slave-2", "cluster", "info"))
    assert (facts["cluster_current_epoch"], facts["cluster_my_epoch"]) == ("7", "7")
    check_log(containers.servers["redis-slave-2"].log()[log_before:], at_once=end == signal.SIGTERM)
    check_values(containers, "redis-master-1")

    containers.restart("redis-master-2")
    again = dict(promoted, replicas=dict(promoted["replicas"], **{"redis-master-2": "redis-slave-2"}))
    containers.settle(NODES, **again)
    returned = containers.servers["redis-master-2"]
    wait_until(lambda: returned.info("replication").get("master_link_status") == "up", what="the old primary to be synchronised")
    assert returned.info("replication")["master_host"] == "192.168.56.102"
    here = [key for key in KEYS if 5461 <= slot_of(key) <= 10922]
    assert returned.info("keyspace")["db0"].startswith(f"keys={len(here)},")
    check_values(containers, "redis-master-2")
    output = plain(containers.hosts.run(ADDRESSES[0], "redis-cli", "--cluster", "check", "192.168.56.100:7001").stdout)
    assert output.endswith(AGREED) and output.count("1 additional replica(s)") == 3


def check_values(containers, name):
    """Every key is there for `redis-cli -c`, whichever node it talks to first."""
    output = containers.cli("redis-cli", NODES[name], input="".join(f"get {key}\n" for key in KEYS))
    values = [line for line in output.splitlines() if not line.startswith("->")]
    assert [value.strip('"') for value in values if value] == [f"value-of-{key}" for key in KEYS]
