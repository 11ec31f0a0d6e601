"""A signal before a worker has begun, and after its work is over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from evergraft_trainer.stopping import ends_at_once
with ends_at_once(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
"""


def end(report: Path) -> int:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(report)], timeout=60, check=False).returncode


def test_a_signal_before_the_beginning_is_told(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.touch()  # as Kubernetes mounts it
    assert end(report) == 143
    assert json.loads(report.read_text())["outcome"] == "stopped"


@pytest.mark.parametrize("code", [0, 64])
def test_a_signal_after_the_end_changes_nothing(tmp_path: Path, code: int) -> None:
    report = tmp_path / "report"
    told = json.dumps({"outcome": "committed", "exitCode": code})
    report.write_text(told)
    assert end(report) == code
    assert report.read_text() == told
