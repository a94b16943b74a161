"""INFO: the sections and fields of Redis are there, and what they say is true."""

import os
import re
import time

import pytest

import harness
from harness import parse_info, wait_until
from resp import RawClient, encode_command

SMOKE = True

# Fields that monitoring reads; those that 7.2 has beyond 7.0 are in SINCE_72.
FIELDS = {
    "server": "redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits multiplexing_api "
              "process_id run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days hz configured_hz lru_clock "
              "executable config_file io_threads_active process_supervised",
    "clients": "connected_clients cluster_connections maxclients client_recent_max_input_buffer "
               "client_recent_max_output_buffer blocked_clients tracking_clients clients_in_timeout_table",
    "memory": "used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak "
              "used_memory_peak_human used_memory_peak_perc used_memory_overhead used_memory_startup "
              "used_memory_dataset used_memory_dataset_perc total_system_memory maxmemory maxmemory_human "
              "maxmemory_policy mem_fragmentation_ratio mem_allocator mem_clients_normal lazyfree_pending_objects "
              "lazyfreed_objects mem_not_counted_for_evict",
    "stats": "total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes "
             "total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections sync_full "
             "expired_keys expired_stale_perc expired_time_cap_reached_count evicted_keys evicted_clients "
             "keyspace_hits keyspace_misses pubsub_channels latest_fork_usec total_forks total_error_replies "
             "unexpected_error_replies total_reads_processed total_writes_processed",
    "cpu": "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "replication": "role connected_slaves master_replid master_repl_offset second_repl_offset repl_backlog_active "
                   "repl_backlog_size",
    "cluster": "cluster_enabled",
    "persistence": "loading rdb_changes_since_last_save rdb_bgsave_in_progress aof_enabled",
}
SINCE_72 = {"server": "listener0", "stats": "acl_access_denied_auth acl_access_denied_cmd"}
HEADINGS = {"server": "Server", "clients": "Clients", "memory": "Memory", "persistence": "Persistence",
            "stats": "Stats", "replication": "Replication", "cpu": "CPU", "errorstats": "Errorstats",
            "cluster": "Cluster", "keyspace": "Keyspace", "commandstats": "Commandstats"}


@pytest.mark.parametrize("section", FIELDS)
def test_fields(shared, section):
    found = shared.info(section)
    missing = set(FIELDS[section].split()) - found.keys()
    if harness.VERSION >= (7, 2):
        missing |= set(SINCE_72.get(section, "").split()) - found.keys()
    assert not missing


@pytest.mark.parametrize("section", HEADINGS)
def test_one_section(client, section):
    client.call("SET", "k", "v")
    text = client.call("INFO", section.upper()).decode()
    assert text.startswith(f"# {HEADINGS[section]}\r\n"), text[:100]
    assert re.findall(r"^# (\w+)\r$", text, re.M) == [HEADINGS[section]]


def test_sections(client):
    def headings(*arguments):
        return re.findall(r"^# (\w+)\r$", client.call("INFO", *arguments).decode(), re.M)

    client.call("SET", "k", "v")
    default = headings()
    assert {"Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Cluster",
            "Keyspace"} <= set(default)
    assert "Commandstats" not in default
    assert headings("default") == default
    everything = headings("everything")
    assert set(default) <= set(everything) and "Commandstats" in everything
    assert headings("server", "clients") == ["Server", "Clients"]
    assert headings("cpu", "server", "cpu") in (["Server", "CPU"], ["CPU", "Server"])
    assert headings("nosuch") == []
    assert client.call("INFO", "nosuch") == b""


def test_resp3_is_verbatim(shared):
    with shared.raw(protocol=3) as client:
        assert client.call_raw("INFO", "cpu").startswith(b"=")


def test_server_section(start):
    started = time.time()
    server = start(threads=2)
    before = time.time()
    found = server.info("server")
    assert int(found["process_id"]) == server.pid
    assert int(found["tcp_port"]) == server.port
    assert re.fullmatch("[0-9a-f]{40}", found["run_id"])
    assert before - 1 < int(found["server_time_usec"]) / 1e6 < time.time() + 1
    assert 0 <= int(found["uptime_in_seconds"]) < time.time() - started + 1
    assert found["redis_mode"] == "standalone"
    assert found["arch_bits"] == "64"
    assert os.path.basename(found["executable"]) == os.path.basename(server.binary)


@pytest.mark.slotwise
def test_slotwise_names_itself(any_server):
    server = any_server
    found = server.info("server")
    assert found["redis_version"] == "7.2.4"
    assert found["server_name"] == "slotwise"
    assert "slotwise_version" in found


def test_config_file_field(start):
    server = start(config="timeout 0\n")
    assert server.info("server")["config_file"] == str(server.directory / "server.conf")


def test_keyspace(client, shared):
    assert "db0" not in shared.info("keyspace")
    client.call("MSET", *[word for index in range(10) for word in (f"k{index}", "v")])
    client.call("EXPIRE", "k0", "1000")
    client.call("SET", "k1", "v", "EX", "3000")
    client.call("SELECT", "5")
    client.call("SET", "k", "v")
    found = shared.info("keyspace")
    assert re.match(r"keys=10,expires=2,avg_ttl=\d+", found["db0"])
    assert re.match(r"keys=1,expires=0,avg_ttl=0", found["db5"])
    client.pipeline([("SELECT", "0"), ("PERSIST", "k0"), ("DEL", "k1", "k2")])
    assert found.keys() == {"db0", "db5"}
    assert re.match(r"keys=8,expires=0,", shared.info("keyspace")["db0"])


def test_average_time_to_live(any_server):
    server = any_server
    client = server.raw()
    client.pipeline([("SET", f"k{index}", "v", "PX", "1000000") for index in range(100)])
    wait_until(lambda: 900_000 <= int(server.info("keyspace")["db0"].split("avg_ttl=")[1].split(",")[0]) <= 1_000_000,
               what="the average time to live")


def test_clients(any_server):
    server = any_server
    wait_until(lambda: server.info("clients")["connected_clients"] == "1", what="the first connections to be gone")
    clients = [server.raw() for _ in range(7)]
    for client in clients:
        client.call("PING")
    assert server.info("clients")["connected_clients"] == "8"
    for client in clients[:4]:
        client.close()
    wait_until(lambda: server.info("clients")["connected_clients"] == "4", what="closed clients to be gone")
    assert server.info("clients")["maxclients"] == "10000"


def test_commands_processed(any_server):
    server = any_server
    client = server.raw()
    count = 500

    def stats():
        return parse_info(client.call("INFO", "stats"))

    before = stats()
    client.send(encode_command("SET", "k", "v" * 100) * count + encode_command("GET", "k") * count
                + encode_command("GET", "none") * 3)
    for _ in range(2 * count + 3):
        client.read()
    after = stats()
    difference = {name: int(after[name]) - int(before[name]) for name in (
        "total_commands_processed", "keyspace_hits", "keyspace_misses", "total_net_input_bytes",
        "total_net_output_bytes")}
    assert difference["total_commands_processed"] == 2 * count + 4
    assert difference["keyspace_hits"] == count
    assert difference["keyspace_misses"] == 3
    assert 140 * count < difference["total_net_input_bytes"] < 170 * count
    assert 110 * count < difference["total_net_output_bytes"] < 130 * count


def test_commands_of_many_connections(any_server):
    server = any_server
    """Numbers are kept by each worker; INFO adds them up."""
    client = server.raw()
    assert client.call("CONFIG", "RESETSTAT") == "OK"
    others = [server.raw() for _ in range(20)]
    for other in others:
        other.pipeline([("INCR", "n")] * 10 + [("GET", "n"), ("INCR", "n", "x"), ("NOSUCH",)])
    found = server.info()
    assert int(re.match(r"calls=(\d+)", found["cmdstat_incr"])[1]) == 200
    assert int(re.match(r"calls=(\d+)", found["cmdstat_get"])[1]) == 20
    assert int(found["total_error_replies"]) == 40
    assert found["errorstat_ERR"] == "count=40"
    assert int(found["keyspace_hits"]) == 20
    assert int(found["total_connections_received"]) >= 20


def test_commandstats(client, shared):
    client.call("CONFIG", "RESETSTAT")
    client.pipeline([("SET", "k", "v"), ("GET", "k"), ("GET", "k"), ("get", "k"), ("INCR", "k"), ("GET",),
                     ("CLIENT", "GETNAME"), ("CONFIG", "GET", "port"), ("NOSUCH",),
                     ("MULTI",), ("SET", "a", "1"), ("EXEC",)])
    found = shared.info("commandstats")
    pattern = r"calls=(\d+),usec=(\d+),usec_per_call=(\d+\.\d\d),rejected_calls=(\d+),failed_calls=(\d+)"
    numbers = {name: re.fullmatch(pattern, value).groups() for name, value in found.items()}
    assert (numbers["cmdstat_get"][0], numbers["cmdstat_get"][3], numbers["cmdstat_get"][4]) == ("3", "1", "0")
    assert (numbers["cmdstat_incr"][0], numbers["cmdstat_incr"][3], numbers["cmdstat_incr"][4]) == ("1", "0", "1")
    assert numbers["cmdstat_set"][0] == "2"
    assert numbers["cmdstat_multi"][0] == numbers["cmdstat_exec"][0] == "1"
    assert numbers["cmdstat_client|getname"][0] == "1"
    assert numbers["cmdstat_config|get"][0] == "1"
    assert "cmdstat_nosuch" not in numbers


def test_errorstats(client, shared):
    client.call("CONFIG", "RESETSTAT")
    client.call("AUTH", "a", "b")
    client.pipeline([("GET",), ("NOSUCH",), ("HELLO", "9"), ("MULTI",), ("NOSUCH",), ("EXEC",)])
    found = shared.info("errorstats")
    assert found["errorstat_ERR"] == "count=3"
    assert found["errorstat_NOPROTO"] == "count=1"
    assert found["errorstat_EXECABORT"] == "count=1"
    assert found["errorstat_WRONGPASS"] == "count=1"


def test_expired_keys(any_server):
    server = any_server
    client = server.raw()
    client.pipeline([("SET", f"k{index}", "v", "PX", "30") for index in range(50)])
    wait_until(lambda: server.info("stats")["expired_keys"] == "50", what="50 expired keys")
    assert "db0" not in server.info("keyspace")


def test_memory(any_server):
    server = any_server
    client = server.raw()
    before = server.info("memory")
    size = 20_000_000
    client.call("SET", "big", b"x" * size)
    after = server.info("memory")
    growth = int(after["used_memory"]) - int(before["used_memory"])
    assert size <= growth < size * 2.2, growth
    assert int(after["used_memory_peak"]) >= int(after["used_memory"]) - 65536
    wait_until(lambda: abs(int(server.info("memory")["used_memory_rss"]) - server.resident_bytes()) < 10_000_000,
               what="a true used_memory_rss")
    assert int(server.info("memory")["used_memory_rss"]) > size
    assert int(after["used_memory_dataset"]) >= size
    assert after["maxmemory_policy"] == "noeviction"
    client.call("DEL", "big")
    wait_until(lambda: int(server.info("memory")["used_memory"]) < int(after["used_memory"]) - size * 0.9,
               what="the memory to be given back")


def test_cpu(any_server):
    server = any_server
    client = server.raw()

    def reported():
        found = server.info("cpu")
        return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])

    while server.cpu_seconds() < 0.1:
        client.pipeline([("GET", "k")] * 200)
    least = server.cpu_seconds() - 0.03  # the kernel counts in hundredths
    assert least <= reported() <= server.cpu_seconds() + 0.03


@pytest.mark.long
def test_operations_per_second(any_server):
    server = any_server
    client = server.raw()

    def operations_per_second():
        client.pipeline([("GET", "k")] * 100)
        return int(client.call("INFO", "stats").split(b"instantaneous_ops_per_sec:")[1].split()[0])

    wait_until(lambda: operations_per_second() > 100, interval=0)


def test_rejected_connections_are_no_commands(start, backend):
    server = start({"maxclients": 2}, backend=backend)
    wait_until(lambda: server.info("clients")["connected_clients"] == "1", what="the first connections to be gone")
    holders = []

    def hold():
        for holder in holders:
            holder.close()
        holders[:] = [RawClient(*server.address()) for _ in range(2)]
        try:
            return [holder.call("PING") for holder in holders] == ["PONG"] * 2
        except OSError:
            return False

    wait_until(hold, what="two connections", interval=0.1)
    before = int(holders[0].call("INFO", "stats").split(b"rejected_connections:")[1].split()[0])
    for _ in range(3):
        with RawClient(*server.address()) as rejected:
            rejected.read_until_close()
    text = holders[0].call("INFO", "stats")
    assert b"rejected_connections:%d\r\n" % (before + 3) in text


def exclusive_sections(client):
    info = client.call("INFO", "debug").decode()
    return int(re.search(r"exclusive_sections:(\d+)", info)[1])


@pytest.mark.skipif(not harness.IS_SLOTWISE, reason="only Slotwise has workers to stop")
def test_looking_at_everything_stops_nobody(client):
    """INFO, DBSIZE and LATENCY HISTOGRAM read while the workers go on; a change of the configuration stops them."""
    client.call("MSET", "a", "1", "b", "2")
    before = exclusive_sections(client)
    for _ in range(20):
        assert client.call("DBSIZE") == 2
        client.call("INFO", "everything")
        client.call("LATENCY", "HISTOGRAM")
    assert exclusive_sections(client) == before
    client.call("CONFIG", "SET", "hz", "10")
    assert exclusive_sections(client) == before + 1


# Each with what it is there for: every command that changes something, and each way to change nothing.
CHANGES = """SET a 1|SET a 2 EX 100|SET a 3 NX|SET a 3 GET|SETEX a 100 v|MSET a 1 b 2 c 3|MSETNX a 1 z 2|MSETNX y 1 z 2
DEL a b none|UNLINK y z|APPEND s abc|SETRANGE s 1 x|GETSET s v|GETDEL s|GETDEL s|SET e 1|GETEX e EX 100
GETEX e PERSIST|GETEX e PERSIST|GETEX e EXAT 1|SET e 1|EXPIRE e 100|EXPIRE e 50 GT|PEXPIREAT e 1|EXPIRE none 1
SET p 1 EX 100|PERSIST p|PERSIST p|INCR n|DECRBY n 3|INCRBYFLOAT n 1.5|RENAME n m|RENAME m m|RENAMENX m q|COPY q r
COPY q r|COPY q r REPLACE|COPY q r DB 1 REPLACE|MOVE q 1|MOVE p 1|TOUCH p|SWAPDB 0 1|SWAPDB 0 0|EXPIRE p 0
SET x 1 PX 100000|SETNX x 2|SETNX w 2|FLUSHDB|MSET b 1 c 2|FLUSHALL|FLUSHALL|FLUSHDB|SET a 1|FLUSHALL ASYNC"""


def test_changes_are_counted_as_in_redis(start, oracle):
    server = start(threads=2)

    def changes(one):
        return int(parse_info(one.call("INFO", "persistence"))["rdb_changes_since_last_save"])

    for command in CHANGES.replace("\n", "|").split("|"):
        counts = []
        for one in (server, oracle):
            before = changes(one)
            one.call(*command.split())
            counts.append(changes(one) - before)
        assert counts[0] == counts[1], command
    # What goes by itself is no change.
    assert server.call("SET", "k", "v", "PX", "1") == "OK"
    before = changes(server)
    wait_until(lambda: server.call("DBSIZE") == 0, what="the key to expire")
    assert changes(server) == before
    assert server.call("CONFIG", "RESETSTAT") == "OK"
    assert changes(server) == before


def test_a_write_is_one_that_sends_something(any_server, oracle):
    """Also where nothing is to be sent: replies that are off, the beginning of a command, an empty line."""
    for server in (any_server, oracle):
        quiet, admin = RawClient(*server.address()), RawClient(*server.address())
        for client in (quiet, admin):
            assert client.call("PING") == "PONG"

        def counted():
            stats = parse_info(admin.call("INFO", "stats"))
            return int(stats["total_reads_processed"]), int(stats["total_writes_processed"])

        quiet.send(encode_command("CLIENT", "REPLY", "OFF"))
        reads, writes = counted()
        for _ in range(30):
            quiet.send(encode_command("PING") + b"\r\n*1\r\n")
            time.sleep(0.002)
            quiet.send(b"$4\r\nPING\r\n")
            time.sleep(0.002)
        more_reads, more_writes = counted()
        assert more_reads - reads > 10
        assert more_writes - writes == 1  # the INFO before
        quiet.close()
        admin.close()
