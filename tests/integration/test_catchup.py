"""The short form of bench/catchup on loopback: every phase ends with equal data, and nothing stays behind."""

import json
import os
import subprocess
import sys

import pytest

import harness
from ports import free_port

MODULE_SECONDS = 60
pytestmark = [pytest.mark.slotwise, pytest.mark.long, pytest.mark.slow_limit(400)]

REPLICAS = 3
LIMIT_SECONDS = 300  # a hang, and no measure of speed
PHASES = {"join", "kill", "stop", "cut-short", "cut-long", "cut-over", "random", "many", "slow", "restart", "promotion"}


def test_replicas_catch_up_in_every_phase(tmp_path):
    report, page = tmp_path / "report.json", tmp_path / "page.html"
    folders = tmp_path / "servers"
    folders.mkdir()
    done = subprocess.run(
        [sys.executable, str(harness.REPOSITORY / "bench/catchup"), "--short", "--loopback", "--server", harness.SERVER,
         "--replicas", str(REPLICAS), "--first-port", str(free_port(count=REPLICAS + 1)),
         "--directory", str(folders), "--json", str(report), "--html", str(page)],
        capture_output=True, text=True, timeout=LIMIT_SECONDS * min(harness.SLOWNESS, 4), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(report.read_text())["results"]
    assert {result["phase"] for result in results} == PHASES
    assert all(result["equal"] for result in results)
    by_phase = {result["phase"]: result for result in results}
    assert by_phase["join"]["sync_full"] == 1
    assert by_phase["many"]["sync_full"] == REPLICAS
    assert by_phase["cut-long"]["missed_bytes"] > 1.6 * (4 << 20)
    assert by_phase["cut-long"]["sync_full"] == 0, "more than the backlog is bridged"
    assert by_phase["cut-over"]["sync_full"] == 1
    assert all(result["points"] and result["probe_points"] for result in results)
    html = page.read_text()
    assert all(f"<h2>{phase}</h2>" in html for phase in PHASES)
    assert html.count("<svg") >= 4 * len(PHASES)
    assert os.listdir(folders) == []
