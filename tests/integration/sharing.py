"""Several pytest processes share the tests among themselves: each runs one module after the other of those that nobody has begun.

    pytest tests/integration --share FOLDER & pytest tests/integration --share FOLDER & wait

All of them are given the same tests and a folder that is empty at first. A process takes a module by making a file in the folder,
which succeeds once; the tests of a module stay together, since they share servers. A module that takes long says so in
MODULE_SECONDS, about; the longest begin first, so that all processes end at about the same time. The file `progress` gets a line
"[finished/all]" for each test that has ended.
"""

import os

import pytest

TEST_SECONDS = 0.3  # of a test in a module that says nothing


def pytest_addoption(parser):
    parser.addoption("--share", metavar="FOLDER", help="run what no other process that was given this folder runs")


def modules_of(items):
    """[(module, its items)], the longest first."""
    modules = {}
    for item in items:
        modules.setdefault(item.module, []).append(item)

    def seconds(entry):
        module, own = entry
        return getattr(module, "MODULE_SECONDS", TEST_SECONDS * len(own))

    return sorted(modules.items(), key=seconds, reverse=True)


def take(folder, name):
    """True for the first who asks."""
    try:
        os.close(os.open(os.path.join(folder, name + ".taken"), os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False


class Progress:
    def __init__(self, folder, count):
        self.file = os.open(os.path.join(folder, "progress"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.count = count
        self.line_bytes = len(self.line(0))

    def line(self, finished):
        return f"[{finished:6}/{self.count}]\n".encode()

    def add(self):
        """Two processes may write the same number, but each its own line."""
        os.write(self.file, self.line(os.fstat(self.file).st_size // self.line_bytes + 1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    folder = session.config.option.share
    if not folder or session.config.option.collectonly or session.testsfailed:
        return None
    os.makedirs(folder, exist_ok=True)
    progress = Progress(folder, len(session.items))
    items = (item for module, own in modules_of(session.items) if take(folder, module.__name__) for item in own)
    item = next(items, None)
    while item:
        # The next module is taken when the last test of this one begins: what this one shares ends with that.
        following = next(items, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        progress.add()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        item = following
    return True
