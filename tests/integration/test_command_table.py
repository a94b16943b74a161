"""COMMAND and its subcommands agree with the stock server's on every command of strings, keys and connections."""

import pytest

import harness
from resp import Map, ReplyError

SMOKE = True

NAMES = """
append decr decrby get getdel getex getrange getset incr incrby incrbyfloat lcs mget mset msetnx psetex set setex setnx
setrange strlen substr del unlink exists expire pexpire expireat pexpireat ttl pttl expiretime pexpiretime persist
rename renamenx copy move type touch keys scan randomkey object object|encoding object|freq object|help
object|idletime object|refcount multi exec discard watch unwatch ping echo select swapdb flushdb flushall dbsize time
dump restore restore-asking reset quit shutdown auth hello client client|id client|getname client|setname client|list client|info client|kill
client|reply client|pause client|unpause client|no-evict config config|get config|set config|resetstat config|rewrite
command command|count command|docs command|info command|getkeys command|getkeysandflags command|list info debug
""".split()
TIPS_CHANGED_IN_72 = {"msetnx", "scan", "randomkey", "client|setname", "config|resetstat", "config|rewrite"}
ARITY_CHANGED_IN_72 = {"command|getkeys", "command|getkeysandflags"}
DEPRECATED_IN_72 = {"psetex", "setex", "setnx", "quit"}


def sorted_deeply(value):
    """Sets have no order: flags, categories and key flags are sorted."""
    if isinstance(value, list):
        items = [sorted_deeply(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return value


def test_info_agrees(shared, oracle):
    ours = shared.call("COMMAND", "INFO", *NAMES)
    theirs = oracle.call("COMMAND", "INFO", *NAMES)
    wrong = []
    for name, one, other in zip(NAMES, ours, theirs):
        if one is None:
            wrong.append(f"{name}: unknown")
            continue
        labels = "name arity flags first last step categories tips key-specs".split()
        for label, mine, expected in zip(labels, one, other):
            if label == "tips" and name in TIPS_CHANGED_IN_72 or label == "arity" and name in ARITY_CHANGED_IN_72:
                continue
            if sorted_deeply(mine) != sorted_deeply(expected):
                wrong.append(f"{name}: {label}: {mine} and not {expected}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.redis72
def test_info_of_72(client):
    tips = {entry[0].decode(): entry[7] for entry in client.call("COMMAND", "INFO", *sorted(TIPS_CHANGED_IN_72))}
    assert tips["msetnx"] == []
    assert tips["scan"] == [b"nondeterministic_output", b"request_policy:special", b"response_policy:special"]
    assert tips["client|setname"] == [b"request_policy:all_nodes", b"response_policy:all_succeeded"]
    names = ["client|setinfo", "client|no-touch", "command|getkeys"]
    assert [entry[1] for entry in client.call("COMMAND", "INFO", *names)] == [4, 3, -3]


def documentation(server):
    with server.raw() as client:
        reply = client.call("COMMAND", "DOCS", *NAMES)
    return {name.decode(): dict(zip(text[::2], text[1::2])) for name, text in zip(reply[::2], reply[1::2])}


def test_docs_agree(shared, oracle):
    ours, theirs = documentation(shared), documentation(oracle)
    assert not theirs.keys() - ours.keys()
    for name, expected in theirs.items():
        assert ours[name][b"summary"], name
        for field in (b"since", b"group", b"complexity"):
            if (name, field) == ("client|pause", b"since"):
                continue
            assert ours[name].get(field) == expected.get(field), (name, field)
        assert (b"arguments" in ours[name]) == (b"arguments" in expected) or name in ARITY_CHANGED_IN_72, name


@pytest.mark.redis72
def test_deprecated(client):
    for name in DEPRECATED_IN_72:
        reply = client.call("COMMAND", "DOCS", name)
        text = dict(zip(reply[1][::2], reply[1][1::2]))
        assert sorted_deeply(text[b"doc_flags"]) == ["deprecated"] and text[b"deprecated_since"] and \
            text[b"replaced_by"], name


def test_count_list_and_all(client):
    count = client.call("COMMAND", "COUNT")
    names = client.call("COMMAND", "LIST")
    entries = client.call("COMMAND")
    assert len(entries) == count == len(client.call("COMMAND", "INFO"))
    assert len(names) == len(set(names))
    assert {entry[0] for entry in entries} == {name for name in names if b"|" not in name}
    assert len(client.call("COMMAND", "DOCS")) == 2 * count
    assert {name.encode() for name in NAMES} <= set(names)


def test_filters(client):
    listed = set(client.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string"))
    assert {b"get", b"set", b"append", b"mget"} <= listed and b"del" not in listed
    assert set(client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "*get")) >= {b"get", b"mget"}
    assert set(client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "client|i*")) >= {b"client|id", b"client|info"}
    assert client.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch") == []


def test_resp3_forms(shared):
    with shared.raw(protocol=3) as client:
        assert isinstance(client.call("COMMAND", "DOCS", "get"), Map)
        entry, = client.call("COMMAND", "INFO", "get")
        assert type(entry[2]).__name__ == "Set" and type(entry[6]).__name__ == "Set"
        assert isinstance(entry[8][0], Map)


def test_names_are_of_any_case(client):
    assert client.call("COMMAND", "INFO", "GeT")[0][0] == b"get"
    assert client.call("COMMAND", "INFO", "CLIENT|ID")[0][0] == b"client|id"
    assert client.call("cOmMaNd", "cOuNt") > 50


def test_every_command_checks_its_arity(client):
    """Too few and, where the number is fixed, too many arguments: the error names the command."""
    wrong = []
    for entry in client.call("COMMAND"):
        name, arity = entry[0].decode(), entry[1]
        if name in ("quit", "exec", "reset", "shutdown", "subscribe", "monitor", "sync", "psync"):
            continue
        attempts = [abs(arity) - 1] if abs(arity) > 1 else []
        if arity > 0:
            attempts.append(arity + 1)
        for count in attempts:
            reply = client.call(name, *["x"] * (count - 1))
            if reply != ReplyError(f"ERR wrong number of arguments for '{name}' command"):
                # A container with a subcommand that does not exist says so.
                if not (entry[9] and isinstance(reply, ReplyError) and reply.text.startswith("ERR unknown subcommand")):
                    wrong.append(f"{name} with {count} words: {reply}")
    assert not wrong, "\n".join(wrong)
    assert harness.SERVER
