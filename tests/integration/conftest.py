"""Fixtures and marks of the integration tests. harness.py says which environment variables matter."""

import faulthandler
import os
import signal
import sys
import zlib

import pytest

sys.path.insert(0, os.path.dirname(__file__))

import harness  # noqa: E402
from sharing import pytest_addoption, pytest_runtestloop  # noqa: E402, F401  hooks of their own

faulthandler.enable()
# A shell lets what it runs in the background ignore Ctrl-C, and so would the servers.
signal.signal(signal.SIGINT, signal.default_int_handler)

TEST_SECONDS = 240  # a hang, and no measure of speed


def pytest_sessionstart():
    if not os.access(harness.SERVER, os.X_OK):
        pytest.exit("there is no server binary " + harness.SERVER, returncode=2)


def pytest_report_header():
    return [f"server: {harness.SERVER}, backends {','.join(harness.BACKENDS)}, slowness {harness.SLOWNESS:g}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item.module, "SMOKE", False) and not item.get_closest_marker("long"):
            item.add_marker(pytest.mark.smoke)
        if item.get_closest_marker("slotwise") and not harness.IS_SLOTWISE:
            item.add_marker(pytest.mark.skip(reason="the stand-in server lacks it"))
        if item.get_closest_marker("redis72") and harness.VERSION < (7, 2):
            item.add_marker(pytest.mark.skip(reason="the stand-in server is older than 7.2"))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A time limit for each test, and a look at every server that it started: a dead one fails the test."""
    marker = pyfuncitem.get_closest_marker("slow_limit")
    limit = int((marker.args[0] if marker else TEST_SECONDS) * min(harness.SLOWNESS, 4))

    def expired(_number, _frame):
        raise TimeoutError(f"the test took more than {limit} s")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(limit)
    try:
        outcome = yield
        for servers in _LIVE.values():
            for server in servers:
                server.check()
        outcome.get_result()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_LIVE = {}


@pytest.fixture
def start(request):
    """start(options, threads=..., backend=..., kind=..., ...) starts a server of this class that ends with the test."""
    servers = _LIVE.setdefault(request.node.nodeid, [])

    def run(options=None, kind=harness.Server, **keywords):
        keywords.setdefault("backend", harness.BACKENDS[0])
        server = kind(options, **keywords)
        servers.append(server)
        return server

    yield run
    del _LIVE[request.node.nodeid]
    failure = None
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            failure = failure or error
    if failure:
        raise failure


@pytest.fixture(params=harness.BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(params=[1, 2])
def threads(request):
    return request.param


@pytest.fixture
def server(start, backend):
    """A fresh server with two workers, on every backend."""
    return start(backend=backend, threads=2)


@pytest.fixture
def any_server(start, request):
    """A fresh server on one of the backends, not always the same: for tests of what lies behind the I/O."""
    name = request.node.nodeid.encode()
    return start(backend=harness.BACKENDS[zlib.crc32(name) % len(harness.BACKENDS)], threads=2)


@pytest.fixture
def threaded_server(start, backend, threads):
    """A fresh server on every backend with one and with two workers."""
    return start(backend=backend, threads=threads)


@pytest.fixture(scope="module", params=harness.BACKENDS)
def shared_holder(request):
    """The server behind `shared`, replaced if a test has killed it."""
    name = request.node.nodeid + request.param
    _LIVE[name] = []

    def current():
        servers = _LIVE[name]
        if servers and servers[0].alive():
            return servers[0]
        if servers:
            servers.pop().discard()
        servers.append(harness.Server(backend=request.param, threads=2))
        return servers[0]

    yield current
    for server in _LIVE.pop(name):
        server.stop()


@pytest.fixture
def shared(shared_holder):
    """One server for all tests of a module, emptied before each; such tests restore what they configure."""
    server = shared_holder()
    yield server
    for connection in server.clients:
        connection.close()
    server.clients.clear()


@pytest.fixture
def client(shared):
    """A raw connection to the emptied shared server."""
    with shared.raw() as connection:
        assert connection.call("FLUSHALL") == "OK"
        yield connection


@pytest.fixture
def oracle():
    """A stock server to compare with."""
    if not os.access(harness.ORACLE, os.X_OK):
        pytest.skip("there is no stock server " + harness.ORACLE)
    server = harness.Server(binary=harness.ORACLE, threads=1)
    yield server
    server.stop()
