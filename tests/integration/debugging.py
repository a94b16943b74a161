"""DEBUG subcommands by which a test forces what is rare: a move between workers, a busy slot, a wait for patience.

    DEBUG MOVE-CLIENT <id|ALL> [worker]     the connection moves there, or to another one at random
    DEBUG SLOT-HOLD <key> <milliseconds>    a thread holds the token of the key's slot for so long
    DEBUG PATIENCE-HOLD <milliseconds>      a thread owns patience for so long
    DEBUG LOOKUP-DELAY <milliseconds>       looking up a host name for CONFIG SET bind takes so much longer
    DEBUG CHECK [key]                       ends the process if a structure is not as it is to be
    DEBUG WORKERS-AWAKE <n>                 so many workers are awake, whatever the load; 0: as the load wants it
"""

import pytest


def listed(server):
    """The names of the DEBUG subcommands of this server, upper case."""
    names = set()
    for line in server.call("DEBUG", "HELP"):
        text = line.decode() if isinstance(line, bytes) else line
        if text and not text.startswith(" "):
            names.add(text.split()[0].upper())
    return names


def require(server, *names):
    """Skips the test on a server that lacks one of the subcommands."""
    missing = sorted(set(names) - listed(server))
    if missing:
        pytest.skip("no DEBUG " + ", ".join(missing) + " here")


def check_structures(client, *key):
    """Of the value of a key, or of everything. On a server that has no such check nothing happens."""
    reply = client.call("DEBUG", "CHECK", *key)
    assert reply == "OK" or str(reply).startswith(("ERR unknown subcommand", "ERR no such key")), reply


def client_id(client):
    return client.call("CLIENT", "ID")


def client_line(server, number):
    """The fields of one line of CLIENT LIST as a dict, None if there is no such client."""
    text = server.call("CLIENT", "LIST", "ID", number).decode().strip()
    return dict(field.split("=", 1) for field in text.split(" ")) if text else None


def client_ids(server):
    """The ids of all clients but the one that asks."""
    lines = server.call("CLIENT", "LIST").decode().splitlines()
    return {int(line.split()[0][3:]) for line in lines if "cmd=client|list" not in line}
