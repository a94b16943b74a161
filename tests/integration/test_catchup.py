"""The short form of bench/catchup on loopback: every phase ends with equal data, and nothing stays behind."""

import json
import os
import subprocess
import sys

import pytest

import harness

pytestmark = [pytest.mark.slotwise, pytest.mark.long, pytest.mark.slow_limit(400)]

LIMIT_SECONDS = 300  # a hang, and no measure of speed
PHASES = {"join", "kill", "stop", "cut-short", "cut-long", "cut-over", "random", "many", "slow", "restart", "promotion"}


def test_replicas_catch_up_in_every_phase(tmp_path):
    report = tmp_path / "report.json"
    folders = tmp_path / "servers"
    folders.mkdir()
    done = subprocess.run(
        [sys.executable, str(harness.REPOSITORY / "bench/catchup"), "--short", "--loopback", "--server", harness.SERVER,
         "--directory", str(folders), "--json", str(report)],
        capture_output=True, text=True, timeout=LIMIT_SECONDS * min(harness.SLOWNESS, 4), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(report.read_text())["results"]
    assert {result["phase"] for result in results} == PHASES
    assert all(result["equal"] for result in results)
    by_phase = {result["phase"]: result for result in results}
    assert by_phase["join"]["sync_full"] == 1
    assert by_phase["many"]["sync_full"] == 3
    assert os.listdir(folders) == []
