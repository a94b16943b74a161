"""The stock tools at a cluster that is being written to: redis-cli --cluster with all its commands, -c, redis-benchmark, redis-py.

Each key has one writer, which counts it up. What was acknowledged is there afterwards, whatever the tools moved meanwhile.
"""

import contextlib
import json
import re
import subprocess
import threading

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster

import harness
from clustering import TIMEOUT_MS, address, cli, cluster_port, create, information, is_ok, node_id, nodes, start_node
from harness import scaled, slot_of, wait_until

MODULE_SECONDS = 100
pytestmark = pytest.mark.slotwise

AGREED = "[OK] All nodes agree about slots configuration."
COVERED = "[OK] All 16384 slots covered."
WRITERS = 2


def cluster_client(node, **options):
    options.setdefault("socket_timeout", harness.HANG_SECONDS * harness.SLOWNESS)
    return RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", node.port)], **options)


class Writer(threading.Thread):
    """SETs its keys to 1, 2, 3 ... in turn, and now and then reads one back. `faults` are what nobody should see."""

    def __init__(self, node, keys):
        super().__init__(daemon=True)
        self.client = cluster_client(node)
        self.keys = keys
        self.asked = dict.fromkeys(keys, 0)
        self.acknowledged = dict.fromkeys(keys, 0)
        self.writes = 0
        self.faults = []
        self.ending = threading.Event()

    def run(self):
        while not self.ending.is_set() and len(self.faults) < 5:
            for key in self.keys:
                try:
                    self._write(key)
                except redis.RedisError as error:
                    self.faults.append(f"{key}: {error!r}")

    def _write(self, key):
        self.asked[key] += 1
        self.client.set(key, self.asked[key])
        self.acknowledged[key] = self.asked[key]
        self.writes += 1
        if self.writes % 4 == 0:
            value = int(self.client.get(key) or 0)
            if value != self.acknowledged[key]:
                self.faults.append(f"{key} is {value} after {self.acknowledged[key]} was acknowledged")


class Load:
    def __init__(self, node):
        self.writers = [Writer(node, [f"w{number}:{index}" for index in range(400)]) for number in range(WRITERS)]
        for writer in self.writers:
            writer.start()
        self.goes_on()

    def goes_on(self):
        """Each writer has gone over all of its keys since this was called."""
        before = [writer.writes for writer in self.writers]
        wait_until(lambda: any(writer.faults for writer in self.writers) or all(
            writer.writes >= count + len(writer.keys) for writer, count in zip(self.writers, before)), what="writes to go on")
        assert not [fault for writer in self.writers for fault in writer.faults]

    def end(self):
        for writer in self.writers:
            writer.ending.set()
        for writer in self.writers:
            writer.join(harness.HANG_SECONDS * harness.SLOWNESS)
            assert not writer.is_alive()

    def check(self, node):
        """Nobody saw a fault, and every key has its last value."""
        self.end()
        assert not [fault for writer in self.writers for fault in writer.faults]
        client = cluster_client(node)
        for writer in self.writers:
            there = {key: int(client.get(key) or 0) for key in writer.keys}
            assert there == writer.acknowledged
        client.close()


@contextlib.contextmanager
def writing(node):
    load = Load(node)
    try:
        yield load
    finally:
        load.end()


@pytest.fixture
def three(start):
    members = [start_node(start) for _ in range(3)]
    create(members, 0)
    settle(members)
    return members


def settle(members):
    wait_until(lambda: all(is_ok(node, len(members)) for node in members), what="all to be ok")


def checks(node):
    """--cluster check finds nothing; news of slots that have just moved may be on their way."""
    def is_fine():
        output = cli("--cluster", "check", address(node), check=False)
        return AGREED in output and COVERED in output and "open slots" not in output.replace("Check for open slots", "") and output
    return wait_until(is_fine, what="the check to find nothing")


def slots_of(node):
    """How many it owns, as it sees it."""
    count = 0
    for part in nodes(node)[node_id(node)]["slots"]:
        if not part.startswith("["):
            first, _, last = part.partition("-")
            count += int(last or first) - int(first) + 1
    return count


def keys_on(node):
    return node.call("DBSIZE")


# --- slots move --------------------------------------------------------------------------------------------------------------


def test_reshard_and_rebalance_under_writes(start, three):
    with writing(three[0]) as load:
        moved = scaled(600)
        cli("--cluster", "reshard", address(three[0]), "--cluster-from", node_id(three[0]), "--cluster-to", node_id(three[1]),
            "--cluster-slots", moved, "--cluster-yes")
        assert [slots_of(node) for node in three[:2]] == [5461 - moved, 5462 + moved]
        load.goes_on()
        cli("--cluster", "reshard", address(three[2]), "--cluster-from", "all", "--cluster-to", node_id(three[0]), "--cluster-slots",
            scaled(300), "--cluster-yes", "--cluster-pipeline", 3, "--cluster-timeout", 30000)
        load.goes_on()
        extra = start_node(start)
        output = cli("--cluster", "add-node", address(extra), address(three[0]))
        assert "[OK] New node added correctly." in output
        members = [*three, extra]
        settle(members)
        weight = 0.05
        output = cli("--cluster", "rebalance", address(three[0]), "--cluster-use-empty-masters", "--cluster-threshold", 1,
                     "--cluster-weight", f"{node_id(extra)}={weight}", "--cluster-pipeline", 7)
        assert "Moving" in output
        assert abs(slots_of(extra) - 16384 * weight / (3 + weight)) <= 2
        load.goes_on()
        assert keys_on(extra) > 0
        checks(extra)
        cli("--cluster", "rebalance", address(three[0]), "--cluster-threshold", 1, "--cluster-weight", f"{node_id(extra)}=0")
        assert slots_of(extra) == 0
        assert keys_on(extra) == 0 or extra.call("ROLE")[0] == b"slave"  # as in Redis it follows who took its last slot
        checks(three[1])
        refused = cli("--cluster", "del-node", address(three[0]), node_id(three[1]), check=False)
        assert "is not empty! Reshard data away and try again." in refused
        output = cli("--cluster", "del-node", address(three[0]), node_id(extra))
        assert "Sending CLUSTER RESET SOFT to the deleted node." in output
        wait_until(lambda: all(len(nodes(node)) == 3 for node in three) and len(nodes(extra)) == 1, what="the node to be gone")
        load.goes_on()
        load.check(three[1])
    assert sum(keys_on(node) for node in three) == sum(len(writer.keys) for writer in load.writers)


@pytest.mark.parametrize("open_on", ["both", "source", "target"])
def test_fix_of_a_slot_that_is_half_moved(three, open_on):
    """A resharding that has stopped in its middle; with writers that go on, and with keys on both sides."""
    with writing(three[0]) as load:
        key = next(key for writer in load.writers for key in writer.keys if slot_of(key) < 5461)
        slot = slot_of(key)
        tagged = [f"{{{key}}}:{index}" for index in range(20)]
        with three[0].raw() as client:
            for one in tagged:
                assert client.call("SET", one, one) == "OK"
            if open_on != "source":
                assert three[1].call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(three[0])) == "OK"
            if open_on != "target":
                assert client.call("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(three[1])) == "OK"
            if open_on == "both":
                assert client.call("MIGRATE", "127.0.0.1", three[1].port, "", 0, 30000, "KEYS", *tagged[:10]) == "OK"
                load.goes_on()
        output = cli("--cluster", "check", address(three[0]), check=False)
        assert "[WARNING] The following slots are open" in output
        output = cli("--cluster", "fix", address(three[2]))
        assert "Fixing open slot" in output
        load.goes_on()
        checks(three[0])
        client = cluster_client(three[2])
        assert [client.get(one) for one in tagged] == [one.encode() for one in tagged]
        client.close()
        load.check(three[2])


def test_fix_covers_slots_that_nobody_has(three):
    for slot in (0, 5460, 16383):
        for node in three:
            node.call("CLUSTER", "DELSLOTS", slot)
    output = cli("--cluster", "check", address(three[0]), check=False)
    assert "[ERR] Not all 16384 slots are covered by nodes." in output
    subprocess.run(["redis-cli", "--cluster", "fix", address(three[0])], input="yes\n", capture_output=True, text=True, check=True,
                   timeout=harness.HANG_SECONDS * harness.SLOWNESS)
    checks(three[1])
    settle(three)


def test_a_replica_is_added_and_taken_away(start, three):
    with writing(three[0]) as load:
        extra = start_node(start)
        output = cli("--cluster", "add-node", address(extra), address(three[0]), "--cluster-slave", "--cluster-master-id",
                     node_id(three[1]))
        assert "[OK] New node added correctly." in output
        wait_until(lambda: extra.info("replication").get("master_link_status") == "up", what="the replica to be synchronised")
        assert nodes(extra)[node_id(extra)]["primary"] == node_id(three[1])
        output = checks(three[0])
        assert output.count("1 additional replica(s)") == 1
        load.goes_on()
        cli("--cluster", "del-node", address(three[0]), node_id(extra))
        wait_until(lambda: all(len(nodes(node)) == 3 for node in three), what="the replica to be forgotten")
        load.check(three[0])


# --- data come and are kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("mode", ["move", "copy"])
def test_import(start, three, stock, mode):
    source = start(binary=harness.ORACLE, backend=None) if stock else start()
    pairs = {f"import:{index}": f"value {index}" for index in range(scaled(1000))}
    with source.client() as client:
        client.mset(pairs)
        client.expire("import:0", 10000)
    with writing(three[0]) as load:
        options = ["--cluster-copy"] if mode == "copy" else []
        output = cli("--cluster", "import", address(three[0]), "--cluster-from", address(source), *options)
        assert f"*** Importing {len(pairs)} keys from DB 0" in output
        load.goes_on()
        client = cluster_client(three[1])
        assert {key: client.get(key).decode() for key in pairs} == pairs
        assert 0 < client.ttl("import:0") <= 10000
        assert source.call("DBSIZE") == (len(pairs) if mode == "copy" else 0)
        if mode == "copy":
            client.set("import:1", "changed")
            again = cli("--cluster", "import", address(three[0]), "--cluster-from", address(source), "--cluster-copy", check=False)
            assert "BUSYKEY" in again
            cli("--cluster", "import", address(three[0]), "--cluster-from", address(source), "--cluster-copy", "--cluster-replace")
            assert client.get("import:1") == b"value 1"
        client.close()
        load.check(three[2])


def test_backup_is_loaded_by_the_stock_server(start, three, tmp_path):
    with writing(three[0]) as load:
        client = cluster_client(three[0])
        pairs = {f"kept:{index}": str(index) for index in range(500)}
        for key, value in pairs.items():
            client.set(key, value)
        client.close()
        before = {key: count for writer in load.writers for key, count in writer.acknowledged.items()}
        output = cli("--cluster", "backup", address(three[0]), tmp_path)
        assert "[OK] Backup created into: " in output
        load.check(three[0])
    listed = json.loads((tmp_path / "nodes.json").read_text())
    assert sorted(one["port"] for one in listed) == sorted(node.port for node in three)
    found = {}
    for node in three:
        files = list(tmp_path.glob(f"redis-node-127.0.0.1-{node.port}-*.rdb"))
        assert len(files) == 1
        folder = tmp_path / str(node.port)
        folder.mkdir()
        files[0].rename(folder / "dump.rdb")
        copy = start({"dir": str(folder)}, binary=harness.ORACLE, backend=None)
        with copy.client(decode_responses=True) as client:
            found.update({key: client.get(key) for key in client.scan_iter(count=1000)})
    assert {key: found[key] for key in pairs} == pairs
    asked = {key: count for writer in load.writers for key, count in writer.asked.items()}
    assert all(before[key] <= int(found[key]) <= asked[key] for key in before)


# --- looking and setting -----------------------------------------------------------------------------------------------------


def test_info_and_call(three):
    with writing(three[0]) as load:
        load.goes_on()
        output = cli("--cluster", "info", address(three[1]))
        total = sum(len(writer.keys) for writer in load.writers)
        assert f"[OK] {total} keys in 3 masters." in output
        for node in three:
            assert f"{address(node)} ({node_id(node)[:8]}...) -> {keys_on(node)} keys | {slots_of(node)} slots | 0 slaves." in output
        output = cli("--cluster", "call", address(three[0]), "config", "get", "cluster-enabled")
        assert len(re.findall(r"127\.0\.0\.1:\d+: cluster-enabled\n\s*yes", output)) == 3, output
        output = cli("--cluster", "call", address(three[0]), "dbsize", "--cluster-only-masters")
        assert {f"127.0.0.1:{node.port}: {keys_on(node)}" for node in three} <= set(output.splitlines())
        load.check(three[0])


def test_set_timeout(start):
    members = []
    for _ in range(3):
        port = cluster_port()
        members.append(start({"port": port}, config=f"port {port}\nbind 127.0.0.1\nio-threads 1\nsave \"\"\ncluster-enabled yes\n"
                                                    f"cluster-node-timeout {int(TIMEOUT_MS * harness.SLOWNESS)}\n"))
    create(members, 0)
    settle(members)
    output = cli("--cluster", "set-timeout", address(members[0]), 4321)
    assert ">>> New node timeout set. 3 OK, 0 ERR." in output
    for node in members:
        assert node.config_get("cluster-node-timeout") == "4321"
        assert "cluster-node-timeout 4321" in (node.directory / "server.conf").read_text()


# --- clients -----------------------------------------------------------------------------------------------------------------


def test_cli_follows_redirections(three):
    keys = [f"key:{index}" for index in range(200)]
    done = subprocess.run(["redis-cli", "-c", "-p", str(three[0].port)], input="".join(f"set {key} {key}\n" for key in keys),
                          capture_output=True, text=True, timeout=harness.HANG_SECONDS * harness.SLOWNESS, check=True)
    assert done.stdout.count("OK") == len(keys)
    assert [cli("-c", "-p", three[1].port, "get", key).strip() for key in keys[:20]] == keys[:20]
    away = next(key for key in keys if slot_of(key) > 10922)
    assert cli("-p", three[0].port, "get", away, check=False).strip() == f"MOVED {slot_of(away)} 127.0.0.1:{three[2].port}"
    slot = slot_of(away)
    assert three[1].call("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(three[2])) == "OK"
    assert three[2].call("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(three[1])) == "OK"
    assert three[2].call("MIGRATE", "127.0.0.1", three[1].port, away, 0, 30000) == "OK"
    assert cli("-c", "-p", three[0].port, "get", away).strip() == away


@pytest.mark.parametrize("options", [["-c", 8], ["-c", 8, "-P", 16], ["-c", 6, "--threads", 2]],
                         ids=lambda words: " ".join(map(str, words)))
def test_benchmark(three, options):
    count = scaled(20000)
    done = subprocess.run(["redis-benchmark", "-p", str(three[0].port), "--cluster", "-t", "set,get,incr,mset", "-n", str(count),
                           "-r", "10000", "-q", *map(str, options)], capture_output=True, text=True, check=False,
                          timeout=harness.HANG_SECONDS * harness.SLOWNESS)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert "Cluster has 3 master nodes:" in text
    for name in ("SET", "GET", "INCR", "MSET (10 keys)"):
        assert re.search(rf"{re.escape(name)}: \d+\.\d+ requests per second", text), text
    assert "Error" not in text and "ERR" not in text
    assert all(keys_on(node) > 0 for node in three)


def test_python_client(three):
    client = cluster_client(three[0])
    assert client.mset_nonatomic({f"m{index}": index for index in range(100)})
    assert client.mget_nonatomic([f"m{index}" for index in range(100)]) == [str(index).encode() for index in range(100)]
    with client.pipeline() as pipeline:
        for index in range(100):
            pipeline.incr(f"m{index}")
        assert pipeline.execute() == [index + 1 for index in range(100)]
    assert client.mset({"{tag}a": 1, "{tag}b": 2}) and client.mget("{tag}a", "{tag}b") == [b"1", b"2"]
    with pytest.raises(redis.exceptions.RedisClusterException):
        client.mget("a", "b", "c")
    assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) == 102
    assert {key for key in client.scan_iter("m*", count=50)} == {b"m%d" % index for index in range(100)}
    assert client.cluster_keyslot("{tag}a") == slot_of("tag")
    assert client.delete(*[f"m{index}" for index in range(100)]) == 100
    assert client.cluster_info(target_nodes=client.get_random_node())["cluster_state"] == "ok"
    client.close()
    assert int(information(three[0])["cluster_known_nodes"]) == 3
