"""A replica whose primary wants a password."""

import os

import pytest

from harness import ORACLE, wait_until
from replication import assert_equal_data, follow, stock_primary, wait_link_up

pytestmark = [pytest.mark.slotwise, pytest.mark.skipif(not os.access(ORACLE, os.X_OK), reason="no stock server")]


def test_a_password_of_any_bytes(start):
    server = start()
    primary = stock_primary(start, {"requirepass": "secret"})
    assert primary.call("CONFIG", "SET", "requirepass", b"abc\x00def\r\n") == "OK"
    primary.password = b"abc\x00def\r\n"
    assert server.call("CONFIG", "SET", "masterauth", b"abc") == "OK"
    follow(server, primary.port)
    wait_until(lambda: "Unable to AUTH to MASTER: -WRONGPASS" in server.log())
    assert server.call("CONFIG", "SET", "masterauth", b"abc\x00def\r\n") == "OK"
    wait_link_up(server)
    assert_equal_data(primary, server)
