"""Reads and runs the hand-written exchanges in cases/*.txt.

A file holds blocks. A block opens with `== title` and is run against an empty server:

    == SET overwrites
    SET k 1                 => +OK
    B> APPEND k x           => 2            (on a second connection)
    GET k                   => "1x"

Words of a command are separated by blanks; `"..."` takes Python's escapes; `repeat:x:100` is a hundred times x; `ms:20` is 20,
or more where the machine is too slow for times that short (harness.at_some_pace).
An expected reply is compared byte for byte, in the form that the protocol of the run gives it:

    +OK   -ERR text   12   "bulk"   repeat:x:100   nil   nil-array   [1, "a", nil]   {"k": 1}   *  (anything)
    ~pattern          a regular expression for all bytes of the reply
    none              no reply at all

A blank at the end of a text is written `\\s`. `more => reply` sends nothing and reads one more reply.

`!sleep ms:50` waits, `!7.2` leaves the rest of the block to servers of that
version, `!2` and `!3` leave the rest of the block to that protocol, `!all` ends both. `#` opens a comment line.
"""

import ast
import re
import time
from pathlib import Path

import harness
from resp import encode_command

CASES = Path(__file__).resolve().parent / "cases"
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')


class Block:
    def __init__(self, title):
        self.title = title
        self.steps = []  # (line number, kind, ...)


class _Milliseconds:
    """A time that is stretched for a slow machine."""

    def __init__(self, text):
        self.count = int(text)


def _unquote(word):
    if word.startswith("ms:"):
        return _Milliseconds(word[3:])
    if word.startswith('"'):
        return ast.literal_eval("b" + word)
    if word.startswith("repeat:"):
        _, what, count = word.split(":")
        return what.encode() * int(count)
    return word.encode()


def _unquote_directive(word):
    return _Milliseconds(word[3:]) if word.startswith("ms:") else word


class _Expected:
    """A recursive descent over the text of an expected reply."""

    def __init__(self, text, protocol):
        self.text = text
        self.at = 0
        self.protocol = protocol

    def _skip(self):
        while self.at < len(self.text) and self.text[self.at] in " ,:":
            self.at += 1

    def _items(self, closing):
        items = []
        self._skip()
        while self.text[self.at] != closing:
            items.append(self.value())
            self._skip()
        self.at += 1
        return items

    def value(self):
        self._skip()
        three = self.protocol == 3
        first = self.text[self.at]
        if first == "[":
            self.at += 1
            items = self._items("]")
            return b"*%d\r\n" % len(items) + b"".join(items)
        if first == "{":
            self.at += 1
            items = self._items("}")
            head = b"%%%d\r\n" % (len(items) // 2) if three else b"*%d\r\n" % len(items)
            return head + b"".join(items)
        match = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,\]\}]+').match(self.text, self.at)
        word = match[0]
        if first == "-" and not word[1:].isdigit():
            # An error inside an array reaches to the next comma or bracket; texts with those need a pattern.
            match = re.compile(r"[^,\]\}]+").match(self.text, self.at)
            self.at = match.end()
            return match[0].strip().encode() + b"\r\n"
        self.at = match.end()
        if word == "nil":
            return b"_\r\n" if three else b"$-1\r\n"
        if word == "nil-array":
            return b"_\r\n" if three else b"*-1\r\n"
        if first == '"' or word.startswith("repeat:"):
            body = _unquote(word)
            return b"$%d\r\n%b\r\n" % (len(body), body)
        if first == "+":
            return word.encode() + b"\r\n"
        if first == "#":
            return (word if three else {"#t": ":1", "#f": ":0"}[word]).encode() + b"\r\n"
        return b":%d\r\n" % int(word)


def expected_bytes(text, protocol):
    """The bytes that `text` stands for, a compiled pattern, or None for anything."""
    if text == "*":
        return None
    if text.startswith("~"):
        return re.compile(text[1:].encode(), re.DOTALL)
    if text[0] == "+" or (text[0] == "-" and not text[1:].isdigit()):
        return text.replace("\\s", " ").encode() + b"\r\n"
    parser = _Expected(text, protocol)
    result = parser.value()
    assert parser.at == len(text), f"what is {text[parser.at:]!r}?"
    return result


def load(name):
    """The blocks of cases/<name>."""
    blocks = []
    for number, line in enumerate((CASES / name).read_text().splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("=="):
            blocks.append(Block(line[2:].strip()))
        elif line.startswith("!"):
            blocks[-1].steps.append((number, "directive", *map(_unquote_directive, line[1:].split())))
        else:
            command, separator, expected = line.rpartition("=>")
            assert separator, f"{name}:{number}: no =>"
            who = "A"
            match = re.match(r"([A-Z])>\s*", command)
            if match:
                who, command = match[1], command[match.end():]
            words = [_unquote(word) for word in _WORD.findall(command)]
            blocks[-1].steps.append((number, "command", who, words, expected.strip()))
    return blocks


def all_blocks():
    return [(path.name, block) for path in sorted(CASES.glob("*.txt")) for block in load(path.name)]


def run(name, block, server, protocol):
    """Run one block; raise AssertionError naming the line."""

    def attempt(scale):
        if scale > 1:
            assert server.call("FLUSHALL") == "OK" and server.call("DEBUG", "SET-ACTIVE-EXPIRE", "1") == "OK"
        _run_once(name, block, server, protocol, scale)

    if any(isinstance(word, _Milliseconds) for step in block.steps for word in step):
        harness.at_some_pace(attempt)
    else:
        _run_once(name, block, server, protocol, 1)


def _run_once(name, block, server, protocol, scale):
    connections = {}
    active = True
    try:
        for number, kind, *rest in block.steps:
            if kind == "directive":
                if rest[0] == "sleep":
                    time.sleep(rest[1].count * scale / 1000)
                elif rest[0] == "7.2":
                    active = active and harness.VERSION >= (7, 2)
                elif rest[0] in ("2", "3"):
                    active = protocol == int(rest[0])
                else:
                    assert rest[0] == "all", rest
                    active = True
                continue
            if not active:
                continue
            who, words, expected = rest
            words = [b"%d" % (word.count * scale) if isinstance(word, _Milliseconds) else word for word in words]
            if who not in connections:
                connections[who] = server.raw(protocol=protocol)
            where = f"cases/{name}:{number}: {b' '.join(words)[:200]!r} (RESP{protocol})"
            if words != [b"more"]:
                connections[who].send(encode_command(*words))
            if expected == "none":
                assert connections[who].silent(0.05), f"{where}: a reply came"
                continue
            wanted = expected_bytes(expected, protocol)
            value, raw = connections[who].read_both()
            if wanted is None:
                continue
            if isinstance(wanted, bytes):
                assert raw == wanted, f"{where}\n expected {wanted[:2000]!r}\n got      {raw[:2000]!r}"
            else:
                assert wanted.fullmatch(raw), f"{where}\n expected {wanted.pattern!r}\n got      {raw[:2000]!r}"
        for who, connection in connections.items():
            assert connection.unread() == b"", f"cases/{name}: {block.title}: more replies than commands on {who}"
    finally:
        for connection in connections.values():
            connection.close()
