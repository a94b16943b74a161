"""What the tests of the cluster share: nodes whose bus ports are free too, clusters of them, what they say of themselves."""

import subprocess

import harness
from harness import free_port, wait_until

TIMEOUT_MS = 1500


def cluster_port():
    """A port that is free together with the one of its bus, as all of ports.py are."""
    return free_port()


def start_node(start, stock=False, options=None, **keywords):
    settings = {"port": cluster_port(), "cluster-enabled": "yes", "cluster-node-timeout": int(TIMEOUT_MS * harness.SLOWNESS),
                "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1", "shutdown-timeout": "1"}
    settings.update(options or {})
    if stock:
        keywords.update(binary=harness.ORACLE, backend=None)
    return start(settings, **keywords)


def restart(start, node, **keywords):
    """The same node again, with its files."""
    options = dict(node.options)
    options["port"] = node.port
    if node.binary == harness.ORACLE:
        keywords.update(binary=harness.ORACLE, backend=None)
    return start(options, directory=node.directory, **keywords)


def cli(*arguments, seconds=harness.HANG_SECONDS, check=True):
    """The stock redis-cli."""
    done = subprocess.run(["redis-cli", *map(str, arguments)], capture_output=True, text=True,
                          timeout=seconds * harness.SLOWNESS, check=False)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def address(node):
    return f"127.0.0.1:{node.port}"


def listing(node):
    """CLUSTER NODES; a replica that loads for long answers -LOADING meanwhile."""
    return wait_until(lambda: next((reply for reply in [node.call("CLUSTER", "NODES")] if isinstance(reply, bytes)), None),
                      what="the node to have loaded its data").decode()


def node_id(node):
    return next(line.split()[0] for line in listing(node).splitlines() if "myself" in line)


def nodes(node):
    """CLUSTER NODES as {id: fields}."""
    result = {}
    for line in listing(node).splitlines():
        words = line.split(" ")
        result[words[0]] = {"address": words[1], "flags": words[2].split(","), "primary": words[3], "ping": words[4],
                            "pong": words[5], "epoch": int(words[6]), "link": words[7], "slots": words[8:]}
    return result


def information(node):
    """CLUSTER INFO; while a replica loads nothing is known of it."""
    reply = node.call("CLUSTER", "INFO")
    return harness.parse_info(reply) if isinstance(reply, bytes) else {"cluster_state": "loading"}


def is_ok(node, known=None):
    facts = information(node)
    return facts["cluster_state"] == "ok" and (known is None or int(facts["cluster_known_nodes"]) == known)


def join(members, ranges):
    """Members that own these ranges of slots know each other and agree, with different epochs."""
    for epoch, (node, (first, last)) in enumerate(zip(members, ranges), 1):
        assert node.call("CLUSTER", "ADDSLOTSRANGE", first, last) == "OK"
        assert node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch) == "OK"
    for node in members[1:]:
        assert node.call("CLUSTER", "MEET", "127.0.0.1", members[0].port) == "OK"
    wait_until(lambda: all(is_ok(node, len(members)) for node in members), what="the cluster to be ok")
    wait_until(lambda: all(len([one for one in nodes(node).values() if one["slots"]]) == len(members) for node in members),
               what="all to know all slots")


def replicate(replica, primary):
    """primary is in a cluster; replica joins it."""
    assert replica.call("CLUSTER", "MEET", "127.0.0.1", primary.port) == "OK"
    wait_until(lambda: node_id(primary) in nodes(replica), what="the replica to know its primary")
    assert replica.call("CLUSTER", "REPLICATE", node_id(primary)) == "OK"
    wait_until(lambda: replica.info("replication").get("master_link_status") == "up", what="the replica to be synchronised")


def sees(node, other_id, *flags):
    return set(flags) <= set(nodes(node).get(other_id, {"flags": []})["flags"])


def flags_settle(members, wanted):
    """Waits until each member sees for each id the flags of `wanted` ({id: flags}), and its links are up."""
    wait_until(lambda: all(sees(node, one, *flags) for node in members for one, flags in wanted.items()),
               what=f"the members to see {wanted}")


def create(members, replicas=1):
    """redis-cli --cluster create; returns its output."""
    output = cli("--cluster", "create", *map(address, members), "--cluster-replicas", replicas, "--cluster-yes")
    assert "[OK] All 16384 slots covered." in output, output
    return output
