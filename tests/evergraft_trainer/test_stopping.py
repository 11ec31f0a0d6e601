"""A signal before a worker has begun, and after its work is over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evergraft.errors import UserError
from evergraft_trainer.stopping import empty_report

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


def test_a_report_of_an_earlier_run_does_not_speak_for_this_one(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text(json.dumps({"outcome": "committed", "exitCode": 0}))
    before = report.stat().st_ino
    empty_report(report, named="--report")
    assert (report.read_bytes(), report.stat().st_ino) == (b"", before)  # in place: it may be a mount
    assert end(report) == 143
    assert json.loads(report.read_text())["outcome"] == "stopped"


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nodir" / "report", tmp_path / ("r" * 300)):
        with pytest.raises(UserError, match=f"--report {path}: cannot be written"):
            empty_report(path, named="--report")


def test_a_pipe_is_kept_for_the_report_itself(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    empty_report(tmp_path / "pipe", named="--report")  # would wait for a reader if it opened it
