"""Commands of what is not there or switched off: clients and tools ask for it and get what Redis answers."""

import hashlib
import re

import pytest

import harness
from resp import ReplyError

SMOKE = True

NO_CLUSTER = ReplyError("ERR This instance has cluster support disabled")


@pytest.mark.parametrize("line", [
    "MODULE LIST", "MODULE LOAD x", "MODULE UNLOAD x", "MODULE FOO", "CLUSTER", "CLUSTER INFO", "CLUSTER NODES",
    "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER MYID", "CLUSTER KEYSLOT a", "CLUSTER COUNTKEYSINSLOT 1", "CLUSTER HELP",
    "CLUSTER RESET", "CLUSTER FOO", "CLUSTER KEYSLOT", "ASKING", "READONLY", "READWRITE", "REPLICAOF NO ONE",
    "slaveof no one", "REPLICAOF a b", "REPLICAOF a 70000", "REPLICAOF a", "ROLE", "FAILOVER", "FAILOVER ABORT", "WAIT 0 0",
    "WAIT 0 -1", "ACL WHOAMI", "ACL USERS", "ACL GETUSER nobody", "ACL DELUSER nobody", "ACL DELUSER a default",
    "ACL LOG", "ACL LOG 5", "ACL LOG x", "ACL LOG RESET", "ACL LOG 1 2", "ACL LOAD", "ACL SAVE", "ACL GENPASS 0",
    "ACL GENPASS 4097", "ACL GENPASS x", "ACL GENPASS 1 2", "ACL DRYRUN default GET k", "ACL DRYRUN default GET",
    "ACL DRYRUN default NOSUCH", "ACL DRYRUN nobody GET k", "ACL FOO"])
def test_as_the_stock_server(any_server, oracle, line):
    assert any_server.call(*line.split()) == oracle.call(*line.split())


def test_every_cluster_command_says_so(any_server):
    names = [name for name in any_server.call("COMMAND", "LIST") if name.startswith(b"cluster|")]
    assert len(names) == 34 or not harness.IS_SLOTWISE
    for name in names:
        arity = any_server.call("COMMAND", "INFO", name)[0][1]
        words = name.decode().split("|") + ["1"] * (abs(arity) - 2)
        assert any_server.call(*words) == NO_CLUSTER


def fields(reply):
    return dict(zip(reply[::2], reply[1::2]))


@pytest.mark.redis72
def test_the_default_user(start):
    server = start()
    assert server.call("ACL", "LIST") == [b"user default on nopass sanitize-payload ~* &* +@all"]
    user = fields(server.call("ACL", "GETUSER", "default"))
    assert user == {b"flags": [b"on", b"nopass", b"sanitize-payload"], b"passwords": [], b"commands": b"+@all",
                    b"keys": b"~*", b"channels": b"&*", b"selectors": []}
    server = start({"requirepass": "a secret"})
    digest = hashlib.sha256(b"a secret").hexdigest().encode()
    assert server.call("ACL", "LIST") == [b"user default on sanitize-payload #" + digest + b" ~* &* +@all"]
    user = fields(server.call("ACL", "GETUSER", "default"))
    assert (user[b"flags"], user[b"passwords"]) == ([b"on", b"sanitize-payload"], [digest])


def test_passwords_are_generated(any_server):
    for words, digits in (([], 64), (["1"], 1), (["4"], 1), (["5"], 2), (["4096"], 1024)):
        first, second = (any_server.call("ACL", "GENPASS", *words) for _ in range(2))
        assert re.fullmatch(rb"[0-9a-f]{%d}" % digits, first)
        assert first != second or digits < 8


@pytest.mark.slotwise
def test_what_is_not_implemented_is_an_error(any_server):
    """Nothing answers OK and does nothing."""
    for line in ("BGREWRITEAOF", "ACL SETUSER a on"):
        assert "implemented in this version" in str(any_server.call(*line.split()))
    assert any_server.call("BGSAVE", "FOO") == ReplyError("ERR syntax error")


@pytest.mark.redis72
def test_waitaof(any_server):
    for words, reply in ((("0", "0", "0"), [0, 0]), (("0", "1", "10"), [0, 0]),
                         (("2", "0", "0"), "ERR value is out of range, value must between 0 and 1"),
                         (("0", "-1", "0"), "ERR value is out of range, must be positive"),
                         (("0", "0", "-1"), "ERR timeout is negative"),
                         (("1", "0", "0"), "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")):
        if words == ("0", "0", "0") and not harness.IS_SLOTWISE:
            continue
        assert any_server.call("WAITAOF", *words) == (ReplyError(reply) if isinstance(reply, str) else reply)


@pytest.mark.slotwise
def test_modules_when_they_are_allowed(start):
    server = start({"enable-module-command": "yes"})
    assert server.call("MODULE", "LOAD", "/no/such.so") == ReplyError(
        "ERR Error loading the extension. Please check the server logs.")
    assert "Module /no/such.so failed to load" in server.log()
    assert server.call("MODULE", "UNLOAD", "x") == ReplyError(
        "ERR Error unloading module: no such module with that name")


@pytest.mark.slotwise
@pytest.mark.parametrize("name", ["ACL", "CLIENT", "COMMAND", "CONFIG", "LATENCY", "MEMORY", "MODULE", "OBJECT", "SLOWLOG"])
def test_help_lists_what_is_there(any_server, name):
    """Each line that is not indented begins with a subcommand, and there is a row for it."""
    lines = any_server.call(name, "HELP")
    assert lines[0].startswith(name + " <subcommand>")
    for line in lines[1:]:
        if line.startswith(" ") or line == "(no subcommand)":
            continue
        subcommand = f"{name}|{line.split()[0]}".lower()
        assert any_server.call("COMMAND", "INFO", subcommand)[0] is not None, subcommand
